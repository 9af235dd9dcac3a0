"""Completion in shells: the scripts are read by the shells themselves, and a Tab is pressed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastlm.cli import completion
from fastlm.cli.commands import COMMANDS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def scripts() -> dict[str, str]:
    return {shell: completion.script(shell) for shell in ("bash", "zsh", "fish")}


@pytest.fixture(scope="module")
def press_tab(scripts, tmp_path_factory):
    """Return a function that lists what bash offers to complete the last of some words."""
    path = tmp_path_factory.mktemp("completion") / "fastlm.bash"
    path.write_text(scripts["bash"], encoding="utf-8")
    program = (
        "source $1; shift\n"
        "function=$(complete -p fastlm | sed -E 's/.* -F ([^ ]+) .*/\\1/')\n"
        'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()\n'
        '$function fastlm "${@: -1}"\n'
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )

    def press(*words: str) -> list[str]:
        done = subprocess.run(
            ["bash", "-c", program, "bash", str(path), *words], capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout.split()

    return press


def test_bash_completes_verbs(press_tab):
    assert set(press_tab("fastlm", "")) >= set(COMMANDS)
    assert press_tab("fastlm", "gen") == ["generate"]


def test_bash_completes_flags_of_the_verb(press_tab):
    assert press_tab("fastlm", "train", "--batch-s") == ["--batch-size"]
    assert press_tab("fastlm", "train", "--model.n-l") == ["--model.n-layers"]
    assert press_tab("fastlm", "generate", "run", "--temp") == ["--temperature"]
    assert press_tab("fastlm", "generate", "--batch-s") == []


def test_bash_completes_words_under_a_verb_and_their_flags(press_tab):
    assert {"train", "encode", "decode", "report"} <= set(press_tab("fastlm", "tokenizer", ""))
    assert press_tab("fastlm", "data", "prepare", "--val") == ["--val-fraction"]


def test_bash_completes_values_that_are_a_choice(press_tab):
    assert press_tab("fastlm", "train", "--model.norm", "p") == ["pre", "post"]
    assert press_tab("fastlm", "export", "run", "--to", "") == ["hf", "tiktoken"]


def test_bash_offers_no_line_of_a_help_text(press_tab):
    offered = press_tab("fastlm", "train", "")
    assert len(offered) > 50
    assert all(word.startswith("-") for word in offered)


def test_bash_is_left_to_complete_files(press_tab, scripts):
    assert press_tab("fastlm", "evaluate", "out/r") == []
    assert re.findall(r"^complete .*", scripts["bash"], re.MULTILINE)[-1].startswith(
        "complete -o default -F "
    )


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_know_the_commands_too(shell, scripts):
    assert all(verb in scripts[shell] for verb in COMMANDS)


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("fastlm gen", ["generate"]),
        ("fastlm train --batch-s", ["--batch-size"]),
        ("fastlm data prepare --val", ["--val-fraction"]),
        ("fastlm export run --to ", ["hf", "tiktoken"]),
        ("fastlm evaluate my", ["my_run/", "my_text.txt"]),
        ("fastlm train --data my", ["my_run/", "my_text.txt"]),
    ],
)
def test_fish_completes(line, offered, scripts, tmp_path):
    (tmp_path / "my_run").mkdir()
    (tmp_path / "my_text.txt").touch()
    (tmp_path / "fastlm.fish").write_text(scripts["fish"], encoding="utf-8")
    program = "source fastlm.fish; complete -C $argv[1]"
    done = subprocess.run(
        ["fish", "--no-config", "-c", program, line],
        capture_output=True, text=True, cwd=tmp_path, timeout=600,
    )  # fmt: skip
    assert done.stderr == ""
    assert [row.split("\t")[0] for row in done.stdout.splitlines() if row] == offered


# zsh completes in its line editor alone, which wants a terminal: zpty is one.
ZSH = r"""
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "fpath=($PWD \$fpath); autoload -U compinit; compinit -u -D; echo rea''dy"
zpty -r shell said "*ready*"
zpty -n -w shell "$1"$'\t'
zpty -r shell said "*$2*"
print -rn -- $said
"""


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("fastlm gen", "generate"),
        ("fastlm train --batch-s", "--batch-size"),
        ("fastlm data prepare --val", "--val-fraction"),
        ("fastlm evaluate my", "my_text.txt"),
        ("fastlm train --data my", "my_text.txt"),
    ],
)
def test_zsh_completes(line, offered, scripts, tmp_path):
    """The test waits until the expected text is on the line; if it never is, until the timeout."""
    (tmp_path / "my_text.txt").touch()
    (tmp_path / "_fastlm").write_text(scripts["zsh"], encoding="utf-8")
    done = subprocess.run(
        ["zsh", "-f", "-c", ZSH, "zsh", line, offered],
        capture_output=True, text=True, cwd=tmp_path, timeout=600,
    )  # fmt: skip
    assert offered in done.stdout


def test_the_command_prints_the_script_and_refuses_other_shells():
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        # tyro writes some choices in the order of their hashes.
        return subprocess.run(
            [sys.executable, *words], capture_output=True, text=True, cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": "0"},
        )  # fmt: skip

    call = "import sys; from fastlm.cli.completion import script; sys.stdout.write(script('bash'))"
    printed = run("-m", "fastlm", "completion", "bash").stdout
    assert printed == run("-c", call).stdout
    assert "complete -o default -F _fastlm_or_files fastlm" in printed
    done = run("-m", "fastlm", "completion", "tcsh")
    assert done.returncode == 2
    assert "Expected one of ('bash', 'zsh', 'fish')" in done.stderr
    assert done.stderr.count("\n") == 1
