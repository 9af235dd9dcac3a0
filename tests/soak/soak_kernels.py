"""Are the tests of kernels able to fail? Typical bugs, put into a copy one at a time, must be seen.

Run by `make soak`. Each names a file, what stands there, what a slip would leave, and the tests that
see it; -rA shows which did.
"""

import pytest
from bugs import KERNEL_BUGS
from kernel_training import OF_ONE_LAYER, losses_of_training
from mutations import check_is_seen


@pytest.mark.interpreter
def test_200_steps_through_all_kernels_equal_the_reference():
    # At three times this rate two ways of plain PyTorch end 3e-4 apart: training makes roundings
    # grow.
    plain = losses_of_training("none", 200, "adamw", 3e-3, OF_ONE_LAYER)
    ours = losses_of_training("all", 200, "adamw", 3e-3, OF_ONE_LAYER)
    assert sum(plain[-10:]) / 10 < plain[0] - 1
    assert ours == pytest.approx(plain, rel=1e-4)


@pytest.mark.parametrize("name", KERNEL_BUGS)
def test_a_typical_bug_makes_a_test_fail(name, tmp_path):
    check_is_seen(name, KERNEL_BUGS[name], tmp_path)
