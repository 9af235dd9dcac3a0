"""Micro-batch size: how many windows fit through the network at once on a device.

The batch size is the recipe's on every device: what does not fit at once is split into
micro-batches, over which gradients are accumulated.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Collection
from typing import NamedTuple

import torch

from fastlm.accounting import step_memory
from fastlm.cli.units import human_bytes
from fastlm.config import TrainConfig
from fastlm.devices.hardware import free_memory

MARGIN_SHARE = 0.1
"""Share of memory kept free for what the formula omits: fragmentation, workspaces of kernels,
batches in transfer, and up to 5 % more activations in compiled code than predicted."""

MARGIN_BYTES = 512 << 20
"""Memory kept free for the CUDA context, libraries and compiled kernels: some load after free
memory is measured, and --memory gives the size of a card without subtracting them."""


VALIDATION_TOKENS = 4096
"""Tokens per batch of a validation: a CPU is as fast as with more, and a signal waits for it."""


class OutOfMemory(RuntimeError):
    """A step needs more memory than the device has; the message says what to do."""


class MemoryPlan(NamedTuple):
    """The micro-batch of a run and its predicted memory.

    Attributes:
        micro_batch: windows per micro-batch.
        needed: peak memory in bytes, by formula.
    """

    micro_batch: int
    checkpoint_activations: bool
    needed: int


def usable_memory(config: TrainConfig, device: torch.device) -> int:
    """Bytes that tensors may take: free memory, at most config.memory, minus the margins."""
    room = float(free_memory(device))
    if config.memory != "auto":
        room = min(room, config.memory * 2**30)
    return max(0, int(room * (1 - MARGIN_SHARE)) - MARGIN_BYTES)


def plan_memory(
    config: TrainConfig,
    device: torch.device,
    *,
    bf16: bool,
    kernels: Collection[str] = (),
    n_ranks: int = 1,
    is_fsdp: bool = False,
    usable: int | None = None,
) -> MemoryPlan:
    """Choose the largest micro-batch that divides all batch sizes and fits; a given one is kept.

    Activations are checkpointed if config says so, or if config.memory is a number and no
    micro-batch fits otherwise.

    Args:
        bf16: whether activations are bfloat16 on this device.
        kernels: names of the operations that Triton kernels compute; see fastlm.accounting.
        n_ranks: number of data parallel processes.
        is_fsdp: whether each process holds only its shard of optimizer state and average.
        usable: bytes that tensors may take; usable_memory() when not given.
    Raises:
        ValueError: if not even one window fits, or the processes cannot get equal shares.
    """

    def needed(micro_batch: int, checkpointed: bool) -> int:
        memory = step_memory(
            dataclasses.replace(config, checkpoint_activations=checkpointed),
            micro_batch,
            bf16=bf16,
            kernels=kernels,
            n_parts=n_ranks if is_fsdp else 1,
        )
        return memory.total

    asked = config.checkpoint_activations
    least_share = n_ranks * (1 if config.micro_batch == "auto" else config.micro_batch)
    for size in config.batch_sizes:
        if size % least_share:
            # A resumed run has the micro-batch that it was given or that was measured.
            or_else = ", or --micro-batch auto" if size % n_ranks == 0 else ""
            raise ValueError(
                f"{n_ranks} processes cannot share out {size} windows per step equally in "
                f"micro-batches of {least_share // n_ranks}: give a --batch-size (and "
                f"--batch-ramp) that is a multiple of {least_share}{or_else}"
            )
    if config.micro_batch != "auto":
        return MemoryPlan(config.micro_batch, asked, needed(config.micro_batch, asked))
    if usable is None:
        usable = usable_memory(config, device)
    for checkpointed in [asked] if config.memory == "auto" else sorted({asked, True}):
        fits = functools.partial(_fits, needed, usable, checkpointed)
        micro_batch = _largest_micro_batch(config, n_ranks, fits)
        if micro_batch:
            return MemoryPlan(micro_batch, checkpointed, needed(micro_batch, checkpointed))
    least = needed(1, True)
    helps = least <= usable  # false if checkpointing was asked for: it has been tried
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


def plan_validation(
    config: TrainConfig,
    plan: MemoryPlan,
    device: torch.device,
    *,
    bf16: bool,
    kernels: Collection[str] = (),
) -> int:
    """Choose the windows per batch of a validation; call it before anything is on the device.

    They do not depend on the micro-batch, so that runs of the same network validate at the same
    speed: their losses are compared after equal seconds. Only a compiled step keeps the
    micro-batch, because another size would be compiled again, and so does one where more does not
    fit.

    Args:
        plan: the micro-batch of the run; the others are those of plan_memory().
    """
    windows = max(1, VALIDATION_TOKENS // config.model.context_length)
    if config.compile:
        return plan.micro_batch
    config = dataclasses.replace(config, checkpoint_activations=plan.checkpoint_activations)
    needed = step_memory(config, windows, bf16=bf16, kernels=kernels).total
    fits = needed <= max(plan.needed, usable_memory(config, device))
    return windows if fits else plan.micro_batch


def _fits(
    needed: Callable[[int, bool], int], usable: int, checkpointed: bool, micro_batch: int
) -> bool:
    return needed(micro_batch, checkpointed) <= usable


def _largest_micro_batch(config: TrainConfig, n_ranks: int, fits: Callable[[int], bool]) -> int:
    """The largest size that fits and divides each process's share of every batch size; 0 if none.

    Args:
        fits: tells whether a size fits the memory; if it does, so do all smaller ones.
    """
    share = math.gcd(*config.batch_sizes) // n_ranks
    # Bisection: a batch of 10^9 windows has too many sizes to try one by one.
    size, too_large = 0, share + 1
    while too_large - size > 1:
        middle = (size + too_large) // 2
        size, too_large = (middle, too_large) if fits(middle) else (size, middle)
    while size and share % size:
        size -= 1
    return size


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error means that a device, or the CPU's allocator, ran out of memory."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def out_of_memory(
    plan: MemoryPlan, config: TrainConfig, peak: int, n_ranks: int = 1
) -> OutOfMemory:
    """The error for a step that did not fit, with flags that make it smaller.

    Args:
        peak: peak memory in bytes before it failed.
        n_ranks: number of data parallel processes.
    """
    half = plan.micro_batch // 2
    smaller = _largest_micro_batch(config, n_ranks, lambda size: size <= half)
    flags = [f"--micro-batch {smaller}"] if smaller else []
    flags += [] if plan.checkpoint_activations else ["--checkpoint-activations"]
    return OutOfMemory(
        f"out of memory with {plan.micro_batch} of {max(config.batch_sizes)} windows at once: "
        f"{human_bytes(peak)} held at the peak, {human_bytes(plan.needed)} needed by formula; "
        + (
            f"give {' or '.join(flags)}, which do not change the batch size"
            if flags
            else "take a smaller network (--model.n-layers, --model.d-model)"
        )
    )
