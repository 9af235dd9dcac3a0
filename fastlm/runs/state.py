"""The state of a run, decided here alone from the files of the run.

Damaged and missing files are no errors: a file that cannot be read counts as missing.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from fastlm.files import disk
from fastlm.files.step_folders import newest_step
from fastlm.runs.found import changed_at, number, read_log, try_read_object
from fastlm.runs.run_files import RunFiles

StateName = Literal[
    "waiting", "running", "finished", "stopped", "diverged", "broken off", "imported"
]

IMPORTED = "imported"
"""Name in place of a recipe's in the configuration of an imported model."""

SILENT_SECONDS = 900.0
"""Seconds without a new row after which a run without a recorded end is taken to be dead."""
CLOCK_SKEW_SECONDS = 60.0
"""Seconds that the clock of a file server may be ahead"""

_GO_ON = "; --resume auto goes on"


class RunState(NamedTuple):
    """The state of a run and an explanation for people, empty if the name says all."""

    name: StateName
    reason: str = ""

    @property
    def is_final(self) -> bool:
        """Whether the run has ended and cannot be resumed."""
        return self.name in ("finished", "diverged")


class LogEnd(NamedTuple):
    """The last row and the highest step of a log; empty and 0 for a log without rows."""

    row: Mapping[str, Any] = {}
    step: float = 0.0

    @classmethod
    def of_rows(cls, rows: Sequence[Mapping[str, Any]]) -> "LogEnd":
        """Return the end of a log with these rows."""
        return cls(rows[-1], max(number(row.get("step")) or 0.0 for row in rows)) if rows else cls()


def state_of(folder: Path, *, end: LogEnd | None = None, is_over: bool = False) -> RunState:
    """Return the state of the run in a folder, which need not exist.

    The first line of the table that applies decides. A run that goes on has removed the summary and
    the failure of its former end.

    ==========  ==================================================================================
    state       its files
    ==========  ==================================================================================
    broken off  summary.json says that its last step was not saved, and no checkpoint has it
    finished    summary.json says so
    stopped     summary.json says otherwise: a signal or the end of a job, after which it can go on
    diverged    the log ends with a step that was not finite, which a file of its own describes
    broken off  failed.json: its process ended with an error that a sweep has seen
    waiting     neither a log nor a configuration: it has not begun
    imported    its configuration says so, and its log has no row: another tool made its weights
    running     a row, or else the configuration, is at most SILENT_SECONDS old, see is_silent
    broken off  none of these: its process was killed, or its machine went down
    ==========  ==================================================================================

    Args:
        end: end of its log, if that was read already.
        is_over: whether the run is known to have no process, so that it is not running.
    """
    files = RunFiles(folder)
    end = LogEnd.of_rows(read_log(folder).rows) if end is None else end
    summary = try_read_object(files.summary, [])
    if summary:
        if summary.get("step") == 0 and summary.get("stopped_by") == "time budget":
            told = "no step fits its time budget: --resume auto with a longer one begins it anew"
            return RunState("stopped", told)
        if _is_unsaved(files, summary):
            return RunState("broken off", f"its last step is not saved{_failure(files)}{_GO_ON}")
        if summary.get("finished") is True:
            return RunState("finished")
        return RunState("stopped", f"stopped by {summary.get('stopped_by')}{_GO_ON}")
    step = number(end.row.get("step"))
    is_bad = end.row.get("kind") == "not finite" and step is not None
    if is_bad and files.nonfinite_step(f"{step:.0f}").is_file():
        return RunState("diverged", f"loss or gradients are not finite at step {step:,.0f}")
    if files.failed.is_file():
        return RunState("broken off", f"its process ended with an error{_failure(files)}")
    if not files.log.is_file() and not files.config.is_file():
        return RunState("waiting")
    if not end.row and try_read_object(files.config, []).get("recipe") == IMPORTED:
        return RunState("imported", "its weights are another tool's; --init-from begins with them")
    if not is_over and not is_silent(folder):
        return RunState("running")
    return RunState("broken off", f"no summary and no new row for a while{_GO_ON}")


def _is_unsaved(files: RunFiles, summary: Mapping[str, Any]) -> bool:
    """Return whether the weights that a summary tells of are in no checkpoint: saving failed."""
    if summary.get("saved") is not False:
        return False
    # The checkpoint before an average has the weights of the last step alone.
    newest = newest_step(files.checkpoints)
    return newest is None or newest != summary.get("step") or bool(summary.get("n_averaged"))


def _failure(files: RunFiles) -> str:
    """Return the error that a sweep has seen, as the end of a line; empty if there is none."""
    last = try_read_object(files.failed, []).get("last")
    return f": {last}" if isinstance(last, str) else ""


def is_silent(folder: Path) -> bool:
    """Return whether a run wrote no row (before the first: no file) for SILENT_SECONDS.

    A row from the future, as where a clock was set back, tells no age: more than
    CLOCK_SKEW_SECONDS ahead, whether a process holds the lock of the run decides.
    """
    files = RunFiles(folder)
    age = time.time() - (changed_at(files.log) or changed_at(files.config))
    return age > SILENT_SECONDS or (age < -CLOCK_SKEW_SECONDS and not disk.is_locked(folder))
