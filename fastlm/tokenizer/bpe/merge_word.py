# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code=assignment
"""Merge the bytes of one word: the lowest rank first, the leftmost pair among equal ranks.

A merge is one uint64 in a hash table: left id, right id and merge rank. At eight bytes each, the
50,000 merges of GPT-2 fit the second-level cache. Four entries are compared at once, so that a
look-up has hardly a branch that the processor could mispredict. Every new word looks up many pairs
of single bytes, so these have a table of their own, indexed by the two bytes.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from operator import add, eq
from typing import Any

from fastlm.tokenizer.bpe import fields as f
from fastlm.tokenizer.bpe import machine_code
from fastlm.tokenizer.bpe import status_codes as codes
from fastlm.tokenizer.bpe.buffers import Buffer, place_of
from fastlm.tokenizer.bpe.compiler import (
    count_leading_zeros,
    count_trailing_zeros,
    inner,
    instruction,
    ir,
    kernel,
    types,
)
from fastlm.tokenizer.bpe.compiler import numpy as np
from fastlm.tokenizer.bpe.context import (
    Context,
    i32,
    i64,
    int32_at,
    int64_at,
    pi32,
    pi64,
    pu8,
    u64,
    uint8_at,
    uint64_at,
)

_MAX_IDS = 1 << 21  # ids and ranks share a uint64
_NO_RANK = np.int32((1 << 22) - 1)
_NOWHERE = np.int32((1 << 28) - 1)
_NO_ID = np.int32(_MAX_IDS - 1)
_SCANNED_BYTES = 64  # up to this length scanning all pairs for each merge is faster than lists
_SCAN_ROOM = 128  # places of the ids, and of the ranks, of a word that is scanned
SCRATCH_PER_BYTE = 4  # int32 of scratch for each byte of a word

_LEFT_SHIFT, _RIGHT_SHIFT = np.uint64(43), np.uint64(22)
_HASH_SHIFT = np.uint64(40)
LINE = 4  # slots of the table of pairs that are compared at once
_PASSED = np.uint64(1 << 21)  # above the bits of a rank
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_NO_PAIR = np.uint64(0xFFFFFFFFFFFFFFFF)
_ONE, _ALL = np.uint64(1), np.uint64(0xFFFFFFFFFFFFFFFF)
_NOT_IN_HEAP, _EMPTY = np.int32(-2), np.int32(-1)  # heads of lists that hold no position


def add_merges(context: Context, byte_ids: Sequence[int], merges: array[int]) -> None:
    """Give a context its merges: rows (left id, right id, merged id) in the order learned.

    If several rows have the same pair, the first one counts.

    Args:
        merges: the rows, one after another, as 32-bit integers.
    Raises:
        ValueError: if the vocabulary is too large for the hash table.
    """
    n_merges = len(merges) // 3
    vocab_size = 1 + max(*byte_ids, _greatest(place_of(merges), len(merges)))
    if max(vocab_size, n_merges) >= _MAX_IDS:
        raise ValueError(
            f"a vocabulary must have fewer than {_MAX_IDS} tokens and merges: got {vocab_size} and "
            f"{n_merges}"
        )
    tables = {
        f.PAIRS: Buffer(1 << max((2 * n_merges).bit_length(), 3), u64),
        f.BYTE_PAIRS: Buffer(1 << 16, i32),
        f.BYTE_IDS: Buffer(256, i32),
        f.MERGED_IDS: Buffer(n_merges, i32),
        f.TOKEN_LENGTHS: Buffer(vocab_size, i32),
    }
    for field, buffer in tables.items():
        context.hold(field, buffer)
    context.fields[f.PAIR_MASK] = len(tables[f.PAIRS]) - LINE
    context.fields[f.N_MERGES] = n_merges
    context.fields[f.VOCAB_SIZE] = vocab_size
    tables[f.BYTE_IDS].items[:] = array("i", byte_ids)
    rows = place_of(merges)
    _hash_pairs(rows, n_merges, tables[f.PAIRS].address, context.fields[f.PAIR_MASK])
    byte_of = Buffer(vocab_size, i32)
    _rank_byte_pairs(context.address, rows, byte_of.address)
    # A merge may stand before those that make its parts; a later round resolves it.
    while _add_lengths(rows, n_merges, tables[f.TOKEN_LENGTHS].address) > 0:
        pass


@kernel
def _greatest(numbers_address, n):
    numbers = int32_at(numbers_address)
    greatest = np.int64(0)
    for k in range(n):
        greatest = max(greatest, np.int64(numbers[k]))
    return greatest


@kernel
def _hash_pairs(merges_address, n_merges, pairs_address, mask):
    """Fill a hash table of the merges; an entry that its line has no room for goes on to the next.

    The last entry of a line that others went past has _PASSED. The table is never full.
    """
    merges, pairs = int32_at(merges_address), uint64_at(pairs_address)
    for slot in range(mask + LINE):
        pairs[slot] = _NO_PAIR
    for rank in range(n_merges):
        key = np.uint64(merges[3 * rank]) << _LEFT_SHIFT
        key |= np.uint64(merges[3 * rank + 1]) << _RIGHT_SHIFT
        slot = _home_line(key, mask)
        while pairs[slot] != _NO_PAIR and pairs[slot] ^ key >= np.uint64(_NO_RANK):
            if slot & (LINE - 1) == LINE - 1:
                pairs[slot] |= _PASSED
            slot = (slot + 1) & (mask | (LINE - 1))
        if pairs[slot] == _NO_PAIR:  # otherwise a row before has the same pair
            pairs[slot] = key | np.uint64(rank)
    return 0


@inner
def _home_line(key: u64, mask: i64) -> i64:
    """Index of the first slot of the line where the search for a pair begins."""
    return np.int64((key * _MULTIPLIER) >> _HASH_SHIFT) & mask


@kernel
def _add_lengths(merges_address, n_merges, lengths_address):
    """Add the lengths of merged tokens to those of single bytes; returns how many were added."""
    merges, lengths = int32_at(merges_address), int32_at(lengths_address)
    n_added = 0
    for row in range(0, 3 * n_merges, 3):
        left, right = lengths[merges[row]], lengths[merges[row + 1]]
        if left > 0 and right > 0 and lengths[merges[row + 2]] == 0:
            lengths[merges[row + 2]] = left + right
            n_added += 1
    return n_added


@kernel
def _rank_byte_pairs(address, merges_address, byte_of_address):
    """Write the merge rank of each pair of bytes, first << 8 | second, and the lengths of bytes.

    Args:
        byte_of_address: room for a number for each id, all 0.
    """
    c = int64_at(address)
    merges, byte_of = int32_at(merges_address), int32_at(byte_of_address)
    byte_ids, ranks = int32_at(c[f.BYTE_IDS]), int32_at(c[f.BYTE_PAIRS])
    merged, lengths = int32_at(c[f.MERGED_IDS]), int32_at(c[f.TOKEN_LENGTHS])
    for byte in range(256):
        if byte_ids[byte] >= 0:
            byte_of[byte_ids[byte]] = 1 + byte
            lengths[byte_ids[byte]] = 1
    for pair in range(1 << 16):
        ranks[pair] = _NO_RANK
    for rank in range(c[f.N_MERGES] - 1, -1, -1):  # the first of several is written last
        merged[rank] = merges[3 * rank + 2]
        first, second = byte_of[merges[3 * rank]], byte_of[merges[3 * rank + 1]]
        if first > 0 and second > 0:
            ranks[(first - 1) << 8 | (second - 1)] = rank
    # In most vocabularies the id is the rank and a constant, which saves looking it up.
    c[f.MERGED_OFFSET] = 0
    if c[f.N_MERGES] > 0 and merged[0] > 0:
        c[f.MERGED_OFFSET] = merged[0]
        for rank in range(c[f.N_MERGES]):
            if merged[rank] - rank != merged[0]:
                c[f.MERGED_OFFSET] = 0
    return 0


def rows_are_sound(rows: array[int], lengths: array[int]) -> bool:
    """Return whether the parts of each merge are as long together as the token that it makes.

    Args:
        rows: three ids for each merge, as 32-bit integers.
        lengths: that of each token, as 32-bit integers.
    """
    if machine_code.is_at_hand():
        return bool(_rows_are_sound(place_of(rows), len(rows), place_of(lengths), len(lengths)))
    if max(rows, default=-1) >= len(lengths):
        return False
    left, right, both = (map(lengths.__getitem__, rows[part::3]) for part in range(3))
    return min(rows, default=0) >= 0 and all(map(eq, map(add, left, right), both))


@kernel
def _rows_are_sound(rows_address, n_numbers, lengths_address, n_tokens):
    rows, lengths = int32_at(rows_address), int32_at(lengths_address)
    for i in range(n_numbers):
        if rows[i] < 0 or rows[i] >= n_tokens:
            return 0
    for i in range(0, n_numbers, 3):
        if lengths[rows[i]] + lengths[rows[i + 1]] != lengths[rows[i + 2]]:
            return 0
    return 1


def add_rank_lists(context: Context) -> None:
    """Give a context that has merges the buffers for merging long words."""
    lists = Buffer(3 * context.fields[f.N_MERGES] + 1, i32)
    _fill(lists.address, len(lists), _NOT_IN_HEAP)
    context.hold(f.RANK_LISTS, lists)


@kernel
def _fill(address, n, value):
    numbers = int32_at(address)
    for i in range(n):
        numbers[i] = value
    return 0


def _least(builder: Any, pointer: Any, index: Any, n: int, key: Any = None) -> Any:
    """Build the least of n unsigned numbers from an index on, each exclusive-or'd with a key.

    Atomic loads cost no more than others, and they stay apart: vector code would have to wait for
    numbers that were stored one by one, and takes longer to find the least of its parts.
    """
    place = builder.gep(pointer, [index])
    places = [builder.gep(place, [ir.Constant(ir.IntType(64), k)]) for k in range(n)]
    n_bytes = place.type.pointee.width // 8
    numbers = [builder.load_atomic(place, "monotonic", n_bytes) for place in places]
    if key is not None:
        numbers = [builder.xor(number, key) for number in numbers]
    while len(numbers) > 1:
        numbers = [
            builder.select(builder.icmp_unsigned("<", one, other), one, other)
            for one, other in zip(numbers[::2], numbers[1::2], strict=True)
        ]
    return numbers[0]


@instruction
def _least_difference(_typing_context, pairs, line, key):
    """Least of the entries of a line, each exclusive-or'd with a key."""

    def generate(_context, builder, _signature, arguments):
        pairs, line, key = arguments
        return _least(builder, pairs, line, LINE, key)

    return types.uint64(types.CPointer(types.uint64), types.int64, types.uint64), generate


