# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code=assignment
"""Learning merges from counted pre-tokens.

All words lie in one array of symbols, each followed by a boundary. A symbol of n bytes takes n
slots: its id stands in the first and the last, so that both neighbours are found without links.
Each pair has the list of its positions, ascending, complete when the pair is made and never added
to: a pair arises only in the merge that makes the newer of its symbols. Later merges leave stale
positions behind, which show: the symbols there are no longer the pair's. So a pair's count is only
an upper bound, held in a max-heap; the pair on top is counted again, and either goes back with its
true count or is the most frequent pair.

No two merges give the same bytes: between the ends of a string that no merge has crossed, merging
goes the same way wherever the string occurs.
"""

from collections.abc import Callable
from typing import NamedTuple

import numba
import numpy as np
from jaxtyping import Int32, Int64, UInt8

from fastlm.bpe.count import Words
from fastlm.bpe.pair_heap import Heap, Pairs, Symbols, pop, push, sink

BOUNDARY, INSIDE = -1, -2  # slots that hold no symbol's id

N_PAIRS, N_POSITIONS, N_HEAP, N_SYMBOLS = range(4)

_MAX_SLOTS = 1 << 29  # positions are int32, and their lists hold up to three for each slot
_MERGES_BETWEEN_REPORTS = 1000


class Corpus(NamedTuple):
    """Words as slots. Slots 0 to 255 are boundaries that spell the single bytes."""

    text: UInt8[np.ndarray, " n_slots"]
    symbols: Int32[np.ndarray, " n_slots"]
    word_of: Int32[np.ndarray, " n_slots"]
    counts: Int64[np.ndarray, " n_words"]


class Neighbours(NamedTuple):
    """What stands on one side of the symbol being made: counts by the neighbour's id."""

    total: Int64[np.ndarray, " vocab_size"]
    n_positions: Int32[np.ndarray, " vocab_size"]
    seen: Int32[np.ndarray, " vocab_size"]


def learn_merges(
    words: Words, n_merges: int, on_progress: Callable[[int], None] | None = None
) -> list[tuple[bytes, bytes]]:
    """Merge the most frequent pair n_merges times, or until no pair is left.

    Between equally frequent pairs the greater pair of byte strings is merged.

    Args:
        on_progress: called now and then with the number of merges learned.
    """
    n_symbols = 256 + n_merges
    corpus = _lay_out(words)
    n_slots = len(corpus.text)
    symbols = Symbols(
        corpus.text,
        np.zeros(n_symbols, np.int32),
        np.zeros(n_symbols, np.int32),
        np.zeros(n_symbols, np.uint64),
    )
    pairs, heap = _new_pairs(1 << 17), _new_heap(1 << 17)
    positions = np.empty(3 * n_slots, np.int32)
    left, right = _new_neighbours(n_symbols), _new_neighbours(n_symbols)
    merged = np.empty(n_merges, np.int32)
    state = np.zeros(4, np.int64)
    _make_first_pairs(corpus, symbols, pairs, heap, positions, state)
    n_learned, exhausted = 0, False
    while n_learned < n_merges and not exhausted:
        wanted = min(n_merges, n_learned + _MERGES_BETWEEN_REPORTS)
        while n_learned < wanted and not exhausted:
            # One merge makes at most two pairs with each symbol there is.
            if state[N_PAIRS] + 2 * n_symbols > len(pairs.left):
                capacity = 2 * len(pairs.left) + 2 * n_symbols
                pairs = Pairs(*(_grown(field, capacity) for field in pairs))
                heap = Heap(*(_grown(field, capacity) for field in heap))
            n_learned, exhausted = _learn(
                corpus,
                symbols,
                pairs,
                heap,
                positions,
                left,
                right,
                merged,
                n_learned,
                wanted,
                state,
            )
        if on_progress is not None:
            on_progress(n_learned)
    chosen = merged[:n_learned]
    spelled = [
        corpus.text[place : place + length].tobytes()
        for place, length in zip(symbols.place.tolist(), symbols.length.tolist(), strict=True)
    ]
    return [
        (spelled[a], spelled[b])
        for a, b in zip(pairs.left[chosen].tolist(), pairs.right[chosen].tolist(), strict=True)
    ]


