# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
"""RMSNorm, alone or after a residual addition, forward and backward.

A program takes whole rows; it reads rows that do not fit its registers twice, in blocks. The
gradient of the weight is a sum over all rows: as many programs as run at once share the rows, each
with its own sum, and the few sums are added in a fixed order, so that two runs give the same bits.
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
    n_programs,
    operation,
    sum_dtype,
    tile_of,
)

MAX_COLUMNS = 65_536
_MAX_BLOCK = 8192  # wider rows take several blocks: the backward pass has too few registers
_LONG_BLOCK = 2048
# Values of a tensor per thread: at most 128 registers in all, so that 16 warps fit an SM.
_FORWARD_VALUES, _BACKWARD_VALUES = 32, 16
_WARPS_PER_SM = 16  # warps that share the rows in the backward pass


@triton.jit
def _forward(
    x_ptr, residual_ptr, weight_ptr, y_ptr, sum_ptr, scale_ptr,
    x_stride, residual_stride, n_rows, n_columns, eps,
    HAS_RESIDUAL: tl.constexpr, HAS_WEIGHT: tl.constexpr, ACCURATE: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # int64: row * stride passes 2^31 elements at 65,536 rows of 32,768.
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, BLOCK)
    is_there = (rows < n_rows)[:, None] & (columns < n_columns)[None, :]
    x = tl.load(x_ptr + rows[:, None] * x_stride + columns[None, :], is_there, 0.0).to(ACCURATE)
    places = rows[:, None] * n_columns + columns[None, :]
    if HAS_RESIDUAL:
        residual = tl.load(
            residual_ptr + rows[:, None] * residual_stride + columns[None, :], is_there, 0.0
        )
        # Rounded first, so that the norm is that of the stored sum.
        x = (x + residual.to(ACCURATE)).to(sum_ptr.dtype.element_ty)
        tl.store(sum_ptr + places, x, is_there)
        x = x.to(ACCURATE)
    mean_square = tl.sum(x * x, axis=1) / n_columns
    scale = 1.0 / tl.sqrt(mean_square + tl.full((), eps, ACCURATE))
    tl.store(scale_ptr + rows, scale, rows < n_rows)
    y = x * scale[:, None]
    if HAS_WEIGHT:
        weight = tl.load(weight_ptr + columns, columns < n_columns, 0.0).to(ACCURATE)
        y = y * weight[None, :]
    tl.store(y_ptr + places, y.to(y_ptr.dtype.element_ty), is_there)


@triton.jit
def _forward_long(
    x_ptr, residual_ptr, weight_ptr, y_ptr, sum_ptr, scale_ptr,
    x_stride, residual_stride, n_columns, eps,
    HAS_RESIDUAL: tl.constexpr, HAS_WEIGHT: tl.constexpr, ACCURATE: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    squares = tl.zeros((BLOCK,), ACCURATE)
    for begin in range(0, n_columns, BLOCK):
        in_row = begin + columns < n_columns
        x = tl.load(x_ptr + row * x_stride + begin + columns, in_row, 0.0).to(ACCURATE)
        if HAS_RESIDUAL:
            residual = tl.load(residual_ptr + row * residual_stride + begin + columns, in_row, 0.0)
            x = (x + residual.to(ACCURATE)).to(sum_ptr.dtype.element_ty)
            tl.store(sum_ptr + row * n_columns + begin + columns, x, in_row)
            x = x.to(ACCURATE)
        squares += x * x
    mean_square = tl.sum(squares, axis=0) / n_columns
    scale = 1.0 / tl.sqrt(mean_square + tl.full((), eps, ACCURATE))
    tl.store(scale_ptr + row, scale)
    for begin in range(0, n_columns, BLOCK):
        in_row = begin + columns < n_columns
        x = tl.load(x_ptr + row * x_stride + begin + columns, in_row, 0.0).to(ACCURATE)
        if HAS_RESIDUAL:
            # Added again instead of loaded: another thread's store of this sum may not be visible.
            residual = tl.load(residual_ptr + row * residual_stride + begin + columns, in_row, 0.0)
            x = (x + residual.to(ACCURATE)).to(sum_ptr.dtype.element_ty).to(ACCURATE)
        y = x * scale
        if HAS_WEIGHT:
            y *= tl.load(weight_ptr + begin + columns, in_row, 0.0).to(ACCURATE)
        tl.store(y_ptr + row * n_columns + begin + columns, y.to(y_ptr.dtype.element_ty), in_row)


@triton.jit
def _backward(
    dy_ptr, dsum_ptr, x_ptr, weight_ptr, scale_ptr, dx_ptr, dweight_ptr,
    dy_stride, dsum_stride, x_stride, n_rows, n_columns,
    HAS_DSUM: tl.constexpr, HAS_WEIGHT: tl.constexpr, ACCURATE: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    columns = tl.arange(0, BLOCK)
    in_row = columns < n_columns
    if HAS_WEIGHT:
        weight = tl.load(weight_ptr + columns, in_row, 0.0).to(ACCURATE)
        dweight = tl.zeros((BLOCK,), ACCURATE)
    for tile in range(tl.program_id(0), tl.cdiv(n_rows, ROWS), tl.num_programs(0)):
        rows = tile * ROWS + tl.arange(0, ROWS).to(tl.int64)
        is_there = (rows < n_rows)[:, None] & in_row[None, :]
        x = tl.load(x_ptr + rows[:, None] * x_stride + columns[None, :], is_there, 0.0)
        dy = tl.load(dy_ptr + rows[:, None] * dy_stride + columns[None, :], is_there, 0.0)
        scale = tl.load(scale_ptr + rows, rows < n_rows, 0.0)[:, None]
        normed = x.to(ACCURATE) * scale
        dnormed = dy.to(ACCURATE)
        if HAS_WEIGHT:
            dweight += tl.sum(dnormed * normed, axis=0)
            dnormed = dnormed * weight[None, :]
        mean = tl.sum(dnormed * normed, axis=1) / n_columns
        dx = (dnormed - normed * mean[:, None]) * scale
        if HAS_DSUM:
            dsum = tl.load(dsum_ptr + rows[:, None] * dsum_stride + columns[None, :], is_there, 0.0)
            dx += dsum.to(ACCURATE)
        places = rows[:, None] * n_columns + columns[None, :]
        tl.store(dx_ptr + places, dx.to(dx_ptr.dtype.element_ty), is_there)
    if HAS_WEIGHT:
        tl.store(dweight_ptr + tl.program_id(0) * n_columns + columns, dweight, in_row)


@triton.jit
def _backward_long(
    dy_ptr, dsum_ptr, x_ptr, weight_ptr, scale_ptr, dx_ptr, dweight_ptr,
    dy_stride, dsum_stride, x_stride, n_rows, n_columns,
    HAS_DSUM: tl.constexpr, HAS_WEIGHT: tl.constexpr, ACCURATE: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """dweight has a row of sums for each program, which must be zero before the call."""
    columns = tl.arange(0, BLOCK)
    for row_index in range(tl.program_id(0), n_rows, tl.num_programs(0)):
        row = tl.full((), row_index, tl.int64)
        scale = tl.load(scale_ptr + row)
        products = tl.zeros((BLOCK,), ACCURATE)
        for begin in range(0, n_columns, BLOCK):
            in_row = begin + columns < n_columns
            x = tl.load(x_ptr + row * x_stride + begin + columns, in_row, 0.0).to(ACCURATE)
            dy = tl.load(dy_ptr + row * dy_stride + begin + columns, in_row, 0.0).to(ACCURATE)
            if HAS_WEIGHT:
                dy *= tl.load(weight_ptr + begin + columns, in_row, 0.0).to(ACCURATE)
            products += dy * (x * scale)
        mean = tl.sum(products, axis=0) / n_columns
        for begin in range(0, n_columns, BLOCK):
            in_row = begin + columns < n_columns
            x = tl.load(x_ptr + row * x_stride + begin + columns, in_row, 0.0)
            dy = tl.load(dy_ptr + row * dy_stride + begin + columns, in_row, 0.0)
            normed = x.to(ACCURATE) * scale
            dnormed = dy.to(ACCURATE)
            if HAS_WEIGHT:
                sums = dweight_ptr + tl.program_id(0) * n_columns + begin + columns
                tl.store(sums, tl.load(sums, in_row, 0.0) + dnormed * normed, in_row)
                dnormed *= tl.load(weight_ptr + begin + columns, in_row, 0.0).to(ACCURATE)
            dx = (dnormed - normed * mean) * scale
            if HAS_DSUM:
                dsum = tl.load(dsum_ptr + row * dsum_stride + begin + columns, in_row, 0.0)
                dx += dsum.to(ACCURATE)
            place = dx_ptr + row * n_columns + begin + columns
            tl.store(place, dx.to(dx_ptr.dtype.element_ty), in_row)
        # The next thread that adds to a sum must see what this one stored.
        tl.debug_barrier()


def shape_of(n_columns: int, n_values: int) -> tuple[int, int, int]:
    """(rows that a program takes at a time, columns per block, warps) for rows of n_columns."""
    return (1, _LONG_BLOCK, 8) if n_columns > _MAX_BLOCK else tile_of(n_columns, n_values)


def _fake_forward(
    x: Tensor, residual: Tensor | None, weight: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    total = torch.empty_like(x if residual is not None else x[:0], memory_format=_PLAIN)
    scale = x.new_empty(x.shape[:-1], dtype=sum_dtype(x))
    return torch.empty_like(x, memory_format=_PLAIN), total, scale


_PLAIN = torch.contiguous_format


@operation("rms_norm_forward", _fake_forward)
def _norm(
    x: Tensor, residual: Tensor | None, weight: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(norm of x + residual, x + residual, 1 / root mean square); the sum may be empty."""
    y, total, scale = _fake_forward(x, residual, weight, eps)
    x_rows = as_rows(x)
    residual_rows = x_rows if residual is None else as_rows(residual)
    n_rows, n_columns = x_rows.shape
    n_tile_rows, block, n_warps = shape_of(n_columns, _FORWARD_VALUES)
    if n_rows == 0:
        return y, total, scale
    tensors = (x_rows, residual_rows, x_rows if weight is None else weight, y, total, scale)
    strides = (x_rows.stride(0), residual_rows.stride(0))
    options = {
        "HAS_RESIDUAL": residual is not None,
        "HAS_WEIGHT": weight is not None,
        "ACCURATE": accurate_dtype(x),
        "BLOCK": block,
        "num_warps": n_warps,
    }
    if n_columns > _MAX_BLOCK:
        launch(_forward_long, (n_rows,), *tensors, *strides, n_columns, eps, **options)
    else:
        launch(
            _forward, (triton.cdiv(n_rows, n_tile_rows),),
            *tensors, *strides, n_rows, n_columns, eps, ROWS=n_tile_rows, **options,
        )  # fmt: skip
    return y, total, scale


