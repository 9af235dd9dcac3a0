"""The one way in which files and folders are made: whole, or not at all.

What is in the making lies beside its place, under a name with one of the prefixes below. It is
flushed to the disk and renamed, so that a kill, a full disk or a power cut leaves what was there
before. A lock tells a second process that a path is being made; the kernel frees it when its
holder dies, and sweep() removes what no living process holds.

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
except ImportError:  # not on Windows: there two processes that make one path are not told apart
    fcntl = None  # type: ignore[assignment]

OURS = ".fastlm-"
"""begins every name below"""
PARTIAL = ".fastlm-tmp-"
"""not written to its end"""
LOCK = ".fastlm-lock-"
"""says which process makes the path"""
SCRATCH = ".fastlm-scratch-"
"""needed only while the path is made"""
REPLACED = ".fastlm-replaced-"
"""whole, and giving its name to a newer one"""
REMOVED = ".fastlm-removed-"
"""being removed"""
CLEARING = ".fastlm-clearing-"
"""whole; its entries replace all that is in the folder it lies in"""
MOVING = ".fastlm-moving-"
"""whole; its entries are being moved into the folder it lies in"""
UNFINISHED = ".fastlm-unfinished-"
"""not written to its end, and kept, for resumed_folder to go on with"""
NOTE = ".fastlm-note-"
"""says how far the unfinished folder has come"""

WAIT_SECONDS = 10.0
"""that write_file waits for another process that writes the same file"""

_POLL_SECONDS = 0.02
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


_Seen = tuple[int, int, int] | None
"""device, inode and time of change of what was found at a path; None: nothing"""


class _Target(NamedTuple):
    """Where a path leads, and where it is made."""

    given: Path
    """as the caller named it, for messages"""
    path: Path
    """what links lead to"""
    folder: Path
    """holds what is in the making: the parent, or the folder itself where it has to stay"""

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
    """Fill a file, which gets its name when the block ends well; otherwise nothing is left.

    A link stays, and what it points to is made. Missing folders above the path are made. The
    file's name attribute is where it lies meanwhile, for a library that writes by path.

    Args:
        replace: put it in the place of a file of that name.
        to_stream: write through to a character device or a pipe, which is refused otherwise.
        is_locked: the caller holds locked(path).
        wait_seconds: how long to wait for another process that makes the path.
    Raises:
        FileExistsError: if there is something and replace is not given, before the block begins
            or, if it came meanwhile, at its end.
        BlockingIOError: if another process makes the path.
        OSError: if there is a folder, a device or a mount point, or the disk refuses.
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
            sync_file(partial)  # by its name: a library may have put another file there
            _name_file(partial, target, seen, replace=replace)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        sync_folder(target.folder)


@contextlib.contextmanager
def whole_folder(
    path: StrPath, *, replace: bool = False, last: str = "", is_locked: bool = False
) -> Iterator[Path]:
    """Fill a folder, which gets its name when the block ends well; otherwise nothing is left.

    All that was put into it is flushed first. A link stays, and what it points to is made. An
    empty folder counts as none. A folder that has to stay (a mount point, the current folder,
    one whose parent cannot be written to) is filled from inside: what was made is moved in entry
    by entry, and a move that a crash broke off is completed by the next call or by sweep().

    Args:
        replace: put it in the place of all that is in a folder of that name.
        last: name of the entry that tells readers that the folder is whole.
        is_locked: the caller holds locked(path).
    Raises:
        FileExistsError: if the folder has something in it and replace is not given, or there is a
            file, before the block begins or, if it came meanwhile, at its end.
        BlockingIOError: if another process makes the path.
        OSError: if the disk refuses.
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
    """Write a file whole, as whole_file does; another process that writes it is waited for."""
    with whole_file(path, replace=replace, to_stream=to_stream, wait_seconds=WAIT_SECONDS) as file:
        file.write(raw)


def write_new(path: Path, raw: bytes) -> None:
    """Write a file into the folder that whole_folder gave, which flushes it.

    Raises:
        FileExistsError: if there is something at the path.
    """
    with open(path, "xb") as file:
        file.write(raw)


class ResumedFile:
    """A file in the making that a later process can go on with: PATH.part and PATH.part.json.

    Attributes:
        file: open for reading and writing, at its beginning.
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
        """Values that write_note was given; empty where there is no note that can be read."""
        return _read_note(self.note_path)

    def write_note(self, values: dict[str, Any]) -> None:
        """Write down what the part is; the disk has the part before it has the note."""
        _flush(self.file)
        write_file(self.note_path, to_json(values).encode(), replace=True)

    def clear(self) -> None:
        """Forget the note, then the part."""
        self.note_path.unlink(missing_ok=True)
        self.file.seek(0)
        self.file.truncate()

    def give_name(self) -> None:
        """Flush and close the file, and give it its name; the note goes at the end of the block.

        Raises:
            FileExistsError: if there is something by now and replace was not given.
        """
        _flush(self.file)
        self.file.close()  # Windows gives no open file another name
        _name_file(self.part, self._target, self._seen, replace=self._replace)
        sync_folder(self._target.folder)


