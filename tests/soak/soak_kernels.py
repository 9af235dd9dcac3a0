"""Are the tests of kernels able to fail? Typical bugs, put into a copy one at a time, must be seen.

Run by `make soak`. Each names a file, what stands there, what a slip would leave, and the tests that
see it; -rA shows which did.
"""

import json

import kernel_aot
import pytest
import torch
from bugs import KERNEL_BUGS
from compiled_kernels import check_compiles_well, python
from kernel_training import OF_ONE_LAYER, losses_of_training
from kernel_truth import cases, check_compiled, check_errors, check_promises
from mutations import check_is_seen
from readme_tables import read_table

from kernels.cases import OPS


@pytest.mark.interpreter
def test_200_steps_through_all_kernels_equal_the_reference():
    # At three times this rate two ways of plain PyTorch end 3e-4 apart: training makes roundings
    # grow.
    plain = losses_of_training("none", 200, "adamw", 3e-3, OF_ONE_LAYER)
    ours = losses_of_training("all", 200, "adamw", 3e-3, OF_ONE_LAYER)
    assert sum(plain[-10:]) / 10 < plain[0] - 1
    assert ours == pytest.approx(plain, rel=1e-4)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The report of all configurations, for all GPUs."""
    path = tmp_path_factory.mktemp("aot") / "report.json"
    done = python("bench/kernel_aot.py", "--check", "--json", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(path.read_text())


@pytest.mark.parametrize("name", OPS)
def test_an_operation_compiles_well_for_all_gpus(name, compiled):
    """test_kernel_aot.py has one shape and one GPU."""
    check_compiles_well(compiled, name, {"sm_80", "sm_90", "sm_100"})
    rows = [row for row in compiled["rows"] if name in row["ops"]]
    assert {w for row in rows for w in row["widths"]} >= {shape[-1] for shape in OPS[name].large}


def test_the_table_in_the_readme_is_true(compiled):
    shown = read_table(kernel_aot.README, kernel_aot.TABLE)
    assert kernel_aot.difference(compiled, shown) is None
    if f"with Triton {compiled['triton']}:" not in shown:
        pytest.skip("another version of Triton made the table: its numbers are not compared")


@pytest.mark.interpreter
@pytest.mark.parametrize(
    ("name", "shape", "options", "dtype"),
    cases(lambda dtype, option: dtype == torch.float16 and option > 0),
)
def test_errors_are_those_of_plain_torch(name, shape, options, dtype):
    """test_kernels.py has the first options of float16, and all of the other dtypes."""
    check_errors(name, shape, options, dtype)


@pytest.mark.interpreter
@pytest.mark.compiled
@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param(name, options, id=f"{name}-{i}")
        for name, op in OPS.items()
        for i, options in enumerate(op.options)
    ],
)
def test_operations_keep_what_they_promise_pytorch(name, options):
    check_promises(name, options)


@pytest.mark.interpreter
@pytest.mark.compiled
@pytest.mark.generated
@pytest.mark.parametrize("name", OPS)
def test_by_generated_code_it_equals_itself_and_the_compiled_reference(name):
    check_compiled(name, "inductor")


@pytest.mark.parametrize("name", KERNEL_BUGS)
def test_a_typical_bug_makes_a_test_fail(name, tmp_path):
    check_is_seen(name, KERNEL_BUGS[name], tmp_path)
