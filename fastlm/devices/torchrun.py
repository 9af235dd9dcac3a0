"""torchrun's world size, and how a process of several exits; does not import torch."""

import contextlib
import os
import sys
from collections.abc import Iterator


def world_size() -> int:
    """Number of processes that torchrun started; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextlib.contextmanager
def left_at_once() -> Iterator[None]:
    """Inside `with`, sys.exit() ends a process of several at once, without interpreter shutdown.

    gloo's threads outlive destroy_process_group() and may touch Python objects during shutdown:
    a finished run would end with SIGABRT (pytorch/pytorch#179291).
    """
    try:
        yield
    except SystemExit as end:
        if world_size() > 1 and isinstance(end.code, int):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code)
        raise
