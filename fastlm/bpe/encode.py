# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code=assignment
"""Text to ids: special tokens, pre-tokens, a cache of words, merging by rank on a miss."""

from collections.abc import Mapping

import numba
import numpy as np
from jaxtyping import Int64, UInt

from fastlm.bpe.errors import InvalidUtf8, UnknownByte
from fastlm.bpe.merge_word import merge_word, new_merge_table
from fastlm.bpe.pretokenize import (
    PADDING,
    WINDOW_BYTES,
    class_table,
    new_window,
    scan_window,
)
from fastlm.bpe.segments import (
    ARENA_FULL,
    ARENA_USED,
    DOCUMENT,
    DONE,
    INVALID_TEXT,
    N_WORDS,
    OUT_FULL,
    POSITION,
    SEGMENT_END,
    TABLE_FULL,
    UNKNOWN_BYTE,
    new_state,
    next_segment,
    pack_special_tokens,
    start_walk,
)
from fastlm.bpe.words import SHORT_BYTES, find_or_insert, find_short, new_table, rehash

NO_TOKEN = -1

# Columns of the word table: up to two ids, or where in the arena more of them stand; how many.
_IDS, _N_IDS = 2, 3

_CACHED_BYTES = 256  # longer words are rare and seldom come again
_FIRST_SLOTS, _MAX_SLOTS = 1 << 12, 1 << 19  # 32 bytes each
_FIRST_ARENA, _MAX_ARENA = 1 << 12, 1 << 21  # 8 bytes each
_MAX_OUT = 1 << 20


class WordCache:
    """Ids of words met before, and the buffers of one thread."""

    def __init__(self) -> None:
        self.table = new_table(_FIRST_SLOTS)
        self.arena = np.empty(_FIRST_ARENA, np.uint64)
        self.state = new_state()
        self.out = np.empty(0, np.uint32)
        self.whole = np.zeros(2, np.int64)  # bounds of a text that is one document

    def make_room(self, status: int) -> None:
        """Grow what is full; what has reached its limit is emptied, to hold later words."""
        if status == OUT_FULL:
            self.out = np.empty(2 * len(self.out), np.uint32)
        elif status == TABLE_FULL and len(self.table) < _MAX_SLOTS:
            larger = new_table(4 * len(self.table))
            rehash(self.table, larger)
            self.table = larger
        elif status == ARENA_FULL and len(self.arena) < _MAX_ARENA:
            self.arena = np.append(self.arena, np.empty_like(self.arena))
        else:
            self.table[:] = 0
            self.state[N_WORDS] = self.state[ARENA_USED] = 0


class Encoder:
    """A tokenizer's merges, ready for encoding; safe to use from several threads.

    Args:
        byte_ids: token id of each single byte, or NO_TOKEN.
        merges: rows (left id, right id, merged id), in the order learned.
        special_tokens: id of each.
        dtype: of the ids that encode returns.
    """

    def __init__(
        self,
        byte_ids: Int64[np.ndarray, "256"],
        merges: Int64[np.ndarray, "n_merges 3"],
        special_tokens: Mapping[bytes, int],
        dtype: np.dtype,
    ) -> None:
        longest_first = sorted(special_tokens, key=len, reverse=True)
        self._specials = pack_special_tokens(longest_first)
        self._special_ids = np.array([special_tokens[t] for t in longest_first], np.int64)
        self._byte_ids = byte_ids
        self._merges = new_merge_table(merges)
        self._dtype = dtype
        self._idle_caches: list[WordCache] = []

    def encode(
        self,
        data: bytes,
        bounds: Int64[np.ndarray, " n_documents_plus_1"] | None = None,
        end_of_text: int = NO_TOKEN,
    ) -> UInt[np.ndarray, " n_tokens"]:
        """Token ids of UTF-8 text; document i is data[bounds[i] : bounds[i + 1]].

        Args:
            end_of_text: id put after each document, or NO_TOKEN.
        Raises:
            InvalidUtf8, UnknownByte: naming the byte's position in data.
        """
        text = np.frombuffer(data, np.uint8)
        # Taking from and giving back to a list is atomic; a thread keeps its cache meanwhile.
        try:
            cache = self._idle_caches.pop()
        except IndexError:
            cache = WordCache()
        if bounds is None:
            bounds = cache.whole
            bounds[1] = len(data)
        n_needed = min(len(data), _MAX_OUT) + WINDOW_BYTES
        if len(cache.out) < n_needed:
            cache.out = np.empty(n_needed, np.uint32)
        state = cache.state
        start_walk(state)
        pieces = []
        while True:
            status, n_out = _encode(
                text,
                bounds,
                end_of_text,
                self._specials,
                self._special_ids,
                class_table(),
                self._byte_ids,
                self._merges,
                cache.table,
                cache.arena,
                state,
                cache.out,
            )
            if n_out:
                pieces.append(cache.out[:n_out].astype(self._dtype))
            if status in (DONE, INVALID_TEXT, UNKNOWN_BYTE):
                break
            if status != OUT_FULL or n_out == 0:
                cache.make_room(status)
        position = int(state[POSITION])
        self._idle_caches.append(cache)
        if status == INVALID_TEXT:
            raise InvalidUtf8(position)
        if status == UNKNOWN_BYTE:
            raise UnknownByte(data[position], position)
        if len(pieces) == 1:
            return pieces[0]
        return np.concatenate(pieces) if pieces else np.empty(0, self._dtype)


