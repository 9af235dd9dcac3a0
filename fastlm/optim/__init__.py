"""Optimizers written from their formulas, gradient clipping, and learning-rate schedules.

Updates run over lists of tensors (torch._foreach_*, or the Ops an optimizer is given): on a GPU,
one kernel for many parameters. Muon and NorMuon are in fastlm.optim.muon, parameter groups in
fastlm.optim.groups.
"""

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.optim import Optimizer

from fastlm import schedule
from fastlm.config import OptimConfig
from fastlm.devices.fsdp import dtensor_like, local
from fastlm.devices.ranks import Ranks
from fastlm.lazy import lazy_names
from fastlm.ops import Ops, torch_ops
from fastlm.optim.light import LightOptimizer

if TYPE_CHECKING:
    from fastlm.optim.groups import build_optimizers as build_optimizers
    from fastlm.optim.muon import Muon as Muon
    from fastlm.optim.muon import NorMuon as NorMuon

__getattr__ = lazy_names(
    __name__, {"Muon": "muon", "NorMuon": "muon", "build_optimizers": "groups"}
)

Closure = Callable[[], float] | None


def check_rates(lr: float, **others: float) -> None:
    """Raise ValueError for the first hyperparameter that is negative or not finite, by its name."""
    for name, value in {"lr": lr, **others}.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be finite and not negative: got {value}")


class Stepper(LightOptimizer):
    """Base class of the optimizers: passes each group's parameters and gradients to update().

    Only the base class torch.optim.Optimizer comes from torch.optim.

    Args:
        ops: the functions that compute the update.
        ranks: the processes of the run. Under FSDP each process updates its own shard of every
            parameter.
    """

    updates_on_condition = False
    """Whether update() itself obeys `applies`; if not, step() waits for the device to read it."""
    n_moments = 1
    """Number of state tensors of each parameter's size, at most"""

    def __init__(
        self,
        params: Iterable[Any],
        defaults: dict[str, Any],
        *,
        ops: Ops = torch_ops,
        ranks: Ranks | None = None,
    ) -> None:
        self.ops, self.ranks = ops, ranks or Ranks()
        super().__init__(params, defaults)

    def __getstate__(self) -> dict[str, Any]:
        # torch.optim.Optimizer copies only its own attributes.
        return super().__getstate__() | {"ops": self.ops, "ranks": self.ranks}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        # An older checkpoint lacks newer options: they get their defaults.
        for group in self.param_groups:
            for name, value in self.defaults.items():
                if name != "differentiable":  # torch adds it; no optimizer here has that option
                    group.setdefault(name, value)

    @torch.no_grad()
    def step(  # type: ignore[override]
        self, closure: Closure = None, *, applies: Bool[Tensor, ""] | None = None
    ) -> float | None:
        """Update every parameter that has a gradient; returns the closure's loss, if any.

        Args:
            applies: a flag on the device. If it is False no parameter and no moment changes (the
                count of steps does), and gradients become 0 so that values that are not finite do
                not spread. SGD and AdaGrad wait for it.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if applies is not None and not self.updates_on_condition and not applies:
            return loss
        held_back = None if applies is None else ~applies
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            grads = self.own([p.grad for p in params])
            if held_back is not None:
                for grad in grads:
                    grad.masked_fill_(held_back, 0.0)
            if params:
                self.update(group, params, grads, applies)
        return loss

    def update(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        applies: Bool[Tensor, ""] | None,
    ) -> None:
        """Update the parameters of one group in place.

        Args:
            params: parameters that have a gradient; own(params) are the writable shards.
            grads: this process's shards of the gradients; 0 where applies is False.
            applies: as in step().
        """
        raise NotImplementedError("each optimizer defines its own update")

    def own(self, tensors: list[Tensor]) -> list[Tensor]:
        """This process's shards of tensors, as views; tensors that are not sharded as they are."""
        return [local(t) for t in tensors] if self.ranks.is_fsdp else tensors

    def buffers(
        self, params: list[Tensor], name: str, new: Callable[[Tensor], Tensor] = torch.zeros_like
    ) -> list[Tensor]:
        """This process's shards of the state tensors under a name, one per parameter.

        A missing state tensor is created by new(parameter).
        """
        for p in params:
            if name not in self.state[p]:
                self.state[p][name] = new(p)
        return self.own([self.state[p][name] for p in params])

    def count_step(self, params: list[Tensor]) -> int:
        """Count this step and return the total, which is kept per parameter in the saved state."""
        for p in params:
            self.state[p]["step"] = self.state[p].get("step", 0) + 1
        return int(self.state[params[0]]["step"])

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a state_dict; state tensors of a parameter's shape are sharded like it."""
        params = [p for group in self.param_groups for p in group["params"]]
        state = {
            i: {
                name: dtensor_like(value, params[i])
                if isinstance(value, Tensor) and value.shape == params[i].shape
                else value
                for name, value in of_parameter.items()
            }
            for i, of_parameter in state_dict["state"].items()
        }
        super().load_state_dict({**state_dict, "state": state})


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
        ranks: Ranks | None = None,
    ) -> None:
        check_rates(lr, momentum=momentum, weight_decay=weight_decay)
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "inverse_sqrt": inverse_sqrt,
        }
        super().__init__(params, defaults, ranks=ranks)

    def update(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        applies: Bool[Tensor, ""] | None,
    ) -> None:
        step = self.count_step(params)
        lr = group["lr"] / math.sqrt(step) if group["inverse_sqrt"] else group["lr"]
        if group["momentum"]:
            velocity = self.buffers(params, "velocity")
            torch._foreach_mul_(velocity, group["momentum"])
            torch._foreach_add_(velocity, grads)
            grads = velocity
        parts = self.own(params)
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
        ranks: Ranks | None = None,
    ) -> None:
        check_rates(lr, eps=eps, weight_decay=weight_decay)
        defaults = {"lr": lr, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults, ranks=ranks)

    def update(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        applies: Bool[Tensor, ""] | None,
    ) -> None:
        squares = self.buffers(params, "square_sum")
        torch._foreach_addcmul_(squares, grads, grads)
        scale = torch._foreach_sqrt(squares)
        torch._foreach_add_(scale, group["eps"])
        parts = self.own(params)
        torch._foreach_mul_(parts, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_addcdiv_(parts, grads, scale, value=-group["lr"])


class AdamW(Stepper):
    """Adam with decoupled weight decay.

    m <- b1 m + (1 - b1) g; v <- b2 v + (1 - b2) g^2; lr_t = lr sqrt(1 - b2^t) / (1 - b1^t);
    p <- p - lr weight_decay p - lr_t m / (sqrt(v) + eps), both terms taken at the old p.

    Source: Kingma and Ba 2015, arXiv:1412.6980, end of section 2 (the form that applies eps to
    the uncorrected root); Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2.
    """

    updates_on_condition = True
    n_moments = 2

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        ops: Ops = torch_ops,
        ranks: Ranks | None = None,
    ) -> None:
        check_rates(lr, eps=eps, weight_decay=weight_decay)
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas must lie in [0, 1): got {betas}")
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults, ops=ops, ranks=ranks)

    def update(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        applies: Bool[Tensor, ""] | None,
    ) -> None:
        step = self.count_step(params)
        self.ops.adamw(
            self.own(params),
            grads,
            self.buffers(params, "exp_avg"),
            self.buffers(params, "exp_avg_sq"),
            lr=group["lr"],
            betas=group["betas"],
            eps=group["eps"],
            weight_decay=group["weight_decay"],
            step=step,
            applies=applies,
        )


