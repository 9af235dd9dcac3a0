# mypy: allow-untyped-defs, allow-untyped-calls
"""A max-heap of pairs of symbols, which breaks ties by what the symbols spell."""

from typing import NamedTuple

import numba
import numpy as np
from jaxtyping import Int32, Int64, UInt8, UInt64


class Symbols(NamedTuple):
    """Symbol s spells text[place[s] : place[s] + length[s]]; prefix is its first 8 bytes.

    The prefix is big-endian, with zeros past the end: comparing it compares the bytes.
    """

    text: UInt8[np.ndarray, " n_slots"]
    place: Int32[np.ndarray, " vocab_size"]
    length: Int32[np.ndarray, " vocab_size"]
    prefix: UInt64[np.ndarray, " vocab_size"]


class Pairs(NamedTuple):
    """Pair p is symbols left[p], right[p] at positions[begin[p] : end[p]]."""

    left: Int32[np.ndarray, " capacity"]
    right: Int32[np.ndarray, " capacity"]
    begin: Int32[np.ndarray, " capacity"]
    end: Int32[np.ndarray, " capacity"]


class Heap(NamedTuple):
    """Binary max-heap of pairs by an upper bound of their count, then by their two byte strings."""

    bound: Int64[np.ndarray, " capacity"]
    pair: Int32[np.ndarray, " capacity"]


@numba.njit(cache=True, nogil=True)
def push(heap, n_heap, bound, pair, symbols, pairs):
    """Add a pair; returns the heap's new size."""
    child = n_heap
    while child > 0:
        parent = (child - 1) >> 1
        if not _outranks(bound, pair, heap.bound[parent], heap.pair[parent], symbols, pairs):
            break
        heap.bound[child] = heap.bound[parent]
        heap.pair[child] = heap.pair[parent]
        child = parent
    heap.bound[child] = bound
    heap.pair[child] = pair
    return n_heap + 1


@numba.njit(cache=True, nogil=True)
def pop(heap, n_heap, symbols, pairs):
    """Remove the top; returns the heap's new size."""
    n_heap -= 1
    heap.bound[0] = heap.bound[n_heap]
    heap.pair[0] = heap.pair[n_heap]
    sink(heap, n_heap, symbols, pairs)
    return n_heap


@numba.njit(cache=True, nogil=True)
def sink(heap, n_heap, symbols, pairs):
    """Move the top, whose bound has fallen, down to where it belongs."""
    bounds, members = heap.bound, heap.pair
    bound, pair = bounds[0], np.int64(members[0])
    parent = np.int64(0)
    while 2 * parent + 1 < n_heap:
        child = 2 * parent + 1
        other = child + 1
        if other < n_heap and _outranks(
            bounds[other], members[other], bounds[child], members[child], symbols, pairs
        ):
            child = other
        if not _outranks(bounds[child], members[child], bound, pair, symbols, pairs):
            break
        bounds[parent] = bounds[child]
        members[parent] = members[child]
        parent = child
    bounds[parent] = bound
    members[parent] = pair


@numba.njit(cache=True, nogil=True, forceinline=True)
def _outranks(bound, pair, other_bound, other_pair, symbols, pairs):
    if bound != other_bound:
        return bound > other_bound
    return _spells_greater(np.int64(pair), np.int64(other_pair), symbols, pairs)


@numba.njit(cache=True, nogil=True)
def _spells_greater(pair, other_pair, symbols, pairs):
    order = _compare(pairs.left[pair], pairs.left[other_pair], symbols)
    if order == 0:
        order = _compare(pairs.right[pair], pairs.right[other_pair], symbols)
    return order > 0


@numba.njit(cache=True, nogil=True)
def _compare(symbol, other, symbols):
    """Order of two symbols' bytes: negative, 0 or positive."""
    if symbol == other:
        return 0
    if symbols.prefix[symbol] != symbols.prefix[other]:
        return 1 if symbols.prefix[symbol] > symbols.prefix[other] else -1
    for i in range(min(symbols.length[symbol], symbols.length[other])):
        byte = np.int64(symbols.text[symbols.place[symbol] + i])
        other_byte = np.int64(symbols.text[symbols.place[other] + i])
        if byte != other_byte:
            return byte - other_byte
    return np.int64(symbols.length[symbol]) - np.int64(symbols.length[other])
