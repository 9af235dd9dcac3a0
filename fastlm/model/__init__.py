"""The network: a decoder-only Transformer, built on the functions of an Ops table.

With the default ModelConfig it is the plain network: pre-norm, RoPE, SwiGLU.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fastlm.config import ModelConfig
from fastlm.model.attention import LayerCache, MultiHeadSelfAttention
from fastlm.model.layers import (
    Embedding,
    Linear,
    PlainFeedForward,
    RMSNorm,
    RotaryPositionalEmbedding,
    SwiGLU,
    init_matrix,
)
from fastlm.model.ngrams import NGRAM_LENGTHS, NgramEmbedding
from fastlm.ops import Ops, reference_ops


class TransformerBlock(nn.Module):
    """Attention and feed-forward layer, each with a residual connection around it.

    pre-norm: z = x + Attn(Norm(x)); y = z + FFN(Norm(z)).
    post-norm: z = Norm(x + Attn(x)); y = Norm(z + FFN(z)).
    none: z = x + Attn(x); y = z + FFN(z).
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        rope: RotaryPositionalEmbedding | None = None,
        has_value_embedding: bool = False,
        ops: Ops = reference_ops,
    ) -> None:
        super().__init__()
        self.ops = ops
        self.norm = config.norm
        self.attn = MultiHeadSelfAttention(
            config.d_model,
            config.n_heads,
            rope=rope,
            qk_norm=config.qk_norm,
            norm_gain=config.norm_gain,
            norm_eps=config.norm_eps,
            has_gate=config.attention_gate,
            has_value_gate=has_value_embedding,
            starts_at_zero=config.zero_init,
            ops=ops,
        )
        width, zero = config.ffn_width, config.zero_init
        if config.ffn == "swiglu":
            self.ffn: nn.Module = SwiGLU(config.d_model, width, starts_at_zero=zero, ops=ops)
        else:
            self.ffn = PlainFeedForward(
                config.d_model, width, kind=config.ffn, starts_at_zero=zero, ops=ops
            )
        if config.norm != "none":
            self.ln1, self.ln2 = (
                RMSNorm(config.d_model, config.norm_eps, has_gain=config.norm_gain, ops=ops)
                for _ in range(2)
            )

    def forward(
        self,
        x: Float[Tensor, "... seq d_model"],
        token_positions: Int[Tensor, "... seq"] | None = None,
        *,
        cache: LayerCache | None = None,
        value_embedding: Float[Tensor, "... seq d_model"] | None = None,
    ) -> Float[Tensor, "... seq d_model"]:
        read = self.ln1(x) if self.norm == "pre" else x
        mixed = self.attn(read, token_positions, cache=cache, value_embedding=value_embedding)
        if self.norm == "pre":
            normed, x = self.ops.add_rms_norm(mixed, x, self.ln2.weight, self.ln2.eps)
            return x + self.ffn(normed)
        if self.norm == "post":
            x = self.ln1(x + mixed)
            return self.ln2(x + self.ffn(x))
        x = x + mixed
        return x + self.ffn(x)


