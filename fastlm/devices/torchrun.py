"""One process of several: what torchrun tells it, and how it ends; known before torch is there."""

import contextlib
import os
import sys
from collections.abc import Iterator


def world_size() -> int:
    """How many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextlib.contextmanager
def left_at_once() -> Iterator[None]:
    """Inside `with`, sys.exit() ends a process of several at once, without Python's tidying up.

    gloo's threads outlive destroy_process_group(), and may touch Python objects while these go:
    SIGABRT of a run that has done all it had to (pytorch/pytorch#179291).
    """
    try:
        yield
    except SystemExit as end:
        if world_size() > 1 and isinstance(end.code, int):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code)
        raise
