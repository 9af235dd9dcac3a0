# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code=assignment
"""Counting pre-tokens: each distinct one once, with its frequency."""

from collections.abc import Sequence
from typing import NamedTuple

import numba
import numpy as np
from jaxtyping import Int64, UInt8

from fastlm.bpe.errors import InvalidUtf8
from fastlm.bpe.pretokenize import (
    LOOKAHEAD,
    PADDING,
    WINDOW_BYTES,
    class_table,
    new_window,
    scan_window,
)
from fastlm.bpe.segments import (
    DOCUMENT,
    DONE,
    INVALID_TEXT,
    N_WORDS,
    POSITION,
    SEGMENT_END,
    TABLE_FULL,
    new_state,
    next_segment,
    pack_special_tokens,
    start_walk,
)
from fastlm.bpe.words import (
    SHORT_BYTES,
    copy_word,
    find_or_insert,
    find_short,
    new_table,
    rehash,
    word_length,
)

_FIRST_SLOTS = 1 << 14
_FIRST_ARENA = 1 << 14
_COUNT = 2  # column of the word table


class Words(NamedTuple):
    """Distinct pre-tokens: word i is text[bounds[i] : bounds[i + 1]] and occurs counts[i] times."""

    text: UInt8[np.ndarray, " n_bytes"]
    bounds: Int64[np.ndarray, " n_words_plus_1"]
    counts: Int64[np.ndarray, " n_words"]


class WordCounter:
    """Counts of the pre-tokens added so far. Not for two threads at once; one each, then merge.

    >>> counter = WordCounter([b"<|endoftext|>"])
    >>> counter.add(b"low low<|endoftext|>low")
    >>> words = counter.words()  # b"low" twice, b" low" once
    """

    def __init__(self, special_tokens: Sequence[bytes] = ()) -> None:
        self._specials = pack_special_tokens(sorted(special_tokens, key=len, reverse=True))
        self._table = new_table(_FIRST_SLOTS)
        self._arena = np.empty(_FIRST_ARENA, np.uint64)
        self._state = new_state()

    def add(
        self, data: bytes, bounds: Int64[np.ndarray, " n_documents_plus_1"] | None = None
    ) -> None:
        """Count the pre-tokens of UTF-8 text; document i is data[bounds[i] : bounds[i + 1]].

        Raises:
            InvalidUtf8: counts are then partly added.
        """
        if bounds is None:
            bounds = np.array([0, len(data)], np.int64)
        text = np.frombuffer(data, np.uint8)
        start_walk(self._state)
        while True:
            status = _count(
                text, bounds, self._specials, class_table(), self._table, self._arena, self._state
            )
            if status == DONE:
                return
            if status == INVALID_TEXT:
                raise InvalidUtf8(int(self._state[POSITION]))
            self._grow(status)

    def merge(self, words: Words) -> None:
        """Add the counts of another counter."""
        text = np.append(words.text, np.zeros(LOOKAHEAD, np.uint8))
        done = 0
        while True:
            status, done = _count_words(
                text, words.bounds, words.counts, done, self._table, self._arena, self._state
            )
            if status == DONE:
                return
            self._grow(status)

    def words(self) -> Words:
        """The distinct pre-tokens, in no particular order."""
        n_words = int(self._state[N_WORDS])
        bounds = np.zeros(n_words + 1, np.int64)
        counts = np.empty(n_words, np.int64)
        slots = np.flatnonzero(self._table[:, 1])
        _measure_words(self._table, self._arena, slots, bounds, counts)
        text = np.empty(bounds[-1], np.uint8)
        _copy_words(self._table, self._arena, slots, bounds, text)
        return Words(text, bounds, counts)

    def _grow(self, status: int) -> None:
        if status == TABLE_FULL:
            larger = new_table(4 * len(self._table))
            rehash(self._table, larger)
            self._table = larger
        else:
            self._arena = np.append(self._arena, np.empty_like(self._arena))


@numba.njit(cache=True, nogil=True)
def _count(data, bounds, specials, class_of, table, arena, state):
    window = new_window(np.int64(WINDOW_BYTES))
    while True:
        if state[POSITION] == state[SEGMENT_END]:
            if state[DOCUMENT] + 1 == bounds.size:
                return DONE
            next_segment(data, bounds, specials, state)
            continue
        position = state[POSITION]
        n_tokens, invalid = scan_window(data, position, state[SEGMENT_END], class_of, window)
        if invalid >= 0:
            state[POSITION] = invalid
            return INVALID_TEXT
        if n_tokens == 0:
            window = new_window(2 * (window[0].size - PADDING))
            continue
        text, starts = window[0], window[3]
        for token in range(n_tokens):
            begin = np.int64(starts[token])
            length = np.int64(starts[token + 1]) - begin
            if length <= SHORT_BYTES:
                slot, _, second = find_short(table, text, begin, length)
                if table[slot, 1] == second:
                    table[slot, _COUNT] += np.uint64(1)
                    continue
            slot, _, status = find_or_insert(table, arena, state, text, begin, length)
            if status != DONE:
                state[POSITION] = position + begin
                return status
            table[slot, _COUNT] += np.uint64(1)
        state[POSITION] = position + starts[n_tokens]
        if text.size > WINDOW_BYTES + PADDING:
            window = new_window(np.int64(WINDOW_BYTES))


@numba.njit(cache=True, nogil=True)
def _count_words(text, bounds, counts, done, table, arena, state):
    for word in range(done, counts.size):
        begin = bounds[word]
        length = bounds[word + 1] - begin
        slot, _, status = find_or_insert(table, arena, state, text, begin, length)
        if status != DONE:
            return status, word
        table[slot, _COUNT] += np.uint64(counts[word])
    return DONE, counts.size


@numba.njit(cache=True, nogil=True)
def _measure_words(table, arena, slots, bounds, counts):
    for word in range(slots.size):
        bounds[word + 1] = bounds[word] + word_length(arena, table[slots[word], 1])
        counts[word] = table[slots[word], _COUNT]


@numba.njit(cache=True, nogil=True)
def _copy_words(table, arena, slots, bounds, text):
    for word in range(slots.size):
        copy_word(table, arena, slots[word], text, bounds[word])
