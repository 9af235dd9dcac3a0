"""A run that is resumed after any step ends as one that was never stopped."""

import dataclasses
import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from short_runs import MODEL, config, new_run, same, train_rows

from fastlm.checkpoint import Damaged, SavedRun, read_newest, read_run_checkpoint, run_checkpoints
from fastlm.config import OptimConfig, TrainConfig
from fastlm.devices import hardware
from fastlm.runs.record import RunRecord
from fastlm.train import train

CLOCKS = ("seconds", "elapsed_seconds")
N_STEPS = 20
UNTIED = dataclasses.replace(MODEL, tie_weights=False)
OPTIM = OptimConfig(name="normuon", lr=1e-2, schedule="wsd", average_tail=0.3, tie_until=0.6)


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({}, range(1, N_STEPS, 3)),
        ({"micro_batch": 2}, (2, 11)),
        ({"optim": OPTIM, "model": UNTIED, "micro_batch": 4}, (1, 12, 15)),
    ],
    ids=["float32", "accumulated", "leaderboard's optimizers"],
)
def test_resumed_after_any_step_a_run_ends_as_if_never_stopped(changes, steps, data, tmp_path):
    """soak_runs.py takes every step."""
    check_every_step(steps, data, tmp_path, **changes)


@pytest.mark.slow
def test_resumed_in_bfloat16(data, tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "cpu_has_bf16", lambda: True)
    check_every_step((10,), data, tmp_path, bf16=True, micro_batch=4)


@pytest.mark.slow
@pytest.mark.compiled
def test_resumed_compiled_and_deterministic(data, tmp_path):
    check_every_step((9,), data, tmp_path, compile=True, deterministic=True)


def test_deterministic_runs_are_alike_but_for_their_clocks(data, tmp_path):
    run_config = config(data, deterministic=True, log_every=1, optim=OPTIM, model=UNTIED)
    for name in ("a", "b"):
        train(run_config, tmp_path / name)
    assert logged(tmp_path / "a") == logged(tmp_path / "b")
    first, second = (
        read_run_checkpoint(run_checkpoints(tmp_path / name / "checkpoints")[-1]) for name in "ab"
    )
    assert same(without_clocks(first), without_clocks(second))


def test_a_damaged_checkpoint_is_passed_over_unless_it_was_asked_for(data, tmp_path, capsys):
    run_config, run = config(data), tmp_path / "run"
    train(run_config, run)
    *_, before, newest = run_checkpoints(run / "checkpoints")
    raw = bytearray((newest / "model.safetensors").read_bytes())
    raw[-1] ^= 1
    (newest / "model.safetensors").write_bytes(raw)
    (run / "summary.json").unlink()
    with pytest.raises(Damaged, match=rf"{newest.name}/model\.safetensors is damaged"):
        train(run_config, run, resume=newest)
    assert newest.exists()
    capsys.readouterr()
    assert train(run_config, run, resume=True).finished
    told = capsys.readouterr().err
    assert f"warning: {newest}/model.safetensors is damaged" in told
    assert "taking the checkpoint before it" in told
    assert f"resumed at step {read_run_checkpoint(before).step}" in told
    assert read_newest(run / "checkpoints", pytest.fail).step == N_STEPS
    assert (run / "checkpoints" / f"abandoned-{newest.name}").exists()
