"""Stopping a run for a budget, a signal or the end of the job, in agreement of all processes."""

from typing import NamedTuple

from fastlm.devices.ranks import Ranks
from fastlm.train import budget, signals
from fastlm.train.budget import Budget
from fastlm.train.signals import Stopped, StopRequest

_REASONS = (None, *budget.REASONS, *signals.REASONS)


class Decision(NamedTuple):
    """The same for all processes.

    Attributes:
        reason: why training is over; None if there is a next step.
        retries_save: whether the checkpoint that could not be saved is to be saved again.
    """

    reason: str | None
    retries_save: bool


class Stopping:
    """Decides before each step whether the run ends, and the progress of the step.

    All processes call its methods, in the same order. Any process may be asked to stop; the clock
    of the first one counts.
    """

    def __init__(self, budget: Budget, request: StopRequest, ranks: Ranks) -> None:
        self.budget, self.request, self.ranks = budget, request, ranks
        self._agreed_progress = 0.0

    def progress(self, step: int) -> float:
        """Share of the run that is done after `step` steps, as decide() found it for all."""
        return self._agreed_progress if self.ranks.size > 1 else self.budget.progress(step)

    def next_step(self, step: int) -> tuple[int, float]:
        """Stage of the next step after `step` steps, and the share of the run done after it."""
        now = self.progress(step)
        return self.budget.config.stage(now), self.budget.progress_after(step + 1, now)

    def asked(self) -> str | None:
        """Reason why any process was asked to stop before the run's end; None if none was."""
        (code,) = self.ranks.largest(_REASONS.index(self._own_request()))
        return _REASONS[int(code)]

    def check(self) -> None:
        """Raise Stopped if any process was asked to stop."""
        if reason := self.asked():
            raise Stopped(reason)

    def decide(self, step: int, tokens: int, *, wants_retry: bool) -> Decision:
        """Agree with all processes on what follows after so many steps and tokens.

        Args:
            wants_retry: whether the save of a checkpoint is to be retried; counts on rank 0 only.
        """
        reason, progress = self._own_request(), 0.0
        if self.ranks.is_first:
            progress = self.budget.progress(step)
            config = self.budget.config
            next_tokens = config.batch_sizes[config.stage(progress)] * config.model.context_length
            reason = reason or self.budget.is_over(step, tokens, next_tokens)
        code, self._agreed_progress, retry = self.ranks.largest(
            _REASONS.index(reason), progress, wants_retry and self.ranks.is_first
        )
        return Decision(_REASONS[int(code)], bool(retry))

    def _own_request(self) -> str | None:
        if self.request.reason is None:
            self.request.ends_within(self.budget.stop_seconds)
        return self.request.reason
