"""Schedules of learning rate, momentum and weight decay, as plain functions.

They depend on the step number, or on progress: the share of the run that is done, in [0, 1].
"""

import math
from collections.abc import Callable


def cosine_lr(it: int, max_lr: float, min_lr: float, warmup_iters: int, cosine_iters: int) -> float:
    """Cosine schedule: linear warm-up, half a cosine from max_lr to min_lr, then min_lr.

    it < warmup_iters: it / warmup_iters * max_lr. Up to cosine_iters (a step number, not a
    length): min_lr + (1 + cos(pi (it - warmup) / (cosine_iters - warmup))) / 2 * (max_lr - min_lr).
    """
    if it < warmup_iters:
        return it / warmup_iters * max_lr
    if it > cosine_iters or cosine_iters == warmup_iters:
        return min_lr
    progress = (it - warmup_iters) / (cosine_iters - warmup_iters)
    return min_lr + cosine(progress) * (max_lr - min_lr)


def cosine(progress: float) -> float:
    """Half a cosine from 1 at progress 0 to 0 at progress 1."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def linear(progress: float) -> float:
    """Linear decay from 1 at progress 0 to 0 at progress 1."""
    return 1 - progress


def constant(progress: float) -> float:
    """A constant 1."""
    return 1.0


def multiplier(
    progress: float,
    *,
    kind: str,
    warmup: float,
    decay: float,
    final: float,
) -> float:
    """Multiplier of the peak learning rate at a progress.

    Args:
        progress: share of the run that is done, in steps or in seconds; clamped to [0, 1].
        kind: cosine, linear, constant, or wsd (warm-up, stable, linear decay).
        warmup: share of the run in which the multiplier rises linearly from 0 to 1.
        decay: share of the run, at its end, in which wsd decays.
        final: multiplier at the end, for every kind but constant.
    Raises:
        ValueError: for an unknown kind.
    """
    progress = min(max(progress, 0.0), 1.0)
    if kind not in _SHAPES:
        raise ValueError(f"unknown schedule {kind!r}: expected one of {', '.join(_SHAPES)}")
    if progress < warmup:
        return progress / warmup
    start = 1 - decay if kind == "wsd" else warmup
    after = 0.0 if progress <= start else (progress - start) / (1 - start)
    shape = _SHAPES[kind](after)
    return final + (1 - final) * shape if kind != "constant" else shape


def warmup(step: int, n_steps: int) -> float:
    """Factor of a warm-up given in steps: min(1, step / n_steps).

    Args:
        step: number of the step, from 1.
        n_steps: 0 for no warm-up.
    """
    return min(1.0, step / n_steps) if n_steps else 1.0


def momentum(
    step: int,
    progress: float,
    *,
    peak: float,
    start: float,
    warmup_steps: int,
    end: float,
    decay: float,
) -> float:
    """Momentum with a linear warm-up over the first steps and a linear cool-down at the end.

    Args:
        step: number of the step, from 1.
        progress: share of the run that is done; clamped to [0, 1].
        peak: momentum between warm-up and cool-down.
        start: momentum before the first step; step warmup_steps is the first at the peak.
        end: momentum at the end of the run.
        decay: share of the run, at its end, in which the momentum goes from peak to end.
    """
    risen = start + (peak - start) * warmup(step, warmup_steps)
    left = 1 - min(max(progress, 0.0), 1.0)
    return risen if left >= decay else risen + (end - risen) * (1 - left / decay)


def weight_decay_multiplier(progress: float, kind: str) -> float:
    """Multiplier of the weight decay: 1 (constant), or falling from 1 to 0 (linear).

    Args:
        progress: share of the run that is done; clamped to [0, 1].
    Raises:
        ValueError: for an unknown kind.
    """
    if kind not in ("constant", "linear"):
        raise ValueError(f"unknown schedule of weight decay {kind!r}: expected constant or linear")
    return _SHAPES[kind](min(max(progress, 0.0), 1.0))


_SHAPES: dict[str, Callable[[float], float]] = {
    "cosine": cosine,
    "linear": linear,
    "constant": constant,
    "wsd": linear,
}
