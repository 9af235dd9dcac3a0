"""Jobs on a real Slurm, in the long form: `make soak`. The short form is slurm/test_jobs.py."""

import json
import random
import time

from slurm_jobs import NEEDS_SLURM, SMALL, assert_every_step_once, output, submit

from fastlm.runs.record import RunRecord

pytestmark = NEEDS_SLURM


def test_interrupted_five_times_at_random_no_step_is_lost(cluster, prepared_by_a_job, tmp_path):
    """The run's clock stands still between its jobs: 5 of them do not use up its 45 s."""
    rng, run = random.Random(0), tmp_path / "run"
    job = submit(
        *(cluster, tmp_path, "leaderboard.sh", *SMALL, "--max-steps", "1000000"),
        DATA=str(prepared_by_a_job),
        OUT=str(run),
        TIME_BUDGET="45s",
    )
    for n_interrupts in range(1, 6):
        cluster.wait_for(lambda: cluster.state(job) == "RUNNING", "a start", 900)
        time.sleep(rng.uniform(2.0, 6.0))
        cluster.send(job, "USR1")
        cluster.wait_for(lambda n=n_interrupts: cluster.n_restarts(job) >= n, "a requeue", 900)
    assert cluster.wait_for_end(job, 900) == "COMPLETED", output(tmp_path, job)
    assert cluster.n_restarts(job) == 5
    assert_every_step_once(run, json.loads((run / "summary.json").read_text())["step"])
    n_resumed = sum(row["kind"] == "resume" for row in RunRecord(run).rows())
    assert 1 <= n_resumed <= 5
