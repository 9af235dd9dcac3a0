# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code=assignment
"""Count the distinct pre-tokens of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from fastlm.tokenizer.bpe import fields as f
from fastlm.tokenizer.bpe import status_codes as codes
from fastlm.tokenizer.bpe.buffers import Buffer
from fastlm.tokenizer.bpe.compiler import inner, kernel, prefetch_soon
from fastlm.tokenizer.bpe.compiler import numpy as np
from fastlm.tokenizer.bpe.context import (
    Context,
    i64,
    int32_at,
    int64_at,
    pi64,
    u64,
    uint64_at,
)
from fastlm.tokenizer.bpe.errors import InvalidUtf8
from fastlm.tokenizer.bpe.objects import address_of
from fastlm.tokenizer.bpe.patterns import GPT2, Pattern
from fastlm.tokenizer.bpe.segments import add_special_tokens, start_walk
from fastlm.tokenizer.bpe.walk import add_walk, next_window
from fastlm.tokenizer.bpe.words import (
    AHEAD,
    VALUE,
    find_token,
    find_word,
    grow_table,
    hold_arena,
    hold_table,
    list_words,
    new_table,
)

if TYPE_CHECKING:
    from jaxtyping import Int64, UInt8

_FIRST_SLOTS = 1 << 14
_FIRST_ARENA = 1 << 14


class Words(NamedTuple):
    """Distinct pre-tokens: word i is text[bounds[i] : bounds[i + 1]] and occurs counts[i] times."""

    text: UInt8[np.ndarray, " n_bytes"]
    bounds: Int64[np.ndarray, " n_words_plus_1"]
    counts: Int64[np.ndarray, " n_words"]


class WordCounter:
    """Counts of the pre-tokens added so far.

    Two threads must not share a counter: each fills its own, and merge adds them up.

    >>> counter = WordCounter([b"<|endoftext|>"])
    >>> counter.add(b"low low<|endoftext|>low")
    >>> words = counter.words()  # b"low" twice, b" low" once
    """

    def __init__(self, special_tokens: Sequence[bytes] = (), pattern: Pattern = GPT2) -> None:
        self._context = Context(f.N_FIELDS)
        self._arena = Buffer(_FIRST_ARENA, u64)
        add_walk(self._context, pattern)
        add_special_tokens(self._context, sorted(special_tokens, key=len, reverse=True))
        hold_table(self._context, new_table(_FIRST_SLOTS))
        hold_arena(self._context, self._arena)

    def add(
        self, data: bytes, bounds: Int64[np.ndarray, " n_documents_plus_1"] | None = None
    ) -> None:
        """Count the pre-tokens of UTF-8 text; document i is data[bounds[i] : bounds[i + 1]].

        Raises:
            InvalidUtf8: the pre-tokens before the invalid byte may have been counted.
        """
        context = self._context
        # A copy, because start_walk writes to the bounds of a single document.
        own = np.array((0, len(data)) if bounds is None else bounds, np.int64)
        context.hold(f.BOUNDS, own)
        context.fields[f.N_DOCUMENTS] = len(own) - 1
        is_fresh = True
        while True:
            status = _count(context.address, address_of(data), len(data), is_fresh)
            if status == codes.DONE:
                return
            if status == codes.INVALID_TEXT:
                raise InvalidUtf8(int(context.fields[f.POSITION]))
            self._grow(status)
            is_fresh = False

    def merge(self, words: Words) -> None:
        """Add the counts of another counter."""
        # Keys are read 16 bytes at a time, so that of the last word extends past the text.
        text = np.append(words.text, np.zeros(16, np.uint8))
        done = 0
        while True:
            done = _count_words(
                self._context.address,
                text.ctypes.data,
                words.bounds.ctypes.data,
                words.counts.ctypes.data,
                done,
                len(words.counts),
            )
            if done == len(words.counts):
                return
            self._grow(self._context.fields[f.STATUS])

    def words(self) -> Words:
        """Return the distinct pre-tokens, in no particular order."""
        n_words = int(self._context.fields[f.N_WORDS])
        text = np.empty(self._context.fields[f.N_WORD_BYTES], np.uint8)
        bounds, counts = np.empty(n_words + 1, np.int64), np.empty(n_words, np.int64)
        list_words(self._context.address, text.ctypes.data, bounds.ctypes.data, counts.ctypes.data)
        return Words(text, bounds, counts)

    def _grow(self, status: int) -> None:
        if status == codes.TABLE_FULL:
            grow_table(self._context)
        else:
            assert status == codes.ARENA_FULL
            wanted = self._context.fields[f.ARENA_WANTED]
            self._arena = self._arena.grown(max(2 * len(self._arena), wanted))
            hold_arena(self._context, self._arena)


@kernel
def _count(address, data, n_bytes, is_fresh):
    c = int64_at(address)
    if is_fresh:
        start_walk(c, n_bytes)
    while True:
        n_tokens = next_window(c, data)
        if n_tokens > 0:
            status = _count_window(c, n_tokens)
        elif n_tokens == codes.AT_LONG_TOKEN:
            status = _count_long_token(c, data)
        elif n_tokens == codes.AT_BORDER:
            continue
        else:
            return codes.DONE if n_tokens == codes.AT_END else n_tokens
        if status != codes.DONE:
            return status


@inner
def _count_window(c: pi64, n_tokens: i64) -> i64:
    """Count the tokens of a window and move POSITION past them."""
    starts = int32_at(c[f.STARTS])
    firsts, seconds, slots = uint64_at(c[f.FIRSTS]), uint64_at(c[f.SECONDS]), int64_at(c[f.SLOTS])
    table = uint64_at(c[f.TABLE])
    one = np.uint64(1)
    for token in range(n_tokens):
        prefetch_soon(table, slots[token + AHEAD])
        slot = slots[token]
        second = seconds[token]
        is_first = table[slot + 1] == second and table[slot] == firsts[token]
        slot += 0 if is_first else 4
        if table[slot + 1] == second and table[slot] == firsts[token]:
            table[slot + VALUE] += one
            continue
        slot = find_token(c, token)
        if slot < 0:
            c[f.POSITION] += np.int64(starts[token])
            return slot
        table[slot + VALUE] += one
    c[f.POSITION] += starts[n_tokens]
    return codes.DONE


@inner
def _count_long_token(c: pi64, data: i64) -> i64:
    slot = find_word(c, data, c[f.POSITION], c[f.TOKEN_END] - c[f.POSITION])
    if slot < 0:
        return slot
    uint64_at(c[f.TABLE])[slot + VALUE] += np.uint64(1)
    c[f.POSITION] = c[f.TOKEN_END]
    return codes.DONE


@kernel
def _count_words(address, text_address, bounds_address, counts_address, done, n_words):
    """Add the counts of words from `done` on; returns the number done. STATUS says what is full."""
    c = int64_at(address)
    bounds, counts = int64_at(bounds_address), int64_at(counts_address)
    table = uint64_at(c[f.TABLE])
    for word in range(done, n_words):
        slot = find_word(c, text_address, bounds[word], bounds[word + 1] - bounds[word])
        if slot < 0:
            c[f.STATUS] = slot
            return word
        table[slot + VALUE] += np.uint64(counts[word])
    return n_words
