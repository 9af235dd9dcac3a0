"""The losses that an alternative must have before it is timed: those of the reference.

Both take N_STEPS steps from the same weights on the same windows. Loss and gradient norm of each
step are compared, relative to the reference's. The norm shows a wrong backward pass at once, which
the loss shows only through the weights of the next step.

The tolerances follow from the rounding of the less precise of the two. A rounding changes a float32
value by up to 2^-24 = 6e-8, one of bfloat16 by 2^-9 = 2e-3, one of float8 (e4m3) by 2^-4 = 6e-2.
Errors of single tokens average out in a loss over a batch: equal computations differed by less than
1e-6 (float32) and 1e-3 (bfloat16) here, and a mask, scale or factor that is missing by more than
1e-2. A loss may differ by 1e-4 in float32 and by 5e-3 in bfloat16. A norm is dominated by few
parameters and passes through all layers twice: it may differ by ten times as much.
"""

import math
from typing import NamedTuple

N_STEPS = 4


class Step(NamedTuple):
    """Mean loss and gradient norm of an optimizer step."""

    loss: float
    norm: float


LOSS_TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-3, "float8": 3e-2}
"""Relative difference of losses that rounding to a dtype explains; of norms, ten times as much"""


def difference(reference: list[Step], steps: list[Step], dtype: str) -> str:
    """Say where losses differ by more than rounding explains; empty if they nowhere do.

    Values that are not finite are equal to each other alone.

    Args:
        dtype: the less precise dtype of the two: a key of LOSS_TOLERANCE.
    """
    tolerance = LOSS_TOLERANCE[dtype]
    for number, (one, other) in enumerate(zip(reference, steps, strict=True), 1):
        for what, a, b, allowed in (
            ("loss", one.loss, other.loss, tolerance),
            ("gradient norm", one.norm, other.norm, 10 * tolerance),
        ):
            if not _is_close(a, b, allowed):
                return f"{what} of step {number} is {b:.6g}, expected {a:.6g} within {allowed:.0e}"
    return ""


def _is_close(a: float, b: float, tolerance: float) -> bool:
    if not (math.isfinite(a) and math.isfinite(b)):
        return a == b or (math.isnan(a) and math.isnan(b))
    return abs(a - b) <= tolerance * abs(a)
