"""Layers of the network: linear, embedding, RMSNorm, rotary position embedding, feed-forward.

Only Parameter and Module come from torch.nn. Weights are float32; activations have the model's
compute dtype, to which each weight is cast where it is used.
"""

import contextlib
import math
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from fastlm.functional import rope_table
from fastlm.ops import Ops, reference_ops

_draws = ContextVar("draws", default=True)


@contextlib.contextmanager
def undrawn() -> Iterator[None]:
    """Leave the matrices of layers that are made in the block as they come from memory.

    Drawing takes a second per 60 million parameters: for a model that is loaded or initialised
    afterwards it would be wasted.
    """
    before = _draws.set(False)
    try:
        yield
    finally:
        _draws.reset(before)


def init_normal(weight: Tensor, std: float, *, generator: torch.Generator | None = None) -> None:
    """Fill with normal samples of mean 0, truncated at three standard deviations."""
    if not _draws.get():
        return
    with torch.no_grad():
        # Inverse transform sampling: exact, and no sample is rejected.
        edge = math.erf(3 / math.sqrt(2))
        uniform = torch.rand(weight.shape, generator=generator, dtype=torch.float64)
        values = torch.erfinv((2 * uniform - 1) * edge) * math.sqrt(2) * std
        weight.copy_(values)


def init_matrix(weight: Tensor, *, generator: torch.Generator | None = None) -> None:
    """Xavier initialisation: init_normal with std = sqrt(2 / (d_in + d_out)) for each matrix."""
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
        """Initialise the weight again, in place."""
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
        """Initialise the weight again, in place."""
        if self.std == 0:  # n-gram tables are too large to sample in float64 for nothing
            nn.init.zeros_(self.weight)
        else:
            init_normal(self.weight, self.std, generator=generator)

    def forward(self, token_ids: Int[Tensor, "..."]) -> Float[Tensor, "... d_model"]:
        return self.ops.embedding(token_ids, self.weight)


class RMSNorm(nn.Module):
    """fastlm.functional.rms_norm with a learned gain, initially 1, or without a gain."""

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
    """Rotary position embedding from a table of max_seq_len positions, not in the state dict."""

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
        """Rotate x by its positions, 0 ... seq - 1 when none are given."""
        return self.ops.rotate_pairs(x, *self.table(x.shape[-2], token_positions))

    def table(
        self, length: int, token_positions: Int[Tensor, "... seq"] | None = None
    ) -> tuple[Float[Tensor, "... seq half"], Float[Tensor, "... seq half"]]:
        """Cosine and sine for the positions, 0 ... length - 1 when none are given."""
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
    """W2 f(W1 x), where f is SiLU ("silu") or max(x, 0)^2 ("relu2")."""

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
        function = self.ops.silu_ffn if self.kind == "silu" else self.ops.relu2_ffn
        return function(x, self.w1.weight.to(x.dtype), self.w2.weight.to(x.dtype))
