"""The two times of a run: the budget's clock and the seconds of training.

Level 0.
"""

import time


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
