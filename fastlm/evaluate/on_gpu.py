"""How a GPU evaluates: in bfloat16, and with compiled blocks where the text is long."""

import torch

from fastlm.devices.compilers import lacks_for_gpu
from fastlm.model import TransformerLM

COMPILED_FROM = 4_000_000
"""Tokens from which compiling, which takes tens of seconds, is made up for."""


def has_bf16(device: torch.device) -> bool:
    """Whether the device is a GPU that computes in bfloat16."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def compiles_for(device: torch.device, n_tokens: int) -> bool:
    """Whether evaluating so many tokens on the device is faster with compiled blocks."""
    return device.type == "cuda" and n_tokens >= COMPILED_FROM and not lacks_for_gpu()


def compile_blocks(model: TransformerLM) -> None:
    """Compile the blocks, for which one graph serves all layers, and the loss."""
    for layer in model.layers:
        layer.compile(fullgraph=True, dynamic=False)
    head = torch.compile(model.ops.linear_cross_entropy, fullgraph=True, dynamic=False)
    model.ops = model.ops._replace(linear_cross_entropy=head)
