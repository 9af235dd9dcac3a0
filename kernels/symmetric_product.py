# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
"""alpha X X^T + beta C with half the multiplications of a product of two matrices.

A program computes a square tile of the result on or below the diagonal, and writes its transpose to
the mirrored place above the diagonal.
"""

import math
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from .launch import accurate_dtype, check_tensors, launch, operation


@triton.jit
def _tiles(
    x_ptr, added_ptr, y_ptr,
    batch_stride, row_stride, column_stride, n_rows, n_columns,
    ALPHA: tl.constexpr, BETA: tl.constexpr, HAS_ADDED: tl.constexpr, ACCURATE: tl.constexpr,
    BLOCK: tl.constexpr, BLOCK_COLUMNS: tl.constexpr,
):  # fmt: skip
    n_blocks = tl.cdiv(n_rows, BLOCK)
    n_tiles = n_blocks * (n_blocks + 1) // 2
    batch = (tl.program_id(0) // n_tiles).to(tl.int64)
    tile = tl.program_id(0) % n_tiles
    # The last and the first row of tiles have n_blocks + 1 tiles together, as have the second last
    # and the second, and so on: with such pairs the tile's place needs no square root.
    pair = tile // (n_blocks + 1)
    place = tile % (n_blocks + 1)
    is_lower = place < n_blocks - pair
    row_block = tl.where(is_lower, n_blocks - 1 - pair, pair)
    other_block = tl.where(is_lower, place, place - (n_blocks - pair))

    # int64: row * stride passes 2^31 elements in matrices of 65,536 rows.
    rows = row_block.to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    others = other_block.to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    columns = tl.arange(0, BLOCK_COLUMNS)
    is_row, is_other = rows < n_rows, others < n_rows
    x_ptr += batch * batch_stride
    places = columns.to(tl.int64) * column_stride
    row_ptrs = x_ptr + rows[:, None] * row_stride + places[None, :]
    other_ptrs = x_ptr + others[None, :] * row_stride + places[:, None]
    stride = tl.full((), BLOCK_COLUMNS, tl.int64) * column_stride
    total = tl.zeros((BLOCK, BLOCK), ACCURATE)
    for begin in range(0, n_columns, BLOCK_COLUMNS):
        is_column = begin + columns < n_columns
        a = tl.load(row_ptrs, is_row[:, None] & is_column[None, :], 0.0)
        b = tl.load(other_ptrs, is_column[:, None] & is_other[None, :], 0.0)
        total = tl.dot(a, b, total, input_precision="ieee", out_dtype=ACCURATE)
        row_ptrs += stride
        other_ptrs += stride

    y = total * ALPHA
    begin_of_y = batch * n_rows * n_rows
    below = begin_of_y + rows[:, None] * n_rows + others[None, :]
    is_below = is_row[:, None] & is_other[None, :]
    if HAS_ADDED:
        y += tl.load(added_ptr + below, is_below, 0.0).to(ACCURATE) * BETA
    y = y.to(y_ptr.dtype.element_ty)
    if row_block == other_block:
        # Elements above the diagonal are copies of those below here too: y is exactly symmetric.
        y = tl.where(rows[:, None] < others[None, :], tl.trans(y), y)
        tl.store(y_ptr + below, y, is_below)
    else:
        tl.store(y_ptr + below, y, is_below)
        above = begin_of_y + others[:, None] * n_rows + rows[None, :]
        tl.store(y_ptr + above, tl.trans(y), is_other[:, None] & is_row[None, :])


class TileShape(NamedTuple):
    """Side of the square tile of the result, columns of X read at a time, warps and stages."""

    block: int
    block_columns: int
    n_warps: int
    n_stages: int


def shape_of(n_rows: int, itemsize: int, is_aligned: bool) -> TileShape:
    """The tile for matrices of n_rows rows with itemsize bytes per element.

    Args:
        is_aligned: whether sizes and strides are multiples of 16, so that a thread reads many
            elements at once. Read one by one, a large tile has more addresses than registers.
    """
    if itemsize > 4:
        return TileShape(64 if is_aligned else 32, 16, 4, 2)
    if itemsize > 2:
        # Without tensor cores, a thread holds its factors in registers.
        return TileShape(64, 32, 8, 2) if is_aligned else TileShape(32, 32, 4, 2)
    if not is_aligned:
        return TileShape(64, 32, 8, 3)
    return TileShape(128, 64, 8, 4) if n_rows > 64 else TileShape(64, 64, 4, 4)


def _fake(x: Tensor, added: Tensor | None, alpha: float, beta: float) -> Tensor:
    return x.new_empty((*x.shape[:-1], x.shape[-2]))


@operation("symmetric_product", _fake)
def _product(x: Tensor, added: Tensor | None, alpha: float, beta: float) -> Tensor:
    y = _fake(x, added, alpha, beta)
    n_rows, n_columns = x.shape[-2:]
    matrices = x.reshape(math.prod(x.shape[:-2]), n_rows, n_columns)
    is_aligned = all(n == 1 or n % 16 == 0 for n in (n_rows, n_columns, *matrices.stride()))
    shape = shape_of(n_rows, x.element_size(), is_aligned)
    n_blocks = triton.cdiv(n_rows, shape.block)
    if y.numel() > 0:
        launch(
            _tiles,
            (matrices.shape[0] * n_blocks * (n_blocks + 1) // 2,),
            matrices, y if added is None else added.contiguous(), y,
            *matrices.stride(), n_rows, n_columns,
            ALPHA=alpha, BETA=beta, HAS_ADDED=added is not None, ACCURATE=accurate_dtype(x),
            BLOCK=shape.block, BLOCK_COLUMNS=shape.block_columns,
            num_warps=shape.n_warps, num_stages=shape.n_stages,
        )  # fmt: skip
    return y


def symmetric_product(
    x: Float[Tensor, "... rows columns"],
    added: Float[Tensor, "... rows rows"] | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 0.0,
) -> Float[Tensor, "... rows rows"]:
    """Compute fastlm.functional.symmetric_product, exactly symmetric and without gradients.

    Sums are in float32, or in float64 for a float64 x; float32 is not multiplied as TF32. x may
    have any strides. A kernel is compiled for each alpha and beta.

    Args:
        added: must be symmetric, which is not checked: elements above the diagonal are not used.
    Raises:
        ValueError: if added is not a matrix of x's dtype for each product, if a gradient is wanted,
            or check_tensors refuses a tensor.
    """
    if x.ndim < 2:
        raise ValueError(
            f"symmetric_product needs matrices (..., rows, columns): got shape {tuple(x.shape)}"
        )
    check_tensors("symmetric_product", None, x, *([] if added is None else [added]))
    if added is not None and (
        added.dtype != x.dtype or added.shape != (*x.shape[:-1], x.shape[-2])
    ):
        raise ValueError(
            f"symmetric_product needs added {x.dtype} {(*x.shape[:-1], x.shape[-2])} for x "
            f"{tuple(x.shape)}: got {added.dtype} {tuple(added.shape)}"
        )
    wants_gradient = x.requires_grad or (added is not None and added.requires_grad)
    if wants_gradient and torch.is_grad_enabled():
        raise ValueError(
            "symmetric_product is for optimizers and has no gradient: call it under "
            "torch.no_grad(), or use --triton-ops none"
        )
    product: Tensor = _product(x, added, alpha, beta)
    return product