@contextlib.contextmanager
def resumed_file(path: StrPath, *, replace: bool = False) -> Iterator[ResumedFile]:
    """Begin a file that is made over several calls, or go on with it.

    Until give_name is called, what was written stays in PATH.part when the block ends, whatever
    ended it. No other process makes the path meanwhile.

    Raises:
        FileExistsError, BlockingIOError, OSError: as whole_file.
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
            if not part.exists() or part.stat().st_size == 0:  # there is nothing to go on with
                note.unlink(missing_ok=True)
                part.unlink(missing_ok=True)


class ResumedFolder:
    """A folder in the making that a later process can go on with, and the note on it.

    Attributes:
        folder: with all that earlier processes put into it.
    """

    def __init__(self, folder: Path, note_path: Path) -> None:
        self.folder, self.note_path = folder, note_path

    def read_note(self) -> dict[str, Any]:
        """Values that write_note was given; empty where there is no note that can be read."""
        return _read_note(self.note_path)

    def write_note(self, values: dict[str, Any]) -> None:
        """Write down how far the folder has come; the caller has flushed what the note is about."""
        write_file(self.note_path, to_json(values).encode(), replace=True)

    def clear(self) -> None:
        """Forget the note, then all that is in the folder."""
        self.note_path.unlink(missing_ok=True)
        for path in self.folder.iterdir():
            _remove(path)


@contextlib.contextmanager
def resumed_folder(
    path: StrPath, *, replace: bool = False, last: str = "", is_locked: bool = False
) -> Iterator[ResumedFolder]:
    """As whole_folder, but what has a note stays when the block fails, for the next call.

    Raises:
        FileExistsError, BlockingIOError, OSError: as whole_folder.
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
            if not note_path.exists():  # there is nothing to go on with
                shutil.rmtree(folder, ignore_errors=True)
            _put_back(target)
            raise
        note_path.unlink(missing_ok=True)


def _read_note(path: Path) -> dict[str, Any]:
    try:
        note = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return {}  # a note says nothing that cannot be found out anew
    return note if isinstance(note, dict) else {}


def was_named(path: StrPath) -> bool:
    """Whether a process was killed right after resumed_file had given a path its name."""
    found = _find(Path(path)).path
    return _beside(found, ".part.json").exists() and not _beside(found, ".part").exists()


def _create(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT, 0o666)


@contextlib.contextmanager
def locked(path: StrPath, *, wait_seconds: float = 0.0) -> Iterator[None]:
    """Let no other process make a path inside the block; the kernel ends that when this one dies.

    Take it before looking at what is there. Missing folders above the path are made.

    Args:
        wait_seconds: how long to wait for a process that makes the path.
    Raises:
        BlockingIOError: if another process makes it, with its number and machine.
    """
    with _holding(_find(Path(path)), wait_seconds=wait_seconds):
        yield


@contextlib.contextmanager
def scratch_folder(path: StrPath) -> Iterator[Path]:
    """Make an empty folder for what is needed only while a path is made; the end removes it.

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
    """Raise what whole_file would before its block begins: ask before slow work."""
    target = _file_target(Path(path), to_stream=to_stream)
    if target is not None:
        _look_at_file(target, replace=replace)


def check_new_folder(path: StrPath, *, replace: bool = False) -> None:
    """Raise what whole_folder would before its block begins: ask before slow work."""
    target = _find(Path(path))
    if any(target.beside(prefix).exists() for prefix in (REPLACED, CLEARING, MOVING)):
        with _holding(target):
            _clear_up(target)
    _look_at_folder(target, replace=replace)


def append(path: Path, raw: bytes) -> None:
    """Append to a file, which is made if there is none: all of it, or nothing.

    Raises:
        OSError: if the disk does not take it.
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
    """Open a file for what a process says on the way; there is nothing to make whole."""
    return open(path, "ab")


