"""Files that a kill or a power cut leaves whole: written beside, flushed, renamed into place.

What a crash can leave behind has a name with one of the prefixes below, and sweep() clears
it up.
"""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

PARTIAL = ".tmp-"
"""not written to its end"""
REPLACED = ".replaced-"
"""whole, and giving its name to a newer one"""
REMOVED = ".removed-"
"""being removed"""


def write_flushed(path: Path, raw: bytes) -> None:
    """Write a file and wait until the disk has it (its name is the folder's: sync_folder)."""
    with open(path, "wb") as out:
        out.write(raw)
        out.flush()
        os.fsync(out.fileno())


def sync_file(path: Path) -> None:
    """Wait until the disk has what was written to a file."""
    _sync(path, os.O_RDWR)


def sync_folder(path: Path) -> None:
    """Wait until the disk has the names in a folder."""
    if os.name != "nt":  # folders cannot be opened there
        _sync(path, os.O_RDONLY)


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def free_bytes(path: Path) -> int:
    """That this process may still write where an existing path is."""
    return shutil.disk_usage(path).free


def make_folder(path: Path) -> None:
    """Make a folder and those above it, and wait until the disk has their names."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync_folder(path.parent)


def make_empty_folder(path: Path) -> None:
    """Make a folder for what a command writes.

    Raises:
        FileExistsError: if there is something at the path, or in it.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(f"{path} is there already: give another --out")
    make_folder(path)


def replace_file(path: Path, raw: bytes) -> None:
    """Write a file in place of one of the same name; a crash leaves the one or the other."""
    partial = path.with_name(PARTIAL + path.name)
    try:
        write_flushed(partial, raw)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def move_folder(partial: Path, final: Path) -> Path | None:
    """Give a flushed folder its name; returns where one that had it before was put."""
    replaced = None
    if final.exists():
        replaced = final.with_name(REPLACED + final.name)
        final.rename(replaced)
    partial.rename(final)
    sync_folder(final.parent)
    return replaced


def remove_folder(path: Path) -> None:
    """Remove a folder so that its name goes first: what has the name is always whole."""
    removed = path.with_name(REMOVED + path.name)
    shutil.rmtree(removed, ignore_errors=True)
    path.rename(removed)
    shutil.rmtree(removed)


def put_back(folder: Path) -> None:
    """Give what a crash left between the two renames of move_folder its name again."""
    for path in folder.glob(REPLACED + "*"):
        final = path.with_name(path.name.removeprefix(REPLACED))
        if not final.exists():
            path.rename(final)


def sweep(folder: Path) -> None:
    """Clear up what crashes left behind in a folder; nothing else may be writing there."""
    put_back(folder)
    for prefix in (REPLACED, PARTIAL, REMOVED):
        for path in folder.glob(prefix + "*"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def to_json(value: Any) -> str:
    """Values as JSON, a line for each entry, characters as they are."""
    return json.dumps(value, ensure_ascii=False, indent=0) + "\n"


def write_atomically(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a file beside the path and put it in place when it is whole."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as out:
            for piece in pieces:
                out.write(piece)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def beside(path: Path, ending: str) -> Path:
    """The path with an ending after its name."""
    return path.with_name(path.name + ending)


def to_disk(file: BinaryIO) -> None:
    """Wait until what was written is on disk."""
    file.flush()
    os.fsync(file.fileno())
