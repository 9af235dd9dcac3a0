"""Resuming a run: the checkpoint it goes on from, and its folder made ready to go on."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastlm.checkpoint import (
    SavedRun,
    is_kept,
    keep_no_longer,
    read_newest,
    read_run_checkpoint,
    run_checkpoints,
    set_aside,
    step_folder,
    step_of,
)
from fastlm.cli import pasted
from fastlm.config import TrainConfig
from fastlm.devices.ranks import Ranks
from fastlm.runs.found import number, read_log, try_read_object
from fastlm.runs.given import nothing_to_go_on_from
from fastlm.runs.record import RunRecord


def read_saved(
    record: RunRecord, resume: bool | Path, ranks: Ranks, say: Callable[[str], None]
) -> SavedRun | None:
    """Read the checkpoint to resume from: the first process chooses, all read the same.

    Args:
        resume: as in train().
        say: prints a line.
    Raises:
        FileNotFoundError: if the named checkpoint does not exist, the named run has none, or a run
            that was trained has none any more.
    """
    is_named = isinstance(resume, Path)
    path = resume if isinstance(resume, Path) and not _same(resume, record.folder) else None
    saved = None
    if path is None and ranks.is_first:
        saved = read_newest(record.checkpoints, lambda text: say(f"warning: {text}"))
        path = None if saved is None else record.checkpoints / step_folder(saved.step)
        if path is not None and (warning := _kept_before(path)):
            say(warning)
    path = ranks.of_first(path)
    if path is None:
        _check_may_begin(record, is_named=is_named)
        if ranks.is_first and record.exists:
            say(f"note: {record.folder} has no checkpoint yet: the run begins anew")
    elif saved is None:
        saved = read_run_checkpoint(path)
    ranks.wait()  # the first process may change the folder only after all have read
    return saved


def _kept_before(path: Path) -> str:
    """A warning if an earlier checkpoint is kept as the last one before a change of the data."""
    earlier = [kept for kept in run_checkpoints(path.parent) if step_of(kept) < step_of(path)]
    kept = next((kept for kept in reversed(earlier) if is_kept(kept)), None)
    if kept is None:
        return ""
    return (
        f"warning: the data were written to after {kept.name}, and {path.name} may have been "
        f"trained on what they were then: to go back, resume with {pasted('--resume', kept)}"
    )


def _same(a: Path, b: Path) -> bool:
    return a.resolve() == b.resolve()


def _check_may_begin(record: RunRecord, *, is_named: bool) -> None:
    """Refuse to begin anew if the user named the run to resume, or its checkpoints are gone."""
    folder = record.folder
    if is_named:
        raise nothing_to_go_on_from(folder)
    step = _saved_step(record)
    if step:
        raise FileNotFoundError(
            f"{folder} was trained to step {step:,.0f} and has no checkpoint any more: put "
            f"{record.checkpoints} back, or begin a new run with another --out"
        )


def _saved_step(record: RunRecord) -> float:
    """The last step of a run that must have had checkpoints and has none now; otherwise 0.

    It must have had some if its summary says so, if it was resumed, if the folder of checkpoints,
    which is made before the first row, is gone, or if it logged at least twice as many steps as lie
    between two checkpoints.
    """
    summary = try_read_object(record.files.summary, [])
    if summary:
        return (number(summary.get("step")) or 0.0) if summary.get("saved") is not False else 0.0
    rows = read_log(record.folder).rows
    trained = max((number(row.get("step")) or 0.0 for row in rows), default=0.0)
    was_resumed = any(row.get("kind") == "resume" for row in rows)
    is_gone = not record.checkpoints.is_dir()
    every = record.config().checkpoint_every if record.exists else math.inf
    return trained if was_resumed or is_gone or trained >= 2 * every else 0.0


def reopen(
    record: RunRecord,
    config: TrainConfig,
    step: int,
    log: Callable[[dict[str, Any]], None],
    say: Callable[[str], None],
) -> None:
    """Make the folder of a run ready to go on after a step, on the process that writes.

    Killed after any of these changes, the run goes on from its newest checkpoint all the same: it
    never seems to have ended, its configuration is the one it goes on with before a checkpoint is
    set aside or a row is dropped, and its former summary is in a file or in the log.

    Args:
        config: configuration to go on with.
        log: called with the former summary, if there is one, to log the row of the resume.
        say: prints a line.
    """
    summary = record.reopen()
    record.write_config(config)
    for path in set_aside(record.checkpoints, step) if record.is_written else []:
        say(f"note: going back to step {step:,}: {path} is kept")
    if record.is_written:
        keep_no_longer(record.checkpoints / step_folder(step))
    n_bad = record.cut(step)
    if n_bad:
        say(
            f"note: {n_bad:,} lines of {record.files.log.name} are no rows of a step: left out, "
            f"and kept in {record.files.unreadable_log}"
        )
    log({"former_summary": summary} if summary else {})
    record.settle()
