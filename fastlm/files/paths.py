"""Paths that a user gives: files checked, and recognised when they are met again."""

import errno
import io
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
"""Folder of the package fastlm; its parent is the checkout, if there is one."""

StrPath = str | os.PathLike[str]

# They end a line, steer a terminal, turn the direction of writing, or stand for bytes of no UTF-8.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def check_file(path: StrPath) -> None:
    """Raise FileNotFoundError if there is no file at the path."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"expected a file at {path}: there is none")


def spell(text: StrPath) -> str:
    """Return a path, or a line with paths, with escapes for what would break or colour the line.

    The result can be written as UTF-8.

    >>> spell("two\\nlines")
    'two\\\\nlines'
    """
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), os.fspath(text))


def open_to_read(path: StrPath) -> io.BufferedReader:
    """Open a regular file; a pipe that has its name is refused, where open() waits for a writer.

    Raises:
        OSError: if it cannot be opened, or is no regular file.
    """
    return open(path, "rb", opener=_open_regular)


def read_bytes(path: StrPath) -> bytes:
    """Read a whole file, as open_to_read opens it."""
    with open_to_read(path) as file:
        return file.read()


def _open_regular(path: str, flags: int) -> int:
    handle = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return handle
    os.close(handle)
    number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
    raise OSError(number, "expected a regular file", path)


def identify(path: StrPath) -> list[int]:
    """Return size, modification time and inode, which differ once a file is changed or replaced."""
    found = os.stat(path)
    return [found.st_size, found.st_mtime_ns, found.st_ino]


def identify_exactly(path: StrPath) -> list[int]:
    """Return identify(path), and the time of the last change, which no program can set back.

    That time also changes with the mode of the file and with its number of hard links.
    """
    return [*identify(path), os.stat(path).st_ctime_ns]


def check_unchanged(path: StrPath, seen: Sequence[int]) -> None:
    """Raise a ValueError unless identify(path) is what was seen before a file was read."""
    if identify(path) != list(seen):
        raise ValueError(
            f"{path} must stay as it is while it is read: it has changed; read it again when "
            "nothing writes to it"
        )
