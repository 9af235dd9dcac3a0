"""Two processes train a model as one does, and if one of them fails, all end and the run can go on."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from commands import ROOT, SUPPORT, torchrun
from rank_runs import assert_close, check_one_ends_all, losses
from short_runs import same
from two_ranks import NAN_AT, cut_off, muon_steps, short, with_all_parts

from fastlm.accounting import training_memory
from fastlm.checkpoint import read_newest, read_run_checkpoint, run_checkpoints
from fastlm.config import ModelConfig, TrainConfig
from fastlm.devices.ranks import Ranks
from fastlm.runs.record import RunRecord
from fastlm.train import train
from fastlm.train.micro_batch import out_of_memory, plan_memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="torchrun and its signals")
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory) -> Path:
    """Folder of the runs of two_ranks.py, and of the same ones in one process."""
    folder = tmp_path_factory.mktemp("ranks")
    train(short(data), folder / "one")
    train(with_all_parts(data), folder / "one-all")
    process = torchrun(SUPPORT / "two_ranks.py", data, folder)
    _, told = process.communicate(timeout=600)
    assert process.returncode == 0, told
    return folder


def val_losses(run: Path) -> list[float]:
    return [row["val_loss"] for row in RunRecord(run).rows() if row["kind"] == "eval"]


@slow
@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ("ddp", "one"),
        ("fsdp", "ddp"),
        ("ddp-all", "one-all"),
        ("fsdp-all", "ddp-all"),
        ("one-two", "one"),
    ],
)
def test_two_processes_train_as_one_that_accumulates(runs, run, expected):
    assert_close(runs / run, runs / expected)


@slow
@pytest.mark.parametrize(
    ("run", "expected"), [("ddp-resumed", "ddp-all"), ("fsdp-resumed", "fsdp-all")]
)
def test_resumed_by_as_many_processes_nothing_differs(runs, run, expected):
    assert losses(runs / run).equal(losses(runs / expected))
    assert val_losses(runs / run) == val_losses(runs / expected)
    found, wanted = (
        read_run_checkpoint(run_checkpoints(runs / name / "checkpoints")[-1])
        for name in (run, expected)
    )
    assert same(found.model, wanted.model)
    assert same(found.optimizers, wanted.optimizers)
    assert same(found.state["average"], wanted.state["average"])


@slow
def test_one_process_goes_on_where_two_stopped(runs, data, tmp_path):
    cut_off(runs / "one-two", tmp_path / "run")  # one, two, and one again
    train(short(data), tmp_path / "run", resume=True)
    assert_close(tmp_path / "run", runs / "one")


@slow
def test_matrices_are_updated_by_their_owners_as_by_one_process(runs):
    expected = muon_steps(Ranks())
    for rank in (0, 1):
        found = torch.load(runs / f"muon-{rank}.pt", weights_only=True)
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@slow
@pytest.mark.parametrize("run", ["ddp", "fsdp", "ddp-all", "fsdp-all"])
def test_a_validation_that_is_shared_out_is_exact(runs, run):
    expected = val_losses(runs / ("one-all" if run.endswith("-all") else "one"))
    assert len(expected) == 4
    assert val_losses(runs / run) == pytest.approx(expected, rel=1e-5)
    # The first loss is that of the initial weights, so training plays no part in it.
    assert val_losses(runs / run)[0] == pytest.approx(expected[0], rel=1e-6)
    print(f"differs by {abs(val_losses(runs / run)[0] / expected[0] - 1):.1e}")


@slow
def test_a_nan_of_one_process_stops_all_of_them(runs):
    for rank in (0, 1):
        told = json.loads((runs / f"told-{rank}.json").read_text())["not finite"]
        assert f"not finite at step {NAN_AT}" in told
    saved = read_newest(runs / "nan/checkpoints", pytest.fail)
    assert saved.step == NAN_AT - 1
    assert all(t.isfinite().all() for t in saved.model.values())
    described = json.loads((runs / f"nan/not-finite-step-{NAN_AT}.json").read_text())
    assert len(described["micro_batch_losses"]) == 2


@slow
def test_no_process_leaves_before_the_run_is_written(runs):
    for rank in (0, 1):
        assert json.loads((runs / f"told-{rank}.json").read_text())["is written"]


@pytest.mark.parametrize(("world_size", "tidied_up"), [("2", False), ("1", True)])
def test_a_process_of_several_ends_without_tidying_up(world_size, tidied_up):
    code = """if True:
        import atexit, sys
        from fastlm.devices.torchrun import left_at_once
        atexit.register(print, "tidied up")
        with left_at_once():
            print("done")
            print("told", file=sys.stderr)
            sys.exit(75)
    """
    environment = os.environ | {"WORLD_SIZE": world_size, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 75
    assert ended.stdout.split("\n")[:2] == ["done", "tidied up" if tidied_up else ""]
    assert ended.stderr == "told\n"


@slow
def test_what_happens_to_one_process_ends_all_and_the_run_goes_on(data, tmp_path):
    """soak_runs.py has SIGTERM and FSDP; slurm/test_jobs.py stops a job of several processes."""
    check_one_ends_all(signal.SIGKILL, "ddp", data, tmp_path / "run")


def test_shares_are_equal_or_refused():
    small = ModelConfig(vocab_size=300, context_length=8, n_layers=1, d_model=8, n_heads=1)
    cpu = torch.device("cpu")
    base = TrainConfig(model=small, batch_size=12, max_steps=1)
    assert plan_memory(base, cpu, bf16=False, n_ranks=4).micro_batch == 3
    with pytest.raises(ValueError, match=r"5 processes cannot share out 12 windows .* multiple of"):
        plan_memory(base, cpu, bf16=False, n_ranks=5)
    whole, fsdp = (
        plan_memory(base, cpu, bf16=False, n_ranks=2, is_fsdp=is_fsdp) for is_fsdp in (False, True)
    )
    state = training_memory(small, 1, optim=base.optim)["optimizer"]
    advice = str(out_of_memory(whole, base, 0, n_ranks=2))
    assert "--micro-batch 3" in advice  # 4 divides 12, but not a share of 6
    assert whole.needed - fsdp.needed == state - state // 2 > 0
    of_two = TrainConfig(model=small, batch_size=12, micro_batch=4, max_steps=1)
    with pytest.raises(ValueError, match="multiple of 8"):
        plan_memory(of_two, cpu, bf16=False, n_ranks=2)


def test_matrices_are_shared_out_with_zeros_at_the_end():
    stack = torch.arange(10.0).reshape(5, 1, 2)
    parts = [Ranks(rank, 3).share(stack) for rank in range(3)]
    assert {tuple(part.shape) for part in parts} == {(2, 1, 2)}
    assert torch.cat(parts)[:5].equal(stack)
    assert not parts[2][1].any()
