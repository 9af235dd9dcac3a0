"""Ctrl-C at any moment ends a command with exit code 130 and one line, and no traceback."""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

INTERRUPTED = 130


def exit_on_interrupt() -> None:
    """Exit on SIGINT from now on; what begins a command calls this before slow imports.

    A process in which SIGINT is ignored or has a handler already keeps that.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


@contextlib.contextmanager
def raising() -> Iterator[None]:
    """Inside the block SIGINT raises KeyboardInterrupt again, so that work can clear up."""
    if signal.getsignal(signal.SIGINT) is not _leave:
        yield
        return
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
    finally:
        exit_on_interrupt()


def _leave(number: int, frame: FrameType | None) -> None:
    with contextlib.suppress(OSError):  # the terminal may have hung up
        os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)
