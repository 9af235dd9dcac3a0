"""The state of a run: every line of the table of fastlm.runs.state, and what damage does to it."""

import json
import os
import time
from pathlib import Path
from typing import Any, get_args

import pytest
from made_runs import eval_row, lines, train_row, write_run

from fastlm.config import TrainConfig
from fastlm.files import disk
from fastlm.files.destination import LOCK
from fastlm.files.step_folders import step_folder
from fastlm.runs.record import RunRecord
from fastlm.runs.run_files import RunFiles
from fastlm.runs.state import SILENT_SECONDS, LogEnd, StateName, is_silent, state_of

BAD = train_row(12, kind="not finite", loss=None)


def made(
    folder: Path,
    rows: list[dict[str, Any]] | None = None,
    *,
    summary: dict[str, Any] | None = None,
    failed: dict[str, Any] | None = None,
    described: int | None = None,
    saved: int | None = None,
    config: dict[str, Any] | None = None,
    age: float = 0.0,
) -> Path:
    """A run whose log was last written so many seconds ago, what tells of its end a moment later."""
    run = write_run(
        folder, [train_row(10)] if rows is None else rows, config=config, is_finished=False
    )
    files = RunFiles(run)
    written = time.time() - age
    for path, values in ((files.summary, summary), (files.failed, failed)):
        if values is not None:
            path.write_text(json.dumps(values))
            os.utime(path, (written + 1,) * 2)
    if saved is not None:
        (files.checkpoints / step_folder(saved)).mkdir(parents=True)
    if described is not None:
        files.nonfinite_step(described).write_text("{}")
    for path in (files.config, files.log):
        os.utime(path, (written,) * 2)
    return run


def later(path: Path, *, seconds: float) -> None:
    os.utime(path, (path.stat().st_mtime + seconds,) * 2)


FINISHED, STOPPED = {"finished": True, "step": 10}, {"finished": False, "step": 10, "stopped_by": "SIGTERM"}  # fmt: skip
LONG = SILENT_SECONDS + 60
# Each entry maps a description to the files of a run and the state it is in.
TABLE: dict[str, tuple[dict[str, Any], StateName]] = {
    "summary of the end": ({"summary": FINISHED}, "finished"),
    "the same, long ago": ({"summary": FINISHED, "age": 1e6}, "finished"),
    "summary of a stop": ({"summary": STOPPED}, "stopped"),
    "the same, long ago, as of a job in a queue": ({"summary": STOPPED, "age": 1e6}, "stopped"),
    "its last checkpoint failed": ({"summary": {**FINISHED, "saved": False}}, "broken off"),
    "a failed checkpoint that a sweep saw": ({"summary": {**FINISHED, "saved": False}, "failed": {"exit_code": 1}}, "broken off"),
    "the same, and an earlier step is saved": ({"summary": {**FINISHED, "saved": False}, "saved": 5}, "broken off"),
    "the same, and the last step was saved before": ({"summary": {**FINISHED, "saved": False}, "saved": 10}, "finished"),
    "that step is saved without the average": ({"summary": {**FINISHED, "saved": False, "n_averaged": 4}, "saved": 10}, "broken off"),
    "the same, and the step is not told": ({"summary": {"finished": True, "saved": False}}, "broken off"),
    "the last checkpoint of a stop failed": ({"summary": {**STOPPED, "saved": False}}, "broken off"),
    "nothing was trained": ({"summary": {**STOPPED, "step": 0, "stopped_by": "time budget", "saved": False}}, "stopped"),
    "its weights are elsewhere": ({"summary": {**FINISHED, "saved": True}}, "finished"),
    "a step was left out on the way": ({"rows": [BAD, train_row(20)], "summary": {"finished": True, "step": 20}}, "finished"),
    "a step that is not finite, described": ({"rows": [train_row(10), BAD], "described": 12}, "diverged"),
    "the same step, long ago": ({"rows": [train_row(10), BAD], "described": 12, "age": 1e6}, "diverged"),
    "the same, seen by a sweep": ({"rows": [train_row(10), BAD], "described": 12, "failed": {"exit_code": 1}}, "diverged"),
    "a step that is not finite, left out so far": ({"rows": [train_row(10), BAD]}, "running"),
    "another step is described": ({"rows": [train_row(10), BAD], "described": 11}, "running"),
    "it went on after one": ({"rows": [BAD, train_row(20)], "described": 12}, "running"),
    "failed": ({"failed": {"exit_code": 1, "last": "error: out of memory"}}, "broken off"),
    "failed before its first row": ({"rows": [], "failed": {"exit_code": 1}}, "broken off"),
    "a new row": ({}, "running"),
    "no row yet": ({"rows": []}, "running"),
    "no row for long": ({"age": LONG}, "broken off"),
    "weights of another tool": ({"rows": [], "config": {"recipe": "imported"}}, "imported"),
    "the same weights, long ago": ({"rows": [], "config": {"recipe": "imported"}, "age": LONG}, "imported"),
    "no row at all for long": ({"rows": [], "age": LONG}, "broken off"),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLE)
