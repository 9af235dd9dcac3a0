"""`fastlm VERB` is `python -m fastlm.MODULE`, and no command imports what is slow to say what it takes."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastlm import __version__
from fastlm.cli.commands import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
FASTLM = ROOT / "fastlm"

SLOW = {"torch", "numba", "matplotlib", "transformers", "numpy", "jaxtyping", "triton", "http"}
SLOW |= {"typeguard", "asyncio"}


def python(*words: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, timeout=600,
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "80"}, **options,
    )  # fmt: skip


def test_every_command_has_arguments_to_complete():
    for command in COMMANDS.values():
        place = FASTLM / command.arguments.replace(".", "/")
        text = place.with_suffix(".py").read_text(encoding="utf-8")
        assert re.search(r"^ARGUMENTS\b", text, re.MULTILINE), command.arguments


IMPORTED = (
    "import atexit, runpy, sys\n"
    "atexit.register(lambda: print('IMPORTED', *{n.split('.')[0] for n in sys.modules}))\n"
    "module, *sys.argv[1:] = sys.argv[1:]\n"
    "runpy.run_module(module, run_name='__main__', alter_sys=True)"
)


@pytest.mark.parametrize("verb", COMMANDS)
def test_help_imports_nothing_slow(verb):
    done = python("-c", IMPORTED, f"fastlm.{COMMANDS[verb].module}", "--help")
    assert done.returncode == 0, done.stderr
    assert f"usage: python -m fastlm.{COMMANDS[verb].module} " in done.stdout
    imported = set(done.stdout.splitlines()[-1].split())
    assert {"IMPORTED", "fastlm", "tyro"} <= imported
    assert not imported & SLOW


def test_a_mistyped_flag_is_answered_without_them():
    done = python("-c", IMPORTED, "fastlm", "train", "--batch-sise=3")
    assert done.returncode == 2
    assert done.stderr == (
        "error: Unrecognized options: --batch-sise=3; did you mean --batch-size?\n"
    )
    assert not set(done.stdout.split()) & SLOW


def test_the_program_lists_its_verbs_and_imports_hardly_anything():
    done = python("-c", IMPORTED, "fastlm", "--help")
    assert done.returncode == 0
    for verb, command in COMMANDS.items():
        assert re.search(rf"^  {verb} +{re.escape(command.summary)}$", done.stdout, re.MULTILINE)
    imported = set(done.stdout.splitlines()[-1].split())
    assert not imported & (SLOW | {"tyro", "rich"})
    assert python("-m", "fastlm").stdout == python("-m", "fastlm", "-h").stdout


def test_the_program_says_its_version():
    assert python("-m", "fastlm", "--version").stdout == f"fastlm {__version__}\n"
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nversion = "{__version__}"\n' in project


def test_an_unknown_verb_is_one_line_that_names_the_nearest():
    done = python("-m", "fastlm", "evalute", "run")
    assert done.returncode == 2
    assert done.stderr == "error: unknown command 'evalute'; did you mean evaluate?\n"


@pytest.mark.slow
def test_a_verb_does_what_its_module_does():
    words = ["--rates", "1", "10", "--steps", "3"]
    done = python("-m", "fastlm.sgd_toy", *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("rate 1 converges\nrate 10 converges\n")
    assert python("-m", "fastlm", "sgd-toy", *words).stdout == done.stdout
    helps = [python("-m", "fastlm", verb, "--help").stdout for verb in ("sgd-toy", "sgd_toy")]
    assert helps[0] == helps[1].replace("sgd_toy", "sgd-toy") != ""


def test_its_help_and_its_errors_name_what_was_typed():
    assert python("-m", "fastlm", "evaluate", "--help").stdout.startswith("usage: fastlm evaluate ")
    done = python("-m", "fastlm", "evaluate", "nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no run in nowhere" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("start", [["-m", "fastlm", "train"], ["-m", "fastlm.train"]])
def test_a_signal_while_training_is_still_being_imported_leaves_at_once(start, tmp_path):
    """The signal comes while the flags are read, long before torch is imported."""
    (tmp_path / "tyro.py").write_text(
        "print('reading flags', flush=True)\nimport time; time.sleep(10**6)"
    )
    with subprocess.Popen(
        [sys.executable, *start, "--data", "d"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}, text=True, cwd=tmp_path,
    ) as child:  # fmt: skip
        assert child.stdout.readline() == "reading flags\n"
        child.send_signal(signal.SIGTERM)
        try:
            _, said = child.communicate(timeout=20)
        finally:
            child.kill()
    assert child.returncode == 75
    assert said == "stopped by SIGTERM before training began\n"


def test_the_clock_of_the_budget_counts_what_is_imported():
    """It begins with the process, by either name: slow imports are seconds of the run."""
    program = (
        "import runpy, sys, time\n"
        "import fastlm.train.command as cli\n"
        "def main(started): print(time.perf_counter() - started)\n"
        "cli.main = main\n"
        "real = cli.cli.run\n"
        "def run(main): time.sleep(0.25); real(main)\n"
        "cli.cli.run = run\n"
        "sys.argv = ['fastlm', 'train']\n"
        "runpy.run_module('fastlm', run_name='__main__', alter_sys=True)"
    )
    began = time.perf_counter()
    done = python("-c", program)
    assert done.returncode == 0, done.stderr
    assert 0.25 <= float(done.stdout) < time.perf_counter() - began