class TransformerLM(nn.Module):
    """Token embedding, n_layers blocks, final norm, projection to vocab_size logits.

    Args:
        config: the architecture.
        ops: the functions that compute it; all tables agree up to rounding.
        compute_dtype: dtype of the activations; norms, softmax and losses use float32 inside.
        checkpoint_activations: each block saves only its input and recomputes its activations in
            the backward pass: a third more compute, activation memory of about one block.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        ops: Ops = reference_ops,
        compute_dtype: torch.dtype = torch.float32,
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__()
        self.config = config
        self.ops = ops
        self.compute_dtype = compute_dtype
        self.checkpoint_activations = checkpoint_activations
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
            TransformerBlock(
                config, rope=rope, has_value_embedding=config.has_value_embedding(i), ops=ops
            )
            for i in range(config.n_layers)
        )
        self.value_embeddings = nn.ModuleDict(
            {
                str(i): Embedding(
                    config.vocab_size, config.d_model, std=config.d_model**-0.5, ops=ops
                )
                for i in range(config.n_layers)
                if config.has_value_embedding(i)
            }
        )
        self.ngrams = NgramEmbedding(config, ops=ops) if config.ngram_rows > 0 else None
        if config.residual_scalars:
            self.residual_scalars = nn.Parameter(torch.empty(config.n_layers))
        if config.x0_scalars:
            self.x0_scalars = nn.Parameter(torch.empty(config.n_layers))
        if config.unet_skip:
            self.skip_scalar = nn.Parameter(torch.empty(1))
        if config.backout:
            self.backout_scalar = nn.Parameter(torch.empty(1))
        self.init_scalars()
        if config.norm != "none":
            self.ln_final = RMSNorm(
                config.d_model, config.norm_eps, has_gain=config.norm_gain, ops=ops
            )
        if not config.tie_weights:
            self.lm_head = Linear(config.d_model, config.vocab_size, ops=ops)
        self.register_load_state_dict_pre_hook(_drop_tied_head)

    @torch.no_grad()
    def init_scalars(self) -> None:
        """Set the learned scalars between the layers to their initial values."""
        n, config = self.config.n_layers, self.config
        if config.residual_scalars:
            self.residual_scalars.copy_(torch.linspace(1.15, 1.05, n))
        if config.x0_scalars:
            self.x0_scalars.copy_(torch.linspace(0.20, 0.05, n))
        if config.unet_skip:
            self.skip_scalar.zero_()
        if config.backout:
            self.backout_scalar.zero_()

    @property
    def output_weight(self) -> Float[Tensor, "vocab_size d_model"]:
        """Weight of the output projection; the embedding matrix when weights are tied."""
        head = self.token_embeddings if self.config.tie_weights else self.lm_head
        return head.weight

    def hidden(
        self,
        token_ids: Int[Tensor, "... seq"],
        token_positions: Int[Tensor, "... seq"] | None = None,
        *,
        caches: "Caches | None" = None,
        ngram_rows: Sequence[Float[Tensor, "... seq width"]] | None = None,
    ) -> Float[Tensor, "... seq d_model"]:
        """Input of the output projection, in the compute dtype."""
        length = token_ids.shape[-1]
        if token_positions is None and length > self.config.context_length:
            raise ValueError(
                f"the model reads at most context_length={self.config.context_length} tokens: "
                f"got {length}"
            )
        x = self._embedded(token_ids, caches, ngram_rows)
        x0 = x
        # The U-net skip adds an early layer's output; backout subtracts the middle layer's.
        n_layers = len(self.layers)
        skip_from, skip_to, middle = n_layers // 4, n_layers - 1 - n_layers // 4, n_layers // 2
        skipped = taken_off = x
        for i in range(n_layers):
            if self.config.residual_scalars:
                x = x * self.residual_scalars[i].to(x.dtype)
            if self.config.x0_scalars:
                x = x + x0 * self.x0_scalars[i].to(x.dtype)
            if self.config.unet_skip and i == skip_to:
                x = x + skipped * self.skip_scalar.to(x.dtype)
            arguments = (i, x, token_ids, token_positions, caches.layers[i] if caches else None)
            if self.checkpoint_activations and torch.is_grad_enabled():
                # Blocks use no random numbers, so the RNG state need not be saved.
                x = checkpoint(
                    self._block, *arguments, use_reentrant=False, preserve_rng_state=False
                )
            else:
                x = self._block(*arguments)
            skipped = x if i == skip_from else skipped
            taken_off = x if i == middle else taken_off
        if self.config.backout:
            x = x - taken_off * self.backout_scalar.to(x.dtype)
        return self.ln_final(x) if self.config.norm != "none" else x

    def _block(
        self,
        i: int,
        x: Float[Tensor, "... seq d_model"],
        token_ids: Int[Tensor, "... seq"],
        token_positions: Int[Tensor, "... seq"] | None,
        cache: LayerCache | None,
    ) -> Float[Tensor, "... seq d_model"]:
        value_embedding = None
        if str(i) in self.value_embeddings:
            value_embedding = self.value_embeddings[str(i)](token_ids).to(x.dtype)
        result: Tensor = self.layers[i](
            x, token_positions, cache=cache, value_embedding=value_embedding
        )
        return result

    def _embedded(
        self,
        token_ids: Int[Tensor, "... seq"],
        caches: "Caches | None",
        ngram_rows: Sequence[Tensor] | None,
    ) -> Float[Tensor, "... seq d_model"]:
        x = self.token_embeddings(token_ids).to(self.compute_dtype)
        if self.ngrams is not None:
            if ngram_rows is None:
                indices = self.ngrams.indices(token_ids, caches.last_ids if caches else None)
                ngram_rows = self.ngrams.rows(indices)
            x = x + self.ngrams(ngram_rows, x.dtype)
        if caches is not None:
            caches.remember(token_ids)
        return self.ops.rms_norm(x, None, self.config.norm_eps) if self.config.embedding_norm else x

    def forward(
        self,
        token_ids: Int[Tensor, "... seq"],
        token_positions: Int[Tensor, "... seq"] | None = None,
        *,
        caches: "Caches | None" = None,
    ) -> Float[Tensor, "... seq vocab_size"]:
        """Logits, in the compute dtype.

        Args:
            token_positions: 0 ... seq - 1 when not given; each below context_length.
            caches: from new_caches; this call extends them.
        """
        hidden = self.hidden(token_ids, token_positions, caches=caches)
        logits = self.ops.linear(hidden, self.output_weight.to(hidden.dtype))
        softcap = self.config.logit_softcap
        return logits if softcap is None else softcap * torch.tanh(logits / softcap)

    def loss(
        self,
        token_ids: Int[Tensor, "... seq"],
        targets: Int[Tensor, "... seq"],
        ngram_rows: Sequence[Float[Tensor, "... seq width"]] | None = None,
    ) -> Float[Tensor, ""]:
        """Mean cross-entropy in nats over the targets that are not -100, float32.

        Args:
            ngram_rows: rows of the n-gram tables for these tokens, looked up in advance so that
                gradients are computed for these rows instead of whole tables.
        """
        hidden = self.hidden(token_ids, ngram_rows=ngram_rows)
        softcap = self.config.logit_softcap
        options = {} if softcap is None else {"softcap": softcap}
        return self.ops.linear_cross_entropy(hidden, self.output_weight, targets, **options)

    def new_caches(self, batch_size: int, max_length: int) -> "Caches":
        """Empty caches for generating up to max_length positions."""
        like = self.token_embeddings.weight.to(self.compute_dtype)[:0]
        shape = (batch_size, self.config.n_heads, max_length, self.config.d_head)
        return Caches([LayerCache(*shape, like=like) for _ in self.layers])


class Caches:
    """State of generation: the KV cache of each layer, and the last ids for n-gram lookups."""

    def __init__(self, layers: list[LayerCache]) -> None:
        self.layers = layers
        self.last_ids: Int[Tensor, "batch n"] | None = None

    def remember(self, token_ids: Int[Tensor, "batch seq"]) -> None:
        """Keep the last tokens, as many as the longest n-gram looks back."""
        seen = token_ids if self.last_ids is None else torch.cat([self.last_ids, token_ids], dim=-1)
        self.last_ids = seen[..., -NGRAM_LENGTHS[-1] + 1 :]


def _drop_tied_head(module: nn.Module, state: dict[str, Tensor], *args: object) -> None:
    """Let a tied model load a checkpoint with an lm_head.weight that equals its embedding."""
    assert isinstance(module, TransformerLM)
    if not module.config.tie_weights or "lm_head.weight" not in state:
        return
    if not torch.equal(state["lm_head.weight"], state["token_embeddings.weight"]):
        raise ValueError(
            "lm_head.weight differs from token_embeddings.weight, but this model ties them: "
            "load it with tie_weights=False"
        )
    del state["lm_head.weight"]


def init_weights(model: nn.Module, seed: int) -> None:
    """Initialise every parameter from one seed, with the same values on every device.

    It must not be called inside undrawn().
    """
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, Embedding | Linear):
            module.init(generator)
        elif isinstance(module, MultiHeadSelfAttention):
            init_matrix(module.qkv_weight, generator=generator)
        elif isinstance(module, RMSNorm) and module.weight is not None:
            nn.init.ones_(module.weight)
        elif isinstance(module, TransformerLM):
            module.init_scalars()