@numba.njit(cache=True, nogil=True)
def _encode(
    data,
    bounds,
    end_of_text,
    specials,
    special_ids,
    class_of,
    byte_ids,
    merges,
    table,
    arena,
    state,
    out,
):
    window = new_window(np.int64(WINDOW_BYTES))
    # Ids and merges of the word at hand; merge_word needs one entry for each byte.
    ids = np.empty(_CACHED_BYTES, np.uint64)
    ranks = np.empty(_CACHED_BYTES, np.uint64)
    n_out = 0
    while True:
        if out.size < n_out + 2:
            return OUT_FULL, n_out
        if state[POSITION] == state[SEGMENT_END]:
            if state[DOCUMENT] + 1 == bounds.size:
                return DONE, n_out
            special, ended = next_segment(data, bounds, specials, state)
            if special >= 0:
                out[n_out] = special_ids[special]
                n_out += 1
            if ended and state[DOCUMENT] > 0 and end_of_text >= 0:
                out[n_out] = end_of_text
                n_out += 1
            continue
        position = state[POSITION]
        n_tokens, invalid = scan_window(data, position, state[SEGMENT_END], class_of, window)
        if invalid >= 0:
            state[POSITION] = invalid
            return INVALID_TEXT, n_out
        if n_tokens == 0:
            window = new_window(2 * (window[0].size - PADDING))
            continue
        text, starts = window[0], window[3]
        n_bytes = starts[n_tokens]
        if out.size < n_out + n_bytes + 2:
            return OUT_FULL, n_out
        for token in range(n_tokens):
            begin = np.int64(starts[token])
            length = np.int64(starts[token + 1]) - begin
            if length <= SHORT_BYTES:
                slot, _, second = find_short(table, text, begin, length)
                n_ids = table[slot, _N_IDS]
                if table[slot, 1] == second and n_ids <= 2:
                    pair = table[slot, _IDS]
                    out[n_out] = np.uint32(pair)
                    out[n_out + 1] = np.uint32(pair >> np.uint64(32))
                    n_out += np.int64(n_ids)
                    continue
            elif length > ids.size:
                ids = np.empty(2 * length, np.uint64)
                ranks = np.empty(2 * length, np.uint64)
            n_ids, status = _encode_word(
                text, begin, length, byte_ids, merges, table, arena, state, ids, ranks
            )
            if status != DONE:
                state[POSITION] = position + begin
                if status == UNKNOWN_BYTE:
                    state[POSITION] += n_ids
                return status, n_out
            for i in range(n_ids):
                out[n_out + i] = ids[i]
            n_out += n_ids
        state[POSITION] = position + n_bytes
        if text.size > WINDOW_BYTES + PADDING:
            window = new_window(np.int64(WINDOW_BYTES))


@numba.njit(cache=True, nogil=True)
def _encode_word(text, begin, length, byte_ids, merges, table, arena, state, ids, ranks):
    """Write a word's ids; returns (how many, DONE), or what is full, or a byte and UNKNOWN_BYTE."""
    if length > _CACHED_BYTES:
        return merge_word(text, begin, length, byte_ids, merges, ids, ranks)
    if state[ARENA_USED] + length + (length >> 3) + 2 > arena.size:
        return 0, ARENA_FULL
    slot, is_new, status = find_or_insert(table, arena, state, text, begin, length)
    if status != DONE:
        return 0, status
    place = np.int64(table[slot, _IDS])
    if not is_new:
        n_ids = np.int64(table[slot, _N_IDS])
        if n_ids <= 2:
            ids[0] = place & 0xFFFFFFFF
            ids[1] = place >> 32
        else:
            for i in range(n_ids):
                ids[i] = arena[place + i]
        return n_ids, DONE
    n_ids, status = merge_word(text, begin, length, byte_ids, merges, ids, ranks)
    if status != DONE:
        # 0 ids would be believed later: take the word out again. It was the last one put in.
        table[slot, 1] = 0
        state[N_WORDS] -= 1
        return n_ids, status
    if n_ids <= 2:
        second = ids[1] if n_ids == 2 else np.uint64(0)
        table[slot, _IDS] = ids[0] | second << np.uint64(32)
    else:
        place = state[ARENA_USED]
        for i in range(n_ids):
            arena[place + i] = ids[i]
        table[slot, _IDS] = np.uint64(place)
        state[ARENA_USED] = place + n_ids
    table[slot, _N_IDS] = np.uint64(n_ids)
    return n_ids, DONE
