"""Checks of numbers that become float32 in a training step.

Beyond float32's range torch raises an error or computes with infinity, and below it with 0.
"""

import math
import struct

MOST_RATE = 1e30
"""Greatest learning rate: float32 ends at 3.4e38, and formulas multiply rates, such as Muon's by
the square root of a matrix's shape"""


def rounded(value: float) -> float:
    """Round a number to float32, to infinity beyond its range.

    >>> rounded(0.5), rounded(1e39), rounded(1e-50)
    (0.5, inf, 0.0)
    """
    try:
        return float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


def check_held(name: str, value: float) -> None:
    """Refuse a number above 0 that float32 cannot hold.

    Raises:
        ValueError: if it becomes infinity or 0 in float32.
    """
    if not 0 < rounded(value) < math.inf:
        raise ValueError(
            f"{name} must lie in the range of float32, 1.4e-45 to 3.4e38: got {value:g}"
        )


def check_rate(name: str, value: float) -> None:
    """Refuse a learning rate above 0 with which a step cannot be computed in float32.

    Raises:
        ValueError: if float32 cannot hold it, or it is above MOST_RATE.
    """
    check_held(name, value)
    if value > MOST_RATE:
        raise ValueError(
            f"{name} must be at most {MOST_RATE:g}, as steps are computed in float32: got {value}"
        )
