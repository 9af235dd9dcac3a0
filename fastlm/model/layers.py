"""What the network is made of: projections, tables, norms, positions, feed-forward parts.

Of torch.nn only Parameter and Module are used. Weights are float32; the activations are in
the model's compute dtype, to which each weight is cast where it is used.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from fastlm.functional import rope_table
from fastlm.ops import Ops, reference_ops


def init_normal(weight: Tensor, std: float, *, generator: torch.Generator | None = None) -> None:
    """Fill with a normal distribution of mean 0, cut at three standard deviations."""
    with torch.no_grad():
        # Inverse transform of uniform numbers between the cuts: exact, and no draw is rejected.
        edge = math.erf(3 / math.sqrt(2))
        uniform = torch.rand(weight.shape, generator=generator, dtype=torch.float64)
        values = torch.erfinv((2 * uniform - 1) * edge) * math.sqrt(2) * std
        weight.copy_(values)


def init_matrix(weight: Tensor, *, generator: torch.Generator | None = None) -> None:
    """Normal with variance 2 / (d_in + d_out) for each (d_out, d_in) matrix in weight."""
    d_out, d_in = weight.shape[-2:]
    init_normal(weight, math.sqrt(2 / (d_in + d_out)), generator=generator)


class Linear(nn.Module):
    """y = x W^T, without bias; W is (out_features, in_features)."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        starts_at_zero: bool = False,
        ops: Ops = reference_ops,
    ) -> None:
        super().__init__()
        self.ops = ops
        self.starts_at_zero = starts_at_zero
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.init()

    def init(self, generator: torch.Generator | None = None) -> None:
        """Fill the weight anew."""
        if self.starts_at_zero:
            nn.init.zeros_(self.weight)
        else:
            init_matrix(self.weight, generator=generator)

    def forward(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_out"]:
        return self.ops.linear(x, self.weight.to(x.dtype))


class Embedding(nn.Module):
    """Row lookup in W (num_embeddings, embedding_dim)."""

    def __init__(
        self, num_embeddings: int, embedding_dim: int, *, std: float = 1.0, ops: Ops = reference_ops
    ) -> None:
        super().__init__()
        self.ops = ops
        self.std = std
        self.weight = nn.Parameter(torch.empty(num_embeddings, embedding_dim))
        self.init()

    def init(self, generator: torch.Generator | None = None) -> None:
        """Fill the weight anew."""
        if self.std == 0:  # such tables may be large
            nn.init.zeros_(self.weight)
        else:
            init_normal(self.weight, self.std, generator=generator)

    def forward(self, token_ids: Int[Tensor, "..."]) -> Float[Tensor, "... d_model"]:
        return self.ops.embedding(token_ids, self.weight)


class RMSNorm(nn.Module):
    """fastlm.functional.rms_norm with a learned gain that starts at 1, or without any."""

    def __init__(
        self, d_model: int, eps: float = 1e-5, *, has_gain: bool = True, ops: Ops = reference_ops
    ) -> None:
        super().__init__()
        self.ops = ops
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model)) if has_gain else None

    def forward(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
        return self.ops.rms_norm(x, self.weight, self.eps)


class RotaryPositionalEmbedding(nn.Module):
    """RoPE from a table of max_seq_len positions, made once and never saved."""

    cos: Tensor
    sin: Tensor

    def __init__(
        self, theta: float, d_k: int, max_seq_len: int, *, ops: Ops = reference_ops
    ) -> None:
        super().__init__()
        self.ops = ops
        cos, sin = rope_table(torch.arange(max_seq_len), d_k, theta)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(
        self,
        x: Float[Tensor, "... seq d_k"],
        token_positions: Int[Tensor, "... seq"] | None = None,
    ) -> Float[Tensor, "... seq d_k"]:
        """Turn x by its positions; without any, by 0 ... seq - 1."""
        return self.ops.rotate_pairs(x, *self.table(x.shape[-2], token_positions))

    def table(
        self, length: int, token_positions: Int[Tensor, "... seq"] | None = None
    ) -> tuple[Float[Tensor, "... seq half"], Float[Tensor, "... seq half"]]:
        """Cosine and sine of the positions; of 0 ... length - 1 without any."""
        if token_positions is None:
            return self.cos[:length], self.sin[:length]
        return self.cos[token_positions], self.sin[token_positions]


class SwiGLU(nn.Module):
    """W2 (SiLU(W1 x) * W3 x)."""

    def __init__(
        self, d_model: int, d_ff: int, *, starts_at_zero: bool = False, ops: Ops = reference_ops
    ) -> None:
        super().__init__()
        self.ops = ops
        self.w1 = Linear(d_model, d_ff, ops=ops)
        self.w2 = Linear(d_ff, d_model, starts_at_zero=starts_at_zero, ops=ops)
        self.w3 = Linear(d_model, d_ff, ops=ops)

    def forward(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
        w1, w2, w3 = (w.weight.to(x.dtype) for w in (self.w1, self.w2, self.w3))
        return self.ops.swiglu(x, w1, w2, w3)


class PlainFeedForward(nn.Module):
    """W2 f(W1 x), with f of the kind."""

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        *,
        kind: Literal["silu", "relu2"],
        starts_at_zero: bool = False,
        ops: Ops = reference_ops,
    ) -> None:
        super().__init__()
        self.ops = ops
        self.kind = kind
        self.w1 = Linear(d_model, d_ff, ops=ops)
        self.w2 = Linear(d_ff, d_model, starts_at_zero=starts_at_zero, ops=ops)

    def forward(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
        if self.kind == "silu":
            return self.ops.silu_ffn(x, self.w1.weight.to(x.dtype), self.w2.weight.to(x.dtype))
        return self.w2(self.ops.relu2(self.w1(x)))