def _lay_out(words: Words) -> Corpus:
    lengths = np.diff(words.bounds)
    n_slots = 256 + len(words.text) + len(lengths)
    if n_slots > _MAX_SLOTS:
        raise ValueError(
            f"distinct pre-tokens must hold at most {_MAX_SLOTS} bytes: got {n_slots}; "
            "train on a part of the text"
        )
    text = np.empty(n_slots, np.uint8)
    text[:256] = np.arange(256)
    symbols = np.full(n_slots, BOUNDARY, np.int32)
    word_of = np.zeros(n_slots, np.int32)
    _fill_slots(words.text, words.bounds, text, symbols, word_of)
    return Corpus(text, symbols, word_of, words.counts)


def _new_pairs(capacity: int) -> Pairs:
    return Pairs(*(np.empty(capacity, np.int32) for _ in range(4)))


def _new_heap(capacity: int) -> Heap:
    return Heap(np.empty(capacity, np.int64), np.empty(capacity, np.int32))


def _new_neighbours(n_symbols: int) -> Neighbours:
    return Neighbours(
        np.zeros(n_symbols, np.int64), np.zeros(n_symbols, np.int32), np.zeros(n_symbols, np.int32)
    )


def _grown(array: np.ndarray, capacity: int) -> np.ndarray:
    larger = np.empty(capacity, array.dtype)
    larger[: len(array)] = array
    return larger


@numba.njit(cache=True, nogil=True)
def _fill_slots(word_text, bounds, text, symbols, word_of):
    slot = 256
    for word in range(bounds.size - 1):
        for i in range(bounds[word], bounds[word + 1]):
            text[slot] = word_text[i]
            symbols[slot] = word_text[i]
            word_of[slot] = word
            slot += 1
        slot += 1


@numba.njit(cache=True, nogil=True)
def _make_first_pairs(corpus, symbols, pairs, heap, positions, state):
    """Make the single bytes and the pairs of them."""
    for byte in range(256):
        symbols.place[byte] = byte
        symbols.length[byte] = 1
        symbols.prefix[byte] = np.uint64(byte) << np.uint64(56)
    state[N_SYMBOLS] = 256

    ids = corpus.symbols
    count = np.zeros(65536, np.int64)
    cursor = np.zeros(65536, np.int32)
    for slot in range(256, ids.size - 1):
        if ids[slot] >= 0 and ids[slot + 1] >= 0:
            key = ids[slot] << 8 | ids[slot + 1]
            count[key] += corpus.counts[corpus.word_of[slot]]
            cursor[key] += 1
    for key in range(65536):
        if cursor[key] > 0:
            cursor[key] = _new_pair(pairs, state, key >> 8, key & 255, cursor[key])
            _offer(heap, state, count[key], symbols, pairs)
    for slot in range(256, ids.size - 1):
        if ids[slot] >= 0 and ids[slot + 1] >= 0:
            key = ids[slot] << 8 | ids[slot + 1]
            positions[cursor[key]] = slot
            cursor[key] += 1


@numba.njit(cache=True, nogil=True)
def _new_pair(pairs, state, left, right, n_positions):
    """Make a pair with room for its positions; returns where they begin."""
    pair = state[N_PAIRS]
    begin = state[N_POSITIONS]
    pairs.left[pair] = left
    pairs.right[pair] = right
    pairs.begin[pair] = begin
    pairs.end[pair] = begin + n_positions
    state[N_PAIRS] += 1
    state[N_POSITIONS] += n_positions
    return begin


@numba.njit(cache=True, nogil=True)
def _offer(heap, state, count, symbols, pairs):
    """Put the newest pair into the heap."""
    state[N_HEAP] = push(heap, state[N_HEAP], count, state[N_PAIRS] - 1, symbols, pairs)


@numba.njit(cache=True, nogil=True)
def _learn(corpus, symbols, pairs, heap, positions, left, right, merged, n_learned, wanted, state):
    """Learn merges up to `wanted`; returns (merges learned, is no pair left).

    Comes back early when the arrays of pairs may not hold the pairs of the next merge.
    """
    while n_learned < wanted:
        if state[N_PAIRS] + 2 * symbols.place.size > pairs.left.size:
            return n_learned, False
        if state[N_HEAP] == 0:
            return n_learned, True
        bound = heap.bound[0]
        pair = heap.pair[0]
        count = _recount(corpus, symbols, pairs, pair, positions)
        if count == bound:
            state[N_HEAP] = pop(heap, state[N_HEAP], symbols, pairs)
            _merge(corpus, symbols, pairs, heap, pair, positions, left, right, state)
            merged[n_learned] = pair
            n_learned += 1
        elif count > 0:
            heap.bound[0] = count
            sink(heap, state[N_HEAP], symbols, pairs)
        else:
            state[N_HEAP] = pop(heap, state[N_HEAP], symbols, pairs)
    return n_learned, False


