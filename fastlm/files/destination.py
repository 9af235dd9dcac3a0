"""Resolve the path of a file or folder that is to be made, and inspect what is there already."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

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
OTHERS = "others-of"
"""Word before the name of what somebody put in the place of a file or folder that is made."""
STANDARD_OUTPUT = Path("-")
"""The path that stands for standard output."""
_PREFIXES = (PARTIAL, LOCK, SCRATCH, REPLACED, REMOVED, CLEARING, MOVING, UNFINISHED, NOTE)
_LONGEST_PREFIX = max(map(len, _PREFIXES))
Seen = tuple[int, int, int] | None
"""Device, inode and modification time of the entry at a path; None if there is none."""
Content = dict[str, tuple[int, int]]
"""Inode and modification time of all that lies below a folder, by the paths below it."""


class SeenFolder(NamedTuple):
    """A folder that is to be replaced, or the place where one is to be made."""

    entry: Seen
    """None also for a folder that is filled from inside"""
    content: Content


class Destination(NamedTuple):
    """The path to make, and the folder in which it is made."""

    given: Path
    """The path that the caller gave, for messages."""
    path: Path
    """The path after following links."""
    folder: Path
    """The folder of the partial entry: the parent, or the folder itself if it has to stay."""
    lock_folder: Path
    """The folder of the lock, which is the same wherever a process was started."""

    @property
    def locks(self) -> list[Path]:
        """Locks to hold; that beside the partial entry keeps sweep() from removing it."""
        folders = dict.fromkeys((self.lock_folder, self.folder))
        return [folder / (LOCK + self.path.name) for folder in folders]

    @property
    def is_in_place(self) -> bool:
        return self.folder == self.path

    def beside(self, prefix: str) -> Path:
        return self.folder / (prefix + self.path.name)


def find(path: Path) -> Destination:
    """Follow links, even dangling ones; a loop of links raises an OSError.

    Raises:
        ValueError: for "-", where no stream is written to.
    """
    if path == STANDARD_OUTPUT:
        raise ValueError(
            f"standard output cannot be written to here: expected a path, got {path}; a file or "
            "folder of that name has to be given with its folder"
        )
    with contextlib.suppress(FileNotFoundError):
        path.stat()
    found = Path(os.path.realpath(path))
    is_fixed = _is_fixed(found)
    stays = is_fixed or _is_begun_or_current(found)
    return Destination(
        path,
        found,
        folder=found if stays else found.parent,
        lock_folder=found if is_fixed else found.parent,
    )


def is_leftover(name: str) -> bool:
    """Return whether a name is one that this package gives to what is in the making.

    >>> is_leftover(".fastlm-lock-data"), is_leftover(".fastlm-notes.txt")
    (True, False)
    """
    return any(name.startswith(prefix) and name != prefix for prefix in _PREFIXES)


def check_place(target: Destination) -> None:
    """Check that something can be made in the folder of a target, or in one to be made for it.

    Raises:
        OSError: with the path that the user gave: if it is no folder, if nothing can be written in
            it, or if a name is too long.
    """
    folder, missing = target.folder, [_LONGEST_PREFIX + len(os.fsencode(target.path.name))]
    while not os.path.lexists(folder):
        missing.append(len(os.fsencode(folder.name)))
        folder = folder.parent
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is no folder: expected one to write in")
    if hasattr(os, "pathconf") and max(missing) > os.pathconf(folder, "PC_NAME_MAX"):
        raise _error(errno.ENAMETOOLONG, target)
    if not os.access(folder, os.W_OK | os.X_OK):
        is_read_only = hasattr(os, "statvfs") and os.statvfs(folder).f_flag & os.ST_RDONLY
        raise _error(errno.EROFS if is_read_only else errno.EACCES, target)


def _error(number: int, target: Destination) -> OSError:
    return OSError(number, os.strerror(number), str(target.given))


def inside(folder: Path, name: str) -> Destination:
    """Return the target that leftovers in a folder belong to, by its name."""
    return Destination(folder / name, folder / name, folder, folder)


def _is_fixed(path: Path) -> bool:
    """Return whether a folder cannot be replaced by a rename, and is filled from inside."""
    if not path.is_dir():
        return False
    return is_mount(path) or not os.access(path.parent, os.W_OK | os.X_OK)


def _is_begun_or_current(path: Path) -> bool:
    """Return whether a folder is filled from inside although it could be replaced."""
    if not path.is_dir():
        return False
    if any(path.glob(UNFINISHED + "*")):
        return True  # unfinished work lies inside and is continued there
    try:
        return Path.cwd().is_relative_to(path)
    except FileNotFoundError:  # the current folder was removed
        return False


def is_mount(path: Path) -> bool:
    """Return whether a path is a mount point, bind mounts included."""
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


def find_file(path: Path, *, to_stream: bool) -> Destination | None:
    """Return the target of a file, or None for a stream that is written directly."""
    if path == STANDARD_OUTPUT and to_stream:
        return None
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return find(path)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"{path} is a folder: expected the name of a file to write")
    is_open_file = _open_file(path) is not None
    if stat.S_ISREG(mode) and not is_open_file:
        return find(path)
    if to_stream and (is_open_file or stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)):
        return None
    raise OSError(f"{path} is no regular file: expected the name of a file to write")


def _open_file(path: Path) -> Path | None:
    """Return the path in /proc of the open file that a path such as /dev/stdout names."""
    while path.is_symlink():
        path = Path(os.path.realpath(path.parent)) / path.name
        if path.parts[1:2] == ("proc",):
            return path
        path = path.parent / os.readlink(path)
    return None


def descriptor(path: Path) -> int | None:
    """Return the number of the open file of this process that a path names; None if it does not."""
    found = _open_file(path)
    if found is None or found.parts[2:-1] != (str(os.getpid()), "fd"):
        return None
    return int(found.name)


def look_at_file(target: Destination, *, replace: bool) -> Seen:
    """Return the entry at the path of a file; raise an error if the file cannot be made."""
    if not os.path.lexists(target.path):
        return None
    if not replace:
        raise is_there(target.given)
    if not target.path.is_file():
        raise OSError(f"{target.given} is no regular file: expected the name of a file to write")
    if is_mount(target.path):
        raise OSError(f"{target.given} is a mount point, which nothing can replace: give another")
    if _is_protected(target.path):
        raise _error(errno.EPERM, target)
    return seen_at(target.path)


def _is_protected(path: Path) -> bool:
    """Return whether a file is another user's, in a folder like /tmp where each keeps their own."""
    if not hasattr(os, "geteuid"):
        return False
    folder, user = path.parent.stat(), os.geteuid()
    return bool(folder.st_mode & stat.S_ISVTX) and user not in (
        0,
        folder.st_uid,
        path.stat().st_uid,
    )