def copy_file(source: Path, path: StrPath, *, replace: bool = False) -> None:
    """Copy a file's content, whole, as whole_file does."""
    with open(source, "rb") as file, whole_file(path, replace=replace) as out:
        shutil.copyfileobj(file, out, 1 << 20)


def copy_folder(source: Path, path: StrPath, *, replace: bool = False) -> None:
    """Copy a folder with all that is in it, whole, as whole_folder does."""
    with whole_folder(path, replace=replace) as partial:
        for found in sorted(source.rglob("*")):
            copy = partial / found.relative_to(source)
            if found.is_dir():
                copy.mkdir(exist_ok=True)
            else:
                shutil.copyfile(found, copy)


def rename(path: Path, new: Path) -> Path:
    """Give a file or folder another name in its folder, and wait until the disk has it.

    Raises:
        FileExistsError: if there is something of that name.
    """
    if os.path.lexists(new):
        raise _is_there(new)
    path.rename(new)
    sync_folder(new.parent)
    return new


def remove_file(path: Path) -> None:
    """Remove a file, if there is one, and wait until the disk has no such name."""
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def remove_folder(path: Path) -> None:
    """Remove a folder so that its name goes first: what has the name is always whole."""
    removed = path.with_name(REMOVED + path.name)
    _remove(removed)
    path.rename(removed)
    shutil.rmtree(removed)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, and wait until the disk has their names.

    Raises:
        NotADirectoryError: if there is something else at one of the paths.
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
    """Give what a crash left between two renames in a folder its name again."""
    for name in _names(folder, (REPLACED,)):
        with contextlib.suppress(BlockingIOError):
            target = _inside(folder, name)
            with _holding(target):
                _put_back(target)


def sweep(folder: Path) -> None:
    """Clear up what dead processes left in a folder; what a living one is making stays."""
    for name in _names(folder, (PARTIAL, LOCK, SCRATCH, REPLACED, REMOVED, CLEARING, MOVING, NOTE)):
        with contextlib.suppress(BlockingIOError):
            target = _inside(folder, name)
            with _holding(target):
                _clear_up(target)
                _remove(target.beside(SCRATCH))


def is_in_the_making(path: Path, folder: Path) -> bool:
    """Whether a path in a folder belongs to what is not whole yet: it is no one's text or data."""
    return any(part.startswith(OURS) for part in path.relative_to(folder).parts)


def sync_file(path: Path) -> None:
    """Wait until the disk has what was written to a file."""
    _sync(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)


def sync_folder(path: Path) -> None:
    """Wait until the disk has the names in a folder."""
    if os.name != "nt":  # folders cannot be opened there
        _sync(path, os.O_RDONLY)


def free_bytes(path: Path) -> int:
    """Bytes that this process may still write where an existing path is."""
    return shutil.disk_usage(path).free


def to_json(value: Any) -> str:
    """Values as JSON, a line for each entry, characters as they are."""
    return json.dumps(value, ensure_ascii=False, indent=0) + "\n"


def _find(path: Path) -> _Target:
    """Follow links, dangling ones too; a loop of them is an error of the system."""
    with contextlib.suppress(FileNotFoundError):
        path.stat()
    found = Path(os.path.realpath(path))
    return _Target(path, found, found if _has_to_stay(found) else found.parent)


def _inside(folder: Path, name: str) -> _Target:
    """The target whose leftovers of this name lie in a folder."""
    return _Target(folder / name, folder / name, folder)


def _has_to_stay(path: Path) -> bool:
    """Whether a folder can only be filled from inside, as its name can be given to no other."""
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
    # A part of the same file system that is mounted here is only told there.
    escaped = os.fsencode(path)
    for character in (b"\\", b" ", b"\t", b"\n"):
        escaped = escaped.replace(character, b"\\%03o" % character[0])
    return any(line.split(b" ")[4] == escaped for line in mounts)


