"""The Slurm scripts, really submitted: to a controller of one node that the test starts."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from short_runs import train_rows
from slurm_controller import Controller, is_installed

from fastlm.checkpoint import read_newest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.skipif(not is_installed(), reason="needs root and Debian's slurm-wlm and munge"),
]

SMALL = [
    "--device", "cpu", "--model.n-layers", "1", "--model.d-model", "32", "--model.n-heads", "2",
    "--model.context-length", "32", "--batch-size", "4", "--eval-tokens", "256", "--eval-every",
    "1000", "--log-every", "1", "--no-compile",
]  # fmt: skip


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with Controller(tmp_path_factory.mktemp("slurm")) as controller:
        yield controller


@pytest.fixture(scope="module")
def prepared(cluster, tmp_path_factory) -> Path:
    """Data made by slurm/prepare.sh."""
    from fastlm.corpus import make_stories

    folder = tmp_path_factory.mktemp("jobs")
    text = make_stories(folder / "text", n_bytes=60_000, valid_bytes=6_000)
    job = submit(
        cluster, folder, "prepare.sh", TEXT=str(text), DATA=str(folder / "d"), VOCAB_SIZE="300"
    )
    assert cluster.wait_for_end(job) == "COMPLETED", output(folder, job)
    assert (folder / "d/meta.json").exists()
    return folder / "d"


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
    """Neither hole nor double in the curve, and the last checkpoint is of the last step."""
    assert [row["step"] for row in train_rows(run)] == list(range(1, n_steps + 1))
    assert read_newest(run / "checkpoints", pytest.fail).step == n_steps
    assert json.loads((run / "summary.json").read_text())["finished"] == finished


def test_the_limit_of_the_job_is_met_requeued_resumed_and_finished(cluster, prepared, tmp_path):
    """As it is in the script, but for a limit of a minute and a toy network.

    Slurm looks every 30 seconds whether a signal is due before it looks again: this one comes 10 to
    40 seconds after each start.
    """
    run = tmp_path / "run"
    job = submit(
        *(cluster, tmp_path, "leaderboard.sh", *SMALL, "--max-steps", "1000000"),
        flags=["--time=1", "--signal=B:USR1@20"],
        DATA=str(prepared),
        OUT=str(run),
        TIME_BUDGET="60s",
    )
    assert cluster.wait_for_end(job, 240) == "COMPLETED", output(tmp_path, job)
    told = output(tmp_path, job)
    assert cluster.n_restarts(job) >= 1, told
    assert "signal: saving" in told or "the end of the job" in told
    assert re.search(r"resumed at step \d+", told), told
    summary = json.loads((run / "summary.json").read_text())
    assert summary["stopped_by"] == "time budget"
    assert 0.98 * 60 < summary["elapsed_seconds"] < 60
    assert_every_step_once(run, summary["step"])


def test_a_sweep_is_submitted_as_an_array_and_reported_when_it_has_ended(
    cluster, prepared, tmp_path
):
    """From another folder than the scripts', with a time of its own and a rate that diverges."""
    out = tmp_path / "rates"
    command = [sys.executable, "-m", "fastlm.sweep", str(out)]
    environment = cluster.environment | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def sweep(*flags: str) -> str:
        done = subprocess.run(
            [*command, *flags], cwd=prepared.parent, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    told = sweep(
        *("--vary", "optim.lr=1e-3,1e30", "--slurm", "--at-once", "2", "--recipe", "tiny"),
        *(*SMALL, "--data", prepared.name, "--max-steps", "4"),
    )
    job = re.search(r"Submitted batch job (\d+)", told).group(1)
    assert cluster.wait_for_end(f"{job}_1", 120) == "COMPLETED", (out / "slurm-1.txt").read_text()
    cluster.wait_for_end(f"{job}_2", 120)
    assert_every_step_once(out / "lr-1e-3", 4)
    assert "not finite" in (out / "slurm-2.txt").read_text()
    told = sweep()
    assert "2 runs, 2 of them done" in told
    assert "| 1e30 | - | " in told
    assert "diverged" in told


def test_several_processes_are_stopped_requeued_and_finish(cluster, prepared, tmp_path):
    """As on several nodes, but for their number."""
    run = tmp_path / "run"
    job = submit(
        *(cluster, tmp_path, "multinode.sh", *SMALL, "--max-steps", "300"),
        flags=["--nodes=1", "--gpus-per-node=1", "--cpus-per-task=4"],
        DATA=str(prepared),
        OUT=str(run),
        PROCESSES="2",
        TIME_BUDGET="10m",
    )
    cluster.wait_for(lambda: len(train_rows(run)) > 20, "steps", 120)
    cluster.send(job, "USR1")
    cluster.wait_for(lambda: cluster.n_restarts(job) >= 1, "a requeue", 90)
    assert cluster.wait_for_end(job, 200) == "COMPLETED", output(tmp_path, job)
    told = output(tmp_path, job)
    assert "2 x cpu" in told
    assert re.search(r"resumed at step \d+", told), told
    assert_every_step_once(run, 300)


@pytest.mark.parametrize("script", ["leaderboard.sh", "multinode.sh"])
def test_a_job_that_is_cancelled_is_saved_and_stays_away(script, cluster, prepared, tmp_path):
    run = tmp_path / "run"
    job = submit(
        *(cluster, tmp_path, script, *SMALL, "--max-steps", "1000000"),
        flags=["--nodes=1", "--gpus-per-node=1", "--cpus-per-task=4"],
        DATA=str(prepared),
        OUT=str(run),
        PROCESSES="1",
        TIME_BUDGET="10m",
    )
    cluster.wait_for(lambda: len(train_rows(run)) > 20, "steps", 120)
    cluster.cancel(job)
    assert cluster.wait_for_end(job, 60) == "CANCELLED", output(tmp_path, job)
    assert cluster.n_restarts(job) == 0
    assert_every_step_once(run, train_rows(run)[-1]["step"], finished=False)
