"""One command for the first hours on a GPU: parts share the time, fail alone, and go on later."""

import dataclasses
import io
import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import gpu_day
import gpu_day_checks
import gpu_day_steps
import gpu_kernels
import numpy as np
import pytest
import torch
from day_rows import Rows
from day_runner import signals_held_back
from gpu_day import Day, Part, Record, Result, Runner, parts_of, spend, table
from random_data import make_random_data, untrained_tokenizer

from fastlm import cli
from fastlm.config.recipes import load_recipe
from fastlm.data.prepared import check_tokenizer, open_prepared
from fastlm.files.destination import find
from fastlm.files.lock import holding
from fastlm.tokenizer import Tokenizer
from fastlm.train import command
from fastlm.tune.__main__ import ARGUMENTS as TUNE_ARGUMENTS

CONDITIONS = {"card": "NVIDIA H200", "torch": "2.11.0"}


def part(name: str, script: str, share: float = 0.5, **changes) -> Part:
    """A part that runs a script of the shell."""
    made = Part(name, share, 0.0, lambda seconds: ["bash", "-c", script], lambda: "told")
    return dataclasses.replace(made, **changes)


def run(parts: list[Part], folder: Path, seconds: float = 20.0, **conditions) -> Record:
    """Run parts as a call of the command does."""
    record = Record(folder / "gpu_day.json", CONDITIONS | conditions)
    runner = Runner(folder / "output.txt", echo=io.StringIO(), grace=0.5)
    spend(parts, record, runner, time.monotonic() + seconds, say=lambda line: None)
    return record


def states(record: Record) -> dict[str, str]:
    return {name: result.state for name, result in record.parts.items()}


def test_a_part_that_fails_or_is_out_of_time_is_told_and_the_next_one_goes_on(tmp_path):
    began = time.monotonic()
    parts = [
        part("broken", "echo nothing works >&2; exit 3"),
        part("slow", "sleep 50 & sleep 50", share=0.1),
        part("good", "echo well"),
    ]
    record = run(parts, tmp_path, seconds=10)
    assert time.monotonic() - began < 5
    assert states(record) == {"broken": "failed", "slow": "out of time", "good": "done"}
    assert record.parts["broken"].told == "exit code 3: nothing works; told"
    assert 0.3 < record.parts["slow"].seconds < 3
    assert (tmp_path / "output.txt").read_text() == "nothing works\nwell\n"
    lines = list(table(parts, record, Day(tmp_path, tmp_path / "work")))
    assert [line.split(" | ")[:2] for line in lines[2:5]] == [
        ["| broken", "failed"],
        ["| slow", "out of time"],
        ["| good", "done"],
    ]
    assert lines[-1] == f"records: {tmp_path}; run and data: {tmp_path / 'work'}"


def test_a_second_call_does_what_the_first_one_did_not(tmp_path):
    marks = tmp_path / "marks"
    count = f"echo $0 >> {shlex.quote(str(marks))}"
    parts = [
        part("good", f"{count} good"),
        part("late", f"{count}; test -e {shlex.quote(str(tmp_path / 'ready'))}"),
    ]
    first = run(parts, tmp_path)
    assert states(first) == {"good": "done", "late": "failed"}
    (tmp_path / "ready").touch()
    second = run(parts, tmp_path)
    assert states(second) == {"good": "done", "late": "done"}
    assert len(marks.read_text().splitlines()) == 3
    assert second.parts["good"].seconds == first.parts["good"].seconds
    assert second.parts["late"].seconds > first.parts["late"].seconds
    assert second.began == first.began


def test_parts_share_the_time_that_is_left_and_too_little_is_left_out(tmp_path):
    now, given = [0.0], []

    class Spending(Runner):
        def run(self, words, seconds, folder=None):
            given.append(seconds)
            now[0] += float(words[-1])
            return 0, ""

    def taking(name: str, share: float, least: float, seconds: float) -> Part:
        words = ["bash", str(seconds)]
        return Part(name, share, least, lambda bound: words, lambda: "told")

    parts = [
        taking("first", 0.5, 10, 20),
        taking("second", 0.25, 10, 1),
        taking("no time", 0.01, 10, 1),
        taking("last", 1.0, 10, 1),
    ]
    record = Record(tmp_path / "gpu_day.json", CONDITIONS)
    runner = Spending(tmp_path / "output.txt", grace=4.0)
    spend(parts, record, runner, 100.0, clock=lambda: now[0], say=lambda line: None)
    assert given == [0.5 * 100 - 4, 0.25 * 80 - 4, 79 - 4]
    assert record.parts["no time"] == Result("left out", "79 s were left, and it needs 1400", 0.0)


