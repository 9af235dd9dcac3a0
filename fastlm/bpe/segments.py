# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code=assignment
"""Walking documents from one special token to the next.

A kernel that walks keeps its place in an int64 state array, so that it can return to Python for
more room and be called again. The first fields are the same for all kernels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numba
import numpy as np
from jaxtyping import Int64, UInt8

DOCUMENT, POSITION, SEGMENT_END, SPECIAL, N_WORDS, ARENA_USED = range(6)
N_FIELDS = 6
_START = np.array([-1, 0, 0, -1], np.int64)  # of the first four

# What a kernel that walks returns.
DONE, TABLE_FULL, ARENA_FULL, OUT_FULL, INVALID_TEXT, UNKNOWN_BYTE = range(6)


class SpecialTokens(NamedTuple):
    """Special tokens one after another, the longest first: the first that fits is the longest."""

    text: UInt8[np.ndarray, " n_bytes"]
    bounds: Int64[np.ndarray, " n_specials_plus_1"]


def pack_special_tokens(tokens: Sequence[bytes]) -> SpecialTokens:
    """Lay tokens, given longest first, one after another."""
    lengths = [0, *map(len, tokens)]
    return SpecialTokens(
        np.frombuffer(b"".join(tokens), np.uint8), np.cumsum(lengths, dtype=np.int64)
    )


def new_state() -> Int64[np.ndarray, " n_fields"]:
    """A state before the first document, with nothing in tables."""
    state = np.zeros(N_FIELDS, np.int64)
    start_walk(state)
    return state


def start_walk(state: Int64[np.ndarray, " n_fields"]) -> None:
    """Set a state before the first document, whose text begins at byte 0."""
    state[: len(_START)] = _START


@numba.njit(cache=True, nogil=True)
def next_segment(data, bounds, specials, state):
    """Pass the end of a segment and find the end of the one after it.

    Args:
        bounds: document i is data[bounds[i] : bounds[i + 1]].
    Returns:
        (special, ended): index of the special token passed, or -1; has a document ended?
    """
    special = state[SPECIAL]
    if special >= 0:
        state[POSITION] += specials.bounds[special + 1] - specials.bounds[special]
    ended = state[POSITION] == bounds[state[DOCUMENT] + 1]
    if ended:
        state[DOCUMENT] += 1
    state[SEGMENT_END] = state[POSITION]
    state[SPECIAL] = -1
    if state[DOCUMENT] + 1 < bounds.size:
        end = bounds[state[DOCUMENT] + 1]
        state[SEGMENT_END], state[SPECIAL] = next_special(data, state[POSITION], end, specials)
    return special, ended


@numba.njit(cache=True, nogil=True)
def next_special(data, begin, end, specials):
    """(position, index) of the first special token in data[begin:end]; (end, -1) when none.

    Among tokens that begin at the same position it is the longest.
    """
    n_specials = specials.bounds.size - 1
    if n_specials == 0:
        return end, -1
    stride = 64
    block = begin
    while block < end:
        block_end = min(block + stride, end)
        if block_end - block == stride:
            # Almost every block holds no token's first byte; this test compiles to vector code.
            hit = np.uint8(0)
            chunk = data[block:block_end]
            for special in range(n_specials):
                first = specials.text[specials.bounds[special]]
                for i in range(stride):
                    hit |= np.uint8(chunk[i] == first)
            if hit == 0:
                block = block_end
                continue
        for i in range(block, block_end):
            for special in range(n_specials):
                low, high = specials.bounds[special], specials.bounds[special + 1]
                if data[i] != specials.text[low] or i + high - low > end:
                    continue
                k = 1
                while k < high - low and data[i + k] == specials.text[low + k]:
                    k += 1
                if k == high - low:
                    return i, special
        block = block_end
    return end, -1
