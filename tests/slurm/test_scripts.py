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


def test_tune_measures_the_recipe_of_the_leaderboard_with_its_data(tmp_path):
    """Within the limit of its job; a stand-in for Python shows its words."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)
    script = ROOT / "slurm/tune.sh"
    set_to = {"PYTHON": str(python)}
    done = subprocess.run(
        [str(script), "--fp8"], env=os.environ | set_to, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == (
        "-m fastlm.tune --recipe leaderboard --data data/owt-v32000 --minutes 15 --fp8"
    )
    set_to |= {"RECIPE": "baseline", "DATA": "d", "MINUTES": "3"}
    done = subprocess.run(
        [str(script)], env=os.environ | set_to, capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("-m fastlm.tune --recipe baseline --data d --minutes 3\n")
    (limit,) = re.findall(r"#SBATCH --time=(\S+)", script.read_text())
    assert parse_duration(limit) >= 60 * (15 + 3)


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


def program(path: Path, *lines: str) -> Path:
    """A shell script to stand in for a program."""
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


def done_by(script: str, **changes: str) -> subprocess.CompletedProcess[str]:
    with_slurm = {name for name in os.environ if name.startswith("SLURM_")}
    kept = {name: value for name, value in os.environ.items() if name not in with_slurm}
    command = [str(ROOT / "slurm" / script)]
    return subprocess.run(command, env=kept | changes, capture_output=True, text=True)


def test_a_job_that_saved_and_is_not_requeued_names_the_folder_to_resume(tmp_path):
    python = str(program(tmp_path / "python", "exit 75"))
    done = done_by("leaderboard.sh", PYTHON=python)
    assert done.returncode == 75
    assert done.stdout.splitlines()[-1] == (
        "to resume: the same command with OUT=out/leaderboard-local"
    )
    done = done_by("leaderboard.sh", PYTHON=python, OUT=str(tmp_path / "my run"))
    assert f"OUT={tmp_path}/my\\ run" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("earlier", "written", "code", "is_requeued"),
    [
        ('{"finished": true}', None, 1, False),
        ('{"finished": false, "saved": true}', None, 1, False),
        ('{"finished": true}', '{"finished": false, "saved": true}', 75, True),
        ('{"finished": false, "saved": true}', '{"finished": false, "saved": true}', 75, True),
        (None, '{"finished": false, "saved": true}', 75, True),
    ],
)
def test_a_job_of_several_nodes_keeps_and_never_reads_the_summary_of_an_earlier_one(
    earlier, written, code, is_requeued, tmp_path
):
    run = tmp_path / "run"
    run.mkdir()
    summary = run / "summary.json"
    if earlier is not None:
        summary.write_text(earlier)
    programs = tmp_path / "bin"
    program(programs / "scontrol", f'echo "$1" >>{tmp_path}/calls', "echo node")
    program(programs / "squeue")
    write = f"echo '{written}' >{run}/.new && mv {run}/.new {summary}" if written else ":"
    program(programs / "srun", write, "exit 1")
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "node", "SLURM_NNODES": "1"}
    path = f"{programs}:{os.environ['PATH']}"
    done = done_by("multinode.sh", **job, PATH=path, PYTHON="python", OUT=str(run))
    assert done.returncode == code, done.stderr
    assert ("requeue" in (tmp_path / "calls").read_text().split()) == is_requeued
    assert summary.read_text().strip() == (written or earlier)


def test_a_text_that_is_there_is_compared_with_the_data_that_are_there(tmp_path):
    python = program(tmp_path / "python", f'echo "$@" >>{tmp_path}/calls')
    data, text = tmp_path / "data", tmp_path / "my.txt"
    data.mkdir()
    (data / "meta.json").touch()
    environment = {"PYTHON": str(python), "DATA": str(data)}
    for changes in ({}, {"TEXT": str(text)}):
        assert done_by("prepare.sh", **environment, **changes).returncode == 0
    assert not (tmp_path / "calls").exists()  # a download, or a text that is gone
    text.touch()
    assert done_by("prepare.sh", **environment, TEXT=str(text)).returncode == 0
    assert (tmp_path / "calls").read_text().startswith(f"-m fastlm.data prepare {text} ")
