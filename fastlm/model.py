"""The network: a decoder-only Transformer, from parameters and the functions of an Ops table.

Level 2. Of torch.nn only Parameter, Module and ModuleList are used. Weights are float32; the
activations are in the model's compute dtype, to which each weight is cast where it is used.
"""

import math
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from fastlm.config import ModelConfig
from fastlm.functional import rope_table
from fastlm.ops import Ops, reference_ops


class Linear(nn.Module):
    """y = x W^T, without bias; W is (out_features, in_features)."""

    def __init__(self, in_features: int, out_features: int, *, ops: Ops = reference_ops) -> None:
        super().__init__()
        self.ops = ops
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        init_matrix(self.weight)

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
        init_normal(self.weight, std)

    def forward(self, token_ids: Int[Tensor, "..."]) -> Float[Tensor, "... d_model"]:
        return self.ops.embedding(token_ids, self.weight)


class RMSNorm(nn.Module):
    """fastlm.functional.rms_norm with a learned gain that starts at 1."""

    def __init__(self, d_model: int, eps: float = 1e-5, *, ops: Ops = reference_ops) -> None:
        super().__init__()
        self.ops = ops
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))

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
        if token_positions is None:
            cos, sin = self.cos[: x.shape[-2]], self.sin[: x.shape[-2]]
        else:
            cos, sin = self.cos[token_positions], self.sin[token_positions]
        return self.ops.rotate_pairs(x, cos, sin)


class SwiGLU(nn.Module):
    """W2 (SiLU(W1 x) * W3 x)."""

    def __init__(self, d_model: int, d_ff: int, *, ops: Ops = reference_ops) -> None:
        super().__init__()
        self.ops = ops
        self.w1 = Linear(d_model, d_ff, ops=ops)
        self.w2 = Linear(d_ff, d_model, ops=ops)
        self.w3 = Linear(d_model, d_ff, ops=ops)

    def forward(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
        w1, w2, w3 = (w.weight.to(x.dtype) for w in (self.w1, self.w2, self.w3))
        return self.ops.swiglu(x, w1, w2, w3)


class SiLUFeedForward(nn.Module):
    """W2 SiLU(W1 x)."""

    def __init__(self, d_model: int, d_ff: int, *, ops: Ops = reference_ops) -> None:
        super().__init__()
        self.ops = ops
        self.w1 = Linear(d_model, d_ff, ops=ops)
        self.w2 = Linear(d_ff, d_model, ops=ops)

    def forward(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
        return self.ops.silu_ffn(x, self.w1.weight.to(x.dtype), self.w2.weight.to(x.dtype))


class LayerCache:
    """Keys and values of one layer for positions seen so far, in buffers of a fixed size."""

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
        """Store new keys and values; return all of them."""
        end = self.length + k.shape[-2]
        self.keys[:, :, self.length : end] = k
        self.values[:, :, self.length : end] = v
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]


class MultiHeadSelfAttention(nn.Module):
    """Causal self-attention of n_heads heads; head h owns rows h*d_head ... of q, k and v.

    The three input projections are one parameter of shape (3, d_model, d_model), so that they are
    one matrix product; in a state dict they are q_proj, k_proj and v_proj.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        rope: RotaryPositionalEmbedding | None = None,
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
        self.qkv_weight = nn.Parameter(torch.empty(3, d_model, d_model))
        init_matrix(self.qkv_weight)
        self.output_proj = Linear(d_model, d_model, ops=ops)
        self.register_state_dict_post_hook(_split_qkv)
        self.register_load_state_dict_pre_hook(_join_qkv)

    def forward(
        self,
        x: Float[Tensor, "... seq d_model"],
        token_positions: Int[Tensor, "... seq"] | None = None,
        *,
        cache: LayerCache | None = None,
        mask: Bool[Tensor, "... seq keys"] | None = None,
    ) -> Float[Tensor, "... seq d_model"]:
        weight = rearrange(self.qkv_weight, "three d_out d_in -> (three d_out) d_in")
        qkv = self.ops.linear(x, weight.to(x.dtype))
        qkv = rearrange(
            qkv, "... seq (three head d) -> three ... head seq d", three=3, head=self.n_heads
        )
        q, k, v = qkv.unbind(0)
        if self.rope is not None:
            if token_positions is not None and token_positions.ndim > 1:
                token_positions = token_positions.unsqueeze(-2)  # the same for every head
            q, k = self.rope(q, token_positions), self.rope(k, token_positions)
        if cache is not None:
            k, v = cache.append(k, v)
        mixed = self.ops.attention(q, k, v, mask, is_causal=True)
        return self.output_proj(rearrange(mixed, "... head seq d -> ... seq (head d)"))


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


class TransformerBlock(nn.Module):
    """Attention and feed-forward part, each with a residual connection around it.

    pre-norm: z = x + Attn(Norm(x)); y = z + FFN(Norm(z)).
    post-norm: z = Norm(x + Attn(x)); y = Norm(z + FFN(z)). Without norms: both left out.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        rope: RotaryPositionalEmbedding | None = None,
        ops: Ops = reference_ops,
    ) -> None:
        super().__init__()
        self.ops = ops
        self.norm = config.norm
        self.attn = MultiHeadSelfAttention(config.d_model, config.n_heads, rope=rope, ops=ops)
        feed_forward = SwiGLU if config.ffn == "swiglu" else SiLUFeedForward
        self.ffn = feed_forward(config.d_model, config.ffn_width, ops=ops)
        if config.norm != "none":
            self.ln1 = RMSNorm(config.d_model, config.norm_eps, ops=ops)
            self.ln2 = RMSNorm(config.d_model, config.norm_eps, ops=ops)

    def forward(
        self,
        x: Float[Tensor, "... seq d_model"],
        token_positions: Int[Tensor, "... seq"] | None = None,
        *,
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "... seq d_model"]:
        if self.norm == "pre":
            mixed = self.attn(self.ln1(x), token_positions, cache=cache)
            normed, x = self.ops.add_rms_norm(mixed, x, self.ln2.weight, self.ln2.eps)
            return x + self.ffn(normed)
        if self.norm == "post":
            x = self.ln1(x + self.attn(x, token_positions, cache=cache))
            return self.ln2(x + self.ffn(x))
        x = x + self.attn(x, token_positions, cache=cache)
        return x + self.ffn(x)


