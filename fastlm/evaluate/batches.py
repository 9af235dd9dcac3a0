"""The number of windows of a validation that fit the memory at once."""

import torch

from fastlm.accounting import count_parameters, largest_batch
from fastlm.config import ModelConfig
from fastlm.devices.hardware import free_memory

MARGIN_SHARE = 0.2
"""Share of the free memory that stays free, for what the formula omits."""


def forward_memory(
    config: ModelConfig, n_windows: int, *, context_length: int, bf16: bool = False
) -> int:
    """Bytes that a validation of n_windows at once takes at its peak beside the parameters.

    It is an upper bound: the widest of the network's layers, or the logits with three float32
    tensors as large, which the loss makes of them.
    """
    size = 2 if bf16 else 4
    d, f, v = config.d_model, config.ffn_width, config.vocab_size
    # On a CPU, attention may hold three float32 matrices of scores.
    layer = max(4 * f * size, 12 * config.n_heads * context_length) + 12 * d * 4
    kept = config.n_layers * d * size if config.unet_skip or config.backout else 0
    head = d * 4 + v * (size + 12)
    casts = 2 * count_parameters(config) if bf16 else 0
    return casts + n_windows * context_length * (4 * d * 4 + kept + max(layer, head) + 24)


def fitting_batch(
    config: ModelConfig,
    wanted: int,
    *,
    context_length: int,
    bf16: bool,
    device: torch.device,
) -> int:
    """The wanted number of windows at once, or the most that fit the memory; at least 1."""

    def needed(n_windows: int) -> int:
        return forward_memory(config, n_windows, context_length=context_length, bf16=bf16)

    room = free_memory(device) * (1 - MARGIN_SHARE)
    return wanted if needed(wanted) <= room else max(1, largest_batch(needed, room))
