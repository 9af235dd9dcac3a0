"""A run that gets signals at chosen moments and is resumed until it ends."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import ROOT
from short_runs import train_rows

from fastlm.checkpoint import read_newest
from fastlm.train.signals import SAVED

NAMES = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2")


# The moments a signal can find a process at, from its first line on: the log tells how far it is.
FLAGS = [
    "--recipe", "tiny", "--resume", "auto", "--device", "cpu", "--model.n-layers", "1",
    "--model.d-model", "32", "--model.n-heads", "2", "--model.context-length", "32",
    "--batch-size", "4", "--max-steps", "300", "--eval-every", "20", "--eval-tokens", "2048",
    "--checkpoint-every", "7", "--log-every", "1",
]  # fmt: skip
COMMAND = [sys.executable, "-m", "fastlm.train", *FLAGS]


def takes_signals(process: subprocess.Popen[str]) -> bool:
    """Return whether a process has set its own handlers: before that, a signal ends it."""
    status = Path(f"/proc/{process.pid}/status")
    if not status.exists():
        time.sleep(1.0)
        return True
    caught = int(status.read_text().split("SigCgt:")[1].split()[0], 16)
    return bool(caught >> (signal.SIGUSR2 - 1) & 1)


def run_with_signals(
    data: Path, run: Path, moments: list[tuple[int, float]], rng: random.Random, *flags
) -> list[int]:
    """Start the command, send it a signal at each moment, until it ends; its exit codes.

    Args:
        moments: how many steps are in the log, and the seconds after that.
    """
    codes = []
    for moment in [*moments, None]:
        command = [*COMMAND, "--data", str(data), "--out", str(run), *flags]
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        if moment is not None:
            n_steps, delay = moment
            while process.poll() is None and not takes_signals(process):
                time.sleep(0.01)
            while process.poll() is None and len(train_rows(run)) < n_steps:
                time.sleep(0.01)
            time.sleep(delay)
            process.send_signal(signal.Signals[rng.choice(NAMES)])
        _, told = process.communicate(timeout=600)
        codes.append(process.returncode)
        assert process.returncode in (0, SAVED), told
        steps = [row["step"] for row in train_rows(run)]
        assert steps == list(range(1, len(steps) + 1))  # neither hole nor double
        saved = read_newest(run / "checkpoints", pytest.fail)
        assert (saved.step if saved else 0) == len(steps)  # no step lost
        if process.returncode == 0:
            break
    return codes
