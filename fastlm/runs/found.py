"""Finding runs on disk, and reading them even if cut off, damaged or still being written.

RunRecord refuses damaged files; here a note reports the damage, and the rest is read.
"""

import json
import math
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastlm.files.json_files import read_json
from fastlm.files.paths import open_to_read
from fastlm.runs.run_files import RunFiles

DEPTH = 3
"""Number of folder levels below a given folder that are searched for runs."""

_TAIL_BYTES = 256
"""Bytes before a position in a log that identify the log."""


def is_run(folder: Path) -> bool:
    """Return whether a folder holds a run, or the remains of one."""
    files = RunFiles(folder)
    return files.log.is_file() or (files.config.is_file() and files.environment.is_file())


def find_runs(paths: Iterable[Path]) -> dict[Path, str]:
    """Return the folders of runs, each with a short unique name.

    Args:
        paths: folders of runs, or folders that contain such folders up to DEPTH levels down.
    Raises:
        FileNotFoundError: if a path is no folder, or holds no run.
    """
    found: dict[Path, str] = {}
    for path in paths:
        check_folder(path)
        runs = list(_runs_below(path, DEPTH))
        if not runs:
            files = RunFiles(path)
            raise FileNotFoundError(
                f"no run in {path}: expected a folder with {files.log.name} and "
                f"{files.config.name}, or one that has such folders in it; "
                "python -m fastlm.train --out RUN makes one"
            )
        _add(found, path, runs)
    return found


def find_runs_to_come(paths: Iterable[Path]) -> dict[Path, str]:
    """Return the same as find_runs, but allow folders without runs, which may begin later."""
    found: dict[Path, str] = {}
    for path in paths:
        _add(found, path, list(_runs_below(path, DEPTH)))
    return found


def check_folder(path: Path) -> None:
    """Check that a path is a folder.

    Raises:
        FileNotFoundError, NotADirectoryError: if it is not.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"no folder {path}: give the folder of a run, or one that has runs in it"
        )
    if not path.is_dir():
        raise NotADirectoryError(f"{path} is a file: give the folder of the run it is in")


def runs_in(folder: Path) -> list[str]:
    """Return the names of the runs below a folder, by their paths from it; none if it is a run."""
    return [
        run.relative_to(folder).as_posix() for run in _runs_below(folder, DEPTH) if run != folder
    ]


def _add(found: dict[Path, str], path: Path, runs: list[Path]) -> None:
    known = {run.resolve() for run in found}
    for run in runs:
        if run.resolve() in known:
            continue
        name = run.relative_to(path).as_posix()
        if name == ".":
            name = run.resolve().name or str(run)
        if name in found.values():
            name = run.as_posix()
        n, base = 2, name
        while name in found.values():
            name, n = f"{base} ({n})", n + 1
        found[run] = name


def _runs_below(folder: Path, depth: int) -> Iterator[Path]:
    if is_run(folder):
        yield folder
        return
    if depth == 0:
        return
    try:
        names = [entry.name for entry in os.scandir(folder) if entry.is_dir()]
    except OSError:
        return  # the folder is not readable, or gone
    for name in sorted(names, key=_natural):
        if not name.startswith("."):
            yield from _runs_below(folder / name, depth - 1)


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Return a sort key that puts seed2 before seed10."""
    pieces = re.split(r"([0-9]{1,18})", name)
    return [(0, int(p)) if p.isascii() and p.isdigit() else (1, p) for p in pieces]


@dataclass(frozen=True)
class Position:
    """A position in a log, with a hash that tells whether the log was rewritten since."""

    offset: int = 0
    check: int = 0


BEGINNING = Position()


@dataclass(frozen=True)
class LogPart:
    """The rows of a log from a position on.

    Attributes:
        rows: complete rows.
        end: position where the next part begins.
        is_new: whether the part starts at the beginning although a later position was given.
        notes: descriptions of lines that could not be read.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    end: Position = BEGINNING
    is_new: bool = False
    notes: list[str] = field(default_factory=list)


def read_log(folder: Path, start: Position = BEGINNING) -> LogPart:
    """Read the rows of a run's log after a position, except an incomplete last line.

    A log that was rewritten since (a resumed run drops rows) is read from its beginning.
    """
    path = RunFiles(folder).log
    try:
        with open_to_read(path) as log:
            is_same = start.offset == 0 or _check(log, start.offset) == start.check
            begin = start.offset if is_same else 0
            log.seek(begin)
            raw = log.read()
            end = begin + raw.rfind(b"\n") + 1
            position = Position(end, _check(log, end))
    except FileNotFoundError:
        return LogPart(is_new=start.offset > 0, notes=[f"no {path.name}"])
    except OSError as error:
        return LogPart(notes=[f"{path.name} cannot be read: {error.strerror}"])
    rows, bad = [], []
    for number, line in enumerate(raw[: end - begin].split(b"\n")[:-1], start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict):
            rows.append(row)
        else:
            bad.append(number)
    notes = []
    if bad:
        where = f"line {bad[0]:,}" if begin == 0 else f"a line after byte {begin:,}"
        others = f" and {len(bad) - 1:,} others" if len(bad) > 1 else ""
        notes.append(f"{where} of {path.name}{others} cannot be read: left out")
    return LogPart(rows, position, not is_same, notes)


def _check(log: Any, offset: int) -> int:
    """Return a hash of the bytes before an offset, which differs if the log is shorter."""
    begin = max(0, offset - _TAIL_BYTES)
    log.seek(begin)
    tail = log.read(offset - begin)
    return zlib.crc32(tail) if len(tail) == offset - begin else -1


def try_read_object(path: Path, notes: list[str], *, is_expected: bool = True) -> dict[str, Any]:
    """Read a JSON object; if it cannot be read, add a note and return an empty one.

    Args:
        notes: list to which a description of the problem is added.
        is_expected: whether a missing file is noted.
    """
    try:
        values = read_json(path)
    except FileNotFoundError:
        if is_expected:
            notes.append(f"no {path.name}")
        return {}
    except OSError as error:
        notes.append(f"{path.name} cannot be read: {error.strerror}")
        return {}
    except ValueError:
        notes.append(f"{path.name} is cut off or damaged: left out")
        return {}
    if not isinstance(values, dict):
        notes.append(f"{path.name} is no object: left out")
        return {}
    return values


def number(value: Any) -> float | None:
    """Return a value as a finite number, or None if it is not one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:
        return None


def changed_at(path: Path) -> float:
    """Return when a file was last written, in seconds since the epoch; 0 if there is no file."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
