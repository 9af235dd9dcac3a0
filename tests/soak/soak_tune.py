"""fastlm.tune with the code that Inductor generates, and signals at any moment: `make soak`."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import ROOT, TINY

from fastlm.train.tuned import read_tuned

COMMAND = [sys.executable, "-m", "fastlm.tune", "--recipe", "leaderboard-tiny", *TINY]


def started(folder: Path, *words: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "FASTLM_TUNED_DIR": str(folder / "tuned")}
    return subprocess.Popen(
        [*COMMAND, *words],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def written(folder: Path) -> list[Path]:
    return list((folder / "tuned").glob("*"))


def test_compilation_threads_and_dtypes_have_the_same_losses(tmp_path):
    """Within its minutes, and a tenth for what cannot be broken off."""
    began = time.monotonic()
    with started(tmp_path, "--minutes", "6") as process:
        out, told = process.communicate(timeout=1800)
    assert time.monotonic() - began < 6 * 60 * 1.1 + 30
    assert process.returncode == 0, told
    (path,) = written(tmp_path)
    rows = {row["what"]: row for row in read_tuned(path).measured["tried"]}
    assert rows["--compile"]["after"] > 0, out
    assert "left out" not in out


@pytest.mark.parametrize("seconds", [0.5, 3, 6, 12, 25, 45, 80])
def test_a_signal_at_any_moment_leaves_a_whole_file_or_none(seconds, tmp_path):
    with started(tmp_path) as process:
        time.sleep(seconds)
        process.send_signal(signal.SIGTERM)
        out, told = process.communicate(timeout=300)
    files = written(tmp_path)
    if "written to" in out:
        (path,) = files
        assert process.returncode in (0, 128 + signal.SIGTERM), told
        assert read_tuned(path).measured["tokens_per_second"]["before"] > 0
    else:
        assert process.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM), told
        assert files == []