@instruction
def _least_of_8(_typing_context, numbers, index):
    """Least of 8 int32, none of which is negative, from an index on."""

    def generate(_context, builder, _signature, arguments):
        numbers, index = arguments
        return builder.zext(_least(builder, numbers, index, 8), ir.IntType(64))

    return types.int64(types.CPointer(types.int32), types.int64), generate


@inner
def _find_rank(c: pi64, left: i64, right: i64) -> i64:
    """Return the merge rank of two ids, or _NO_RANK."""
    pairs = uint64_at(c[f.PAIRS])
    mask = c[f.PAIR_MASK]
    key = np.uint64(left) << _LEFT_SHIFT | np.uint64(right) << _RIGHT_SHIFT
    line = _home_line(key, mask)
    while True:
        # Only an entry of this pair differs from the key in nothing but the rank.
        difference = _least_difference(pairs, line, key)
        # _PASSED is not set in a free entry plus one, which is 0.
        if (pairs[line + LINE - 1] + _ONE) & _PASSED == 0 or difference < np.uint64(_NO_RANK):
            rank = np.int64(difference & (_PASSED - _ONE))
            return rank if difference < np.uint64(_NO_RANK) else np.int64(_NO_RANK)
        line = (line + LINE) & mask


@inner
def whole_hash(text: pu8, begin: i64, length: i64) -> i64:
    """Hash a word for the slots of whole_words.py."""
    hashed = np.uint64(length)
    for i in range(length):
        hashed = (hashed ^ np.uint64(text[begin + i])) * _MULTIPLIER
    return np.int64(hashed >> np.uint64(32))


