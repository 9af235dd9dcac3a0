"""The pages of the API: every public name says what it is, and pdoc makes pages of it."""

import ast
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted([*(ROOT / "fastlm").rglob("*.py"), *(ROOT / "kernels").glob("*.py")])


def undocumented(path: Path) -> list[str]:
    """Public classes and functions of a file without a docstring, methods of plain names aside."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [] if ast.get_docstring(tree) else [path.name]
    for node in tree.body:
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        if isinstance(node, kinds) and not node.name.startswith("_"):
            is_kernel = any("jit" in ast.unparse(d) for d in node.decorator_list)
            if not is_kernel and not ast.get_docstring(node):
                found.append(node.name)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_public_names_have_docstrings(path):
    assert undocumented(path) == []


@pytest.mark.slow
def test_pages_are_made_of_the_docstrings(tmp_path):
    """The command of `make docs`, for three of the modules; it imports kernels."""
    pytest.importorskip("triton")
    said = subprocess.run(["make", "-n", "docs"], cwd=ROOT, capture_output=True, text=True).stdout
    line = next(line for line in said.splitlines() if "-m pdoc" in line)
    words = shlex.split(line)
    assert words[0] == "TRITON_INTERPRET=1"
    assert words[-4:] == ["-o", "out/api", "fastlm", "kernels"]
    modules = ["fastlm.functional", "fastlm.tokenizer", "kernels.rms_norm"]
    done = subprocess.run(
        [sys.executable, *words[2:-3], str(tmp_path), *modules],
        cwd=ROOT, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Warn" not in done.stderr
    page = (tmp_path / "fastlm/functional.html").read_text(encoding="utf-8")
    assert "Scale each row by its root mean square" in page
    assert '<h6 id="arguments">' in page  # sections are told from text
    assert (tmp_path / "kernels/rms_norm.html").is_file()
