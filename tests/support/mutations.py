"""Put a bug into a copy of the project, and check that its tests fail."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]

SEGMENTATION_FAULT = 128 + 11


class Bug(NamedTuple):
    """In `file`, each `old` becomes `new`; `tests` are pytest arguments of those that must fail."""

    file: str
    old: str
    new: str
    tests: str


def run_tests(folder: Path, tests: str) -> subprocess.CompletedProcess[str]:
    command = f"{shlex.quote(sys.executable)} -m pytest -q -x -p no:cacheprovider {tests}"
    return subprocess.run(
        command,
        shell=True,
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"TRITON_INTERPRET": "1"},
    )


def copy_project(folder: Path) -> None:
    for name in ("kernels", "bench", "fastlm", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)


def check_is_seen(name: str, bug: Bug, folder: Path) -> None:
    """Check that the tests pass in a copy of the project without the bug, and fail with it."""
    copy_project(folder)
    path = folder / bug.file
    text = path.read_text()
    assert bug.old in text, "the code has changed: say here what the slip would be now"
    before = run_tests(folder, bug.tests)
    assert before.returncode == 0, before.stdout
    path.write_text(text.replace(bug.old, bug.new))
    after = run_tests(folder, bug.tests)
    # An offset that wraps around may point outside all memory: the process dies.
    assert after.returncode in (1, SEGMENTATION_FAULT), f"no test saw it:\n{after.stdout}"
    failed = re.findall(r"^FAILED (.*?)(?: - .*)?$", after.stdout, re.MULTILINE)
    print(f"{name}: {failed[0] if failed else 'segmentation fault in ' + bug.tests}")