@torch.no_grad()
def clip_gradients(
    parameters: Iterable[nn.Parameter],
    max_l2_norm: float,
    eps: float = 1e-6,
    *,
    ranks: Ranks | None = None,
) -> Float[Tensor, ""]:
    """Scale all gradients by max_l2_norm / (norm + eps) if their global l2 norm exceeds it.

    Changes the gradients in place, skips parameters without one, and does not wait for the device.

    Args:
        ranks: the processes; under FSDP each holds a shard of every gradient.
    Returns:
        The norm before clipping, float32; 0 when no parameter has a gradient.
    """
    grads = [p.grad for p in parameters if p.grad is not None]
    if not grads:
        return torch.zeros(())
    if ranks is not None and ranks.is_fsdp:
        grads = [local(grad) for grad in grads]
    norm = torch.stack(torch._foreach_norm([g.float() for g in grads])).norm()
    if ranks is not None and ranks.is_fsdp:
        norm = ranks.sum_(norm.square()).sqrt()
    if math.isfinite(max_l2_norm):
        factor = torch.where(norm > max_l2_norm, max_l2_norm / (norm + eps), torch.ones_like(norm))
        torch._foreach_mul_(grads, factor)
    return norm


def set_schedule(
    optimizers: Iterable[Optimizer],
    config: OptimConfig,
    *,
    step: int,
    progress: float,
    lr_factor: float = 1.0,
) -> None:
    """Set the scheduled learning rate, weight decay and momentum of every group, in place.

    A group's values at the first call are its peaks; they are saved beside the current values.

    Args:
        step: number of the next step, from 1.
        progress: share of the run that is done after it.
        lr_factor: multiplies all learning rates on top of the schedule.
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