@inner
def find_whole(c: pi64, text: pu8, begin: i64, length: i64) -> i64:
    """Return the id of a word that merges do not make; -1 if it is none."""
    words, bounds = uint8_at(c[f.WHOLE_TEXT]), int64_at(c[f.WHOLE_BOUNDS])
    slots, mask = int64_at(c[f.WHOLE_SLOTS]), c[f.WHOLE_MASK]
    slot = whole_hash(text, begin, length) & mask
    while slots[slot] >= 0:
        first = bounds[slots[slot]]
        if bounds[slots[slot] + 1] - first == length:
            k = np.int64(0)
            while k < length and words[first + k] == text[begin + k]:
                k += 1
            if k == length:
                return int64_at(c[f.WHOLE_IDS])[slots[slot]]
        slot = (slot + 1) & mask
    return -1


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
    if c[f.N_WHOLE] > 0:
        whole = find_whole(c, text, begin, length)
        if whole >= 0:
            ids[0] = whole
            return 1, codes.DONE
    if length <= _SCANNED_BYTES:
        return _merge_by_scanning(c, text, begin, length)
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
    return _merge_by_lists(c, length, ids, ranks), codes.DONE


@inner
def _merge_by_scanning(c: pi64, text: pu8, begin: i64, n_bytes: i64) -> tuple[i64, i64]:
    """Merge a word of up to 64 bytes; returns what merge_word returns.

    A symbol stands at its first byte, which has a bit set in a number. Its place in ranks has the
    rank of it and the next symbol in the upper bits, and itself in the lower ones, so that the
    least of these numbers is the leftmost of the lowest rank. Other places have _NOWHERE.
    """
    ids, ranks = int32_at(c[f.SCRATCH]), int32_at(c[f.SCRATCH] + 4 * _SCAN_ROOM)
    byte_ids, byte_pairs = int32_at(c[f.BYTE_IDS]), int32_at(c[f.BYTE_PAIRS])
    merged_ids, offset = int32_at(c[f.MERGED_IDS]), c[f.MERGED_OFFSET]
    before = np.int64(0)
    for i in range(n_bytes):
        byte = np.int64(text[begin + i])
        if byte_ids[byte] < 0:
            return i, codes.UNKNOWN_BYTE
        ids[i] = byte_ids[byte]
        if i > 0:
            ranks[i - 1] = byte_pairs[before << 8 | byte] << 6 | (i - 1)
        before = byte
    n_places = (n_bytes + 7) & -8
    for place in range(n_bytes - 1, n_places):
        ranks[place] = _NOWHERE
    ids[_SCANNED_BYTES] = ids[_SCAN_ROOM - 1] = _NO_ID
    symbols = _ALL >> np.uint64(_SCANNED_BYTES - n_bytes)
    while True:
        best = _least_of_8(ranks, 0)
        for place in range(8, n_places, 8):
            best = min(best, _least_of_8(ranks, place))
        if best >= np.int64(_NO_RANK) << 6:
            break
        place = best & 63
        merged = (best >> 6) + offset if offset else np.int64(merged_ids[best >> 6])
        # The symbols after the place: the first of them is merged with the one at the place.
        after = symbols & ~_ONE << np.uint64(place)
        ranks[count_trailing_zeros(after)] = _NOWHERE
        symbols ^= after & (np.uint64(0) - after)
        after &= after - _ONE
        # Without a symbol there this looks up a pair with _NO_ID, which has no rank.
        ids[place] = merged
        ranks[place] = _find_rank(c, merged, ids[count_trailing_zeros(after)]) << 6 | place
        before_it = symbols & ((_ONE << np.uint64(place)) - _ONE)
        left = (63 - count_leading_zeros(before_it)) & (_SCAN_ROOM - 1)
        ranks[left] = _find_rank(c, ids[left], merged) << 6 | left
    n_ids = np.int64(0)
    while symbols:
        ids[n_ids] = ids[count_trailing_zeros(symbols)]
        n_ids += 1
        symbols &= symbols - _ONE
    return n_ids, codes.DONE


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