def _file_target(path: Path, *, to_stream: bool) -> _Target | None:
    """Where a file is made; None for a stream that is written through."""
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
    """Whether a path is another name of an open file, as /dev/stdout and /dev/fd/63 are."""
    while path.is_symlink():
        path = Path(os.path.realpath(path.parent)) / path.name
        if path.parts[1:2] == ("proc",):
            return True
        path = path.parent / os.readlink(path)
    return False


def _look_at_file(target: _Target, *, replace: bool) -> _Seen:
    """What is where a file is to be made, if that can be done."""
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
    """What is where a folder is to be made, if that can be done."""
    if not os.path.lexists(target.path):
        return None
    if not target.path.is_dir():
        raise FileExistsError(f"{target.given} is a file: expected a folder to make")
    if not replace and not _is_empty(target):
        raise _is_there(target.given)
    return None if target.is_in_place else _seen_at(target.path)


def _seen_at(path: Path) -> _Seen:
    found = path.stat()
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
    """Make the folder above a target, and hold its lock inside the block."""
    try:
        make_folder(target.folder)
        if is_locked or fcntl is None:
            yield
            return
        handle = _wait_for_lock(target, wait_seconds)
        try:
            yield
        finally:
            # While it is held: another process that has it open sees that its name is gone.
            target.beside(LOCK).unlink(missing_ok=True)
            os.close(handle)
    except OSError as error:
        if error.errno in _FULL and error.filename is None:  # of a write, which names no file
            error.filename = str(target.given)
        raise


def _wait_for_lock(target: _Target, seconds: float) -> int:
    """A handle that holds the lock of a target."""
    lock, ends = target.beside(LOCK), time.monotonic() + seconds
    while (handle := _try_lock(lock)) is None:
        if time.monotonic() >= ends:
            raise BlockingIOError(
                f"{target.given} is being made by {_holder(lock)}: wait for it, or give another"
            )
        time.sleep(_POLL_SECONDS)
    return handle


def _try_lock(lock: Path) -> int | None:
    """A handle that holds the lock, or None while another does."""
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            with contextlib.suppress(OSError):
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(handle)
                    return None
                # Other errors: a file system without locks, where processes are not told apart.
            if _is_at(handle, lock):
                with contextlib.suppress(OSError):  # on a full disk it says less
                    os.ftruncate(handle, 0)
                    os.write(handle, f"process {os.getpid()} on {platform.node()}".encode())
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its holder has removed it meanwhile


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
        os.link(partial, target.path)  # unlike a rename, never in the place of another file
    except FileExistsError:
        raise _is_there(target.given) from None
    except (OSError, AttributeError):  # a file system without such links
        rename(partial, target.path)
    else:
        partial.unlink()


def _name_folder(partial: Path, target: _Target, seen: _Seen, *, replace: bool, last: str) -> None:
    """Give a flushed folder its name; what had it before goes when that is on the disk."""
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
    elif now is not None and os.name == "nt":  # which renames to no name that is taken
        final.rmdir()
    try:
        partial.rename(final)  # in the place of an empty folder at most
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise _is_there(target.given) from None
        raise
    sync_folder(target.folder)
    _remove(replaced)


def _move_in(target: _Target, last: str) -> None:
    """Move a flushed folder's entries into the folder it lies in, in the place of all there."""
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
    """Undo or complete what a dead process left; the caller holds the lock."""
    _put_back(target)
    if target.beside(CLEARING).exists() or target.beside(MOVING).exists():
        _move_in(target._replace(path=target.folder), "")
    for prefix in (REPLACED, PARTIAL, REMOVED):
        _remove(target.beside(prefix))
    if not target.beside(UNFINISHED).exists():
        _remove(target.beside(NOTE))  # of a folder that got its name


def _put_back(target: _Target) -> None:
    replaced = target.beside(REPLACED)
    if replaced.exists() and not os.path.lexists(target.path):
        replaced.rename(target.path)


def _names(folder: Path, prefixes: Iterable[str]) -> list[str]:
    """Names of the targets whose leftovers lie in a folder."""
    found = {(path.name, prefix) for prefix in prefixes for path in folder.glob(prefix + "*")}
    return sorted({name.removeprefix(prefix) for name, prefix in found})


def _remove(path: Path) -> None:
    """Remove a file, or a folder with all in it, or nothing."""
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
