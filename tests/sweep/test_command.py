"""Sweeps of runs of a few steps are finished, resumed, stopped and refused."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from short_runs import train_rows

from fastlm.checkpoint import FILES, FORMAT, MANIFEST
from fastlm.cli import BadArguments
from fastlm.config import TrainConfig
from fastlm.config.dotted import replaced
from fastlm.data.prepared import open_prepared
from fastlm.files import disk
from fastlm.files.sealed import seal
from fastlm.runs.record import RunRecord, write_json
from fastlm.runs.run_files import RunFiles, SweepFiles
from fastlm.runs.state import state_of
from fastlm.sweep import __main__ as sweep
from fastlm.sweep.plan import plan
from fastlm.train.command import _story_data, configuration
from fastlm.train.signals import SAVED

ROOT = Path(__file__).resolve().parents[2]
SMALL = [
    "--recipe", "tiny", "--device", "cpu", "--model.d-model", "32", "--model.n-layers", "1",
    "--model.n-heads", "2", "--model.context-length", "32", "--batch-size", "4", "--eval-tokens",
    "256", "--eval-every", "5", "--log-every", "1",
]  # fmt: skip


def flags(data: Path, n_steps: int) -> list[str]:
    return [*SMALL, "--data", str(data), "--max-steps", str(n_steps)]


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


def gone_on_with(out: Path, capsys) -> str:
    sweep.main([str(out)])
    return capsys.readouterr().out


@pytest.mark.slow
def test_a_sweep_that_is_stopped_saves_and_goes_on(data, tmp_path, capsys, monkeypatch):
    out = tmp_path / "seeds"
    command = [sys.executable, "-m", "fastlm.sweep", str(out)]
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    begun = subprocess.Popen(
        [*command, "--seeds", "0", "1", *flags(data, 150)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 600
    while len(train_rows(out / "seed-0")) < 20:
        assert time.monotonic() < deadline, begun.poll()
        time.sleep(0.05)
    begun.send_signal(signal.SIGTERM)
    _, told = begun.communicate(timeout=600)
    assert begun.returncode == SAVED, told
    assert f"stopped; python -m fastlm.sweep {out} goes on" in told
    half = RunRecord(out / "seed-0").summary()
    assert not half["finished"]
    assert not (out / "seed-1").exists()

    assert "2 runs, 0 of them done" in gone_on_with(out, capsys)
    for name in ("seed-0", "seed-1"):
        assert [row["step"] for row in train_rows(out / name)] == list(range(1, 151))
    resumed = [row["step"] for row in RunRecord(out / "seed-0").rows() if row["kind"] == "resume"]
    assert resumed == [half["step"]]


def begun(folder: Path, config: TrainConfig, *, loss: float | None = 5.0) -> RunRecord:
    """A run of three steps, finished if it has a loss."""
    end = {"step": 3, "tokens": 384, "elapsed_seconds": 1.0, "val_loss": loss}
    record = RunRecord(folder)
    record.start(config, {})
    record.log({"kind": "train", **end, "tokens_per_second": 9.0})
    if loss is not None:
        write_json(record.files.summary, {"finished": True, **end})
    return record


@pytest.fixture
def asked(monkeypatch) -> list[str]:
    """Names of the runs that would be trained; nothing is."""
    names: list[str] = []
    monkeypatch.setattr(
        sweep, "_run_all", lambda runs, _: names.extend(run.name for run in runs) or set()
    )
    return names


def test_a_sweep_never_replaces_what_is_not_its_own(tmp_path, asked):
    """Another sweep's plan, a single run, somebody's table."""
    words = ["--vary", "lr=1e-3,3e-3", *SMALL]
    sweep.main([str(tmp_path / "s"), *words])
    plan_file = SweepFiles(tmp_path / "s").plan
    before = plan_file.read_bytes()
    for others in (["lr=1e-3,1e-2"], ["lr=1e-3"], ["batch-size=2,4"]):
        with pytest.raises(
            FileExistsError, match=r"a sweep with other runs, such as .*--overwrite"
        ):
            sweep.main([str(tmp_path / "s"), "--vary", *others, *SMALL])
        assert plan_file.read_bytes() == before
    sweep.main([str(tmp_path / "s"), "--vary", "lr=1e-2,1e-3,3e-3", *SMALL])  # more values
    assert asked[-3:] == ["lr-1e-2", "lr-1e-3", "lr-3e-3"]
    sweep.main([str(tmp_path / "s"), "--overwrite", "--vary", "batch-size=2,4", *SMALL])
    assert json.loads(plan_file.read_text())["arguments"][1:3] == ["--vary", "batch-size=2,4"]
    plan_file.write_text("[" * 100_000)
    with pytest.raises(FileExistsError, match=r"sweep\.json cannot be gone on with"):
        sweep.main([str(tmp_path / "s"), *words])
    with pytest.raises(ValueError, match=r"sweep\.json: expected a JSON object"):
        sweep.main([str(tmp_path / "s")])

    (run,) = plan([], [], [0], SMALL)
    begun(tmp_path / "run", run.config)
    (tmp_path / "prepared").mkdir()
    (tmp_path / "prepared/meta.json").write_text("{}")
    table = tmp_path / "texts" / "table.md"
    table.parent.mkdir()
    table.write_text("mine")
    for name in ("run", "texts", "prepared"):
        there = sorted((tmp_path / name).rglob("*"))
        with pytest.raises(FileExistsError, match="give the sweep another"):
            sweep.main([str(tmp_path / name), *words])
        assert sorted((tmp_path / name).rglob("*")) == there
    assert table.read_text() == "mine"


def test_one_sweep_at_a_time_has_a_folder(tmp_path, asked):
    with (
        disk.locked(tmp_path / "s"),
        pytest.raises(BlockingIOError, match=r"s is being made by process \d+ on .*"),
    ):
        sweep.main([str(tmp_path / "s"), "--seeds", "0", "1", *SMALL])
    assert not (tmp_path / "s").exists()
    assert asked == []


def test_a_run_that_another_process_trains_is_left_out(tmp_path, monkeypatch, capsys):
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(sweep, "WAIT_SECONDS", 0.0)
    begun(tmp_path / "s/seed-0", plan([], [], [0, 1], SMALL)[0].config, loss=None)
    with disk.locked(tmp_path / "s/seed-0"):
        sweep.main([str(tmp_path / "s"), "--seeds", "0", "1", *SMALL])
    told = capsys.readouterr().out
    assert "seed-0: left out: " in told
    assert "is being made by process" in told
    assert "seed-1: no validation loss" in told
    assert "| running after step 3, waiting |" in told


def test_folders_of_earlier_versions_are_found(tmp_path, asked, capsys, monkeypatch):
    """Their names were not those of their values alone; a bare time budget was in seconds."""
    monkeypatch.chdir(tmp_path)
    for path in ("i/a", "i-a"):
        Path(path).mkdir(parents=True)
        Path(path, "meta.json").write_text("{}")
    tmp_path = tmp_path / "sweep"
    words = [str(tmp_path), "--vary", "data=i/a,i-a", "--vary", "time-budget=60,2m", *SMALL]
    write_json(SweepFiles(tmp_path).plan, {"arguments": [*words, "--time_budget=90"]})
    old = plan(["data=i/a", "time-budget=60s"], [], [0], SMALL)[0].config
    begun(tmp_path / "data-i-a_time-budget-60", old)
    sweep.main([str(tmp_path)])
    assert "4 runs, 1 of them done" in capsys.readouterr().out
    assert [name[:8] for name in asked] == ["data-i-a"] * 3
    assert len(set(asked)) == 3


def test_a_run_ends_when_the_process_of_its_sweep_is_killed():
    """The sweep and the training are stand-ins; how a child watches its parent is the real thing."""
    program = (
        "import subprocess, sys, time\n"
        "from fastlm.sweep import child\n"
        "child._PROGRAM = 'import runpy, time; import fastlm.sweep.child as c;"
        " runpy.run_module = lambda *_, **__: (print(*c.sys.argv[1:], flush=True), time.sleep(600));"
        " c.main()'\n"
        "from pathlib import Path\n"
        "subprocess.Popen(child.command(['--seed', '1'], Path('x')), start_new_session=True)\n"
        "time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, text=True,
    ) as parent:  # fmt: skip
        assert parent.stdout.readline() == "--seed 1 --out x --resume auto\n"
        parent.kill()
        began = time.monotonic()
        assert parent.stdout.read() == ""  # at the end of the child, which holds the pipe too
    assert time.monotonic() - began < 60


@pytest.mark.slow
def test_a_flag_that_no_run_can_use_ends_the_sweep(data, tmp_path):
    out = tmp_path / "sweep"
    with pytest.raises(ValueError, match=r"seed-0: device mps is not available") as error:
        sweep.main([str(out), "--seeds", "0", "1", *flags(data, 5), "--device", "mps"])
    assert "\n" not in str(error.value)
    assert "error:" not in str(error.value)
    assert not (out / "seed-1").exists()


def test_data_that_are_not_there_are_told_before_anything_is_written(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"no prepared data in .*nowhere.*fastlm\.data prep"
    ):
        sweep.main([str(tmp_path / "out"), "--seeds", "0", "1", *flags(tmp_path / "nowhere", 5)])
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_goes_on_where_its_relative_data_are(data, tmp_path, asked, monkeypatch):
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "mine").symlink_to(data if place == "a" else tmp_path)
    (tmp_path / "meta.json").write_text("{}")  # b has other data of that name
    monkeypatch.chdir(tmp_path / "a")
    words = ["--seeds", "0", "1", *SMALL]
    sweep.main(["s", *words, "--data", "mine"])
    begun(Path("s/seed-0"), plan([], [], [0, 1], [*SMALL, "--data", "mine"])[0].config)
    assert json.loads(Path("s/sweep.json").read_text())["begun_in"] == ".."
    monkeypatch.chdir(tmp_path / "b")
    with pytest.raises(
        ValueError, match=r"was begun in .*/a, where --data mine begins: go on from"
    ):
        sweep.main([str(tmp_path / "a/s")])
    sweep.main([str(tmp_path / "a/s"), *words, "--data", str(tmp_path / "a/mine")])
    monkeypatch.chdir(tmp_path / "a")
    sweep.main(["s"])
    assert asked == ["seed-0", "seed-1", "seed-1", "seed-1"]


def test_runs_that_are_done_need_no_data(tmp_path, asked, capsys):
    words = ["--seeds", "0", "1", *flags(tmp_path / "gone", 5)]
    for run in plan([], [], [0, 1], words[3:]):
        begun(tmp_path / "s" / run.name, run.config)
    sweep.main([str(tmp_path / "s"), *words])
    assert "2 runs, 2 of them done" in capsys.readouterr().out
    assert asked == []


def test_a_number_of_steps_that_was_asked_for_is_a_setting_of_its_own(tmp_path, asked):
    """A run with fix_steps finds its number of steps, unless one is given."""
    limited = [*SMALL, "--fix-steps", "--time-budget", "60s"]
    out = str(tmp_path / "given")
    sweep.main([out, "--vary", "max-steps=3,5", *limited])
    for run in plan(["max-steps=3,5"], [], [0], limited):
        begun(tmp_path / "given" / run.name, run.config)
    with pytest.raises(FileExistsError, match=r"other runs, such as max-steps-3"):
        sweep.main([out, "--vary", "max-steps=6,12", *limited])
    sweep.main([out, "--vary", "max-steps=3,5,6,12", *limited])
    sweep.main([out, "--overwrite", "--seeds", "0", "1", *limited])
    assert asked[2:] == ["max-steps-6", "max-steps-12", "seed-0", "seed-1"]

    run = plan([], [], [0, 1], limited)[0]
    record = begun(tmp_path / "found/seed-0", dataclasses.replace(run.config, max_steps=7))
    with pytest.raises(ValueError, match=r"other settings \(max_steps 7, not None\)"):
        sweep.main([str(tmp_path / "found"), "--seeds", "0", "1", *limited])
    record.log({"kind": "probe", "step": 0, "max_steps": 7})
    sweep.main([str(tmp_path / "found"), "--seeds", "0", "1", *limited])
    assert asked[6:] == ["seed-1"]
    with pytest.raises(ValueError, match=r"other settings \(max_steps None, not 7\)"):
        sweep.main([str(tmp_path / "found"), "--overwrite", "--seeds", "0", "1", *limited,
                    "--max-steps", "7"])  # fmt: skip


def test_a_sweep_without_data_goes_on_with_the_stories_that_its_runs_made(
    tmp_path, asked, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fastlm.corpus.generated.make_stories", lambda *_, **__: Path("data"))
    monkeypatch.setattr("fastlm.corpus.generated.are_unchanged", lambda _: True)
    monkeypatch.setattr("fastlm.data.preparing.prepare", lambda _, folder, **__: folder)
    sweep.main(["s", "--seeds", "0", "1", *SMALL])
    for run in plan([], [], [0, 1], SMALL):
        stories = {"data.path": str(_story_data(run.config))}
        begun(Path("s") / run.name, replaced(run.config, stories))
    sweep.main(["s"])
    assert "2 runs, 2 of them done" in capsys.readouterr().out
    begun(Path("s/seed-0"), replaced(run.config, {"data.path": "mine", "seed": 0}))
    with pytest.raises(ValueError, match=r"other settings \(data\.path .*/mine, not \)"):
        sweep.main(["s"])


def test_runs_on_data_that_were_replaced_are_in_no_table_with_others(data, tmp_path, asked):
    words = [str(tmp_path / "s"), "--seeds", "0", "1", *flags(data, 5)]
    sweep.main(words)
    record = begun(tmp_path / "s/seed-0", plan([], [], [0, 1], words[4:])[0].config)
    prepared = open_prepared(data)
    for train_hash in (prepared.train.hash, "0" * 64):
        about = {"train_hash": train_hash, "val_hash": prepared.val.hash}
        about["tokenizer_hash"] = prepared.tokenizer_hash
        folder = record.checkpoints / "step-000003"
        folder.mkdir(parents=True, exist_ok=True)
        files = {key: {"sha256": ""} for key in FILES}
        (folder / MANIFEST).write_bytes(seal({"format": FORMAT, "files": files, **about}))
        if train_hash == prepared.train.hash:
            sweep.main(words)
    with pytest.raises(ValueError, match=r"seed-0 was trained on other data .* its train_hash is"):
        sweep.main(words)
    assert asked == ["seed-0", "seed-1", "seed-1"]


def test_relative_initial_weights_are_those_of_where_the_sweep_was_begun(
    tmp_path, asked, monkeypatch
):
    network = plan([], [], [0, 1], SMALL)[0].config
    for place in ("a", "b"):
        record = begun(tmp_path / place / "base", network)
        (record.checkpoints / "step-000003").mkdir(parents=True)
    words = ["--seeds", "0", "1", *SMALL]
    monkeypatch.chdir(tmp_path / "a")
    sweep.main(["s", *words, "--init-from", "base"])
    begun(Path("s/seed-0"), plan([], [], [0, 1], [*SMALL, "--init-from", "base"])[0].config)
    monkeypatch.chdir(tmp_path / "b")
    with pytest.raises(ValueError, match=r"begun in .*/a, where --init-from base begins: go on"):
        sweep.main([str(tmp_path / "a/s")])
    (tmp_path / "b/base/config.json").unlink()
    sweep.main([str(tmp_path / "a/s"), *words, "--init-from", str(tmp_path / "a/base")])
    assert asked == ["seed-0", "seed-1", "seed-1"]


@pytest.mark.parametrize("at_once", ["1", "2"])
def test_a_run_that_fails_says_why_and_the_others_go_on(at_once, tmp_path, monkeypatch, capsys):
    """The runs get a program in place of Python that fails as a crashed run does."""
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho 'MemoryError: no room'\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    out = tmp_path / "budgets"
    words = [
        "--vary",
        "time-budget=1m",
        "recipe=baseline-tiny,leaderboard-tiny",
        "--seeds",
        "0",
        "1",
    ]
    with pytest.raises(SystemExit) as end:
        sweep.main([str(out), *words, "--at-once", at_once])
    assert end.value.code == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if "MemoryError" in line]
    names = [f"time-budget-1m_recipe-{r}_seed-{i}" for r, i in (
        ("baseline-tiny", 0), ("leaderboard-tiny", 0), ("leaderboard-tiny", 1), ("baseline-tiny", 1),
    )]  # fmt: skip
    expected = [f"{name}: broken off after step 0: MemoryError: no room" for name in names]
    assert lines == expected if at_once == "1" else sorted(lines) == sorted(expected)
    assert "broken off after step 0" in (out / "table.md").read_text()


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("echo 'step 3/5 loss 4.1'; kill -9 $$", "killed by SIGKILL"),
        ("echo 'step 3/5 loss 4.1'; exit 3", "exit code 3"),
        ("exit 3", "exit code 3"),
        ("echo 'error: no room'; echo 'step 3/5 loss 4.1'; exit 1", "error: no room"),
    ],
)
def test_a_run_that_was_killed_names_the_signal(program, reason, tmp_path, monkeypatch, capsys):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{program}\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    begun(tmp_path / "s/seed-1", plan([], [], [0, 1], SMALL)[1].config)
    (tmp_path / "s/seed-0").mkdir()
    (tmp_path / "s/seed-0/output.txt").write_text("error: of an earlier attempt\n")
    with pytest.raises(SystemExit) as end:
        sweep.main([str(tmp_path / "s"), "--seeds", "0", "1", *SMALL])
    assert end.value.code == 1
    told = capsys.readouterr()
    assert f"seed-0: broken off after step 0: {reason}\n" in told.out
    assert "error: seed-0 broke off; python -m fastlm.sweep" in told.err


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
    monkeypatch.setattr(sweep, "_run_all", lambda waiting, _: begun.extend(waiting) or set())
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
