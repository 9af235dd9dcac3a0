"""Streams that take the place of standard streams that are closed or lost."""

import errno
import io
import os
from typing import Any


class Nowhere(io.BytesIO):
    """The bytes below a stream that was closed before the command began: nobody reads them."""

    def write(self, raw: Any) -> int:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def point_to_nowhere(number: int) -> None:
    """Let a descriptor write to the null device from now on."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


def open_closed_streams() -> None:
    """Open the null device in place of each closed standard stream.

    Otherwise the next file that is opened gets its descriptor, and printed text goes into the file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
