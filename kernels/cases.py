"""The shapes, options and costs of each operation, for tests and benchmarks alike.

The last axis of a shape is the width of a row, all others together are the number of rows.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kernels.cross_entropy import cross_entropy
from kernels.rms_norm import add_rms_norm, rms_norm
from kernels.softmax import softmax

Shape = tuple[int, ...]
Options = dict[str, Any]


class Inputs(NamedTuple):
    """Arguments of a call: tensors by position, of which `differentiable` get a gradient."""

    tensors: tuple[Tensor | None, ...]
    differentiable: tuple[int, ...]
    options: Options


class Op(NamedTuple):
    """An operation and what to try it on.

    Attributes:
        make: inputs from a shape, options, dtype, device and generator.
        small: shapes that the interpreter does in about a second.
        large: shapes of real models, for a GPU.
        options: each is tried on the small shapes.
        bytes_moved: (forward, backward) of a shape at so many bytes an element, each read or
            written once.
    """

    function: Callable[..., Any]
    make: Callable[[Shape, Options, torch.dtype, torch.device, torch.Generator], Inputs]
    small: tuple[Shape, ...]
    large: tuple[Shape, ...]
    options: tuple[Options, ...]
    bytes_moved: Callable[[Shape, int], tuple[int, int]]


def _randn(
    shape: Shape, dtype: torch.dtype, device: torch.device, generator: torch.Generator
) -> Tensor:
    made = torch.randn(shape, dtype=torch.float32, generator=generator)
    return made.to(device=device, dtype=dtype)


def _one_tensor(
    shape: Shape, options: Options, dtype: torch.dtype, device: torch.device, g: torch.Generator
) -> Inputs:
    return Inputs((_randn(shape, dtype, device, g),), (0,), options)


def _norm_inputs(
    shape: Shape, options: Options, dtype: torch.dtype, device: torch.device, g: torch.Generator
) -> Inputs:
    left = dict(options)
    has_weight, has_residual = left.pop("has_weight"), left.pop("has_residual", False)
    x = _randn(shape, dtype, device, g)
    residual = (_randn(shape, dtype, device, g),) if has_residual else ()
    # Gains are parameters: float32 beside activations in bfloat16.
    gain = torch.float64 if dtype == torch.float64 else torch.float32
    weight = 1 + 0.1 * _randn(shape[-1:], gain, device, g) if has_weight else None
    tensors = (x, *residual, weight)
    return Inputs(tensors, tuple(i for i, t in enumerate(tensors) if t is not None), left)


def _add_norm_inputs(
    shape: Shape, options: Options, dtype: torch.dtype, device: torch.device, g: torch.Generator
) -> Inputs:
    return _norm_inputs(shape, options | {"has_residual": True}, dtype, device, g)


def _loss_inputs(
    shape: Shape, options: Options, dtype: torch.dtype, device: torch.device, g: torch.Generator
) -> Inputs:
    logits = 3 * _randn(shape, dtype, device, g)
    targets = torch.randint(0, shape[-1], shape[:-1], generator=g)
    # Every fifth target, and the first, is ignored; a shape of one row keeps its own.
    if targets.numel() > 1:
        targets.view(-1)[::5] = options.get("ignore_index", -100)
    return Inputs((logits, targets.to(device)), (0,), options)


def _times(forward: float, backward: float) -> Callable[[Shape, int], tuple[int, int]]:
    """Passes over all elements, forward and backward."""

    def bytes_moved(shape: Shape, itemsize: int) -> tuple[int, int]:
        n = math.prod(shape) * itemsize
        return int(forward * n), int(backward * n)

    return bytes_moved


_SMALL = ((1, 1), (7, 123), (2, 3, 257), (5, 64), (3, 1, 1000), (0, 8))
_WIDTHS = ((65_536, 768), (65_536, 1024), (32_768, 2048), (32_768, 4096))

OPS = {
    "softmax": Op(
        softmax,
        _one_tensor,
        (*_SMALL, (2, 16_411), (2, 40_000)),
        (*_WIDTHS, (16_384, 50_304)),
        ({"dim": -1},),
        _times(2, 3),
    ),
    "rms_norm": Op(
        rms_norm,
        _norm_inputs,
        (*_SMALL, (70, 33), (2, 9001)),
        _WIDTHS,
        ({"has_weight": True}, {"has_weight": False}, {"has_weight": True, "eps": 0.5}),
        _times(2, 3),
    ),
    "add_rms_norm": Op(
        add_rms_norm,
        _add_norm_inputs,
        (*_SMALL, (70, 33)),
        _WIDTHS,
        ({"has_weight": True}, {"has_weight": False}),
        _times(4, 4),
    ),
    "cross_entropy": Op(
        cross_entropy,
        _loss_inputs,
        ((1, 1), (7, 123), (2, 3, 257), (5, 64), (3, 9001), (0, 8)),
        ((16_384, 50_304), (32_768, 32_000)),
        (
            {},
            {"reduction": "sum", "ignore_index": 3},
            {"reduction": "none", "return_lse": True},
            {"label_smoothing": 0.1, "z_loss": 1e-3},
            {"softcap": 15.0, "z_loss": 1e-4, "return_lse": True},
        ),
        _times(1, 2),
    ),
}
