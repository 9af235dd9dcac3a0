# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="assignment,operator"
"""A hash table of byte strings, for counts in training and ids in encoding.

A slot is four uint64: two words of key and two of value. A string of up to 15 bytes is its own key:
its bytes, little-endian, with the length in the top byte. The key of a longer string is a hash in
the first word and, in the second, 0xFF in the top byte and below it the index in the arena of its
length and bytes, which are compared. An empty slot has 0 as its second key word, which no string
has.

Two slots fill a cache line and are searched together, without a branch between them. The keys of a
whole window are computed first, and the cache lines of their slots are prefetched: the table is far
larger than the caches, and the processor would wait for each line in turn.
"""

from __future__ import annotations

import functools

from fastlm.tokenizer.bpe import fields as f
from fastlm.tokenizer.bpe import status_codes as codes
from fastlm.tokenizer.bpe.buffers import Buffer
from fastlm.tokenizer.bpe.compiler import inner, kernel, multiply_fold, prefetch_later, shared
from fastlm.tokenizer.bpe.compiler import numpy as np
from fastlm.tokenizer.bpe.context import (
    Context,
    boolean,
    i64,
    int32_at,
    int64_at,
    load_tail,
    load_word,
    pi64,
    pu8,
    pu64,
    u64,
    uint8_at,
    uint64_at,
)
from fastlm.tokenizer.bpe.pretokenize import PADDING, WINDOW_BYTES

SHORT_BYTES = 15
AHEAD = 32  # tokens between the prefetch of a slot and its use
_LARGE = 1 << 15  # slots
VALUE = 2  # offset of the two value words in a slot

_LENGTH_SHIFT = np.uint64(56)
_LONG_KEY = np.uint64(0xFF << 56)
_NO_KEY = np.uint64(0xFE << 56)  # a second key word that no entry has
_FIRST_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SECOND_MULTIPLIER = np.uint64(0xC2B2AE3D27D4EB4F)


def new_table(n_slots: int) -> Buffer:
    """Make an empty table; n_slots is a power of two."""
    return Buffer(4 * n_slots, u64)


def hold_table(context: Context, table: Buffer) -> None:
    """Give a context its hash table, which takes words for up to half of its slots."""
    context.hold(f.TABLE, table)
    context.fields[f.SLOT_MASK] = len(table) // 4 - 1
    context.fields[f.MAX_WORDS] = len(table) // 8


def hold_arena(context: Context, arena: Buffer) -> None:
    """Give a context its arena."""
    context.hold(f.ARENA, arena)
    context.fields[f.ARENA_SIZE] = len(arena)


def add_keys(context: Context) -> None:
    """Give a context the buffers for the keys of a window, and find_or_insert."""
    context.link(find_or_insert)
    context.hold(f.KEY_MASKS, _key_masks())
    for field in (f.FIRSTS, f.SECONDS, f.SLOTS):
        context.hold(field, Buffer(WINDOW_BYTES + PADDING, u64))


@functools.cache
def _key_masks() -> Buffer:
    """Row n makes the key of a string of n bytes, the last row _NO_KEY for those too long.

    The key is (first 8 bytes & row[0], next 8 bytes & row[1] | row[2]).
    """
    rows = Buffer(4 * (SHORT_BYTES + 2), u64)
    for length in range(SHORT_BYTES + 1):
        rows.items[4 * length] = (1 << 8 * min(length, 8)) - 1
        rows.items[4 * length + 1] = (1 << 8 * max(length - 8, 0)) - 1
        rows.items[4 * length + 2] = length << int(_LENGTH_SHIFT)
    rows.items[4 * (SHORT_BYTES + 1) + 2] = _NO_KEY
    return rows


@inner
def _home(first: u64, second: u64, mask: i64) -> i64:
    """Index in the table of the first of the two slots where the search for a key begins."""
    mixed = multiply_fold(first ^ _FIRST_MULTIPLIER, second ^ _SECOND_MULTIPLIER)
    return np.int64(mixed & np.uint64(mask) & ~np.uint64(1)) << 2


