"""Parameters and FLOPs from a configuration alone.

A matrix product of (m, n) and (n, p) costs 2 m n p FLOPs; the backward pass costs twice the forward
pass. Norms, softmax and other element-wise operations are not counted, nor is the recomputation of
activation checkpointing: FLOPs are the model's.
"""

from fastlm.config import VALUE_GATE_INPUTS, ModelConfig


def _gpt2(n_layers: int, d_model: int, n_heads: int) -> ModelConfig:
    return ModelConfig(
        vocab_size=50_257,
        context_length=1024,
        n_layers=n_layers,
        d_model=d_model,
        n_heads=n_heads,
        d_ff=4 * d_model,
        tie_weights=False,
    )


GPT2 = {
    "gpt2-small": _gpt2(12, 768, 12),
    "gpt2-medium": _gpt2(24, 1024, 16),
    "gpt2-large": _gpt2(36, 1280, 20),
    "gpt2-xl": _gpt2(48, 1600, 25),
}
"""Networks of GPT-2's sizes, but with SwiGLU, RoPE and an untied output projection."""

ADAMW_FLOPS_PER_PARAMETER = 14
"""FLOPs of AdamW per parameter: first moment 3, second moment 4, weight decay 2, and 5 for the
root, epsilon, the division, the learning rate and the subtraction."""


def parameters_by_part(config: ModelConfig) -> dict[str, int]:
    """Trainable parameters by part, without empty parts; tied weights count as the embedding."""
    d, n_layers = config.d_model, config.n_layers
    ffn = (3 if config.ffn == "swiglu" else 2) * d * config.ffn_width
    norms = 0
    if config.norm_gain:
        norms += (2 * n_layers + 1) * d if config.norm != "none" else 0
        norms += n_layers * 2 * config.d_head if config.qk_norm else 0
    gates = n_layers * config.attention_gate * d * config.n_heads
    gates += n_value_embeddings(config) * min(VALUE_GATE_INPUTS, d) * config.n_heads
    scalars = n_layers * (config.residual_scalars + config.x0_scalars)
    scalars += config.unet_skip + config.backout
    width = config.ngram_row_width
    projections = 2 * width * d if config.ngram_rows > 0 and width != d else 0
    parts = {
        "token embedding": config.vocab_size * d,
        "attention": n_layers * 4 * d * d,
        "feed-forward": n_layers * ffn,
        "norms": norms,
        "gates": gates,
        "scalars": scalars,
        "value embeddings": n_value_embeddings(config) * config.vocab_size * d,
        "n-gram tables": 2 * config.ngram_rows * width + projections,
        "output head": 0 if config.tie_weights else config.vocab_size * d,
    }
    return {part: n for part, n in parts.items() if n}


def count_parameters(config: ModelConfig) -> int:
    """Number of trainable parameters; tied weights count once."""
    return sum(parameters_by_part(config).values())


def n_value_embeddings(config: ModelConfig) -> int:
    """Number of layers that add a value embedding."""
    return sum(config.has_value_embedding(i) for i in range(config.n_layers))


def forward_flops_by_part(config: ModelConfig, seq_len: int) -> dict[str, int]:
    """FLOPs of the forward pass of one sequence, by part, without empty parts.

    Attention counts all T^2 pairs, including those that the causal mask hides.
    """
    t, d, f, h = seq_len, config.d_model, config.ffn_width, config.n_heads
    n_layers, gate = config.n_layers, config.attention_gate * 2 * t * d * h
    value_gate = 2 * t * min(VALUE_GATE_INPUTS, d) * h
    width = config.ngram_row_width
    parts = {
        "attention: projections": n_layers * 8 * t * d * d,
        "attention: scores and values": n_layers * 4 * t * t * d,
        "feed-forward": n_layers * (6 if config.ffn == "swiglu" else 4) * t * d * f,
        "gates": n_layers * gate + n_value_embeddings(config) * value_gate,
        "n-gram projections": 4 * t * width * d if config.ngram_rows > 0 and width != d else 0,
        "output head": 2 * t * d * config.vocab_size,
    }
    return {part: n for part, n in parts.items() if n}


def forward_flops(config: ModelConfig, seq_len: int) -> int:
    """FLOPs of the forward pass of one sequence: L (8 T D^2 + 4 T^2 D + 6 T D F) + 2 T D V.

    A feed-forward layer without a gate has 4 T D F. Attention gates and n-gram projections come on
    top.
    """
    return sum(forward_flops_by_part(config, seq_len).values())


def training_flops_per_token(config: ModelConfig, seq_len: int) -> float:
    """Forward and backward FLOPs per token of a sequence of seq_len tokens."""
    return 3 * forward_flops(config, seq_len) / seq_len


def adamw_flops(config: ModelConfig) -> int:
    """FLOPs of an AdamW step on all parameters; negligible beside forward and backward."""
    return ADAMW_FLOPS_PER_PARAMETER * count_parameters(config)
