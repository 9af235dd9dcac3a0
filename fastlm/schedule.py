"""Learning rates, momentum and weight decay as plain functions of where a run is.

Where is the step, or the share of the run that is done.

"""

import math
from collections.abc import Callable


def cosine_lr(it: int, max_lr: float, min_lr: float, warmup_iters: int, cosine_iters: int) -> float:
    """Linear warm-up, then half a cosine from max_lr to min_lr, then min_lr.

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
    """1 at progress 0, 0 at progress 1, half a cosine between."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def linear(progress: float) -> float:
    """A straight line from 1 to 0."""
    return 1 - progress


def constant(progress: float) -> float:
    """1 throughout."""
    return 1.0


def multiplier(
    progress: float,
    *,
    kind: str,
    warmup: float,
    decay: float,
    final: float,
) -> float:
    """What the peak learning rate is multiplied with when a share of the run is done.

    Args:
        progress: share of the run that is done, of steps or of seconds; clamped to [0, 1].
        kind: cosine, linear, constant, or wsd (warm-up, stable, linear decay).
        warmup: share of the run in which the multiplier rises linearly from 0 to 1.
        decay: share at the end in which wsd falls.
        final: multiplier at the end (of all but constant).
    Raises:
        ValueError: for another kind.
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
    """What a multiplier is multiplied with in a warm-up given in steps: step / n_steps, at most 1.

    Args:
        step: number of the step, from 1.
        n_steps: 0 is no warm-up.
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
    """Momentum that rises over the first steps and falls in the cool-down, both on straight lines.

    Args:
        step: number of the step, from 1.
        progress: share of the run that is done; clamped to [0, 1].
        peak: between the two.
        start: before the first step; the peak is reached with step warmup_steps.
        end: when the run is done.
        decay: share of the run, at its end, in which it falls.
    """
    risen = start + (peak - start) * warmup(step, warmup_steps)
    left = 1 - min(max(progress, 0.0), 1.0)
    return risen if left >= decay else risen + (end - risen) * (1 - left / decay)


def weight_decay_multiplier(progress: float, kind: str) -> float:
    """What the weight decay is multiplied with: 1 (constant), or from 1 to 0 (linear).

    Args:
        progress: share of the run that is done; clamped to [0, 1].
    Raises:
        ValueError: for another kind.
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
