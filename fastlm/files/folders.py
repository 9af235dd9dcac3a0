"""Making folders durably, removing them with their content, and the room on their disk."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from fastlm.files.sync import sync_folder

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of writing where there is no room"""


def make_folder(path: Path) -> list[Path]:
    """Make a folder and its missing parents, and flush their names to disk.

    Returns:
        The folders that were made, each before its parent.
    Raises:
        NotADirectoryError: if one of the paths is not a folder.
    """
    if path.is_dir():
        return []
    made = make_folder(path.parent)
    try:
        path.mkdir()
    except FileExistsError:
        if not path.is_dir():
            raise NotADirectoryError(f"{path} is no folder: expected one to write in") from None
        return []  # another process made it, and its parents are in use
    sync_folder(path.parent)
    return [path, *made]


def remove_empty(made: Iterable[Path]) -> None:
    """Remove folders that make_folder returned, up to the first that is not empty."""
    with contextlib.suppress(OSError):
        for folder in made:
            folder.rmdir()


def remove(path: Path) -> None:
    """Remove a file, or a folder and its content, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def free_bytes(path: Path) -> int:
    """Return the bytes this process may still write on the disk of an existing path."""
    return shutil.disk_usage(path).free


def remedy(error: Exception, place: Path) -> str:
    """Return what to do about an error of writing to a place; empty where nobody can tell."""
    number = error.errno if isinstance(error, OSError) else None
    if number in FULL:
        return "make room"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"make {place} writable"
    return ""


class KnownFolder:
    """A folder that is told from another one which comes to have its name.

    It is open until close(), so that no later folder gets its inode.
    """

    def __init__(self, path: Path) -> None:
        self._at = path.stat()
        self._handle: int | None = None
        with contextlib.suppress(OSError):  # Windows opens no folders
            self._handle = os.open(path, os.O_RDONLY)

    def is_at(self, path: Path) -> bool:
        """Return whether the folder has this path.

        Raises:
            OSError: if that cannot be told, as when a disk does not answer.
        """
        try:
            return os.path.samestat(self._at, path.stat())
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return False
            raise

    def close(self) -> None:
        """Close the folder; it is known by its inode alone from now on."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
