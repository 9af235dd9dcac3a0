"""Runs of several processes: their flags, and how near two runs are to each other."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from commands import ROOT, torchrun
from short_runs import train_rows, weights

from fastlm.checkpoint import read_newest
from fastlm.train import command


def losses(run: Path) -> torch.Tensor:
    return torch.tensor([row["loss"] for row in train_rows(run)], dtype=torch.float64)


def assert_close(run: Path, expected: Path, tolerance: float = 1e-5) -> None:
    """Compare the losses of all steps and the final weights, relative to the largest of each."""
    torch.testing.assert_close(losses(run), losses(expected), rtol=tolerance, atol=0)
    found, wanted = weights(run), weights(expected)
    assert found.keys() == wanted.keys()
    largest = 0.0
    for name, tensor in wanted.items():
        difference = (found[name] - tensor).abs().max() / tensor.abs().max().clamp(min=1e-30)
        assert difference <= tolerance, (name, difference)
        largest = max(largest, float(difference))
    of_losses = float((losses(run) / losses(expected) - 1).abs().max())
    print(f"losses differ by {of_losses:.1e}, weights by {largest:.1e}")


FLAGS = [
    "--model.n-layers", "1", "--model.d-model", "32", "--model.n-heads", "2",
    "--model.context-length", "32", "--batch-size", "8", "--max-steps", "400", "--log-every", "1",
    "--eval-every", "1000", "--eval-tokens", "512", "--checkpoint-every", "25", "--device", "cpu",
]  # fmt: skip


def workers(launcher: subprocess.Popen[str]) -> list[int]:
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    return sorted(map(int, children))


def wait_for_steps(run: Path, n_steps: int) -> None:
    deadline = time.monotonic() + 600
    while not (run / "log.jsonl").exists() or len(train_rows(run)) < n_steps:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def check_one_ends_all(number: signal.Signals, parallel: str, data: Path, run: Path) -> None:
    """Signal one of two processes: both end at once, and one process trains on to the end."""
    flags = (*FLAGS, "--parallel", parallel)
    arguments = ("-m", "fastlm.train", "--data", data, "--out", run, *flags)
    launcher = torchrun(*arguments)
    wait_for_steps(run, 60)
    both = workers(launcher)
    assert len(both) == 2
    began = time.monotonic()
    os.kill(both[1], number)
    _, told = launcher.communicate(timeout=600)
    print(f"{number.name}: all ended after {time.monotonic() - began:.1f} s")
    assert launcher.returncode == 1  # what torchrun makes of any other code
    assert not any(Path(f"/proc/{pid}").exists() for pid in both)
    saved = read_newest(run / "checkpoints", pytest.fail)
    if number in (signal.SIGTERM, signal.SIGHUP):
        assert saved.step == len(train_rows(run))
        assert f"stopped by {number.name}; go on with --resume auto" in told
    else:
        assert saved.step >= 50
        assert "error: the other processes of this run cannot be reached" in told
        assert f'File "{ROOT / "fastlm"}{os.sep}' not in told  # no traceback of ours
    command.main(list(map(str, ("--out", run, "--resume", "auto", "--data", data, *FLAGS))))
    assert [row["step"] for row in train_rows(run)] == list(range(1, 401))
