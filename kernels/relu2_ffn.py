# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
"""W2 max(W1 x, 0)^2 whose products end in ReLU squared, forward and backward.

A program computes a tile of a product, and ReLU squared or its gradient while the tile is still in
registers: the hidden layer is written once and read only by the next product. The gradient
2 max(h, 0) dy = 2 sqrt(y) dy is computed from the result, so h = W1 x is not kept. In float16 h is
kept too, because the square of a small number is 0 there. PyTorch computes the other four products.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from .launch import (
    INTERPRETED,
    accurate_dtype,
    as_rows,
    check_tensors,
    gpu_of,
    launch,
    operation,
)


@triton.jit
def _product(
    a_ptr, b_ptr, kept_ptr, y_ptr,
    a_stride, b_row_stride, b_column_stride, n_rows, n_columns, n_inner,
    IS_BACKWARD: tl.constexpr, KEEPS_INPUT: tl.constexpr, ACCURATE: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """y = relu2(a b); IS_BACKWARD: y = (a b) times the gradient of relu2 at what was kept."""
    # Tiles of GROUP rows of tiles are computed together, so that what they read stays in L2.
    n_row_tiles, n_column_tiles = tl.cdiv(n_rows, ROWS), tl.cdiv(n_columns, COLUMNS)
    group = tl.program_id(0) // (GROUP * n_column_tiles)
    within = tl.program_id(0) % (GROUP * n_column_tiles)
    height = min(n_row_tiles - group * GROUP, GROUP)
    # int64: row * stride passes 2^31 elements.
    rows = (group * GROUP + within % height).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = (within // height).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    inner = tl.arange(0, INNER)
    is_row, is_column = rows < n_rows, columns < n_columns
    a_ptrs = a_ptr + rows[:, None] * a_stride + inner[None, :]
    b_ptrs = b_ptr + inner.to(tl.int64)[:, None] * b_row_stride + columns[None, :] * b_column_stride
    b_step = tl.full((), INNER, tl.int64) * b_row_stride
    total = tl.zeros((ROWS, COLUMNS), ACCURATE)
    for begin in range(0, n_inner, INNER):
        is_inner = begin + inner < n_inner
        a = tl.load(a_ptrs, is_row[:, None] & is_inner[None, :], 0.0)
        b = tl.load(b_ptrs, is_inner[:, None] & is_column[None, :], 0.0)
        total = tl.dot(a, b, total, input_precision="ieee", out_dtype=ACCURATE)
        a_ptrs += INNER
        b_ptrs += b_step
    places = rows[:, None] * n_columns + columns[None, :]
    is_there = is_row[:, None] & is_column[None, :]
    if IS_BACKWARD:
        kept = tl.load(kept_ptr + places, is_there, 0.0).to(ACCURATE)
        positive = tl.where(kept <= 0.0, 0.0, kept) if KEEPS_INPUT else tl.sqrt(kept)
        y = 2.0 * positive * total
    else:
        if KEEPS_INPUT:
            h = total.to(kept_ptr.dtype.element_ty)
            tl.store(kept_ptr + places, h, is_there)
            total = h.to(ACCURATE)
        y = tl.where(total <= 0.0, 0.0, total * total)  # NaN stays NaN
    tl.store(y_ptr + places, y.to(y_ptr.dtype.element_ty), is_there)


class TileShape(NamedTuple):
    """Rows and columns of a tile, columns of the first factor read at a time, warps and stages."""

    rows: int
    columns: int
    inner: int
    n_warps: int
    n_stages: int


def shape_of(itemsize: int, is_aligned: bool, architecture: int) -> TileShape:
    """The tile for matrices with itemsize bytes per element.

    Args:
        is_aligned: whether sizes and strides are multiples of 16, so that a thread reads many
            elements at once. Read one by one, a large tile has more addresses than registers.
        architecture: as of Gpu.
    """
    if itemsize > 4:
        return TileShape(32, 32, 16, 4, 2)
    if itemsize > 2:
        # Without tensor cores, a thread holds its factors in registers.
        return TileShape(64, 64, 32, 8, 2) if is_aligned else TileShape(32, 32, 32, 4, 2)
    if not is_aligned:
        return TileShape(64, 64, 32, 8, 3)
    # Hopper multiplies faster than L2 could feed with tiles of 128 columns.
    return TileShape(128, 256, 64, 8, 4) if architecture == 90 else TileShape(128, 128, 64, 8, 3)


def _multiply(
    a: Tensor, b: Tensor, kept: Tensor | None, y: Tensor, *, is_backward: bool, keeps_input: bool
) -> None:
    """Fill y (rows, columns) from a (rows, inner) and b (inner, columns)."""
    (n_rows, n_inner), n_columns = a.shape, b.shape[1]
    if y.numel() == 0:
        return
    sizes = (a.stride(0), n_inner, n_columns, *(s for s in b.stride() if s != 1))
    architecture = 0 if INTERPRETED else gpu_of(a.device).architecture
    shape = shape_of(a.element_size(), all(n % 16 == 0 for n in sizes), architecture)
    n_tiles = triton.cdiv(n_rows, shape.rows) * triton.cdiv(n_columns, shape.columns)
    launch(
        _product, (n_tiles,),
        a, b, y if kept is None else kept, y,
        a.stride(0), *b.stride(), n_rows, n_columns, n_inner,
        IS_BACKWARD=is_backward, KEEPS_INPUT=keeps_input, ACCURATE=accurate_dtype(a),
        ROWS=shape.rows, COLUMNS=shape.columns, INNER=shape.inner, GROUP=8,
        num_warps=shape.n_warps, num_stages=shape.n_stages,
    )  # fmt: skip


def _keeps_input(dtype: torch.dtype) -> bool:
    return dtype == torch.float16


def _fake(x: Tensor, w1: Tensor, w2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    n_rows, d_ff = x.shape[0], w1.shape[0]
    hidden = x.new_empty((n_rows, d_ff))
    kept = x.new_empty((n_rows if _keeps_input(x.dtype) else 0, d_ff))
    return x.new_empty((n_rows, w2.shape[0])), hidden, kept


@operation("relu2_ffn_forward", _fake)
def _layer(x: Tensor, w1: Tensor, w2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(the layer's result, relu2(x w1^T), x w1^T in float16 and otherwise nothing)."""
    _, hidden, kept = _fake(x, w1, w2)
    keeps = _keeps_input(x.dtype)
    _multiply(x, w1.t(), kept if keeps else None, hidden, is_backward=False, keeps_input=keeps)
    return F.linear(hidden, w2), hidden, kept


