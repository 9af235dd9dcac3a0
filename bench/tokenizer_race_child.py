"""A process that loads one contender of tokenizer_race.py and does one job with it.

`python bench/tokenizer_race_child.py JOB CONTENDER ARGUMENTS_AS_JSON` prints, as its last line, the
CPU seconds and the wall seconds since the process began and its peak memory, all before the result
is made comparable, and then that result.
"""

import sys
import time
from typing import Any

from tokenizer_contenders import CONTENDERS, ids_of

Row = dict[str, Any]


def measured(began: float) -> Row:
    """The figures of this process; began is the parent's time.monotonic() when it started it."""
    row: Row = {"cpu_seconds": time.process_time(), "wall_seconds": time.monotonic() - began}
    from fastlm.devices.process import peak_resident_bytes

    return row | {"peak_rss_bytes": peak_resident_bytes()}


def start(contender: str, began: float, folder: str, path: str, n_threads: int) -> Row:
    """Load the vocabulary and encode a file's text to a list."""
    ways = CONTENDERS[contender].load(folder, n_threads)
    with open(path, encoding="utf-8", newline="") as file:
        ids = (ways.to_first_list or ways.to_list)(file.read())
    return measured(began) | {"result": digest(ids)}


def train(
    contender: str, began: float, path: str, vocab_size: int, n_threads: int, tokens: str
) -> Row:
    """Train, and write the tokens to a file, one a line in hexadecimal digits."""
    tokens_of = CONTENDERS[contender].train(path, vocab_size, n_threads)
    row = measured(began)
    with open(tokens, "w") as file:
        file.write("\n".join(token.hex() for token in tokens_of()))
    return row


def digest(ids: Any) -> str:
    """A hash of ids, the same for lists and arrays."""
    import hashlib

    import numpy as np

    return hashlib.sha256(ids_of(ids).astype(np.uint32).tobytes()).hexdigest()


if __name__ == "__main__":
    import json

    job = {"start": start, "train": train}[sys.argv[1]]
    print("\n" + json.dumps(job(sys.argv[2], **json.loads(sys.argv[3]))))
