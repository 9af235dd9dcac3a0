"""Runs on a time budget whose steps are fixed by a probe: the number, and the same run by it."""

import dataclasses
import functools
import math
import signal
from pathlib import Path

import pytest
import torch
from compiled_runs import train_compiled
from short_runs import (
    assert_same_weights,
    config,
    interrupted_after,
    losses,
    new_run,
    simulate_clock,
    train_rows,
    why_over,
)

from fastlm.checkpoint import read_manifest, run_checkpoints
from fastlm.config import OptimConfig, TrainConfig
from fastlm.runs.record import RunRecord
from fastlm.train import fixed_steps, train
from fastlm.train.budget import Measured
from fastlm.train.command import main
from fastlm.train.fixed_steps import steps_within
from fastlm.train.trainer import Trainer

RAMP = {"batch_ramp": (4, 8, 12), "micro_batch": 4}
# These depend on the number of steps from the first one on: cosine, warm-up by share, weight decay.
SHARES = OptimConfig(
    name="muon", lr=1e-2, warmup_fraction=0.3, weight_decay_schedule="linear", average_tail=1.0
)
STEPS = OptimConfig(name="normuon", lr=1e-2, warmup_steps=4, schedule="wsd", momentum_start=0.85,
                    momentum_warmup_steps=9)  # fmt: skip


def on_a_clock(data: Path, **changes) -> TrainConfig:
    """A run whose probe finds 12 steps, see found_steps."""
    return config(data, max_steps=None, time_budget=3600.0, fix_steps=True, **changes)


@pytest.fixture(scope="module")
def of_max_steps(data, tmp_path_factory):
    """Folder and summary of a run of 12 steps, made once for an optimizer and a ramp."""

    @functools.cache
    def made(optim, ramp):
        run = tmp_path_factory.mktemp("runs") / "of-max-steps"
        return run, train(config(data, optim=optim, max_steps=12, **dict(ramp)), run)

    return lambda optim, ramp: made(optim, tuple(ramp.items()))


@pytest.fixture
def found_steps(monkeypatch):
    """The probe does all it does, but its number is not what the machine's speed makes it."""
    numbers = []

    def fitting(run, step_seconds):
        numbers.append(real(run, step_seconds))
        return 12

    real = fixed_steps._fitting_steps
    monkeypatch.setattr(fixed_steps, "_fitting_steps", fitting)
    return numbers


@pytest.mark.parametrize("optim", [SHARES, STEPS], ids=["shares", "steps"])
@pytest.mark.parametrize("ramp", [{}, RAMP], ids=["constant", "ramp"])
def test_the_run_is_that_of_max_steps_with_the_number(
    optim, ramp, of_max_steps, data, tmp_path, found_steps
):
    summary = train(on_a_clock(data, optim=optim, **ramp), tmp_path / "probed")
    assert (summary.step, summary.stopped_by) == (12, "step budget")
    assert found_steps[0] > 1000  # in an hour
    run, again = of_max_steps(optim, ramp)
    assert_same_weights(run, tmp_path / "probed")
    assert losses(run) == losses(tmp_path / "probed")
    assert (again.val_loss, again.tokens) == (summary.val_loss, summary.tokens)


def test_the_number_is_in_configuration_log_and_checkpoint(data, tmp_path, found_steps):
    train(on_a_clock(data, **RAMP), tmp_path)
    assert RunRecord(tmp_path).config() == dataclasses.replace(
        on_a_clock(data, **RAMP), max_steps=12
    )
    (row,) = [r for r in RunRecord(tmp_path).rows() if r["kind"] == "probe"]
    assert (row["step"], row["max_steps"], row["micro_batch"]) == (0, 12, 4)
    assert len(row["step_seconds"]) == 3
    assert all(seconds > 0 for seconds in row["step_seconds"])
    about = read_manifest(run_checkpoints(tmp_path / "checkpoints")[-1])
    assert about["config"]["max_steps"] == 12
    assert not [p for p in tmp_path.iterdir() if p.name.startswith("tmp")]


