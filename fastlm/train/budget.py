"""How much of a run is done, and when it is over: by steps, by tokens or by the clock."""

import statistics
import time

from fastlm.checkpoint.saver import Saver
from fastlm.config import TrainConfig

_LEAVING_SECONDS = 10.0
_MARGIN = 0.1
"""safety margin: the final validation and save may take 10 % longer than predicted"""
_LEAST_MARGIN_SECONDS = 0.5

REASONS = ("step budget", "token budget", "time budget")
"""what Budget.is_over can return"""


class Clock:
    """Counts on where an earlier part of the run stopped.

    elapsed runs from the process's start (what is paid for); seconds runs from the moment the
    first step begins. The difference is what start-up and compilation took.
    """

    def __init__(self, started: float) -> None:
        self.started = started
        self.earlier_elapsed = 0.0
        self.earlier_seconds = 0.0
        self.first_step_began: float | None = None

    def continue_from(self, elapsed: float, seconds: float) -> None:
        """Add the times of the run's earlier part."""
        self.earlier_elapsed, self.earlier_seconds = elapsed, seconds

    def begin_steps(self) -> None:
        """The first step begins now."""
        self.first_step_began = time.perf_counter()

    @property
    def elapsed(self) -> float:
        """Seconds since the process started."""
        return self.earlier_elapsed + time.perf_counter() - self.started

    @property
    def seconds(self) -> float:
        """Seconds since the first step began; validations and checkpoints on the way count."""
        if self.first_step_began is None:
            return self.earlier_seconds
        return self.earlier_seconds + time.perf_counter() - self.first_step_began


class Budget:
    """Knows what a run may use, and learns how long its parts take.

    Args:
        n_val_tokens: of the last validation, which has to fit in the time.
        is_waited_for: whether a step is done when train_step returns, as on a CPU; a GPU may still
            be at the step before.
    """

    def __init__(
        self,
        config: TrainConfig,
        clock: Clock,
        saver: Saver,
        *,
        n_val_tokens: int,
        is_waited_for: bool,
    ) -> None:
        self.config, self.clock, self.saver = config, clock, saver
        self.n_val_tokens = n_val_tokens
        self._n_steps_ahead = 1 if is_waited_for else 2
        self.window_seconds: list[float] = []
        """of training on a window, in the warm-up and in each log interval"""
        self.eval_seconds_per_token: list[float] = []
        """in the warm-up and in each validation"""

    def use_config(self, config: TrainConfig) -> None:
        """Go on with other budgets."""
        self.config = config

    def progress(self, step: int) -> float:
        """Share of the run that is done: of its steps or of its time, whichever is further.

        Time counts from the first step on, so that a slow start does not cut the warm-up, and not
        at all where steps are fixed.
        """
        shares = [0.0]
        if self.config.total_steps is not None:
            shares.append(step / self.config.total_steps)
        if self.config.time_budget is not None and not self.config.fix_steps:
            seconds = self.clock.seconds
            start_up = self.clock.elapsed - seconds
            available = self.config.time_budget - self.reserve - start_up
            shares.append(seconds / available if available > 0 else 1.0)
        return min(1.0, max(shares))

    def progress_with(self, step: int, now: float | None = None) -> float:
        """Share of the run that is done when this step is: the first is above 0.

        Args:
            now: share that is done before it; what progress says when not given.
        """
        now = self.progress(step - 1) if now is None else now
        if self.config.total_steps is None:
            return now
        return max(now, min(1.0, step / self.config.total_steps))

    @property
    def reserve(self) -> float:
        """Seconds to keep for the last step, validation and checkpoint, by what they took so far.

        The margin and, on average, half a step of it are left over: of a minute 98 % is used where
        a step takes less than a hundredth of it, and more of longer budgets.
        """
        # Medians, and never more than training takes: a hiccup must not end the run early.
        window = statistics.median(self.window_seconds)
        per_token = min(
            statistics.median(self.eval_seconds_per_token),
            window / self.config.model.context_length,
        )
        steps = self._n_steps_ahead * window * self.config.batch_sizes[-1]
        end = steps + per_token * self.n_val_tokens + self.saver.seconds
        return end + max(_MARGIN * end, _LEAST_MARGIN_SECONDS)

    @property
    def stop_seconds(self) -> float:
        """Seconds that a clean stop can take: steps under way, checkpoints, leaving."""
        step = statistics.median(self.window_seconds) * self.config.batch_sizes[-1]
        return 2 * step + 2 * self.saver.seconds + _LEAVING_SECONDS

    def seconds_left(self, step: int, tokens: int) -> float:
        """Seconds to the end of training, at the speed so far."""
        limits = []
        if self.config.total_steps is not None:
            left = self.config.tokens_in(self.config.total_steps) - tokens
            limits.append(left * self.clock.seconds / tokens)
        if self.config.time_budget is not None:
            limits.append(self.config.time_budget - self.reserve - self.clock.elapsed)
        return max(0.0, min(limits))

    def is_over(self, step: int, tokens: int, next_tokens: int) -> str | None:
        """Which budget does not hold the next step, of next_tokens; None if all do."""
        total_steps, time_budget = self.config.total_steps, self.config.time_budget
        max_tokens = self.config.max_tokens
        if total_steps is not None and step >= total_steps:
            return "step budget" if self.config.max_steps == total_steps else "token budget"
        # A clock that is ahead of the steps makes the batch grow sooner.
        if step > 0 and max_tokens is not None and tokens + next_tokens > max_tokens:
            return "token budget"
        if time_budget is not None and self.clock.elapsed >= time_budget - self.reserve:
            return "time budget"
        return None
