"""Losses and gradient norms that rounding does not explain are told."""

import math

import pytest

from fastlm.tune.same_losses import Step, difference


def test_equal_losses_and_losses_within_rounding_pass():
    one = [Step(8.0, 2.0), Step(7.5, 1.5)]
    assert difference(one, one, "float32") == ""
    assert difference(one, [Step(8.0004, 2.001), Step(7.5, 1.5)], "float32") == ""
    assert difference(one, [Step(8.03, 2.05), Step(7.47, 1.5)], "bfloat16") == ""


@pytest.mark.parametrize(
    ("other", "dtype", "told"),
    [
        ([Step(8.0, 2.0), Step(7.51, 1.5)], "float32", "loss of step 2 is 7.51, expected 7.5"),
        ([Step(8.0, 2.1), Step(7.5, 1.5)], "float32", "gradient norm of step 1 is 2.1"),
        ([Step(8.1, 2.0), Step(7.5, 1.5)], "bfloat16", "loss of step 1 is 8.1"),
        ([Step(math.nan, 2.0), Step(7.5, 1.5)], "float8", "loss of step 1 is nan"),
        ([Step(8.0, math.inf), Step(7.5, 1.5)], "float8", "gradient norm of step 1 is inf"),
    ],
)
def test_other_losses_are_told(other, dtype, told):
    assert told in difference([Step(8.0, 2.0), Step(7.5, 1.5)], other, dtype)


def test_values_that_are_not_finite_are_equal_to_themselves_alone():
    broken = [Step(math.nan, math.inf)]
    assert difference(broken, broken, "float32") == ""
    assert difference(broken, [Step(math.nan, -math.inf)], "float32")
    assert difference(broken, [Step(1.0, math.inf)], "float32")
