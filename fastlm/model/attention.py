"""Causal self-attention with its options, and the KV cache it uses in generation."""

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from fastlm.config import VALUE_GATE_INPUTS
from fastlm.functional import split_heads
from fastlm.model.layers import Linear, RMSNorm, RotaryPositionalEmbedding, init_matrix
from fastlm.ops import Ops, reference_ops
from fastlm.ops.float8 import float8_linear


class LayerCache:
    """KV cache of one layer, in buffers of a fixed size."""

    def __init__(
        self, batch_size: int, n_heads: int, max_length: int, d_head: int, like: Tensor
    ) -> None:
        shape = (batch_size, n_heads, max_length, d_head)
        self.keys = torch.empty(shape, dtype=like.dtype, device=like.device)
        self.values = torch.empty(shape, dtype=like.dtype, device=like.device)
        self.length = 0

    def append(
        self, k: Float[Tensor, "batch head seq d_head"], v: Float[Tensor, "batch head seq d_head"]
    ) -> tuple[Tensor, Tensor]:
        """Store new keys and values; return all stored so far."""
        end = self.length + k.shape[-2]
        self.keys[:, :, self.length : end] = k
        self.values[:, :, self.length : end] = v
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]


class MultiHeadSelfAttention(nn.Module):
    """Causal self-attention of n_heads heads; head h owns rows h*d_head ... of q, k and v.

    The three input projections are one parameter of shape (3, d_model, d_model), for a single
    matrix product; the state dict has them as q_proj, k_proj and v_proj.

    Args:
        qk_norm: apply RMSNorm to the queries and keys of each head before RoPE, with learned gains
            if norm_gain.
        has_gate: multiply each head's output by 2 sigmoid(W x), which starts at 1.
            Source: Qiu et al. 2025, arXiv:2505.06708, there without the 2.
        has_value_gate: forward takes value_embedding, which is added to the values of each head
            times 2 sigmoid(W x'), which starts at 1; x' is the first VALUE_GATE_INPUTS features
            of x. Source: Zhou et al. 2024, arXiv:2410.17897; as an embedding table, Jordan et al.
            2024, https://github.com/KellerJordan/modded-nanogpt.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        rope: RotaryPositionalEmbedding | None = None,
        qk_norm: bool = False,
        norm_gain: bool = True,
        norm_eps: float = 1e-5,
        has_gate: bool = False,
        has_value_gate: bool = False,
        starts_at_zero: bool = False,
        ops: Ops = reference_ops,
    ) -> None:
        super().__init__()
        if d_model % n_heads:
            raise ValueError(
                f"n_heads must divide d_model: got n_heads={n_heads}, d_model={d_model}"
            )
        self.n_heads = n_heads
        self.ops = ops
        self.rope = rope
        self.qk_norm = qk_norm
        self.norm_eps = norm_eps
        self.qkv_weight = nn.Parameter(torch.empty(3, d_model, d_model))
        init_matrix(self.qkv_weight)
        self.output_proj = Linear(d_model, d_model, starts_at_zero=starts_at_zero, ops=ops)
        if qk_norm:
            d_head = d_model // n_heads
            self.q_norm = RMSNorm(d_head, norm_eps, has_gain=norm_gain, ops=ops)
            self.k_norm = RMSNorm(d_head, norm_eps, has_gain=norm_gain, ops=ops)
        # In float8, gates would be rounded too.
        self.joins_gates = ops.linear is not float8_linear
        self.gate = Linear(d_model, n_heads, starts_at_zero=True, ops=ops) if has_gate else None
        self.value_gate = None
        if has_value_gate:
            n_inputs = min(VALUE_GATE_INPUTS, d_model)
            self.value_gate = Linear(n_inputs, n_heads, starts_at_zero=True, ops=ops)
        self.register_state_dict_post_hook(_split_qkv)
        self.register_load_state_dict_pre_hook(_join_qkv)

    def forward(
        self,
        x: Float[Tensor, "... seq d_model"],
        token_positions: Int[Tensor, "... seq"] | None = None,
        *,
        cache: LayerCache | None = None,
        mask: Bool[Tensor, "... seq keys"] | None = None,
        value_embedding: Float[Tensor, "... seq d_model"] | None = None,
    ) -> Float[Tensor, "... seq d_model"]:
        joins_gates = cache is None and self.joins_gates
        q, k, v, rest = self._heads(self._projected(x, joins_gates=joins_gates), token_positions)
        if self.value_gate is not None:
            assert value_embedding is not None, "this layer adds a value embedding"
            added = rearrange(value_embedding, "... seq (head d) -> ... head seq d", d=v.shape[-1])
            gates = _gates(self.value_gate(x[..., :VALUE_GATE_INPUTS]))
            v = v + gates.transpose(-2, -3) * added
        if cache is not None:
            k, v = cache.append(k, v)
        mixed = self.ops.attention(q, k, v, mask, is_causal=True).transpose(-2, -3)
        if self.gate is not None:
            gates = rest[..., : self.n_heads] if joins_gates else self.gate(x)
            mixed = mixed * _gates(gates)
        return self.output_proj(rearrange(mixed, "... seq head d -> ... seq (head d)"))

    def _projected(self, x: Tensor, *, joins_gates: bool) -> Tensor:
        """Queries, keys and values, and the gates before their sigmoid if joins_gates.

        One product is faster for many tokens, as a product of few columns takes as long as reading
        x.
        """
        weight = rearrange(self.qkv_weight, "three d_out d_in -> (three d_out) d_in").to(x.dtype)
        if self.gate is None or not joins_gates:
            return self.ops.linear(x, weight)
        n_rows = len(weight) + self.n_heads
        n_padding = -n_rows % (_ALIGNED_ROWS if n_rows <= _MANY_ROWS else _ALIGNED_MANY_ROWS)
        rows = (weight, self.gate.weight.to(x.dtype), weight.new_zeros(n_padding, x.shape[-1]))
        return self.ops.linear(x, torch.cat(rows))

    def _heads(
        self, projected: Tensor, token_positions: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Queries and keys with QK norm and RoPE, values, and the columns after them."""
        if token_positions is not None and token_positions.ndim > 1:
            token_positions = token_positions.unsqueeze(-2)  # the same for every head
        if self.qk_norm and self.rope is not None:
            table = self.rope.table(projected.shape[-2], token_positions)
            gains = self.q_norm.weight, self.k_norm.weight
            return self.ops.qkv_norm_rope(
                projected, *table, *gains, n_heads=self.n_heads, eps=self.norm_eps
            )
        d_head = self.qkv_weight.shape[1] // self.n_heads
        q, k, v, rest = split_heads(projected, self.n_heads, d_head)
        if self.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        if self.rope is not None:
            q, k = self.rope(q, token_positions), self.rope(k, token_positions)
        return q, k, v, rest