@pytest.mark.parametrize("stop", [1, 5, 11])
def test_resumed_run_keeps_the_number_and_equals_an_uninterrupted_one(
    stop, of_max_steps, data, tmp_path, found_steps
):
    run_config = on_a_clock(data, optim=SHARES, **RAMP)
    assert not interrupted_after(stop, run_config, tmp_path / "parts").finished
    summary = train(run_config, tmp_path / "parts", resume=True)
    assert len(found_steps) == 1
    assert summary.step == 12
    assert_same_weights(of_max_steps(SHARES, RAMP)[0], tmp_path / "parts")


def test_a_signal_during_the_probe_leaves_a_run_at_its_start(
    data, tmp_path, monkeypatch, found_steps
):
    original = Trainer.train_step

    def step(self, stream, **place):
        if self.step == 2 and not found_steps and self.config.max_steps is None:
            signal.raise_signal(signal.SIGTERM)
        return original(self, stream, **place)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", step)
        stopped = train(on_a_clock(data), tmp_path / "parts")
    assert (stopped.finished, stopped.step, stopped.tokens) == (False, 0, 0)
    assert RunRecord(tmp_path / "parts").config() == on_a_clock(data)
    assert train(on_a_clock(data), tmp_path / "parts", resume=True).step == 12
    train(config(data, max_steps=12), tmp_path / "whole")
    assert_same_weights(tmp_path / "whole", tmp_path / "parts")


def test_a_probe_puts_everything_back(data, tmp_path):
    run_config = on_a_clock(data, optim=SHARES, **RAMP)
    run, twin = new_run(run_config, tmp_path), new_run(run_config, tmp_path).trainer
    trainer = run.trainer
    before = trainer.model.state_dict()
    copied = fixed_steps.copied(run)
    stream = trainer.stream()
    for stage in (0, 1, 2, 2):
        trainer.train_step(stream, stage=stage, progress=0.1)
    run.saving.restore(copied)
    assert (trainer.step, trainer.tokens, trainer.average.n_averaged) == (0, 0, 0)
    for name, t in twin.model.state_dict().items():
        assert torch.equal(t, before[name])
    for a, b in zip(trainer.optimizers, twin.optimizers, strict=True):
        assert not a.state
        for group, fresh in zip(a.param_groups, b.param_groups, strict=True):
            assert {k: v for k, v in group.items() if k != "params"} == {
                k: v for k, v in fresh.items() if k != "params"
            }


def test_the_schedule_does_not_look_at_the_clock_which_still_ends_the_run(data, tmp_path):
    run = new_run(dataclasses.replace(on_a_clock(data), max_steps=12), tmp_path)
    run.budget.window_seconds = run.budget.eval_seconds_per_token = Measured(0.0)
    run.clock.continue_from(elapsed=3000.0, seconds=2990.0)
    run.trainer.step = 3
    assert run.budget.progress(3) == 3 / 12
    assert why_over(run) is None
    run.clock.continue_from(elapsed=3599.5, seconds=3589.5)
    assert why_over(run) == "time budget"


@pytest.mark.parametrize(
    ("seconds", "ramp", "n_steps"),
    [
        (99.0, (), 45),  # 90 s, 4 validations of 2 s
        (0.0, (), 1),
        (-5.0, (), 1),
        (105.0, (), 48),  # 96 s, 4 validations
        (117.0, (), 49),  # the next brings a validation and a checkpoint
        (118.0, (), 50),  # 100 s, 5 validations of 2 s, a checkpoint of 8 s
        (39.0, (4, 8, 12), 9),  # 3 x 2 + 3 x 4 + 3 x 6; the next brings a validation
        (40.0, (4, 8, 12), 10),  # 4 x 2 + 3 x 4 + 3 x 6 + 2
    ],
)
def test_as_many_steps_as_fit_with_what_they_bring(seconds, ramp, n_steps):
    run = TrainConfig(
        batch_ramp=ramp, eval_every=10, checkpoint_every=50, time_budget=200.0, fix_steps=True
    )
    step_seconds = (2.0, 4.0, 6.0) if ramp else (2.0,)
    options = {"step_seconds": step_seconds, "eval_seconds": 2.0, "save_seconds": 8.0}
    assert steps_within(seconds, run, **options) == n_steps


