"""The commands and code in README.md and docs/ run, and do what the pages say."""

import ast
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from shown_code import LONG, PAGES, SMALLER, WITH_CODE, check_code_of_page, make_files, run_here

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
    """Make a folder with the files that the commands expect."""
    folder = tmp_path_factory.mktemp("readme")
    make_files(folder)
    return folder


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
            extra += " --dry-run"  # test_command.py runs sweeps
        if "fastlm.train" in command and "--data" not in command and "--resume" not in command:
            extra += " --data data/mine"
        if words[0].startswith("bench/"):  # tests/bench runs these
            source = (ROOT / words[0]).read_text(encoding="utf-8")
            assert all(f'"{word}"' in source for word in words if word.startswith("--")), command
            continue
        assert words[0] == "-m", command
        run_here(words[1].removeprefix("fastlm."), [*words[2:], *extra.split()])
        ran.append(command)
    assert len(ran) >= 10


@pytest.mark.parametrize(
    "page", [page for page in WITH_CODE if page.name not in LONG], ids=lambda page: page.name
)
def test_code_of_the_documentation_runs_in_its_order(page, folder, monkeypatch):
    """soak_docs.py runs that of the pages that take long."""
    check_code_of_page(page, folder, monkeypatch)


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
        path = ROOT / (file if file.startswith(("bench/", "tests/")) else f"tests/{file}")
        source = path.read_text(encoding="utf-8")
        assert re.search(rf"^ *def {name}\(", source, re.MULTILINE), (file, name)


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
