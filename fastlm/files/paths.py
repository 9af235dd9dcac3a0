"""Paths that a user gives: patterns expanded, files checked."""

import glob
import os
from collections.abc import Callable, Iterable
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
"""the folder of fastlm; in a checkout its parent is the checkout"""

StrPath = str | os.PathLike[str]


def expand(
    paths: Iterable[StrPath], *, is_wanted: Callable[[Path], bool] = Path.is_file, wanted: str
) -> list[Path]:
    """The paths, each once, with the files a pattern matches, sorted, in the place of the pattern.

    A pattern has *, ? or [...] in it and is no path that exists; ** stands for folders in all
    depths. What does not begin with a dot is matched alone.

    Args:
        is_wanted: which of the matches to take.
        wanted: what these are, for the error.
    Raises:
        FileNotFoundError: for a pattern that matches no such file.
    """
    expanded: list[Path] = []
    for path in paths:
        if not glob.has_magic(str(path)) or Path(path).exists():
            expanded.append(Path(path))
            continue
        matches = sorted(map(Path, glob.iglob(str(path), recursive=True)))
        files = [match for match in matches if is_wanted(match)]
        if not files:
            raise FileNotFoundError(f"{path}: expected a pattern that matches {wanted}, found none")
        expanded += files
    return list(dict.fromkeys(expanded))


def check_file(path: StrPath) -> None:
    """Raise FileNotFoundError where there is no file."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"expected a file at {path}: there is none")


def identify(path: StrPath) -> list[int]:
    """Size, time of the last change and inode of a file: another or a changed one differs."""
    found = os.stat(path)
    return [found.st_size, found.st_mtime_ns, found.st_ino]
