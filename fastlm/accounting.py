"""Parameters, FLOPs, memory and MFU from a ModelConfig alone.

Level 1. A matrix product of (m, n) and (n, p) costs 2 m n p FLOPs; the backward pass costs twice
the forward pass. Norms, softmax and other element-wise work are not counted.
"""

from fastlm.config import VALUE_GATE_INPUTS, ModelConfig

PEAK_FLOPS = {
    # Dense bf16 tensor-core peaks in FLOP/s, from NVIDIA's datasheets of each card.
    "A100": 312e12,
    "H100 PCIe": 756.5e12,
    "H100": 989.5e12,
    "H200": 989.5e12,
    "B200": 2250e12,
    "L4": 121e12,
    "L40S": 362e12,
    "RTX 4090": 165.2e12,
    "RTX 3090": 71e12,
}


def count_parameters(config: ModelConfig) -> int:
    """Trainable parameters; tied weights count once."""
    d, f = config.d_model, config.ffn_width
    n_ffn_matrices = 3 if config.ffn == "swiglu" else 2
    per_layer = 4 * d * d + n_ffn_matrices * d * f
    norms = 0
    if config.norm != "none" and config.norm_gain:
        per_layer += 2 * d
        norms = d
    if config.qk_norm and config.norm_gain:
        per_layer += 2 * config.d_head
    per_layer += config.attention_gate * d * config.n_heads
    per_layer += config.residual_scalars + config.x0_scalars
    tables = config.vocab_size * d * (1 if config.tie_weights else 2)
    value_gate = min(VALUE_GATE_INPUTS, d) * config.n_heads
    tables += n_value_embeddings(config) * (config.vocab_size * d + value_gate)
    width = config.ngram_row_width
    tables += 2 * config.ngram_rows * width
    if config.ngram_rows > 0 and width != d:
        tables += 2 * width * d
    scalars = config.unet_skip + config.backout
    return config.n_layers * per_layer + norms + tables + scalars


def n_value_embeddings(config: ModelConfig) -> int:
    """Layers that add a table of the tokens to their values."""
    return sum(config.has_value_embedding(i) for i in range(config.n_layers))


def forward_flops(config: ModelConfig, seq_len: int) -> int:
    """FLOPs of the forward pass of one sequence: L (8 T D^2 + 4 T^2 D + 6 T D F) + 2 T D V.

    Attention counts all T^2 pairs, also those that a causal mask hides. A feed-forward part without
    a gate has 4 T D F. Gates of heads and projections of n-grams add theirs.
    """
    t, d, f = seq_len, config.d_model, config.ffn_width
    n_ffn_matrices = 3 if config.ffn == "swiglu" else 2
    per_layer = 8 * t * d * d + 4 * t * t * d + 2 * n_ffn_matrices * t * d * f
    per_layer += config.attention_gate * 2 * t * d * config.n_heads
    value_gates = n_value_embeddings(config) * 2 * t * min(VALUE_GATE_INPUTS, d) * config.n_heads
    width = config.ngram_row_width
    ngrams = 4 * t * width * d if config.ngram_rows > 0 and width != d else 0
    return config.n_layers * per_layer + value_gates + ngrams + 2 * t * d * config.vocab_size


def training_flops_per_token(config: ModelConfig, seq_len: int) -> float:
    """Forward and backward FLOPs of one token in a sequence of seq_len."""
    return 3 * forward_flops(config, seq_len) / seq_len


def training_memory(config: ModelConfig, batch_size: int, *, bf16: bool = False) -> dict[str, int]:
    """Bytes that a training step holds at its peak, by part; an estimate by formula.

    Weights, gradients and two AdamW moments are float32: 16 bytes a parameter. Activations are
    what the backward pass of each matrix product, norm and attention reads, plus float32 logits
    and their gradient.
    """
    n_parameters = count_parameters(config)
    tokens = batch_size * config.context_length
    size = 2 if bf16 else 4
    # Per layer: two norm inputs and outputs, q, k, v, rotated q and k, attention output, projection
    # input; the feed-forward part keeps its two inner products, their activation and the product.
    per_layer = tokens * size * (10 * config.d_model + 4 * config.ffn_width)
    logits = 2 * tokens * config.vocab_size * 4
    return {
        "parameters": 4 * n_parameters,
        "gradients": 4 * n_parameters,
        "optimizer": 8 * n_parameters,
        "activations": config.n_layers * per_layer + logits,
    }


def peak_flops(device_name: str) -> float | None:
    """Dense bf16 peak in FLOP/s of a chip by the name its driver gives; None if not known."""
    matches = [name for name in PEAK_FLOPS if all(part in device_name for part in name.split())]
    return PEAK_FLOPS[max(matches, key=len)] if matches else None


if __name__ == "__main__":
    from fastlm.accounting_cli import main
    from fastlm.cli import run

    run(main)
