"""Every run says how it ended, and one that trained nothing is not finished."""

import functools
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from short_runs import config, interrupted_after, same, simulate_clock, validations, weights

from fastlm.checkpoint import KEPT
from fastlm.checkpoint.saver import Saver
from fastlm.data import open_prepared
from fastlm.devices.ranks import Ranks
from fastlm.files.step_folders import run_checkpoints, step_of
from fastlm.files.tokens import DataLost
from fastlm.runs.record import RunRecord
from fastlm.runs.run_files import RunFiles
from fastlm.runs.state import state_of
from fastlm.train import command, train
from fastlm.train.assemble import set_up
from fastlm.train.signals import StopRequest
from fastlm.train.trainer import Trainer


def end_lines(told: str) -> list[str]:
    return [line for line in told.splitlines() if "; stopped by " in line]


def test_a_budget_that_is_gone_before_the_first_step_is_not_a_finished_run(data, tmp_path, capsys):
    """It exits with 1, says what took the time, saves nothing, and can begin anew."""
    run, run_config = tmp_path / "run", config(data, max_steps=None, time_budget=50.0)
    began = time.perf_counter() - 100.0
    with StopRequest() as stop:
        code = command._exit_code(
            run_config,
            run,
            resume=False,
            started=began,
            ranks=Ranks(),
            setup=set_up(run_config),
            stop=stop,
        )
    assert code == 1
    told = capsys.readouterr().err
    (error,) = [line for line in told.splitlines() if line.startswith("error: ")]
    assert error.startswith("error: no step fits the time budget of 50.0 s, nothing was trained: ")
    assert " s for the start, " in error
    assert " s for the last step, validation and checkpoint" in error
    assert error.endswith("; give a longer --time-budget")
    assert told.splitlines()[-1] == "0 steps, 0 tokens; stopped by the time budget"
    assert not list(RunFiles(run).checkpoints.glob("*"))
    assert not RunFiles(run).sample.exists()
    assert state_of(run).name == "stopped"
    assert state_of(run).reason == (
        "no step fits its time budget: --resume auto with a longer one begins it anew"
    )
    assert train(config(data, max_steps=1), run, resume=True).finished


def test_what_takes_the_time_is_told_longest_first(data, tmp_path, monkeypatch, capsys):
    """Compiling took most of it: leaving it out is the remedy."""
    from fastlm.train.loop import Training

    warm_up = Training.warm_up

    def slowly(self):
        warm_up(self)
        self.start_seconds["compiling"] = 82.0
        self.clock.started -= 82.0

    monkeypatch.setattr(Training, "warm_up", slowly)
    summary = train(config(data, max_steps=None, time_budget=80.0), tmp_path / "run")
    assert (summary.finished, summary.saved, summary.step) == (False, False, 0)
    told = capsys.readouterr().err
    assert "nothing was trained: 82.0 s for compiling, " in told
    assert "give a longer --time-budget, or leave out --compile" in told


def test_a_run_that_takes_longer_than_its_budget_says_so(data, tmp_path, monkeypatch, capsys):
    """The last validation is slower than training: it takes 30 s."""
    n_tokens = len(open_prepared(data).val.tokens)
    simulate_clock(monkeypatch, window_seconds=1 / 8, eval_seconds_per_token=30.0 / n_tokens)
    run_config = config(data, max_steps=None, time_budget=20.0, eval_every=1000, log_every=1)
    summary = train(run_config, tmp_path / "run", clock_started=0.0)
    assert summary.elapsed_seconds > 30.0
    told = capsys.readouterr().err
    over = summary.elapsed_seconds - 20.0
    assert f"warning: the time budget of 20.0 s was exceeded by {over:,.1f} s" in told
    (line,) = end_lines(told)
    assert line == told.splitlines()[-1]
    assert line == (
        f"{summary.step} steps, {summary.tokens:,} tokens, validation loss {summary.val_loss:.4f}, "
        f"{summary.bits_per_byte:.4f} bits per byte; stopped by the time budget"
    )


