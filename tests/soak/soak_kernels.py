"""Are the tests of kernels able to fail? Typical bugs, put into a copy one at a time, must be seen.

Run by `make soak`. Each names a file, what stands there, what a slip would leave, and the tests that
see it; -rA shows which did.
"""

import json

import pytest
from bugs import KERNEL_BUGS
from compiled_kernels import check_compiles_well, python
from kernel_training import OF_ONE_LAYER, losses_of_training
from mutations import check_is_seen

from kernels.cases import OPS


@pytest.mark.interpreter
def test_200_steps_through_all_kernels_equal_the_reference():
    # At three times this rate two ways of plain PyTorch end 3e-4 apart: training makes roundings
    # grow.
    plain = losses_of_training("none", 200, "adamw", 3e-3, OF_ONE_LAYER)
    ours = losses_of_training("all", 200, "adamw", 3e-3, OF_ONE_LAYER)
    assert sum(plain[-10:]) / 10 < plain[0] - 1
    assert ours == pytest.approx(plain, rel=1e-4)


def test_all_operations_compile_well_for_all_gpus(tmp_path):
    report = tmp_path / "report.json"
    done = python("bench/kernel_aot.py", "--check", "--json", str(report))
    assert done.returncode == 0, done.stdout + done.stderr
    for name in OPS:
        check_compiles_well(json.loads(report.read_text()), name, {"sm_80", "sm_90", "sm_100"})


@pytest.mark.parametrize("name", KERNEL_BUGS)
def test_a_typical_bug_makes_a_test_fail(name, tmp_path):
    check_is_seen(name, KERNEL_BUGS[name], tmp_path)
