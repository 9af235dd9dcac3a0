# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
"""Rotary position embedding.

A program takes some positions of a head. Queries and keys are usually views of one projection, so
the kernel reads them through their strides.
"""

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from .launch import accurate_dtype, block_of, check_tensors, launch, n_programs, operation

MAX_D_HEAD = 1024
PROGRAMS_PER_SM = 8
_TILE, _WARPS = 2048, 4


@triton.jit
def _turn(
    x_ptr, cos_ptr, sin_ptr, out_ptr,
    x_batch_stride, x_head_stride, x_stride, table_batch_stride, table_head_stride, table_stride,
    n_batches, n_heads, n_positions, d_head,
    IS_BACKWARD: tl.constexpr, ACCURATE: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Rotate x; IS_BACKWARD: rotate the gradient x back."""
    columns = tl.arange(0, BLOCK)
    in_row = columns < d_head
    halves = tl.arange(0, BLOCK // 2)
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
        if IS_BACKWARD:
            sin = -sin
        x_places = x_batch_stride * batch + x_head_stride * within
        x_places = x_places + positions[:, None] * x_stride + columns[None, :]
        x = tl.load(x_ptr + x_places, is_there, 0.0).to(ACCURATE)
        even, odd = tl.split(tl.reshape(x, (ROWS, BLOCK // 2, 2)))
        out = tl.join(even * cos - odd * sin, even * sin + odd * cos)
        out = tl.reshape(out, (ROWS, BLOCK))
        out_places = (head * n_positions + positions)[:, None] * d_head + columns[None, :]
        tl.store(out_ptr + out_places, out.to(out_ptr.dtype.element_ty), is_there)


def shape_of(d_head: int) -> tuple[int, int, int]:
    """(positions that a program takes at a time, columns, warps) for heads of d_head."""
    block = max(block_of(d_head), 2)
    return max(_TILE // block, 1), block, _WARPS


def as_heads(x: Tensor) -> Tensor:
    """x as (batch, head, seq, columns) with contiguous columns: a view if possible."""
    x = x[(None,) * (4 - x.ndim)] if x.ndim < 4 else x.flatten(0, -4)
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def place_of_tables(
    cos: Tensor, sin: Tensor, shape: tuple[int, ...]
) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """The tables for heads of a shape (..., heads, seq, half), and their strides in elements.

    The strides are those from a batch, a head and a position to the next. Tables that are the same
    for all heads are not expanded: compiled code would write that out.
    """
    if cos.ndim > 2:
        cos, sin = (as_heads(t.expand(shape)) for t in (cos, sin))
    if cos.stride() != sin.stride() or (cos.ndim == 2 and cos.stride(1) != 1):
        cos, sin = cos.contiguous(), sin.contiguous()
    return cos, sin, (0, 0, cos.stride(0)) if cos.ndim == 2 else cos.stride()[:3]


def _fake(x: Tensor, cos: Tensor, sin: Tensor, is_backward: bool) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@operation("rotate_pairs", _fake)
def _rotate(x: Tensor, cos: Tensor, sin: Tensor, is_backward: bool) -> Tensor:
    out = _fake(x, cos, sin, is_backward)
    x4 = as_heads(x)
    cos, sin, table_strides = place_of_tables(cos, sin, (*x.shape[:-1], x.shape[-1] // 2))
    n_batches, n_heads, n_positions, d_head = x4.shape
    rows, block, n_warps = shape_of(d_head)
    n_tiles = n_batches * n_heads * triton.cdiv(n_positions, rows)
    launch(
        _turn, (n_programs(x.device, n_tiles, PROGRAMS_PER_SM),),
        x4, cos, sin, out,
        *x4.stride()[:3], *table_strides, n_batches, n_heads, n_positions, d_head,
        IS_BACKWARD=is_backward, ACCURATE=accurate_dtype(x), ROWS=rows, BLOCK=block,
        num_warps=n_warps,
    )  # fmt: skip
    return out


def _save(ctx, inputs, output):
    _, cos, sin, ctx.is_backward = inputs
    ctx.save_for_backward(cos, sin)


def _differentiate(ctx, dy):
    return _rotate(dy, *ctx.saved_tensors, not ctx.is_backward), None, None, None


_rotate.register_autograd(_differentiate, setup_context=_save)


def rotate_pairs(
    x: Float[Tensor, "... seq d_head"],
    cos: Float[Tensor, "... seq half"],
    sin: Float[Tensor, "... seq half"],
) -> Float[Tensor, "... seq d_head"]:
    """Compute fastlm.functional.rotate_pairs; cos and sin are constants, without gradients.

    Raises:
        ValueError: if the shapes do not match, or check_tensors refuses a tensor.
    """
    check_turn("rotate_pairs", x, cos, sin)
    y: Tensor = _rotate(x, cos, sin, False)
    return y


def check_turn(name: str, x: Tensor, cos: Tensor, sin: Tensor, *weights: Tensor) -> None:
    """Refuse tables, and weights of a norm before the rotation, that do not fit a head x.

    Raises:
        ValueError: with what was expected, or if check_tensors refuses a tensor.
    """
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
    for weight in weights:
        if weight.shape != x.shape[-1:]:
            raise ValueError(
                f"{name} needs one weight per feature: got weight {tuple(weight.shape)} for x "
                f"{tuple(x.shape)}"
            )
    check_tensors(name, MAX_D_HEAD, x, cos, sin, *weights)
