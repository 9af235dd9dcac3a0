"""Atomic writes: every file and folder is made here, whole or not at all.

A file or folder is first written beside its path, under a name with one of the prefixes below,
then flushed to disk and renamed: a kill, a full disk or a power cut leaves the old content. A lock
tells a second process that a path is being made; the kernel frees it when its holder dies, and
sweep() removes whatever no living process holds.

>>> with whole_file("report.html") as file:
...     file.write(page)
>>> with whole_folder("data/mine") as partial:
...     write_new(partial / "meta.json", meta)
"""

import contextlib
import errno
import json
import os
import platform
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from fastlm.files.paths import StrPath

try:
    import fcntl
except ImportError:  # Windows: two processes that make the same path are not detected
    fcntl = None  # type: ignore[assignment]

OURS = ".fastlm-"
"""Start of every prefix below."""
PARTIAL = ".fastlm-tmp-"
"""Prefix of an incomplete file or folder."""
LOCK = ".fastlm-lock-"
"""Prefix of a lock, which names the process that makes the path."""
SCRATCH = ".fastlm-scratch-"
"""Prefix of a folder that is needed only while the path is made."""
REPLACED = ".fastlm-replaced-"
"""Prefix of a complete entry that a newer one is replacing."""
REMOVED = ".fastlm-removed-"
"""Prefix of an entry that is being removed."""
CLEARING = ".fastlm-clearing-"
"""Prefix of a complete folder whose entries replace everything in its parent."""
MOVING = ".fastlm-moving-"
"""Prefix of a complete folder whose entries are being moved into its parent."""
UNFINISHED = ".fastlm-unfinished-"
"""Prefix of an incomplete folder that is kept for resumed_folder to continue."""
NOTE = ".fastlm-note-"
"""Prefix of the note on the progress of an unfinished folder."""

WAIT_SECONDS = 10.0
"""Seconds that write_file waits for another process that writes the same file."""

_POLL_SECONDS = 0.02
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


_Seen = tuple[int, int, int] | None
"""Device, inode and modification time of the entry at a path; None if there is none."""


class _Target(NamedTuple):
    """The path to make, and the folder in which it is made."""

    given: Path
    """The path that the caller gave, for messages."""
    path: Path
    """The path after following links."""
    folder: Path
    """The folder of the partial entry: the parent, or the folder itself if it has to stay."""

    @property
    def is_in_place(self) -> bool:
        return self.folder == self.path

    def beside(self, prefix: str) -> Path:
        return self.folder / (prefix + self.path.name)


@contextlib.contextmanager
def whole_file(
    path: StrPath,
    *,
    replace: bool = False,
    to_stream: bool = False,
    is_locked: bool = False,
    wait_seconds: float = 0.0,
) -> Iterator[BinaryIO]:
    """Yield a file that gets its name when the block succeeds; otherwise nothing is left.

    A link stays, and its target is made. Missing parent folders are made. The file's name
    attribute is its temporary path, for a library that writes by path.

    Args:
        replace: replace an existing file of that name.
        to_stream: write directly to a character device or a pipe, which is refused otherwise.
        is_locked: the caller holds locked(path).
        wait_seconds: how long to wait for another process that makes the path.
    Raises:
        FileExistsError: if the path exists and replace is not given, before the block or, if it
            appeared during the block, after it.
        BlockingIOError: if another process makes the path.
        OSError: if the path is a folder, a device or a mount point, or writing fails.
    """
    target = _file_target(Path(path), to_stream=to_stream)
    if target is None:
        with open(path, "wb") as file:
            yield file
        return
    with _holding(target, is_locked=is_locked, wait_seconds=wait_seconds):
        partial = target.beside(PARTIAL)
        _remove(partial)
        seen = _look_at_file(target, replace=replace)
        try:
            with open(partial, "x+b") as file:
                yield file
            sync_file(partial)  # by name, as a library may have replaced the file
            _name_file(partial, target, seen, replace=replace)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        sync_folder(target.folder)