def test_a_part_that_is_told_to_end_may_write_what_it_knows(tmp_path):
    known = tmp_path / "known.json"
    script = f"trap 'echo 1 > {shlex.quote(str(known))}; exit 9' TERM; sleep 50 & wait"
    record = run([part("tune", script, share=0.2, is_over=known.exists)], tmp_path, seconds=8)
    assert states(record) == {"tune": "done"}


def test_a_part_whose_process_dies_goes_on_as_long_as_its_records_grow(tmp_path):
    rows = tmp_path / "rows"
    script = f"echo x >> {shlex.quote(str(rows))}; test $(wc -l < {shlex.quote(str(rows))}) = 3"

    def told() -> str:
        return rows.read_text()

    assert states(
        run([part("a", f"{script} || kill -9 $$", told=told, goes_on=True)], tmp_path)
    ) == {"a": "done"}
    same = part("b", "echo lost; exit 7", told=lambda: "0 of 0", goes_on=True)
    record = run([same], tmp_path)
    assert record.parts["b"].told == "exit code 7: lost; 0 of 0"
    assert (tmp_path / "output.txt").read_text().count("lost") == 2


@pytest.mark.parametrize(
    ("code", "state"), [(0, "done"), (69, "done"), (1, "failed"), (75, "out of time")]
)
def test_checks_that_found_something_wrong_are_done_and_those_without_time_are_not(
    code, state, tmp_path
):
    record = run([part("checks", f"exit {code}", goes_on=True)], tmp_path)
    assert states(record) == {"checks": state}


def test_records_that_are_there_do_not_hide_that_the_process_failed(tmp_path):
    record = run([part("tune", "echo no; exit 2", is_over=lambda: True)], tmp_path)
    assert record.parts["tune"].state == "failed"
    assert record.parts["tune"].told == "exit code 2: no; told"


@pytest.mark.parametrize("lost", ["log", "echo"])
def test_output_that_cannot_be_written_does_not_stop_the_part(lost, tmp_path, capfd):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    log, script = tmp_path / "output.txt", "seq 100000; echo end"
    if lost == "log":
        log.mkdir()
    runner = Runner(log, echo=Full() if lost == "echo" else io.StringIO(), grace=0.5)
    assert runner.run(["bash", "-c", script], 10) == (0, "end")
    kept = runner.echo.getvalue() if lost == "log" else log.read_text()
    assert kept.count("\n") == 100_001
    assert capfd.readouterr().err.startswith("warning: ")


def test_an_error_is_told_whatever_follows_it(tmp_path):
    script = "echo error: small; echo between; echo error: the loss is nan; echo see a file; exit 1"
    record = run([part("broken", script)], tmp_path)
    assert record.parts["broken"].told == "exit code 1: error: the loss is nan; told"


def test_relative_paths_in_flags_begin_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = Runner(tmp_path / "output.txt", echo=io.StringIO(), grace=0.5)
    assert runner.run(["pwd"], 10) == (0, str(tmp_path))
    assert runner.run(["pwd"], 10, gpu_day.ROOT) == (0, str(gpu_day.ROOT))
    assert [p.folder for p in parts_of(Day(tmp_path, tmp_path))] == [None] * 5 + [gpu_day.ROOT]


def test_a_part_does_not_outlive_a_killed_command(tmp_path):
    pid = tmp_path / "pid"
    script = f"sleep 30 & echo $! > {pid}.new; mv {pid}.new {pid}; wait"
    code = (
        "import sys; from pathlib import Path; from gpu_day import Runner; "
        f"Runner(Path({os.devnull!r})).run(['bash', '-c', {script!r}], 30)"
    )
    path = os.pathsep.join([str(gpu_day.BENCH), str(gpu_day.ROOT)])
    parent = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path})
    wait_until(pid.exists)
    parent.kill()
    parent.wait()
    wait_until(lambda: not is_running(int(pid.read_text())))


