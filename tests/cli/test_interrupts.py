"""Ctrl-C is one line and exit code 130 at any moment of a command."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fastlm import cli
from fastlm.cli import interrupts
from fastlm.cli.commands import COMMANDS

ROOT = Path(__file__).resolve().parents[2]

INTERRUPTED_WHILE_IT_IMPORTS = """
import json, os, runpy, signal, sys

import fastlm.cli, fastlm.train  # the packages; Python itself imports them before any command

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        begin = f"fastlm.{module}"
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            if name.split(".")[0] != "fastlm" or name in (begin, begin + ".__main__"):
                return
            if name not in ("fastlm.__main__", "fastlm.cli.commands", "fastlm.lazy"):
                print(name, "comes before SIGINT is handled", file=sys.stderr)
                os._exit(1)
        if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            os.kill(os.getpid(), signal.SIGINT)

codes = {}
for module in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        sys.argv[:] = [module, "data"]  # a command of `fastlm`, and nothing that the others know
        sys.meta_path.insert(0, Interrupt())
        runpy.run_module(f"fastlm.{module}" if module else "fastlm", run_name="__main__", alter_sys=True)
    codes[module] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(json.dumps(codes))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_a_command_that_is_interrupted_while_it_imports_says_so_in_a_line():
    """`train` has handlers of its own, which tests/train/test_signals.py checks."""
    modules = [command.module for verb, command in COMMANDS.items() if verb != "train"]
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_WHILE_IT_IMPORTS, *modules, ""],
        capture_output=True, text=True, cwd=ROOT, timeout=120,
    )  # fmt: skip
    assert json.loads(done.stdout) == dict.fromkeys([*modules, ""], cli.INTERRUPTED), done.stderr
    assert done.stderr == "interrupted\n" * (len(modules) + 1)


@pytest.fixture
def _as_a_command():
    """Handle SIGINT as a command that begins does."""
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupts.exit_on_interrupt()
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_as_a_command")
def test_work_that_is_interrupted_clears_up(capsys):
    cleared = []

    def main() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            cleared.append(True)

    with pytest.raises(SystemExit) as left:
        cli.run(main)
    assert (left.value.code, cleared) == (cli.INTERRUPTED, [True])
    assert capsys.readouterr().err == "interrupted\n"
    # Later signals, as at the end of the interpreter, leave no traceback either.
    assert signal.getsignal(signal.SIGINT) is interrupts._leave


def test_an_interrupt_that_the_shell_ignores_stays_ignored():
    """As for a job that a script began with &."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        interrupts.exit_on_interrupt()
        with pytest.raises(SystemExit) as left:
            cli.run(lambda: signal.raise_signal(signal.SIGINT))
        assert left.value.code == 0
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