@numba.njit(cache=True, nogil=True)
def _recount(corpus, symbols, pairs, pair, positions):
    """Drop a pair's stale positions and count it afresh."""
    left, right = pairs.left[pair], pairs.right[pair]
    length = symbols.length[left]
    ids = corpus.symbols
    count = np.int64(0)
    end = np.int64(pairs.begin[pair])
    for i in range(pairs.begin[pair], pairs.end[pair]):
        slot = np.int64(positions[i])
        if ids[slot] == left and ids[slot + length] == right:
            positions[end] = slot
            end += 1
            count += corpus.counts[corpus.word_of[slot]]
    pairs.end[pair] = end
    return count


@numba.njit(cache=True, nogil=True)
def _merge(corpus, symbols, pairs, heap, pair, positions, left, right, state):
    """Merge a pair at all its positions, which _recount has just seen, and make the new pairs."""
    left_id, right_id = pairs.left[pair], pairs.right[pair]
    left_length = np.int64(symbols.length[left_id])
    length = left_length + symbols.length[right_id]
    ids = corpus.symbols
    begin = np.int64(pairs.begin[pair])
    new_id = state[N_SYMBOLS]
    state[N_SYMBOLS] += 1
    symbols.length[new_id] = length
    symbols.place[new_id] = positions[begin]
    symbols.prefix[new_id] = _prefix(corpus.text, np.int64(positions[begin]), length)

    end = begin
    for i in range(begin, pairs.end[pair]):
        slot = np.int64(positions[i])
        # Of overlapping occurrences, as in "aaa", the one before has taken this one's symbol.
        if ids[slot] == left_id and ids[slot + left_length] == right_id:
            ids[slot + left_length - 1] = INSIDE
            ids[slot + left_length] = INSIDE
            ids[slot] = new_id
            ids[slot + length - 1] = new_id
            positions[end] = slot
            end += 1

    n_left = np.int64(0)
    n_right = np.int64(0)
    for i in range(begin, end):
        slot = np.int64(positions[i])
        count = corpus.counts[corpus.word_of[slot]]
        before = ids[slot - 1]
        after = ids[slot + length]
        if before >= 0:
            n_left = _note(left, n_left, before, count)
        # A pair of two new symbols is noted once, by the second of them.
        if after >= 0 and after != new_id:
            n_right = _note(right, n_right, after, count)

    for i in range(n_left):
        other = np.int64(left.seen[i])
        place = _new_pair(pairs, state, other, new_id, left.n_positions[other])
        _offer(heap, state, left.total[other], symbols, pairs)
        left.total[other] = 0
        left.n_positions[other] = place
    for i in range(n_right):
        other = np.int64(right.seen[i])
        place = _new_pair(pairs, state, new_id, other, right.n_positions[other])
        _offer(heap, state, right.total[other], symbols, pairs)
        right.total[other] = 0
        right.n_positions[other] = place

    for i in range(begin, end):
        slot = np.int64(positions[i])
        before = ids[slot - 1]
        after = ids[slot + length]
        if before >= 0:
            positions[left.n_positions[before]] = slot - symbols.length[before]
            left.n_positions[before] += 1
        if after >= 0 and after != new_id:
            positions[right.n_positions[after]] = slot
            right.n_positions[after] += 1
    for i in range(n_left):
        left.n_positions[left.seen[i]] = 0
    for i in range(n_right):
        right.n_positions[right.seen[i]] = 0


@numba.njit(cache=True, nogil=True, forceinline=True)
def _note(neighbours, n_seen, other, count):
    if neighbours.n_positions[other] == 0:
        neighbours.seen[n_seen] = other
        n_seen += 1
    neighbours.n_positions[other] += 1
    neighbours.total[other] += count
    return n_seen


@numba.njit(cache=True, nogil=True)
def _prefix(text, place, length):
    prefix = np.uint64(0)
    for i in range(8):
        prefix <<= np.uint64(8)
        if i < length:
            prefix |= np.uint64(text[place + i])
    return prefix
