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
import os
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from fastlm.files.destination import (
    CLEARING,
    LOCK,
    MOVING,
    NOTE,
    OURS,
    PARTIAL,
    REMOVED,
    REPLACED,
    SCRATCH,
    STANDARD_OUTPUT,
    UNFINISHED,
    Destination,
    Seen,
    SeenFolder,
    check_is_as_seen,
    check_nothing_came,
    check_place,
    content_of,
    descriptor,
    entries,
    find,
    find_file,
    inside,
    is_there,
    look_at_file,
    seen_at,
)
from fastlm.files.folders import make_folder, remove, remove_empty
from fastlm.files.lock import holding, is_held
from fastlm.files.paths import StrPath, open_to_read
from fastlm.files.sync import flush_tree, sync_file, sync_folder

WAIT_SECONDS = 10.0
"""Seconds that write_file waits for another process that writes the same file."""


@contextlib.contextmanager
def whole_file(
    path: StrPath,
    *,
    replace: bool = False,
    to_stream: bool = False,
    wait_seconds: float = 0.0,
) -> Iterator[BinaryIO]:
    """Yield a file that gets its name when the block succeeds; otherwise nothing is left.

    A link stays, and its target is made. Missing parent folders are made. The file's name
    attribute is its temporary path, for a library that writes by path.

    Args:
        replace: replace an existing file of that name.
        to_stream: write directly to a character device or a pipe, or to standard output, whose
            name is "-"; they are refused otherwise.
        wait_seconds: how long to wait for another process that makes the path.
    Raises:
        FileExistsError: if the path exists and replace is not given, before the block or, if it
            appeared during the block, after it.
        BlockingIOError: if another process makes the path.
        OSError: if the path is a folder, a device or a mount point, or writing fails.
    """
    target = find_file(Path(path), to_stream=to_stream)
    if target is None:
        with _stream(Path(path)) as file:
            yield file
        return
    with holding(target, wait_seconds=wait_seconds):
        partial = target.beside(PARTIAL)
        remove(partial)
        seen = look_at_file(target, replace=replace)
        try:
            with open(partial, "x+b") as file:
                yield file
            sync_file(partial)  # by name, as a library may have replaced the file
            name_file(partial, target, seen, replace=replace)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        sync_folder(target.folder)


@contextlib.contextmanager
def _stream(path: Path) -> Iterator[BinaryIO]:
    """Open a stream to write to; errors of writing to it name it."""
    try:
        number = descriptor(path)
        # Where standard output was closed, its number is that of the null device now.
        if path == STANDARD_OUTPUT or (number == 1 and sys.__stdout__ is None):
            sys.stdout.flush()
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
            return
        if number is not None:  # opened by its path, a file that a shell appends to would be cut
            sys.stdout.flush()
            file_or_number: Path | int = os.dup(number)
        else:
            file_or_number = path
        with open(file_or_number, "wb") as file:
            yield file
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = "standard output" if path == STANDARD_OUTPUT else str(path)
        raise


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
    target = find(Path(path))
    refuse_file(target)
    with holding(target, is_locked=is_locked):
        seen = prepare_folder(target, replace=replace)
        partial = target.beside(PARTIAL)
        try:
            partial.mkdir()
            yield partial
            flush_tree(partial)
            name_folder(partial, target, seen, replace=replace, last=last)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            restore_name(target)
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


@contextlib.contextmanager
def locked(path: StrPath, *, wait_seconds: float = 0.0) -> Iterator[None]:
    """Lock a path against other processes inside the block; the kernel frees it if this one dies.

    Take the lock before looking at the path. Missing parent folders are made.

    Args:
        wait_seconds: how long to wait for a process that makes the path.
    Raises:
        BlockingIOError: if another process makes it; the message gives its number and machine.
    """
    with holding(find(Path(path)), wait_seconds=wait_seconds):
        yield


def is_locked(path: StrPath) -> bool:
    """Return whether a process holds the lock of a path; True where nobody can tell."""
    return is_held(find(Path(path)))


@contextlib.contextmanager
def first_free_folder(paths: Iterable[Path]) -> Iterator[Path]:
    """Make the first folder of paths that does not exist: two processes never get the same one.

    If the block leaves it empty, it is removed, with the parents that were made for it.
    """
    made: list[Path] = []
    for path in paths:
        made = [*make_folder(path.parent), *made]
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            sync_folder(path.parent)
            made = [path, *made]
            break
    try:
        yield made[0]
    finally:
        remove_empty(made)


