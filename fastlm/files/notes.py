"""When the progress of writing token files is noted, so that a later process can continue."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from fastlm.files.tokens import TokenWriter, Written
from fastlm.lazy import numpy as np

if TYPE_CHECKING:
    from jaxtyping import UInt

NOTE_BYTES = 1 << 30
"""Bytes of text after which a note of the progress is written."""
NOTE_SECONDS = 30.0
"""Seconds after which a note is written, however little text was added."""


class End(NamedTuple):
    """End of the text that an array of ids encodes."""

    text_bytes: int
    """Bytes of all text up to this end."""
    place: Any
    """JSON value that says where reading continues."""


class NoteTimes:
    """Tells when the work since the last note is too much to lose."""

    def __init__(self) -> None:
        """Start with no work done."""
        self._n_bytes, self._noted_at = 0, time.monotonic()

    def add(self, n_bytes: int) -> bool:
        """Count n_bytes more of text; return whether a note is due."""
        self._n_bytes += n_bytes
        is_late = time.monotonic() - self._noted_at >= NOTE_SECONDS
        if not is_late and self._n_bytes < NOTE_BYTES:
            return False
        self._n_bytes, self._noted_at = 0, time.monotonic()
        return True


def write_noted(
    arrays: Iterable[UInt[np.ndarray, " n_ids"]],
    ends: deque[End],
    writer: TokenWriter,
    times: NoteTimes,
    *,
    text_bytes: int,
    keep: Callable[[End, Written], object],
    note: Callable[[], object],
) -> None:
    """Write ids, and note the progress at intervals and when an error ends the writing.

    Args:
        ends: queue that holds the End of an array by the time the array is yielded.
        text_bytes: bytes of text encoded before.
        keep: called after each array is written.
        note: flushes the ids to disk, and then the last values given to keep.
    """
    try:
        for array in arrays:
            written = writer.write(array)
            end = ends.popleft()
            keep(end, written)
            if times.add(end.text_bytes - text_bytes):
                note()
            text_bytes = end.text_bytes
    except BaseException:
        # This may fail for the same reason (a full disk): then the last note is valid.
        with contextlib.suppress(OSError):
            note()
        raise
