"""A network trained by fastlm, for transformers: AutoModelForCausalLM with trust_remote_code=True.

This one file computes every network that fastlm trains, in plain torch. It needs nothing of fastlm;
tests of fastlm hold it to the original. Tensors have fastlm's own names.
"""

import dataclasses

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicCache
from transformers.modeling_outputs import CausalLMOutputWithPast

VALUE_GATE_INPUTS = 32
PRIME = 2_147_483_647
NGRAM_FACTORS = (1_640_531_527, 1_103_515_245)
# Name of the KV cache in the output: newer versions of transformers call it "cache".
CACHE = {"cache", "past_key_values"} & {f.name for f in dataclasses.fields(CausalLMOutputWithPast)}


class FastLMConfig(PretrainedConfig):
    """config.json: the fields of fastlm's ModelConfig, and those that transformers needs."""

    model_type = "fastlm"
    keys_to_ignore_at_inference = ("cache", "past_key_values")
    attribute_map = {  # noqa: RUF012
        "hidden_size": "d_model",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "max_position_embeddings": "context_length",
    }


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps), times a gain if there is one; float32 inside."""

    def __init__(self, width: int, eps: float, has_gain: bool) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width)) if has_gain else None

    def forward(self, x: Tensor) -> Tensor:
        weight = None if self.weight is None else self.weight.float()
        return F.rms_norm(x.float(), x.shape[-1:], weight, self.eps).to(x.dtype)


def rotate_pairs(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate each pair (x[2k], x[2k+1]) by its angle."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return turned.flatten(-2).to(x.dtype)


class Attention(nn.Module):
    """Causal self-attention with optional norms of queries and keys, gates, value embeddings."""

    def __init__(self, config: FastLMConfig, layer: int) -> None:
        super().__init__()
        d, self.n_heads, self.layer = config.d_model, config.n_heads, layer
        d_head = d // config.n_heads
        self.q_proj, self.k_proj, self.v_proj, self.output_proj = (
            nn.Linear(d, d, bias=False) for _ in range(4)
        )
        self.q_norm = self.k_norm = None
        if config.qk_norm:
            self.q_norm, self.k_norm = (
                RMSNorm(d_head, config.norm_eps, config.norm_gain) for _ in range(2)
            )
        self.gate = nn.Linear(d, self.n_heads, bias=False) if config.attention_gate else None
        self.value_gate = None
        if config.value_embeddings and (config.n_layers - 1 - layer) % 2 == 0:
            self.value_gate = nn.Linear(min(VALUE_GATE_INPUTS, d), self.n_heads, bias=False)

    def heads(self, x: Tensor) -> Tensor:
        """(batch, seq, d_model) as (batch, head, seq, d_head)."""
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)

    def forward(self, x, angles, mask, cache, value_embedding) -> Tensor:
        q, k, v = (self.heads(p(x)) for p in (self.q_proj, self.k_proj, self.v_proj))
        if self.value_gate is not None:
            gates = gates_of(self.value_gate, x[..., :VALUE_GATE_INPUTS])
            v = v + gates * self.heads(value_embedding)
        if self.q_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if angles is not None:
            q, k = rotate_pairs(q, *angles), rotate_pairs(k, *angles)
        if cache is not None:
            k, v = cache.update(k, v, self.layer)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        if self.gate is not None:
            mixed = mixed * gates_of(self.gate, x)
        return self.output_proj(mixed.transpose(1, 2).flatten(-2))


def gates_of(projection: nn.Linear, x: Tensor) -> Tensor:
    """Gate for each head and position."""
    return (2 * torch.sigmoid(projection(x))).mT.unsqueeze(-1)


class FeedForward(nn.Module):
    """W2 (SiLU(W1 x) * W3 x), W2 SiLU(W1 x), or W2 max(W1 x, 0)^2."""

    def __init__(self, config: FastLMConfig) -> None:
        super().__init__()
        self.kind = config.ffn
        self.w1 = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.w2 = nn.Linear(config.d_ff, config.d_model, bias=False)
        if self.kind == "swiglu":
            self.w3 = nn.Linear(config.d_model, config.d_ff, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.w1(x)
        if self.kind == "relu2":
            return self.w2(inner.clamp(min=0).square())
        return self.w2(F.silu(inner) * self.w3(x) if self.kind == "swiglu" else F.silu(inner))


class Block(nn.Module):
    """Attention and feed-forward layer, with pre-norm, post-norm or no norm."""

    def __init__(self, config: FastLMConfig, layer: int) -> None:
        super().__init__()
        self.norm = config.norm
        self.attn, self.ffn = Attention(config, layer), FeedForward(config)
        if self.norm != "none":
            self.ln1, self.ln2 = (
                RMSNorm(config.d_model, config.norm_eps, config.norm_gain) for _ in range(2)
            )

    def forward(self, x: Tensor, *arguments) -> Tensor:
        if self.norm == "pre":
            x = x + self.attn(self.ln1(x), *arguments)
            return x + self.ffn(self.ln2(x))
        if self.norm == "post":
            x = self.ln1(x + self.attn(x, *arguments))
            return self.ln2(x + self.ffn(x))
        x = x + self.attn(x, *arguments)
        return x + self.ffn(x)


class Ngrams(nn.Module):
    """Hashed embeddings of the last two and the last three tokens."""

    def __init__(self, config: FastLMConfig) -> None:
        super().__init__()
        self.vocab_size, self.n_rows = config.vocab_size, config.ngram_rows
        width, d = config.ngram_width, config.d_model
        self.tables = nn.ModuleList(nn.Embedding(self.n_rows, width) for _ in NGRAM_FACTORS)
        self.projections = nn.ModuleList(
            nn.Linear(width, d, bias=False) for _ in NGRAM_FACTORS if width != d
        )

    def forward(self, ids: Tensor) -> Tensor:
        key, added = ids.long(), 0.0
        for back, (table, factor) in enumerate(
            zip(self.tables, NGRAM_FACTORS, strict=True), start=1
        ):
            before = F.pad(ids, (back, 0), value=self.vocab_size)[:, : ids.shape[1]]
            key = key * (self.vocab_size + 1) + before
            rows = table(key % PRIME * factor % PRIME % self.n_rows)
            added = added + (self.projections[back - 1](rows) if self.projections else rows)
        return added


class FastLMForCausalLM(PreTrainedModel, GenerationMixin):
    """Logits of the next token, the loss if labels are given, and generate()."""

    config_class = FastLMConfig
    base_model_prefix = "model"
    _supports_sdpa = True
    _no_split_modules = ("Block",)

    def __init__(self, config: FastLMConfig) -> None:
        super().__init__(config)
        n, d = config.n_layers, config.d_model
        self.token_embeddings = nn.Embedding(config.vocab_size, d)
        self.layers = nn.ModuleList(Block(config, i) for i in range(n))
        self.value_embeddings = nn.ModuleDict(
            {
                str(i): nn.Embedding(config.vocab_size, d)
                for i, layer in enumerate(self.layers)
                if layer.attn.value_gate is not None
            }
        )
        self.ngrams = Ngrams(config) if config.ngram_rows else None
        scalars = {
            "residual_scalars": (config.residual_scalars, n),
            "x0_scalars": (config.x0_scalars, n),
            "skip_scalar": (config.unet_skip, 1),
            "backout_scalar": (config.backout, 1),
        }
        for name, (is_there, size) in scalars.items():
            setattr(self, name, nn.Parameter(torch.zeros(size)) if is_there else None)
        has_norm = config.norm != "none"
        self.ln_final = RMSNorm(d, config.norm_eps, config.norm_gain) if has_norm else None
        self.lm_head = None if config.tied_head else nn.Linear(d, config.vocab_size, bias=False)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Do nothing: the weights are always loaded."""

    def get_input_embeddings(self) -> nn.Embedding:
        return self.token_embeddings

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.token_embeddings = value

    def get_output_embeddings(self) -> nn.Linear | None:
        return self.lm_head

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: DynamicCache | None = None,
        use_cache: bool | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int = 0,
        cache: DynamicCache | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **ignored,
    ) -> CausalLMOutputWithPast:
        """Forward pass of a causal language model, as transformers defines it.

        Args:
            attention_mask: (batch, keys), 0 at padding.
            past_key_values: KV cache of earlier calls; networks with n-gram tables have none.
            cache: the same, by the name that newer versions of transformers give it.
            num_items_in_batch: number of labels of all micro-batches of a step. The Trainer gives
                it, and adds up the losses: each is then the sum over its labels, divided by it.
        """
        cache = past_key_values if cache is None else cache
        if use_cache and cache is None and self.ngrams is None:
            cache = DynamicCache()
        n_before = 0 if cache is None else cache.get_seq_length()
        if n_before and self.ngrams is not None:
            raise ValueError("n-gram tables look at earlier tokens: give use_cache=False")
        length, device = input_ids.shape[1], input_ids.device
        queries = torch.arange(n_before, n_before + length, device=device)
        mask = torch.arange(n_before + length, device=device) <= queries[:, None]
        if attention_mask is not None:
            mask = mask & attention_mask[:, None, None, : n_before + length].bool()
            # A padded query sees itself: a row without any key would be NaN.
            mask = mask | torch.eye(
                length, n_before + length, dtype=torch.bool, device=device
            ).roll(n_before, dims=1)
        if position_ids is None:
            position_ids = queries[None]
        hidden = self.hidden(input_ids, attention_mask, position_ids, mask, cache)
        hidden = hidden[:, -logits_to_keep:] if logits_to_keep else hidden
        head = self.token_embeddings if self.lm_head is None else self.lm_head
        logits = F.linear(hidden, head.weight)
        if (softcap := self.config.logit_softcap) is not None:
            logits = softcap * torch.tanh(logits / softcap)
        loss = None
        if labels is not None:
            pairs = logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten()
            if num_items_in_batch is None:
                loss = F.cross_entropy(*pairs)
            else:
                loss = F.cross_entropy(*pairs, reduction="sum")
                loss = loss / torch.as_tensor(num_items_in_batch, device=loss.device)
        return CausalLMOutputWithPast(loss=loss, logits=logits, **dict.fromkeys(CACHE, cache))

    def hidden(self, ids, attention_mask, position_ids, mask, cache) -> Tensor:
        """Input of the output projection."""
        config = self.config
        angles = None
        if config.position == "rope":
            d_head = config.d_model // config.n_heads
            steps = torch.arange(0, d_head, 2, dtype=torch.float64, device="cpu")
            rates = float(config.rope_theta) ** (-steps / d_head)
            turned = position_ids.to("cpu", torch.float64)[:, None, :, None] * rates
            angles = [f(turned).float().to(ids.device) for f in (torch.cos, torch.sin)]
        x = self.token_embeddings(ids)
        if self.ngrams is not None:
            seen = ids
            if attention_mask is not None:  # padding counts as nothing before the first token
                seen = ids.masked_fill(attention_mask[:, -ids.shape[1] :] == 0, config.vocab_size)
            x = x + self.ngrams(seen)
        if config.embedding_norm:
            x = F.rms_norm(x.float(), x.shape[-1:], None, config.norm_eps).to(x.dtype)
        x0 = skipped = taken_off = x
        n = config.n_layers
        for i, layer in enumerate(self.layers):
            if config.residual_scalars:
                x = x * self.residual_scalars[i]
            if config.x0_scalars:
                x = x + x0 * self.x0_scalars[i]
            if config.unet_skip and i == n - 1 - n // 4:
                x = x + skipped * self.skip_scalar
            values = self.value_embeddings[str(i)](ids) if str(i) in self.value_embeddings else None
            x = layer(x, angles, mask, cache, values)
            skipped = x if i == n // 4 else skipped
            taken_off = x if i == n // 2 else taken_off
        if config.backout:
            x = x - taken_off * self.backout_scalar
        return x if self.ln_final is None else self.ln_final(x)
