"""Requests to stop a run: signals, and the end of its Slurm job.

This module is imported before slow ones, so that signals during start-up are handled.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

SAVED = 75
"""Exit code of a run that was stopped and can be resumed: EX_TEMPFAIL."""

_HUP, _XCPU = (getattr(signal, name, None) for name in ("SIGHUP", "SIGXCPU"))
_NEVER_SECOND = (_HUP, _XCPU)
"""Signals that never count as a second request: a terminal may send one to a run that is saving,
and the kernel sends SIGXCPU every second from a soft limit of CPU time to the hard one."""

_SIGNALS = [
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGXCPU", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
]


END_OF_JOB = "the end of the job"
REASONS = (*(number.name for number in _SIGNALS), END_OF_JOB)
"""Values of StopRequest.reason, besides None."""


TOGETHER_SECONDS = 1.0
"""A second signal within this time belongs to the same stop: Slurm sends one, and a script or
torchrun forwards it. A second SIGINT comes from a person and always counts."""


class Stopped(BaseException):
    """Asked to stop while there is nothing to save.

    It is not an Exception, so that no `except Exception` catches it.
    """


def exit_on_signals() -> None:
    """Exit with code 75 on a signal, until StopRequest takes over; there is nothing to save yet."""
    for number in handled():
        signal.signal(number, _leave)


def handled() -> list[signal.Signals]:
    """The signals that ask a run to stop, but for those that are ignored.

    So nohup ignores SIGHUP, and a script SIGINT for what it begins with &.
    """
    return [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]


def _leave(number: int, frame: FrameType | None) -> None:
    name = signal.Signals(number).name
    with contextlib.suppress(OSError):  # the terminal may have hung up
        os.write(2, f"stopped by {name} before training began\n".encode())
    os._exit(SAVED)


def _answer_at_once() -> None:
    """Tell the person at the terminal that Ctrl-C was heard: a step may take seconds to end."""
    # torchrun's processes share the terminal: the first answers.
    if os.environ.get("RANK", "0") == "0":
        with contextlib.suppress(OSError):  # nobody is there any more
            if os.isatty(2):
                told = "\nstopping: this step ends and is saved; Ctrl-C again leaves without saving"
                os.write(2, f"{told}\n".encode())


class StopRequest:
    """Records the first signal that asks to stop; a second one raises KeyboardInterrupt.

    These are SIGTERM, SIGINT, SIGUSR1 and SIGUSR2; SIGHUP and SIGXCPU too, but never as the second.
    One that was ignored when the process began stays so. Signals are handled inside `with`, in the
    main thread; in another thread the caller must stop the run.

    Args:
        job_ends: time at which this process's job will be killed, in seconds since the epoch.
    """

    def __init__(self, job_ends: float | None = None) -> None:
        self.job_ends = job_ends
        self.reason: str | None = None
        """Why to stop: a member of REASONS, or None."""
        self._raises = False
        self._noted: float | None = None
        """Time of the first signal."""
        self._previous: dict[Any, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self._previous = {n: signal.signal(n, self._note) for n in handled()}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            # The run is over: a later signal must not change how it ended.
            signal.signal(number, signal.SIG_IGN if handler is _leave else handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._noted is None:
            self._noted = now
            self.reason = self.reason or signal.Signals(number).name
            if self._raises:
                raise Stopped(self.reason)
            if number == signal.SIGINT:
                _answer_at_once()
        elif number in _NEVER_SECOND:
            return
        elif number == signal.SIGINT or now - self._noted >= TOGETHER_SECONDS:
            raise KeyboardInterrupt  # a second request does not wait

    @contextlib.contextmanager
    def raising(self) -> Iterator[None]:
        """Inside `with` a signal raises Stopped at once, because there is nothing to save.

        An earlier signal raises it on entry.
        """
        self._raises = True
        try:
            if self.reason is not None:
                raise Stopped(self.reason)
            yield
        finally:
            self._raises = False

    def ends_within(self, seconds: float) -> bool:
        """Whether the job ends within so many seconds; if so, this becomes the reason to stop."""
        if self.job_ends is None or time.time() < self.job_ends - seconds:
            return False
        self.reason = self.reason or END_OF_JOB
        return True


def job_end(warn: Callable[[str], None] = lambda text: None) -> float | None:
    """Time at which Slurm ends this process's job, in seconds since the epoch; None elsewhere.

    Args:
        warn: called with a message if the time has passed: the variable is an earlier job's.
    """
    text = os.environ.get("SLURM_JOB_END_TIME", "")
    if not (text.isascii() and text.isdecimal()) or (end := float(text)) == 0.0:
        return None
    if end <= time.time():
        warn(f"SLURM_JOB_END_TIME={text} has passed and is ignored: unset it")
        return None
    return end
