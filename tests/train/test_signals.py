"""A run asked to stop leaves within a step, with exit code 75, and loses nothing."""

import errno
import os
import random
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from short_runs import (
    assert_equal_runs,
    config,
    new_run,
    validations,
)
from signalled_runs import FLAGS, NAMES, run_with_signals

from fastlm.checkpoint import read_newest
from fastlm.devices.ranks import Ranks
from fastlm.evaluate import evaluate_loss
from fastlm.train import command, signals, train
from fastlm.train.budget import Measured
from fastlm.train.saving import Saving
from fastlm.train.signals import SAVED, Stopped, StopRequest
from fastlm.train.stopping import Stopping

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", NAMES)
def test_the_first_signal_is_noted_and_the_second_stops_at_once(name, monkeypatch):
    with StopRequest() as stop:
        signal.raise_signal(signal.Signals[name])
        assert stop.reason == name
        signal.raise_signal(signal.SIGTERM)  # together with the first: passed on by a script
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        monkeypatch.setattr(signals, "TOGETHER_SECONDS", 0.0)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        assert stop.reason == name
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_signal_after_the_end_of_the_job_was_seen_does_not_stop_the_saving():
    with StopRequest(job_ends=time.time()) as stop:
        assert stop.ends_within(5.0)
        signal.raise_signal(signal.SIGUSR1)
        assert stop.reason == signals.END_OF_JOB


def test_a_signal_during_start_up_raises_what_nobody_catches():
    with StopRequest() as stop, stop.raising(), pytest.raises(Stopped, match="SIGUSR2"):
        signal.raise_signal(signal.SIGUSR2)
    assert not issubclass(Stopped, Exception)


@pytest.mark.parametrize("name", ["SIGHUP", "SIGXCPU"])
def test_a_terminal_or_a_limit_that_signals_again_does_not_stop_the_saving(name, monkeypatch):
    monkeypatch.setattr(signals, "TOGETHER_SECONDS", 0.0)
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.Signals[name])
        signal.raise_signal(signal.Signals[name])
        assert stop.reason == "SIGTERM"


@pytest.mark.parametrize("name", ["SIGHUP", "SIGXCPU", "SIGINT", "SIGTERM"])
def test_a_signal_that_is_ignored_from_the_start_stops_nothing(name):
    """As nohup ignores SIGHUP, and a script SIGINT for what it begins with &."""
    number = signal.Signals[name]
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            signal.raise_signal(number)
            signal.raise_signal(signal.SIGPIPE)
            assert stop.reason is None
        assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_a_signal_between_two_parts_of_the_start_is_not_forgotten():
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGHUP)
        with pytest.raises(Stopped, match="SIGHUP"), stop.raising():
            pytest.fail("it went on")


