"""Choose training windows from token files, order them and move them to a device.

Every window is a function of the seed and its number, so that a run can stop anywhere and
continue with the next window, even with another batch size.
"""

import functools
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from fastlm.files.tokens import DataLost, ShardedTokens, Tokens

Sampling = Literal["shuffled", "random"]
Batch = tuple[Int[Tensor, "batch seq"], Int[Tensor, "batch seq"]]


def window_starts(
    first: int,
    n: int,
    *,
    n_tokens: int,
    context_length: int,
    sampling: Sampling,
    seed: int,
) -> NDArray[np.int64]:
    """Return the starts of windows first ... first + n - 1 of a run, as a pure function.

    With "random", each start 0 ... n_tokens - context_length - 1 is equally likely. With
    "shuffled", each epoch cuts the tokens into adjacent windows from a random offset and visits
    them in a random order, so that every token is a target once, except for fewer than two windows
    of tokens at the ends.

    Raises:
        ValueError: if the tokens do not fill one window.
    """
    check_length(n_tokens, context_length)
    if sampling == "random":
        return _hash_below(np.arange(first, first + n), n_tokens - context_length, seed)
    starts = []
    per_epoch = _windows_per_epoch(n_tokens, context_length)
    while n > 0:
        epoch, index = divmod(first, per_epoch)
        taken = min(n, per_epoch - index)
        offset, order = _epoch_order(epoch, n_tokens, context_length, seed)
        starts.append(offset + context_length * order[index : index + taken].astype(np.int64))
        first, n = first + taken, n - taken
    return np.concatenate(starts)


@functools.lru_cache(maxsize=2)  # a micro-batch may have windows of two epochs
def _epoch_order(
    epoch: int, n_tokens: int, context_length: int, seed: int
) -> tuple[int, NDArray[np.unsignedinteger]]:
    """Return where the first window of an epoch begins, and the order of its windows.

    To draw the order takes 0.2 s for five million windows. It is kept in 4 bytes for each window.
    """
    # As uint64: NumPy makes floats of a list with a number above 2^63, and so one of many seeds.
    key = np.array([seed % 2**64, epoch], np.uint64)
    rng = np.random.Generator(np.random.Philox(key=key))
    per_epoch = _windows_per_epoch(n_tokens, context_length)
    offset = int(rng.integers(0, n_tokens - per_epoch * context_length))
    order = rng.permutation(per_epoch)
    return offset, order.astype(np.min_scalar_type(per_epoch))


def _windows_per_epoch(n_tokens: int, context_length: int) -> int:
    return max(1, (n_tokens - 1) // context_length - 1)


def _hash_below(indices: NDArray[np.int64], limit: int, seed: int) -> NDArray[np.int64]:
    """Return uniform numbers below limit from (seed, index) by SplitMix64's output function."""
    with np.errstate(over="ignore"):
        z = indices.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z += np.uint64((seed * 0xD1342543DE82EF95 + 1) & (2**64 - 1))
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    # The modulo favours small results by less than limit / 2^64.
    return (z % np.uint64(limit)).astype(np.int64)


def check_length(n_tokens: int, context_length: int) -> None:
    """Refuse tokens that are too few for one window and its last target."""
    if n_tokens < context_length + 1:
        raise ValueError(
            f"the data is shorter than one window: {n_tokens} tokens, needed "
            f"{context_length + 1} (context_length + 1); use more text or a smaller "
            "--model.context-length"
        )


def check_not_cut(tokens: Tokens) -> None:
    """Check the files of mapped tokens: to read beyond the end of one would kill the process.

    Raises:
        DataLost: if one was cut since it was mapped.
    """
    for part in tokens.shards if isinstance(tokens, ShardedTokens) else [tokens]:
        if isinstance(part, np.memmap):
            mapped: Any = part
            n_bytes = mapped._mmap.size()
            if n_bytes < part.nbytes:
                raise DataLost(
                    f"{part.filename} was cut while it is read: it has {n_bytes} bytes, expected "
                    f"{part.nbytes}"
                )


def take_windows(tokens: Tokens, starts: NDArray[np.int64], context_length: int) -> Batch:
    """Return inputs tokens[s : s + T] and targets tokens[s + 1 : s + T + 1], int64, on the CPU."""
    windows = tokens[starts[:, None] + np.arange(context_length + 1)]
    both = torch.from_numpy(windows.astype(np.int64))
    # They must be contiguous: a compiled step is recompiled for other strides.
    return both[:, :-1].contiguous(), both[:, 1:].contiguous()


def get_batch(
    tokens: Tokens,
    batch_size: int,
    context_length: int,
    device: str | torch.device = "cpu",
    *,
    rng: np.random.Generator | None = None,
) -> Batch:
    """Sample windows with replacement; return inputs and targets (the inputs shifted by one).

    Args:
        rng: random generator of the starts; if None, they differ from call to call.
    Raises:
        ValueError: if the tokens do not fill one window.
    """
    check_length(len(tokens), context_length)
    rng = rng or np.random.default_rng()
    starts = rng.integers(0, len(tokens) - context_length, size=batch_size)
    held = tokens if isinstance(tokens, ShardedTokens) else np.asarray(tokens)
    inputs, targets = take_windows(held, starts, context_length)
    return inputs.to(device), targets.to(device)


def batches(
    tokens: Tokens,
    *,
    first_window: int,
    micro_batch: int,
    context_length: int,
    sampling: Sampling,
    seed: int,
    device: torch.device,
    rank: int = 0,
    n_ranks: int = 1,
    vocab_size: int | None = None,
) -> Iterator[Batch]:
    """Yield micro-batches without end, beginning at a window number.

    Each of several processes gets its own batches: numbers rank, rank + n_ranks, ...

    On CUDA, a thread gathers and pins each batch one step ahead, and copies do not block.

    Args:
        vocab_size: refuse ids that are not below it, which came to the data since they were read.
    Raises:
        DataLost: if an id is not below vocab_size, or a file of the tokens was cut.
    """

    def gather(first: int) -> Batch:
        starts = window_starts(
            first,
            micro_batch,
            n_tokens=len(tokens),
            context_length=context_length,
            sampling=sampling,
            seed=seed,
        )
        check_not_cut(tokens)
        inputs, targets = take_windows(tokens, starts, context_length)
        if vocab_size is not None:
            largest = max(int(inputs.max()), int(targets.max()))
            if largest >= vocab_size:
                raise DataLost(
                    f"the training data were written to while they are read: they have the id "
                    f"{largest}, expected ids below {vocab_size}"
                )
        if device.type == "cuda":
            return inputs.pin_memory(), targets.pin_memory()
        return inputs, targets

    firsts = itertools.count(first_window + rank * micro_batch, n_ranks * micro_batch)
    if device.type != "cuda":
        for first in firsts:
            inputs, targets = gather(first)
            yield inputs.to(device), targets.to(device)
    with ThreadPoolExecutor(max_workers=1) as thread:
        ahead = thread.submit(gather, next(firsts))
        while True:
            inputs, targets = ahead.result()
            ahead = thread.submit(gather, next(firsts))
            yield inputs.to(device, non_blocking=True), targets.to(device, non_blocking=True)
