"""The programs that measure kernels work, and the kernels that won are the default ones."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from kernel_errors import n_cases
from kernel_step import RECIPES, StepRow, kernels_of, steps_to_time, winners
from readme_tables import read_table

import kernels
from kernels.cases import OPS

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "kernels" / "README.md"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=600
    )


@pytest.mark.slow
@pytest.mark.parametrize(("words", "is_interpreted"), [([], False), (["--try-on-cpu"], True)])
def test_trying_on_a_cpu_interprets_kernels_also_beside_a_gpu(words, is_interpreted):
    program = (
        "import torch\n"
        "torch.cuda.is_available = lambda: True\n"
        "import gpu_kernels, kernels.launch\n"
        "print(kernels.launch.INTERPRETED)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        env=environment | {"PYTHONPATH": str(ROOT / "bench")},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == [str(is_interpreted)], done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_times_without_a_gpu_are_refused_with_what_can_be_had():
    result = run("bench/gpu_kernels.py")
    assert result.returncode == 2
    assert "python bench/kernel_aot.py" in result.stderr.splitlines()[-1]


def test_kernels_taken_by_themselves_are_those_that_win_every_recorded_step():
    assert winners(ROOT / "bench" / "results") == tuple(sorted(kernels.AUTO))


def test_every_kernel_is_tried_in_a_step_that_uses_it():
    of_each = {recipe: set(kernels_of(recipe)) for recipe in RECIPES}
    assert set().union(*of_each.values()) == set(kernels.OPS)
    assert {"relu2", "qk_norm_rope", "symmetric_product"} <= of_each["leaderboard"]
    assert not of_each["leaderboard"] & {"swiglu", "rotate_pairs"}
    assert steps_to_time(["swiglu", "softmax"]) == [("baseline", "swiglu"), ("baseline", "all")]


def test_a_winner_wins_everywhere_by_more_than_noise(tmp_path):
    records = [
        {
            "rms_norm": [90.0, 49.0],
            "swiglu": [99.8],
            "adamw": [80.0],
            "relu2": [90.0],
            "all": [7.0],
        },
        {"rms_norm": [99.4], "swiglu": [40.0], "adamw": [80.0, 100.2], "all": [40.0]},
    ]
    for i, record in enumerate(records):
        steps = [
            StepRow(recipe, kernel, ms, 100.0)._asdict()
            for kernel, of_recipes in record.items()
            for recipe, ms in zip(RECIPES, of_recipes, strict=False)
        ]
        (tmp_path / f"{i}.json").write_text(json.dumps({"training_steps": steps}))
    (tmp_path / "other.json").write_text(json.dumps({"rows": []}))
    assert winners(tmp_path) == ("rms_norm",)


def test_the_table_of_errors_has_every_operation_dtype_and_case():
    rows = [line.split("|")[1:4] for line in read_table(README, "errors").splitlines()[2:]]
    found = {(name.strip(), dtype.strip()): int(n) for name, dtype, n in rows}
    assert found == {
        (name, str(dtype).removeprefix("torch.")): n_cases(name)
        for name, op in OPS.items()
        for dtype in op.dtypes
    }
