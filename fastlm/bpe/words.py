# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code=assignment
"""A hash table of byte strings that compares exactly, for counts in training and ids in encoding.

A slot is four uint64: two of key, two of value. A string of up to 15 bytes is its own key: its
bytes, little-endian, with the length in the top byte. A longer one has a hash as the first key word
and, in the second, LONG in the top byte over its place in the arena, where its length and its bytes
follow one another. An empty slot has 0 as its second key word, which no string has.
"""

import numba
import numpy as np
from jaxtyping import UInt64

from fastlm.bpe.segments import ARENA_FULL, ARENA_USED, DONE, N_WORDS, TABLE_FULL

SHORT_BYTES = 15
LONG = 0xFF
SLOTS_PER_WORD = 2

_LENGTH_SHIFT = np.uint64(56)
_LONG_KEY = np.uint64(LONG << 56)
_FIRST_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SECOND_MULTIPLIER = np.uint64(0xC2B2AE3D27D4EB4F)

# Bits of the first and the second key word that a short string of each length fills.
_FIRST_MASK = np.array([(1 << 8 * min(n, 8)) - 1 for n in range(16)], np.uint64)
_SECOND_MASK = np.array([(1 << 8 * max(n - 8, 0)) - 1 for n in range(16)], np.uint64)


def new_table(n_slots: int) -> UInt64[np.ndarray, "n_slots 4"]:
    """An empty table; n_slots is a power of two."""
    return np.zeros((n_slots, 4), np.uint64)


@numba.njit(cache=True, nogil=True, forceinline=True)
def load_word(text, i):
    """Eight bytes from text[i], little-endian: LLVM makes one load of it."""
    i = np.uint64(i)
    return (
        np.uint64(text[i])
        | np.uint64(text[i + np.uint64(1)]) << np.uint64(8)
        | np.uint64(text[i + np.uint64(2)]) << np.uint64(16)
        | np.uint64(text[i + np.uint64(3)]) << np.uint64(24)
        | np.uint64(text[i + np.uint64(4)]) << np.uint64(32)
        | np.uint64(text[i + np.uint64(5)]) << np.uint64(40)
        | np.uint64(text[i + np.uint64(6)]) << np.uint64(48)
        | np.uint64(text[i + np.uint64(7)]) << np.uint64(56)
    )


@numba.njit(cache=True, nogil=True, forceinline=True)
def first_slot(table, first, second):
    """Where the search for a key begins."""
    mixed = first * _FIRST_MULTIPLIER ^ second * _SECOND_MULTIPLIER
    mixed = (mixed ^ mixed >> np.uint64(32)) * _FIRST_MULTIPLIER
    return (mixed ^ mixed >> np.uint64(29)) & np.uint64(table.shape[0] - 1)


@numba.njit(cache=True, nogil=True, forceinline=True)
def find_short(table, text, begin, length):
    """(slot, first key word, second key word) of a string of up to SHORT_BYTES.

    The slot is its own or the empty one it would take. Reads 16 bytes from begin on.
    """
    first = load_word(text, begin) & _FIRST_MASK[length]
    second = load_word(text, begin + 8) & _SECOND_MASK[length]
    second |= np.uint64(length) << _LENGTH_SHIFT
    slot = first_slot(table, first, second)
    while table[slot, 1] != 0 and (table[slot, 1] != second or table[slot, 0] != first):
        slot = (slot + np.uint64(1)) & np.uint64(table.shape[0] - 1)
    return slot, first, second


@numba.njit(cache=True, nogil=True)
def find_long(table, arena, text, begin, length):
    """(slot, hash) of a string longer than SHORT_BYTES; as find_short."""
    hashed = np.uint64(length)
    for i in range(0, length, 8):
        hashed = (hashed ^ _tail_word(text, begin, i, length)) * _FIRST_MULTIPLIER
        hashed ^= hashed >> np.uint64(32)
    slot = first_slot(table, hashed, _LONG_KEY)
    while table[slot, 1] != 0:
        second = table[slot, 1]
        if table[slot, 0] == hashed and second >= _LONG_KEY:
            place = np.int64(second ^ _LONG_KEY)
            if _equals(arena, place, text, begin, length):
                break
        slot = (slot + np.uint64(1)) & np.uint64(table.shape[0] - 1)
    return slot, hashed


@numba.njit(cache=True, nogil=True, forceinline=True)
def _tail_word(text, begin, i, length):
    """Eight bytes at begin + i, zero past the string's end."""
    word = load_word(text, begin + i)
    return word & _FIRST_MASK[min(length - i, 8)]


@numba.njit(cache=True, nogil=True, forceinline=True)
def _equals(arena, place, text, begin, length):
    if arena[place] != np.uint64(length):
        return False
    for i in range(0, length, 8):
        if arena[place + 1 + (i >> 3)] != _tail_word(text, begin, i, length):
            return False
    return True


@numba.njit(cache=True, nogil=True)
def find_or_insert(table, arena, state, text, begin, length):
    """(slot, is it new, status) of a string of any length; status is DONE or what is full.

    Not inlined: loops over words try find_short first and come here for what is new or long.
    """
    if length <= SHORT_BYTES:
        slot, first, second = find_short(table, text, begin, length)
    else:
        slot, first = find_long(table, arena, text, begin, length)
        second = _LONG_KEY
    if table[slot, 1] != 0:
        return slot, False, DONE
    if SLOTS_PER_WORD * state[N_WORDS] >= table.shape[0]:
        return slot, False, TABLE_FULL
    if length > SHORT_BYTES:
        place = state[ARENA_USED]
        n_arena_words = (length + 7) >> 3
        if place + 1 + n_arena_words > arena.size:
            return slot, False, ARENA_FULL
        arena[place] = np.uint64(length)
        for i in range(n_arena_words):
            arena[place + 1 + i] = _tail_word(text, begin, 8 * i, length)
        second |= np.uint64(place)
        state[ARENA_USED] = place + 1 + n_arena_words
    table[slot, 0] = first
    table[slot, 1] = second
    state[N_WORDS] += 1
    return slot, True, DONE


@numba.njit(cache=True, nogil=True)
def rehash(table, larger):
    """Copy every entry of a table into an empty larger one."""
    for old in range(table.shape[0]):
        if table[old, 1] == 0:
            continue
        first, second = table[old, 0], table[old, 1]
        slot = first_slot(larger, first, _LONG_KEY if second >= _LONG_KEY else second)
        while larger[slot, 1] != 0:
            slot = (slot + np.uint64(1)) & np.uint64(larger.shape[0] - 1)
        for i in range(4):
            larger[slot, i] = table[old, i]


@numba.njit(cache=True, nogil=True)
def word_length(arena, second):
    """Bytes of the string with this second key word."""
    if second >= _LONG_KEY:
        return np.int64(arena[second ^ _LONG_KEY])
    return np.int64(second >> _LENGTH_SHIFT)


@numba.njit(cache=True, nogil=True)
def copy_word(table, arena, slot, text, begin):
    """Copy the string of a slot to text[begin:]."""
    second = table[slot, 1]
    place = np.int64(second ^ _LONG_KEY)
    for i in range(word_length(arena, second)):
        word = arena[place + 1 + (i >> 3)] if second >= _LONG_KEY else table[slot, i >> 3]
        text[begin + i] = np.uint8(word >> np.uint64(8 * (i & 7)) & np.uint64(0xFF))