class TransformerLM(nn.Module):
    """Token embedding, n_layers blocks, final norm, projection to vocab_size logits.

    Args:
        config: what the network is.
        ops: the functions that compute it; any table gives the same numbers up to rounding.
        compute_dtype: of the activations; norms, softmax and losses are float32 inside.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        ops: Ops = reference_ops,
        compute_dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.config = config
        self.ops = ops
        self.compute_dtype = compute_dtype
        embedding_std = config.d_model**-0.5 if config.tie_weights else 1.0
        self.token_embeddings = Embedding(
            config.vocab_size, config.d_model, std=embedding_std, ops=ops
        )
        rope = None
        if config.position == "rope":
            rope = RotaryPositionalEmbedding(
                config.rope_theta, config.d_head, config.context_length, ops=ops
            )
        self.layers = nn.ModuleList(
            TransformerBlock(config, rope=rope, ops=ops) for _ in range(config.n_layers)
        )
        if config.norm != "none":
            self.ln_final = RMSNorm(config.d_model, config.norm_eps, ops=ops)
        if not config.tie_weights:
            self.lm_head = Linear(config.d_model, config.vocab_size, ops=ops)
        self.register_load_state_dict_pre_hook(_drop_tied_head)

    @property
    def output_weight(self) -> Float[Tensor, "vocab_size d_model"]:
        """The matrix of the output projection: the embedding's own when tied."""
        head = self.token_embeddings if self.config.tie_weights else self.lm_head
        return head.weight

    def hidden(
        self,
        token_ids: Int[Tensor, "... seq"],
        token_positions: Int[Tensor, "... seq"] | None = None,
        *,
        caches: list[LayerCache] | None = None,
    ) -> Float[Tensor, "... seq d_model"]:
        """What the output projection is applied to, in the compute dtype."""
        length = token_ids.shape[-1]
        if token_positions is None and length > self.config.context_length:
            raise ValueError(
                f"the model reads at most context_length={self.config.context_length} tokens: "
                f"got {length}"
            )
        x = self.token_embeddings(token_ids).to(self.compute_dtype)
        for i, layer in enumerate(self.layers):
            x = layer(x, token_positions, cache=caches[i] if caches else None)
        return self.ln_final(x) if self.config.norm != "none" else x

    def forward(
        self,
        token_ids: Int[Tensor, "... seq"],
        token_positions: Int[Tensor, "... seq"] | None = None,
        *,
        caches: list[LayerCache] | None = None,
    ) -> Float[Tensor, "... seq vocab_size"]:
        """Logits, in the compute dtype.

        Args:
            token_positions: 0 ... seq - 1 when not given; each below context_length.
            caches: one per layer (new_caches); they are extended by this call.
        """
        hidden = self.hidden(token_ids, token_positions, caches=caches)
        return self.ops.linear(hidden, self.output_weight.to(hidden.dtype))

    def loss(
        self, token_ids: Int[Tensor, "... seq"], targets: Int[Tensor, "... seq"]
    ) -> Float[Tensor, ""]:
        """Mean cross-entropy in nats over the targets that are not -100, float32."""
        hidden = self.hidden(token_ids)
        return self.ops.linear_cross_entropy(hidden, self.output_weight, targets)

    def new_caches(self, batch_size: int, max_length: int) -> list[LayerCache]:
        """Empty caches for generating up to max_length positions."""
        like = self.token_embeddings.weight.to(self.compute_dtype)[:0]
        shape = (batch_size, self.config.n_heads, max_length, self.config.d_head)
        return [LayerCache(*shape, like=like) for _ in self.layers]


def _drop_tied_head(module: nn.Module, state: dict[str, Tensor], *args: object) -> None:
    """Let a checkpoint that also names lm_head.weight load into a tied model, if it is tied."""
    assert isinstance(module, TransformerLM)
    if not module.config.tie_weights or "lm_head.weight" not in state:
        return
    if not torch.equal(state["lm_head.weight"], state["token_embeddings.weight"]):
        raise ValueError(
            "lm_head.weight differs from token_embeddings.weight, but this model ties them: "
            "load it with tie_weights=False"
        )
    del state["lm_head.weight"]


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


def init_weights(model: nn.Module, seed: int) -> None:
    """Set every parameter of the model from one seed; the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, Embedding):
            init_normal(module.weight, module.std, generator=generator)
        elif isinstance(module, Linear):
            init_matrix(module.weight, generator=generator)
        elif isinstance(module, MultiHeadSelfAttention):
            init_matrix(module.qkv_weight, generator=generator)
        elif isinstance(module, RMSNorm):
            with torch.no_grad():
                module.weight.fill_(1.0)