def test_the_number_leaves_the_reserve_and_a_hundredth(data, tmp_path):
    """100 s, 30 gone: 70 less 1.1 x (2 s of validation, a step of 0.5 s and 3 s of saving)."""
    run_config = on_a_clock(data, eval_every=1000, checkpoint_every=1000)
    run = new_run(dataclasses.replace(run_config, time_budget=100.0), tmp_path)
    run.budget.window_seconds = Measured(0.5 / 8)
    run.budget.eval_seconds_per_token = Measured(1e-9, 2 / len(run.trainer.data.val.tokens), 1.0)
    run.saving.saver.expect(3.0)
    run.clock.continue_from(elapsed=30.0, seconds=0.0)
    assert run.budget.reserve == pytest.approx(1.1 * 5.5)
    assert fixed_steps._fitting_steps(run, [0.5]) == int((70 - 6.05) * 0.99 / 0.5)
    run.use_config(dataclasses.replace(run.config, max_tokens=256 * 7))
    assert fixed_steps._fitting_steps(run, [0.5]) == 7


def test_a_run_of_some_seconds_has_the_rates_of_its_number_and_ends_in_time(
    data, tmp_path, monkeypatch
):
    simulate_clock(monkeypatch, window_seconds=0.2 / 8)
    run_config = dataclasses.replace(on_a_clock(data, log_every=1), time_budget=10.0)
    summary = train(run_config, tmp_path, clock_started=0.0)
    n_steps = RunRecord(tmp_path).config().max_steps
    assert (summary.step, summary.stopped_by) == (n_steps, "step budget")
    assert 9.0 < summary.elapsed_seconds <= 10.0
    for row in train_rows(tmp_path):
        share = row["step"] / n_steps
        cosine = 0.1 + 0.45 * (1 + math.cos(math.pi * (share - 0.1) / 0.9))
        assert row["lr"] == pytest.approx(0.01 * (share / 0.1 if share < 0.1 else cosine))


def test_a_time_that_changes_on_the_way_needs_a_number_of_its_own(data, tmp_path, found_steps):
    interrupted_after(3, on_a_clock(data), tmp_path)
    shorter = dataclasses.replace(on_a_clock(data), time_budget=60.0)
    with pytest.raises(ValueError, match=r"fixed before its first.*max_steps=12.*give --max-steps"):
        train(shorter, tmp_path, resume=True)
    assert train(dataclasses.replace(shorter, max_steps=6), tmp_path, resume=True).step == 6


def test_a_run_on_the_clock_does_not_become_one_of_fixed_steps(data, tmp_path):
    interrupted_after(3, config(data), tmp_path)
    with pytest.raises(ValueError, match="the steps of a run are fixed before its first"):
        train(on_a_clock(data), tmp_path, resume=True)


def test_steps_can_only_be_fixed_for_a_time():
    with pytest.raises(ValueError, match="fix_steps finds how many steps a time budget holds"):
        TrainConfig(max_steps=5, fix_steps=True)


def test_the_command_line_fixes_and_repeats(data, tmp_path, found_steps):
    small = "--recipe tiny --model.n-layers 1 --model.d-model 32 --model.context-length 32"
    ramp = "--batch-ramp 2 4 --batch-ramp-lr 0.5 1 --device cpu"
    common = ["--data", str(data), *small.split(), *ramp.split()]
    main([*common, "--time-budget", "1h", "--fix-steps", "--out", str(tmp_path / "a")])
    main([*common, "--max-steps", "12", "--out", str(tmp_path / "b")])
    assert_same_weights(tmp_path / "a", tmp_path / "b")


@pytest.mark.compiled
@pytest.mark.slow
@pytest.mark.usefixtures("without_code_generation")
def test_compiled_the_probe_and_its_way_back_compile_nothing_anew(data, tmp_path, found_steps):
    run_config = on_a_clock(data, optim=STEPS, **RAMP)
    train_compiled(run_config, tmp_path / "compiled", eager=tmp_path / "eager", rel=0.02)
