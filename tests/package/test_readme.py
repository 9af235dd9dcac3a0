"""The commands and code in README.md and docs/ run, and do what the pages say."""

import ast
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
README = (ROOT / "README.md").read_text(encoding="utf-8")


def shown_commands() -> list[str]:
    """Lines of code blocks and code spans that start with a command."""
    blocks = re.findall(r"```\n(.*?)```", README, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", README, flags=re.DOTALL))
    commands = [re.sub(r"\s+#.*$", "", line).strip() for line in lines]
    found = [c for c in commands if re.match(r"(make|python|pytest|sbatch) ", c)]
    return [c for c in found if "VERB" not in c]  # stands for any command


COMMANDS = shown_commands()


def test_the_readme_shows_commands():
    assert "make train" in COMMANDS
    assert "make test" in COMMANDS
    assert "python -m fastlm.train --compile --bf16" in README
    assert "fastlm is no entry" in README
    assert len(COMMANDS) >= 15


@pytest.mark.parametrize("target", [c.split()[1] for c in COMMANDS if c.startswith("make ")])
def test_make_targets_exist_and_do_what_the_readme_says(target):
    done = subprocess.run(
        ["make", "-n", target, "VENV=/nonexistent"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    runs = {
        "train": "-m fastlm.train --compile --bf16", "test": "-m pytest", "docs": "-m pdoc",
    }[target]  # fmt: skip
    assert runs in done.stdout


@pytest.mark.parametrize("script", [c.split()[1] for c in COMMANDS if c.startswith("sbatch ")])
def test_submitted_scripts_exist_and_are_executable(script):
    assert (ROOT / script).stat().st_mode & 0o111


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Make a folder with the files that the README's commands expect: texts and a run."""
    from fastlm.corpus.stories import generate_stories

    folder = tmp_path_factory.mktemp("readme")
    text = "".join(f"{s}\n<|endoftext|>\n" for s in generate_stories(seed=0, n_bytes=200_000))
    (folder / "my_texts").mkdir()
    (folder / "my_texts" / "all.txt").write_text(text, encoding="utf-8")
    (folder / "my.txt").write_text(text[:60_000], encoding="utf-8")
    write_run(folder / "out" / "sweep" / "first")
    return folder


# These flags make a command small enough for a test; all else stays as the README has it.
SMALLER = {
    "fastlm.train": "--max-steps 2 --model.d-model 32 --model.n-layers 1 --model.n-heads 2 --batch-size 2 --eval-tokens 512 --device cpu --no-compile",
    "fastlm.sweep": "--max-steps 2 --model.d-model 32 --model.n-layers 1 --model.n-heads 2 --eval-tokens 512 --device cpu --at-once 2",
    "fastlm.corpus stories": "--n-bytes 50000 --valid-bytes 5000",
    "fastlm.generate": "--max-tokens 8",
    "leaderboard-tiny": "--model.d-model 64 --model.n-layers 2 --eval-tokens 2048",
}


def run_here(module: str, words: list[str]) -> None:
    """Run the command of a module in this process, which has done the slow imports already."""
    arguments = {c.module: c.arguments for c in VERBS.values()}[module]
    import_module(f"fastlm.{arguments}").main(words)


@pytest.mark.slow
def test_every_python_command_of_the_readme_runs_in_its_order(folder, monkeypatch):
    ran = []
    monkeypatch.chdir(folder)
    # The default corpus of fastlm.train, in small, so that the test does not make 10 MB.
    corpus = "stories --out data/stories " + SMALLER["fastlm.corpus stories"]
    run_here("corpus", corpus.split())
    for command in COMMANDS:
        if not command.startswith("python ") or "--help" in command:
            continue
        words = shlex.split(command.split(" (")[0])[1:]
        extra = next((v for k, v in SMALLER.items() if f"-m {k}" in command), "")
        if "--resume" in command:
            extra = "--max-steps 3"
        if "fastlm.sweep" in command:
            extra += " --dry-run"  # the page on experiments has one that is run
        if "fastlm.train" in command and "--data" not in command and "--resume" not in command:
            extra += " --data data/mine"
        assert words[0] == "-m", command
        run_here(words[1].removeprefix("fastlm."), [*words[2:], *extra.split()])
        ran.append(command)
    assert len(ran) >= 10


PAGES = sorted((ROOT / "docs").glob("*.md"))
WITH_CODE = [page for page in PAGES if "\n```\n" in page.read_text(encoding="utf-8")]


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


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_code_of_the_documentation_runs_in_its_order(page, folder, monkeypatch):
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
                    words[:] = [re.sub(r",(3e-4|3e-3|1e-2|1e-1|1)\b", "", w) for w in words]
                if words[1:4] == ["fastlm.train", "--recipe", "leaderboard-tiny"]:
                    words += SMALLER["leaderboard-tiny"].split()
                    words += ["--time-budget", "6s"] if "--fix-steps" in words else []
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


SHELL = [page for page in PAGES if "```sh\n" in page.read_text(encoding="utf-8")]


@pytest.mark.parametrize("page", SHELL, ids=lambda page: page.name)
def test_shell_blocks_of_the_documentation_can_be_read_and_name_verbs_that_there_are(page):
    from fastlm import __version__

    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)  # fmt: skip
    for block in blocks:
        done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), block
    text = "\n".join(blocks)
    verbs = re.findall(r"(?:^|[\s/(])fastlm (\w[\w-]*)", text)
    assert verbs
    assert set(verbs) <= set(VERBS)
    assert set(re.findall(r"fastlm-(\d[\d.]*\d)-py3", text)) <= {__version__}


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_linked_files_exist(page):
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert targets
    for target in targets:
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_tests_that_the_page_on_reliability_names_exist():
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", page)
    assert len(named) > 40
    for file, name in named:
        path = ROOT / (file if file.startswith("bench/") else f"tests/{file}")
        source = path.read_text(encoding="utf-8")
        assert re.search(rf"^def {name}\(", source, re.MULTILINE), (file, name)


def said_by_the_program() -> list[str]:
    """All strings in fastlm's code, NUL where a value is filled in."""
    found = []
    for path in (ROOT / "fastlm").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                pieces = [n.value if isinstance(n, ast.Constant) else "\0" for n in node.values]
                found.append("".join(map(str, pieces)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def test_what_the_page_on_trouble_quotes_is_what_the_program_says():
    page = (ROOT / "docs" / "trouble.md").read_text(encoding="utf-8")
    said = said_by_the_program()
    values = r"(?:error|warning|note): |RUN\S*|\S*\d\S*(?: [KMG]iB)?|\.\.\.|\(.*?\)|[A-Z]{6,}|; go on|\S+\.\w+|\w+_hash"
    quoted = [span for span in re.findall(r"`([^`\n]+)`", page) if " " in span and span[0] != "-"]
    pieces = [piece.strip(" :;,") for span in quoted for piece in re.split(values, span)]
    pieces = [piece for piece in pieces if " " in piece]
    assert len(pieces) > 15
    unsaid = [piece for piece in pieces if not any(piece in text for text in said)]
    assert not unsaid