def _fake_gradients(
    dy: Tensor, x: Tensor, w1: Tensor, w2: Tensor, hidden: Tensor, kept: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(w1), torch.empty_like(w2)


@operation("relu2_ffn_backward", _fake_gradients)
def _gradients(
    dy: Tensor, x: Tensor, w1: Tensor, w2: Tensor, hidden: Tensor, kept: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(dx, dw1, dw2)."""
    dh = torch.empty_like(hidden)
    keeps = _keeps_input(x.dtype)
    of_gradient = kept if keeps else hidden
    _multiply(dy, w2, of_gradient, dh, is_backward=True, keeps_input=keeps)
    return dh @ w1, dh.t() @ x, dy.t() @ hidden


def _save(ctx, inputs, output):
    _, hidden, kept = output
    ctx.mark_non_differentiable(hidden, kept)
    ctx.save_for_backward(*inputs, hidden, kept)


def _differentiate(ctx, dy, *unused):
    return _gradients(as_rows(dy), *ctx.saved_tensors)


_layer.register_autograd(_differentiate, setup_context=_save)


def relu2_ffn(
    x: Float[Tensor, "... d_model"],
    w1: Float[Tensor, "d_ff d_model"],
    w2: Float[Tensor, "d_model d_ff"],
) -> Float[Tensor, "... d_model"]:
    """Compute fastlm.functional.relu2_ffn.

    Raises:
        ValueError: if the shapes or dtypes do not fit, or check_tensors refuses a tensor.
    """
    fits = w1.ndim == w2.ndim == 2 and x.shape[-1:] == w1.shape[1:] and w1.shape[:1] == w2.shape[1:]
    if not fits or not x.dtype == w1.dtype == w2.dtype:
        got = ", ".join(f"{t.dtype} {tuple(t.shape)}" for t in (x, w1, w2))
        raise ValueError(
            "relu2_ffn needs x (..., d_model), w1 (d_ff, d_model) and w2 (d_model, d_ff) of one "
            f"dtype: got {got}"
        )
    check_tensors("relu2_ffn", None, x, w1, w2)
    y: Tensor = _layer(as_rows(x), *(as_rows(w) for w in (w1, w2)))[0]
    return y.reshape(*x.shape[:-1], w2.shape[0])
