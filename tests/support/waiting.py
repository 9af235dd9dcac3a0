"""Calls that must not wait for ever, as reading a pipe does that nobody writes to."""

import contextlib
import signal
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def in_time() -> Iterator[None]:
    """Interrupt what waits for ever."""
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it waits"))
    signal.alarm(5)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