@contextlib.contextmanager
def whole_folder(
    path: StrPath, *, replace: bool = False, last: str = "", is_locked: bool = False
) -> Iterator[Path]:
    """Yield a folder that gets its name when the block succeeds; otherwise nothing is left.

    Its content is flushed first. A link stays, and its target is made. An empty folder counts as
    none. A folder that has to stay (a mount point, the current folder, one whose parent is not
    writable) is filled from inside: the entries are moved in one by one, and a move that a crash
    interrupted is completed by the next call or by sweep().

    Args:
        replace: replace the content of an existing folder of that name.
        last: name of the entry that tells readers that the folder is complete.
        is_locked: the caller holds locked(path).
    Raises:
        FileExistsError: if the folder is not empty and replace is not given, or the path is a
            file, before the block or, if it appeared during the block, after it.
        BlockingIOError: if another process makes the path.
        OSError: if writing fails.
    """
    target = _find(Path(path))
    with _holding(target, is_locked=is_locked):
        _clear_up(target)
        seen = _look_at_folder(target, replace=replace)
        partial = target.beside(PARTIAL)
        try:
            partial.mkdir()
            yield partial
            _flush_tree(partial)
            _name_folder(partial, target, seen, replace=replace, last=last)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            _put_back(target)
            raise


def write_file(
    path: StrPath, raw: bytes, *, replace: bool = False, to_stream: bool = False
) -> None:
    """Write a file with whole_file, after waiting for another process that writes it."""
    with whole_file(path, replace=replace, to_stream=to_stream, wait_seconds=WAIT_SECONDS) as file:
        file.write(raw)


def open_new(path: Path) -> BinaryIO:
    """Open a new file in a folder that whole_folder yielded and will flush, or in a scratch folder.

    Raises:
        FileExistsError: if the path exists.
    """
    return open(path, "xb")


def write_new(path: Path, raw: bytes) -> None:
    """Write a file as open_new opens it."""
    with open_new(path) as file:
        file.write(raw)


class ResumedFile:
    """An incomplete file that a later process can continue: PATH.part and PATH.part.json.

    Attributes:
        file: the part, open for reading and writing at its start.
    """

    def __init__(self, file: BinaryIO, target: _Target, seen: _Seen, *, replace: bool) -> None:
        self.file = file
        self.part = _beside(target.path, ".part")
        self.note_path = _beside(target.path, ".part.json")
        self._target, self._seen, self._replace = target, seen, replace

    @property
    def n_bytes(self) -> int:
        self.file.flush()
        return os.fstat(self.file.fileno()).st_size

    def read_note(self) -> dict[str, Any]:
        """Return the values last given to write_note; empty if no note can be read."""
        return _read_note(self.note_path)

    def write_note(self, values: dict[str, Any]) -> None:
        """Write a note on the part; the part is flushed before the note."""
        _flush(self.file)
        write_file(self.note_path, to_json(values).encode(), replace=True)

    def clear(self) -> None:
        """Remove the note, then empty the part."""
        self.note_path.unlink(missing_ok=True)
        self.file.seek(0)
        self.file.truncate()

    def give_name(self) -> None:
        """Flush, close and rename the file; the note is removed at the end of the block.

        Raises:
            FileExistsError: if the path exists by now and replace was not given.
        """
        _flush(self.file)
        self.file.close()  # Windows cannot rename an open file
        _name_file(self.part, self._target, self._seen, replace=self._replace)
        sync_folder(self._target.folder)


@contextlib.contextmanager
def resumed_file(path: StrPath, *, replace: bool = False) -> Iterator[ResumedFile]:
    """Begin or continue a file that is written over several calls.

    Until give_name is called, the bytes written stay in PATH.part however the block ends. The
    path is locked during the block.

    Raises:
        FileExistsError, BlockingIOError, OSError: as in whole_file.
    """
    target = _file_target(Path(path), to_stream=False)
    assert target is not None
    with _holding(target):
        seen = _look_at_file(target, replace=replace)
        part, note = _beside(target.path, ".part"), _beside(target.path, ".part.json")
        try:
            with open(part, "r+b", opener=_create) as file:
                yield ResumedFile(file, target, seen, replace=replace)
        finally:
            if not part.exists() or part.stat().st_size == 0:  # there is nothing to continue
                note.unlink(missing_ok=True)
                part.unlink(missing_ok=True)


