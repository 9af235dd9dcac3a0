"""The Slurm scripts: clean by shellcheck, within the budget, and runnable without Slurm."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastlm.config.durations import parse_duration

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted((ROOT / "slurm").glob("*.sh"))


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_scripts_are_clean_by_shellcheck(script):
    done = subprocess.run(["shellcheck", str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_scripts_stop_at_the_first_error(script):
    assert "set -euo pipefail" in script.read_text()
    assert subprocess.run(["bash", "-n", str(script)]).returncode == 0


def test_leaderboard_asks_for_90_minutes_of_one_gpu_and_trains_for_less():
    text = (ROOT / "slurm/leaderboard.sh").read_text()
    (limit,) = re.findall(r"#SBATCH --time=(\S+)", text)
    assert parse_duration(limit) == 5400
    assert re.search(r"#SBATCH --gpus=1$", text, re.MULTILINE)
    (budget,) = re.findall(r"TIME_BUDGET:-(\w+)", text)
    assert 5000 < parse_duration(budget) < 5400


def environment(**changes: str) -> dict[str, str]:
    return os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT)} | changes


SMALL = [
    "--device", "cpu", "--model.n-layers", "1", "--model.d-model", "32", "--model.n-heads", "2",
    "--model.context-length", "32", "--batch-size", "4", "--eval-tokens", "256", "--no-compile",
]  # fmt: skip


@pytest.mark.slow
def test_prepare_then_leaderboard_at_toy_size_interrupted_and_resumed(tmp_path):
    """prepare.sh, leaderboard.sh, a signal in the middle, and leaderboard.sh again."""
    from fastlm.corpus import make_stories

    text = make_stories(tmp_path / "text", n_bytes=60_000, valid_bytes=6_000)
    prepare = environment(TEXT=str(text), DATA=str(tmp_path / "d"), VOCAB_SIZE="300")
    done = subprocess.run(
        [str(ROOT / "slurm/prepare.sh")], env=prepare, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "d/meta.json").exists()

    run = tmp_path / "run"
    job = environment(DATA=str(tmp_path / "d"), OUT=str(run), TIME_BUDGET="20m")
    command = [str(ROOT / "slurm/leaderboard.sh"), *SMALL]
    with subprocess.Popen(command, env=job, stdout=subprocess.PIPE, text=True) as first:
        deadline = time.monotonic() + 600
        while not _has_steps(run):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        first.send_signal(signal.SIGUSR1)
        told, _ = first.communicate(timeout=600)
    assert first.returncode == 75, told
    assert "signal: saving" in told
    summary = json.loads((run / "summary.json").read_text())
    assert summary["finished"] is False

    done = subprocess.run(
        [*command, "--max-steps", str(summary["step"] + 5)], env=job, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f"resumed at step {summary['step']}" in done.stderr
    finished = json.loads((run / "summary.json").read_text())
    assert finished["finished"] is True
    assert finished["step"] == summary["step"] + 5
    assert re.search(r"end: exit code 0 after \d+ s of wall-clock", done.stdout)


def _has_steps(run: Path) -> bool:
    log = run / "log.jsonl"
    return log.exists() and '"kind": "train"' in log.read_text()
