# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
"""Softmax over the last dimension, forward and backward.

Rows that fit a block are read once. Longer rows are read twice, first for the maximum and the sum,
then to write the result; the second time they come from the cache if they fit it.
"""

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from .launch import (
    accurate_dtype,
    as_rows,
    check_tensors,
    launch,
    lowest_number,
    operation,
    tile_of,
)

MAX_COLUMNS = 1 << 20
_MAX_BLOCK = 16_384  # longer rows take several blocks
_LONG_BLOCK = 4096
_VALUES = 32  # per tensor and thread: 64 take more than 128 registers in the backward pass


@triton.jit
def _forward(
    x_ptr, y_ptr, x_stride, n_rows, n_columns,
    ACCURATE: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, BLOCK)
    is_there = (rows < n_rows)[:, None] & (columns < n_columns)[None, :]
    x = tl.load(x_ptr + rows[:, None] * x_stride + columns[None, :], is_there, -float("inf"))
    x = x.to(ACCURATE)
    exps = tl.exp(x - tl.max(x, axis=1)[:, None])
    y = exps / tl.sum(exps, axis=1)[:, None]
    tl.store(
        y_ptr + rows[:, None] * n_columns + columns[None, :], y.to(y_ptr.dtype.element_ty), is_there
    )


@triton.jit
def _forward_long(
    x_ptr, y_ptr, x_stride, n_columns,
    LOWEST: tl.constexpr, ACCURATE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    # A maximum that starts at -inf would give -inf - -inf, which is NaN, in a block of -inf only.
    highest = tl.full((), LOWEST, ACCURATE)
    total = tl.full((), 0.0, ACCURATE)
    for begin in range(0, n_columns, BLOCK):
        in_row = begin + columns < n_columns
        x = tl.load(x_ptr + row * x_stride + begin + columns, in_row, -float("inf")).to(ACCURATE)
        higher = tl.maximum(highest, tl.max(x, axis=0))
        total = total * tl.exp(highest - higher) + tl.sum(tl.exp(x - higher), axis=0)
        highest = higher
    for begin in range(0, n_columns, BLOCK):
        in_row = begin + columns < n_columns
        x = tl.load(x_ptr + row * x_stride + begin + columns, in_row, -float("inf")).to(ACCURATE)
        y = tl.exp(x - highest) / total
        tl.store(y_ptr + row * n_columns + begin + columns, y.to(y_ptr.dtype.element_ty), in_row)


@triton.jit
def _backward(
    dy_ptr, y_ptr, dx_ptr, dy_stride, n_rows, n_columns,
    ACCURATE: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, BLOCK)
    is_there = (rows < n_rows)[:, None] & (columns < n_columns)[None, :]
    places = rows[:, None] * n_columns + columns[None, :]
    dy = tl.load(dy_ptr + rows[:, None] * dy_stride + columns[None, :], is_there, 0.0).to(ACCURATE)
    y = tl.load(y_ptr + places, is_there, 0.0).to(ACCURATE)
    dx = y * (dy - tl.sum(dy * y, axis=1)[:, None])
    tl.store(dx_ptr + places, dx.to(dx_ptr.dtype.element_ty), is_there)


@triton.jit
def _backward_long(
    dy_ptr, y_ptr, dx_ptr, dy_stride, n_columns, ACCURATE: tl.constexpr, BLOCK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    sums = tl.zeros((BLOCK,), ACCURATE)
    for begin in range(0, n_columns, BLOCK):
        in_row = begin + columns < n_columns
        dy = tl.load(dy_ptr + row * dy_stride + begin + columns, in_row, 0.0).to(ACCURATE)
        y = tl.load(y_ptr + row * n_columns + begin + columns, in_row, 0.0).to(ACCURATE)
        sums += dy * y
    total = tl.sum(sums, axis=0)
    for begin in range(0, n_columns, BLOCK):
        in_row = begin + columns < n_columns
        dy = tl.load(dy_ptr + row * dy_stride + begin + columns, in_row, 0.0).to(ACCURATE)
        y = tl.load(y_ptr + row * n_columns + begin + columns, in_row, 0.0).to(ACCURATE)
        dx = y * (dy - total)
        tl.store(dx_ptr + row * n_columns + begin + columns, dx.to(dx_ptr.dtype.element_ty), in_row)


def shape_of(n_columns: int) -> tuple[int, int, int]:
    """(rows per program, columns per block, warps) for rows of n_columns."""
    if n_columns > _MAX_BLOCK:
        return 1, _LONG_BLOCK, 8
    return tile_of(n_columns, _VALUES)


def _fake(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@operation("softmax_forward", _fake)
def _softmax(x: Tensor) -> Tensor:
    y, rows = _fake(x), as_rows(x)
    n_rows, n_columns = rows.shape
    n_tile_rows, block, n_warps = shape_of(n_columns)
    if x.numel() == 0:
        return y
    accurate = accurate_dtype(x)
    if n_columns > _MAX_BLOCK:
        launch(
            _forward_long, (n_rows,), rows, y, rows.stride(0), n_columns,
            LOWEST=lowest_number(x), ACCURATE=accurate, BLOCK=block, num_warps=n_warps,
        )  # fmt: skip
    else:
        launch(
            _forward, (triton.cdiv(n_rows, n_tile_rows),),
            rows, y, rows.stride(0), n_rows, n_columns,
            ACCURATE=accurate, ROWS=n_tile_rows, BLOCK=block, num_warps=n_warps,
        )  # fmt: skip
    return y


def _fake_gradient(dy: Tensor, y: Tensor) -> Tensor:
    return torch.empty_like(y)


@operation("softmax_backward", _fake_gradient)
def _softmax_gradient(dy: Tensor, y: Tensor) -> Tensor:
    dx, rows = torch.empty_like(y), as_rows(dy)
    n_rows, n_columns = rows.shape
    n_tile_rows, block, n_warps = shape_of(n_columns)
    if y.numel() == 0:
        return dx
    accurate = accurate_dtype(y)
    if n_columns > _MAX_BLOCK:
        launch(
            _backward_long, (n_rows,), rows, y, dx, rows.stride(0), n_columns,
            ACCURATE=accurate, BLOCK=block, num_warps=n_warps,
        )  # fmt: skip
    else:
        launch(
            _backward, (triton.cdiv(n_rows, n_tile_rows),),
            rows, y, dx, rows.stride(0), n_rows, n_columns,
            ACCURATE=accurate, ROWS=n_tile_rows, BLOCK=block, num_warps=n_warps,
        )  # fmt: skip
    return dx


def _save(ctx, inputs, output):
    ctx.save_for_backward(output)


def _differentiate(ctx, dy):
    (y,) = ctx.saved_tensors
    return _softmax_gradient(dy, y)


_softmax.register_autograd(_differentiate, setup_context=_save)


def softmax(x: Float[Tensor, "..."], dim: int) -> Float[Tensor, "..."]:
    """Compute fastlm.functional.softmax over the last dimension.

    Raises:
        ValueError: for another dimension, or a tensor that check_tensors refuses.
    """
    if dim not in (-1, x.ndim - 1) or x.ndim == 0:
        raise ValueError(
            f"softmax goes over the last dimension: got dim={dim} of {x.ndim}; move it there with "
            "x.movedim(dim, -1)"
        )
    check_tensors("softmax", MAX_COLUMNS, x)
    y: Tensor = _softmax(x)
    return y