class ResumedFolder:
    """An incomplete folder that a later process can continue, with a note on its progress.

    Attributes:
        folder: path of the folder, with the content of earlier processes.
    """

    def __init__(self, folder: Path, note_path: Path) -> None:
        self.folder, self.note_path = folder, note_path

    def read_note(self) -> dict[str, Any]:
        """Return the values last given to write_note; empty if no note can be read."""
        return _read_note(self.note_path)

    def write_note(self, values: dict[str, Any]) -> None:
        """Write a note on the progress; the caller has flushed the files it describes."""
        write_file(self.note_path, to_json(values).encode(), replace=True)

    def clear(self) -> None:
        """Remove the note, then the content of the folder."""
        self.note_path.unlink(missing_ok=True)
        for path in self.folder.iterdir():
            _remove(path)


@contextlib.contextmanager
def resumed_folder(
    path: StrPath, *, replace: bool = False, last: str = "", is_locked: bool = False
) -> Iterator[ResumedFolder]:
    """Make a folder like whole_folder, but keep it for the next call if it has a note.

    Raises:
        FileExistsError, BlockingIOError, OSError: as in whole_folder.
    """
    target = _find(Path(path))
    with _holding(target, is_locked=is_locked):
        _clear_up(target)
        seen = _look_at_folder(target, replace=replace)
        folder, note_path = target.beside(UNFINISHED), target.beside(NOTE)
        try:
            folder.mkdir(exist_ok=True)
            yield ResumedFolder(folder, note_path)
            _flush_tree(folder)
            _name_folder(folder, target, seen, replace=replace, last=last)
        except BaseException:
            if not note_path.exists():  # there is nothing to continue
                shutil.rmtree(folder, ignore_errors=True)
            _put_back(target)
            raise
        note_path.unlink(missing_ok=True)


def _read_note(path: Path) -> dict[str, Any]:
    try:
        note = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return {}  # the facts in a note can be found again without it
    return note if isinstance(note, dict) else {}


def was_named(path: StrPath) -> bool:
    """Return whether a process was killed right after resumed_file gave a path its name."""
    found = _find(Path(path)).path
    return _beside(found, ".part.json").exists() and not _beside(found, ".part").exists()


def _create(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT, 0o666)


@contextlib.contextmanager
def locked(path: StrPath, *, wait_seconds: float = 0.0) -> Iterator[None]:
    """Lock a path against other processes inside the block; the kernel frees it if this one dies.

    Take the lock before looking at the path. Missing parent folders are made.

    Args:
        wait_seconds: how long to wait for a process that makes the path.
    Raises:
        BlockingIOError: if another process makes it; the message gives its number and machine.
    """
    with _holding(_find(Path(path)), wait_seconds=wait_seconds):
        yield


@contextlib.contextmanager
def scratch_folder(path: StrPath) -> Iterator[Path]:
    """Yield an empty folder for temporary files; it is removed when the block ends.

    The caller holds locked(path).
    """
    scratch = _find(Path(path)).beside(SCRATCH)
    _remove(scratch)
    scratch.mkdir()
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def check_new_file(path: StrPath, *, replace: bool = False, to_stream: bool = False) -> None:
    """Raise the errors that whole_file raises before its block: call this before slow work."""
    target = _file_target(Path(path), to_stream=to_stream)
    if target is not None:
        _look_at_file(target, replace=replace)


def check_new_folder(path: StrPath, *, replace: bool = False) -> None:
    """Raise the errors that whole_folder raises before its block: call this before slow work."""
    target = _find(Path(path))
    if any(target.beside(prefix).exists() for prefix in (REPLACED, CLEARING, MOVING)):
        with _holding(target):
            _clear_up(target)
    _look_at_folder(target, replace=replace)


