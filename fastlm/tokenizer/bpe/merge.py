# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code=assignment
"""Learn merges from counted pre-tokens.

All words lie in one array of slots, each word followed by a boundary. A symbol of n bytes takes n
slots: its id stands in the first and the last of them, so that both neighbours are found without
links. Each pair has an ascending list of its positions. The list is complete when the pair is made
and never grows, because a pair arises only in the merge that makes the newer of its symbols. Later
merges leave stale positions in it, at which the symbols are no longer those of the pair. So the
count of a pair in the max-heap is only an upper bound: the pair on top is counted again, and either
goes back with its true count or is the most frequent pair.

A position is one uint64: the slot in its high half, the count of its word in its low half. So a
list is read sequentially, and only the symbols are looked up at random. The recount has no
branches, so that the processor has many of these look-ups in flight.

No two merges make the same byte string: merging inside a string whose ends no merge has crossed
takes the same course wherever the string occurs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlm.tokenizer.bpe import merge_fields as f
from fastlm.tokenizer.bpe import status_codes as codes
from fastlm.tokenizer.bpe.compiler import inner, kernel
from fastlm.tokenizer.bpe.compiler import numpy as np
from fastlm.tokenizer.bpe.context import (
    Context,
    i64,
    int32_at,
    int64_at,
    pi32,
    pi64,
    pu8,
    pu64,
    u64,
    uint8_at,
    uint64_at,
)
from fastlm.tokenizer.bpe.count import Words
from fastlm.tokenizer.bpe.pair_heap import pop, push, replace_top

if TYPE_CHECKING:
    from jaxtyping import Int32, Int64, UInt8

    from fastlm.cli.progress import Progress

_BOUNDARY, _INSIDE = -1, -2  # in slots that hold no id of a symbol

_MAX_SLOTS = 1 << 29  # there are up to three positions for each slot, and int32 indices of them
_MAX_COUNT = (1 << 32) - 1
_MERGES_BETWEEN_REPORTS = 1000
# A uint64 holds two numbers, one in its high half and one in its low half.
_HALF = np.uint64(32)
_LOW_HALF = np.uint64((1 << 32) - 1)
# The arrays with one item for each pair: field and dtype.
_PAIR_ARRAYS = (
    (f.LEFT, np.int32),
    (f.RIGHT, np.int32),
    (f.BEGIN, np.int32),
    (f.END, np.int32),
    (f.BOUND, np.int64),
    (f.PAIR, np.int32),
)
_FIRST_PAIRS = 1 << 17  # room for all pairs of bytes, and more


def learn_merges(
    words: Words,
    n_merges: int,
    on_progress: Progress | None = None,
    max_token_bytes: int | None = None,
) -> list[tuple[bytes, bytes]]:
    """Merge the most frequent pair n_merges times, or until no pair is left.

    Between equally frequent pairs the greater pair of byte strings is merged.

    Args:
        on_progress: called with ("merges", number learned so far), every 1,000 merges.
        max_token_bytes: a pair that would make a longer token is never merged; at least 2, or None
            for no limit.
    """
    n_symbols = 256 + n_merges
    context = Context(f.N_FIELDS)
    fields = context.fields
    # No token is longer than all slots.
    fields[f.MAX_TOKEN_BYTES] = _MAX_SLOTS if max_token_bytes is None else max_token_bytes
    fields[f.MAX_SYMBOLS] = n_symbols
    for field, dtype in ((f.PLACE, np.int32), (f.LENGTH, np.int32), (f.PREFIX, np.uint64)):
        context.hold(field, np.zeros(n_symbols, dtype))
    # The first half is for left neighbours, the second half for right neighbours.
    for field, dtype in ((f.TOTALS, np.int64), (f.N_PLACES, np.int32), (f.SEEN, np.int32)):
        context.hold(field, np.zeros(2 * (n_symbols + 1), dtype))
    merged = np.empty(n_merges, np.int32)
    context.hold(f.MERGED, merged)
    pairs = [np.empty(0, dtype) for _, dtype in _PAIR_ARRAYS]
    _hold_pairs(context, pairs, _FIRST_PAIRS)
    text = _lay_out(context, words)
    exhausted = False
    while fields[f.N_LEARNED] < n_merges and not exhausted:
        wanted = min(n_merges, int(fields[f.N_LEARNED]) + _MERGES_BETWEEN_REPORTS)
        while fields[f.N_LEARNED] < wanted and not exhausted:
            # One merge makes at most two pairs with each symbol.
            if fields[f.N_PAIRS] + 2 * n_symbols > fields[f.MAX_PAIRS]:
                _hold_pairs(context, pairs, 2 * int(fields[f.MAX_PAIRS]) + 2 * n_symbols)
            exhausted = _learn(context.address, wanted)
        if on_progress is not None:
            on_progress("merges", int(fields[f.N_LEARNED]))
    return _spell(context, text, pairs, merged[: fields[f.N_LEARNED]])


def _hold_pairs(context: Context, pairs: list[np.ndarray], capacity: int) -> None:
    """Resize the arrays of pairs in place and give them to the context."""
    for (field, _), array in zip(_PAIR_ARRAYS, pairs, strict=True):
        array.resize(capacity, refcheck=False)
        context.hold(field, array)
    context.fields[f.MAX_PAIRS] = capacity


def _lay_out(context: Context, words: Words) -> UInt8[np.ndarray, " n_slots"]:
    """Fill the slots with words, and make symbols of the bytes and pairs of neighbours.

    Slots 0 to 255 are boundaries; their bytes spell the symbols 0 to 255.

    Returns:
        the byte of each slot.
    """
    lengths = np.diff(words.bounds)
    # A word whose count does not fit a position is laid out several times, each with a part of it.
    n_copies = -(-words.counts // _MAX_COUNT)
    n_slots = 256 + int(((lengths + 1) * n_copies).sum())
    if n_slots > _MAX_SLOTS:
        raise ValueError(
            f"distinct pre-tokens must hold at most {_MAX_SLOTS} bytes: got {n_slots}; "
            "train on a part of the text"
        )
    text = np.zeros(n_slots, np.uint8)
    text[:256] = np.arange(256)
    context.hold(f.TEXT, text)
    context.hold(f.SYMBOLS, np.full(n_slots, _BOUNDARY, np.int32))
    context.hold(f.POSITIONS, np.empty(3 * n_slots, np.uint64))
    order = _by_prefix(words)
    totals, places = np.zeros(1 << 16, np.int64), np.zeros(1 << 16, np.int64)
    arrays = (words.text, words.bounds, words.counts, order, totals, places)
    addresses = [array.ctypes.data for array in arrays]
    _walk_words(context.address, len(order), *addresses, False)
    n_places = places.copy()
    places[:] = np.cumsum(n_places) - n_places
    _make_first_pairs(context, totals, places, n_places)
    _walk_words(context.address, len(order), *addresses, True)
    # No later pair has a longer list of positions.
    context.hold(f.AROUND, np.empty(int(n_places.max()), np.uint64))
    return text


def _by_prefix(words: Words) -> Int64[np.ndarray, " n_words"]:
    """Sort words by their first 8 bytes, so that what is merged together lies close together.

    Returns:
        the permutation.
    """
    padded = np.append(words.text, np.zeros(8, np.uint8))
    prefixes = np.zeros(len(words.counts), np.uint64)
    for i in range(8):
        prefixes = prefixes << 8 | padded[words.bounds[:-1] + i]
    return np.argsort(prefixes)


def _spell(
    context: Context,
    text: UInt8[np.ndarray, " n_slots"],
    pairs: list[np.ndarray],
    merged: Int32[np.ndarray, " n_merges"],
) -> list[tuple[bytes, bytes]]:
    places, lengths = context.array(f.PLACE).tolist(), context.array(f.LENGTH).tolist()
    raw = text.tobytes()
    spelled = [raw[place : place + n] for place, n in zip(places, lengths, strict=True)]
    lefts, rights = pairs[0][merged].tolist(), pairs[1][merged].tolist()
    return [(spelled[left], spelled[right]) for left, right in zip(lefts, rights, strict=True)]


def _make_first_pairs(
    context: Context,
    totals: Int64[np.ndarray, "65536"],
    begins: Int64[np.ndarray, "65536"],
    n_places: Int64[np.ndarray, "65536"],
) -> None:
    """Make symbols of the single bytes, and pairs of the bytes that are neighbours in a word.

    The pair left << 8 | right has the count totals[pair] and its positions from begins[pair] on.
    """
    for field, values in (
        (f.PLACE, np.arange(256)),
        (f.LENGTH, 1),
        (f.PREFIX, np.arange(256, dtype=np.uint64) << 56),
    ):
        context.array(field)[:256] = values
    keys = np.flatnonzero(n_places)
    for field, values in (
        (f.LEFT, keys >> 8),
        (f.RIGHT, keys & 255),
        (f.BEGIN, begins[keys]),
        (f.END, begins[keys] + n_places[keys]),
        (f.BOUND, totals[keys]),
    ):
        context.array(field)[: len(keys)] = values
    context.fields[f.N_SYMBOLS] = 256
    context.fields[f.N_PAIRS] = len(keys)
    context.fields[f.N_POSITIONS] = n_places.sum()


@kernel
def _walk_words(
    address,
    n_words,
    word_text_address,
    bounds_address,
    counts_address,
    order_address,
    totals_address,
    places_address,
    is_second,
):
    """Walk through all words, as the first or the second of two passes.

    The first pass lays the words out in the slots and adds up the pairs of bytes: their counts in
    `totals`, the number of their positions in `places`. The second pass writes the positions of
    each pair from places[pair] on.
    """
    c = int64_at(address)
    word_text, bounds = uint8_at(word_text_address), int64_at(bounds_address)
    counts, order = int64_at(counts_address), int64_at(order_address)
    totals, places = int64_at(totals_address), int64_at(places_address)
    text, ids, positions = uint8_at(c[f.TEXT]), int32_at(c[f.SYMBOLS]), uint64_at(c[f.POSITIONS])
    slot = 256
    for i in range(n_words):
        word = order[i]
        left_over = counts[word]
        while left_over > 0:
            count = min(left_over, _MAX_COUNT)
            left_over -= count
            for k in range(bounds[word], bounds[word + 1]):
                ids[slot] = word_text[k]
                text[slot] = word_text[k]
                if k + 1 < bounds[word + 1]:
                    key = np.int64(word_text[k]) << 8 | np.int64(word_text[k + 1])
                    if is_second:
                        positions[places[key]] = np.uint64(slot) << _HALF | np.uint64(count)
                    else:
                        totals[key] += count
                    places[key] += 1
                slot += 1
            slot += 1
    return codes.DONE


@inner
def _new_pair(c: pi64, left: i64, right: i64, count: i64, n_positions: i64) -> i64:
    """Make a pair with room for its positions; returns the index of the first."""
    pair, begin = c[f.N_PAIRS], c[f.N_POSITIONS]
    int32_at(c[f.LEFT])[pair] = left
    int32_at(c[f.RIGHT])[pair] = right
    int32_at(c[f.BEGIN])[pair] = begin
    int32_at(c[f.END])[pair] = begin + n_positions
    c[f.N_PAIRS] += 1
    c[f.N_POSITIONS] += n_positions
    push(c, count, pair)
    return begin


@kernel
def _learn(address, wanted):
    """Learn merges until there are `wanted`; returns whether no pair is left.

    Returns early when the arrays of pairs may be too small for the pairs of the next merge.
    """
    c = int64_at(address)
    merged = int32_at(c[f.MERGED])
    if c[f.N_LEARNED] == 0 and c[f.N_HEAP] == 0:
        # BOUND has the counts of the first pairs in order; push overwrites only those already read.
        for pair in range(c[f.N_PAIRS]):
            push(c, int64_at(c[f.BOUND])[pair], pair)
    while c[f.N_LEARNED] < wanted:
        if c[f.N_PAIRS] + 2 * c[f.N_SYMBOLS] > c[f.MAX_PAIRS]:
            return False
        if c[f.N_HEAP] == 0:
            return True
        bound, pair = int64_at(c[f.BOUND])[0], np.int64(int32_at(c[f.PAIR])[0])
        count = _recount(c, pair)
        if count == bound:
            pop(c)
            _merge(c, pair)
            merged[c[f.N_LEARNED]] = pair
            c[f.N_LEARNED] += 1
        elif count > 0:
            replace_top(c, count, pair)
        else:
            pop(c)
    return False


@inner
def _recount(c: pi64, pair: i64) -> i64:
    """Remove the stale positions of a pair and count it again."""
    left, right = int32_at(c[f.LEFT])[pair], int32_at(c[f.RIGHT])[pair]
    length = np.int64(int32_at(c[f.LENGTH])[left])
    ids, positions = int32_at(c[f.SYMBOLS]), uint64_at(c[f.POSITIONS])
    begin, end = np.int64(int32_at(c[f.BEGIN])[pair]), np.int64(int32_at(c[f.END])[pair])
    total = np.uint64(0)
    kept = begin
    for i in range(begin, end):
        position = positions[i]
        slot = np.int64(position >> _HALF)
        is_there = (ids[slot] == left) & (ids[slot + length] == right)
        positions[kept] = position
        kept += np.int64(is_there)
        total += (position & _LOW_HALF) * np.uint64(is_there)
    int32_at(c[f.END])[pair] = kept
    return np.int64(total)


@inner
def _merge(c: pi64, pair: i64) -> None:
    """Merge a pair at all positions that _recount has kept, and make the new pairs."""
    lengths, positions = int32_at(c[f.LENGTH]), uint64_at(c[f.POSITIONS])
    left, right = np.int64(int32_at(c[f.LEFT])[pair]), np.int64(int32_at(c[f.RIGHT])[pair])
    left_length, length = np.int64(lengths[left]), np.int64(lengths[left] + lengths[right])
    begin, end = np.int64(int32_at(c[f.BEGIN])[pair]), np.int64(int32_at(c[f.END])[pair])
    merged = c[f.N_SYMBOLS]
    place = np.int64(positions[begin] >> _HALF)
    c[f.N_SYMBOLS] += 1
    lengths[merged] = length
    int32_at(c[f.PLACE])[merged] = place
    uint64_at(c[f.PREFIX])[merged] = _prefix(uint8_at(c[f.TEXT]), place, length)
    end = _replace(
        int32_at(c[f.SYMBOLS]), positions, begin, end, left, right, left_length, length, merged
    )
    n_before, n_after = _look_around(c, begin, end, length, merged)
    _add_neighbours(c, 0, n_before, merged)
    _add_neighbours(c, c[f.MAX_SYMBOLS] + 1, n_after, merged)
    _fill_lists(c, begin, end)
    _clear_neighbours(c, 0, n_before)
    _clear_neighbours(c, c[f.MAX_SYMBOLS] + 1, n_after)


@inner
def _replace(
    ids: pi32,
    positions: pu64,
    begin: i64,
    end: i64,
    left: i64,
    right: i64,
    left_length: i64,
    length: i64,
    merged: i64,
) -> i64:
    """Replace the two symbols by the merged one; returns the end of the positions kept."""
    kept = begin
    for i in range(begin, end):
        slot = np.int64(positions[i] >> _HALF)
        # Where occurrences overlap, as in "aaa", the one before has taken a symbol of this one.
        if ids[slot] == left and ids[slot + left_length] == right:
            ids[slot + left_length - 1] = _INSIDE
            ids[slot + left_length] = _INSIDE
            ids[slot] = merged
            ids[slot + length - 1] = merged
            positions[kept] = positions[i]
            kept += 1
    return kept


@inner
def _look_around(c: pi64, begin: i64, end: i64, length: i64, merged: i64) -> tuple[i64, i64]:
    """Record the neighbours at each position; returns how many distinct ones are left and right."""
    ids, positions, around = (
        int32_at(c[f.SYMBOLS]),
        uint64_at(c[f.POSITIONS]),
        uint64_at(c[f.AROUND]),
    )
    totals, n_places, seen = int64_at(c[f.TOTALS]), int32_at(c[f.N_PLACES]), int32_at(c[f.SEEN])
    second_half = c[f.MAX_SYMBOLS] + 1
    n_before = np.int64(0)
    n_after = second_half
    for i in range(begin, end):
        slot = np.int64(positions[i] >> _HALF)
        count = np.int64(positions[i] & _LOW_HALF)
        before = np.int64(ids[slot - 1]) + 1
        after = np.int64(ids[slot + length]) + 1
        # A pair of two new symbols is recorded once, as the left neighbour of the second.
        after = second_half + (0 if after == merged + 1 else after)
        around[i - begin] = np.uint64(before) << _HALF | np.uint64(after)
        seen[n_before] = before
        n_before += np.int64(n_places[before] == 0)
        n_places[before] += 1
        totals[before] += count
        seen[n_after] = after
        n_after += np.int64(n_places[after] == 0)
        n_places[after] += 1
        totals[after] += count
    return n_before, n_after - second_half


@inner
def _add_neighbours(c: pi64, half: i64, n_seen: i64, merged: i64) -> None:
    """Make a pair with each neighbour; N_PLACES becomes the index of its first position."""
    totals, n_places, seen = int64_at(c[f.TOTALS]), int32_at(c[f.N_PLACES]), int32_at(c[f.SEEN])
    lengths = int32_at(c[f.LENGTH])
    for i in range(half, half + n_seen):
        neighbour = np.int64(seen[i])
        other = neighbour - half - 1
        if other < 0 or lengths[other] + lengths[merged] > c[f.MAX_TOKEN_BYTES]:
            n_places[neighbour] = -1  # _fill_lists skips it
            continue
        left, right = (merged, other) if half > 0 else (other, merged)
        n_places[neighbour] = _new_pair(
            c, left, right, totals[neighbour], np.int64(n_places[neighbour])
        )


@inner
def _fill_lists(c: pi64, begin: i64, end: i64) -> None:
    positions, around = uint64_at(c[f.POSITIONS]), uint64_at(c[f.AROUND])
    lengths, places = int32_at(c[f.LENGTH]), int32_at(c[f.N_PLACES])
    for i in range(begin, end):
        before = np.int64(around[i - begin] >> _HALF)
        after = np.int64(around[i - begin] & _LOW_HALF)
        if places[before] >= 0:
            positions[places[before]] = positions[i] - (np.uint64(lengths[before - 1]) << _HALF)
            places[before] += 1
        if places[after] >= 0:
            positions[places[after]] = positions[i]
            places[after] += 1


@inner
def _clear_neighbours(c: pi64, half: i64, n_seen: i64) -> None:
    totals, n_places, seen = int64_at(c[f.TOTALS]), int32_at(c[f.N_PLACES]), int32_at(c[f.SEEN])
    for i in range(half, half + n_seen):
        totals[seen[i]] = 0
        n_places[seen[i]] = 0


@inner
def _prefix(text: pu8, place: i64, length: i64) -> u64:
    prefix = np.uint64(0)
    for i in range(8):
        prefix <<= np.uint64(8)
        if i < length:
            prefix |= np.uint64(text[place + i])
    return prefix
