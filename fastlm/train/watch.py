"""Detection of steps that were not finite, and of loss spikes."""

import math
import statistics
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from fastlm.train.trainer import StepRecord, Trainer

HISTORY = 128
"""Number of recent steps that a loss is compared with."""
SIGMAS = 6.0
"""A loss this many standard deviations above their mean is a spike."""
_LEAST = 32
"""Number of steps needed before a loss can be a spike."""


class Step(NamedTuple):
    """A step as the host read it from the device.

    Attributes:
        number: number of the step, from 1.
        first_window: number of the first window it trained on.
        stage: stage of the batch ramp.
        loss: loss of the step; None if it was not finite.
        sigmas: standard deviations above the mean of recent steps if it is a spike, else None.
        is_finite: whether loss and gradients are finite; if not, the step was not applied.
        is_one_too_many: whether it exceeds max_skipped: no step is applied any more.
    """

    number: int
    first_window: int
    stage: int
    loss: float | None
    sigmas: float | None
    is_finite: bool
    is_one_too_many: bool


class Diverged(RuntimeError):
    """Loss, gradients, weights or a validation are not finite.

    Args:
        what: what is not finite after the step, with a verb ("the weights are"); None: loss or
            gradients of the step itself, which was not applied.
    Attributes:
        step: the first step that could not be skipped, or the last one that was applied.
        is_logged: whether the log has a row about it.
    """

    def __init__(self, step: Step, what: str | None = None) -> None:
        self.step, self.is_logged = step, what is None
        anew = "a new run with a smaller --optim.lr (and --optim.muon-lr) or a longer warm-up"
        super().__init__(
            f"loss or gradients are not finite at step {step.number}: that step was not applied, "
            "the last checkpoint, if any, is kept; resume with --max-skipped-steps N to skip such "
            f"steps, or begin {anew}"
            if what is None
            else f"{what} not finite after step {step.number}: the last checkpoint before, if any, "
            f"is kept; begin {anew}"
        )


def last_step(trainer: Trainer) -> Step:
    """The last step of a trainer, described as a step after which something was not finite."""
    n_before = trainer.n_windows - trainer.batch_sizes[trainer.stage]
    return Step(
        number=trainer.step,
        first_window=max(0, n_before),
        stage=trainer.stage,
        loss=None,
        sigmas=None,
        is_finite=False,
        is_one_too_many=True,
    )


class Watch:
    """Reads finished steps and compares each loss with those before it."""

    def __init__(self) -> None:
        self.losses: deque[float] = deque(maxlen=HISTORY)
        self.n_spikes = 0

    def read(self, records: Sequence[StepRecord]) -> list[Step]:
        """Read these steps from the device, waiting for it once."""
        if not records:
            return []
        columns = (
            torch.stack([getattr(record, name) for record in records]).tolist()
            for name in ("loss", "is_finite", "is_one_too_many")
        )
        steps = []
        for record, loss, is_finite, is_over in zip(records, *columns, strict=True):
            sigmas = self._sigmas(loss) if is_finite else None
            self.n_spikes += sigmas is not None
            steps.append(
                Step(
                    number=record.number,
                    first_window=record.first_window,
                    stage=record.stage,
                    loss=loss if math.isfinite(loss) else None,
                    sigmas=sigmas,
                    is_finite=is_finite,
                    is_one_too_many=is_over and not is_finite,
                )
            )
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
        """The recent losses, and the number of spikes."""
        return {"n_spikes": self.n_spikes, "losses": list(self.losses)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state."""
        self.n_spikes = state["n_spikes"]
        self.losses = deque(state["losses"], maxlen=HISTORY)
