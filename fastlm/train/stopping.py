"""Stopping a run for a budget, a signal or the end of the job, in agreement of all processes."""

from typing import NamedTuple

from fastlm.devices.ranks import Ranks
from fastlm.train import budget, signals
from fastlm.train.budget import Budget
from fastlm.train.signals import Stopped, StopRequest

_REASONS = (None, *budget.REASONS, *signals.REASONS)


class Decision(NamedTuple):
    """Decision before a step, which all processes share.

    Attributes:
        reason: why training is over; None if there is a next step.
        saves: whether a checkpoint follows the step, by age or to repeat a failed one.
        stage: stage of the batch ramp of the next step, for which the budgets were checked.
        progress: share of the run that is done after the next step.
    """

    reason: str | None
    saves: bool
    stage: int
    progress: float


class Stopping:
    """Decides before each step whether the run ends, and the stage and progress of the step.

    All processes call its methods, in the same order. Any process may be asked to stop; the clock
    of the first one counts.
    """

    def __init__(self, budget: Budget, request: StopRequest, ranks: Ranks) -> None:
        self.budget, self.request, self.ranks = budget, request, ranks

    def asked(self) -> str | None:
        """Reason why any process was asked to stop before the run's end; None if none was."""
        (code,) = self.ranks.largest(_REASONS.index(self._own_request()))
        return _REASONS[int(code)]

    def check(self) -> None:
        """Raise Stopped if any process was asked to stop."""
        if reason := self.asked():
            raise Stopped(reason)

    def decide(self, step: int, tokens: int) -> Decision:
        """Agree with all processes on what follows after so many steps and tokens.

        The clock is read once: the step that is taken is the one that was checked.
        """
        reason, now, saves = self._own_request(), 0.0, False
        config = self.budget.config
        if self.ranks.is_first:
            now = self.budget.progress(step)
            next_tokens = config.batch_sizes[config.stage(now)] * config.model.context_length
            reason = reason or self.budget.is_over(step, tokens, next_tokens)
            saves = self.budget.save_is_due(next_tokens)
        code, now, saves_now = self.ranks.largest(_REASONS.index(reason), now, saves)
        return Decision(
            _REASONS[int(code)],
            saves=bool(saves_now),
            stage=config.stage(now),
            progress=self.budget.progress_after(step + 1, now),
        )

    def _own_request(self) -> str | None:
        if self.request.reason is None and self.request.job_ends is not None:
            self.request.ends_within(self.budget.stop_seconds)
        return self.request.reason
