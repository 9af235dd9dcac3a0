"""Scaling law: project the loss of a long run from short ones by a power law in compute.

A projection is not a measurement. It assumes that only compute changes, and that the law holds
beyond the measured range.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Point(NamedTuple):
    """A run: its training FLOPs (of the model, forward and backward) and its validation loss."""

    flops: float
    loss: float


class Law(NamedTuple):
    """The scaling law loss = floor + scale * (flops / 1e15)^-exponent."""

    floor: float
    scale: float
    exponent: float

    def loss(self, flops: float) -> float:
        return self.floor + self.scale * (flops / 1e15) ** -self.exponent


class Projection(NamedTuple):
    """The loss that a law predicts for a budget; low to high is a 90 % interval."""

    flops: float
    loss: float
    low: float
    high: float
    law: Law

    def __str__(self) -> str:
        return (
            f"projected, not measured: loss {self.loss:.3f} ({self.low:.3f} to {self.high:.3f}) at "
            f"{self.flops:.3g} FLOPs"
        )


_EXPONENTS = np.geomspace(0.02, 1.0, 200)


def fit_law(points: Sequence[Point]) -> Law:
    """Fit the law by least squares, with floor and scale >= 0.

    For each exponent of a grid, floor and scale are a linear regression.

    Raises:
        ValueError: for fewer than three different budgets.
    """
    budgets = {point.flops for point in points}
    if len(budgets) < 3:
        raise ValueError(
            f"a projection needs runs of at least three budgets: got {len(budgets)}; train shorter "
            "ones, such as a quarter and a sixteenth of the budget"
        )
    flops, losses = (np.array(column) for column in zip(*points, strict=True))
    x = (flops / 1e15) ** -_EXPONENTS[:, None]  # (exponent, point)
    centred = x - x.mean(axis=1, keepdims=True)
    scale = np.maximum((centred @ losses) / np.square(centred).sum(axis=1), 0.0)
    floor = losses.mean() - scale * x.mean(axis=1)
    through_zero = (x @ losses) / np.square(x).sum(axis=1)
    floor, scale = np.where(floor < 0, (np.zeros_like(floor), through_zero), (floor, scale))
    errors = np.square(floor[:, None] + scale[:, None] * x - losses).sum(axis=1)
    best = int(errors.argmin())
    return Law(float(floor[best]), float(scale[best]), float(_EXPONENTS[best]))


def project(
    points: Sequence[Point], flops: float, *, run_deviation: float = 0.002, seed: int = 0
) -> Projection:
    """Project the loss of runs to a larger budget, with a parametric bootstrap for the interval.

    Args:
        run_deviation: standard deviation of the loss between seeds; if the points scatter more
            around their law, their deviation is used.
    Raises:
        ValueError: as fit_law does.
    """
    law = fit_law(points)
    residuals = [point.loss - law.loss(point.flops) for point in points]
    n_free = max(1, len(points) - 3)
    deviation = max(run_deviation, float(np.sqrt(np.square(residuals).sum() / n_free)))
    rng = np.random.default_rng(seed)
    # Refit the law to losses with simulated noise.
    drawn = []
    for _ in range(300):
        noise = rng.normal(0, deviation, len(points))
        moved = [
            Point(p.flops, law.loss(p.flops) + float(n)) for p, n in zip(points, noise, strict=True)
        ]
        drawn.append(fit_law(moved).loss(flops))
    low, high = np.quantile(drawn, [0.05, 0.95])
    return Projection(flops, law.loss(flops), float(low), float(high), law)
