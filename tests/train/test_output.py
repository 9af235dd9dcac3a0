"""A run goes on whatever becomes of the screen that it writes to."""

import errno
import io
import os
import sys

import pytest
from short_runs import config, weights

from fastlm.cli.console import StatusLine
from fastlm.train import train
from fastlm.train.run import say


class Broken(io.StringIO):
    """A stream that takes some writes, and then none."""

    def __init__(self, error: Exception, n_good: int = 0, *, is_terminal: bool = False) -> None:
        super().__init__()
        self.error, self.n_good, self.is_terminal = error, n_good, is_terminal
        self.n_failed = 0

    def write(self, text: str) -> int:
        if self.n_good == 0:
            self.n_failed += 1
            raise self.error
        self.n_good -= 1
        return super().write(text)

    def isatty(self) -> bool:
        return self.is_terminal


ERRORS = {
    "a pipe that nobody reads": BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)),
    "a full disk": OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    "a terminal that hung up": OSError(errno.EIO, os.strerror(errno.EIO)),
    "a closed descriptor": OSError(errno.EBADF, os.strerror(errno.EBADF)),
    "a closed file": ValueError("I/O operation on closed file"),
}


@pytest.mark.parametrize("is_terminal", [False, True])
@pytest.mark.parametrize("what", ERRORS)
def test_lines_of_a_run_are_dropped_where_they_cannot_be_written(what, is_terminal, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Broken(ERRORS[what], is_terminal=is_terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    say("before")
    with StatusLine() as status:
        for step in range(3):
            status.update(f"step {step}")
            status.say("a line")
    say("after")
    assert stream.n_failed


def test_a_run_without_a_standard_error_says_nothing(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", None)
    say("before")
    with StatusLine() as status:
        status.update("step 1")
        status.say("a line")
    assert capsys.readouterr().out == ""


def test_a_run_goes_on_when_its_output_breaks(finished, data, tmp_path, monkeypatch):
    """A Python caller's stream too: nothing of the command line stands between."""
    stream = Broken(ERRORS["a pipe that nobody reads"], n_good=5)
    monkeypatch.setattr(sys, "stderr", stream)
    assert train(config(data), tmp_path / "run").finished
    assert stream.n_failed
    expected = weights(finished[0])
    assert all(
        (tensor == expected[name]).all() for name, tensor in weights(tmp_path / "run").items()
    )
