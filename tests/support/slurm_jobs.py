"""Jobs of the scripts in slurm/: how they are submitted, and what they must leave."""

import json
import sys
from pathlib import Path

import pytest
from commands import ROOT
from short_runs import train_rows
from slurm_controller import Controller, is_installed

from fastlm.checkpoint import read_newest

# Marks of tests that submit jobs.
NEEDS_SLURM = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.skipif(not is_installed(), reason="needs root and Debian's slurm-wlm and munge"),
]

SMALL = [
    "--device", "cpu", "--model.n-layers", "1", "--model.d-model", "32", "--model.n-heads", "2",
    "--model.context-length", "32", "--batch-size", "4", "--eval-tokens", "256", "--eval-every",
    "1000", "--log-every", "1", "--no-compile",
]  # fmt: skip


def submit(
    cluster: Controller, folder: Path, script: str, *arguments: str, flags=(), **changes
) -> str:
    environment = {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return cluster.submit(
        ROOT / "slurm" / script,
        *arguments,
        flags=[f"--chdir={ROOT}", f"--output={folder}/%j.out", "--open-mode=append", *flags],
        **(environment | changes),
    )


def output(folder: Path, job: str) -> str:
    path = folder / f"{job}.out"
    return path.read_text() if path.exists() else "no output"


def assert_every_step_once(run: Path, n_steps: int, *, finished: bool = True) -> None:
    """Check that the log has every step once, and that the last checkpoint is of the last step."""
    assert [row["step"] for row in train_rows(run)] == list(range(1, n_steps + 1))
    assert read_newest(run / "checkpoints", pytest.fail).step == n_steps
    assert json.loads((run / "summary.json").read_text())["finished"] == finished
