"""The processes of a sweep are stopped, and each that fails names its reason."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from short_runs import train_rows
from short_sweeps import SMALL, begun_run, flags, gone_on_with

from fastlm.files import disk
from fastlm.runs.record import RunRecord
from fastlm.sweep import __main__ as sweep
from fastlm.sweep import running
from fastlm.sweep.plan import plan
from fastlm.train.signals import SAVED

ROOT = Path(__file__).resolve().parents[2]


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


def test_a_run_that_another_process_trains_is_left_out(tmp_path, monkeypatch, capsys):
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(running, "WAIT_SECONDS", 0.0)
    begun_run(tmp_path / "s/seed-0", plan([], [], [0, 1], SMALL)[0].config, loss=None)
    with disk.locked(tmp_path / "s/seed-0"):
        sweep.main([str(tmp_path / "s"), "--seeds", "0", "1", *SMALL])
    told = capsys.readouterr().out
    assert "seed-0: left out: " in told
    assert "is being made by process" in told
    assert "seed-1: no validation loss" in told
    assert "| running after step 3, waiting |" in told


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
        assert parent.stdout.readline() == "--tuned none --seed 1 --out x --resume auto\n"
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


@pytest.mark.parametrize("rest", ["", "mkdir -p {out}/seed-0", "exit 1"])
def test_a_sweep_whose_folder_is_moved_says_how_to_go_on(rest, tmp_path, monkeypatch):
    """Nothing more is begun, and no table is written in the place of the folder."""
    out, moved = tmp_path / "sweep", tmp_path / "moved"
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\nmv {out} {moved}\n{rest.format(out=out)}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(FileNotFoundError, match=f"{out} was moved or removed while") as error:
        sweep.main([str(out), "--recipe", "baseline-tiny", "--seeds", "0", "1"])
    assert "fastlm.sweep NEW-PLACE goes on where it is now" in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(out.glob("table.md"))
    assert (moved / "seed-0/output.txt").is_file()
    assert not (moved / "seed-1").exists()


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
    begun_run(tmp_path / "s/seed-1", plan([], [], [0, 1], SMALL)[1].config)
    (tmp_path / "s/seed-0").mkdir()
    (tmp_path / "s/seed-0/output.txt").write_text("error: of an earlier attempt\n")
    with pytest.raises(SystemExit) as end:
        sweep.main([str(tmp_path / "s"), "--seeds", "0", "1", *SMALL])
    assert end.value.code == 1
    told = capsys.readouterr()
    assert f"seed-0: broken off after step 0: {reason}\n" in told.out
    assert "error: seed-0 broke off; python -m fastlm.sweep" in told.err
