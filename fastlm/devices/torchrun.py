"""torchrun's world size, and how a process of several exits; does not import torch."""

import contextlib
import os
import sys
from collections.abc import Iterator


def world_size() -> int:
    """Number of processes that torchrun started; 1 without torchrun.

    Raises:
        ValueError: if WORLD_SIZE is no such number.
    """
    text = os.environ.get("WORLD_SIZE", "").strip() or "1"
    if not (text.isascii() and text.isdecimal()) or len(text) > 9 or int(text) < 1:
        raise ValueError(
            f"WORLD_SIZE must be the number of processes that torchrun started: got {text!r}; "
            "unset it"
        )
    return int(text)


def check_started(*, has_gpu: bool) -> None:
    """Check that torchrun started this process, and that WORLD_SIZE is no leftover of another.

    Args:
        has_gpu: whether the process computes on a GPU of its own, which LOCAL_RANK chooses.
    Raises:
        ValueError: if another variable of torchrun is missing, or RANK is no valid rank.
    """
    names = ("RANK", "MASTER_ADDR", "MASTER_PORT")
    for name in (*names, "LOCAL_RANK") if has_gpu else names:
        if not os.environ.get(name):
            raise ValueError(
                f"WORLD_SIZE={os.environ['WORLD_SIZE']} says that torchrun started this process, "
                f"but {name} is not set: start it with torchrun, or unset WORLD_SIZE"
            )
    rank, size = os.environ["RANK"].strip(), world_size()
    if not (rank.isascii() and rank.isdecimal()) or len(rank) > 9 or int(rank) >= size:
        raise ValueError(
            f"RANK must be the number of this process, from 0 to {size - 1} of WORLD_SIZE={size}: "
            f"got {rank!r}; start it with torchrun, or unset WORLD_SIZE"
        )


def check_environment() -> None:
    """Check what torchrun sets, before slow imports.

    Raises:
        ValueError: if a variable is missing or no such number.
    """
    if world_size() > 1:
        check_started(has_gpu=False)


@contextlib.contextmanager
def left_at_once() -> Iterator[None]:
    """Inside `with`, sys.exit() ends a process of several at once, without interpreter shutdown.

    gloo's threads outlive destroy_process_group() and may touch Python objects during shutdown:
    a finished run would end with SIGABRT (pytorch/pytorch#179291).
    """
    is_one_of_several = False
    try:
        yield
    except SystemExit as end:
        with contextlib.suppress(ValueError):
            is_one_of_several = world_size() > 1
        if is_one_of_several and isinstance(end.code, int):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code)
        raise
