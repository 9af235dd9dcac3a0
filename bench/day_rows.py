"""The record of a part of gpu_day: a row for each piece of work, written as soon as it is known.

A later call goes on where the first one stopped: rows with a result stay. A row that was begun and
has no result says that the process died in it.
"""

import contextlib
import math
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from fastlm.files import disk
from fastlm.files.json_files import read_object, to_json

BEGUN, RIGHT, FAILED = "begun", "right", "failed"

ALL_RIGHT, SOME_FAILED, GPU_LOST, SOME_LATE = 0, 69, 70, 75
"""Exit codes of a program that fills a file of rows; a traceback has the code 1"""


class TooSlow(BaseException):
    """A piece of work used up its time; no `except Exception` in it catches this."""


class Rows:
    """The rows of a file.

    Args:
        path: JSON file; made by the first row.
    Raises:
        ValueError: if the file is there and is no such record.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, dict[str, Any]] = _read_rows(path) if path.exists() else {}
        for row in self.rows.values():
            if row["state"] == BEGUN:
                row |= {"state": FAILED, "why": "the process died in it"}

    def work(self, name: str, do: Callable[[], dict[str, Any]], *, seconds: float) -> None:
        """Do a piece of work that has no result yet, and write what came of it.

        Args:
            do: returns figures for the row, or raises.
            seconds: bound for it, where signals can interrupt it.
        """
        if self.has_result(name, seconds=seconds):
            return
        self._write(name, {"state": BEGUN})
        began = time.perf_counter()
        try:
            with time_limit(seconds):
                row = {"state": RIGHT, **do()}
        except TooSlow:
            failed = {"state": FAILED, "why": f"no result after {seconds:.0f} s"}
            row = self.rows[name] | failed | {"bound": seconds}
        except Exception as error:
            where = traceback.format_exc()[-1500:]
            row = self.rows[name] | {"state": FAILED, "why": one_line(error), "where": where}
        except BaseException:  # asked to stop: a later call does it
            del self.rows[name]
            self.write()
            raise
        self._write(name, row | {"seconds": round(time.perf_counter() - began, 2)})
        print(f"{name}: {row['state']} {row.get('why', '')}".rstrip(), flush=True)

    def has_result(self, name: str, *, seconds: float) -> bool:
        """Whether a piece of work has a result; none in a shorter time than so many is none."""
        row = self.rows.get(name)
        return row is not None and not row.get("bound", math.inf) < 0.9 * seconds

    def add(self, name: str, **figures: Any) -> None:
        """Add figures to the row of a piece of work that is not over."""
        self._write(name, self.rows[name] | figures)

    def _write(self, name: str, row: dict[str, Any]) -> None:
        self.rows[name] = row
        self.write()

    def write(self) -> None:
        """Write the file whole."""
        disk.write_file(self.path, to_json({"rows": self.rows}), replace=True)

    @property
    def failed(self) -> list[str]:
        """Names of the rows that failed."""
        return [name for name, row in self.rows.items() if row["state"] == FAILED]

    def exit_code(self) -> int:
        """ALL_RIGHT, or SOME_LATE if more time would help, or SOME_FAILED."""
        if any("bound" in row for row in self.rows.values()):
            return SOME_LATE
        return SOME_FAILED if self.failed else ALL_RIGHT


def _read_rows(path: Path) -> dict[str, dict[str, Any]]:
    rows = read_object(path).get("rows")
    if not isinstance(rows, dict):
        raise ValueError(f"{path}: expected an object of rows: move the file away")
    for name, row in rows.items():
        if not isinstance(row, dict) or row.get("state") not in (BEGUN, RIGHT, FAILED):
            raise ValueError(f"{path}: row {name!r} has no state: move the file away")
    return rows


def one_line(error: BaseException) -> str:
    """The kind of an error and its text, at most 200 characters."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def exit_by_signal(number: int, frame: object) -> NoReturn:
    """End the process with 128 and the number of a signal, which it handles."""
    sys.exit(128 + number)


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Inside the block TooSlow is raised after so many seconds, as soon as Python runs again."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise TooSlow

    previous = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
