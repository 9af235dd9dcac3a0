"""Budgets in steps, tokens and time: how much of a run is done, and when it is over."""

import math
import statistics
import time

from fastlm.checkpoint.saver import Saver
from fastlm.config import TrainConfig

_LEAVING_SECONDS = 10.0
_MARGIN = 0.1
"""Safety margin: the final validation and save may take 10 % longer than predicted."""
_LEAST_MARGIN_SECONDS = 0.5

N_RECENT = 101
"""Measurements in a median: so few that it costs microseconds however long the run is and follows
a machine that changed its speed after 51 log rows, so many that 50 slow ones in a row are a hiccup
and do not end the run early."""

REASONS = ("step budget", "token budget", "time budget")
"""Values that Budget.is_over can return, besides None."""


class Clock:
    """The clocks of a run, which continue when it is resumed.

    elapsed counts from the start of the process, seconds from the start of the first step. The
    difference is the time of start-up and compilation.
    """

    def __init__(self, started: float) -> None:
        self.started = started
        self.earlier_elapsed = 0.0
        self.earlier_seconds = 0.0
        self.first_step_began: float | None = None

    def continue_from(self, elapsed: float, seconds: float) -> None:
        """Add the times of the run before it was resumed."""
        self.earlier_elapsed, self.earlier_seconds = elapsed, seconds

    def begin_steps(self) -> None:
        """Mark the start of the first step."""
        self.first_step_began = time.perf_counter()

    @property
    def elapsed(self) -> float:
        """Seconds since the start of the process."""
        return self.earlier_elapsed + time.perf_counter() - self.started

    @property
    def seconds(self) -> float:
        """Seconds since the start of the first step, including validations and checkpoints."""
        if self.first_step_began is None:
            return self.earlier_seconds
        return self.earlier_seconds + time.perf_counter() - self.first_step_began


class Measured:
    """A duration that is measured again and again; its median is computed when one is appended.

    Args:
        seconds: the first measurements.
    """

    def __init__(self, *seconds: float) -> None:
        self.all = list(seconds)
        """Every measurement, for the run's summary."""
        self.median = self._recent_median()
        """Median of the last N_RECENT measurements; NaN before the first."""

    def append(self, seconds: float) -> None:
        """Add a measurement."""
        self.all.append(seconds)
        self.median = self._recent_median()

    def _recent_median(self) -> float:
        return statistics.median(self.all[-N_RECENT:]) if self.all else math.nan


class Budget:
    """The budgets of a run, with estimates of how long its parts take.

    Args:
        n_val_tokens: tokens of the final validation, which must fit in the time budget.
        is_waited_for: whether a step is complete when train_step returns, as on a CPU; a GPU may
            still run the previous step.
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
        self.window_seconds = Measured()
        """Seconds per training window: one entry for the warm-up and one per log interval."""
        self.eval_seconds_per_token = Measured()
        """Seconds per validation token: one entry for the warm-up and one per validation."""

    def use_config(self, config: TrainConfig) -> None:
        """Continue with other budgets."""
        self.config = config

    def progress(self, step: int) -> float:
        """Share of the run that is done: the larger of its shares of steps and of time.

        Time counts from the first step, so that a slow start does not cut the warm-up short, and
        not at all with fix_steps.
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

    def progress_after(self, step: int, now: float | None = None) -> float:
        """Share of the run that is done after this step; above 0 already for the first step.

        Args:
            now: share that is done before the step; by default progress(step - 1).
        """
        now = self.progress(step - 1) if now is None else now
        if self.config.total_steps is None:
            return now
        return max(now, min(1.0, step / self.config.total_steps))

    @property
    def reserve(self) -> float:
        """Seconds reserved for the last step, validation and checkpoint, from measured times.

        The margin and on average half a step stay unused: if a step takes less than a hundredth
        of a budget of one minute, 98 % of the budget is used, and more of a longer one.
        """
        # Medians, and a validation token never counts more than a training token: a hiccup must
        # not end the run early.
        window = self.window_seconds.median
        per_token = min(
            self.eval_seconds_per_token.median, window / self.config.model.context_length
        )
        steps = self._n_steps_ahead * window * self.config.batch_sizes[-1]
        end = steps + per_token * self.n_val_tokens + self.saver.seconds
        return end + max(_MARGIN * end, _LEAST_MARGIN_SECONDS)

    @property
    def stop_seconds(self) -> float:
        """Seconds that a clean stop can take: queued steps, checkpoints, exit."""
        step = self.window_seconds.median * self.config.batch_sizes[-1]
        return 2 * step + 2 * self.saver.seconds + _LEAVING_SECONDS

    def save_is_due(self, next_tokens: int) -> bool:
        """Whether a checkpoint is to follow the next step, as the last one gets too old.

        Args:
            next_tokens: tokens of the next step, during which the last checkpoint ages further.
        """
        minutes = self.config.checkpoint_minutes
        if minutes is None:
            return self.saver.is_due(None)
        n_windows = next_tokens / self.config.model.context_length
        return self.saver.is_due(60.0 * minutes - n_windows * self.window_seconds.median)

    def seconds_left(self, step: int, tokens: int) -> float:
        """Predicted seconds to the end of training, at the speed so far."""
        limits = []
        if self.config.total_steps is not None:
            left = self.config.tokens_in(self.config.total_steps) - tokens
            limits.append(left * self.clock.seconds / tokens)
        if self.config.time_budget is not None:
            limits.append(self.config.time_budget - self.reserve - self.clock.elapsed)
        return max(0.0, min(limits))

    def is_over(self, step: int, tokens: int, next_tokens: int) -> str | None:
        """Name of the budget that the next step, of next_tokens, would exceed; None if none."""
        total_steps, time_budget = self.config.total_steps, self.config.time_budget
        max_tokens = self.config.max_tokens
        if total_steps is not None and step >= total_steps:
            return "step budget" if self.config.max_steps == total_steps else "token budget"
        # If time is ahead of the steps, the batch ramp rises sooner than planned.
        if step > 0 and max_tokens is not None and tokens + next_tokens > max_tokens:
            return "token budget"
        if time_budget is not None and self.clock.elapsed >= time_budget - self.reserve:
            return "time budget"
        return None
