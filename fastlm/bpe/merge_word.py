# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code=assignment
"""Merging inside one word: the lowest rank first, of equal ranks the leftmost.

A merge is one uint64, its rank over the id it gives, so that the least value is the one to apply.
"""

import numba
import numpy as np
from jaxtyping import Int64, UInt64

from fastlm.bpe.segments import DONE, UNKNOWN_BYTE

NO_MERGE = np.uint64(0xFFFFFFFFFFFFFFFF)

_RANK_BITS = np.uint64(0xFFFFFFFF00000000)
_ID_BITS = np.uint64(0x00000000FFFFFFFF)
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SCANNED_BYTES = 64  # up to here looking at every pair beats a heap


def new_merge_table(merges: Int64[np.ndarray, "n_merges 3"]) -> UInt64[np.ndarray, "n_slots 2"]:
    """Hash table from (left id, right id) to a merge, from rows (left, right, merged id).

    A slot is the pair, left over right, and the merge; an empty one holds NO_MERGE twice. Of rows
    with the same pair the first counts.
    """
    table = np.full((1 << (4 * len(merges) + 4).bit_length(), 2), NO_MERGE, np.uint64)
    _fill_merges(table, merges)
    return table


@numba.njit(cache=True, nogil=True)
def _fill_merges(table, merges):
    for rank in range(merges.shape[0]):
        slot = _find_pair(table, np.uint64(merges[rank, 0]), np.uint64(merges[rank, 1]))
        if table[slot, 0] == NO_MERGE:
            table[slot, 0] = np.uint64(merges[rank, 0]) << np.uint64(32) | np.uint64(
                merges[rank, 1]
            )
            table[slot, 1] = np.uint64(rank) << np.uint64(32) | np.uint64(merges[rank, 2])


@numba.njit(cache=True, nogil=True, forceinline=True)
def _find_pair(table, left, right):
    """Slot of a pair, or the empty one it would take."""
    key = left << np.uint64(32) | right
    mixed = key * _MULTIPLIER
    mask = np.uint64(table.shape[0] - 1)
    slot = (mixed ^ mixed >> np.uint64(32)) & mask
    while table[slot, 0] != key and table[slot, 0] != NO_MERGE:
        slot = (slot + np.uint64(1)) & mask
    return slot


@numba.njit(cache=True, nogil=True)
def merge_word(text, begin, length, byte_ids, merges, ids, ranks):
    """Write the ids of text[begin : begin + length] to ids.

    Args:
        ids, ranks: room for `length` entries each.
    Returns:
        (number of ids, DONE), or (offset of a byte without a token, UNKNOWN_BYTE).
    """
    for i in range(length):
        byte_id = byte_ids[text[begin + i]]
        if byte_id < 0:
            return i, UNKNOWN_BYTE
        ids[i] = byte_id
    for i in range(length - 1):
        ranks[i] = merges[_find_pair(merges, ids[i], ids[i + 1]), 1]
    if length <= _SCANNED_BYTES:
        return _merge_by_scanning(length, merges, ids, ranks), DONE
    return _merge_by_heap(length, merges, ids, ranks), DONE


@numba.njit(cache=True, nogil=True)
def _merge_by_scanning(n_ids, merges, ids, ranks):
    while n_ids > 1:
        best = NO_MERGE
        at = 0
        for i in range(n_ids - 1):
            if ranks[i] < best:
                best = ranks[i]
                at = i
        if best == NO_MERGE:
            break
        n_ids -= 1
        ids[at] = best & _ID_BITS
        for i in range(at + 1, n_ids):
            ids[i] = ids[i + 1]
            ranks[i] = ranks[i + 1]
        if at > 0:
            ranks[at - 1] = merges[_find_pair(merges, ids[at - 1], ids[at]), 1]
        if at < n_ids - 1:
            ranks[at] = merges[_find_pair(merges, ids[at], ids[at + 1]), 1]
    return n_ids


@numba.njit(cache=True, nogil=True)
def _merge_by_heap(length, merges, ids, ranks):
    """As scanning, in time n log n. A heap entry is a rank over the place of its left symbol.

    Entries go stale when a symbol beside them changes; ranks[place] then holds another rank.
    """
    after = np.arange(1, length + 1)
    before = np.arange(-1, length - 1)
    heap = np.empty(2 * length, np.uint64)
    n_heap = np.int64(0)
    ranks[length - 1] = NO_MERGE
    for place in range(length):
        n_heap = _push(heap, n_heap, ranks, place)
    while n_heap > 0:
        top = heap[0]
        n_heap = _pop(heap, n_heap)
        place = np.int64(top & _ID_BITS)
        merge = ranks[place]
        if merge == NO_MERGE or merge & _RANK_BITS != top & _RANK_BITS:
            continue
        ids[place] = merge & _ID_BITS
        taken = after[place]
        ranks[taken] = NO_MERGE
        after[place] = after[taken]
        ranks[place] = NO_MERGE
        if after[place] < length:
            before[after[place]] = place
            ranks[place] = merges[_find_pair(merges, ids[place], ids[after[place]]), 1]
            n_heap = _push(heap, n_heap, ranks, place)
        if before[place] >= 0:
            left = before[place]
            ranks[left] = merges[_find_pair(merges, ids[left], ids[place]), 1]
            n_heap = _push(heap, n_heap, ranks, left)
    n_ids = 0
    place = np.int64(0)
    while place < length:
        ids[n_ids] = ids[place]
        n_ids += 1
        place = after[place]
    return n_ids


@numba.njit(cache=True, nogil=True)
def _push(heap, n_heap, ranks, place):
    if ranks[place] == NO_MERGE:
        return n_heap
    entry = (ranks[place] & _RANK_BITS) | np.uint64(place)
    child = n_heap
    while child > 0 and entry < heap[(child - 1) >> 1]:
        heap[child] = heap[(child - 1) >> 1]
        child = (child - 1) >> 1
    heap[child] = entry
    return n_heap + 1


@numba.njit(cache=True, nogil=True)
def _pop(heap, n_heap):
    n_heap -= 1
    entry = heap[n_heap]
    parent = np.int64(0)
    while 2 * parent + 1 < n_heap:
        child = 2 * parent + 1
        if child + 1 < n_heap and heap[child + 1] < heap[child]:
            child += 1
        if entry <= heap[child]:
            break
        heap[parent] = heap[child]
        parent = child
    heap[parent] = entry
    return n_heap
