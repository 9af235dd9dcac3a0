"""Exact validation loss over a token file.

The file is cut into consecutive windows; each token but the first is a target exactly once.
"""

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastlm.devices.hardware import without_waiting
from fastlm.devices.ranks import Ranks
from fastlm.files.tokens import Tokens
from fastlm.functional import IGNORE_INDEX

FIRST_TOKENS = 1_000_000


@dataclass(frozen=True)
class Evaluation:
    """The result of a validation."""

    loss: float
    """Nats per token."""
    n_tokens: int
    seconds: float
    first_million: float | None
    """Nats per token over the windows in the first million tokens; None if the file has no more,
    or was evaluated in part."""

    @property
    def perplexity(self) -> float:
        return math.exp(self.loss) if self.loss < 700 else math.inf

    def bits_per_byte(self, text_bytes: int) -> float:
        """Loss in bits per UTF-8 byte of the evaluated text; NaN if it has none."""
        return bits_per_byte(self.loss, self.n_tokens, text_bytes)


def bits_per_byte(loss: float, n_tokens: int, text_bytes: int) -> float:
    """Convert a loss in nats per token to bits per UTF-8 byte of the text of the tokens.

    It is NaN for tokens without text, which are all separators.
    """
    return loss * n_tokens / text_bytes / math.log(2) if text_bytes else math.nan


def check_validation(n_tokens: int) -> None:
    """Raise a ValueError if tokens are too few for a validation loss."""
    if n_tokens < 2:
        raise ValueError(f"a validation loss needs at least 2 tokens: got {n_tokens}")


def evaluate_loss(
    loss: Callable[[Tensor, Tensor], Tensor],
    tokens: Tokens,
    *,
    context_length: int,
    batch_size: int,
    device: torch.device,
    max_tokens: int | None = None,
    check: Callable[[], None] | None = None,
    ranks: Ranks | None = None,
) -> Evaluation:
    """Mean loss over windows that cover the tokens once.

    All batches have the shape (batch_size, context_length): the last one is padded with ignored
    targets, so that a compiled loss is not recompiled.

    Args:
        loss: mean cross-entropy of (inputs, targets) over targets that are not -100.
        max_tokens: evaluate about this many tokens, in windows spread evenly over the file.
        check: called before each batch; an exception it raises ends the validation.
        ranks: processes among which the batches are divided; all get the same result.
    Raises:
        ValueError: if there are fewer than 2 tokens, or a size is below 1.
    """
    for name, size in (("context_length", context_length), ("batch_size", batch_size)):
        if size < 1:
            raise ValueError(f"{name} must be at least 1: got {size}")
    check_validation(len(tokens))
    started = time.perf_counter()
    starts = np.arange(0, len(tokens) - 1, context_length)
    if max_tokens is not None and max_tokens < len(tokens) - 1:
        n_windows = max(1, max_tokens // context_length)
        starts = starts[np.linspace(0, len(starts) - 1, n_windows).astype(np.int64)]
    n_first = 0 if max_tokens is not None else FIRST_TOKENS // context_length
    n_first = n_first if n_first < len(starts) else 0
    edges = [*range(0, n_first, batch_size), *range(n_first, len(starts), batch_size), len(starts)]
    ranks = ranks or Ranks()
    pairs = list(itertools.pairwise(edges))
    mine, losses, counts = range(ranks.rank, len(pairs), ranks.size), [], []
    for n in range(-(-len(pairs) // ranks.size)):
        if check is not None:
            check()
        # All processes compute equally many batches: one with none left repeats one, uncounted.
        i, end = pairs[mine[n]] if n < len(mine) else pairs[-1]
        inputs, targets, count = _batch(tokens, starts[i:end], batch_size, context_length)
        sent = (without_waiting(x, device) for x in (inputs, targets))
        losses.append(loss(*sent).detach())
        counts.append(count)
    # One transfer at the end: the host does not wait for the device after each batch.
    both = torch.zeros(2, len(pairs), dtype=torch.float64)
    for row, values in zip(both, (torch.stack(losses).cpu(), torch.tensor(counts)), strict=True):
        row[ranks.rank :: ranks.size] = values[: len(mine)].double()
    per_batch, weights = ranks.sum_(both)
    means = [
        float((per_batch[:n] * weights[:n]).sum() / weights[:n].sum())
        for n in (len(pairs), edges.index(n_first))
        if n > 0
    ]
    return Evaluation(
        loss=means[0],
        n_tokens=int(weights.sum()),
        seconds=time.perf_counter() - started,
        first_million=means[1] if n_first else None,
    )


def _batch(
    tokens: Tokens, starts: NDArray[np.int64], batch_size: int, context_length: int
) -> tuple[Tensor, Tensor, int]:
    inputs = np.zeros((batch_size, context_length), np.int64)
    targets = np.full((batch_size, context_length), IGNORE_INDEX, np.int64)
    count = 0
    for row, start in enumerate(starts):
        window = np.asarray(tokens[start : start + context_length + 1], np.int64)
        inputs[row, : len(window) - 1] = window[:-1]
        targets[row, : len(window) - 1] = window[1:]
        count += len(window) - 1
    return torch.from_numpy(inputs), torch.from_numpy(targets), count
