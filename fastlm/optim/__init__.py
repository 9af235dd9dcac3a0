"""Optimizers from their formulas, gradient clipping, and who optimizes what at which rate.

Of torch.optim only the Optimizer base class. Updates run over lists of tensors
(torch._foreach_*, or the Ops an optimizer is given), which on a GPU is one kernel for many
parameters.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from fastlm import schedule
from fastlm.config import OptimConfig
from fastlm.devices.fsdp import local
from fastlm.devices.ranks import Ranks
from fastlm.ops import Ops, torch_ops
from fastlm.optim.groups import parameter_groups
from fastlm.optim.muon import Muon, NorMuon
from fastlm.optim.stepper import Stepper, check_rates


class SGD(Stepper):
    """Gradient descent: p <- p - lr_t u with u = g, or u = momentum u + g.

    lr_t = lr / sqrt(t + 1) for t = 0, 1 ... when inverse_sqrt is set, else lr.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        *,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        inverse_sqrt: bool = False,
    ) -> None:
        check_rates(lr, momentum=momentum, weight_decay=weight_decay)
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "inverse_sqrt": inverse_sqrt,
        }
        super().__init__(params, defaults)

    def update(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> None:
        step = self.count_step(params)
        lr = group["lr"] / math.sqrt(step) if group["inverse_sqrt"] else group["lr"]
        if group["momentum"]:
            velocity = self.buffers(params, "velocity")
            torch._foreach_mul_(velocity, group["momentum"])
            torch._foreach_add_(velocity, grads)
            grads = velocity
        parts = [local(p) for p in params]
        torch._foreach_mul_(parts, 1 - lr * group["weight_decay"])
        torch._foreach_add_(parts, grads, alpha=-lr)


class AdaGrad(Stepper):
    """v <- v + g^2; p <- p - lr g / (sqrt(v) + eps). Source: Duchi et al. 2011."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        *,
        eps: float = 1e-10,
        weight_decay: float = 0.0,
    ) -> None:
        check_rates(lr, eps=eps, weight_decay=weight_decay)
        super().__init__(params, {"lr": lr, "eps": eps, "weight_decay": weight_decay})

    def update(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> None:
        squares = self.buffers(params, "square_sum")
        torch._foreach_addcmul_(squares, grads, grads)
        scale = torch._foreach_sqrt(squares)
        torch._foreach_add_(scale, group["eps"])
        parts = [local(p) for p in params]
        torch._foreach_mul_(parts, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_addcdiv_(parts, grads, scale, value=-group["lr"])


class AdamW(Stepper):
    """Adam with decoupled weight decay.

    m <- b1 m + (1 - b1) g; v <- b2 v + (1 - b2) g^2; lr_t = lr sqrt(1 - b2^t) / (1 - b1^t);
    p <- p - lr weight_decay p - lr_t m / (sqrt(v) + eps), both terms taken at the old p.

    Source: Kingma and Ba 2015, arXiv:1412.6980, end of section 2 (the form that applies eps to
    the uncorrected root); Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2.
    """

    holds_back_on_device = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        ops: Ops = torch_ops,
    ) -> None:
        check_rates(lr, eps=eps, weight_decay=weight_decay)
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas must lie in [0, 1): got {betas}")
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)
        self.ops = ops

    def update(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> None:
        step = self.count_step(params)
        self.ops.adamw(
            [local(p) for p in params],
            grads,
            self.buffers(params, "exp_avg"),
            self.buffers(params, "exp_avg_sq"),
            lr=group["lr"],
            betas=group["betas"],
            eps=group["eps"],
            weight_decay=group["weight_decay"],
            step=step,
            applies=self.applies,
        )


@torch.no_grad()
def clip_gradients(
    parameters: Iterable[nn.Parameter],
    max_l2_norm: float,
    eps: float = 1e-6,
    *,
    ranks: Ranks | None = None,
) -> Float[Tensor, ""]:
    """Scale all gradients by max_l2_norm / (norm + eps) when their global l2 norm is above it.

    Changes the gradients in place; parameters without one are left alone. Does not wait for the
    device.

    Args:
        ranks: the processes; under FSDP each holds a part of every gradient.
    Returns:
        The norm before clipping, float32; 0 when nothing has a gradient.
    """
    grads = [local(p.grad) for p in parameters if p.grad is not None]
    if not grads:
        return torch.zeros(())
    norm = torch.stack(torch._foreach_norm([g.float() for g in grads])).norm()
    if ranks is not None and ranks.is_fsdp:
        norm = ranks.sum_(norm.square()).sqrt()
    if math.isfinite(max_l2_norm):
        factor = torch.where(norm > max_l2_norm, max_l2_norm / (norm + eps), torch.ones_like(norm))
        torch._foreach_mul_(grads, factor)
    return norm


def build_optimizers(
    model: nn.Module, config: OptimConfig, ops: Ops = torch_ops, *, compiled: bool = False
) -> list[Optimizer]:
    """The optimizers of a run, each group at its peak rates.

    Args:
        compiled: torch.compile the updates of muon and normuon.
    """
    groups = parameter_groups(model)
    matrices = groups.pop("matrices") if config.name in ("muon", "normuon") else []
    # Groups of the same settings become one: fewer launches.
    merged: dict[tuple[Any, ...], list[nn.Parameter]] = {}
    for name, params in groups.items():
        if params:
            tied = name == "embedding" and not groups["head"]
            settings = _settings("head" if tied else name, config, decayed=not tied)
            merged.setdefault(settings, []).extend(params)
    rest = [
        {"params": params, "lr": lr, "weight_decay": decay}
        | ({} if config.name in ("sgd", "adagrad") else {"betas": betas})
        for (lr, betas, decay), params in merged.items()
    ]
    optimizers: list[Optimizer]
    if config.name == "sgd":
        optimizers = [SGD(rest, config.lr, momentum=config.momentum)]
    elif config.name == "adagrad":
        optimizers = [AdaGrad(rest, config.lr, eps=config.eps)]
    else:
        optimizers = [AdamW(rest, config.lr, config.betas, config.eps, ops=ops)]
    if matrices:
        optimizers.append(
            (NorMuon if config.name == "normuon" else Muon)(
                matrices,
                config.muon_lr,
                momentum=config.momentum,
                weight_decay=config.weight_decay,
                orthogonalization=config.orthogonalization,
                cautious=config.cautious_weight_decay,
                ops=ops,
                compiled=compiled,
            )
        )
    return optimizers


def _settings(
    name: str, config: OptimConfig, *, decayed: bool
) -> tuple[float, tuple[float, float], float]:
    """Learning rate, betas and weight decay of a group of parameters."""
    lr = {
        "embedding": config.embedding_lr,
        "ngram_tables": config.embedding_lr,
        "value_embeddings": config.value_embedding_lr,
        "residual_scalars": config.scalar_lr,
        "x0_scalars": config.x0_lr,
    }.get(name)
    betas = None
    if name in ("embedding", "value_embeddings", "ngram_tables"):
        betas = config.table_betas
    elif name == "x0_scalars":
        betas = config.x0_betas
    decayed = decayed and name in ("matrices", "head", "ngram_projections")
    return (
        config.lr if lr is None else lr,
        config.betas if betas is None else betas,
        config.weight_decay if decayed else 0.0,
    )


def set_schedule(
    optimizers: Iterable[Optimizer],
    config: OptimConfig,
    *,
    step: int,
    progress: float,
    lr_factor: float = 1.0,
) -> None:
    """Set learning rate, weight decay and momentum of every group to where the run is.

    What a group has at the first call is its peak: kept, and saved, beside the present values.

    Args:
        step: number of the step to be taken, from 1.
        progress: share of the run that is done with it.
        lr_factor: what all learning rates are multiplied with besides.
    """
    shape = schedule.multiplier(
        progress,
        kind=config.schedule,
        warmup=config.warmup_fraction if config.warmup_steps is None else 0.0,
        decay=config.decay_fraction,
        final=config.final_lr_ratio,
    )
    lr = lr_factor * shape * schedule.warmup(step, config.warmup_steps or 0)
    weight_decay = schedule.weight_decay_multiplier(progress, config.weight_decay_schedule)
    momentum = schedule.momentum(
        step,
        progress,
        peak=config.momentum,
        start=config.momentum if config.momentum_start is None else config.momentum_start,
        warmup_steps=config.momentum_warmup_steps,
        end=config.momentum if config.momentum_end is None else config.momentum_end,
        decay=config.decay_fraction,
    )
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for name, multiplier in (("lr", lr), ("weight_decay", weight_decay)):
                if name not in group:
                    continue
                group[name] = group.setdefault(f"peak_{name}", group[name]) * multiplier
            if "momentum" in group:
                group["momentum"] = momentum
