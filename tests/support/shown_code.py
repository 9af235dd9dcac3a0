"""Running the commands and the code that README.md and docs/ show."""

import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from importlib import import_module
from pathlib import Path

import pytest
from made_runs import write_run

from fastlm.cli.commands import COMMANDS as VERBS

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
WITH_CODE = [page for page in PAGES if "\n```\n" in page.read_text(encoding="utf-8")]
LONG = ("experiments.md", "export.md", "parallel.md", "recipe.md")
"""Pages whose code takes more than ten seconds; soak_docs.py runs it."""

# These flags make a command small enough for a test; all else stays as the README has it.
SMALLER = {
    "fastlm.train": "--max-steps 2 --model.d-model 32 --model.n-layers 1 --model.n-heads 2 --batch-size 2 --eval-tokens 512 --device cpu --no-compile",
    "fastlm.sweep": "--max-steps 2 --model.d-model 32 --model.n-layers 1 --model.n-heads 2 --eval-tokens 512 --device cpu --at-once 2",
    "fastlm.tune": "--model.d-model 32 --model.n-layers 1 --model.n-heads 2 --batch-size 2 --device cpu --no-compile --no-bf16 --micro-batch 1 --threads 1 --optimizer-dtype float32 --out tuned.json --overwrite",
    "fastlm.corpus stories": "--n-bytes 50000 --valid-bytes 5000",
    "fastlm.generate": "--max-tokens 8",
    "leaderboard-tiny": "--model.d-model 64 --model.n-layers 2 --eval-tokens 2048",
}


def make_files(folder: Path) -> None:
    """Make the files that commands of README.md and docs/ expect: texts and a run."""
    from fastlm.corpus.stories import generate_stories

    text = "".join(f"{s}\n<|endoftext|>\n" for s in generate_stories(seed=0, n_bytes=200_000))
    (folder / "my_texts").mkdir()
    (folder / "my_texts" / "all.txt").write_text(text, encoding="utf-8")
    (folder / "my.txt").write_text(text[:60_000], encoding="utf-8")
    write_run(folder / "out" / "sweep" / "first")


def run_here(module: str, words: list[str]) -> None:
    """Run the command of a module in this process, which has done the slow imports already."""
    arguments = {c.module: c.arguments for c in VERBS.values()}[module]
    import_module(f"fastlm.{arguments}").main(words)


def check_it_serves(words: list[str], folder: Path) -> None:
    """Check a command that serves pages until Ctrl-C, at a free port."""
    process = subprocess.Popen(
        [sys.executable, *words, "--port", "0"],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        address = re.search(r"127\.0\.0\.1:\d+", process.stderr.readline())
        assert address
        with urllib.request.urlopen(f"http://{address[0]}/", timeout=600) as answer:
            assert b"<html" in answer.read()
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=600)


def check_code_of_page(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the commands and the Python of a page in their order, in a folder of make_files."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)  # fmt: skip
    ran = 0
    for language, block in blocks:
        if language == "python":
            programs = [(["-c", block], None)]
        else:
            found = re.findall(r"^(?:cat (\S+) \| )?python (.*)", block, re.MULTILINE)
            programs = [(shlex.split(line, comments=True), piped or None) for piped, line in found]
            for words, _ in programs:
                if words[1:2] == ["fastlm.sweep"] and len(words) > 3:
                    words += SMALLER["fastlm.sweep"].split()
                    # The first sweep of the page is run, with two of its values.
                    is_first = words[2] == "out/rates"
                    words += [] if is_first else ["--dry-run"]
                    words[:] = [re.sub(r",(0\.3|1|3|10|100)\b", "", w) for w in words]
                if words[1:2] == ["fastlm.tune"]:
                    words += SMALLER["fastlm.tune"].split()
                if words[1:4] == ["fastlm.train", "--recipe", "leaderboard-tiny"]:
                    words += SMALLER["leaderboard-tiny"].split()
                    words += ["--time-budget", "15s"] if "--fix-steps" in words else []
        for words, piped in programs:
            ran += 1
            if "--serve" in words:
                check_it_serves(words, folder)
                continue
            command = re.fullmatch(r"fastlm\.(\w+)", words[1]) if words[0] == "-m" else None
            if command and not piped:  # in this process, which has imported what is slow
                monkeypatch.chdir(folder)
                run_here(command[1], words[2:])
                continue
            if words[0] == "-c" and "os.environ" not in words[1]:
                monkeypatch.chdir(folder)
                exec(compile(words[1], page.name, "exec"), {"__name__": "__main__"})
                continue
            done = subprocess.run(
                [sys.executable, *words], input=piped and (folder / piped).read_text(encoding="utf-8"),
                cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=600,
            )  # fmt: skip
            assert done.returncode == 0, f"{words}\n{done.stderr}"
    assert ran > 0