def _fake_backward(
    dy: Tensor, dtotal: Tensor | None, x: Tensor, weight: Tensor | None, scale: Tensor
) -> tuple[Tensor, Tensor]:
    dweight = x.new_empty((0,)) if weight is None else torch.empty_like(weight)
    return torch.empty_like(x, memory_format=_PLAIN), dweight


@operation("rms_norm_backward", _fake_backward)
def _norm_gradients(
    dy: Tensor, dtotal: Tensor | None, x: Tensor, weight: Tensor | None, scale: Tensor
) -> tuple[Tensor, Tensor]:
    """(dx, dweight); dx includes dtotal, the gradient of the sum x + residual."""
    dx = torch.empty_like(x, memory_format=_PLAIN)
    dy_rows, x_rows = as_rows(dy), as_rows(x)
    dtotal_rows = dy_rows if dtotal is None else as_rows(dtotal)
    n_rows, n_columns = x_rows.shape
    n_tile_rows, block, n_warps = shape_of(n_columns, _BACKWARD_VALUES)
    is_long = n_columns > _MAX_BLOCK
    programs = n_programs(x.device, triton.cdiv(n_rows, n_tile_rows), _WARPS_PER_SM // n_warps)
    partial = (x.new_zeros if is_long else x.new_empty)(
        (programs, n_columns if weight is not None else 0), dtype=sum_dtype(x)
    )
    launch(
        _backward_long if is_long else _backward, (programs,),
        dy_rows, dtotal_rows, x_rows, x_rows if weight is None else weight, scale, dx, partial,
        dy_rows.stride(0), dtotal_rows.stride(0), x_rows.stride(0), n_rows, n_columns,
        HAS_DSUM=dtotal is not None, HAS_WEIGHT=weight is not None, ACCURATE=accurate_dtype(x),
        BLOCK=block, num_warps=n_warps, **({} if is_long else {"ROWS": n_tile_rows}),
    )  # fmt: skip
    if weight is None:
        return dx, x.new_empty((0,))
    return dx, partial.sum(0).to(weight.dtype)


def _save(ctx, inputs, output):
    x, residual, weight, _ = inputs
    _, total, scale = output
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(scale)
    ctx.has_residual = residual is not None
    ctx.save_for_backward(x if residual is None else total, weight, scale)


def _differentiate(ctx, dy, dtotal, dscale):
    x, weight, scale = ctx.saved_tensors
    if dy is None:
        dx, dweight = dtotal, None
    else:
        dx, dweight = _norm_gradients(dy, dtotal if ctx.has_residual else None, x, weight, scale)
    return dx, dx if ctx.has_residual else None, None if weight is None else dweight, None


_norm.register_autograd(_differentiate, setup_context=_save)


def rms_norm(
    x: Float[Tensor, "... d_model"], weight: Float[Tensor, " d_model"] | None, eps: float = 1e-5
) -> Float[Tensor, "... d_model"]:
    """Compute fastlm.functional.rms_norm.

    Raises:
        ValueError: if weight is not one value per feature, or check_tensors refuses a tensor.
    """
    _check("rms_norm", x, weight)
    y: Tensor = _norm(x, None, weight, eps)[0]
    return y


def add_rms_norm(
    x: Float[Tensor, "... d_model"],
    residual: Float[Tensor, "... d_model"],
    weight: Float[Tensor, " d_model"] | None,
    eps: float = 1e-5,
) -> tuple[Float[Tensor, "... d_model"], Float[Tensor, "... d_model"]]:
    """Compute fastlm.functional.add_rms_norm: (rms_norm(x + residual), x + residual).

    Raises:
        ValueError: if the shapes or dtypes differ, or rms_norm refuses a tensor.
    """
    _check("add_rms_norm", x, weight, residual)
    if residual.shape != x.shape or residual.dtype != x.dtype:
        raise ValueError(
            f"add_rms_norm needs x and residual alike: got {x.dtype} {tuple(x.shape)} and "
            f"{residual.dtype} {tuple(residual.shape)}"
        )
    y, total, _ = _norm(x, residual, weight, eps)
    return y, total


def _check(name: str, x: Tensor, weight: Tensor | None, *others: Tensor) -> None:
    if weight is not None and weight.shape != x.shape[-1:]:
        raise ValueError(
            f"{name} needs one weight per feature: got weight {tuple(weight.shape)} for x "
            f"{tuple(x.shape)}"
        )
    check_tensors(name, MAX_COLUMNS, x, *([] if weight is None else [weight]), *others)
