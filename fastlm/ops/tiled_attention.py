"""Attention in tiles (FlashAttention-2): the full score matrix is never in memory.

This is the algorithm of kernels/attention.py in plain PyTorch, for reading; it is not faster.
S = Q K^T / sqrt(d_head), with -inf where the causal mask hides a key; P = softmax(S); O = P V.
Source: Dao 2023, arXiv:2307.08691, algorithms 1 and 2.
"""

from collections.abc import Iterator
from typing import Any

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor


def tiled_attention(
    q: Float[Tensor, "... q d_head"],
    k: Float[Tensor, "... k d_head"],
    v: Float[Tensor, "... k d_value"],
    *,
    is_causal: bool = False,
    block_size: int = 64,
) -> Float[Tensor, "... q d_value"]:
    """functional.attention without a mask; every query must see at least one key.

    Computed in float32 (float64 for a float64 q), returned in the dtype of q.

    Args:
        block_size: number of queries and of keys in a tile.
    """
    accurate = torch.float64 if q.dtype == torch.float64 else torch.float32
    out: Tensor = _TiledAttention.apply(
        q.to(accurate), k.to(accurate), v.to(accurate), is_causal, block_size
    )
    return out.to(q.dtype)


def _tiles(n_rows: int, block_size: int) -> Iterator[slice]:
    for start in range(0, n_rows, block_size):
        yield slice(start, min(start + block_size, n_rows))


def _scores(q: Tensor, k: Tensor, rows: slice, keys: slice, is_causal: bool) -> Tensor | None:
    """A tile of S; None if the causal mask hides all of it."""
    n_earlier = k.shape[-2] - q.shape[-2]  # keys before the first query's own
    if is_causal and keys.start >= rows.stop + n_earlier:
        return None
    scores = einsum(q[..., rows, :], k[..., keys, :], "... q d, ... k d -> ... q k")
    scores = scores * q.shape[-1] ** -0.5
    if is_causal:
        last_seen = torch.arange(rows.start, rows.stop, device=q.device) + n_earlier
        later = torch.arange(keys.start, keys.stop, device=q.device) > last_seen[:, None]
        scores = scores.masked_fill(later, float("-inf"))
    return scores


class _TiledAttention(torch.autograd.Function):
    """Forward saves O and lse = log(sum(exp(S))); backward recomputes P = exp(S - lse)."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, is_causal: bool, block_size: int
    ) -> Tensor:
        out = q.new_empty(*q.shape[:-1], v.shape[-1])
        lse = q.new_empty(q.shape[:-1])
        for rows in _tiles(q.shape[-2], block_size):
            # Not -inf: -inf - -inf is NaN for a query that sees no key of the first tile.
            highest = torch.full_like(lse[..., rows], torch.finfo(q.dtype).min)
            total = torch.zeros_like(highest)
            mixed = torch.zeros_like(out[..., rows, :])
            for keys in _tiles(k.shape[-2], block_size):
                scores = _scores(q, k, rows, keys, is_causal)
                if scores is None:
                    break
                higher = torch.maximum(highest, scores.amax(-1))
                exps = torch.exp(scores - higher[..., None])
                shrink = torch.exp(highest - higher)  # rescales sums taken with the old maximum
                total = total * shrink + exps.sum(-1)
                mixed = mixed * shrink[..., None] + exps @ v[..., keys, :]
                highest = higher
            out[..., rows, :] = mixed / total[..., None]
            lse[..., rows] = highest + torch.log(total)
        ctx.is_causal, ctx.block_size = is_causal, block_size
        ctx.save_for_backward(q, k, v, out, lse)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """With D = rowsum(dO O): dV = P^T dO, dS = P (dO V^T - D), dQ ~ dS K, dK ~ dS^T Q."""
        q, k, v, out, lse = ctx.saved_tensors
        (dout,) = grads
        dq, dk, dv = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
        delta = (dout * out).sum(-1, keepdim=True)
        for rows in _tiles(q.shape[-2], ctx.block_size):
            for keys in _tiles(k.shape[-2], ctx.block_size):
                scores = _scores(q, k, rows, keys, ctx.is_causal)
                if scores is None:
                    break
                p = torch.exp(scores - lse[..., rows, None])
                dp = dout[..., rows, :] @ v[..., keys, :].mT
                dscores = p * (dp - delta[..., rows, :]) * q.shape[-1] ** -0.5
                dq[..., rows, :] += dscores @ k[..., keys, :]
                dk[..., keys, :] += dscores.mT @ q[..., rows, :]
                dv[..., keys, :] += p.mT @ dout[..., rows, :]
        return dq, dk, dv, None, None
