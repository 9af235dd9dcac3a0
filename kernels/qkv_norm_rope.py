# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
"""From a joint projection to heads: queries and keys normed and rotated, the rest copied.

A program takes one head of some tokens. The backward pass writes the gradient of the whole
projection at once, where PyTorch would gather it from those of its parts.
"""

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from .launch import (
    accurate_dtype,
    as_rows,
    block_of,
    launch,
    n_programs,
    operation,
    sum_dtype,
)
from .rope import check_turn, place_of_tables, shape_of

PROGRAMS_PER_SM = 8


@triton.jit
def _place(
    qkv_ptr, q_ptr, k_ptr, v_ptr, rest_ptr, cos_ptr, sin_ptr, q_weight_ptr, k_weight_ptr,
    dqkv_ptr, dweights_ptr,
    qkv_stride, dqkv_stride, table_batch_stride, table_head_stride, table_stride,
    n_tokens, n_positions, n_heads, d_head, n_rest, eps,
    IS_BACKWARD: tl.constexpr, HAS_WEIGHT: tl.constexpr, ACCURATE: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, REST: tl.constexpr,
):  # fmt: skip
    """Fill q, k, v and rest; IS_BACKWARD: fill dqkv from the gradients that lie in their places."""
    columns = tl.arange(0, BLOCK)
    in_head = columns < d_head
    halves = tl.arange(0, BLOCK // 2)
    if HAS_WEIGHT:
        q_weight = tl.load(q_weight_ptr + columns, in_head, 0.0).to(ACCURATE)
        k_weight = tl.load(k_weight_ptr + columns, in_head, 0.0).to(ACCURATE)
        dq_weight = tl.zeros((BLOCK,), ACCURATE)
        dk_weight = tl.zeros((BLOCK,), ACCURATE)
    n_slots = 3 * n_heads + (1 if REST > 0 else 0)
    for task in range(tl.program_id(0), tl.cdiv(n_tokens, ROWS) * n_slots, tl.num_programs(0)):
        slot = task % n_slots
        part, head = slot // n_heads, slot % n_heads
        # int64: an offset into one projection of all tokens passes 2^31.
        tokens = (task // n_slots).to(tl.int64) * ROWS + tl.arange(0, ROWS)
        is_token = tokens < n_tokens
        is_there = is_token[:, None] & in_head[None, :]
        in_part = tokens[:, None] * (n_heads * d_head) + (head * d_head + columns)[None, :]
        of_slot = (slot * d_head + columns)[None, :]
        in_qkv, in_dqkv = tokens[:, None] * qkv_stride, tokens[:, None] * dqkv_stride
        if slot < 3 * n_heads:
            if part == 0:
                part_ptr = q_ptr
            elif part == 1:
                part_ptr = k_ptr
            else:
                part_ptr = v_ptr
            if IS_BACKWARD:
                out = tl.load(part_ptr + in_part, is_there, 0.0).to(ACCURATE)
            else:
                out = tl.load(qkv_ptr + in_qkv + of_slot, is_there, 0.0).to(ACCURATE)
            if part < 2:
                place = table_batch_stride * (tokens // n_positions) + table_head_stride * head
                place += table_stride * (tokens % n_positions)
                in_table = place[:, None] + halves[None, :]
                is_pair = is_token[:, None] & (halves < d_head // 2)[None, :]
                cos = tl.load(cos_ptr + in_table, is_pair, 0.0).to(ACCURATE)
                sin = tl.load(sin_ptr + in_table, is_pair, 0.0).to(ACCURATE)
                x = out
                if IS_BACKWARD:
                    x = tl.load(qkv_ptr + in_qkv + of_slot, is_there, 0.0).to(ACCURATE)
                mean_square = tl.sum(x * x, axis=1) / d_head
                scale = (1.0 / tl.sqrt(mean_square + tl.full((), eps, ACCURATE)))[:, None]
                x = x * scale
                if HAS_WEIGHT:
                    weight = tl.where(part == 0, q_weight, k_weight)[None, :]
                if IS_BACKWARD:
                    sin = -sin
                elif HAS_WEIGHT:
                    out = x * weight
                else:
                    out = x
                even, odd = tl.split(tl.reshape(out, (ROWS, BLOCK // 2, 2)))
                out = tl.join(even * cos - odd * sin, even * sin + odd * cos)
                out = tl.reshape(out, (ROWS, BLOCK))
                if IS_BACKWARD:
                    if HAS_WEIGHT:
                        dweight = tl.sum(out * x, axis=0)
                        dq_weight += tl.where(part == 0, dweight, 0.0)
                        dk_weight += tl.where(part == 0, 0.0, dweight)
                        out = out * weight
                    mean = tl.sum(out * x, axis=1) / d_head
                    out = (out - x * mean[:, None]) * scale
            if IS_BACKWARD:
                out = out.to(dqkv_ptr.dtype.element_ty)
                tl.store(dqkv_ptr + in_dqkv + of_slot, out, is_there)
            else:
                tl.store(part_ptr + in_part, out.to(q_ptr.dtype.element_ty), is_there)
        elif REST > 0:
            others = tl.arange(0, REST)
            is_other = is_token[:, None] & (others < n_rest)[None, :]
            in_rest = tokens[:, None] * n_rest + others[None, :]
            after = (3 * n_heads * d_head + others)[None, :]
            if IS_BACKWARD:
                rest = tl.load(rest_ptr + in_rest, is_other, 0.0)
                tl.store(dqkv_ptr + in_dqkv + after, rest, is_other)
            else:
                rest = tl.load(qkv_ptr + in_qkv + after, is_other, 0.0)
                tl.store(rest_ptr + in_rest, rest, is_other)
    if IS_BACKWARD and HAS_WEIGHT:
        begin = dweights_ptr + tl.program_id(0) * 2 * d_head
        tl.store(begin + columns, dq_weight, in_head)
        tl.store(begin + d_head + columns, dk_weight, in_head)


def _launch(
    qkv: Tensor,
    parts: tuple[Tensor, ...],
    cos: Tensor,
    sin: Tensor,
    q_weight: Tensor | None,
    k_weight: Tensor | None,
    dqkv: Tensor | None,
    eps: float,
) -> Tensor | None:
    """Fill parts (q, k, v, rest), or dqkv from their gradients; return those of the weights."""
    q, k, v, rest = parts
    *batch, n_positions, n_heads, d_head = q.shape
    tokens, n_rest = as_rows(qkv), rest.shape[-1]
    each = (*batch, n_heads, n_positions, d_head // 2)
    cos, sin, table_strides = place_of_tables(cos, sin, each)
    rows, block, n_warps = shape_of(d_head)
    n_tasks = triton.cdiv(tokens.shape[0], rows) * (3 * n_heads + (n_rest > 0))
    programs = n_programs(qkv.device, n_tasks, PROGRAMS_PER_SM)
    is_backward, has_weight = dqkv is not None, q_weight is not None
    n_sums = 2 if is_backward and has_weight else 0
    sums = qkv.new_empty((programs, n_sums, d_head), dtype=sum_dtype(qkv))
    launch(
        _place, (programs,),
        tokens, q, k, v, rest, cos, sin,
        # In place of what a kernel does not read, anything small: compiled code may copy it.
        cos if q_weight is None else q_weight, cos if k_weight is None else k_weight,
        rest if dqkv is None else dqkv, sums,
        tokens.stride(0), qkv.shape[-1], *table_strides,
        tokens.shape[0], n_positions, n_heads, d_head, n_rest, eps,
        IS_BACKWARD=is_backward, HAS_WEIGHT=has_weight, ACCURATE=accurate_dtype(qkv),
        ROWS=rows, BLOCK=block, REST=block_of(n_rest) if n_rest > 0 else 0, num_warps=n_warps,
    )  # fmt: skip
    return sums.sum(0) if n_sums else None


def _fake(
    qkv: Tensor,
    cos: Tensor,
    sin: Tensor,
    q_weight: Tensor | None,
    k_weight: Tensor | None,
    n_heads: int,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    d_head = 2 * cos.shape[-1]
    q, k, v = (qkv.new_empty((*qkv.shape[:-1], n_heads, d_head)) for _ in range(3))
    return q, k, v, qkv.new_empty((*qkv.shape[:-1], qkv.shape[-1] - 3 * n_heads * d_head))


@operation("qkv_norm_rope_forward", _fake)
def _heads(
    qkv: Tensor,
    cos: Tensor,
    sin: Tensor,
    q_weight: Tensor | None,
    k_weight: Tensor | None,
    n_heads: int,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """q, k and v as (..., seq, heads, d_head), and the other columns (..., seq, rest)."""
    parts = _fake(qkv, cos, sin, q_weight, k_weight, n_heads, eps)
    if qkv.numel() > 0:
        _launch(qkv, parts, cos, sin, q_weight, k_weight, None, eps)
    return parts


def _fake_gradients(
    dq: Tensor,
    dk: Tensor,
    dv: Tensor,
    drest: Tensor,
    qkv: Tensor,
    cos: Tensor,
    sin: Tensor,
    q_weight: Tensor | None,
    k_weight: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor]:
    shape = (0,) if q_weight is None else (2, *q_weight.shape)
    dweights = qkv.new_empty(shape, dtype=sum_dtype(qkv))
    return torch.empty_like(qkv, memory_format=torch.contiguous_format), dweights


@operation("qkv_norm_rope_backward", _fake_gradients)
def _gradients(
    dq: Tensor,
    dk: Tensor,
    dv: Tensor,
    drest: Tensor,
    qkv: Tensor,
    cos: Tensor,
    sin: Tensor,
    q_weight: Tensor | None,
    k_weight: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """(the gradient of qkv, those of both weights in one tensor)."""
    dqkv, dweights = _fake_gradients(dq, dk, dv, drest, qkv, cos, sin, q_weight, k_weight, eps)
    if qkv.numel() == 0:
        return dqkv, dweights.zero_()
    parts = (dq.contiguous(), dk.contiguous(), dv.contiguous(), drest.contiguous())
    summed = _launch(qkv, parts, cos, sin, q_weight, k_weight, dqkv, eps)
    return dqkv, dweights if summed is None else summed


def _save(ctx, inputs, output):
    *saved, _, ctx.eps = inputs
    ctx.save_for_backward(*saved)


def _differentiate(ctx, dq, dk, dv, drest):
    dqkv, dweights = _gradients(dq, dk, dv, drest, *ctx.saved_tensors, ctx.eps)
    weight = ctx.saved_tensors[3]
    of_weights = (None, None) if weight is None else dweights.to(weight.dtype).unbind(0)
    return dqkv, None, None, *of_weights, None, None


_heads.register_autograd(_differentiate, setup_context=_save)


def qkv_norm_rope(
    qkv: Float[Tensor, "... seq columns"],
    cos: Float[Tensor, "... seq half"],
    sin: Float[Tensor, "... seq half"],
    q_weight: Float[Tensor, " d_head"] | None = None,
    k_weight: Float[Tensor, " d_head"] | None = None,
    *,
    n_heads: int,
    eps: float = 1e-5,
) -> tuple[
    Float[Tensor, "... head seq d_head"],
    Float[Tensor, "... head seq d_head"],
    Float[Tensor, "... head seq d_head"],
    Float[Tensor, "... seq rest"],
]:
    """Compute fastlm.functional.qkv_norm_rope; cos and sin are constants, without gradients.

    Raises:
        ValueError: if the shapes do not match, only one weight is given, or check_tensors refuses a
            tensor.
    """
    n_columns = 3 * n_heads * 2 * cos.shape[-1]
    if qkv.ndim < 2 or qkv.shape[-1] < n_columns:
        raise ValueError(
            f"qkv_norm_rope needs qkv (..., seq, {n_columns:,} columns or more) for {n_heads} "
            f"heads of {2 * cos.shape[-1]}: got {tuple(qkv.shape)}"
        )
    weights = [weight for weight in (q_weight, k_weight) if weight is not None]
    if len(weights) == 1:
        raise ValueError("qkv_norm_rope needs both weights or none: got one")
    head = qkv[..., None, :, : 2 * cos.shape[-1]]
    check_turn("qkv_norm_rope", head, cos, sin, *weights)
    *parts, rest = _heads(qkv, cos, sin, q_weight, k_weight, n_heads, eps)
    q, k, v = (x.transpose(-2, -3) for x in parts)
    return q, k, v, rest
