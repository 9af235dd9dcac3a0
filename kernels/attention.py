# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
"""Attention that never writes its scores to memory, forward and backward.

With S = Q K^T / sqrt(d_head), set to -inf for keys that a causal query must not see:
out = softmax(S) V, lse = log(sum(exp(S))).

In the forward pass, a program keeps a block of queries and goes through the keys in blocks, with
the maximum and the sum of exponentials so far. The backward pass recomputes the probabilities from
lse: P = exp(S - lse), dV = P^T dO, dP = dO V^T, dS = P (dP - rowsum(dO O) + dlse),
dQ = dS K / sqrt(d_head), dK = dS^T Q / sqrt(d_head).
One kernel keeps queries and sums dQ over the keys, another keeps keys and sums dK and dV over the
queries: no two programs add to the same memory, so two runs give the same bits.

Scores are kept in units of log(2), because the hardware computes exp2.

Source: Dao 2023, arXiv:2307.08691, algorithms 1 and 2.
"""

import math
from typing import Any

import torch
import triton
import triton.language as tl
from jaxtyping import Bool, Float
from torch import Tensor

from .launch import (
    INTERPRETED,
    accurate_dtype,
    block_of,
    check_tensors,
    gpu_of,
    launch,
    lowest_number,
    operation,
    sum_dtype,
)

MAX_D_HEAD = 128
LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)

# (rows that a program keeps, rows that it reads at a time, warps, stages) by kernel and width:
# "forward" and "queries" keep queries, "keys" keeps keys. Tiles are as large as registers allow.
_HALF_PRECISION = {
    ("forward", 64): (128, 64, 4, 3), ("forward", 128): (128, 64, 8, 3),
    ("queries", 64): (128, 64, 8, 3), ("queries", 128): (128, 64, 8, 2),
    ("keys", 64): (128, 64, 8, 3), ("keys", 128): (128, 32, 8, 2),
}  # fmt: skip
_BEFORE_HOPPER = _HALF_PRECISION | {
    ("queries", 128): (128, 32, 8, 2),
    ("keys", 64): (128, 32, 8, 3),
    ("keys", 128): (64, 64, 8, 2),
}
_AFTER_HOPPER = _HALF_PRECISION | {("queries", 128): (128, 32, 8, 2)}
_SINGLE_PRECISION = {64: (32, 32, 8, 2), 128: (32, 16, 8, 2)}


@triton.jit
def _places(ptr, start, stride, row, column):
    """Pointers to rows start + row."""
    within = row.to(tl.int64)[:, None] * stride + column[None, :]
    return ptr + tl.full((), start, tl.int64) * stride + within


