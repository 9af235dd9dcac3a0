"""Making folders durably, removing them with their content, and the room on their disk."""

import shutil
from pathlib import Path

from fastlm.files.sync import sync_folder


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


def remove(path: Path) -> None:
    """Remove a file, or a folder and its content, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def free_bytes(path: Path) -> int:
    """Return the bytes this process may still write on the disk of an existing path."""
    return shutil.disk_usage(path).free
