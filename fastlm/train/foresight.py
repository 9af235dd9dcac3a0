"""An estimate, before a run on a CPU starts, of a step's time and memory."""

import time

import torch

from fastlm.accounting import count_parameters, training_flops_per_token
from fastlm.cli.units import human_bytes, human_seconds
from fastlm.config import TrainConfig
from fastlm.config.dotted import replaced
from fastlm.train.micro_batch import plan_memory

SLOW_SECONDS = 30.0
"""A warning is given if a step takes longer"""

_LARGE_FLOPS = 1e12
"""A step of fewer FLOPs takes less than SLOW_SECONDS on every CPU"""
_TRAINING_SHARE = 0.5
"""FLOP/s of a whole step on a CPU, as a share of those of a matrix product"""


def warn_of_cpu(config: TrainConfig, device: torch.device, *, vocab_size: int) -> str:
    """A warning that a run is meant for a GPU: its time and memory here; empty if it is not.

    Args:
        vocab_size: vocabulary size of the data.
    """
    if device.type != "cpu":
        return ""
    config = replaced(config, {"model.vocab_size": vocab_size})
    n_tokens = max(config.batch_sizes) * config.model.context_length
    flops = n_tokens * training_flops_per_token(config.model, config.model.context_length)
    if flops < _LARGE_FLOPS:
        return ""
    seconds = flops / (_matrix_flops() * _TRAINING_SHARE)
    if seconds < SLOW_SECONDS:
        return ""
    try:
        memory = f"{human_bytes(plan_memory(config, device, bf16=False).needed)} of memory"
    except ValueError:
        memory = "more memory than there is"
    budget = ""
    if config.time_budget is not None:
        n_steps = int(config.time_budget / seconds)
        budget = f", {n_steps:,} of them in the time budget of {human_seconds(config.time_budget)}"
    return (
        f"{count_parameters(config.model):,} parameters on a CPU: about {human_seconds(seconds)} "
        f"for a step of {n_tokens:,} tokens{budget}, and {memory}; --recipe tiny and --recipe "
        "stories are for a CPU"
    )


def _matrix_flops() -> float:
    """FLOP/s of this CPU in a product of float32 matrices."""
    n = 1024
    a = torch.ones(n, n)
    fastest = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        a @ a
        fastest = min(fastest, time.perf_counter() - began)
    return 2 * n**3 / fastest
