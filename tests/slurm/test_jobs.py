"""The Slurm scripts, really submitted: to a controller of one node that the test starts."""

import json
import re
import subprocess
import sys

import pytest
from commands import ROOT
from short_runs import train_rows
from slurm_jobs import NEEDS_SLURM, SMALL, assert_every_step_once, output, submit

pytestmark = NEEDS_SLURM


def test_the_limit_of_the_job_is_met_requeued_resumed_and_finished(
    cluster, prepared_by_a_job, tmp_path
):
    """The job is that of the script, but for a limit of a minute and a toy network.

    Slurm checks every 30 seconds whether a signal is due before the next check, so this one comes
    10 to 40 seconds after each start.
    """
    run = tmp_path / "run"
    job = submit(
        *(cluster, tmp_path, "leaderboard.sh", *SMALL, "--max-steps", "1000000"),
        flags=["--time=1", "--signal=B:USR1@20"],
        DATA=str(prepared_by_a_job),
        OUT=str(run),
        TIME_BUDGET="45s",
    )
    assert cluster.wait_for_end(job, 900) == "COMPLETED", output(tmp_path, job)
    told = output(tmp_path, job)
    assert cluster.n_restarts(job) >= 1, told
    assert "signal: saving" in told or "the end of the job" in told
    assert re.search(r"resumed at step \d+", told), told
    summary = json.loads((run / "summary.json").read_text())
    assert summary["stopped_by"] == "time budget"
    assert_every_step_once(run, summary["step"])


def test_a_sweep_is_submitted_as_an_array_and_reported_when_it_has_ended(
    cluster, prepared_by_a_job, tmp_path
):
    """It starts outside the scripts' folder, with its own time limit and a rate that diverges."""
    out = tmp_path / "rates"
    command = [sys.executable, "-m", "fastlm.sweep", str(out)]
    environment = cluster.environment | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def sweep(*flags: str) -> str:
        done = subprocess.run(
            [*command, *flags],
            cwd=prepared_by_a_job.parent,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    told = sweep(
        *("--vary", "optim.lr=1e-3,1e30", "--slurm", "--at-once", "2", "--recipe", "tiny"),
        *(*SMALL, "--data", prepared_by_a_job.name, "--max-steps", "4"),
    )
    job = re.search(r"Submitted batch job (\d+)", told).group(1)
    assert cluster.wait_for_end(f"{job}_1", 900) == "COMPLETED", (out / "slurm-1.txt").read_text()
    cluster.wait_for_end(f"{job}_2", 900)
    assert_every_step_once(out / "lr-1e-3", 4)
    assert "not finite" in (out / "slurm-2.txt").read_text()
    told = sweep()
    assert "2 runs, 2 of them done" in told
    assert "| 1e30 | - | " in told
    assert "diverged" in told


def test_several_processes_are_stopped_requeued_and_finish(cluster, prepared_by_a_job, tmp_path):
    """The job for several nodes runs on one, with two processes."""
    run = tmp_path / "run"
    job = submit(
        *(cluster, tmp_path, "multinode.sh", *SMALL, "--max-steps", "300"),
        flags=["--nodes=1", "--gpus-per-node=1", "--cpus-per-task=4"],
        DATA=str(prepared_by_a_job),
        OUT=str(run),
        PROCESSES="2",
        TIME_BUDGET="10m",
    )
    cluster.wait_for(lambda: len(train_rows(run)) > 20, "steps", 900)
    cluster.send(job, "USR1")
    cluster.wait_for(lambda: cluster.n_restarts(job) >= 1, "a requeue", 900)
    assert cluster.wait_for_end(job, 900) == "COMPLETED", output(tmp_path, job)
    told = output(tmp_path, job)
    assert "2 x cpu" in told
    assert re.search(r"resumed at step \d+", told), told
    assert_every_step_once(run, 300)


@pytest.mark.parametrize("script", ["leaderboard.sh", "multinode.sh"])
def test_a_job_that_is_cancelled_is_saved_and_stays_away(
    script, cluster, prepared_by_a_job, tmp_path
):
    run = tmp_path / "run"
    job = submit(
        *(cluster, tmp_path, script, *SMALL, "--max-steps", "1000000"),
        flags=["--nodes=1", "--gpus-per-node=1", "--cpus-per-task=4"],
        DATA=str(prepared_by_a_job),
        OUT=str(run),
        PROCESSES="1",
        TIME_BUDGET="10m",
    )
    cluster.wait_for(lambda: len(train_rows(run)) > 20, "steps", 900)
    cluster.cancel(job)
    assert cluster.wait_for_end(job, 900) == "CANCELLED", output(tmp_path, job)
    assert cluster.n_restarts(job) == 0
    assert_every_step_once(run, train_rows(run)[-1]["step"], finished=False)
