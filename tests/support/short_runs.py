"""Runs of a few steps: their configuration, their weights and rows, and how one is interrupted."""

import dataclasses
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fastlm.checkpoint import read_model_tensors, run_checkpoints, take_snapshot, write_snapshot
from fastlm.checkpoint.saver import Saver
from fastlm.config import ModelConfig, OptimConfig, TrainConfig
from fastlm.data import open_prepared
from fastlm.data.windows import Batch
from fastlm.runs.record import RunRecord
from fastlm.train import Summary, train
from fastlm.train.assemble import set_up
from fastlm.train.budget import Clock
from fastlm.train.loop import Training
from fastlm.train.run import assemble_run
from fastlm.train.trainer import Trainer

MODEL = ModelConfig(vocab_size=400, context_length=32, n_layers=2, d_model=32, n_heads=2)


def config(data: Path, **changes: Any) -> TrainConfig:
    """20 steps of 8 windows on a CPU, or with changes another run."""
    base = TrainConfig(
        recipe="test",
        model=MODEL,
        optim=OptimConfig(name="muon", lr=1e-2, warmup_fraction=0.1),
        batch_size=8,
        max_steps=20,
        eval_every=10,
        eval_tokens=512,
        checkpoint_every=5,
        log_every=5,
        device="cpu",
    )
    base = dataclasses.replace(base, data=dataclasses.replace(base.data, path=str(data)))
    return dataclasses.replace(base, **changes)


def write_checkpoint(
    folder: Path, step: int, model, optimizers, state=None, **options: Any
) -> Path:
    """Write a checkpoint of a model and optimizers that belong to no run."""
    snapshot = take_snapshot(step, model, optimizers, state or {}, {})
    return write_snapshot(folder, snapshot, **options)


def same(a: Any, b: Any) -> bool:
    """Whether two trees of containers, tensors and numbers are equal bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b) and a.dtype == b.dtype
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return a == b


def weights(run: Path, step: int | None = None) -> dict[str, torch.Tensor]:
    """Return the weights in a run's checkpoint after a step, or in its newest."""
    if step is None:
        return read_model_tensors(run_checkpoints(run / "checkpoints")[-1])
    return read_model_tensors(run / "checkpoints" / f"step-{step:06d}")


def train_rows(run: Path) -> list[dict[str, Any]]:
    return [row for row in RunRecord(run).rows() if row["kind"] == "train"]


def losses(run: Path) -> list[float]:
    """Training losses in a run's log."""
    return [row["loss"] for row in train_rows(run)]


def assert_same_weights(a: Path, b: Path) -> None:
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def new_run(run_config: TrainConfig, run: Path) -> Training:
    """A run that has not begun, its clock just started."""
    data, clock = open_prepared(run_config.data.path), Clock(time.perf_counter())
    return assemble_run(run_config, data, RunRecord(run), clock, setup=set_up(run_config))


def take_step(run: Training, stream: Iterator[Batch]) -> tuple[torch.Tensor, torch.Tensor]:
    """Take the step that the loop would take next."""
    decision = run.stopping.decide(run.trainer.step, run.trainer.tokens)
    return run.trainer.train_step(stream, stage=decision.stage, progress=decision.progress)


def simulate_clock(
    patch: pytest.MonkeyPatch, *, window_seconds: float, eval_seconds_per_token: float = 0.0
) -> None:
    """Let training and validation alone move time.perf_counter, from 0, as fast on every machine.

    Checkpoints are written while the clock stands still, and not beside the steps that follow.
    """
    now = 0.0
    train_step, evaluate, save = Trainer.train_step, Trainer.evaluate, Saver.save

    def step(self, stream, **place):
        nonlocal now
        n_before = self.n_windows
        result = train_step(self, stream, **place)
        now += window_seconds * (self.n_windows - n_before)
        return result

    def validate(self, *args, **kwargs):
        nonlocal now
        result = evaluate(self, *args, **kwargs)
        seconds = eval_seconds_per_token * result.n_tokens
        now += seconds
        return dataclasses.replace(result, seconds=seconds)

    patch.setattr(Trainer, "train_step", step)
    patch.setattr(Trainer, "evaluate", validate)
    patch.setattr(Saver, "save", lambda self, snapshot, wait=False: save(self, snapshot, wait=True))
    patch.setattr(time, "perf_counter", lambda: now)


def why_over(run: Training) -> str | None:
    """Return the reason why the loop would take no further step, if there is one."""
    trainer = run.trainer
    return run.stopping.decide(trainer.step, trainer.tokens).reason


def interrupted_after(n_steps: int, run_config: TrainConfig, run: Path, **options: Any) -> Summary:
    """Train until the process gets SIGTERM in the middle of step n_steps."""
    original = Trainer.train_step

    def step(self, stream, **place):
        is_probe = self.config.fix_steps and self.config.max_steps is None
        if self.step == n_steps - 1 and not is_probe:
            signal.raise_signal(signal.SIGTERM)
        return original(self, stream, **place)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train_step", step)
        return train(run_config, run, **options)


def validations(run: Path) -> list[tuple[int, float, bool]]:
    rows = [row for row in RunRecord(run).rows() if row["kind"] == "eval"]
    return [(row["step"], row["val_loss"], row["whole_file"]) for row in rows]


def assert_equal_runs(a: Path, b: Path) -> None:
    """Check that two runs have the same weights and the same log, but for the clocks."""
    assert_same_weights(a, b)
    assert validations(a) == validations(b)
    for key in ("step", "tokens", "loss", "lr", "grad_norm"):
        assert [row[key] for row in train_rows(a)] == [row[key] for row in train_rows(b)]
