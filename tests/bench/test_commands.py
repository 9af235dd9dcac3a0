"""Commands of bench/ that the documentation shows can be given as they stand there."""

import argparse
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from fastlm import cli

pytest.importorskip("triton")
ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "kernels/README.md", "runs/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]  # fmt: skip
SHOWN = sorted(
    {
        command
        for page in PAGES
        for command in re.findall(r"python (bench/[^`\n]+)", page.read_text(encoding="utf-8"))
    }
)


class _Accepted(Exception):
    """The flags were parsed without an error."""


@pytest.mark.parametrize("command", SHOWN)
def test_the_flags_of_a_shown_command_are_accepted(command, monkeypatch):
    def only(parse):
        def parse_only(*arguments, **options):
            parse(*arguments, **options)
            raise _Accepted

        return parse_only

    known = argparse.ArgumentParser.parse_known_args

    def parse_known(*arguments, **options):
        parsed = known(*arguments, **options)
        if sys._getframe(1).f_code.co_name != "parse_args":  # which refuses the others
            raise _Accepted
        return parsed

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", shlex.split(command))
    monkeypatch.setattr(sys, "path", [str(ROOT / "bench"), *sys.path])
    parser = argparse.ArgumentParser
    monkeypatch.setattr(parser, "parse_args", only(parser.parse_args))
    monkeypatch.setattr(parser, "parse_known_args", parse_known)
    monkeypatch.setattr(cli, "parse", only(cli.parse))
    with pytest.raises(_Accepted):
        runpy.run_path(sys.argv[0], run_name="__main__")


def test_the_programs_for_kernels_and_tokenizers_are_shown():
    shown = {command.split()[0] for command in SHOWN}
    assert shown >= {
        f"bench/{name}.py" for name in ("gpu_kernels", "kernel_aot", "kernel_errors", "tokenizer_scale")
    }  # fmt: skip
