"""What state a run is in: one word, decided here alone by the files of the run.

Damaged and missing files are no errors: what cannot be read is taken as not there.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from fastlm.runs.found import changed_at, number, read_log, read_object
from fastlm.runs.run_files import RunFiles

StateName = Literal["waiting", "running", "finished", "stopped", "diverged", "broken off"]

SILENT_SECONDS = 900.0
"""without a new row, after which a run is taken to be dead if nothing tells of its end"""


class RunState(NamedTuple):
    """The state of a run, and how it came to it, for people; empty where the name says all."""

    name: StateName
    reason: str = ""

    @property
    def is_final(self) -> bool:
        """Whether it came to its end: there is nothing to go on with."""
        return self.name in ("finished", "diverged")


class LogEnd(NamedTuple):
    """The last row of a log, and the last step of all; empty and 0 for a log without rows."""

    row: Mapping[str, Any] = {}
    step: float = 0.0

    @classmethod
    def of_rows(cls, rows: Sequence[Mapping[str, Any]]) -> "LogEnd":
        """The end of a log with these rows."""
        return cls(rows[-1], max(number(row.get("step")) or 0.0 for row in rows)) if rows else cls()


def state_of(folder: Path, *, end: LogEnd | None = None, is_over: bool = False) -> RunState:
    """The state of the run in a folder, which need not be there.

    The first line that holds decides. A summary or a failure counts as long as the run did not go
    on after it: the log has no later step, and no resume that was written later.

    ==========  ==================================================================================
    state       its files
    ==========  ==================================================================================
    finished    summary.json says so
    stopped     summary.json says otherwise: a signal or the end of a job, after which it can go on
    diverged    the log ends with a step that was not finite, which a file of its own describes
    broken off  failed.json: its process ended with an error that a sweep has seen
    waiting     neither a log nor a configuration: it has not begun
    running     a row, or else the configuration, is at most SILENT_SECONDS old
    broken off  none of these: its process was killed, or its machine went down
    ==========  ==================================================================================

    Args:
        end: of its log, if that was read already.
        is_over: whether it is known that no process writes there; it is then not running.
    """
    files = RunFiles(folder)
    end = LogEnd.of_rows(read_log(folder).rows) if end is None else end
    summary = read_object(files.summary, [])
    if summary and not _went_on(files, end, files.summary, number(summary.get("step"))):
        if summary.get("finished") is True:
            return RunState("finished")
        return RunState("stopped", f"stopped by {summary.get('stopped_by')}; --resume auto goes on")
    step = number(end.row.get("step"))
    is_bad = end.row.get("kind") == "not finite" and step is not None
    if is_bad and files.nonfinite_step(f"{step:.0f}").is_file():
        return RunState("diverged", f"loss or gradients are not finite at step {step:,.0f}")
    if files.failed.is_file() and not _went_on(files, end, files.failed):
        last = read_object(files.failed, []).get("last")
        told = f": {last}" if isinstance(last, str) else ""
        return RunState("broken off", f"its process ended with an error{told}")
    if not files.log.is_file() and not files.config.is_file():
        return RunState("waiting")
    if not is_over and not is_silent(folder):
        return RunState("running")
    return RunState("broken off", "no summary and no new row for a while: --resume auto goes on")


def is_silent(folder: Path) -> bool:
    """Whether a run has written nothing for SILENT_SECONDS: no row, or before the first no file."""
    files = RunFiles(folder)
    changed = changed_at(files.log) or changed_at(files.config)
    return time.time() - changed > SILENT_SECONDS


def _went_on(files: RunFiles, end: LogEnd, told: Path, step: float | None = None) -> bool:
    """Whether the log goes on after a file that told of the run's end, at a step if that is known.

    The times of copied files may not tell, so that they count for a resume alone.
    """
    if step is not None and end.step > step:
        return True
    is_later = changed_at(files.log) > changed_at(told)
    return is_later and (end.row.get("kind") == "resume" or told == files.failed)
