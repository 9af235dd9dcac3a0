# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
"""SwiGLU: W2 (SiLU(W1 x) * W3 x), with the product between the matrices as one kernel.

PyTorch computes the matrix products. The kernel keeps its inputs for the backward pass, instead of
the result of SiLU.
"""

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from .launch import accurate_dtype, check_tensors, launch, operation

BLOCK, WARPS = 2048, 8


@triton.jit
def _forward(gate_ptr, up_ptr, y_ptr, n_elements, ACCURATE: tl.constexpr, BLOCK: tl.constexpr):
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    is_there = places < n_elements
    gate = tl.load(gate_ptr + places, is_there, 0.0).to(ACCURATE)
    up = tl.load(up_ptr + places, is_there, 0.0).to(ACCURATE)
    y = gate / (1.0 + tl.exp(-gate)) * up
    tl.store(y_ptr + places, y.to(y_ptr.dtype.element_ty), is_there)


@triton.jit
def _backward(
    dy_ptr, gate_ptr, up_ptr, dgate_ptr, dup_ptr, n_elements,
    ACCURATE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    is_there = places < n_elements
    dy = tl.load(dy_ptr + places, is_there, 0.0).to(ACCURATE)
    gate = tl.load(gate_ptr + places, is_there, 0.0).to(ACCURATE)
    up = tl.load(up_ptr + places, is_there, 0.0).to(ACCURATE)
    sigmoid = 1.0 / (1.0 + tl.exp(-gate))
    dgate = dy * up * sigmoid * (1.0 + gate * (1.0 - sigmoid))
    dup = dy * gate * sigmoid
    tl.store(dgate_ptr + places, dgate.to(dgate_ptr.dtype.element_ty), is_there)
    tl.store(dup_ptr + places, dup.to(dup_ptr.dtype.element_ty), is_there)


def _fake(gate: Tensor, up: Tensor) -> Tensor:
    return torch.empty_like(gate, memory_format=torch.contiguous_format)


@operation("silu_mul_forward", _fake)
def _silu_mul(gate: Tensor, up: Tensor) -> Tensor:
    y = _fake(gate, up)
    if y.numel() > 0:
        launch(
            _forward, (triton.cdiv(y.numel(), BLOCK),),
            gate.contiguous(), up.contiguous(), y, y.numel(),
            ACCURATE=accurate_dtype(y), BLOCK=BLOCK, num_warps=WARPS,
        )  # fmt: skip
    return y


def _fake_gradients(dy: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    return _fake(gate, up), _fake(up, gate)


@operation("silu_mul_backward", _fake_gradients)
def _silu_mul_gradients(dy: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    dgate, dup = _fake_gradients(dy, gate, up)
    if dy.numel() > 0:
        launch(
            _backward, (triton.cdiv(dy.numel(), BLOCK),),
            dy.contiguous(), gate.contiguous(), up.contiguous(), dgate, dup, dy.numel(),
            ACCURATE=accurate_dtype(dy), BLOCK=BLOCK, num_warps=WARPS,
        )  # fmt: skip
    return dgate, dup


def _save(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _differentiate(ctx, dy):
    return _silu_mul_gradients(dy, *ctx.saved_tensors)


_silu_mul.register_autograd(_differentiate, setup_context=_save)


def silu_mul(gate: Float[Tensor, "..."], up: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Compute fastlm.functional.silu_mul.

    Raises:
        ValueError: if the shapes or dtypes differ, or check_tensors refuses a tensor.
    """
    if (gate.shape, gate.dtype) != (up.shape, up.dtype):
        raise ValueError(
            f"silu_mul needs gate and up alike: got {gate.dtype} {tuple(gate.shape)} and "
            f"{up.dtype} {tuple(up.shape)}"
        )
    check_tensors("silu_mul", None, gate, up)
    y: Tensor = _silu_mul(gate, up)
    return y


def swiglu(
    x: Float[Tensor, "... d_model"],
    w1: Float[Tensor, "d_ff d_model"],
    w2: Float[Tensor, "d_model d_ff"],
    w3: Float[Tensor, "d_ff d_model"],
) -> Float[Tensor, "... d_model"]:
    """Compute fastlm.functional.swiglu."""
    return F.linear(silu_mul(F.linear(x, w1), F.linear(x, w3)), w2)
