"""Output that is closed, broken, full or of few characters ends no work and is told."""

import io
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from made_runs import write_run

from fastlm import cli
from fastlm.cli import streams
from fastlm.cli.meter import Meter
from fastlm.report import __main__ as report

ROOT = Path(__file__).resolve().parents[2]


# The path of Python may have a blank.
FASTLM = 'F() { "$PYTHON" -m fastlm "$@"; }'


def child(shell: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which F is fastlm."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{FASTLM}\n{shell}"], capture_output=True, text=True, timeout=600,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHON": sys.executable} | environment,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("shell", "code", "told"),
    [
        ("F --help | true", 0, ""),
        ("F accounting gpt2-xl | head -c 1 >&2", 0, "g"),
        ("F train --help | head -c 1 >/dev/null", 0, ""),
        ("F accounting gpt2 >&-", 0, ""),
        ("F accounting gpt3 2>&-", 2, ""),
        ("F accounting gpt3 2> >(true)", 2, ""),
        ("F accounting gpt2 <&- >&- 2>&-", 0, ""),
    ],
)
def test_output_that_nobody_reads_is_no_error(shell, code, told):
    done = child(shell)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", told)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("words", ["accounting gpt2", "--help", "train --help"])
def test_output_that_cannot_be_written_is_told_at_the_end(words):
    done = child(f"F {words} > /dev/full")
    assert done.returncode == 1
    assert done.stderr == ("error: standard output cannot be written: No space left on device\n")


class Failing(io.TextIOWrapper):
    """A stream whose n-th write fails."""

    def __init__(self, n_good: int, error: Exception) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8")
        self.n_left, self.error = n_good, error

    def write(self, text: str) -> int:
        if not self.n_left:
            raise self.error
        self.n_left -= 1
        return super().write(text)


@pytest.mark.parametrize("out", ["-", "/dev/stdout"])
def test_nothing_is_called_written_to_a_closed_stream(out, tmp_path, monkeypatch, capsys):
    run = write_run(tmp_path / "run")
    for name in ("stdout", "__stdout__"):
        monkeypatch.setattr(sys, name, None)  # as Python has it where the shell says >&-
    with pytest.raises(SystemExit) as end:
        cli.run(lambda: report.main([str(run), "--out", out]))
    assert (end.value.code or 0, capsys.readouterr().err) == (0, "")


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_work_goes_on_without_its_output(name, monkeypatch):
    """As for records of several runs: what is printed between two of them must not end it."""
    done = []

    def work() -> None:
        for i in range(5):
            print("done", i, file=getattr(sys, name), flush=True)
            done.append(i)

    monkeypatch.setattr(sys, name, Failing(3, BrokenPipeError()))
    with pytest.raises(SystemExit) as left:
        cli.run(work)
    assert left.value.code == 0
    assert done == [0, 1, 2, 3, 4]


def test_a_disk_that_was_full_for_a_while_gets_what_comes_later(monkeypatch, capfd):
    class Full(io.BytesIO):
        is_full = False

        def write(self, raw) -> int:
            if self.is_full:
                raise OSError(28, "No space left on device")
            return super().write(raw)

    raw = Full()

    def work() -> None:
        for line in ("first", "lost", "last"):
            raw.is_full = line == "lost"
            print(line, flush=True)

    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="utf-8", newline="\n"))
    with pytest.raises(SystemExit) as left:
        cli.run(work)
    assert (left.value.code, raw.getvalue()) == (1, b"first\nlast\n")
    assert "No space left on device" in capfd.readouterr().err


def test_a_command_that_only_prints_ends_when_nobody_reads(monkeypatch):
    printed = []

    def work() -> None:
        for i in range(1000):
            printed.append(i)
            streams.print_now(f"{i} ")

    monkeypatch.setattr(sys, "stdout", Failing(3, BrokenPipeError()))
    with pytest.raises(SystemExit) as left:
        cli.run(work)
    assert left.value.code == 0
    assert printed == [0, 1, 2, 3]


def test_bytes_below_a_lost_stream_end_the_command(monkeypatch, capfd):
    class Full(io.BytesIO):
        def write(self, raw) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(Full(), encoding="utf-8"))
    with pytest.raises(SystemExit) as left:
        cli.run(lambda: sys.stdout.buffer.write(b"ids"))
    assert left.value.code == 1
    assert "standard output cannot be written: No space left" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [("ascii", b"caf\\xe9 \\u4e16 \\udc80"), ("cp1252", b"caf\xe9 \\u4e16 \\udc80"),
     ("latin-1", b"caf\xe9 \\u4e16 \\udc80"), ("utf-8", "café 世 \\udc80".encode())],
)  # fmt: skip
def test_characters_that_a_terminal_lacks_are_escaped(encoding, expected, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    with pytest.raises(SystemExit) as left:
        cli.run(lambda: streams.print_now("café 世 \udc80"))
    assert (left.value.code, raw.getvalue()) == (0, expected)


def test_warnings_of_libraries_are_a_line_without_their_source(capfd):
    def work() -> None:
        warnings.warn("this is slow\nsee the manual", UserWarning, stacklevel=1)
        warnings.warn("x will go away", FutureWarning, stacklevel=1)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with pytest.raises(SystemExit):
            cli.run(work)
    assert capfd.readouterr().err == "warning: this is slow\n"


def test_streams_are_as_before_afterwards():
    before = sys.stdout, sys.stderr, warnings.showwarning
    with pytest.raises(SystemExit):
        cli.run(lambda: None)
    assert before == (sys.stdout, sys.stderr, warnings.showwarning)


def test_a_dumb_terminal_gets_lines(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys, "stderr", Terminal())
    now = iter([0.0, 11.0, 22.0])
    with Meter(lambda: next(now)) as meter:
        meter.update("counting", 5, 10, unit="words")
        meter.update("counting", 10, 10, unit="words")
    assert sys.stderr.getvalue() == (
        "counting: 5 of 10 words\ncounting: 10 of 10 words, 0 words/s, 0:00 left\n"
    )
