"""Flushing files and folders to disk, so that a power cut leaves them."""

import os
from pathlib import Path
from typing import BinaryIO


def sync_file(path: Path) -> None:
    """Flush the content of a file to disk."""
    _sync(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)


def sync_folder(path: Path) -> None:
    """Flush the names in a folder to disk."""
    if os.name != "nt":  # Windows cannot open folders
        _sync(path, os.O_RDONLY)


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