def test_a_process_leaves_although_its_terminal_is_gone(monkeypatch):
    left = []

    def gone(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "write", gone)
    monkeypatch.setattr(os, "_exit", left.append)
    signals._leave(signal.SIGHUP, None)
    assert left == [SAVED]


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, None), ("", None), ("soon", None), ("0", None), ("4102444800", 4102444800.0)],
)
def test_the_end_of_the_job_is_slurms(text, expected, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    if text is not None:
        monkeypatch.setenv("SLURM_JOB_END_TIME", text)
    assert signals.job_end(pytest.fail) == expected


def test_the_end_of_an_earlier_job_ends_no_run(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_END_TIME", "1700000000")
    told = []
    assert signals.job_end(told.append) is None
    assert told == ["SLURM_JOB_END_TIME=1700000000 has passed and is ignored: unset it"]


def signal_in_validation(number: int, monkeypatch) -> None:
    """Send a signal before the first batch of the run's validation of this number."""
    n_validations = 0

    def evaluate(*args, check, **kwargs):
        nonlocal n_validations
        n_validations += 1

        def signalled_check():
            if n_validations == number:
                signal.raise_signal(signal.SIGUSR1)
            check()

        return evaluate_loss(*args, check=signalled_check, **kwargs)

    monkeypatch.setattr("fastlm.train.trainer.evaluate_loss", evaluate)


@pytest.mark.parametrize(("number", "step"), [(2, 10), (4, 20)])
def test_a_validation_cut_short_is_made_up_for(number, step, finished, data, tmp_path, monkeypatch):
    """Stopped on the way or at the end, a resumed run logs each validation exactly once."""
    with monkeypatch.context() as patch:
        signal_in_validation(number, patch)
        summary = train(config(data), tmp_path / "run")
    assert (summary.finished, summary.stopped_by, summary.step) == (False, "SIGUSR1", step)
    assert [row[0] for row in validations(tmp_path / "run")] == [0, 10, 20][: number - 1]
    assert train(config(data), tmp_path / "run", resume=True).finished
    assert_equal_runs(tmp_path / "run", finished[0])


def test_a_signal_in_the_first_validation_leaves_nothing_to_save(data, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        signal_in_validation(1, patch)
        with pytest.raises(Stopped):
            train(config(data), tmp_path / "run")
    assert read_newest(tmp_path / "run/checkpoints", pytest.fail) is None
    assert train(config(data), tmp_path / "run", resume=True).finished


def test_what_was_logged_before_the_first_checkpoint_is_not_there_twice(
    finished, data, tmp_path, monkeypatch
):
    def loop(run, status):
        raise Stopped("SIGTERM")

    with monkeypatch.context() as patch:
        patch.setattr("fastlm.train.run.loop", loop)
        with pytest.raises(Stopped):
            train(config(data), tmp_path / "run")
    assert len(validations(tmp_path / "run")) == 1
    train(config(data), tmp_path / "run", resume=True)
    assert_equal_runs(tmp_path / "run", finished[0])


def test_the_run_leaves_before_its_job_ends(finished, data, tmp_path, monkeypatch):
    """It saves, is not finished, and is resumed to the same end; each reading of the clock takes a second."""
    now = 1000.0

    def a_second_later() -> float:
        nonlocal now
        now += 1.0
        return now

    clock = SimpleNamespace(time=a_second_later, monotonic=time.monotonic)
    with monkeypatch.context() as patch:
        patch.setattr(signals, "time", clock)
        summary = train(config(data), tmp_path / "run", job_ends=1025.0)
    assert (summary.finished, summary.stopped_by) == (False, "the end of the job")
    # A clean stop is given 10 s, what checkpoints take and two steps.
    assert 1003.0 < now < 1025.0 - 8.0
    assert read_newest(tmp_path / "run/checkpoints", pytest.fail).step == summary.step
    assert 0 < summary.step < 20
    assert train(config(data), tmp_path / "run", resume=True).finished
    assert_equal_runs(tmp_path / "run", finished[0])


def test_a_stop_takes_into_account_what_saving_takes(data, tmp_path):
    run = new_run(config(data), tmp_path)
    run.budget.window_seconds = Measured(0.5)
    run.saving.saver.expect(20.0)
    assert run.budget.stop_seconds == pytest.approx(2 * 0.5 * 8 + 2 * 20.0 + 10.0)
    for seconds, reason in ((100, None), (57, "the end of the job")):
        request = StopRequest(job_ends=time.time() + seconds)
        assert Stopping(run.budget, request, Ranks()).asked() == reason


def test_a_step_already_saved_is_not_written_again(data, tmp_path, monkeypatch):
    n_saved = 0
    original = Saving.save

    def save(self, **options):
        nonlocal n_saved
        n_saved += 1
        return original(self, **options)

    monkeypatch.setattr(Saving, "save", save)
    train(config(data), tmp_path / "run")
    assert n_saved == 4


@pytest.mark.slow
def test_signals_at_random_moments_lose_no_step(data, tmp_path):
    rng = random.Random(0)
    command.main([*FLAGS, "--data", str(data), "--out", str(tmp_path / "whole")])
    # In start-up, and at some of 300 steps: one of 20 has a validation, one of 7 a checkpoint. The
    # log tells how far a run is, since a fast machine is done soon after its start.
    moments = [(0, rng.uniform(0.0, 0.3)), (3, 0.0), (100, rng.uniform(0.0, 0.1))]
    codes = run_with_signals(data, tmp_path / "run", moments, rng)
    assert codes == [SAVED] * 3 + [0]
    assert_equal_runs(tmp_path / "run", tmp_path / "whole")
    assert os.path.exists(tmp_path / "run/summary.json")


@pytest.mark.parametrize(
    ("number", "is_terminal", "rank", "answered"),
    [
        (signal.SIGINT, True, "0", True),
        (signal.SIGINT, True, "1", False),
        (signal.SIGINT, False, "0", False),
        (signal.SIGTERM, True, "0", False),
    ],
)
def test_ctrl_c_is_answered_at_once(number, is_terminal, rank, answered, monkeypatch):
    told = []
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr(signals.os, "isatty", lambda handle: is_terminal)
    monkeypatch.setattr(signals.os, "write", lambda handle, text: told.append((handle, text)))
    with StopRequest() as stop:
        signal.raise_signal(number)
    assert stop.reason == signal.Signals(number).name
    expected = b"\nstopping: this step ends and is saved; Ctrl-C again leaves without saving\n"
    assert told == ([(2, expected)] if answered else [])
