"""How much memory a command takes at its most, and texts to give it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parents[2]
END = b"<|endoftext|>"

# A process begins with the peak of the one that starts it: so this one, which is small, does.
_START = """
import os, resource, sys
pid = os.posix_spawn(sys.executable, [sys.executable, *sys.argv[1:]], os.environ)
_, status, used = os.wait4(pid, 0)
print(used.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
sys.exit(os.waitstatus_to_exitcode(status))
"""


def peak_bytes(*words: object) -> tuple[int, float]:
    """Most resident memory of `python words...`, and the seconds it took.

    Raises:
        AssertionError: with what it said, if it failed.
    """
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _START, *map(str, words)],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1]), time.perf_counter() - began


def shuffled(documents: list[bytes], n_bytes: int, rng: Random) -> Iterator[int]:
    """Numbers of documents in new orders again and again, until they hold n_bytes."""
    numbers = list(range(len(documents)))
    n = 0
    while True:
        rng.shuffle(numbers)
        for number in numbers:
            if n >= n_bytes:
                return
            n += len(documents[number]) + len(END)
            yield number
