"""Steps that were not finite, and spikes of the loss."""

import math
import statistics
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from fastlm.train.trainer import StepRecord

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
        stage: of the batch ramp.
        loss: None if it was not finite.
        sigmas: standard deviations above the mean of the last steps, where it is a spike.
        is_finite: loss and gradients; a step that is not was not applied.
        is_one_too_many: not finite, after as many as may be left out: nothing is applied any more.
    """

    number: int
    first_window: int
    stage: int
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
    """Compares each step's loss with those before it, when it is asked to read them."""

    def __init__(self) -> None:
        self.losses: deque[float] = deque(maxlen=HISTORY)
        self.n_spikes = 0

    def read(self, records: Sequence[StepRecord]) -> list[Step]:
        """What became of these steps; the device is waited for once."""
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
        """The losses that the next steps are compared with, and how many spikes there were."""
        return {"n_spikes": self.n_spikes, "losses": list(self.losses)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.n_spikes = state["n_spikes"]
        self.losses = deque(state["losses"], maxlen=HISTORY)
