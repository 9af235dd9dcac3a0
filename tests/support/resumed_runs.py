"""Runs that are resumed after some of their steps, compared with one that was never stopped."""

import dataclasses
import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from short_runs import MODEL, config, new_run, same, train_rows

from fastlm.checkpoint import SavedRun, read_newest, read_run_checkpoint, run_checkpoints
from fastlm.config import OptimConfig, TrainConfig
from fastlm.runs.record import RunRecord
from fastlm.train import train

N_STEPS = 20

UNTIED = dataclasses.replace(MODEL, tie_weights=False)
OPTIM = OptimConfig(name="normuon", lr=1e-2, schedule="wsd", average_tail=0.3, tie_until=0.6)
"""The optimizers of the leaderboard's runs: the weights come apart and the tail is averaged."""


CLOCKS = ("seconds", "elapsed_seconds")


def without_clocks(saved: SavedRun) -> tuple:
    state = {key: value for key, value in saved.state.items() if key not in CLOCKS}
    return saved.step, state, saved.model, saved.optimizers


def logged(run: Path) -> list[tuple]:
    keys = ("kind", "step", "tokens", "loss", "lr", "grad_norm", "val_loss")
    rows = [row for row in RunRecord(run).rows() if row["kind"] in ("train", "eval")]
    return [tuple(row.get(key) for key in keys) for row in rows]


def next_batches(run: Path, run_config: TrainConfig) -> list[np.ndarray]:
    """The 100 micro-batches after a run's newest checkpoint."""
    resumed = new_run(run_config, run)
    resumed.saving.resume(read_newest(run / "checkpoints", pytest.fail))
    stream = resumed.trainer.stream()
    return [torch.stack(batch).numpy() for batch in itertools.islice(stream, 100)]


def resumed_after(step: int, whole: Path, run: Path, run_config: TrainConfig) -> None:
    """A copy of a run, as it was after a step, run to its end."""
    shutil.copytree(whole, run)
    (run / "summary.json").unlink()
    for path in run_checkpoints(run / "checkpoints")[step:]:
        shutil.rmtree(path)
    assert read_newest(run / "checkpoints", pytest.fail).step == step
    train(run_config, run, resume=True)


def check_every_step(steps, data: Path, tmp_path: Path, **changes) -> None:
    run_config = config(
        data, checkpoint_every=1, checkpoint_keep=N_STEPS + 1, log_every=1, **changes
    )
    whole = tmp_path / "whole"
    train(run_config, whole)
    expected = [read_run_checkpoint(path) for path in run_checkpoints(whole / "checkpoints")]
    assert [saved.step for saved in expected] == list(range(1, N_STEPS + 1))
    batches = next_batches(whole, run_config)
    for step in steps:
        run = tmp_path / f"after-{step}"
        resumed_after(step, whole, run, run_config)
        for path, saved in zip(run_checkpoints(run / "checkpoints"), expected, strict=True):
            found = read_run_checkpoint(path)
            assert same(without_clocks(found), without_clocks(saved)), (step, saved.step)
        assert logged(run) == logged(whole), step
        for ours, theirs in zip(next_batches(run, run_config), batches, strict=True):
            assert (ours == theirs).all()
        seconds = [row["seconds"] for row in train_rows(run)]
        assert seconds == sorted(seconds)
