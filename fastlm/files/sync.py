"""What is durable: flushing files and folders to disk, making and removing folders."""

import os
import shutil
from pathlib import Path
from typing import BinaryIO


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


def remove(path: Path) -> None:
    """Remove a file, or a folder and its content, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def flush(file: BinaryIO) -> None:
    """Flush the content of an open file to disk."""
    file.flush()
    os.fsync(file.fileno())


def flush_tree(folder: Path) -> None:
    """Flush every file and name below a folder to disk, and the folder itself last."""
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
