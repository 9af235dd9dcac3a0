"""Paths that a user gives: patterns expanded, files checked."""

import glob
import os
from collections.abc import Callable, Iterable
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
"""Folder of the package fastlm; its parent is the checkout, if there is one."""

StrPath = str | os.PathLike[str]


def expand(
    paths: Iterable[StrPath], *, is_wanted: Callable[[Path], bool] = Path.is_file, wanted: str
) -> list[Path]:
    """Return the paths, each once; sorted matches replace a pattern.

    A pattern contains *, ? or [...] and is no existing path; ** stands for folders at any depth.
    Names that begin with a dot are not matched.

    Args:
        is_wanted: tells whether a match is taken.
        wanted: description of the files, for the error.
    Raises:
        FileNotFoundError: if a pattern matches no such file.
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
    """Raise FileNotFoundError if there is no file at the path."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"expected a file at {path}: there is none")


def identify(path: StrPath) -> list[int]:
    """Return size, modification time and inode, which differ once a file is changed or replaced."""
    found = os.stat(path)
    return [found.st_size, found.st_mtime_ns, found.st_ino]
