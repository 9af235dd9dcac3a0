"""Weight averaging over the tail of a run: the average is the final model."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from fastlm.devices.fsdp import assign, local


class WeightAverage:
    """Running mean, in float32, of a network's parameters over the tail of a run.

    m <- m + (p - m) / n for the n-th set of weights. Nothing waits for the device.

    Source: Izmailov et al. 2018, arXiv:1803.05407 (SWA), without its own learning-rate schedule.

    Args:
        tail: share of the run, at its end, over which weights are averaged.
        every: steps between two sets of weights in the average.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], *, tail: float = 1.0, every: int = 1
    ) -> None:
        self.parameters = list(parameters)
        self.tail, self.every = tail, every
        # Allocated at the start of a run: a device that is too small fails then, not at the end.
        self.means = [torch.zeros_like(p, dtype=torch.float32) for p in self.parameters]
        self.n_averaged = 0
        self.is_swapped = False
        self._has_other_end = False

    def count(self, step: int, progress: float) -> None:
        """Add the weights after a step to the average if they are due.

        Args:
            progress: share of the run that is done after that step.
        """
        if self._has_other_end and self.n_averaged:
            first = (step - 1) // self.every * self.every - (self.n_averaged - 1) * self.every
            if progress * first / step <= 1 - self.tail:  # the share after the first set
                self.restart()
        self._has_other_end = False
        if progress <= 1 - self.tail:
            self.restart()  # a finished run was resumed with a larger budget
        elif step % self.every == 0:
            self.update()

    def end_elsewhere(self) -> None:
        """Announce that the run goes on to another end: sets before its new tail are dropped.

        A running mean cannot lose single sets: if its first one is before the tail, all go.
        """
        self._has_other_end = True

    def use(self) -> int:
        """Swap the parameters for their mean; returns the number of sets of weights in it."""
        if self.n_averaged == 0:
            self.update()  # the tail is shorter than `every`: use the last weights
        self.swap()
        return self.n_averaged

    @torch.no_grad()
    def update(self) -> None:
        """Add the current parameters to the mean."""
        assert not self.is_swapped, "the parameters are the mean itself"
        self.n_averaged += 1
        now = [local(p.detach()).float() for p in self.parameters]
        torch._foreach_lerp_([local(mean) for mean in self.means], now, 1 / self.n_averaged)

    def restart(self) -> None:
        """Start the average again, from no weights."""
        self.n_averaged = 0

    @torch.no_grad()
    def swap(self) -> None:
        """Swap mean and parameters; a second call restores float32 parameters exactly."""
        for p, mean in zip(self.parameters, self.means, strict=True):
            value = p.detach().clone()
            p.copy_(mean)
            mean.copy_(value)
        self.is_swapped = not self.is_swapped

    def state_dict(self) -> dict[str, Any]:
        """JSON-like values and tensors; no tensors while the average is empty."""
        means: list[Tensor] = self.means if self.n_averaged else []
        return {"n_averaged": self.n_averaged, "is_swapped": self.is_swapped, "means": means}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state_dict after its parameters were loaded; undoes a swap it was saved in."""
        self.n_averaged, self.is_swapped = state["n_averaged"], state["is_swapped"]
        for mean, saved in zip(self.means, state["means"], strict=bool(state["means"])):
            assign(mean, saved)
        if self.is_swapped:
            self.swap()
