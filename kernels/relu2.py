# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
"""ReLU squared, forward and backward.

The gradient 2 max(x, 0) dy = 2 sqrt(y) dy is computed from the result, which the next matrix
product keeps anyway, so x need not be kept. In float16 x is kept instead, because the square of a
small number is 0 there.
"""

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from .launch import accurate_dtype, check_tensors, launch, operation

BLOCK, WARPS = 2048, 8


@triton.jit
def _forward(x_ptr, y_ptr, n_elements, ACCURATE: tl.constexpr, BLOCK: tl.constexpr):
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    is_there = places < n_elements
    x = tl.load(x_ptr + places, is_there, 0.0).to(ACCURATE)
    y = tl.where(x <= 0.0, 0.0, x * x)  # NaN stays NaN
    tl.store(y_ptr + places, y.to(y_ptr.dtype.element_ty), is_there)


@triton.jit
def _backward(
    dy_ptr, kept_ptr, dx_ptr, n_elements,
    HAS_RESULT: tl.constexpr, ACCURATE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    is_there = places < n_elements
    dy = tl.load(dy_ptr + places, is_there, 0.0).to(ACCURATE)
    kept = tl.load(kept_ptr + places, is_there, 0.0).to(ACCURATE)
    positive = tl.sqrt(kept) if HAS_RESULT else tl.where(kept <= 0.0, 0.0, kept)
    tl.store(dx_ptr + places, (2.0 * positive * dy).to(dx_ptr.dtype.element_ty), is_there)


def _fake(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@operation("relu2_forward", _fake)
def _relu2(x: Tensor) -> Tensor:
    y = _fake(x)
    if y.numel() > 0:
        launch(
            _forward, (triton.cdiv(y.numel(), BLOCK),), x.contiguous(), y, y.numel(),
            ACCURATE=accurate_dtype(x), BLOCK=BLOCK, num_warps=WARPS,
        )  # fmt: skip
    return y


def _fake_gradient(dy: Tensor, kept: Tensor, has_result: bool) -> Tensor:
    return _fake(dy)


@operation("relu2_backward", _fake_gradient)
def _relu2_gradient(dy: Tensor, kept: Tensor, has_result: bool) -> Tensor:
    dx = _fake(dy)
    if dy.numel() > 0:
        launch(
            _backward, (triton.cdiv(dy.numel(), BLOCK),),
            dy.contiguous(), kept.contiguous(), dx, dy.numel(),
            HAS_RESULT=has_result, ACCURATE=accurate_dtype(dy), BLOCK=BLOCK, num_warps=WARPS,
        )  # fmt: skip
    return dx


def _save(ctx, inputs, output):
    (x,) = inputs
    ctx.has_result = x.dtype != torch.float16
    ctx.save_for_backward(output if ctx.has_result else x)


def _differentiate(ctx, dy):
    (kept,) = ctx.saved_tensors
    return _relu2_gradient(dy, kept, ctx.has_result)


_relu2.register_autograd(_differentiate, setup_context=_save)


def relu2(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Compute fastlm.functional.relu2."""
    check_tensors("relu2", None, x)
    y: Tensor = _relu2(x)
    return y