def seen_at(path: Path) -> Seen:
    """Return what identifies the entry at a path, or None if there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:  # removed since it was looked at
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


def check_is_as_seen(target: Destination, seen: Seen, now: Seen) -> None:
    """Raise a FileExistsError if the entry changed while its successor was made."""
    if now not in (seen, None):
        raise FileExistsError(
            f"{target.given} came or changed while it was made: it is left as it is; give another "
            "--out, or try again"
        )


def content_of(folder: Path) -> Content:
    """Return what lies below a folder and is the user's; nothing if there is no such folder."""
    found: Content = {}
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not is_leftover(name)]
        for name in (*folders, *names):
            path = os.path.join(parent, name)
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                at = os.lstat(path)
                changed_at = 0 if stat.S_ISDIR(at.st_mode) else at.st_mtime_ns
                if not is_leftover(name):
                    found[os.path.relpath(path, folder)] = at.st_ino, changed_at
    return found


def check_nothing_came(target: Destination, seen: Content) -> None:
    """Raise a FileExistsError if something in a folder to be replaced was not seen before."""
    came = sorted(dict(content_of(target.path).items() - seen.items()))
    if came:
        raise FileExistsError(
            f"{target.given / came[0]} came or changed while {target.given} was made: it is left "
            "as it is; move it elsewhere, and try again"
        )


def entries(target: Destination) -> Iterator[Path]:
    """Return the entries of a folder that are the user's, not leftovers of this package."""
    return (path for path in target.path.iterdir() if not path.name.startswith(OURS))


def is_there(path: Path) -> FileExistsError:
    """Return the error for a path that exists and may not be replaced."""
    return FileExistsError(f"{path} is there already: give another --out")