def wait_until(is_so) -> None:
    ends = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < ends
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    """Whether a process is there, and no zombie that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def day(folder: Path, *words: str) -> int:
    """Call the command for a single part, which is replaced in tests that run it."""
    words = ("--try-on-cpu", "--minutes", "2.5", "--parts", "checks", "--out", str(folder), *words)
    return gpu_day.main(words)


@pytest.fixture
def script_for_checks(monkeypatch):
    """A function that gives the script of the shell that runs as the part checks."""

    def give(script: str) -> None:
        monkeypatch.setattr(gpu_day, "parts_of", lambda day: [part("checks", script)])

    return give


@pytest.mark.parametrize(("script", "code"), [("true", 0), ("exit 3", 1), ("kill -9 $$", 1)])
def test_the_exit_code_tells_whether_a_part_failed(script, code, tmp_path, script_for_checks):
    script_for_checks(script)
    assert day(tmp_path / "out") == code
    script_for_checks("true")
    assert day(tmp_path / "out") == 0


@pytest.mark.parametrize(
    "words",
    [["--minuts", "3"], ["--bogus", "1"], ["--optim.lr", "x"], ["stray"], ["--work", "file/x"]],
)
def test_wrong_flags_are_refused_before_anything_is_written(words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert day(Path("out"), *words) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert words[-1] in message or words[0].lstrip("-") in message
    assert message.count("\n") == 1
    assert os.listdir() == ["file"]


def test_flags_that_the_tuning_refuses_are_refused(tmp_path, capsys):
    words = ["--try-on-cpu", "--out", str(tmp_path / "out"), "--tuned=none"]
    assert gpu_day.main(words) == 2
    assert "--tuned is not for the part tune" in capsys.readouterr().err


def test_folders_of_others_are_refused(tmp_path, capsys, script_for_checks):
    script_for_checks("true")
    for name in ("out/tuned.json", "work/run/summary.json"):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    assert day(tmp_path / "out") == 2
    assert "out holds tuned.json and no gpu_day.json: give" in capsys.readouterr().err
    assert day(tmp_path / "new", "--work", str(tmp_path / "work")) == 2
    assert "work holds another run: give" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "empty").mkdir()
    assert day(tmp_path / "empty") == 0


def test_a_folder_is_ours_from_the_beginning(tmp_path, script_for_checks, monkeypatch):
    script_for_checks("true")
    with monkeypatch.context() as patch:
        patch.setattr(gpu_day, "spend", lambda *words, **named: os.listdir()[10**9])  # as if killed
        with pytest.raises(IndexError):
            day(tmp_path / "out")
    assert {"gpu_day.json", "output.txt"} <= set(os.listdir(tmp_path / "out"))
    assert day(tmp_path / "out") == 0


def test_a_second_command_in_the_same_folder_is_refused(tmp_path, capsys, script_for_checks):
    script_for_checks("true")
    out = tmp_path / "out"
    with holding(find(out)):
        assert day(out) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"error: {out} is being made by process {os.getpid()}")
    assert message.count("\n") == 1
    assert not out.exists()


GOOD = {"conditions": {}, "began": "2026-01-01", "parts": {}}


@pytest.mark.parametrize(
    "text",
    ["not json", "", "[]", "{}"]
    + [
        json.dumps(GOOD | changes)
        for changes in (
            {"conditions": [1]},
            {"began": 3},
            {"parts": [1]},
            {"parts": {"checks": 3}},
            {"parts": {"checks": {"foo": 1}}},
            {"parts": {"checks": {"state": "done", "told": 1, "seconds": 1}}},
            {"parts": {"checks": {"state": "done", "told": "", "seconds": "x"}}},
        )
    ],
)
def test_a_damaged_record_is_refused_and_stays(text, tmp_path, capsys):
    path = tmp_path / "gpu_day.json"
    path.write_text(text)
    assert day(tmp_path) == 2
    message = capsys.readouterr().err
    assert message == (
        f"error: {path} is damaged, or no record of this command: give another --out\n"
    )
    assert path.read_text() == text
    assert os.listdir(tmp_path) == ["gpu_day.json"]


@pytest.mark.parametrize("text", ["not json", "{}", '{"rows": 3}', '{"rows": {"a": {"b": 1}}}'])
def test_damaged_rows_are_refused_and_stay(text, tmp_path, capsys):
    path = tmp_path / "rows.json"
    path.write_text(text)
    for program in (gpu_day_checks, gpu_day_steps):
        words = ["tiny"] if program is gpu_day_steps else ["--try-on-cpu"]
        with pytest.raises(SystemExit, match="2"):
            program.main([*words, "--out", str(path)])
        assert str(path) in capsys.readouterr().err.splitlines()[-1]
    assert path.read_text() == text


@pytest.mark.parametrize("text", ["not json", '{"a": 1}', '{"machine": {"gpu": "x"}, "rows": [1]}'])
def test_a_damaged_record_of_kernels_is_refused(text, tmp_path):
    path = tmp_path / "kernels.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(str(path))):
        gpu_kernels.open_record(path, torch.device("cpu"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_end_the_part_and_the_table_is_printed(number, tmp_path, capsys, script_for_checks):
    send = f"kill -{number:d} {os.getpid()}"
    ended = tmp_path / "ended"
    trap = f"trap '{send}; sleep 0.2; touch {ended}; exit' TERM"
    script_for_checks(f"{trap}; {send}; sleep 20 & wait")
    before = signal.getsignal(number)
    began = time.monotonic()
    assert day(tmp_path / "out") == 128 + number
    assert time.monotonic() - began < 10
    assert ended.exists()  # a second signal took none of the part's time
    assert "| checks | interrupted | " in capsys.readouterr().out
    assert signal.getsignal(number) == before


def test_a_signal_that_comes_while_a_part_starts_takes_effect_after_that():
    seen = []

    def start() -> None:
        with signals_held_back():
            signal.raise_signal(signal.SIGINT)
            seen.append("started")

    with pytest.raises(KeyboardInterrupt):
        start()
    assert seen == ["started"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_that_is_ignored_stays_ignored(tmp_path, script_for_checks):
    script_for_checks(f"kill -HUP {os.getpid()}")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert day(tmp_path / "out") == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_row_without_a_result_is_tried_again_with_more_time(tmp_path):
    rows = Rows(tmp_path / "rows.json")
    for _ in range(2):
        rows.work("slow", lambda: time.sleep(0.3) or {}, seconds=0.05)
        assert rows.rows["slow"]["why"] == "no result after 0 s"
        assert rows.exit_code() == 75
    rows = Rows(tmp_path / "rows.json")
    rows.work("slow", lambda: {"value": 1}, seconds=0.05)
    assert "value" not in rows.rows["slow"]
    rows.work("slow", lambda: {"value": 1}, seconds=5.0)
    assert rows.rows["slow"]["value"] == 1
    assert rows.exit_code() == 0


def test_records_of_another_card_or_other_flags_are_not_added_to(tmp_path):
    run([part("a", "true")], tmp_path)
    before = (tmp_path / "gpu_day.json").read_bytes()
    with pytest.raises(ValueError, match="is of card NVIDIA H200, and this is NVIDIA B200: give"):
        run([part("a", "true")], tmp_path, card="NVIDIA B200")
    assert (tmp_path / "gpu_day.json").read_bytes() == before


def test_a_signal_ends_the_part_and_keeps_what_is_known(tmp_path):
    pid = tmp_path / "pid"
    before = signal.signal(signal.SIGALRM, gpu_day._interrupted)
    signal.setitimer(signal.ITIMER_REAL, 0.4)
    try:
        with pytest.raises(SystemExit):
            run([part("a", "true"), part("b", f"echo $$ > {pid}; sleep 9")], tmp_path)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    record = Record(tmp_path / "gpu_day.json", CONDITIONS)
    assert states(record) == {"a": "done", "b": "interrupted"}
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_without_a_gpu_there_is_one_line_and_nothing_is_written(tmp_path, capsys):
    out = tmp_path / "out"
    assert gpu_day.main(["--out", str(out), "--minutes", "1"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: no CUDA device: ")
    assert message.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize("words", [["--minutes", "0"], ["--data", "nowhere"], ["--parts", "x"]])
def test_wrong_arguments_are_refused(words, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        gpu_day.main([*words, "--try-on-cpu", "--out", str(tmp_path / "out")])
    assert words[0] in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def words_of(day: Day, name: str) -> list[str]:
    """The words of a part without Python and its program."""
    (one,) = [p for p in parts_of(day) if p.name == name]
    words = one.command(300.0)
    assert words[0] == sys.executable
    del words[1 : words.index("-m") + 1 if "-m" in words[:3] else 1]
    return words[2:]


@pytest.mark.parametrize("on_cpu", [False, True])
def test_flags_reach_the_steps_the_tuning_and_the_training(on_cpu, tmp_path):
    day = Day(tmp_path, tmp_path / "work", flags=("--optim.lr", "0.5"), on_cpu=on_cpu)
    by_default = [p.name for p in parts_of(day) if not p.is_asked_for]
    assert by_default == ["checks", "steps", "tune", "kernels", "training"]
    arguments, flags = cli.parse_known(TUNE_ARGUMENTS, words_of(day, "tune"), prog="tune")
    assert arguments.minutes == pytest.approx((300 - gpu_day.GRACE_SECONDS) / 60)
    tuned = command.configuration(flags)
    make, *words = words_of(day, "training")
    assert make == "--make-data"
    trained = command._parsed(words)
    assert trained.out == tmp_path / "work" / "run"
    assert trained.config.data.path == str(tmp_path / "work" / "data")
    assert (trained.config.compile, trained.config.bf16) == (not on_cpu, not on_cpu)
    assert trained.config.time_budget == 300 - gpu_day.GRACE_SECONDS
    assert tuned.recipe == trained.config.recipe == ("tiny" if on_cpu else "leaderboard")
    assert tuned.optim.lr == trained.config.optim.lr == 0.5
    assert tuned.model == trained.config.model
    if on_cpu:
        assert tuned.model.d_model == 32
    assert words_of(day, "steps")[-2:] == ["--optim.lr", "0.5"]


def test_own_data_are_trained_on_and_what_was_tuned_is_used(tmp_path):
    (tmp_path / "tuned.json").touch()
    words = words_of(Day(tmp_path, tmp_path, data=tmp_path / "owt"), "training")
    parsed = command._parsed(words)
    assert parsed.config.data.path == str(tmp_path / "owt")
    assert parsed.tuned == str(tmp_path / "tuned.json")


def test_the_tests_for_a_gpu_are_run_if_they_are_asked_for(tmp_path):
    day = Day(tmp_path, tmp_path / "work")
    words = words_of(day, "tests")
    files = [Path(word) for word in words if word.endswith(".py")]
    assert files[0].parent.name == "kernels"
    assert {"test_gpu.py", "test_profiling.py"} & {file.name for file in files} == {"test_gpu.py"}
    (tmp_path / "tests.xml").write_text(
        '<testsuites><testsuite tests="9" failures="2" errors="1" skipped="1"/></testsuites>'
    )
    (one,) = [p for p in parts_of(day) if p.name == "tests"]
    assert one.told() == "5 of 9 passed, 1 were skipped"
    assert not any("| tests" in line for line in table([one], Record(tmp_path / "r", {}), day))


@pytest.mark.parametrize(("finished", "state"), [(True, "done"), (False, "out of time")])
def test_a_run_that_has_ended_is_done_though_its_process_did_not_end_in_time(
    finished, state, tmp_path
):
    day = Day(tmp_path, tmp_path)
    (one,) = [p for p in parts_of(day) if p.name == "training"]
    summary = {"step": 1200, "tokens": 9000, "val_loss": 3.25, "tokens_per_second": 1e6, "mfu": 0.5}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "summary.json").write_text(json.dumps({**summary, "finished": finished}))
    late = part("training", "sleep 9", share=0.2, told=one.told, is_over=one.is_over)
    (result,) = run([late], tmp_path, seconds=4).parts.values()
    assert result.state == state
    told = "1,200 steps, 9,000 tokens, validation loss 3.2500, 1,000,000 tokens/s, MFU 50.0%"
    assert result.told == told


TINY = shlex.split(
    "--device cpu --no-compile --batch-size 2 --micro-batch 1 --model.context-length 16 "
    "--model.n-layers 1 --model.d-model 16 --model.n-heads 2 --model.vocab-size 64"
)


def test_steps_are_timed_and_a_recipe_that_fails_is_told(tmp_path):
    path = tmp_path / "steps.json"
    code = gpu_day_steps.main(["no-such", "tiny", "--out", str(path), "--seconds", "0.02", *TINY])
    rows = json.loads(path.read_text())["rows"]
    assert code == 69
    assert rows["no-such"]["state"] == "failed"
    assert "no-such" in rows["no-such"]["why"]
    row = rows["tiny"]
    assert row["state"] == "right"
    assert row["tokens_per_step"] == 32
    assert row["micro_batch"] == 1
    assert row["n_steps"] >= 5
    assert row["wall_ms"] >= 0.5 * row["host_ms"]
    assert row["tokens_per_second"] == pytest.approx(32 / (row["step_ms"] / 1e3))
    assert row["fastest_ms"] <= row["step_ms"] <= row["slowest_ms"]
    assert all(math.log(64) - 1 < loss < math.log(64) + 1 for loss in row["first_losses"])
    told = gpu_day.told_of_steps(path)
    assert told.startswith("no-such: ")
    assert f"; tiny: {row['tokens_per_second']:,.0f} tokens/s" in told


def test_clocks_that_disagree_are_told(tmp_path):
    path = tmp_path / "steps.json"
    row = {"state": "right", "tokens_per_second": 1e6, "mfu": 0.5, "step_ms": 10.0}
    row["machine"] = {"cpu": "a CPU", "gpu": "a GPU"}
    told = "tiny: 1,000,000 tokens/s, MFU 50.0%"
    apart = " (by the GPU's events, 10.00 ms a step; the wall clock says 33.00)"
    for wall, expected in ((10.5, told), (33.0, told + apart)):
        path.write_text(json.dumps({"rows": {"tiny": {**row, "wall_ms": wall}}}))
        assert gpu_day.told_of_steps(path) == expected
    path.write_text(
        json.dumps({"rows": {"tiny": {**row, "wall_ms": 33.0, "machine": {"cpu": ""}}}})
    )
    assert gpu_day.told_of_steps(path) == told


def fail() -> dict:
    raise ValueError("not\nright")


def test_rows_with_a_result_stay_and_one_in_which_the_process_died_says_so(tmp_path):
    path, done = tmp_path / "rows.json", []
    rows = Rows(path)
    rows.work("good", lambda: {"value": 1}, seconds=5)
    rows.work("bad", fail, seconds=5)
    rows.work("endless", lambda: time.sleep(30), seconds=0.05)

    def dies():
        rows.add("deadly", seen=True)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rows.work("deadly", dies, seconds=5)
    assert "deadly" not in Rows(path).rows  # it was asked to stop: a later call does it
    rows._write("deadly", {"state": "begun"})  # as if killed
    again = Rows(path)
    for name in ("good", "bad", "endless", "deadly"):
        again.work(name, lambda: done.append(1) or {}, seconds=0.05)
    assert done == []
    assert again.rows["good"] == {"state": "right", "value": 1, "seconds": pytest.approx(0, abs=1)}
    assert again.rows["bad"]["why"] == "ValueError: not right"
    assert again.rows["endless"]["why"] == "no result after 0 s"
    assert again.rows["deadly"]["why"] == "the process died in it"
    assert gpu_day.told_of_rows(path) == (
        "1 of 4 are right; bad: ValueError: not right; endless: no result after 0 s; "
        "deadly: the process died in it"
    )


def test_made_up_data_are_prepared_data(tmp_path):
    config = load_recipe("tiny")
    small = dataclasses.replace(config.model, vocab_size=300, context_length=32)
    config = dataclasses.replace(config, model=small, batch_size=2)
    make_random_data(tmp_path / "data", config)
    data = open_prepared(tmp_path / "data")
    data.verify()
    check_tokenizer(data)
    assert data.vocab_size == 300
    assert len(data.train.tokens) > 8 * len(data.val.tokens) > 8 * 32
    assert 250 < int(np.max(data.train.tokens)) < 300
    tokenizer = Tokenizer.load(data.tokenizer_folder)
    assert tokenizer.decode(tokenizer.encode("a text")) == "a text"
    with pytest.raises(FileExistsError):
        make_random_data(tmp_path / "data", config)


@pytest.mark.parametrize(("vocab_size", "n_merges"), [(257, 0), (32_000, 31_743)])
def test_an_untrained_tokenizer_has_any_size(vocab_size, n_merges):
    tokenizer = untrained_tokenizer(vocab_size)
    assert (tokenizer.vocab_size, len(tokenizer.merges)) == (vocab_size, n_merges)
    with pytest.raises(ValueError, match="expected a vocabulary of 257 to 65,793 tokens, got 256"):
        untrained_tokenizer(256)


@pytest.mark.parametrize("words", [["-m", "bench.gpu_day"], ["bench/gpu_day.py"]])
def test_the_program_runs_as_a_module_and_as_a_file(words):
    runner = Runner(Path(os.devnull), echo=io.StringIO())
    assert runner.run([sys.executable, *words, "--help"], 60, gpu_day.ROOT)[0] == 0
    assert "--try-on-cpu" in runner.echo.getvalue()
