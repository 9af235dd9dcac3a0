"""The mean of the weights over the last part of a run, which is its final model."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from fastlm.devices.fsdp import assign, local


class WeightAverage:
    """Running mean, in float32, of a network's parameters over some of its steps.

    m <- m + (p - m) / n for the n-th set of weights. Nothing waits for the device.

    Source: Izmailov et al. 2018, arXiv:1803.05407, of whose method this is the part without a
    learning rate of its own.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        # Taken at the start of a run: a device too small for it is to fail there, not at the end.
        self.means = [torch.zeros_like(p, dtype=torch.float32) for p in self.parameters]
        self.n_averaged = 0
        self.is_swapped = False

    @torch.no_grad()
    def update(self) -> None:
        """Count the parameters as they are now."""
        assert not self.is_swapped, "the parameters are the mean itself"
        self.n_averaged += 1
        now = [local(p.detach()).float() for p in self.parameters]
        torch._foreach_lerp_([local(mean) for mean in self.means], now, 1 / self.n_averaged)

    def restart(self) -> None:
        """Forget what was counted."""
        self.n_averaged = 0

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange mean and parameters; a second call puts float32 parameters back exactly."""
        for p, mean in zip(self.parameters, self.means, strict=True):
            value = p.detach().clone()
            p.copy_(mean)
            mean.copy_(value)
        self.is_swapped = not self.is_swapped

    def state_dict(self) -> dict[str, Any]:
        """JSON-like values and tensors; the tensors only once something was counted."""
        means: list[Tensor] = self.means if self.n_averaged else []
        return {"n_averaged": self.n_averaged, "is_swapped": self.is_swapped, "means": means}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state_dict, whose parameters have been loaded; ends the exchange of swap."""
        self.n_averaged, self.is_swapped = state["n_averaged"], state["is_swapped"]
        for mean, saved in zip(self.means, state["means"], strict=bool(state["means"])):
            assign(mean, saved)
        if self.is_swapped:
            self.swap()
