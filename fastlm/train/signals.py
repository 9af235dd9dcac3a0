"""What asks a run to stop: signals, and the end of the job it runs in.

Imported before all that is slow, so that a signal during start-up finds it in place.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

SAVED = 75
"""exit code of a run that was stopped and can go on: EX_TEMPFAIL"""

_SIGNALS = [
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
]


END_OF_JOB = "the end of the job"
REASONS = (*(number.name for number in _SIGNALS), END_OF_JOB)
"""what StopRequest.reason can be"""


TOGETHER_SECONDS = 1.0
"""after the first signal, in which another is the same stop: Slurm's own, and what a script or
torchrun passes on; not SIGINT, which a person sends"""


class Stopped(BaseException):
    """Asked to stop where there is nothing to save. No Exception: nobody on the way catches it."""


def exit_on_signals() -> None:
    """Until StopRequest takes over, leave at once with exit code 75: nothing has been done yet."""
    for number in _SIGNALS:
        signal.signal(number, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    name = signal.Signals(number).name
    os.write(2, f"stopped by {name} before training began\n".encode())
    os._exit(SAVED)


class StopRequest:
    """Notes the first SIGTERM, SIGINT, SIGUSR1 or SIGUSR2; the second is a KeyboardInterrupt.

    Signals are taken inside `with`, in a main thread; in another the caller has to stop the run.

    Args:
        job_ends: when the job that this process runs in will be killed, seconds since the epoch.
    """

    def __init__(self, job_ends: float | None = None) -> None:
        self.job_ends = job_ends
        self.reason: str | None = None
        """name of the signal, or what else asked to stop"""
        self._raises = False
        self._noted: float | None = None
        """when the first signal came"""
        self._previous: dict[Any, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self._previous = {n: signal.signal(n, self._note) for n in _SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            # The run is over: what comes now does not change how it ended.
            signal.signal(number, signal.SIG_IGN if handler is _leave else handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._noted is None:
            self._noted = now
            self.reason = self.reason or signal.Signals(number).name
            if self._raises:
                raise Stopped(self.reason)
        elif number == signal.SIGINT or now - self._noted >= TOGETHER_SECONDS:
            raise KeyboardInterrupt  # the second does not wait

    @contextlib.contextmanager
    def raising(self) -> Iterator[None]:
        """Inside `with` a signal raises Stopped at once: nothing has to be saved there."""
        self._raises = True
        try:
            yield
        finally:
            self._raises = False

    def ends_within(self, seconds: float) -> bool:
        """Whether the job ends so soon; if so, that is now the reason to stop."""
        if self.job_ends is None or time.time() < self.job_ends - seconds:
            return False
        self.reason = self.reason or END_OF_JOB
        return True


def job_end() -> float | None:
    """When Slurm ends the job this process runs in, seconds since the epoch; None elsewhere."""
    text = os.environ.get("SLURM_JOB_END_TIME", "")
    return float(text) if text.isdecimal() and int(text) > 0 else None
