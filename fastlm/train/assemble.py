"""Builds the parts of a run from its configuration: device, ops, network, optimizers, loss."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from fastlm.config import TrainConfig
from fastlm.devices.compilers import INSTALL, lacks_for_cpu
from fastlm.devices.fsdp import apply_fsdp
from fastlm.devices.hardware import choose_compute_dtype, choose_device
from fastlm.devices.ranks import GradientSum, Ranks
from fastlm.model import TransformerLM, init_weights
from fastlm.model.layers import undrawn
from fastlm.ops import Ops, kernels_in, load_ops, without_faults
from fastlm.optim import Stepper
from fastlm.optim.averaging import WeightAverage
from fastlm.optim.groups import build_optimizers
from fastlm.optim.rows import RowAdaGrad
from fastlm.train.loggers import check_logger
from fastlm.train.micro_batch import MemoryPlan, plan_memory, plan_validation
from fastlm.train.row_loss import RowLoss
from fastlm.train.tying import Tie, tie

_DTYPES = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Setup:
    """Device, dtype and operations of a run, decided once."""

    device: torch.device
    compute_dtype: torch.dtype
    """Dtype of activations and matrix products."""
    compiles: bool
    """Whether torch.compile compiles the step."""
    notices: tuple[str, ...]
    """Why the dtype or the compilation differs from the requested one."""
    ops: Ops
    tuned: str = ""
    """File of fastlm.tune whose choices the configuration has; empty: none."""
    tuned_settings: dict[str, Any] = field(default_factory=dict)
    """Those choices, by the names of the settings."""

    @property
    def kernels(self) -> list[str]:
        """Names of the operations that Triton kernels compute."""
        return kernels_in(self.ops)


def set_up(config: TrainConfig, *, proves_kernels: bool = False) -> Setup:
    """Choose device, dtype and operations; looks for devices and packages, changes nothing.

    Args:
        proves_kernels: leave out kernels that do not work on the device, also if they are named.
    Raises:
        ValueError: if this machine lacks what the configuration asks for.
    """
    check_logger(config.logger)
    device = choose_device(config.device)
    dtype, other_dtype = choose_compute_dtype(device, config.bf16)
    lacks = lacks_for_cpu() if config.compile and device.type == "cpu" else ""
    not_compiled = f"--compile needs {lacks}: it is left out; {INSTALL}" if lacks else ""
    notices = tuple(filter(None, (other_dtype, not_compiled)))
    ops = load_ops(config.triton_ops, device, attention=config.attention, fp8=config.fp8)
    if config.triton_ops == "auto" or proves_kernels:
        ops, faults = without_faults(ops, device, dtype)
        notices += faults
    return Setup(device, dtype, config.compile and not lacks, notices, ops)


@dataclass(frozen=True)
class Parts:
    """A network and everything that trains it."""

    memory: MemoryPlan
    validation_batch: int
    """Windows per batch of a validation."""
    model: TransformerLM
    optimizers: list[Stepper | RowAdaGrad]
    tie: Tie | None
    parameters: list[nn.Parameter]
    """Trainable parameters, without the n-gram tables."""
    average: WeightAverage | None
    loss: Callable[[Tensor, Tensor], Tensor]
    """Mean loss over a micro-batch, compiled if the configuration says so."""
    gradient_sum: GradientSum | None


def assemble(
    config: TrainConfig, setup: Setup, ranks: Ranks, *, keeps_graphs: bool = False
) -> Parts:
    """Build everything, with weights initialised from config.seed.

    Args:
        keeps_graphs: keep what torch.compile made for other networks, which are still trained.
    Raises:
        ValueError: if a step does not fit the device.
    """
    device, ops = setup.device, setup.ops
    if config.threads != "auto":
        torch.set_num_threads(config.threads)
    if torch.are_deterministic_algorithms_enabled() != config.deterministic:  # takes a second
        torch.use_deterministic_algorithms(config.deterministic)
    torch.manual_seed(config.seed)  # fastlm does not use this generator, but other code may
    # Before anything is on the device: free memory is then all that this run can get.
    memory = plan_memory(
        config,
        device,
        bf16=setup.compute_dtype == torch.bfloat16,
        kernels=setup.kernels,
        n_ranks=ranks.size,
        is_fsdp=ranks.is_fsdp,
    )
    windows = plan_validation(
        config,
        memory,
        device,
        bf16=setup.compute_dtype == torch.bfloat16,
        kernels=setup.kernels,
    )
    # The device with the least free memory decides for all.
    size, checkpointed, windows_at_once = ranks.largest(
        -memory.micro_batch, memory.checkpoint_activations, -windows
    )
    memory = memory._replace(micro_batch=-int(size), checkpoint_activations=bool(checkpointed))
    is_by_block = compiles_by_block(config, ranks)
    if config.compile:
        if not keeps_graphs:
            _forget_graphs()
        if is_by_block:
            head = torch.compile(ops.linear_cross_entropy, fullgraph=True, dynamic=False)
            ops = ops._replace(linear_cross_entropy=head)
    with undrawn():
        model = TransformerLM(
            config.model,
            ops=ops,
            compute_dtype=setup.compute_dtype,
            checkpoint_activations=memory.checkpoint_activations,
        )
    init_weights(model, config.seed)
    model.to(device)
    tables = None
    if model.ngrams is not None:  # first, so that no other optimizer gets the tables
        rows = model.ngrams.tables.parameters()
        tables = RowAdaGrad(rows, config.optim.ngram_lr, ranks=ranks)
    if ranks.is_fsdp:
        apply_fsdp(model, layers=model.layers, device=device)
    tied = tie(model) if config.optim.tie_until > 0 else None
    optimizers: list[Stepper | RowAdaGrad] = [
        *build_optimizers(
            model,
            config.optim,
            setup.ops,
            ranks=ranks,
            compiled=config.compile,
            dtype=_DTYPES[config.optimizer_dtype],
        )
    ]
    if tables is not None:
        optimizers.append(tables)
    parameters = [p for p in model.parameters() if p.requires_grad]
    loss: Callable[[Tensor, Tensor], Tensor] = model.loss
    if config.compile and is_by_block:
        for layer in model.layers:
            layer.compile(fullgraph=True, dynamic=False)
    elif config.compile:
        loss = torch.compile(model.loss, fullgraph=True, dynamic=False)
    if tables is not None and model.ngrams is not None:
        loss = RowLoss(loss, model.ngrams, tables)
    average = None
    if config.optim.average_tail > 0:
        tail, every = config.optim.average_tail, config.optim.average_every
        average = WeightAverage(parameters, tail=tail, every=every)
    is_added_up = ranks.size > 1 and not ranks.is_fsdp
    return Parts(
        memory=memory,
        validation_batch=-int(windows_at_once),
        model=model,
        optimizers=optimizers,
        tie=tied,
        parameters=parameters,
        average=average,
        loss=loss,
        gradient_sum=GradientSum(parameters, ranks) if is_added_up else None,
    )


def compiles_by_block(config: TrainConfig, ranks: Ranks) -> bool:
    """Whether each block is compiled by itself, and not the whole step.

    FSDP gathers and frees parameters between layers, so the whole step cannot be one graph. Under
    DDP gradients are sent while earlier layers compute theirs: the graph of a whole step has them
    all at its end.
    """
    if ranks.is_fsdp or config.compile_scope == "block":
        return True
    return config.compile_scope == "auto" and ranks.size > 1


def _forget_graphs() -> None:
    """Reset torch.compile to the state of a new process."""
    # Dynamo caches only a few graphs per function: those of an earlier run would use them up.
    torch.compiler.reset()
    # einops caches the tensor types it has met, and Dynamo guards on that cache: a first call
    # that fills it would cause a recompilation.
    for x in (torch.empty(1, 1), torch.nn.Parameter(torch.empty(1, 1))):
        rearrange(x, "a b -> b a")
