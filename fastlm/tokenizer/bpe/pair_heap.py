# mypy: allow-untyped-calls, disable-error-code=assignment
"""A max-heap of pairs of symbols, with ties broken by the bytes of the symbols."""

from fastlm.tokenizer.bpe import merge_fields as f
from fastlm.tokenizer.bpe.compiler import inner
from fastlm.tokenizer.bpe.compiler import numpy as np
from fastlm.tokenizer.bpe.context import (
    boolean,
    i64,
    int32_at,
    int64_at,
    pi64,
    uint8_at,
    uint64_at,
)


@inner
def push(c: pi64, bound: i64, pair: i64) -> None:
    """Add a pair to the heap."""
    bounds, pairs = int64_at(c[f.BOUND]), int32_at(c[f.PAIR])
    child = c[f.N_HEAP]
    c[f.N_HEAP] += 1
    while child > 0:
        parent = (child - 1) >> 1
        if not _outranks(c, bound, pair, bounds[parent], pairs[parent]):
            break
        bounds[child] = bounds[parent]
        pairs[child] = pairs[parent]
        child = parent
    bounds[child] = bound
    pairs[child] = pair


@inner
def replace_top(c: pi64, bound: i64, pair: i64) -> None:
    """Replace the top of the heap by a pair and restore the heap order."""
    bounds, pairs, n_heap = int64_at(c[f.BOUND]), int32_at(c[f.PAIR]), c[f.N_HEAP]
    parent = np.int64(0)
    while 2 * parent + 1 < n_heap:
        child = 2 * parent + 1
        other = child + 1
        if other < n_heap and _outranks(
            c, bounds[other], pairs[other], bounds[child], pairs[child]
        ):
            child = other
        if not _outranks(c, bounds[child], pairs[child], bound, pair):
            break
        bounds[parent] = bounds[child]
        pairs[parent] = pairs[child]
        parent = child
    bounds[parent] = bound
    pairs[parent] = pair


@inner
def pop(c: pi64) -> None:
    """Remove the top of the heap."""
    c[f.N_HEAP] -= 1
    last = c[f.N_HEAP]
    replace_top(c, int64_at(c[f.BOUND])[last], int32_at(c[f.PAIR])[last])


@inner
def _outranks(c: pi64, bound: i64, pair: i64, other_bound: i64, other_pair: i64) -> boolean:
    if bound != other_bound:
        return bound > other_bound
    left, right = int32_at(c[f.LEFT]), int32_at(c[f.RIGHT])
    order = _compare(c, left[pair], left[other_pair])
    if order == 0:
        order = _compare(c, right[pair], right[other_pair])
    return order > 0


@inner
def _compare(c: pi64, symbol: i64, other: i64) -> i64:
    """Compare the bytes of two symbols; returns a number that is negative, 0 or positive."""
    if symbol == other:
        return 0
    prefixes = uint64_at(c[f.PREFIX])
    if prefixes[symbol] != prefixes[other]:
        return 1 if prefixes[symbol] > prefixes[other] else -1
    text, places, lengths = uint8_at(c[f.TEXT]), int32_at(c[f.PLACE]), int32_at(c[f.LENGTH])
    place, other_place = np.int64(places[symbol]), np.int64(places[other])
    length, other_length = np.int64(lengths[symbol]), np.int64(lengths[other])
    for i in range(min(length, other_length)):
        byte, other_byte = np.int64(text[place + i]), np.int64(text[other_place + i])
        if byte != other_byte:
            return byte - other_byte
    return length - other_length
