"""Submitting the runs of a sweep as a Slurm job array."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from fastlm import cli
from fastlm.config.dotted import leaves
from fastlm.config.durations import duration_text
from fastlm.files import disk
from fastlm.files.paths import PACKAGE
from fastlm.runs.run_files import SweepFiles
from fastlm.sweep.plan import PATHS, Run


def submit(runs: Sequence[Run], folder: Path, *, at_once: int) -> None:
    """Write a line of flags for each run, and submit an array that runs them.

    Args:
        folder: folder of the sweep.
        at_once: jobs at the same time.
    Raises:
        ValueError: if sbatch, the scripts or the data are missing, or a word has a space.
    """
    if not runs[0].config.data.path:
        raise ValueError("--slurm needs --data: a folder made by fastlm.data prepare")
    root, out = PACKAGE.parent, folder.absolute()
    job = root / "slurm" / "sweep.sh"
    if not job.is_file():
        raise ValueError(f"--slurm needs a checkout of fastlm: expected {job}, which no wheel has")
    lines = []
    for run in runs:
        words = ["--tuned", "none", "--recipe", run.config.recipe, *run.flags]
        words += ["--out", str(out / run.name)]
        # slurm/leaderboard.sh sets these for all runs; the run's own settings replace them.
        words += [] if run.config.compile else ["--no-compile"]
        words += [] if run.config.bf16 else ["--no-bf16"]
        for budget in ("max_steps", "max_tokens", "time_budget"):  # a number or None
            limit = getattr(run.config, budget)
            is_time = budget == "time_budget" and limit is not None
            text = duration_text(limit) if is_time else str(limit)
            words += [f"--{budget.replace('_', '-')}", text]
        if Path.cwd() != root:  # where jobs begin
            values = leaves(run.config)
            for name, flag in PATHS.items():
                words += [flag, str(Path(values[name]).absolute())] if values[name] else []
        if any(len(word.split()) != 1 for word in words):
            raise ValueError(f"--slurm takes flags and folders without spaces: got {words}")
        lines.append(" ".join(words))
    file = SweepFiles(out).flags
    disk.write_file(file, "".join(f"{line}\n" for line in lines).encode(), replace=True)
    words = ["sbatch", f"--array=1-{len(runs)}%{at_once}", f"--output={out}/slurm-%a.txt"]
    words += [str(job), str(file)]
    environment = {"PYTHON": sys.executable} | os.environ
    try:
        done = subprocess.run(words, cwd=root, env=environment, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise ValueError("no sbatch here: --slurm is for a cluster's login node") from error
    if done.returncode:
        raise ValueError(f"sbatch refused the jobs: {done.stderr.strip()}")
    print(done.stdout.strip())
    print(f"when it has ended: {cli.command_line('sweep', folder)}")