def append(path: Path, raw: bytes) -> None:
    """Append all bytes or none to a file, which is made if it is missing.

    Raises:
        OSError: if writing fails.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
    handle = os.open(path, flags, 0o666)
    try:
        end = os.fstat(handle).st_size
        if os.write(handle, raw) != len(raw):
            os.ftruncate(handle, end)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    finally:
        os.close(handle)


def open_to_append(path: Path) -> BinaryIO:
    """Open a file for the output of a process, which is appended without a rename."""
    return open(path, "ab")


def copy_file(source: Path, path: StrPath, *, replace: bool = False) -> None:
    """Copy the content of a file atomically, with whole_file."""
    with open(source, "rb") as file, whole_file(path, replace=replace) as out:
        shutil.copyfileobj(file, out, 1 << 20)


def copy_folder(source: Path, path: StrPath, *, replace: bool = False) -> None:
    """Copy a folder and its content atomically, with whole_folder."""
    with whole_folder(path, replace=replace) as partial:
        for found in sorted(source.rglob("*")):
            copy = partial / found.relative_to(source)
            if found.is_dir():
                copy.mkdir(exist_ok=True)
            else:
                shutil.copyfile(found, copy)


def rename(path: Path, new: Path) -> Path:
    """Rename a file or folder within its parent, and flush the new name to disk.

    Raises:
        FileExistsError: if the new name exists.
    """
    if os.path.lexists(new):
        raise _is_there(new)
    path.rename(new)
    sync_folder(new.parent)
    return new


def remove_file(path: Path) -> None:
    """Remove a file if it exists, and flush the removal to disk."""
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def remove_folder(path: Path) -> None:
    """Remove a folder by renaming it first, so that no partial folder has its name."""
    removed = path.with_name(REMOVED + path.name)
    _remove(removed)
    path.rename(removed)
    shutil.rmtree(removed)


def make_folder(path: Path) -> None:
    """Make a folder and its missing parents, and flush their names to disk.

    Raises:
        NotADirectoryError: if one of the paths is not a folder.
    """
    if path.is_dir():
        return
    make_folder(path.parent)
    try:
        path.mkdir(exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(f"{path} is no folder: expected one to write in") from None
    sync_folder(path.parent)


def put_back(folder: Path) -> None:
    """Restore the names of entries that a crash left between two renames in a folder."""
    for name in _names(folder, (REPLACED,)):
        with contextlib.suppress(BlockingIOError):
            target = _inside(folder, name)
            with _holding(target):
                _put_back(target)


def sweep(folder: Path) -> None:
    """Remove leftovers of dead processes in a folder; those of living processes stay."""
    for name in _names(folder, (PARTIAL, LOCK, SCRATCH, REPLACED, REMOVED, CLEARING, MOVING, NOTE)):
        with contextlib.suppress(BlockingIOError):
            target = _inside(folder, name)
            with _holding(target):
                _clear_up(target)
                _remove(target.beside(SCRATCH))


def is_in_the_making(path: Path, folder: Path) -> bool:
    """Return whether a path in a folder belongs to an incomplete entry, which is not to be read."""
    return any(part.startswith(OURS) for part in path.relative_to(folder).parts)


def sync_file(path: Path) -> None:
    """Flush the content of a file to disk."""
    _sync(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)


def sync_folder(path: Path) -> None:
    """Flush the names in a folder to disk."""
    if os.name != "nt":  # Windows cannot open folders
        _sync(path, os.O_RDONLY)


def free_bytes(path: Path) -> int:
    """Return the bytes this process may still write on the disk of an existing path."""
    return shutil.disk_usage(path).free


def to_json(value: Any) -> str:
    """Return values as JSON with one entry per line and unescaped characters."""
    return json.dumps(value, ensure_ascii=False, indent=0) + "\n"


def _find(path: Path) -> _Target:
    """Follow links, even dangling ones; a loop of links raises an OSError."""
    with contextlib.suppress(FileNotFoundError):
        path.stat()
    found = Path(os.path.realpath(path))
    return _Target(path, found, found if _has_to_stay(found) else found.parent)


def _inside(folder: Path, name: str) -> _Target:
    """Return the target of this name whose leftovers lie in a folder."""
    return _Target(folder / name, folder / name, folder)


def _has_to_stay(path: Path) -> bool:
    """Return whether a folder cannot be replaced by a rename, and is filled from inside."""
    if not path.is_dir():
        return False
    try:
        is_current = Path.cwd().is_relative_to(path)
    except FileNotFoundError:  # the current folder was removed
        is_current = False
    return is_current or _is_mount(path) or not os.access(path.parent, os.W_OK | os.X_OK)


def _is_mount(path: Path) -> bool:
    if os.path.ismount(path):
        return True
    try:
        mounts = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return False
    # Only this file lists bind mounts of the same file system.
    escaped = os.fsencode(path)
    for character in (b"\\", b" ", b"\t", b"\n"):
        escaped = escaped.replace(character, b"\\%03o" % character[0])
    return any(line.split(b" ")[4] == escaped for line in mounts)


def _file_target(path: Path, *, to_stream: bool) -> _Target | None:
    """Return the target of a file, or None for a stream that is written directly."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return _find(path)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"{path} is a folder: expected the name of a file to write")
    is_open_file = _is_descriptor(path)
    if stat.S_ISREG(mode) and not is_open_file:
        return _find(path)
    if to_stream and (is_open_file or stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)):
        return None
    raise OSError(f"{path} is no regular file: expected the name of a file to write")