@triton.jit
def _rows(
    ptr, start, stride, row, column, n_rows,
    HAS_EDGE: tl.constexpr, D_HEAD: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Rows start + row, with zeros outside the rows (only if HAS_EDGE) and columns."""
    places = _places(ptr, start, stride, row, column)
    if HAS_EDGE:
        is_there = (start + row < n_rows)[:, None] & (column < D_HEAD)[None, :]
        return tl.load(places, is_there, 0.0)
    if D_HEAD < BLOCK_D:
        return tl.load(places, (column < D_HEAD)[None, :], 0.0)
    return tl.load(places)


@triton.jit
def _last_seen(row, n_queries, n_keys, IS_CAUSAL: tl.constexpr):
    """The last key that each query may attend to."""
    if IS_CAUSAL:
        return tl.minimum(row + (n_keys - n_queries), n_keys - 1)
    return tl.full(row.shape, n_keys - 1, tl.int32)


@triton.jit
def _key_range(
    start, n_queries, n_keys,
    IS_CAUSAL: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """(end of the blocks that every query sees whole, end of the keys that any query sees)."""
    if IS_CAUSAL:
        n_seen = start + (n_keys - n_queries) + 1  # keys that the first query sees
        return n_seen // BLOCK_N * BLOCK_N, tl.minimum(n_seen + BLOCK_M - 1, n_keys)
    return n_keys // BLOCK_N * BLOCK_N, n_keys


@triton.jit
def _attend(
    mixed, highest, total, q, k_ptr, v_ptr, k_stride, v_stride, first, end,
    last_seen, row, column, n_keys,
    HAS_EDGE: tl.constexpr, SCALE: tl.constexpr, D_HEAD: tl.constexpr, ACCURATE: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """(mixed, highest, total) after the keys from first to end are added to them."""
    for start in range(first, end, BLOCK_N):
        k = _rows(k_ptr, start, k_stride, row, column, n_keys, HAS_EDGE, D_HEAD, BLOCK_D)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee", out_dtype=ACCURATE)
        if HAS_EDGE:
            scores = tl.where(start + row[None, :] <= last_seen[:, None], scores, -float("inf"))
        higher = tl.maximum(highest, tl.max(scores, axis=1) * (SCALE * LOG2_E))
        p = tl.exp2(scores * (SCALE * LOG2_E) - higher[:, None])
        shrink = tl.exp2(highest - higher)
        total = total * shrink + tl.sum(p, axis=1)
        v = _rows(v_ptr, start, v_stride, row, column, n_keys, HAS_EDGE, D_HEAD, BLOCK_D)
        mixed = tl.dot(
            p.to(v.dtype), v, mixed * shrink[:, None], input_precision="ieee", out_dtype=ACCURATE
        )
        highest = higher
    return mixed, highest, total


@triton.jit
def _forward(
    q_ptr, k_ptr, v_ptr, out_ptr, lse_ptr,
    q_batch_stride, q_head_stride, q_stride, k_batch_stride, k_head_stride, k_stride,
    v_batch_stride, v_head_stride, v_stride, out_batch_stride, out_head_stride, out_stride,
    n_heads, n_queries, n_keys,
    IS_CAUSAL: tl.constexpr, SCALE: tl.constexpr, LOWEST: tl.constexpr, D_HEAD: tl.constexpr,
    ACCURATE: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    n_blocks = tl.cdiv(n_queries, BLOCK_M)
    # int64: 64 sequences of 8 heads, 65,536 rows and 64 columns are 2^31 elements.
    pair = tl.full((), tl.program_id(0) // n_blocks, tl.int64)
    batch = pair // n_heads
    head = pair % n_heads
    block = tl.program_id(0) % n_blocks
    if IS_CAUSAL:
        block = n_blocks - 1 - block  # blocks with the most keys first
    start = block * BLOCK_M
    row = tl.arange(0, BLOCK_M)
    key_row = tl.arange(0, BLOCK_N)
    column = tl.arange(0, BLOCK_D)
    q_ptr += batch * q_batch_stride + head * q_head_stride
    k_ptr += batch * k_batch_stride + head * k_head_stride
    v_ptr += batch * v_batch_stride + head * v_head_stride
    q = _rows(q_ptr, start, q_stride, row, column, n_queries, True, D_HEAD, BLOCK_D)
    last_seen = _last_seen(start + row, n_queries, n_keys, IS_CAUSAL)
    mixed = tl.zeros((BLOCK_M, BLOCK_D), ACCURATE)
    # A maximum that starts at -inf would give -inf - -inf, which is NaN, in a block of -inf only.
    highest = tl.full((BLOCK_M,), LOWEST, ACCURATE)
    total = tl.zeros((BLOCK_M,), ACCURATE)
    whole, end = _key_range(start, n_queries, n_keys, IS_CAUSAL, BLOCK_M, BLOCK_N)
    mixed, highest, total = _attend(
        mixed, highest, total, q, k_ptr, v_ptr, k_stride, v_stride, 0, whole,
        last_seen, key_row, column, n_keys,
        False, SCALE, D_HEAD, ACCURATE, BLOCK_N, BLOCK_D,
    )  # fmt: skip
    mixed, highest, total = _attend(
        mixed, highest, total, q, k_ptr, v_ptr, k_stride, v_stride, whole, end,
        last_seen, key_row, column, n_keys,
        True, SCALE, D_HEAD, ACCURATE, BLOCK_N, BLOCK_D,
    )  # fmt: skip
    is_query = start + row < n_queries
    lse = (highest + tl.log2(total)) * LN_2
    tl.store(lse_ptr + pair * n_queries + start + row, lse, is_query)
    out_ptr += batch * out_batch_stride + head * out_head_stride
    tl.store(
        _places(out_ptr, start, out_stride, row, column),
        (mixed / total[:, None]).to(out_ptr.dtype.element_ty),
        is_query[:, None] & (column < D_HEAD)[None, :],
    )


@triton.jit
def _query_gradient(
    dq, q, dout, lse, delta, k_ptr, v_ptr, k_stride, v_stride, first, end,
    last_seen, row, column, n_keys,
    HAS_EDGE: tl.constexpr, SCALE: tl.constexpr, D_HEAD: tl.constexpr, ACCURATE: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """dq after the contributions of the keys from first to end are added."""
    for start in range(first, end, BLOCK_N):
        k = _rows(k_ptr, start, k_stride, row, column, n_keys, HAS_EDGE, D_HEAD, BLOCK_D)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee", out_dtype=ACCURATE)
        if HAS_EDGE:
            scores = tl.where(start + row[None, :] <= last_seen[:, None], scores, -float("inf"))
        p = tl.exp2(scores * (SCALE * LOG2_E) - lse[:, None])
        v = _rows(v_ptr, start, v_stride, row, column, n_keys, HAS_EDGE, D_HEAD, BLOCK_D)
        dp = tl.dot(dout, tl.trans(v), input_precision="ieee", out_dtype=ACCURATE)
        dscores = (p * (dp - delta[:, None])).to(k.dtype)
        dq = tl.dot(dscores, k, dq, input_precision="ieee", out_dtype=ACCURATE)
    return dq


@triton.jit
def _backward_queries(
    dout_ptr, dlse_ptr, q_ptr, k_ptr, v_ptr, out_ptr, lse_ptr, delta_ptr, dq_ptr,
    dout_batch_stride, dout_head_stride, dout_stride, q_batch_stride, q_head_stride, q_stride,
    k_batch_stride, k_head_stride, k_stride, v_batch_stride, v_head_stride, v_stride,
    out_batch_stride, out_head_stride, out_stride, dq_batch_stride, dq_head_stride, dq_stride,
    n_heads, n_queries, n_keys,
    HAS_DLSE: tl.constexpr, IS_CAUSAL: tl.constexpr, SCALE: tl.constexpr, D_HEAD: tl.constexpr,
    ACCURATE: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Compute dq, and delta = rowsum(dout * out) - dlse for the other kernel."""
    n_blocks = tl.cdiv(n_queries, BLOCK_M)
    # int64: 64 sequences of 8 heads, 65,536 rows and 64 columns are 2^31 elements.
    pair = tl.full((), tl.program_id(0) // n_blocks, tl.int64)
    batch = pair // n_heads
    head = pair % n_heads
    block = tl.program_id(0) % n_blocks
    if IS_CAUSAL:
        block = n_blocks - 1 - block  # blocks with the most keys first
    start = block * BLOCK_M
    row = tl.arange(0, BLOCK_M)
    key_row = tl.arange(0, BLOCK_N)
    column = tl.arange(0, BLOCK_D)
    dout_ptr += batch * dout_batch_stride + head * dout_head_stride
    q_ptr += batch * q_batch_stride + head * q_head_stride
    k_ptr += batch * k_batch_stride + head * k_head_stride
    v_ptr += batch * v_batch_stride + head * v_head_stride
    out_ptr += batch * out_batch_stride + head * out_head_stride
    dq_ptr += batch * dq_batch_stride + head * dq_head_stride
    is_query = start + row < n_queries
    statistic = pair * n_queries + start + row
    out = _rows(out_ptr, start, out_stride, row, column, n_queries, True, D_HEAD, BLOCK_D)
    dout = _rows(dout_ptr, start, dout_stride, row, column, n_queries, True, D_HEAD, BLOCK_D)
    delta = tl.sum(out.to(ACCURATE) * dout.to(ACCURATE), axis=1)
    if HAS_DLSE:
        delta -= tl.load(dlse_ptr + statistic, is_query, 0.0)
    tl.store(delta_ptr + statistic, delta, is_query)
    lse = tl.load(lse_ptr + statistic, is_query, 0.0) * LOG2_E
    q = _rows(q_ptr, start, q_stride, row, column, n_queries, True, D_HEAD, BLOCK_D)
    last_seen = _last_seen(start + row, n_queries, n_keys, IS_CAUSAL)
    whole, end = _key_range(start, n_queries, n_keys, IS_CAUSAL, BLOCK_M, BLOCK_N)
    dq = tl.zeros((BLOCK_M, BLOCK_D), ACCURATE)
    dq = _query_gradient(
        dq, q, dout, lse, delta, k_ptr, v_ptr, k_stride, v_stride, 0, whole,
        last_seen, key_row, column, n_keys,
        False, SCALE, D_HEAD, ACCURATE, BLOCK_N, BLOCK_D,
    )  # fmt: skip
    dq = _query_gradient(
        dq, q, dout, lse, delta, k_ptr, v_ptr, k_stride, v_stride, whole, end,
        last_seen, key_row, column, n_keys,
        True, SCALE, D_HEAD, ACCURATE, BLOCK_N, BLOCK_D,
    )  # fmt: skip
    tl.store(
        _places(dq_ptr, start, dq_stride, row, column),
        (dq * SCALE).to(dq_ptr.dtype.element_ty),
        is_query[:, None] & (column < D_HEAD)[None, :],
    )


@triton.jit
def _key_gradients(
    dk, dv, k, v, q_ptr, dout_ptr, lse_ptr, delta_ptr, q_stride, dout_stride, first, end,
    key, row, column, n_queries, n_keys,
    HAS_EDGE: tl.constexpr, SCALE: tl.constexpr, D_HEAD: tl.constexpr, ACCURATE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """dk and dv after the contributions of the queries from first to end are added.

    HAS_EDGE: some of the queries do not see all keys. A query outside the rows has q, dout, lse and
    delta of 0, and so adds 0.
    """
    for start in range(first, end, BLOCK_M):
        q = _rows(q_ptr, start, q_stride, row, column, n_queries, True, D_HEAD, BLOCK_D)
        lse = tl.load(lse_ptr + start + row, start + row < n_queries, 0.0) * LOG2_E
        # Keys by queries, so that p and dscores are left operands without a transposition.
        scores = tl.dot(k, tl.trans(q), input_precision="ieee", out_dtype=ACCURATE)
        if HAS_EDGE:
            last_seen = start + row + (n_keys - n_queries)
            scores = tl.where(key[:, None] <= last_seen[None, :], scores, -float("inf"))
        p = tl.exp2(scores * (SCALE * LOG2_E) - lse[None, :])
        dout = _rows(dout_ptr, start, dout_stride, row, column, n_queries, True, D_HEAD, BLOCK_D)
        dv = tl.dot(p.to(dout.dtype), dout, dv, input_precision="ieee", out_dtype=ACCURATE)
        delta = tl.load(delta_ptr + start + row, start + row < n_queries, 0.0)
        dp = tl.dot(v, tl.trans(dout), input_precision="ieee", out_dtype=ACCURATE)
        dscores = (p * (dp - delta[None, :])).to(q.dtype)
        dk = tl.dot(dscores, q, dk, input_precision="ieee", out_dtype=ACCURATE)
    return dk, dv


@triton.jit
def _backward_keys(
    dout_ptr, q_ptr, k_ptr, v_ptr, lse_ptr, delta_ptr, dk_ptr, dv_ptr,
    dout_batch_stride, dout_head_stride, dout_stride, q_batch_stride, q_head_stride, q_stride,
    k_batch_stride, k_head_stride, k_stride, v_batch_stride, v_head_stride, v_stride,
    dk_batch_stride, dk_head_stride, dk_stride, dv_batch_stride, dv_head_stride, dv_stride,
    n_heads, n_queries, n_keys,
    IS_CAUSAL: tl.constexpr, SCALE: tl.constexpr, D_HEAD: tl.constexpr, ACCURATE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    n_blocks = tl.cdiv(n_keys, BLOCK_N)
    # int64: 64 sequences of 8 heads, 65,536 rows and 64 columns are 2^31 elements.
    pair = tl.full((), tl.program_id(0) // n_blocks, tl.int64)
    batch = pair // n_heads
    head = pair % n_heads
    start = tl.program_id(0) % n_blocks * BLOCK_N
    row = tl.arange(0, BLOCK_N)
    query_row = tl.arange(0, BLOCK_M)
    column = tl.arange(0, BLOCK_D)
    dout_ptr += batch * dout_batch_stride + head * dout_head_stride
    q_ptr += batch * q_batch_stride + head * q_head_stride
    k_ptr += batch * k_batch_stride + head * k_head_stride
    v_ptr += batch * v_batch_stride + head * v_head_stride
    lse_ptr += pair * n_queries
    delta_ptr += pair * n_queries
    k = _rows(k_ptr, start, k_stride, row, column, n_keys, True, D_HEAD, BLOCK_D)
    v = _rows(v_ptr, start, v_stride, row, column, n_keys, True, D_HEAD, BLOCK_D)
    dk = tl.zeros((BLOCK_N, BLOCK_D), ACCURATE)
    dv = tl.zeros((BLOCK_N, BLOCK_D), ACCURATE)
    whole = 0
    if IS_CAUSAL:
        first_query = start - (n_keys - n_queries)  # the first query that sees the first key
        first = tl.maximum(first_query, 0) // BLOCK_M * BLOCK_M
        whole = tl.cdiv(tl.maximum(first_query + BLOCK_N - 1, 0), BLOCK_M) * BLOCK_M
        dk, dv = _key_gradients(
            dk, dv, k, v, q_ptr, dout_ptr, lse_ptr, delta_ptr, q_stride, dout_stride,
            first, tl.minimum(whole, n_queries), start + row, query_row, column, n_queries, n_keys,
            True, SCALE, D_HEAD, ACCURATE, BLOCK_M, BLOCK_D,
        )  # fmt: skip
    dk, dv = _key_gradients(
        dk, dv, k, v, q_ptr, dout_ptr, lse_ptr, delta_ptr, q_stride, dout_stride,
        whole, n_queries, start + row, query_row, column, n_queries, n_keys,
        False, SCALE, D_HEAD, ACCURATE, BLOCK_M, BLOCK_D,
    )  # fmt: skip
    is_there = (start + row < n_keys)[:, None] & (column < D_HEAD)[None, :]
    dk_ptr += batch * dk_batch_stride + head * dk_head_stride
    dv_ptr += batch * dv_batch_stride + head * dv_head_stride
    tl.store(
        _places(dk_ptr, start, dk_stride, row, column),
        (dk * SCALE).to(dk_ptr.dtype.element_ty),
        is_there,
    )
    tl.store(
        _places(dv_ptr, start, dv_stride, row, column), dv.to(dv_ptr.dtype.element_ty), is_there
    )


def shape_of(
    kernel: str, d_head: int, itemsize: int, *, architecture: int = 90
) -> tuple[int, int, int, int]:
    """(rows that a program keeps, rows that it reads at a time, warps, stages).

    Args:
        kernel: "forward", "queries" (computes dq) or "keys" (computes dk and dv).
        itemsize: bytes per element.
        architecture: as of Gpu.
    """
    width = 64 if d_head <= 64 else MAX_D_HEAD
    if itemsize > 2:
        return _SINGLE_PRECISION[width]
    if architecture < 90:
        return _BEFORE_HOPPER[kernel, width]
    return (_HALF_PRECISION if architecture < 100 else _AFTER_HOPPER)[kernel, width]


def _architecture(device: torch.device) -> int:
    return 90 if INTERPRETED else gpu_of(device).architecture


def _as_heads(x: Float[Tensor, "... rows d_head"]) -> Float[Tensor, "batch heads rows d_head"]:
    """x as (batch, heads, rows, d_head) with contiguous columns: a view if possible."""
    n_heads = x.shape[-3] if x.ndim > 2 else 1
    heads = x.reshape(math.prod(x.shape[:-3]), n_heads, *x.shape[-2:])
    return heads if heads.stride(-1) == 1 or heads.shape[-1] == 1 else heads.contiguous()


def _empty_heads_like(x: Float[Tensor, "... rows d_head"]) -> Float[Tensor, "... rows d_head"]:
    """New memory of layout (..., rows, heads, d_head), which the next projection reads."""
    if x.ndim < 3:
        return x.new_empty(x.shape)
    *batch, n_heads, n_rows, d_head = x.shape
    return x.new_empty((*batch, n_rows, n_heads, d_head)).transpose(-2, -3)


def _strides(*tensors: Tensor) -> list[int]:
    return [stride for tensor in tensors for stride in tensor.stride()[:3]]


def _options(kernel: str, q: Tensor, is_causal: bool) -> dict[str, Any]:
    """The constants and launch options of a kernel."""
    d_head = q.shape[-1]
    kept, streamed, n_warps, n_stages = shape_of(
        kernel, d_head, q.element_size(), architecture=_architecture(q.device)
    )
    if kernel == "keys":
        kept, streamed = streamed, kept
    return {
        "IS_CAUSAL": is_causal,
        "SCALE": d_head**-0.5,
        "D_HEAD": d_head,
        "ACCURATE": accurate_dtype(q),
        "BLOCK_M": kept,
        "BLOCK_N": streamed,
        "BLOCK_D": max(block_of(d_head), 16),  # tl.dot takes 16 columns or more
        "num_warps": n_warps,
        "num_stages": n_stages,
    }


def _fake_forward(q: Tensor, k: Tensor, v: Tensor, is_causal: bool) -> tuple[Tensor, Tensor]:
    return _empty_heads_like(q), q.new_empty(q.shape[:-1], dtype=sum_dtype(q))


@operation("attention_forward", _fake_forward)
def _attention(q: Tensor, k: Tensor, v: Tensor, is_causal: bool) -> tuple[Tensor, Tensor]:
    """(out, lse)."""
    out, lse = _fake_forward(q, k, v, is_causal)
    q, k, v, o = _as_heads(q), _as_heads(k), _as_heads(v), _as_heads(out)
    batch, n_heads, n_queries, _ = q.shape
    options = _options("forward", q, is_causal)
    if out.numel() > 0:
        launch(
            _forward, (batch * n_heads * triton.cdiv(n_queries, options["BLOCK_M"]),),
            q, k, v, o, lse, *_strides(q, k, v, o), n_heads, n_queries, k.shape[-2],
            LOWEST=lowest_number(q), **options,
        )  # fmt: skip
    return out, lse


def _fake_backward(
    dout: Tensor, dlse: Tensor | None, q: Tensor, k: Tensor, v: Tensor, *others: Tensor | bool
) -> tuple[Tensor, Tensor, Tensor]:
    return _empty_heads_like(q), _empty_heads_like(k), _empty_heads_like(v)


@operation("attention_backward", _fake_backward)
def _attention_gradients(
    dout: Tensor,
    dlse: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    is_causal: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """(dq, dk, dv)."""
    gradients = _fake_backward(dout, dlse, q, k, v)
    dq, dk, dv = (_as_heads(gradient) for gradient in gradients)
    dout, q, k, v, out = (_as_heads(x) for x in (dout, q, k, v, out))
    batch, n_heads, n_queries, _ = q.shape
    n_keys = k.shape[-2]
    delta = torch.empty_like(lse)
    options = _options("queries", q, is_causal)
    if q.numel() > 0:
        launch(
            _backward_queries, (batch * n_heads * triton.cdiv(n_queries, options["BLOCK_M"]),),
            dout, lse if dlse is None else dlse.contiguous(), q, k, v, out, lse, delta, dq,
            *_strides(dout, q, k, v, out, dq), n_heads, n_queries, n_keys,
            HAS_DLSE=dlse is not None, **options,
        )  # fmt: skip
    options = _options("keys", q, is_causal)
    if k.numel() > 0:
        launch(
            _backward_keys, (batch * n_heads * triton.cdiv(n_keys, options["BLOCK_N"]),),
            dout, q, k, v, lse, delta, dk, dv,
            *_strides(dout, q, k, v, dk, dv), n_heads, n_queries, n_keys,
            **options,
        )  # fmt: skip
    return gradients


def _save(ctx, inputs, output):
    q, k, v, is_causal = inputs
    ctx.set_materialize_grads(False)
    ctx.is_causal = is_causal
    ctx.save_for_backward(q, k, v, *output)


def _differentiate(ctx, dout, dlse):
    q, k, v, out, lse = ctx.saved_tensors
    if dout is None:
        dout = torch.zeros_like(out)
    return *_attention_gradients(dout, dlse, q, k, v, out, lse, ctx.is_causal), None


_attention.register_autograd(_differentiate, setup_context=_save)


def attention(
    q: Float[Tensor, "... q d_head"],
    k: Float[Tensor, "... k d_head"],
    v: Float[Tensor, "... k d_head"],
    mask: Bool[Tensor, "... q k"] | None = None,
    *,
    is_causal: bool = False,
) -> Float[Tensor, "... q d_head"]:
    """Compute fastlm.functional.attention, with no mask other than is_causal.

    The result has the memory layout (..., q, heads, d_head), so that joining the heads copies
    nothing.

    Raises:
        ValueError: for a mask, shapes or dtypes that differ, no keys, a causal query before the
            first key, d_head over 128, or a tensor that check_tensors refuses.
    """
    return attention_with_lse(q, k, v, mask, is_causal=is_causal)[0]


def attention_with_lse(
    q: Float[Tensor, "... q d_head"],
    k: Float[Tensor, "... k d_head"],
    v: Float[Tensor, "... k d_head"],
    mask: Bool[Tensor, "... q k"] | None = None,
    *,
    is_causal: bool = False,
) -> tuple[Float[Tensor, "... q d_head"], Float[Tensor, "... q"]]:
    """attention, and log(sum(exp(scores))) of each query in float32; both have gradients."""
    _check(q, k, v, mask, is_causal)
    out, lse = _attention(q, k, v, is_causal)
    return out, lse


def _check(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, is_causal: bool) -> None:
    if mask is not None:
        raise ValueError(
            f"attention takes no mask but is_causal: got one of {tuple(mask.shape)}; use "
            "--triton-ops none"
        )
    shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)} and v {tuple(v.shape)}"
    if min(q.ndim, k.ndim) < 2 or k.shape != v.shape or _but_rows(q) != _but_rows(k):
        raise ValueError(
            "attention needs q (..., n_queries, d_head) and k, v (..., n_keys, d_head), alike but "
            f"for the rows: got {shapes}; expand what is shared, or use --triton-ops none"
        )
    if not q.dtype == k.dtype == v.dtype:
        raise ValueError(
            f"attention needs q, k and v of one dtype: got {q.dtype}, {k.dtype} and {v.dtype}; "
            "convert them"
        )
    check_tensors("attention", MAX_D_HEAD, q, k, v)
    n_queries, n_keys, d_head = q.shape[-2], k.shape[-2], q.shape[-1]
    if n_keys == 0 or d_head == 0:
        raise ValueError(f"attention needs at least one key and one column: got {shapes}")
    if is_causal and n_queries > n_keys:
        raise ValueError(
            f"the last query sees the last key, so is_causal needs n_queries <= n_keys: got "
            f"n_queries={n_queries}, n_keys={n_keys}; drop the first {n_queries - n_keys} queries, "
            "which would see no key"
        )


def _but_rows(x: Tensor) -> tuple[int, ...]:
    return *x.shape[:-2], x.shape[-1]
