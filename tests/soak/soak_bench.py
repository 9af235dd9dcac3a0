"""The program that measures kernels beside their peers, run as it is on a GPU, at toy size."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kernels.cases import OPS

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT)


def test_the_comparison_of_kernels_runs_and_goes_on_where_it_stopped(tmp_path):
    out = tmp_path / "record.json"
    command = ["bench/gpu_kernels.py", "--try-on-cpu", "--out", str(out), "--ops"]
    first = run(*command, "relu2_ffn")
    assert first.returncode == 0, first.stderr
    record = json.loads(out.read_text())
    steps = record["training_steps"]
    assert [(s["recipe"], s["kernel"]) for s in steps] == [
        ("leaderboard", "relu2_ffn"),
        ("leaderboard", "all"),
    ]
    assert all(s["ms"] > 0 and s["ms_without"] > 0 for s in steps)
    assert {(r["direction"], r["contender"]) for r in record["rows"]} >= {
        (direction, who)
        for direction in ("forward", "backward")
        for who in ("eager", "torch.compile", "fastlm")
    }
    forward = record["rows"][0]
    moved, _ = OPS["relu2_ffn"].bytes_moved(OPS["relu2_ffn"].tiny, 2)
    assert forward["bytes_moved"] == moved
    assert forward["gb_per_second"] == pytest.approx(moved / forward["median_ms"] / 1e6)
    second = run(*command, "relu2_ffn", "qkv_norm_rope")
    assert second.returncode == 0, second.stderr
    again = json.loads(out.read_text())
    assert again["rows"][: len(record["rows"])] == record["rows"]
    assert again["training_steps"][:2] == steps
    (added,) = again["training_steps"][2:]
    assert (added["recipe"], added["kernel"]) == ("leaderboard", "qkv_norm_rope")
    assert {row["op"] for row in again["rows"]} == {"relu2_ffn", "qkv_norm_rope"}
    assert "| qkv_norm_rope | 2 x 3 x 2 x 4 | backward |" in second.stdout
    assert "| leaderboard | qkv_norm_rope | " in second.stdout
