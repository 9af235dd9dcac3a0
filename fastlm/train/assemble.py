"""The parts of a run that its configuration asks for: network, optimizers, loss."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.optim import Optimizer

from fastlm.config import TrainConfig
from fastlm.devices.fsdp import apply_fsdp
from fastlm.devices.hardware import choose_compute_dtype, choose_device
from fastlm.devices.ranks import GradientSum, Ranks
from fastlm.model import TransformerLM, init_weights
from fastlm.ops import load_ops, torch_ops
from fastlm.optim import build_optimizers
from fastlm.optim.averaging import WeightAverage
from fastlm.optim.muon import Muon
from fastlm.optim.rows import RowAdaGrad
from fastlm.train.micro_batch import MemoryPlan, plan_memory
from fastlm.train.row_loss import RowLoss
from fastlm.train.tying import Tie, tie


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
        is_fsdp=ranks.is_fsdp,
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
    if ranks.is_fsdp:
        apply_fsdp(model, layers=model.layers, device=device)
    tied = tie(model) if config.optim.tie_until > 0 else None
    optimizers = build_optimizers(model, config.optim, ops, compiled=config.compile)
    for optimizer in optimizers:
        if isinstance(optimizer, Muon):
            optimizer.ranks = ranks
    if tables is not None:
        optimizers.append(tables)
    parameters = [p for p in model.parameters() if p.requires_grad]
    loss: Callable[[Tensor, Tensor], Tensor] = model.loss
    if config.compile:
        # Under FSDP the parts of a model come together between its layers.
        loss = compiled_loss(model, "block" if ranks.is_fsdp else config.compile_scope)
    if tables is not None and model.ngrams is not None:
        loss = RowLoss(loss, model.ngrams, tables)
    is_added_up = ranks.size > 1 and not ranks.is_fsdp
    return Parts(
        device=device,
        notice=notice,
        memory=memory,
        model=model,
        optimizers=optimizers,
        tie=tied,
        parameters=parameters,
        average=WeightAverage(parameters) if config.optim.average_tail > 0 else None,
        loss=loss,
        gradient_sum=GradientSum(parameters, ranks) if is_added_up else None,
    )


def compiled_loss(model: TransformerLM, scope: Literal["step", "block"]) -> Callable[..., Tensor]:
    """model.loss as one graph, or with its layers and its head compiled, each kind once.

    Forgets what was compiled before in this process.
    """
    # Graphs are kept per function, and only a few: those of an earlier run would be in the way.
    torch.compiler.reset()
    # einops has a table of the types it has met, and a graph holds for that table alone: it
    # would be compiled a second time when the first call has filled it.
    for x in (torch.empty(1, 1), torch.nn.Parameter(torch.empty(1, 1))):
        rearrange(x, "a b -> b a")
    if scope == "step":
        return torch.compile(model.loss, fullgraph=True, dynamic=False)
    for layer in model.layers:
        layer.compile(fullgraph=True, dynamic=False)
    head = torch.compile(model.ops.linear_cross_entropy, fullgraph=True, dynamic=False)
    model.ops = model.ops._replace(linear_cross_entropy=head)
    return model.loss