@inner
def hash_window(c: pi64, n_tokens: i64) -> None:
    """Write the keys and home slots of the tokens of a window.

    FIRSTS of a long token has its hash, and SECONDS has _NO_KEY, which is found nowhere.
    """
    text, starts, masks = uint8_at(c[f.TEXT]), int32_at(c[f.STARTS]), uint64_at(c[f.KEY_MASKS])
    firsts, seconds, slots = uint64_at(c[f.FIRSTS]), uint64_at(c[f.SECONDS]), int64_at(c[f.SLOTS])
    mask = c[f.SLOT_MASK]
    table = uint64_at(c[f.TABLE])
    begin = np.int64(starts[0])
    for token in range(n_tokens):
        end = np.int64(starts[token + 1])
        length = end - begin
        row = 4 * (length if length <= SHORT_BYTES else SHORT_BYTES + 1)
        first = load_word(text, begin) & masks[row]
        second = (load_word(text, begin + 8) & masks[row + 1]) | masks[row + 2]
        slot = _home(first, second, mask)
        if second == _NO_KEY:
            first = _hash_long(text, begin, length)
            slot = _home(first, _LONG_KEY, mask)
        firsts[token] = first
        seconds[token] = second
        slots[token] = slot
        prefetch_later(table, slot)
        begin = end
    for token in range(n_tokens, n_tokens + AHEAD):
        slots[token] = 0


@inner
def find_token(c: pi64, token: i64) -> i64:
    """find_or_insert for a token of a window that has keys."""
    starts = int32_at(c[f.STARTS])
    begin = np.int64(starts[token])
    length = np.int64(starts[token + 1]) - begin
    second = uint64_at(c[f.SECONDS])[token]
    if second == _NO_KEY:
        second = _LONG_KEY
    return find_or_insert(c, c[f.TEXT], begin, length, uint64_at(c[f.FIRSTS])[token], second)


@inner
def find_word(c: pi64, text_address: i64, begin: i64, length: i64) -> i64:
    """find_or_insert for a string whose key is not known; nothing after it is read."""
    text = uint8_at(text_address)
    if length > SHORT_BYTES:
        first, second = _hash_long(text, begin, length), _LONG_KEY
    else:
        first = load_tail(text, begin, begin + length)
        second = load_tail(text, begin + 8, begin + length) if length > 8 else np.uint64(0)
        second |= np.uint64(length) << _LENGTH_SHIFT
    return find_or_insert(c, text_address, begin, length, first, second)


@shared(f.FIND_WORD)
def find_or_insert(
    c: pi64, text_address: i64, begin: i64, length: i64, first: u64, second: u64
) -> i64:
    """Find the slot of a string of any length, or make one; IS_NEW says which.

    Args:
        first, second: its key; the hash and _LONG_KEY for a long one.
    Returns:
        the index of the slot in the table; TABLE_FULL or ARENA_FULL when there is no room.
    """
    text = uint8_at(text_address)
    c[f.IS_NEW] = 0
    table, arena, mask = uint64_at(c[f.TABLE]), uint64_at(c[f.ARENA]), c[f.SLOT_MASK]
    slot = _home(first, second, mask)
    while table[slot + 1] != 0:
        if table[slot] == first:
            if length <= SHORT_BYTES:
                if table[slot + 1] == second:
                    return slot
            elif table[slot + 1] >= _LONG_KEY:
                place = np.int64(table[slot + 1] ^ _LONG_KEY)
                if _equals(arena, place, text, begin, length):
                    return slot
        slot = (slot + 4) & (4 * mask + 3)
    if c[f.N_WORDS] >= c[f.MAX_WORDS]:
        return codes.TABLE_FULL
    if length > SHORT_BYTES:
        place = c[f.ARENA_USED]
        n_arena_words = (length + 7) >> 3
        if place + 1 + n_arena_words > c[f.ARENA_SIZE]:
            c[f.ARENA_WANTED] = place + 1 + n_arena_words
            return codes.ARENA_FULL
        arena[place] = np.uint64(length)
        for i in range(n_arena_words):
            arena[place + 1 + i] = load_tail(text, begin + 8 * i, begin + length)
        second |= np.uint64(place)
        c[f.ARENA_USED] = place + 1 + n_arena_words
    table[slot] = first
    table[slot + 1] = second
    c[f.N_WORDS] += 1
    c[f.N_WORD_BYTES] += length
    c[f.IS_NEW] = 1
    return slot