@contextlib.contextmanager
def scratch_folder(path: StrPath) -> Iterator[Path]:
    """Yield an empty folder for temporary files; it is removed when the block ends.

    The caller holds locked(path).
    """
    scratch = find(Path(path)).beside(SCRATCH)
    remove(scratch)
    scratch.mkdir()
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def check_new_file(path: StrPath, *, replace: bool = False, to_stream: bool = False) -> None:
    """Raise the errors that whole_file raises before its block: call this before slow work."""
    target = find_file(Path(path), to_stream=to_stream)
    if target is not None:
        look_at_file(target, replace=replace)
        check_place(target)


def check_new_folder(path: StrPath, *, replace: bool = False) -> None:
    """Raise the errors that whole_folder raises before its block: call this before slow work.

    Nothing is changed. Work of other processes inside the folder is not noticed.
    """
    target = find(Path(path))
    look_at_folder(target, replace=replace)
    check_place(target)
    if replace:
        return
    kept = [target.beside(prefix) for prefix in (CLEARING, MOVING) if target.is_in_place]
    kept += [] if target.path.exists() else [target.beside(REPLACED)]
    for found in kept:  # whole_folder would rename it back
        if found.is_dir() and any(found.iterdir()):
            raise FileExistsError(
                f"{target.given} is there already, as {found}: rename or remove that, or give "
                "another --out"
            )


def check_folder(path: StrPath) -> None:
    """Raise an OSError if a folder can neither be made nor be written to if it exists."""
    target = find(Path(path))
    refuse_file(target)
    check_place(target._replace(folder=target.path) if target.path.is_dir() else target)


def append(path: Path, raw: bytes) -> None:
    """Append all bytes or none to a file, which is made if it is missing.

    Raises:
        OSError: if writing fails, or it is no regular file.
    """
    part_from_copies(path)
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
    """Open a file for the output of a process, which is appended without a rename.

    Raises:
        OSError: if it cannot be written to, or is no regular file.
    """
    part_from_copies(path)
    return open(path, "ab")


