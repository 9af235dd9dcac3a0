# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code=assignment
"""Walk through documents from one special token to the next.

A kernel keeps its position in its context, so that it can return to Python for more memory and be
called again.
"""

from array import array
from collections.abc import Sequence
from itertools import accumulate

from fastlm.tokenizer.bpe import fields as f
from fastlm.tokenizer.bpe.compiler import inner
from fastlm.tokenizer.bpe.compiler import numpy as np
from fastlm.tokenizer.bpe.context import (
    Context,
    boolean,
    i64,
    int64_at,
    pi64,
    pu8,
    uint8_at,
)


def add_special_tokens(context: Context, tokens: Sequence[bytes]) -> None:
    """Give a context its special tokens, sorted so that the first match is the longest."""
    first_bytes = bytes(sorted({token[0] for token in tokens}))
    context.hold(f.SPECIAL_TEXT, b"".join(tokens))
    context.hold(f.SPECIAL_BOUNDS, array("q", accumulate(map(len, tokens), initial=0)))
    context.hold(f.SPECIAL_FIRSTS, first_bytes)
    context.fields[f.N_SPECIALS] = len(tokens)
    context.fields[f.N_SPECIAL_FIRSTS] = len(first_bytes)


@inner
def start_walk(c: pi64, n_bytes: i64) -> None:
    """Set the position before the first document, whose text begins at byte 0."""
    if c[f.N_DOCUMENTS] == 1:
        bounds = int64_at(c[f.BOUNDS])
        bounds[0], bounds[1] = 0, n_bytes
    c[f.DOCUMENT] = -1
    c[f.POSITION] = 0
    c[f.SEGMENT_END] = 0
    c[f.TOKEN_END] = 0
    c[f.SPECIAL] = -1


@inner
def next_segment(c: pi64, data: i64) -> tuple[i64, boolean]:
    """Step over the end of a segment and find the end of the next one.

    Document i of N_DOCUMENTS is data[BOUNDS[i] : BOUNDS[i + 1]].

    Returns:
        (index of the special token passed, or -1; whether a document has ended)
    """
    bounds, special_bounds = int64_at(c[f.BOUNDS]), int64_at(c[f.SPECIAL_BOUNDS])
    special = c[f.SPECIAL]
    if special >= 0:
        c[f.POSITION] += special_bounds[special + 1] - special_bounds[special]
    ended = c[f.POSITION] == bounds[c[f.DOCUMENT] + 1]
    if ended:
        c[f.DOCUMENT] += 1
    c[f.SEGMENT_END] = c[f.POSITION]
    c[f.SPECIAL] = -1
    if c[f.DOCUMENT] < c[f.N_DOCUMENTS]:
        end = bounds[c[f.DOCUMENT] + 1]
        c[f.SEGMENT_END] = end
        if c[f.N_SPECIALS] > 0:
            c[f.SEGMENT_END], c[f.SPECIAL] = _next_special(c, uint8_at(data), c[f.POSITION], end)
    return special, ended


@inner
def _next_special(c: pi64, data: pu8, begin: i64, end: i64) -> tuple[i64, i64]:
    """Find the first special token in data[begin:end]; returns (position, index), or (end, -1).

    The longest of several tokens at the same position wins.
    """
    text, bounds = uint8_at(c[f.SPECIAL_TEXT]), int64_at(c[f.SPECIAL_BOUNDS])
    stride = 64
    block = begin
    while block < end:
        block_end = min(block + stride, end)
        if not _holds_first_byte(c, data, block, block_end - block):
            block = block_end
            continue
        for i in range(block, block_end):
            if not _holds_first_byte(c, data, i, 1):  # there may be hundreds of special tokens
                continue
            for special in range(c[f.N_SPECIALS]):
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
    # Hardly any block holds the first byte of a special token, and this loop becomes vector code.
    firsts = uint8_at(c[f.SPECIAL_FIRSTS])
    hit = np.uint8(0)
    for special in range(c[f.N_SPECIAL_FIRSTS]):
        first = firsts[special]
        for i in range(begin, begin + n_bytes):
            hit |= np.uint8(data[i] == first)
    return hit > 0
