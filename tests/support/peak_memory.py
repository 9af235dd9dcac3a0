"""The peak memory of a command, and the order of documents in texts to give it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parents[2]
END = b"<|endoftext|>"

# The process says its own peak when it has come to its end.
_RUN = """
import runpy, sys
from fastlm.devices.process import peak_resident_bytes
_, option, what, *sys.argv[1:] = sys.argv
try:
    if option == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(what, {"__name__": "__main__"})
finally:
    print(peak_resident_bytes())
"""


def peak_bytes(*words: object) -> tuple[int, float]:
    """Return the peak resident memory of `python words...`, and the seconds it took.

    Args:
        words: -m and a module, or -c and a program, then their arguments.
    Raises:
        AssertionError: with what it said, if it failed.
    """
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _RUN, *map(str, words)],
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
