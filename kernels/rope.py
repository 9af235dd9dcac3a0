# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
"""Rotary position embedding, alone or after the RMSNorm of queries and keys.

A program takes some positions of a head. Queries and keys are usually views of one projection, so
the kernel reads them through their strides.
"""

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from .launch import (
    accurate_dtype,
    block_of,
    check_tensors,
    launch,
    n_programs,
    operation,
    sum_dtype,
)

MAX_D_HEAD = 1024
PROGRAMS_PER_SM = 8
_TILE, _WARPS = 2048, 4


@triton.jit
def _turn(
    x_ptr, dy_ptr, cos_ptr, sin_ptr, weight_ptr, out_ptr, dweight_ptr,
    x_batch_stride, x_head_stride, x_stride, dy_batch_stride, dy_head_stride, dy_stride,
    table_batch_stride, table_head_stride, table_stride,
    n_batches, n_heads, n_positions, d_head, eps,
    IS_BACKWARD: tl.constexpr, HAS_NORM: tl.constexpr, HAS_WEIGHT: tl.constexpr,
    ACCURATE: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Rotate x, after its norm if HAS_NORM; IS_BACKWARD: compute dx and partial sums of dweight."""
    columns = tl.arange(0, BLOCK)
    in_row = columns < d_head
    halves = tl.arange(0, BLOCK // 2)
    if HAS_WEIGHT:
        weight = tl.load(weight_ptr + columns, in_row, 0.0).to(ACCURATE)
        dweight = tl.zeros((BLOCK,), ACCURATE)
    n_blocks = tl.cdiv(n_positions, ROWS)
    for tile in range(tl.program_id(0), n_batches * n_heads * n_blocks, tl.num_programs(0)):
        # int64: an offset into one projection of all heads passes 2^31.
        head = (tile // n_blocks).to(tl.int64)
        batch = head // n_heads
        within = head % n_heads
        positions = (tile % n_blocks) * ROWS + tl.arange(0, ROWS).to(tl.int64)
        is_position = positions < n_positions
        is_there = is_position[:, None] & in_row[None, :]
        table = table_batch_stride * batch + table_head_stride * within
        table_places = table + positions[:, None] * table_stride + halves[None, :]
        is_pair = is_position[:, None] & (halves < d_head // 2)[None, :]
        cos = tl.load(cos_ptr + table_places, is_pair, 0.0).to(ACCURATE)
        sin = tl.load(sin_ptr + table_places, is_pair, 0.0).to(ACCURATE)
        if HAS_NORM or not IS_BACKWARD:
            x_places = x_batch_stride * batch + x_head_stride * within
            x_places = x_places + positions[:, None] * x_stride + columns[None, :]
            x = tl.load(x_ptr + x_places, is_there, 0.0).to(ACCURATE)
        if HAS_NORM:
            mean_square = tl.sum(x * x, axis=1) / d_head
            scale = (1.0 / tl.sqrt(mean_square + tl.full((), eps, ACCURATE)))[:, None]
            x = x * scale
        if IS_BACKWARD:
            dy_places = dy_batch_stride * batch + dy_head_stride * within
            dy_places = dy_places + positions[:, None] * dy_stride + columns[None, :]
            turned = tl.load(dy_ptr + dy_places, is_there, 0.0).to(ACCURATE)
            sin = -sin
        else:
            turned = x
            if HAS_WEIGHT:
                turned = turned * weight[None, :]
        even, odd = tl.split(tl.reshape(turned, (ROWS, BLOCK // 2, 2)))
        out = tl.join(even * cos - odd * sin, even * sin + odd * cos)
        out = tl.reshape(out, (ROWS, BLOCK))
        if IS_BACKWARD and HAS_NORM:
            if HAS_WEIGHT:
                dweight += tl.sum(out * x, axis=0)
                out = out * weight[None, :]
            mean = tl.sum(out * x, axis=1) / d_head
            out = (out - x * mean[:, None]) * scale
        out_places = (head * n_positions + positions)[:, None] * d_head + columns[None, :]
        tl.store(out_ptr + out_places, out.to(out_ptr.dtype.element_ty), is_there)
    if IS_BACKWARD and HAS_WEIGHT:
        tl.store(dweight_ptr + tl.program_id(0) * d_head + columns, dweight, in_row)


def shape_of(d_head: int) -> tuple[int, int, int]:
    """(positions that a program takes at a time, columns, warps) for heads of d_head."""
    block = max(block_of(d_head), 2)
    return max(_TILE // block, 1), block, _WARPS


def _as_heads(x: Tensor) -> Tensor:
    """x as (batch, head, seq, columns) with contiguous columns: a view if possible."""
    x = x[(None,) * (4 - x.ndim)] if x.ndim < 4 else x.flatten(0, -4)
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def _launch(
    x: Tensor,
    dy: Tensor | None,
    cos: Tensor,
    sin: Tensor,
    weight: Tensor | None,
    out: Tensor,
    eps: float | None,
) -> Tensor | None:
    """Fill out, and return the gradient of weight in a backward pass with a weight."""
    x4, dy4 = _as_heads(x), _as_heads(x if dy is None else dy)
    cos4, sin4 = (_as_heads(t.expand(*x.shape[:-1], x.shape[-1] // 2)) for t in (cos, sin))
    if cos4.stride() != sin4.stride():
        cos4, sin4 = cos4.contiguous(), sin4.contiguous()
    n_batches, n_heads, n_positions, d_head = x4.shape
    rows, block, n_warps = shape_of(d_head)
    n_tiles = n_batches * n_heads * triton.cdiv(n_positions, rows)
    programs = n_programs(x.device, n_tiles, PROGRAMS_PER_SM)
    has_partial = dy is not None and weight is not None
    partial = x.new_empty((programs, d_head if has_partial else 0), dtype=sum_dtype(x))
    launch(
        _turn, (programs,),
        x4, dy4, cos4, sin4, x4 if weight is None else weight, out, partial,
        *x4.stride()[:3], *dy4.stride()[:3], *cos4.stride()[:3],
        n_batches, n_heads, n_positions, d_head, 0.0 if eps is None else eps,
        IS_BACKWARD=dy is not None, HAS_NORM=eps is not None, HAS_WEIGHT=weight is not None,
        ACCURATE=accurate_dtype(x), ROWS=rows, BLOCK=block, num_warps=n_warps,
    )  # fmt: skip
    return partial.sum(0).to(weight.dtype) if has_partial and weight is not None else None


def _fake(x: Tensor, cos: Tensor, sin: Tensor, weight: Tensor | None, eps: float | None) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@operation("norm_rope_forward", _fake)
def _norm_rope(
    x: Tensor, cos: Tensor, sin: Tensor, weight: Tensor | None, eps: float | None
) -> Tensor:
    """x rotated; with an eps, its norm rotated."""
    y = _fake(x, cos, sin, weight, eps)
    _launch(x, None, cos, sin, weight, y, eps)
    return y


def _fake_gradients(
    dy: Tensor, x: Tensor, cos: Tensor, sin: Tensor, weight: Tensor | None, eps: float | None
) -> tuple[Tensor, Tensor]:
    dweight = dy.new_empty((0,)) if weight is None else torch.empty_like(weight)
    return torch.empty_like(dy, memory_format=torch.contiguous_format), dweight


@operation("norm_rope_backward", _fake_gradients)
def _norm_rope_gradients(
    dy: Tensor, x: Tensor, cos: Tensor, sin: Tensor, weight: Tensor | None, eps: float | None
) -> tuple[Tensor, Tensor]:
    """(dx, dweight); without a norm x is not read."""
    dx = torch.empty_like(dy, memory_format=torch.contiguous_format)
    dweight = _launch(x, dy, cos, sin, weight, dx, eps)
    return dx, dy.new_empty((0,)) if dweight is None else dweight


def _save(ctx, inputs, output):
    x, cos, sin, weight, ctx.eps = inputs
    # Without a norm x is not needed; the backward pass passes dy in its place.
    ctx.save_for_backward(None if ctx.eps is None else x, cos, sin, weight)


def _differentiate(ctx, dy):
    x, cos, sin, weight = ctx.saved_tensors
    dx, dweight = _norm_rope_gradients(dy, dy if x is None else x, cos, sin, weight, ctx.eps)
    return dx, None, None, None if weight is None else dweight, None


_norm_rope.register_autograd(_differentiate, setup_context=_save)


def rotate_pairs(
    x: Float[Tensor, "... seq d_head"],
    cos: Float[Tensor, "... seq half"],
    sin: Float[Tensor, "... seq half"],
) -> Float[Tensor, "... seq d_head"]:
    """Compute fastlm.functional.rotate_pairs; cos and sin are constants, without gradients.

    Raises:
        ValueError: if the shapes do not match, or check_tensors refuses a tensor.
    """
    _check("rotate_pairs", x, cos, sin)
    y: Tensor = _norm_rope(x, cos, sin, None, None)
    return y


def qk_norm_rope(
    q: Float[Tensor, "... seq d_head"],
    k: Float[Tensor, "... seq d_head"],
    cos: Float[Tensor, "... seq half"],
    sin: Float[Tensor, "... seq half"],
    q_weight: Float[Tensor, " d_head"] | None = None,
    k_weight: Float[Tensor, " d_head"] | None = None,
    *,
    eps: float = 1e-5,
) -> tuple[Float[Tensor, "... seq d_head"], Float[Tensor, "... seq d_head"]]:
    """Compute fastlm.functional.qk_norm_rope; cos and sin are constants, without gradients.

    Raises:
        ValueError: if the shapes do not match, or check_tensors refuses a tensor.
    """
    for x, weight in ((q, q_weight), (k, k_weight)):
        _check("qk_norm_rope", x, cos, sin, weight)
    return _norm_rope(q, cos, sin, q_weight, eps), _norm_rope(k, cos, sin, k_weight, eps)


def _check(name: str, x: Tensor, cos: Tensor, sin: Tensor, weight: Tensor | None = None) -> None:
    if x.ndim < 2 or x.shape[-1] % 2:
        raise ValueError(
            f"{name} turns pairs: x must be (..., seq, d_head) with d_head even: got "
            f"{tuple(x.shape)}"
        )
    wanted = (x.shape[-2], x.shape[-1] // 2)
    if cos.shape != sin.shape or cos.shape[-2:] != wanted or cos.ndim > x.ndim:
        raise ValueError(
            f"{name} needs cos and sin of (..., {wanted[0]}, {wanted[1]}) for x {tuple(x.shape)}: "
            f"got {tuple(cos.shape)} and {tuple(sin.shape)}"
        )
    if cos.requires_grad or sin.requires_grad:
        raise ValueError(
            f"{name} gives no gradients to cos and sin: detach them, or use --triton-ops none"
        )
    if weight is not None and weight.shape != x.shape[-1:]:
        raise ValueError(
            f"{name} needs one weight per feature: got weight {tuple(weight.shape)} for x "
            f"{tuple(x.shape)}"
        )
    check_tensors(name, MAX_D_HEAD, x, cos, sin, *([] if weight is None else [weight]))