@inner
def _hash_long(text: pu8, begin: i64, length: i64) -> u64:
    hashed = np.uint64(length)
    for i in range(0, length, 8):
        word = load_tail(text, begin + i, begin + length)
        hashed = multiply_fold(hashed ^ _FIRST_MULTIPLIER, word ^ _SECOND_MULTIPLIER)
    return hashed


@inner
def _equals(arena: pu64, place: i64, text: pu8, begin: i64, length: i64) -> boolean:
    if arena[place] != np.uint64(length):
        return False
    for i in range(0, length, 8):
        if arena[place + 1 + (i >> 3)] != load_tail(text, begin + i, begin + length):
            return False
    return True


@inner
def take_back(c: pi64, slot: i64) -> None:
    """Remove the string that was inserted last from its slot."""
    table = uint64_at(c[f.TABLE])
    if table[slot + 1] >= _LONG_KEY:
        c[f.ARENA_USED] = np.int64(table[slot + 1] ^ _LONG_KEY)
    table[slot + 1] = 0
    c[f.N_WORDS] -= 1


@kernel
def _rehash(address, larger_address, larger_mask):
    """Copy every entry of a context's table into an empty larger one."""
    c, larger = int64_at(address), uint64_at(larger_address)
    table = uint64_at(c[f.TABLE])
    for old in range(0, 4 * c[f.SLOT_MASK] + 4, 4):
        if table[old + 1] == 0:
            continue
        second = table[old + 1]
        slot = _home(table[old], _LONG_KEY if second >= _LONG_KEY else second, larger_mask)
        while larger[slot + 1] != 0:
            slot = (slot + 4) & (4 * larger_mask + 3)
        for i in range(4):
            larger[slot + i] = table[old + i]
    return codes.DONE


def grow_table(context: Context) -> None:
    """Replace a context's table by one with the same entries and more slots.

    A large one only doubles: its memory is new, and the first use of each page costs time.
    """
    factor = 4 if context.fields[f.SLOT_MASK] < _LARGE else 2
    larger = new_table(factor * (int(context.fields[f.SLOT_MASK]) + 1))
    _rehash(context.address, larger.address, len(larger) // 4 - 1)
    hold_table(context, larger)


@kernel
def list_words(address, text_address, bounds_address, counts_address):
    """Write the strings of the table in a row, their bounds and their first value words."""
    c = int64_at(address)
    text, bounds, counts = (
        uint8_at(text_address),
        int64_at(bounds_address),
        int64_at(counts_address),
    )
    table, arena = uint64_at(c[f.TABLE]), uint64_at(c[f.ARENA])
    word, end = 0, 0
    bounds[0] = 0
    for slot in range(0, 4 * c[f.SLOT_MASK] + 4, 4):
        second = table[slot + 1]
        if second == 0:
            continue
        place = np.int64(second ^ _LONG_KEY)
        is_long = second >= _LONG_KEY
        length = np.int64(arena[place] if is_long else second >> _LENGTH_SHIFT)
        for i in range(length):
            part = arena[place + 1 + (i >> 3)] if is_long else table[slot + (i >> 3)]
            text[end + i] = np.uint8(part >> np.uint64(8 * (i & 7)) & np.uint64(0xFF))
        end += length
        word += 1
        bounds[word] = end
        counts[word - 1] = np.int64(table[slot + VALUE])
    return codes.DONE
