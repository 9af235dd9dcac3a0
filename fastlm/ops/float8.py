"""Matrix products in float8, with per-tensor dynamic scaling.

The scale of a tensor is its largest magnitude over that of the format, computed in every call.
Activations and weights are e4m3 (three bits of mantissa), gradients e5m2 (more range), and
products accumulate in float32. Source: Micikevicius et al. 2022, arXiv:2209.05433.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

VALUES, GRADIENTS = torch.float8_e4m3fn, torch.float8_e5m2
_MULTIPLE = 16  # the hardware needs all three sizes of a matrix product to be multiples of it


def float8_linear(
    x: Float[Tensor, "... d_in"], weight: Float[Tensor, "d_out d_in"]
) -> Float[Tensor, "... d_out"]:
    """y = x W^T with x and W rounded to float8, and likewise its gradients; y has x's dtype.

    Each result has a relative error of about 4 %, without bias. Sizes that are not multiples of 16,
    such as those of gates, are multiplied in the dtype of x.
    """
    n_rows = x.shape[:-1].numel()
    if any(n % _MULTIPLE for n in (n_rows, *weight.shape)):
        return F.linear(x, weight)
    y: Tensor = _Float8Linear.apply(x.reshape(n_rows, x.shape[-1]), weight)
    return y.reshape(*x.shape[:-1], weight.shape[0])


class _Float8Linear(torch.autograd.Function):
    """Saves the float8 tensors for the backward pass: half the memory of bfloat16."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        rounded_x, x_scale = rounded(x, VALUES)
        rounded_weight, weight_scale = rounded(weight, VALUES)
        ctx.save_for_backward(rounded_x, x_scale, rounded_weight, weight_scale)
        ctx.dtypes = x.dtype, weight.dtype
        return _product(rounded_x, rounded_weight.t(), x_scale, weight_scale, x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        x, x_scale, weight, weight_scale = ctx.saved_tensors
        x_dtype, weight_dtype = ctx.dtypes
        dy, dy_scale = rounded(grads[0], GRADIENTS)
        # _scaled_mm needs a row-major first and a column-major second factor.
        dx = _product(dy, _by_columns(weight), dy_scale, weight_scale, x_dtype)
        dw = _product(dy.t().contiguous(), _by_columns(x), dy_scale, x_scale, weight_dtype)
        return dx, dw


def rounded(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Float[Tensor, ""]]:
    """x / scale in a float8 format, and the float32 scale that maps the largest value exactly."""
    largest = x.abs().amax().float()
    scale = (largest / torch.finfo(dtype).max).clamp(min=torch.finfo(torch.float32).tiny)
    return (x.float() / scale).to(dtype), scale


def _by_columns(x: Tensor) -> Tensor:
    return x.t().contiguous().t()


def _product(a: Tensor, b: Tensor, a_scale: Tensor, b_scale: Tensor, dtype: torch.dtype) -> Tensor:
    out: Tensor = torch._scaled_mm(a, b, scale_a=a_scale, scale_b=b_scale, out_dtype=dtype)
    return out