def part_from_copies(path: Path) -> None:
    """Make a file that will be written in place a file of its own if it has other hard links.

    They are copies of it, such as those that `cp -al` makes, and would change with it.

    Raises:
        OSError: if it is no regular file, such as a pipe, which would wait for a reader.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return
    if not stat.S_ISREG(found.st_mode):
        raise OSError(f"{path} is no regular file: expected one to write to")
    if found.st_nlink > 1:
        copy_file(path, path, replace=True)


def copy_file(source: Path, path: StrPath, *, replace: bool = False) -> None:
    """Copy the content of a file atomically, with whole_file."""
    with open_to_read(source) as file, whole_file(path, replace=replace) as out:
        shutil.copyfileobj(file, out, 1 << 20)


def rename(path: Path, new: Path, *, flush: bool = True) -> Path:
    """Rename a file or folder within its parent.

    Args:
        flush: flush the new name to disk; False if the caller flushes the folder later.
    Raises:
        FileExistsError: if the new name exists.
    """
    if os.path.lexists(new):
        raise is_there(new)
    path.rename(new)
    if flush:
        sync_folder(new.parent)
    return new


def set_aside(path: Path, word: str) -> Path:
    """Rename a file or folder to the first free of WORD-NAME, WORD-NAME-2 ...; return its path."""
    new, n = path.with_name(f"{word}-{path.name}"), 1
    while os.path.lexists(new):
        n += 1
        new = path.with_name(f"{word}-{path.name}-{n}")
    return rename(path, new)


def remove_file(path: Path) -> None:
    """Remove a file if it exists, and flush the removal to disk."""
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def remove_folder(path: Path) -> None:
    """Remove a folder by renaming it first, so that no partial folder has its name.

    Of a link to a folder, the link is removed.
    """
    removed = path.with_name(REMOVED + path.name)
    remove(removed)
    path.rename(removed)
    remove(removed)


def put_back(folder: Path) -> None:
    """Restore the names of entries that a crash left between two renames in a folder."""
    for name in _names(folder, (REPLACED,)):
        with contextlib.suppress(BlockingIOError):
            target = inside(folder, name)
            with holding(target):
                restore_name(target)


def sweep(folder: Path) -> None:
    """Remove leftovers of dead processes in a folder; those of living processes stay."""
    for name in _names(folder, (PARTIAL, LOCK, SCRATCH, REPLACED, REMOVED, CLEARING, MOVING, NOTE)):
        with contextlib.suppress(BlockingIOError):
            target = inside(folder, name)
            with holding(target):
                clear_up(target)
                remove(target.beside(SCRATCH))


def is_in_the_making(path: Path, folder: Path) -> bool:
    """Return whether a path in a folder belongs to an incomplete entry, which is not to be read."""
    return any(part.startswith(OURS) for part in path.relative_to(folder).parts)


def look_at_folder(target: Destination, *, replace: bool) -> Seen:
    """Return the entry at the path of a folder; raise an error if it cannot be made."""
    refuse_file(target)
    if not os.path.lexists(target.path):
        return None
    if not replace and any(entries(target)):
        raise is_there(target.given)
    return None if target.is_in_place else seen_at(target.path)


def refuse_file(target: Destination) -> None:
    """Raise a FileExistsError if something that is no folder has the path of a folder."""
    if os.path.lexists(target.path) and not target.path.is_dir():
        raise FileExistsError(f"{target.given} is a file: expected a folder to make")


def prepare_folder(target: Destination, *, replace: bool) -> SeenFolder:
    """Make room for a folder, and return what is at its path; the caller holds the lock.

    Raises:
        FileExistsError: if it cannot be made.
    """
    clear_up(target)
    seen = look_at_folder(target, replace=replace)
    if seen is None or replace:
        return SeenFolder(seen, content_of(target.path) if replace else {})
    sweep(target.path)  # the folder is renamed to this path, which has to be empty then
    if any(target.path.iterdir()):  # entries of living processes
        raise is_there(target.given)
    return SeenFolder(seen_at(target.path), {})


def name_file(partial: Path, target: Destination, seen: Seen, *, replace: bool) -> None:
    """Give a flushed file its name, unless another entry took that name meanwhile."""
    check_is_as_seen(target, seen, look_at_file(target, replace=replace))
    if replace:
        with contextlib.suppress(OSError):  # no file yet, or a file system without modes
            partial.chmod(target.path.stat().st_mode & 0o777)
        partial.replace(target.path)
        return
    try:
        os.link(partial, target.path)  # unlike a rename, this never replaces a file
    except FileExistsError:
        raise is_there(target.given) from None
    except (OSError, AttributeError):  # the file system has no hard links
        rename(partial, target.path)
    else:
        partial.unlink()


def name_folder(
    partial: Path, target: Destination, seen: SeenFolder, *, replace: bool, last: str
) -> None:
    """Give a flushed folder its name, and remove the old one once the new name is on disk."""
    now = look_at_folder(target, replace=replace)
    if target.is_in_place:
        check_nothing_came(target, seen.content)
        partial.rename(target.beside(CLEARING if replace else MOVING))
        sync_folder(target.folder)
        _move_in(target, last)
        return
    check_is_as_seen(target, seen.entry, now)
    check_nothing_came(target, seen.content)
    final, replaced = target.path, target.beside(REPLACED)
    if now is not None and replace:
        final.rename(replaced)
    elif now is not None and os.name == "nt":  # Windows cannot rename to an existing name
        final.rmdir()
    try:
        partial.rename(final)  # this replaces at most an empty folder
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise is_there(target.given) from None
        raise
    sync_folder(target.folder)
    remove(replaced)


def _move_in(target: Destination, last: str) -> None:
    """Move the entries of a flushed folder into its parent, replacing the entries there."""
    clearing, moving = target.beside(CLEARING), target.beside(MOVING)
    if clearing.exists():
        for old in sorted(entries(target), key=lambda path: path.name != last):
            remove(old)
        clearing.rename(moving)
        sync_folder(target.folder)
    found = [(path.name == last, path.stat().st_mtime_ns, path) for path in moving.iterdir()]
    for is_last, _, path in sorted(found):
        if is_last:
            sync_folder(target.folder)
        if os.path.lexists(target.folder / path.name):
            raise is_there(target.folder / path.name)
        path.rename(target.folder / path.name)
    sync_folder(target.folder)
    moving.rmdir()


def clear_up(target: Destination) -> None:
    """Undo or complete the work of a dead process; the caller holds the lock."""
    restore_name(target)
    if target.beside(CLEARING).exists() or target.beside(MOVING).exists():
        _move_in(target._replace(path=target.folder), "")
    for prefix in (REPLACED, PARTIAL, REMOVED):
        remove(target.beside(prefix))
    if not target.beside(UNFINISHED).exists():
        remove(target.beside(NOTE))  # its folder is complete and renamed


def restore_name(target: Destination) -> None:
    """Rename the old entry back if a process died before the new one got the name."""
    replaced = target.beside(REPLACED)
    if replaced.exists() and not os.path.lexists(target.path):
        replaced.rename(target.path)


def _names(folder: Path, prefixes: Iterable[str]) -> list[str]:
    """Return the names of the targets whose leftovers lie in a folder."""
    found = {(path.name, prefix) for prefix in prefixes for path in folder.glob(prefix + "*")}
    return sorted({name.removeprefix(prefix) for name, prefix in found})
