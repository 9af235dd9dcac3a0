"""How many windows go through the network at once, so that a run fits its device.

Level 3. Tokens a step are the recipe's on every card: what does not fit at once goes in parts,
whose gradients are added up.
"""

import math
from typing import NamedTuple

import torch

from fastlm.accounting import training_memory
from fastlm.config import TrainConfig
from fastlm.console import human_bytes
from fastlm.hardware import free_memory

MARGIN_SHARE = 0.1
"""of memory, for what no formula counts: the allocator's gaps, kernels' workspaces, the batches on
their way, and that a compiler may keep 5 % more than was counted"""

MARGIN_BYTES = 512 << 20
"""for the driver's context, libraries and compiled kernels: loaded in part after free memory was
asked for, and on a card whose size is given not yet taken off"""


class MemoryPlan(NamedTuple):
    """Attributes:
    micro_batch: windows at once.
    needed: bytes at the peak, by formula.
    """

    micro_batch: int
    checkpoint_activations: bool
    needed: int


def usable_memory(config: TrainConfig, device: torch.device) -> int:
    """Bytes that tensors may take: what is free, or the given part of it, less a margin."""
    room = float(free_memory(device))
    if config.memory != "auto":
        room = min(room, config.memory * 2**30)
    return max(0, int(room * (1 - MARGIN_SHARE)) - MARGIN_BYTES)


def plan_memory(
    config: TrainConfig, device: torch.device, *, bf16: bool, keeps_logits: bool = True
) -> MemoryPlan:
    """The largest micro-batch that divides all batch sizes and fits; a given one is taken as it is.

    Activations are checkpointed if config says so; and, where config.memory is a number, if no
    micro-batch fits without.

    Args:
        bf16: whether activations are bfloat16 on this device.
        keeps_logits: False if the loss is computed in chunks, see fastlm.accounting.
    Raises:
        ValueError: if not even one window fits.
    """

    def needed(micro_batch: int, checkpointed: bool) -> int:
        parts = training_memory(
            config.model,
            micro_batch,
            bf16=bf16,
            optim=config.optim,
            compiled=config.compile,
            checkpointed=checkpointed,
            keeps_logits=keeps_logits,
        )
        return sum(parts.values())

    asked = config.checkpoint_activations
    if config.micro_batch != "auto":
        return MemoryPlan(config.micro_batch, asked, needed(config.micro_batch, asked))
    usable = usable_memory(config, device)
    most = math.gcd(*config.batch_sizes)
    sizes = [n for n in range(most, 0, -1) if most % n == 0]
    for checkpointed in [asked] if config.memory == "auto" else sorted({asked, True}):
        for micro_batch in sizes:
            n_bytes = needed(micro_batch, checkpointed)
            if n_bytes <= usable:
                return MemoryPlan(micro_batch, checkpointed, n_bytes)
    least = needed(1, True)
    helps = least <= usable  # only where checkpointing was not asked for
    raise ValueError(
        f"one window at a time needs {human_bytes(needed(1, asked))} of memory, "
        f"{human_bytes(least)} with --checkpoint-activations; {human_bytes(usable)} can be used on "
        f"{device} (free memory{'' if config.memory == 'auto' else ' or --memory'} less a margin): "
        + (
            "give --checkpoint-activations"
            if helps
            else "take a smaller network (--model.n-layers, --model.d-model), or insist with "
            "--micro-batch 1"
        )
    )