def test_the_state_is_the_one_of_the_table(case, tmp_path):
    how, expected = TABLE[case]
    run = made(tmp_path / "run", **how)
    found = state_of(run)
    assert found.name == expected
    assert bool(found.reason) == (expected not in ("finished", "running", "waiting"))
    assert found.is_final == (expected in ("finished", "diverged"))
    assert state_of(run, end=LogEnd.of_rows(RunRecord(run).rows())) == found
    # A caller who knows that the process has ended need not wait for silence.
    told = "broken off" if expected == "running" else expected
    assert state_of(run, is_over=True).name == told


def test_a_run_that_has_not_begun_is_waiting(tmp_path):
    assert state_of(tmp_path / "nowhere").name == "waiting"
    (tmp_path / "run").mkdir()
    RunFiles(tmp_path / "run").output.write_text("")  # a sweep has made the folder
    assert state_of(tmp_path / "run").name == "waiting"
    RunFiles(tmp_path / "run").failed.write_text('{"exit_code": 1}')
    assert state_of(tmp_path / "run").name == "broken off"


@pytest.mark.parametrize("rows", [None, []])
def test_a_run_with_files_from_the_future_is_running_while_its_lock_is_held(rows, tmp_path):
    """As where the clock was set back, or a file server's is ahead; nothing is made to find out."""
    run = made(tmp_path / "run", rows, age=-1e6)
    files = sorted(tmp_path.rglob("*"))
    assert (state_of(run).name, is_silent(run)) == ("broken off", True)
    (tmp_path / f"{LOCK}run").touch()  # as kill -9 leaves it
    assert state_of(run).name == "broken off"
    (tmp_path / f"{LOCK}run").unlink()
    assert sorted(tmp_path.rglob("*")) == files
    with disk.locked(run):
        assert (state_of(run).name, is_silent(run)) == ("running", False)
    assert state_of(made(tmp_path / "ahead", rows, age=-20)).name == "running"


def test_every_word_is_one_of_the_seven():
    words = {expected for _, expected in TABLE.values()} | {"waiting"}
    assert words == set(get_args(StateName))
    assert len(words) == 7


@pytest.mark.parametrize("begins_anew", [False, True])
def test_what_is_over_is_taken_up_again(begins_anew, tmp_path):
    """Nothing tells any more that it has ended, whatever the times of its files are."""
    for name, how in (
        ("stopped", {"summary": STOPPED}),
        ("failed", {"failed": {"exit_code": 1}}),
        ("unsaved", {"summary": {**FINISHED, "saved": False}, "failed": {"exit_code": 1}}),
    ):
        run = made(tmp_path / name, **how)
        assert state_of(run).name in ("stopped", "broken off")
        record = RunRecord(run)
        if begins_anew:
            record.start(TrainConfig(max_steps=3), {})
        else:
            assert record.reopen() == how.get("summary", {})
            assert record.cut(10) == 0
            record.settle()
            assert not record.files.former_summary.exists()
        assert state_of(run).name == "running"