_ALIGNED_ROWS = 16
"""Products are fastest if the number of rows is a multiple of this."""

_MANY_ROWS, _ALIGNED_MANY_ROWS = 1024, 64
"""With more than 1,024 rows, torch.compile lets those of a bfloat16 result begin at multiples of
128 bytes, or 64 numbers: a result whose rows are no multiple would be copied before it is read."""


def _gates(x: Float[Tensor, "... seq head"]) -> Float[Tensor, "... seq head 1"]:
    """Gate 2 sigmoid(x) for each position and head; 1 where x is 0."""
    return (2 * torch.sigmoid(x)).unsqueeze(-1)


def _split_qkv(
    module: nn.Module, state: dict[str, Tensor], prefix: str, local_metadata: dict[str, Any]
) -> None:
    weight = state.pop(prefix + "qkv_weight")
    for name, part in zip(("q_proj", "k_proj", "v_proj"), weight.unbind(0), strict=True):
        state[f"{prefix}{name}.weight"] = part


def _join_qkv(module: nn.Module, state: dict[str, Tensor], prefix: str, *args: object) -> None:
    names = [f"{prefix}{name}.weight" for name in ("q_proj", "k_proj", "v_proj")]
    if all(name in state for name in names):
        state[prefix + "qkv_weight"] = torch.stack([state.pop(name) for name in names])
