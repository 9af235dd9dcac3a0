"""Runs that survive, in the long form: `make soak`. The short form is in the tests named below."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from bugs import RUN_BUGS
from commands import ROOT, torchrun
from fuzz_files import fuzz
from kill_while_saving import kill_while_saving
from mutations import check_is_seen
from rank_runs import FLAGS, assert_close, check_one_ends_all
from resumed_runs import N_STEPS, OPTIM, UNTIED, check_every_step
from short_runs import assert_equal_runs, train_rows
from signalled_runs import run_with_signals

from fastlm.devices import hardware
from fastlm.files import disk
from fastlm.runs.record import RunRecord
from fastlm.runs.state import state_of
from fastlm.train.signals import SAVED


def test_a_thousand_kills_while_saving(tmp_path):
    """test_saver.py has 40."""
    n_halves = kill_while_saving(tmp_path, 1000, seed=1)
    print(f"1,000 kills, {n_halves} in the middle of a checkpoint, 0 lost")
    assert n_halves > 100


def test_fifty_signals_at_random_moments(data, tmp_path):
    """test_signals.py has 3, in start-up and among the steps."""
    rng = random.Random(1)
    assert run_with_signals(data, tmp_path / "whole", [], rng) == [0]
    codes: list[int] = []
    for n in range(50):
        run = tmp_path / f"run-{n}"
        codes += run_with_signals(data, run, [(0, rng.uniform(0.0, 8.0))], rng)
        assert_equal_runs(run, tmp_path / "whole")
    print(f"{codes.count(SAVED)} of 50 signals stopped a run, the others came after its end")
    assert codes.count(SAVED) > 30


def test_signals_while_compiling(data, tmp_path):
    rng = random.Random(2)
    moments = [(0, rng.uniform(2.0, 9.0)) for _ in range(5)]
    codes = run_with_signals(data, tmp_path, moments, rng, "--compile", "--deterministic")
    assert codes[-1] == 0
    assert SAVED in codes


def test_the_runs_of_a_killed_sweep_save_and_end(data, tmp_path):
    """test_command.py of sweep/ has stand-ins for the sweep and the training."""
    out = tmp_path / "sweep"
    words = ["--recipe", "tiny", "--data", str(data), "--max-steps", "100000", "--log-every", "1"]
    begun = subprocess.Popen(
        [sys.executable, "-m", "fastlm.sweep", str(out), "--seeds", "0", "1", "--at-once", "2", *words],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    runs = [out / "seed-0", out / "seed-1"]
    deadline = time.monotonic() + 600
    while any(len(train_rows(run)) < 5 for run in runs):
        assert begun.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    begun.kill()
    begun.wait()
    while any(state_of(run).name != "stopped" for run in runs):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    for run in runs:
        assert RunRecord(run).summary()["saved"]
        with disk.locked(run, wait_seconds=60):  # until its process has ended
            pass


def test_ten_thousand_changed_files(data, finished, tmp_path):
    """test_fuzz.py has 400."""
    answers = fuzz(data, finished[0], 10_000, tmp_path, seed=1)
    print(dict(answers))
    assert set(answers) == {"read", "refused"}, answers


@pytest.mark.parametrize("n", [1, 4])
def test_resumed_after_any_step(n, data, tmp_path):
    """test_resume.py has some steps."""
    check_every_step(range(1, N_STEPS), data, tmp_path, micro_batch=8 // n)


@pytest.mark.parametrize("n", [1, 4])
def test_resumed_after_any_step_in_bfloat16(n, data, tmp_path, monkeypatch):
    """test_resume.py has one step. Real bfloat16 arithmetic, also on a CPU that emulates it."""
    monkeypatch.setattr(hardware, "cpu_has_bf16", lambda: True)
    check_every_step(range(1, N_STEPS), data, tmp_path, micro_batch=8 // n, bf16=True)


def test_resumed_after_any_step_of_the_leaderboards_optimizers(data, tmp_path):
    """test_resume.py has two steps."""
    steps = range(1, N_STEPS)
    check_every_step(steps, data, tmp_path, micro_batch=4, optim=OPTIM, model=UNTIED)


def test_resumed_after_any_step_compiled_and_deterministic(data, tmp_path):
    """test_resume.py has one step."""
    check_every_step(range(1, N_STEPS), data, tmp_path, compile=True, deterministic=True)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_compiled_train_as_uncompiled(parallel, data, tmp_path):
    """Under FSDP each layer is compiled by itself; without it the whole step is."""
    for name, flag in (("plain", "--no-compile"), ("compiled", "--compile")):
        flags = [*FLAGS, "--max-steps", "10", "--parallel", parallel, flag]
        run = torchrun("-m", "fastlm.train", "--data", data, "--out", tmp_path / name, *flags)
        _, told = run.communicate(timeout=600)
        assert run.returncode == 0, told
    assert_close(tmp_path / "compiled", tmp_path / "plain", tolerance=1e-4)


@pytest.mark.parametrize(
    ("number", "parallel"),
    [(signal.SIGTERM, "ddp"), (signal.SIGTERM, "fsdp"), (signal.SIGKILL, "fsdp")],
)
def test_what_happens_to_one_process_ends_all_and_the_run_goes_on(number, parallel, data, tmp_path):
    """test_ranks.py has DDP, killed."""
    check_one_ends_all(number, parallel, data, tmp_path / "run")


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_four_processes_train_as_one(parallel, data, tmp_path):
    """test_ranks.py has two."""
    flags = [*FLAGS, "--max-steps", "20", "--optim.name", "normuon", "--data", str(data)]
    command = [sys.executable, "-m", "fastlm.train", *flags, "--micro-batch", "2"]
    alone = subprocess.run(
        [*command, "--out", tmp_path / "one"], env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert alone.returncode == 0
    arguments = ("-m", "fastlm.train", *flags, "--out", tmp_path / "four", "--parallel", parallel)
    run = torchrun(*arguments, n=4)
    _, told = run.communicate(timeout=600)
    assert run.returncode == 0, told
    assert_close(tmp_path / "four", tmp_path / "one")


@pytest.mark.parametrize("flags", [[], ["--fix-steps"]], ids=["by the clock", "fixed steps"])
def test_of_a_minute_98_hundredths_are_used(flags, data, tmp_path):
    """test_budget.py and test_fixed_steps.py check the same on simulated clocks."""
    began = time.monotonic()
    run_flags = [*FLAGS, "--max-steps", "None", "--time-budget", "60s", *flags, "--data", str(data)]
    done = subprocess.run(
        [sys.executable, "-m", "fastlm.train", *run_flags, "--out", tmp_path / "run"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    seconds = time.monotonic() - began
    assert done.returncode == 0
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    elapsed = summary["elapsed_seconds"]
    print(f"{elapsed:.2f} s of 60 by the run's clock; with curve, sample and exit {seconds:.1f} s")
    assert summary["finished"]
    # Fixed steps keep a hundredth more, so that a run slower than its probe ends in time.
    assert (0.97 if flags else 0.98) * 60.0 <= elapsed <= 60.0


@pytest.mark.parametrize("name", RUN_BUGS)
def test_a_typical_bug_makes_a_test_fail(name, tmp_path):
    check_is_seen(name, RUN_BUGS[name], tmp_path)
