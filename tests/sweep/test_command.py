"""Sweeps of runs of a few steps are run, repeated, grown and refused."""

import json
import subprocess

import pytest
from short_sweeps import SMALL, flags, gone_on_with

from fastlm.cli import BadArguments
from fastlm.files import disk
from fastlm.runs.record import RunRecord, write_json
from fastlm.runs.run_files import RunFiles, SweepFiles
from fastlm.runs.state import state_of
from fastlm.sweep import __main__ as sweep
from fastlm.sweep.plan import plan
from fastlm.train.command import configuration


@pytest.mark.slow
def test_a_sweep_is_run_once_goes_on_and_grows(data, tmp_path, capsys):
    out = tmp_path / "rates"
    vary = ["--vary", "optim.lr=1e-3,1e30"]
    sweep.main([str(out), *vary, "--at-once", "2", *flags(data, 10)])
    printed = capsys.readouterr().out
    assert "2 runs, 0 of them done" in printed
    assert "lr-1e30: diverged after step" in printed
    assert "NaN" in printed or "not finite" in printed
    assert json.loads((out / "lr-1e30/failed.json").read_text())["exit_code"] == 1
    assert state_of(out / "lr-1e30").name == "diverged"
    text = (out / "table.md").read_text()
    assert "| 1e30 | - |" in text
    assert {p.name for p in out.glob("*.png")} == {"curves.png", "loss.png"}
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/log.jsonl")}

    sweep.main([str(out)])
    assert "2 runs, 2 of them done" in capsys.readouterr().out
    assert (out / "table.md").read_text() == text

    sweep.main([str(out), "--vary", "optim.lr=1e-3,1e-2,1e30", *flags(data, 10)])
    assert "3 runs, 2 of them done" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert RunRecord(out / "lr-1e-2").summary()["step"] == 10

    with pytest.raises(ValueError, match=r"other settings \(max_steps 10, not 11\): give"):
        sweep.main([str(out), *vary, *flags(data, 11)])
    assert "3 runs, 3 of them done" in gone_on_with(out, capsys)  # the plan is the one before


def test_one_sweep_at_a_time_has_a_folder(tmp_path, asked):
    with (
        disk.locked(tmp_path / "s"),
        pytest.raises(BlockingIOError, match=r"s is being made by process \d+ on .*"),
    ):
        sweep.main([str(tmp_path / "s"), "--seeds", "0", "1", *SMALL])
    assert not (tmp_path / "s").exists()
    assert asked == []


def test_what_there_would_be_is_only_said(data, tmp_path, capsys):
    sweep.main([str(tmp_path / "x"), "--dry-run", "--ablate", "nope", *flags(data, 5)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("base_seed-0: --recipe tiny") or lines[0].startswith("base: ")
    assert "--model.position none" in lines[1]
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["--vary", "lr=1,2", "batch-size=3,4", "--ablate", "nope", "no-norm"],
        ["--vary", "lr=1,2", "--vary", "batch-size=3,4", "--ablate=nope", "--ablate", "no-norm"],
    ],
)
def test_several_fields_and_names_may_stand_after_one_flag_or_several(words, tmp_path, capsys):
    sweep.main([str(tmp_path), *words, "--dry-run", *SMALL])
    names = [line.split(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert len(names) == 2 * 2 * 3
    assert names[-1] == "no-norm_lr-2_batch-size-4"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--recipe", "tiny", "OUT"], "the sweep's folder comes first"),
        (["OUT"], "nothing to compare: give --vary .*is not there to go on with"),
        (["OUT", "--recipe", "tiny"], "nothing to compare"),
        (["OUT", "--vary", "--recipe", "tiny"], "--vary has no value"),
        (["OUT", "--seeds", "0", "1", "--ablate"], "--ablate has no value"),
        (["OUT", "--seeds", "0", "1", "--recipe", "tiny", "--at-once", "0"], "at-once must be"),
        (["OUT", "--seeds", "0", "1", "--recipe", "tinny"], "did you mean tiny"),
        (["OUT", "--vary", "lr=1,2", "--lerning-rate", "3"], "lerning-rate"),
        (["OUT", "--slurm", "--seeds", "0", "1", "--recipe", "tiny"], "--slurm needs --data"),
    ],
)
def test_a_mistake_is_told_in_a_line(words, message, tmp_path):
    words = [str(tmp_path / "out") if word == "OUT" else word for word in words]
    with pytest.raises((ValueError, BadArguments), match=message):
        sweep.main(words)
    assert not list(tmp_path.glob("out/*/config.json"))


def test_a_plan_that_compares_nothing_is_refused(tmp_path, asked):
    write_json(SweepFiles(tmp_path).plan, {"arguments": ["s"]})
    with pytest.raises(ValueError, match=r"sweep\.json names nothing to compare"):
        sweep.main([str(tmp_path)])
    assert asked == []


def test_what_came_to_its_end_is_not_run_again_and_all_else_is(tmp_path, monkeypatch, capsys):
    seeds = ["--seeds", "0", "1", "2", "3", "4"]
    runs = plan([], [], range(5), SMALL)
    end = {"step": 3, "tokens": 384, "elapsed_seconds": 1.0, "val_loss": 5.0}
    for run in runs[:4]:
        record = RunRecord(tmp_path / run.name)
        record.start(run.config, {})
        record.log({"kind": "train", **end, "tokens_per_second": 9.0})
    write_json(RunFiles(tmp_path / runs[0].name).summary, {"finished": True, **end})
    write_json(RunFiles(tmp_path / runs[1].name).summary, {"finished": False, **end})
    diverged = RunRecord(tmp_path / runs[2].name)
    diverged.log({"kind": "not finite", **end, "step": 4})
    write_json(diverged.files.nonfinite_step(4), {})
    write_json(RunFiles(tmp_path / runs[3].name).failed, {"exit_code": 1, "last": "no room"})
    begun = []
    monkeypatch.setattr(sweep, "run_all", lambda waiting, *_, **__: begun.extend(waiting) or set())
    with pytest.raises(SystemExit, match="1"):  # one is broken off
        sweep.main([str(tmp_path), *seeds, *SMALL])
    assert [run.name for run in begun] == ["seed-1", "seed-3", "seed-4"]
    told = capsys.readouterr().out
    assert "5 runs, 2 of them done" in told
    states = told.strip().splitlines()[-1].split("|")[-2].split(", ")
    assert [state.strip() for state in states] == [
        "finished", "stopped after step 3", "diverged after step 4", "broken off after step 3",
        "waiting",
    ]  # fmt: skip


@pytest.mark.parametrize("recipe", ["tiny", "handout", "leaderboard"])
@pytest.mark.parametrize("budget", [[], ["--max-steps", "9"], ["--time-budget", "1:30:00"]])
def test_jobs_have_the_budgets_of_their_runs(recipe, budget, data, tmp_path, monkeypatch):
    """slurm/leaderboard.sh gives each a time budget, which is not always the run's."""
    monkeypatch.setattr(
        subprocess, "run", lambda words, **_: subprocess.CompletedProcess(words, 0, "job 1", "")
    )
    words = ["--recipe", recipe, "--data", str(data), *budget]
    sweep.main([str(tmp_path), "--slurm", "--vary", "optim.lr=1e-3,3e-3", *words])
    lines = SweepFiles(tmp_path).flags.read_text().splitlines()
    runs = plan(["optim.lr=1e-3,3e-3"], [], [0], words)
    before = ["--recipe", "leaderboard", "--time-budget", "85m", "--compile", "--bf16"]
    assert [configuration([*before, *line.split()]) for line in lines] == [r.config for r in runs]
