"""What is watched at every step without waiting for the device: is it finite, is it a spike."""

import math
import statistics
from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fastlm.devices.fsdp import local

HISTORY = 128
"""steps that a loss is compared with"""
SIGMAS = 6.0
"""standard deviations above their mean that make a loss a spike"""
_LEAST = 32
"""steps before which no loss is a spike"""


class Step(NamedTuple):
    """A step that was watched.

    Attributes:
        number: from 1.
        first_window: number of the first window it trained on.
        part: of the batch ramp.
        loss: None if it was not finite.
        sigmas: standard deviations above the mean of the last steps, where it is a spike.
        is_finite: loss and gradients; a step that is not was not applied.
        is_one_too_many: not finite, after as many as may be left out: nothing is applied any more.
    """

    number: int
    first_window: int
    part: int
    loss: float | None
    sigmas: float | None
    is_finite: bool
    is_one_too_many: bool


class Diverged(RuntimeError):
    """Loss or gradients are not finite; no update was made of them.

    Attributes:
        step: the first one that could not be left out.
    """

    def __init__(self, step: Step) -> None:
        self.step = step
        super().__init__(
            f"loss or gradients are not finite at step {step.number}: that step was not applied, "
            "the last checkpoint is kept; try a smaller --optim.lr (and --optim.muon-lr) or a "
            "longer warm-up, or leave such steps out with --max-skipped-steps"
        )


class Watch:
    """Looks at each step's loss and gradient norm, on the device; tells the host when it asks.

    Args:
        max_skipped: so many steps that are not finite are left out; from one more on, no step is
            applied any more.
    """

    def __init__(self, device: torch.device, max_skipped: int = 0) -> None:
        self.max_skipped = max_skipped
        self.n_bad = torch.zeros((), dtype=torch.int64, device=device)
        self.losses: deque[float] = deque(maxlen=HISTORY)
        self.n_spikes = 0
        self._unread: list[tuple[int, int, int, Tensor, Tensor, Tensor]] = []

    def applies(
        self, number: int, first_window: int, part: int, loss: Tensor, norm: Tensor
    ) -> Tensor:
        """Whether a step may be applied: a bool on the device, which is not waited for."""
        is_finite = loss.isfinite() & norm.isfinite()
        self.n_bad += ~is_finite
        is_one_too_many = self.n_bad > self.max_skipped
        self._unread.append((number, first_window, part, loss, is_finite, is_one_too_many))
        return is_finite & ~is_one_too_many

    def read(self) -> list[Step]:
        """The steps since this was last asked; the device is waited for once."""
        if not self._unread:
            return []
        unread, self._unread = self._unread, []
        columns = [torch.stack(values).tolist() for values in list(zip(*unread, strict=True))[3:]]
        steps = []
        for (number, first, part, *_), loss, is_finite, is_over in zip(
            unread, *columns, strict=True
        ):
            sigmas = self._sigmas(loss) if is_finite else None
            self.n_spikes += sigmas is not None
            known = loss if math.isfinite(loss) else None
            is_one_too_many = is_over and not is_finite
            steps.append(Step(number, first, part, known, sigmas, is_finite, is_one_too_many))
            if is_finite:
                self.losses.append(loss)
        return steps

    def _sigmas(self, loss: float) -> float | None:
        if len(self.losses) < _LEAST:
            return None
        deviation = statistics.stdev(self.losses)
        above = loss - statistics.fmean(self.losses)
        return above / deviation if above > SIGMAS * deviation > 0 else None

    def state_dict(self) -> dict[str, Any]:
        """What the next steps are compared with; of steps that were read."""
        return {
            "n_bad": int(self.n_bad),
            "n_spikes": self.n_spikes,
            "losses": list(self.losses),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state; steps not read yet are forgotten."""
        self.n_bad.fill_(state["n_bad"])
        self.n_spikes = state["n_spikes"]
        self.losses = deque(state["losses"], maxlen=HISTORY)
        self._unread = []


@torch.no_grad()
def hold_back(
    optimizers: Iterable[Optimizer], parameters: Iterable[nn.Parameter], applies: Tensor
) -> None:
    """Let the optimizers' next step change nothing where applies is False.

    Gradients become 0 there, so that what is not finite cannot get any further. Optimizers read
    their attribute of the same name. Does not wait for the device.
    """
    bad = ~applies
    for p in parameters:
        if p.grad is not None:
            local(p.grad).masked_fill_(bad, 0.0)
    for optimizer in optimizers:
        optimizer.applies = applies  # type: ignore[attr-defined]
