# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code=assignment
"""Walking documents from one special token to the next.

A kernel that walks keeps its place in its context, so that it can return to Python for more room
and be called again.
"""

from collections.abc import Sequence

import numpy as np

from fastlm.tokenizer.bpe.memory import (
    BOUNDS,
    DOCUMENT,
    N_DOCUMENTS,
    N_SPECIAL_FIRSTS,
    N_SPECIALS,
    POSITION,
    SEGMENT_END,
    SPECIAL,
    SPECIAL_BOUNDS,
    SPECIAL_FIRSTS,
    SPECIAL_TEXT,
    Context,
    boolean,
    i64,
    inner,
    int64_at,
    pi64,
    pu8,
    uint8_at,
)


def add_special_tokens(context: Context, tokens: Sequence[bytes]) -> None:
    """Give a context its special tokens, the longest first: the first that fits is the longest."""
    first_bytes = bytes(sorted({token[0] for token in tokens}))
    context.hold(SPECIAL_TEXT, np.frombuffer(b"".join(tokens), np.uint8))
    context.hold(SPECIAL_BOUNDS, np.cumsum([0, *map(len, tokens)], dtype=np.int64))
    context.hold(SPECIAL_FIRSTS, np.frombuffer(first_bytes, np.uint8))
    context.fields[N_SPECIALS] = len(tokens)
    context.fields[N_SPECIAL_FIRSTS] = len(first_bytes)


@inner
def start_walk(c: pi64, n_bytes: i64) -> None:
    """Set a context before its first document, whose text begins at byte 0."""
    if c[N_DOCUMENTS] == 1:
        bounds = int64_at(c[BOUNDS])
        bounds[0], bounds[1] = 0, n_bytes
    c[DOCUMENT] = -1
    c[POSITION] = 0
    c[SEGMENT_END] = 0
    c[SPECIAL] = -1


@inner
def next_segment(c: pi64, data: i64) -> tuple[i64, boolean]:
    """Pass the end of a segment and find the end of the one after it.

    Document i of N_DOCUMENTS is data[BOUNDS[i] : BOUNDS[i + 1]].

    Returns:
        (special, ended): index of the special token passed, or -1; has a document ended?
    """
    bounds, special_bounds = int64_at(c[BOUNDS]), int64_at(c[SPECIAL_BOUNDS])
    special = c[SPECIAL]
    if special >= 0:
        c[POSITION] += special_bounds[special + 1] - special_bounds[special]
    ended = c[POSITION] == bounds[c[DOCUMENT] + 1]
    if ended:
        c[DOCUMENT] += 1
    c[SEGMENT_END] = c[POSITION]
    c[SPECIAL] = -1
    if c[DOCUMENT] < c[N_DOCUMENTS]:
        end = bounds[c[DOCUMENT] + 1]
        c[SEGMENT_END] = end
        if c[N_SPECIALS] > 0:
            c[SEGMENT_END], c[SPECIAL] = _next_special(c, uint8_at(data), c[POSITION], end)
    return special, ended


@inner
def _next_special(c: pi64, data: pu8, begin: i64, end: i64) -> tuple[i64, i64]:
    """(position, index) of the first special token in data[begin:end]; (end, -1) when none.

    Among tokens that begin at the same position it is the longest.
    """
    text, bounds = uint8_at(c[SPECIAL_TEXT]), int64_at(c[SPECIAL_BOUNDS])
    stride = 64
    block = begin
    while block < end:
        block_end = min(block + stride, end)
        if not _holds_first_byte(c, data, block, block_end - block):
            block = block_end
            continue
        for i in range(block, block_end):
            for special in range(c[N_SPECIALS]):
                low, high = bounds[special], bounds[special + 1]
                if data[i] != text[low] or i + high - low > end:
                    continue
                k = 1
                while k < high - low and data[i + k] == text[low + k]:
                    k += 1
                if k == high - low:
                    return i, special
        block = block_end
    return end, -1


@inner
def _holds_first_byte(c: pi64, data: pu8, begin: i64, n_bytes: i64) -> boolean:
    # Almost no block holds a special token's first byte, and this compiles to vector code.
    firsts = uint8_at(c[SPECIAL_FIRSTS])
    hit = np.uint8(0)
    for special in range(c[N_SPECIAL_FIRSTS]):
        first = firsts[special]
        for i in range(begin, begin + n_bytes):
            hit |= np.uint8(data[i] == first)
    return hit > 0
