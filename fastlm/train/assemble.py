"""The parts of a run that its configuration asks for: network, optimizers, loss.

Level 4.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fastlm.averaging import WeightAverage
from fastlm.compiling import compiled_loss
from fastlm.config import TrainConfig
from fastlm.hardware import choose_compute_dtype, choose_device
from fastlm.memory import MemoryPlan, plan_memory
from fastlm.model import TransformerLM, init_weights, tie
from fastlm.muon import Muon
from fastlm.ngrams import RowLoss
from fastlm.ops import load_ops, torch_ops
from fastlm.optim import build_optimizers
from fastlm.parallel import GradientSum, Ranks
from fastlm.row_optim import RowAdaGrad
from fastlm.shards import shard_model
from fastlm.tying import Tie


@dataclass
class Parts:
    """What is trained, and with what."""

    device: torch.device
    notice: str
    """why activations have another dtype than was asked for; empty if not so"""
    memory: MemoryPlan
    model: TransformerLM
    optimizers: list[Optimizer]
    tie: Tie | None
    parameters: list[nn.Parameter]
    """those with gradients of their own"""
    average: WeightAverage | None
    loss: Callable[[Tensor, Tensor], Tensor]
    """mean over a micro-batch, compiled if the configuration says so"""
    gradient_sum: GradientSum | None


def assemble(config: TrainConfig, ranks: Ranks) -> Parts:
    """Make everything anew from config.seed, on the configuration's device.

    Raises:
        ValueError: for what cannot run here, with what to do.
    """
    device = choose_device(config.device)
    dtype, notice = choose_compute_dtype(device, config.bf16)
    torch.use_deterministic_algorithms(config.deterministic)
    torch.manual_seed(config.seed)  # nothing here draws from it, but what is added may
    ops = load_ops(config.triton_ops, device, attention=config.attention, fp8=config.fp8)
    # Before anything is on the device: free memory is then all that this run can have.
    memory = plan_memory(
        config,
        device,
        bf16=dtype == torch.bfloat16,
        keeps_logits=ops.linear_cross_entropy is torch_ops.linear_cross_entropy,
        n_ranks=ranks.size,
        is_sharded=ranks.is_sharded,
    )
    # The card with the least free memory decides for all.
    size, checkpointed = ranks.largest(-memory.micro_batch, memory.checkpoint_activations)
    memory = memory._replace(micro_batch=-int(size), checkpoint_activations=bool(checkpointed))
    model = TransformerLM(
        config.model,
        ops=ops,
        compute_dtype=dtype,
        checkpoint_activations=memory.checkpoint_activations,
    )
    init_weights(model, config.seed)
    model.to(device)
    tables = None
    if model.ngrams is not None:  # first: what it takes, no other optimizer sees
        tables = RowAdaGrad(model.ngrams.tables.parameters(), config.optim.ngram_lr)
        tables.ranks = ranks
    if ranks.is_sharded:
        shard_model(model, layers=model.layers, device=device)
    tied = tie(model) if config.optim.tie_until > 0 else None
    optimizers = build_optimizers(model, config.optim, ops, compiled=config.compile)
    for optimizer in optimizers:
        if isinstance(optimizer, Muon):
            optimizer.ranks = ranks
    parameters = [p for p in model.parameters() if p.requires_grad]
    loss: Callable[[Tensor, Tensor], Tensor] = model.loss
    if config.compile:
        # The parts of a sharded model come together between its layers.
        loss = compiled_loss(model, "block" if ranks.is_sharded else config.compile_scope)
    if tables is not None and model.ngrams is not None:
        loss = RowLoss(loss, model.ngrams, tables)
    is_added_up = ranks.size > 1 and not ranks.is_sharded
    return Parts(
        device=device,
        notice=notice,
        memory=memory,
        model=model,
        optimizers=[*optimizers, *([] if tables is None else [tables])],
        tie=tied,
        parameters=parameters,
        average=WeightAverage(parameters) if config.optim.average_tail > 0 else None,
        loss=loss,
        gradient_sum=GradientSum(parameters, ranks) if is_added_up else None,
    )
