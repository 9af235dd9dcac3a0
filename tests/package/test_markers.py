"""The choice of tests for a machine with a GPU, checked on one that only pretends to have one."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
OF_KERNELS = [
    str(path)
    for path in sorted(TESTS.rglob("test_*.py"))
    if re.search(r"^(?:from|import) kernels\b", path.read_text(), re.MULTILINE)
]


@pytest.fixture
def run_tests_beside_a_gpu(tmp_path):
    """The exit code of pytest, and what it printed; PyTorch says there that it has a GPU."""
    pytest.importorskip("triton")
    (tmp_path / "pretended_gpu.py").write_text(
        "import torch\ntorch.cuda.is_available = lambda: True\n"
    )

    def run(*words: str, **environment: str) -> tuple[int, str]:
        clean = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "pretended_gpu", "-p", "no:cacheprovider", *words],
            env=clean | {"PYTHONPATH": str(tmp_path)} | environment,
            capture_output=True,
            text=True,
            cwd=TESTS.parent,
        )  # fmt: skip
        return done.returncode, done.stdout

    return run


@pytest.mark.slow
def test_where_kernels_are_compiled_no_test_gives_them_tensors_of_the_cpu(run_tests_beside_a_gpu):
    code, printed = run_tests_beside_a_gpu("-m", "not gpu and not slow", *OF_KERNELS)
    assert code == 0, printed
    assert "kernels are compiled here: TRITON_INTERPRET=1 pytest -m interpreter" in printed


def test_where_kernels_are_interpreted_those_tests_run_and_those_of_the_gpu_do_not(
    run_tests_beside_a_gpu,
):
    code, printed = run_tests_beside_a_gpu(
        "tests/kernels/test_rope.py::test_position_zero_stays",
        "tests/data/test_windows.py::test_batches_on_a_gpu_equal_those_on_the_cpu",
        TRITON_INTERPRET="1",
    )
    assert code == 0, printed
    assert "1 passed, 1 skipped" in printed
    assert "kernels are interpreted on the CPU here: unset TRITON_INTERPRET" in printed
