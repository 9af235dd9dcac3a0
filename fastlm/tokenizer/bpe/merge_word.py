# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code=assignment
"""Merge the bytes of one word: the lowest rank first, the leftmost pair among equal ranks.

A merge is one uint64 in a hash table: left id, right id and merge rank. At eight bytes each, the
50,000 merges of GPT-2 fit the second-level cache. Every new word looks up many pairs of single
bytes, so these have a table of their own, indexed by the two bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastlm.tokenizer.bpe import fields as f
from fastlm.tokenizer.bpe import status_codes as codes
from fastlm.tokenizer.bpe.compiler import inner
from fastlm.tokenizer.bpe.context import (
    Context,
    i32,
    i64,
    int32_at,
    pi32,
    pi64,
    pu8,
    uint64_at,
)

if TYPE_CHECKING:
    from jaxtyping import Int32, Int64, UInt64

_MAX_IDS = 1 << 21  # ids and ranks share a uint64
_NO_RANK = np.int32((1 << 22) - 1)
_SCANNED_BYTES = 64  # up to this length scanning all pairs for each merge is faster than lists
SCRATCH_PER_BYTE = 4  # int32 of scratch for each byte of a word

_LEFT_SHIFT, _RIGHT_SHIFT = np.uint64(43), np.uint64(22)
_HASH_SHIFT = np.uint64(40)
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_NO_PAIR = np.uint64(0xFFFFFFFFFFFFFFFF)
_NOT_IN_HEAP, _EMPTY = np.int32(-2), np.int32(-1)  # heads of lists that hold no position


def add_merges(
    context: Context,
    byte_ids: Int64[np.ndarray, "256"],
    merges: Int64[np.ndarray, "n_merges 3"],
) -> None:
    """Give a context its merges: rows (left id, right id, merged id) in the order learned.

    If several rows have the same pair, the first one counts.

    Raises:
        ValueError: if the vocabulary is too large for the hash table.
    """
    vocab_size = 1 + int(max(byte_ids.max(), merges.max(initial=0)))
    if max(vocab_size, len(merges)) >= _MAX_IDS:
        raise ValueError(
            f"a vocabulary must have fewer than {_MAX_IDS} tokens and merges: got {vocab_size} and "
            f"{len(merges)}"
        )
    pairs = _hash_pairs(merges)
    context.hold(f.PAIRS, pairs)
    context.fields[f.PAIR_MASK] = len(pairs) - 1
    context.hold(f.BYTE_PAIRS, _rank_byte_pairs(byte_ids, merges, vocab_size))
    context.hold(f.BYTE_IDS, byte_ids.astype(np.int32))
    context.hold(f.MERGED_IDS, np.ascontiguousarray(merges[:, 2], np.int32))
    context.hold(f.TOKEN_LENGTHS, _token_lengths(byte_ids, merges, vocab_size))
    context.fields[f.N_MERGES] = len(merges)
    context.fields[f.VOCAB_SIZE] = vocab_size


def _hash_pairs(merges: Int64[np.ndarray, "n_merges 3"]) -> UInt64[np.ndarray, " n_slots"]:
    """Return a hash table of the merges, at most half full, with linear probing."""
    pairs = np.full(1 << (2 * len(merges) + 1).bit_length(), _NO_PAIR, np.uint64)
    keys = merges[:, 0].astype(np.uint64) << _LEFT_SHIFT
    keys |= merges[:, 1].astype(np.uint64) << _RIGHT_SHIFT
    keys, ranks = np.unique(keys, return_index=True)
    entries = keys | ranks.astype(np.uint64)
    mask = np.uint64(len(pairs) - 1)
    slots = keys * _MULTIPLIER >> _HASH_SHIFT & mask
    while len(entries) > 0:
        # If several entries want one free slot, the one written last keeps it; the others go on.
        free = pairs[slots] == _NO_PAIR
        pairs[slots[free]] = entries[free]
        waits = pairs[slots] != entries
        entries, slots = entries[waits], slots[waits] + np.uint64(1) & mask
    return pairs


def _rank_byte_pairs(
    byte_ids: Int64[np.ndarray, "256"], merges: Int64[np.ndarray, "n_merges 3"], vocab_size: int
) -> Int32[np.ndarray, "65536"]:
    """Return the merge rank of each pair of bytes, at index first << 8 | second."""
    ranks = np.full(1 << 16, _NO_RANK, np.int32)
    byte_of = np.full(vocab_size, -1, np.int64)
    byte_of[byte_ids[byte_ids >= 0]] = np.flatnonzero(byte_ids >= 0)
    left, right = byte_of[merges[:, 0]], byte_of[merges[:, 1]]
    of_bytes = np.flatnonzero((left >= 0) & (right >= 0))[::-1]  # the first is written last
    ranks[left[of_bytes] << 8 | right[of_bytes]] = of_bytes
    return ranks


def _token_lengths(
    byte_ids: Int64[np.ndarray, "256"], merges: Int64[np.ndarray, "n_merges 3"], vocab_size: int
) -> Int32[np.ndarray, " vocab_size"]:
    """Return the length in bytes of each byte or merged token; 0 for all other tokens."""
    lengths = np.zeros(vocab_size, np.int32)
    lengths[byte_ids[byte_ids >= 0]] = 1
    left = merges
    while len(left) > 0:
        # A merge may stand before those that make its parts; a later round resolves it.
        is_known = (lengths[left[:, 0]] > 0) & (lengths[left[:, 1]] > 0)
        known, left = left[is_known], left[~is_known]
        if len(known) == 0:
            break
        lengths[known[:, 2]] = lengths[known[:, 0]] + lengths[known[:, 1]]
    return lengths


def add_rank_lists(context: Context) -> None:
    """Give a context that has merges the buffers for merging long words."""
    n_merges = int(context.fields[f.N_MERGES])
    context.hold(f.RANK_LISTS, np.full(3 * n_merges + 1, _NOT_IN_HEAP, np.int32))


@inner
def _find_rank(c: pi64, left: i64, right: i64) -> i32:
    """Return the merge rank of two ids, or _NO_RANK."""
    pairs = uint64_at(c[f.PAIRS])
    mask = c[f.PAIR_MASK]
    key = np.uint64(left) << _LEFT_SHIFT | np.uint64(right) << _RIGHT_SHIFT
    slot = np.int64((key * _MULTIPLIER) >> _HASH_SHIFT) & mask
    while True:
        entry = pairs[slot]
        # One comparison covers both ids: only an entry with this key gives a rank below _NO_RANK.
        rank = entry ^ key
        if rank < np.uint64(_NO_RANK):
            return np.int32(rank)
        if entry == _NO_PAIR:
            return _NO_RANK
        slot = (slot + 1) & mask


@inner
def merge_word(c: pi64, text: pu8, begin: i64, length: i64) -> tuple[i64, i64]:
    """Write the ids of text[begin : begin + length] to the context's SCRATCH.

    Returns:
        (number of ids, DONE), or (offset of a byte without a token, UNKNOWN_BYTE), or
        (length of the word, SCRATCH_FULL) with SCRATCH_WANTED set.
    """
    if SCRATCH_PER_BYTE * length > c[f.SCRATCH_SIZE]:
        c[f.SCRATCH_WANTED] = SCRATCH_PER_BYTE * length
        return length, codes.SCRATCH_FULL
    ids = int32_at(c[f.SCRATCH])
    ranks = int32_at(c[f.SCRATCH] + 4 * length)
    byte_ids, byte_pairs = int32_at(c[f.BYTE_IDS]), int32_at(c[f.BYTE_PAIRS])
    before = np.int64(0)
    for i in range(length):
        byte = np.int64(text[begin + i])
        if byte_ids[byte] < 0:
            return i, codes.UNKNOWN_BYTE
        ids[i] = byte_ids[byte]
        if i > 0:
            ranks[i - 1] = byte_pairs[before << 8 | byte]
        before = byte
    if length <= _SCANNED_BYTES:
        return _merge_by_scanning(c, length, ids, ranks), codes.DONE
    return _merge_by_lists(c, length, ids, ranks), codes.DONE


@inner
def _merge_by_scanning(c: pi64, n_ids: i64, ids: pi32, ranks: pi32) -> i64:
    merged_ids = int32_at(c[f.MERGED_IDS])
    while n_ids > 1:
        best = _NO_RANK
        at = 0
        for i in range(n_ids - 1):
            if ranks[i] < best:
                best = ranks[i]
                at = i
        if best == _NO_RANK:
            break
        n_ids -= 1
        ids[at] = merged_ids[best]
        for i in range(at + 1, n_ids):
            ids[i] = ids[i + 1]
            ranks[i] = ranks[i + 1]
        if at > 0:
            ranks[at - 1] = _find_rank(c, ids[at - 1], ids[at])
        if at < n_ids - 1:
            ranks[at] = _find_rank(c, ids[at], ids[at + 1])
    return n_ids


@inner
def _merge_by_lists(c: pi64, length: i64, ids: pi32, ranks: pi32) -> i64:
    """Merge in linear time, with a list of positions for each rank and a heap of ranks.

    A symbol of n bytes takes n slots, with its id in the first and the last, as in training
    (merge.py). A position is in the list of its own rank alone, and lists are ascending.
    """
    next_place, place_before = (
        int32_at(c[f.SCRATCH] + 8 * length),
        int32_at(c[f.SCRATCH] + 12 * length),
    )
    n_merges = c[f.N_MERGES]
    heads, tails = int32_at(c[f.RANK_LISTS]), int32_at(c[f.RANK_LISTS] + 4 * n_merges)
    heap = int32_at(c[f.RANK_LISTS] + 8 * n_merges)
    merged_ids, lengths = int32_at(c[f.MERGED_IDS]), int32_at(c[f.TOKEN_LENGTHS])
    lists = (next_place, place_before, heads, tails, heap)
    ranks[length - 1] = _NO_RANK
    n_heap = np.int64(0)
    for place in range(length - 1):
        n_heap = _link(lists, n_heap, ranks[place], place)
    while n_heap > 0:
        rank = np.int64(heap[0])
        place = np.int64(heads[rank])
        if place < 0:
            heads[rank] = _NOT_IN_HEAP
            n_heap = _pop(heap, n_heap)
            continue
        right_place = place + lengths[ids[place]]
        after = right_place + lengths[ids[right_place]]
        _unlink(lists, ranks, place)
        _unlink(lists, ranks, right_place)
        merged = merged_ids[rank]
        ids[place] = merged
        ids[after - 1] = merged
        if place > 0:
            before = place - lengths[ids[place - 1]]
            _unlink(lists, ranks, before)
            ranks[before] = _find_rank(c, ids[before], merged)
            n_heap = _link(lists, n_heap, ranks[before], before)
        if after < length:
            ranks[place] = _find_rank(c, merged, ids[after])
            n_heap = _link(lists, n_heap, ranks[place], place)
    n_ids = np.int64(0)
    place = np.int64(0)
    while place < length:
        ids[n_ids] = ids[place]
        place += lengths[ids[n_ids]]
        n_ids += 1
    return n_ids


@inner
def _link(lists: tuple[pi32, pi32, pi32, pi32, pi32], n_heap: i64, rank: i32, place: i64) -> i64:
    """Insert a position into the list of its rank, if any, and return the size of the heap."""
    next_place, place_before, heads, tails, heap = lists
    if rank == _NO_RANK:
        return n_heap
    if heads[rank] == _NOT_IN_HEAP:
        n_heap = _push(heap, n_heap, rank)
        heads[rank] = _EMPTY
    if heads[rank] == _EMPTY:
        heads[rank] = place
        tails[rank] = place
        next_place[place] = _EMPTY
        place_before[place] = _EMPTY
        return n_heap
    # One rank is merged from left to right, so positions come in ascending order, except where two
    # merges make the same token.
    before = np.int64(tails[rank])
    after = np.int64(_EMPTY)
    while before >= 0 and before > place:
        after = before
        before = np.int64(place_before[before])
    next_place[place] = after
    place_before[place] = before
    if before >= 0:
        next_place[before] = place
    else:
        heads[rank] = place
    if after >= 0:
        place_before[after] = place
    else:
        tails[rank] = place
    return n_heap


@inner
def _unlink(lists: tuple[pi32, pi32, pi32, pi32, pi32], ranks: pi32, place: i64) -> None:
    """Remove a position from the list of its rank."""
    next_place, place_before, heads, tails, _ = lists
    rank = ranks[place]
    if rank == _NO_RANK:
        return
    ranks[place] = _NO_RANK
    before, after = np.int64(place_before[place]), np.int64(next_place[place])
    if before >= 0:
        next_place[before] = after
    else:
        heads[rank] = after
    if after >= 0:
        place_before[after] = before
    else:
        tails[rank] = before


@inner
def _push(heap: pi32, n_heap: i64, rank: i32) -> i64:
    child = n_heap
    while child > 0 and rank < heap[(child - 1) >> 1]:
        heap[child] = heap[(child - 1) >> 1]
        child = (child - 1) >> 1
    heap[child] = rank
    return n_heap + 1


@inner
def _pop(heap: pi32, n_heap: i64) -> i64:
    n_heap -= 1
    rank = heap[n_heap]
    parent = 0
    while 2 * parent + 1 < n_heap:
        child = 2 * parent + 1
        if child + 1 < n_heap and heap[child + 1] < heap[child]:
            child += 1
        if rank <= heap[child]:
            break
        heap[parent] = heap[child]
        parent = child
    heap[parent] = rank
    return n_heap
