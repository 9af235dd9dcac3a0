"""A lock on a destination, which the kernel frees when its holder dies."""

import contextlib
import errno
import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from fastlm.files.destination import OURS, Destination, check_place
from fastlm.files.folders import FULL, make_folder, remove_empty

try:
    import fcntl
except ImportError:  # Windows: two processes that make the same path are not detected
    fcntl = None  # type: ignore[assignment]

_NO_LINK = getattr(os, "O_NOFOLLOW", 0)  # a link in its place must not lead the write elsewhere
_POLL_SECONDS = 0.02


@contextlib.contextmanager
def holding(
    target: Destination, *, is_locked: bool = False, wait_seconds: float = 0.0
) -> Iterator[None]:
    """Make the parent folder of a target, and hold the lock of the target inside the block.

    Folders that were made for a block that fails are removed if they are empty. Errors name the
    path that the user gave, in place of a file that is made beside it.
    """
    check_place(target)
    made: list[Path] = []
    try:
        made = make_folder(target.folder)
        with contextlib.ExitStack() as held:
            for lock in target.locks if fcntl is not None and not is_locked else ():
                held.callback(_free, lock, _wait_for_lock(target, lock, wait_seconds))
            yield
    except OSError as error:
        remove_empty(made)
        if error.errno in FULL and error.filename is None:  # errors of write() name no file
            error.filename = str(target.given)
        if error.errno == errno.ELOOP or not _is_ours(error.filename):
            raise
        raise OSError(error.errno, error.strerror, str(target.given)) from error
    except BaseException:
        remove_empty(made)
        raise


def is_held(target: Destination) -> bool:
    """Return whether a process holds a lock of a target; True where nobody can tell.

    Nothing is made. A process that takes the lock at the same moment may be refused.
    """
    for lock in target.locks if fcntl is not None else ():
        try:
            handle = os.open(lock, os.O_RDONLY | _NO_LINK)
        except FileNotFoundError:
            continue  # a lock is unlinked when it is freed
        except OSError:
            return True
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(handle)
    return fcntl is None


def _is_ours(name: str | bytes | int | None) -> bool:
    return isinstance(name, str) and Path(name).name.startswith(OURS)


def _free(lock: Path, handle: int) -> None:
    # Unlinked while it is held: a process that has it open sees that its name is gone.
    lock.unlink(missing_ok=True)
    os.close(handle)


def _wait_for_lock(target: Destination, lock: Path, seconds: float) -> int:
    """Wait for a lock of a target; return the handle that holds it."""
    ends = time.monotonic() + seconds
    while (handle := _try_lock(lock)) is None:
        if time.monotonic() >= ends:
            raise BlockingIOError(
                f"{target.given} is being made by {_holder(lock)}: wait for it, or give another"
            )
        time.sleep(_POLL_SECONDS)
    return handle


def _try_lock(lock: Path) -> int | None:
    """Return a handle that holds the lock, or None if another process holds it."""
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | _NO_LINK, 0o666)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                return None
            except OSError as error:
                warnings.warn(
                    f"this file system has no locks ({error.strerror}): a second process that "
                    "writes to the same place is not noticed",
                    stacklevel=2,
                )
            if _is_at(handle, lock):
                import platform  # here, as whoever only reads needs no lock

                with contextlib.suppress(OSError):  # on a full disk the lock stays empty
                    os.ftruncate(handle, 0)
                    os.write(handle, f"process {os.getpid()} on {platform.node()}".encode())
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its holder has removed the lock meanwhile


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _holder(lock: Path) -> str:
    try:
        return lock.read_text(encoding="utf-8", errors="replace") or "another process"
    except OSError:
        return "another process"