def test_the_reason_tells_what_happened(tmp_path):
    stopped = made(tmp_path / "a", summary=STOPPED)
    assert state_of(stopped).reason == "stopped by SIGTERM; --resume auto goes on"
    diverged = made(tmp_path / "b", [BAD], described=12)
    assert state_of(diverged).reason == "loss or gradients are not finite at step 12"
    unsaved = {"summary": {**FINISHED, "saved": False}}
    without = made(tmp_path / "d", **unsaved)
    assert state_of(without).reason == "its last step is not saved; --resume auto goes on"
    seen = made(tmp_path / "e", **unsaved, failed={"exit_code": 1, "last": "error: no room"})
    told = "its last step is not saved: error: no room; --resume auto goes on"
    assert state_of(seen).reason == told
    failed = made(tmp_path / "c", failed={"exit_code": 1, "last": "error: no room"})
    assert state_of(failed).reason == "its process ended with an error: error: no room"


DAMAGED = ["", "{", "[1]", "null", "[" * 100_000, '{"finished": "yes"', "\udcff"]


@pytest.mark.parametrize("text", DAMAGED)
def test_a_summary_that_cannot_be_read_is_none(text, tmp_path):
    run = made(tmp_path / "run", summary=FINISHED)
    RunFiles(run).summary.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert state_of(run).name == "running"
    later(RunFiles(run).log, seconds=-LONG)
    assert state_of(run).name == "broken off"


@pytest.mark.parametrize("text", DAMAGED)
def test_a_failure_that_cannot_be_read_is_still_one(text, tmp_path):
    run = made(tmp_path / "run", failed={})
    RunFiles(run).failed.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert (state_of(run).name, state_of(run).reason) == ("broken off", "its process ended with an error")  # fmt: skip


@pytest.mark.parametrize(
    "summary",
    [{"finished": True, "step": "ten"}, {"finished": True}, {"finished": True, "step": None}],
)
def test_a_summary_without_a_step_counts_as_it_is(summary, tmp_path):
    run = made(tmp_path / "run", [train_row(10), train_row(99)], summary=summary)
    assert state_of(run).name == "finished"


@pytest.mark.parametrize("value", ["yes", 1, None, [True]])
def test_only_true_is_finished(value, tmp_path):
    run = made(tmp_path / "run", summary={"finished": value, "step": 10})
    assert state_of(run).name == "stopped"


@pytest.mark.parametrize(
    "log",
    [b"", b"\xff\n", b"{}\n[]\n", b'{"step": 1', b'{"step": NaN, "kind": "not finite"}\n', b'{"step": 1%s}\n' % (b"0" * 400)],
)  # fmt: skip
def test_a_damaged_log_decides_nothing(log, tmp_path):
    run = made(tmp_path / "run")
    RunFiles(run).log.write_bytes(log)
    assert state_of(run).name == "running"
    RunFiles(run).summary.write_text(json.dumps(FINISHED))
    assert state_of(run).name == "finished"


def test_a_log_or_a_configuration_may_be_gone_or_be_a_folder(tmp_path):
    run = made(tmp_path / "run", summary=STOPPED)
    RunFiles(run).log.unlink()
    assert state_of(run).name == "stopped"
    RunFiles(run).summary.unlink()
    assert state_of(run).name == "running"  # by the configuration
    assert not is_silent(run)
    RunFiles(run).config.unlink()
    assert state_of(run).name == "waiting"
    RunFiles(run).log.mkdir()
    RunFiles(run).summary.mkdir()
    assert state_of(run).name == "waiting"


def test_the_end_of_a_log_is_its_last_row_and_its_last_step():
    assert LogEnd.of_rows([]) == LogEnd({}, 0.0)
    rows = [train_row(30), {"kind": "train", "step": "x"}, eval_row(20)]
    assert LogEnd.of_rows(rows) == LogEnd(rows[-1], 30)
    assert LogEnd.of_rows(rows[1:2]).step == 0.0


def test_a_run_without_a_summary_says_its_state(tmp_path):
    run = made(tmp_path / "run")
    with pytest.raises(FileNotFoundError, match=r"summary\.json: the run is running"):
        RunRecord(run).summary()
    (run / "log.jsonl").write_text(lines([train_row(1), BAD]))
    RunFiles(run).nonfinite_step(12).write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"summary\.json: the run is diverged"):
        RunRecord(run).summary()