@pytest.mark.parametrize(
    ("budget", "told"),
    [
        ({}, r"the step budget is used up; {resume} --max-steps 40"),
        ({"max_steps": 7}, r"the step budget is used up; {resume} --max-steps 40"),
        (
            {"max_tokens": 9999, "time_budget": 4000.5},
            r"the step budget is used up; {resume} --max-steps 40 --max-tokens 9999 --time-budget 4000\.5s",
        ),
        (
            {"max_steps": None, "max_tokens": 5120},
            r"the token budget is used up; {resume} --max-tokens 10240",
        ),
        (
            {"max_steps": None, "time_budget": 50.0},
            (
                r"the time budget of 50\.0 s is used up \(\d+\.\d s before it was resumed, \d+\.\d s "
                r"since\); {resume} --time-budget 2\d\ds"
            ),
        ),
    ],
    ids=["steps", "fewer steps", "other budgets", "tokens", "time"],
)
def test_a_resumed_run_that_takes_no_step_says_so(budget, told, finished, data, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(finished[0], run)
    began = time.perf_counter() - 100.0
    summary = train(config(data, **budget), run, resume=True, clock_started=began)
    assert (summary.step, summary.finished) == (20, True)
    note, end = capsys.readouterr().err.splitlines()[-2:]
    resume = re.escape(f"python -m fastlm.train --resume {run}")
    assert re.fullmatch(f"note: no step was added: {told.format(resume=resume)} goes on", note)
    assert end.startswith("20 steps, 5,120 tokens, validation loss ")
    assert validations(run) == validations(finished[0])  # the last one is repeated, not logged


@pytest.mark.parametrize(
    ("minutes", "expected"), [(1.0, [6, 12, 18]), (2.0, [12]), (None, [])], ids=str
)
def test_checkpoints_are_written_by_the_clock(minutes, expected, data, tmp_path, monkeypatch):
    """A step takes 10 s: the checkpoint is as old as asked for when the next one is taken."""
    simulate_clock(monkeypatch, window_seconds=10.0 / 8)
    saved, save = [], Saver.save
    monkeypatch.setattr(
        Saver, "save", lambda self, snapshot, **how: (saved.append(snapshot.step), save(self, snapshot, **how))[1]
    )  # fmt: skip
    run_config = config(
        data, checkpoint_every=1000, checkpoint_minutes=minutes, log_every=1, eval_every=1000
    )
    train(run_config, tmp_path / "run", clock_started=0.0)
    assert saved == [*expected, 20]


def test_the_clock_of_the_first_process_decides_for_all():
    """It goes with what is agreed upon before each step anyway."""
    from types import SimpleNamespace

    from fastlm.train.stopping import Stopping

    sent = []

    class Second(Ranks):
        def largest(self, *values):
            sent.append(values)
            return [values[0], 0.25, 1.0]  # what the first process sends

    budget = SimpleNamespace(
        config=SimpleNamespace(stage=lambda now: 0), progress_after=lambda step, now: now
    )
    decision = Stopping(budget, StopRequest(), Second(1, 2)).decide(3, 3)
    assert decision == (None, True, 0, 0.25)
    assert sent == [(0, 0.0, False)]


def test_a_picture_or_a_sample_that_fails_is_a_warning(data, tmp_path, monkeypatch, capsys):
    def fail(*_, **__):
        raise RuntimeError("no such\nbackend")

    monkeypatch.setattr("fastlm.train.finishing.plot_curves", fail)
    files = RunFiles(tmp_path / "run")
    files.sample.mkdir(parents=True)
    assert train(config(data, max_steps=1), files.folder).finished
    told = capsys.readouterr().err.splitlines()
    warned = [line for line in told if line.startswith("warning: ")]
    assert warned[0] == f"warning: {files.curve} is not written (RuntimeError: no such backend)"
    assert warned[1].startswith(f"warning: {files.sample} is not written (IsADirectoryError: ")
    assert told[-1].endswith("; stopped by the step budget")


def rewrite(path: Path) -> None:
    with open(path, "r+b") as file:
        first = file.read(2)
        file.seek(0)
        file.write(first)
    os.utime(path, ns=(1, 1))  # also on a file system whose clock is slow


def replace(path: Path) -> None:
    copy = shutil.copy(path, path.with_name("copy"))
    os.replace(copy, path)


def cut(path: Path) -> None:
    os.truncate(path, 1000)


def fill(path: Path) -> None:
    with open(path, "r+b") as file:
        file.write(b"\xff" * path.stat().st_size)


@pytest.mark.parametrize(
    ("change", "name", "told"),
    [
        (cut, "train.bin", r"train.bin was cut while it is read: it has 1000 bytes, expected \d+"),
        (cut, "val.bin", r"val.bin was cut while it is read: it has 1000 bytes, expected \d+"),
        (fill, "train.bin", r"the training data .* have the id 65535, expected ids below \d+"),
    ],
)
def test_data_that_cannot_be_read_any_more_end_a_run_that_is_saved(
    change, name, told, data, finished, tmp_path, monkeypatch
):
    """To read beyond the end of a mapped file would kill the process without a word."""
    mine = Path(shutil.copytree(data, tmp_path / "d"))
    original, whole = Trainer.train_step, (mine / name).read_bytes()

    def step(self, stream, **place):
        if self.step == 7:
            change(mine / name)
        return original(self, stream, **place)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", step)
        with pytest.raises(DataLost, match=rf"^\S*{told}; step \d+ is saved: put the data back"):
            train(config(mine), tmp_path / "run")
    (mine / name).write_bytes(whole)
    assert int(run_checkpoints(tmp_path / "run/checkpoints")[-1].name[-6:]) >= 7
    assert train(config(mine), tmp_path / "run", resume=True).finished
    assert same(weights(tmp_path / "run"), weights(finished[0]))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (rewrite, "was written to while it is read"),
        (replace, "was replaced: it is read as it was"),
        (Path.unlink, "was removed: it is read as it was"),
    ],
)
def test_data_that_are_changed_during_a_run_are_told_once(
    change, told, data, tmp_path, monkeypatch, capsys
):
    mine = Path(shutil.copytree(data, tmp_path / "d"))
    original = Trainer.train_step

    def step(self, stream, **place):
        if self.step == 3:
            change(mine / "val.bin")
        return original(self, stream, **place)

    monkeypatch.setattr(Trainer, "train_step", step)
    assert train(config(mine, max_steps=10), tmp_path / "run").finished
    lines = [line for line in capsys.readouterr().err.splitlines() if told in line]
    assert len(lines) == 1
    assert lines[0].startswith(f"warning: {mine / 'val.bin'} {told}; the run can be resumed,")
    rows = [row for row in RunRecord(tmp_path / "run").rows() if row["kind"] == "data changed"]
    assert [row["step"] for row in rows] == [5]  # at the next checkpoint


