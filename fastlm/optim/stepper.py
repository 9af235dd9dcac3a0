"""What all optimizers share: gathering parameters with a gradient, and state kept beside them.

Of torch.optim only the Optimizer base class.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from fastlm.devices.fsdp import dtensor_like, local
from fastlm.ops import Ops, torch_ops

Closure = Callable[[], float] | None


def check_rates(lr: float, **others: float) -> None:
    """Refuse rates that are negative or no finite numbers, with the name of the first one."""
    for name, value in {"lr": lr, **others}.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be finite and not negative: got {value}")


class Stepper(Optimizer):
    """Gathers each group's parameters and gradients and hands them to update().

    Under FSDP each process updates its own part of every parameter.
    """

    ops: Ops = torch_ops
    applies: Tensor | None = None
    """a bool on the device: where it is False, a step changes nothing; gradients are 0 then"""
    holds_back_on_device = False
    """whether update() sees to that; otherwise step() waits for the device"""

    def __getstate__(self) -> dict[str, Any]:
        # A copy of an optimizer: torch knows nothing of its operations.
        return super().__getstate__() | {"ops": self.ops}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        # A checkpoint from before an option existed goes on with the option's default.
        for group in self.param_groups:
            for name, value in self.defaults.items():
                if name != "differentiable":  # torch puts it there, no optimizer here has it
                    group.setdefault(name, value)

    @torch.no_grad()
    def step(  # type: ignore[override]
        self, closure: Closure = None
    ) -> float | None:
        """Update every parameter that has a gradient; returns the closure's loss, if any."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self.applies is not None and not self.holds_back_on_device and not self.applies:
            return loss
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self.update(group, params, [local(p.grad) for p in params if p.grad is not None])
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state_dict; tensors of a parameter's shape are in parts as it is."""
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

    def update(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> None:
        """Change the parameters.

        Args:
            params: those with a gradient; fsdp.local() of them is what can be changed.
            grads: this process's parts.
        """
        raise NotImplementedError("each optimizer defines its own update")

    def buffers(
        self, params: list[Tensor], name: str, new: Callable[[Tensor], Tensor] = torch.zeros_like
    ) -> list[Tensor]:
        """State tensors of that name, one a parameter, made by new(parameter) at first.

        Under FSDP they are the parts of this process.
        """
        for p in params:
            if name not in self.state[p]:
                self.state[p][name] = new(p)
        return [local(self.state[p][name]) for p in params]

    def count_step(self, params: list[Tensor]) -> int:
        """Steps taken, this one included; kept per parameter so that it is saved with the state."""
        for p in params:
            self.state[p]["step"] = self.state[p].get("step", 0) + 1
        return int(self.state[params[0]]["step"])
