"""A look at one operation on the device at hand, before a run relies on it."""

from collections.abc import Callable
from typing import Any

import torch

from .calls import largest_error, results_and_gradients
from .cases import OPS

_SLACK = 2.0
"""How many times the error of the plain operation is allowed: sums may go another way."""


def fault_of(
    name: str, plain: Callable[..., Any], device: torch.device, dtype: torch.dtype
) -> str | None:
    """Run an operation forward and backward on a small case; None if its values are right.

    They are right if no error is more than twice that of the plain operation in the same dtype,
    each against the plain operation in float32, plus four roundings.

    Args:
        plain: the operation of the same name of another table.
    Returns:
        Otherwise what went wrong, in a line.
    """
    op = OPS[name]

    def run(function: Callable[..., Any], dtype: torch.dtype | None = None) -> list[torch.Tensor]:
        return results_and_gradients(function, inputs, torch.Generator().manual_seed(1), dtype)

    try:
        seed = torch.Generator().manual_seed(0)
        inputs = op.make(op.check or op.tiny, op.options[0], dtype, device, seed)
        truths, theirs = run(plain, torch.float32), run(plain)
        found = run(op.function)
        for ours, other, truth in zip(found, theirs, truths, strict=True):
            rounding = torch.finfo(ours.dtype).eps * float(truth.abs().max())
            allowed = _SLACK * largest_error(other, truth) + 4 * rounding
            if not (error := largest_error(ours, truth)) <= allowed:
                return f"an error of {error:.2g} where {allowed:.2g} is allowed"
    except Exception as error:  # a compiler's or a driver's, of any kind
        return " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return None