def _is_descriptor(path: Path) -> bool:
    """Return whether a path names an open file, like /dev/stdout and /dev/fd/63."""
    while path.is_symlink():
        path = Path(os.path.realpath(path.parent)) / path.name
        if path.parts[1:2] == ("proc",):
            return True
        path = path.parent / os.readlink(path)
    return False


def _look_at_file(target: _Target, *, replace: bool) -> _Seen:
    """Return the entry at the path of a file; raise an error if the file cannot be made."""
    if not os.path.lexists(target.path):
        return None
    if not replace:
        raise _is_there(target.given)
    if not target.path.is_file():
        raise OSError(f"{target.given} is no regular file: expected the name of a file to write")
    if _is_mount(target.path):
        raise OSError(f"{target.given} is a mount point, which nothing can replace: give another")
    return _seen_at(target.path)


def _look_at_folder(target: _Target, *, replace: bool) -> _Seen:
    """Return the entry at the path of a folder; raise an error if it cannot be made."""
    if not os.path.lexists(target.path):
        return None
    if not target.path.is_dir():
        raise FileExistsError(f"{target.given} is a file: expected a folder to make")
    if not replace and not _is_empty(target):
        raise _is_there(target.given)
    return None if target.is_in_place else _seen_at(target.path)


def _seen_at(path: Path) -> _Seen:
    try:
        found = path.stat()
    except FileNotFoundError:  # removed since it was looked at
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _check_is_as_seen(target: _Target, seen: _Seen, now: _Seen) -> None:
    if now not in (seen, None):
        raise FileExistsError(
            f"{target.given} came or changed while it was made: it is left as it is; give another "
            "--out, or try again"
        )


def _is_empty(target: _Target) -> bool:
    if target.is_in_place:
        return not any(_entries(target))
    sweep(target.path)
    return not any(target.path.iterdir())


def _entries(target: _Target) -> Iterator[Path]:
    return (path for path in target.path.iterdir() if not path.name.startswith(OURS))


def _is_there(path: Path) -> FileExistsError:
    return FileExistsError(f"{path} is there already: give another --out")


@contextlib.contextmanager
def _holding(
    target: _Target, *, is_locked: bool = False, wait_seconds: float = 0.0
) -> Iterator[None]:
    """Make the parent folder of a target, and hold the lock of the target inside the block."""
    try:
        make_folder(target.folder)
        if is_locked or fcntl is None:
            yield
            return
        handle = _wait_for_lock(target, wait_seconds)
        try:
            yield
        finally:
            # Unlinked while it is held: a process that has it open sees that its name is gone.
            target.beside(LOCK).unlink(missing_ok=True)
            os.close(handle)
    except OSError as error:
        if error.errno in _FULL and error.filename is None:  # errors of write() name no file
            error.filename = str(target.given)
        raise