def zero(path: Path) -> None:
    rewrite(path)
    path.write_bytes(bytes(path.stat().st_size))


def names_of_checkpoints(run: Path) -> list[int]:
    return [step_of(path) for path in run_checkpoints(run / "checkpoints")]


@pytest.fixture
def damaged(data, tmp_path, monkeypatch) -> Callable[..., Path]:
    """Trains in tmp_path/run on a copy of the data; files are written to during some steps."""
    mine = Path(shutil.copytree(data, tmp_path / "d"))

    def train_on(changes: dict[int, str], *, resume=False, stopped_in=0, **settings) -> Path:
        train_step = Trainer.train_step

        def step(self, stream, **place):
            if self.step in changes:
                zero(mine / changes[self.step])
            return train_step(self, stream, **place)

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "train_step", step)
            how = functools.partial(interrupted_after, stopped_in) if stopped_in else train
            how(config(mine, **settings), tmp_path / "run", resume=resume)
        for name in changes.values():
            shutil.copy(data / name, mine / name)
        return tmp_path / "run"

    return train_on


def test_the_last_checkpoint_before_the_data_were_written_to_is_kept(damaged, finished, capsys):
    """One for each process that notices; going on from it, the run is as if nothing had been."""
    run = damaged({6: "train.bin", 17: "val.bin"})
    kept = run / "checkpoints/step-000005"
    told = [line for line in capsys.readouterr().err.splitlines() if "written to" in line]
    assert [f"; {kept}, from before that, is kept; the run can" in line for line in told] == [
        True,
        False,
    ]
    assert names_of_checkpoints(run) == [5, 15, 20]
    rows = [row for row in RunRecord(run).rows() if row["kind"] == "data changed"]
    assert [row.get("kept") for row in rows] == ["step-000005", None]
    damaged({27: "train.bin"}, max_steps=30, resume=True)
    assert names_of_checkpoints(run) == [5, 20, 25, 30]
    told = capsys.readouterr().err
    assert f"warning: the data were written to after {kept.name}, and step-000020 may" in told
    damaged({}, max_steps=20, resume=kept)
    assert names_of_checkpoints(run) == [15, 20]  # the run has gone on from what was kept
    assert same(weights(run), weights(finished[0]))
    capsys.readouterr()
    damaged({}, max_steps=21, resume=True)
    assert "written to" not in capsys.readouterr().err


def test_a_run_that_a_signal_stops_looks_at_its_data_before_the_last_checkpoint(damaged, capsys):
    run = damaged({5: "train.bin"}, stopped_in=7, checkpoint_keep=1, checkpoint_every=4)
    assert names_of_checkpoints(run) == [4, 7]
    told = capsys.readouterr().err
    assert f"{run / 'checkpoints/step-000004'}, from before that, is kept" in told


def test_no_checkpoint_of_another_run_is_marked(finished, tmp_path):
    """A link to one is left out, as what is written there would be written to that run."""
    other = shutil.copytree(finished[0], tmp_path / "other")
    folder = tmp_path / "run/checkpoints"
    folder.mkdir(parents=True)
    (folder / "step-000020").symlink_to(other / "checkpoints/step-000020")
    saver = Saver(folder, keep=2)
    assert saver.keep_newest() is None
    shutil.copytree(other / "checkpoints/step-000015", folder / "step-000015")
    assert saver.keep_newest() == folder / "step-000015"
    assert not list(other.rglob(KEPT))
