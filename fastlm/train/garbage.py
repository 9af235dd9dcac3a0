"""Garbage collection out of the training loop.

Level 0. Python looks for cycles whenever enough objects were made: a pause of the host at a moment
of its own choice, longer the more objects a process has, in which a GPU may run out of work.
"""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def collected_by_hand() -> Iterator[None]:
    """Collect nothing inside but where gc.collect() is called, and never what is there before."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()