def _wait_for_lock(target: _Target, seconds: float) -> int:
    """Wait for the lock of a target; return the handle that holds it."""
    lock, ends = target.beside(LOCK), time.monotonic() + seconds
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
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            with contextlib.suppress(OSError):
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(handle)
                    return None
                # Other errors mean that the file system has no locks: processes are not detected.
            if _is_at(handle, lock):
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


def _name_file(partial: Path, target: _Target, seen: _Seen, *, replace: bool) -> None:
    _check_is_as_seen(target, seen, _look_at_file(target, replace=replace))
    if replace:
        partial.replace(target.path)
        return
    try:
        os.link(partial, target.path)  # unlike a rename, this never replaces a file
    except FileExistsError:
        raise _is_there(target.given) from None
    except (OSError, AttributeError):  # the file system has no hard links
        rename(partial, target.path)
    else:
        partial.unlink()


def _name_folder(partial: Path, target: _Target, seen: _Seen, *, replace: bool, last: str) -> None:
    """Give a flushed folder its name, and remove the old one once the new name is on disk."""
    now = _look_at_folder(target, replace=replace)
    if target.is_in_place:
        partial.rename(target.beside(CLEARING if replace else MOVING))
        sync_folder(target.folder)
        _move_in(target, last)
        return
    _check_is_as_seen(target, seen, now)
    final, replaced = target.path, target.beside(REPLACED)
    if now is not None and replace:
        final.rename(replaced)
    elif now is not None and os.name == "nt":  # Windows cannot rename to an existing name
        final.rmdir()
    try:
        partial.rename(final)  # this replaces at most an empty folder
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise _is_there(target.given) from None
        raise
    sync_folder(target.folder)
    _remove(replaced)


def _move_in(target: _Target, last: str) -> None:
    """Move the entries of a flushed folder into its parent, replacing the entries there."""
    clearing, moving = target.beside(CLEARING), target.beside(MOVING)
    if clearing.exists():
        for old in sorted(_entries(target), key=lambda path: path.name != last):
            _remove(old)
        clearing.rename(moving)
        sync_folder(target.folder)
    entries = [(path.name == last, path.stat().st_mtime_ns, path) for path in moving.iterdir()]
    for is_last, _, path in sorted(entries):
        if is_last:
            sync_folder(target.folder)
        if os.path.lexists(target.folder / path.name):
            raise _is_there(target.folder / path.name)
        path.rename(target.folder / path.name)
    sync_folder(target.folder)
    moving.rmdir()


def _clear_up(target: _Target) -> None:
    """Undo or complete the work of a dead process; the caller holds the lock."""
    _put_back(target)
    if target.beside(CLEARING).exists() or target.beside(MOVING).exists():
        _move_in(target._replace(path=target.folder), "")
    for prefix in (REPLACED, PARTIAL, REMOVED):
        _remove(target.beside(prefix))
    if not target.beside(UNFINISHED).exists():
        _remove(target.beside(NOTE))  # its folder has got its name


def _put_back(target: _Target) -> None:
    replaced = target.beside(REPLACED)
    if replaced.exists() and not os.path.lexists(target.path):
        replaced.rename(target.path)


def _names(folder: Path, prefixes: Iterable[str]) -> list[str]:
    """Return the names of the targets whose leftovers lie in a folder."""
    found = {(path.name, prefix) for prefix in prefixes for path in folder.glob(prefix + "*")}
    return sorted({name.removeprefix(prefix) for name, prefix in found})


def _remove(path: Path) -> None:
    """Remove a file, or a folder and its content, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _flush_tree(folder: Path) -> None:
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            if not (path := Path(parent, name)).is_symlink():
                sync_file(path)
        sync_folder(Path(parent))


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)
