# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code=assignment
"""Encode text to ids: special tokens, pre-tokens, a cache of words, merges by rank on a miss.

A text repeats its words, so nearly every word is found in a hash table with its ids beside it, and
one store of eight bytes writes them to the output: up to four ids of uint16, up to two of uint32.
"""

from __future__ import annotations

import ctypes
import functools
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from fastlm.tokenizer.bpe import fields as f
from fastlm.tokenizer.bpe import status_codes as codes
from fastlm.tokenizer.bpe.buffers import Buffer, as_numbers
from fastlm.tokenizer.bpe.characters import Utf8Pieces
from fastlm.tokenizer.bpe.compiler import inner, kernel, prefetch_soon
from fastlm.tokenizer.bpe.compiler import numpy as np
from fastlm.tokenizer.bpe.context import (
    Context,
    i32,
    i64,
    int32_at,
    int64_at,
    pi64,
    pu8,
    store_word,
    u64,
    uint8_at,
    uint64_at,
)
from fastlm.tokenizer.bpe.errors import InvalidUtf8, UnknownByte, plain_str
from fastlm.tokenizer.bpe.lists import ListMaker
from fastlm.tokenizer.bpe.merge_word import SCRATCH_PER_BYTE, add_merges, add_rank_lists, merge_word
from fastlm.tokenizer.bpe.objects import ASCII_HEADER, BYTES_HEADER, address_of
from fastlm.tokenizer.bpe.patterns import Pattern
from fastlm.tokenizer.bpe.pretokenize import WINDOW_BYTES
from fastlm.tokenizer.bpe.segments import add_special_tokens, start_walk
from fastlm.tokenizer.bpe.small import NO_TOKEN
from fastlm.tokenizer.bpe.walk import add_walk, next_window
from fastlm.tokenizer.bpe.whole_words import add_whole_words, rank_by_id
from fastlm.tokenizer.bpe.word_rules import PLAIN_WORDS, WordRules
from fastlm.tokenizer.bpe.words import (
    AHEAD,
    VALUE,
    find_token,
    find_word,
    grow_table,
    hold_arena,
    hold_table,
    new_table,
    take_back,
)

if TYPE_CHECKING:
    from jaxtyping import Int64, UInt

_CACHED_BYTES = 1 << 21  # of the longest word whose ids are kept: a part of the largest arena
_FIRST_SLOTS, _MAX_SLOTS = 1 << 12, 1 << 20  # a slot is 32 bytes
_FIRST_ARENA, _MAX_ARENA = 1 << 12, 1 << 22  # words of 8 bytes
_FIRST_SCRATCH = SCRATCH_PER_BYTE * 256
_SLACK = 8  # ids that may be written past the last one
_OWN_OUT = WINDOW_BYTES + 1024  # size in ids of a worker's own output
_FEW_IDS = 32  # of which a list is made sooner by Python than by a kernel
_SMALL_CHARACTERS = 2048  # the ids of so many characters always fit _OWN_OUT
_PIECE_CHARACTERS = 1 << 16  # of a long text that is not ASCII
_BYTES_PER_ID = 2  # seldom fewer; memory that is allocated and not used is free

_ALL_BITS = np.uint64(0xFFFFFFFFFFFFFFFF)
_NOT_CACHED = -100  # in place of a slot; no status code

Piece = tuple[int, int, object]
"""Address and number of bytes of UTF-8, and what keeps them there"""

_FRESH, _APPEND, _RESUME = range(3)


class Encoder:
    """Encoder with a tokenizer's merges; safe to use from several threads.

    Args:
        byte_ids: token id of each single byte, or NO_TOKEN.
        merges: rows (left id, right id, merged id), in the order learned, as an array of NumPy, or
            one after another as an array("i") of Python.
        special_tokens: id of each special token.
        dtype: "uint16" or "uint32": that of the ids that encode returns.
        words: how texts are cut into words, by a pattern with kernels, and words into ids.
    """

    def __init__(
        self,
        byte_ids: Sequence[int],
        merges: Any,
        special_tokens: Mapping[bytes, int],
        dtype: str,
        words: WordRules = PLAIN_WORDS,
    ) -> None:
        self._pattern = words.pattern
        self._may_cut = not any(b" " in token for token in special_tokens)
        longest_first = sorted(special_tokens, key=len, reverse=True)
        special_ids = [special_tokens[token] for token in longest_first]
        self._dtype = str(dtype)
        self._tables = Context(f.N_FIELDS)
        self._tables.fields[f.ID_SHIFT] = {"uint16": 1, "uint32": 2}[self._dtype]
        self._tables.hold(f.SPECIAL_IDS, array("q", special_ids))
        add_special_tokens(self._tables, longest_first)
        add_merges(self._tables, as_numbers(byte_ids, "i"), as_numbers(merges, "i"))
        if words.merges_by_rank:
            rank_by_id(self._tables)
        if words.whole:
            add_whole_words(self._tables, words.whole)
        greatest = int(self._tables.fields[f.VOCAB_SIZE]) - 1
        self._vocab_size = 1 + max(greatest, *special_ids, *words.whole.values(), 0)
        self._idle: list[_Worker] = []

    def encode(
        self,
        data: bytes,
        bounds: Int64[np.ndarray, " n_documents_plus_1"] | None = None,
        end_of_text: int = NO_TOKEN,
    ) -> UInt[np.ndarray, " n_tokens"]:
        """Encode UTF-8 text; document i is data[bounds[i] : bounds[i + 1]].

        Args:
            end_of_text: id to append after each document, or NO_TOKEN.
        Raises:
            InvalidUtf8, UnknownByte: with the position of the byte in data.
        """
        worker = self._take_worker()
        piece = (address_of(data), len(data), data)
        ids = worker.encode([piece], len(data), bounds, end_of_text)
        self._idle.append(worker)
        return ids

    def encode_texts(
        self, texts: Sequence[str]
    ) -> tuple[UInt[np.ndarray, " n_tokens"], Int64[np.ndarray, " n_texts_plus_1"]]:
        """Encode at least one string, of no subclass of str.

        Returns:
            (ids, offsets): the ids of text i are ids[offsets[i] : offsets[i + 1]].
        Raises:
            UnknownByte, UnicodeEncodeError: if one cannot be encoded.
        """
        data: str | bytes = "".join(texts)
        lengths = map(len, texts)
        if not data.isascii():
            encoded = [text.encode() for text in texts]
            data, lengths = b"".join(encoded), map(len, encoded)
        bounds = np.fromiter(accumulate(lengths, initial=0), np.int64, len(texts) + 1)
        offsets = np.zeros(len(bounds), np.int64)
        worker = self._take_worker()
        piece = (address_of(data), len(data), data)
        ids = worker.encode([piece], len(data), bounds, id_bounds=offsets)
        self._idle.append(worker)
        return ids, offsets

    def encode_texts_to_lists(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode strings to a list of Python integers each; raises what encode_texts raises."""
        return self._lists.to_lists(*self.encode_texts(texts))

    def count(self, text: str) -> int:
        """Return the number of ids of a string; raises what encode_text raises."""
        if type(text) is not str:
            text = plain_str(text)
        worker = self._take_worker()
        is_small = len(text) <= _SMALL_CHARACTERS
        n_ids = worker.encode_small(text) if is_small else worker.count(text)
        self._idle.append(worker)
        return n_ids

    def encode_text(self, text: str) -> UInt[np.ndarray, " n_tokens"]:
        """Encode a string.

        Raises:
            UnicodeEncodeError: if it holds lone surrogates.
        """
        if type(text) is not str:
            text = plain_str(text)
        worker = self._take_worker()
        if len(text) <= _SMALL_CHARACTERS:
            ids = worker.own_array[: worker.encode_small(text)].copy()
        else:
            ids = worker.encode(worker.pieces(text), len(text))
        self._idle.append(worker)
        return ids

    def encode_to_list(self, text: str) -> list[int]:
        """Encode a string to Python integers."""
        if type(text) is not str:
            text = plain_str(text)
        try:  # _take_worker, without the cost of calling it
            worker = self._idle.pop()
        except IndexError:
            worker = _Worker(self._tables, self._dtype, self._pattern, self._may_cut)
        if len(text) <= _SMALL_CHARACTERS:
            n_ids = worker.encode_small(text)
            few = worker.own_ids[:n_ids]
            ids: list[int] = few.tolist() if n_ids < _FEW_IDS else self._lists.to_list(few)
        else:
            ids = self._lists.to_list(worker.encode_to_buffer(text))
        self._idle.append(worker)
        return ids

    @functools.cached_property
    def _lists(self) -> ListMaker:
        return ListMaker(self._vocab_size)

    def _take_worker(self) -> "_Worker":
        """Take a worker, which is given back once a text is encoded.

        After an error it is not: it may be Ctrl-C, or a lack of memory, at a moment when a buffer
        is replaced and its size is still that of another.
        """
        # list.pop and list.append are atomic, so no two threads get the same worker.
        try:
            return self._idle.pop()
        except IndexError:
            return _Worker(self._tables, self._dtype, self._pattern, self._may_cut)


class _Worker:
    """The state of one thread: a cache of the ids of words, and buffers."""

    def __init__(self, tables: Context, dtype: str, pattern: Pattern, may_cut: bool) -> None:
        self._dtype = dtype
        self._context = tables.copy()
        self._address = self._context.address
        self._encode = _encode.compiled
        self._arena = Buffer(_FIRST_ARENA, u64)
        self._own_out = Buffer(_OWN_OUT, dtype)
        self.own_ids = self._own_out.items
        self._own_bounds = Buffer(2, i64)
        self.pieces = Utf8Pieces(may_cut, _PIECE_CHARACTERS).pieces
        add_walk(self._context, pattern)
        add_rank_lists(self._context)
        hold_table(self._context, new_table(_FIRST_SLOTS))
        hold_arena(self._context, self._arena)
        self._hold_scratch(_FIRST_SCRATCH)
        self._reset()

    @functools.cached_property
    def own_array(self) -> UInt[np.ndarray, " n_ids"]:
        """The memory of own_ids."""
        return np.asarray(self.own_ids)

    def encode_small(self, text: str) -> int:
        """Write the ids of at most _SMALL_CHARACTERS to own_out and return their number.

        The function does as little as possible: calls cost more here than the encoding.
        """
        if text.isascii():
            n_bytes, address = len(text), id(text) + ASCII_HEADER
        else:
            data = text.encode()
            n_bytes, address = len(data), id(data) + BYTES_HEADER
        n_out: int = self._encode(self._address, address, n_bytes, _FRESH)
        while n_out < 0:
            self._make_room(n_out, address, 0)
            n_out = self._encode(self._address, address, n_bytes, _RESUME)
        return n_out

    def encode(
        self,
        pieces: Iterable[Piece],
        n_bytes: int,
        bounds: Int64[np.ndarray, " n_documents_plus_1"] | None = None,
        end_of_text: int = NO_TOKEN,
        id_bounds: Int64[np.ndarray, " n_documents_plus_1"] | None = None,
    ) -> UInt[np.ndarray, " n_tokens"]:
        """Encode consecutive pieces of a UTF-8 text, cut where a text may be cut.

        Args:
            n_bytes: approximate size of the text.
            bounds: of the documents of a text of one piece.
            id_bounds: filled with the number of ids before each document of bounds, and of all.
        """
        fields = self._context.fields
        if bounds is not None:
            # A copy, because start_walk writes to the bounds of a single document.
            self._context.hold(f.BOUNDS, np.array(bounds, np.int64))
            fields[f.N_DOCUMENTS] = len(bounds) - 1
        fields[f.END_OF_TEXT] = end_of_text
        if id_bounds is not None:
            self._context.hold(f.ID_BOUNDS, id_bounds)
        # numpy.empty asks the operating system for huge pages; resize does not.
        out = np.empty(_OWN_OUT + n_bytes // _BYTES_PER_ID, self._dtype)

        def enlarge() -> None:
            out.resize(len(out) + len(out) // 2, refcheck=False)
            self._hold_out(out)

        self._hold_out(out)
        n_out = self._encode_to_out(pieces, enlarge)
        # Resizing in place frees the pages past the last id and copies nothing.
        out.resize(n_out, refcheck=False)
        return out

    def encode_to_buffer(self, text: str) -> memoryview[int]:
        """Encode a text; NumPy is not needed."""
        held = [Buffer(_OWN_OUT + len(text) // _BYTES_PER_ID, self._dtype)]

        def enlarge() -> None:
            held[0] = held[0].grown(len(held[0]) + len(held[0]) // 2)
            self._hold_out(held[0])

        self._hold_out(held[0])
        n_out = self._encode_to_out(self.pieces(text), enlarge)
        ids: memoryview[int] = held[0].items[:n_out]
        return ids

    def _encode_to_out(self, pieces: Iterable[Piece], enlarge: Callable[[], None]) -> int:
        mode, n_out, n_before = _FRESH, 0, 0
        for address, n_bytes, _ in pieces:
            n_out = self._encode(self._address, address, n_bytes, mode)
            while n_out < 0:
                if n_out == codes.OUT_FULL:
                    enlarge()
                else:
                    self._make_room(n_out, address, n_before)
                n_out = self._encode(self._address, address, n_bytes, _RESUME)
            mode = _APPEND
            n_before += n_bytes
        self._reset()
        return n_out

    def count(self, text: str) -> int:
        """Count the ids of a text: they overwrite each other."""
        fields = self._context.fields
        # When it is full, the last window is scanned again, which must be seldom.
        n_kept = min(_OWN_OUT + len(text) // _BYTES_PER_ID, 16 * _OWN_OUT)
        self._hold_out(Buffer(n_kept, self._dtype))
        n_counted = 0

        def enlarge() -> None:
            nonlocal n_counted
            if fields[f.N_OUT] > 0:
                n_counted += fields[f.N_OUT]
                fields[f.N_OUT] = 0
            else:  # one token, too long for it
                self._hold_out(Buffer(2 * fields[f.OUT_SIZE], self._dtype))

        return self._encode_to_out(self.pieces(text), enlarge) + n_counted

    def _reset(self) -> None:
        fields = self._context.fields
        self._hold_out(self._own_out)
        self._context.hold(f.BOUNDS, self._own_bounds)
        fields[f.N_DOCUMENTS] = 1
        fields[f.END_OF_TEXT] = NO_TOKEN
        fields[f.ID_BOUNDS] = 0

    def _hold_out(self, out: Any) -> None:
        self._context.hold(f.OUT, out)
        self._context.fields[f.OUT_SIZE] = len(out)

    def _make_room(self, status: int, address: int, n_before: int) -> None:
        """Grow what is full; a table or arena at its limit is emptied, to cache later words."""
        fields = self._context.fields
        position = int(fields[f.POSITION])
        if status == codes.INVALID_TEXT:
            raise InvalidUtf8(n_before + position)
        if status == codes.UNKNOWN_BYTE:
            byte = ctypes.string_at(address + position, 1)[0]
            raise UnknownByte(byte, n_before + position)
        if status == codes.SCRATCH_FULL:
            self._hold_scratch(int(fields[f.SCRATCH_WANTED]))
        elif status == codes.TABLE_FULL and fields[f.MAX_WORDS] < _MAX_SLOTS // 2:
            grow_table(self._context)
        elif status == codes.ARENA_FULL and fields[f.ARENA_WANTED] <= _MAX_ARENA:
            size = max(2 * len(self._arena), fields[f.ARENA_WANTED])
            self._arena = self._arena.grown(min(size, _MAX_ARENA))
            hold_arena(self._context, self._arena)
        else:
            hold_table(self._context, new_table(int(fields[f.SLOT_MASK]) + 1))
            fields[f.N_WORDS] = fields[f.ARENA_USED] = 0

    def _hold_scratch(self, n_numbers: int) -> None:
        self._context.hold(f.SCRATCH, Buffer(n_numbers, i32))
        self._context.fields[f.SCRATCH_SIZE] = n_numbers


@kernel
def _encode(address, data, n_bytes, mode):
    """Write ids to OUT, or append them; returns their number, or a status code."""
    c = int64_at(address)
    if mode == _FRESH:
        c[f.N_OUT] = 0
    if mode != _RESUME:
        start_walk(c, n_bytes)
    elif c[f.TOKEN_END] > c[f.POSITION]:  # a long token that there was no room for is known
        status = _encode_long_token(c, data)
        if status != codes.DONE:
            return status
    while True:
        if c[f.OUT_SIZE] < c[f.N_OUT] + _SLACK:
            return codes.OUT_FULL
        n_tokens = next_window(c, data)
        if n_tokens > 0:
            status = _encode_window(c, n_tokens)
        elif n_tokens == codes.AT_LONG_TOKEN:
            status = _encode_long_token(c, data)
        elif n_tokens == codes.AT_BORDER:
            if c[f.PASSED] >= 0:
                _append(c, int64_at(c[f.SPECIAL_IDS])[c[f.PASSED]])
            if c[f.HAS_ENDED] and c[f.DOCUMENT] > 0 and c[f.END_OF_TEXT] >= 0:
                _append(c, c[f.END_OF_TEXT])
            if c[f.HAS_ENDED] and c[f.ID_BOUNDS] != 0:
                int64_at(c[f.ID_BOUNDS])[c[f.DOCUMENT]] = c[f.N_OUT]
            continue
        else:
            return c[f.N_OUT] if n_tokens == codes.AT_END else n_tokens
        if status != codes.DONE:
            return status


@inner
def _append(c: pi64, token_id: i64) -> None:
    store_word(uint8_at(c[f.OUT]), c[f.N_OUT] << c[f.ID_SHIFT], np.uint64(token_id))
    c[f.N_OUT] += 1


@inner
def _encode_window(c: pi64, n_tokens: i64) -> i64:
    """Append the ids of the tokens of a window and move POSITION past them."""
    starts = int32_at(c[f.STARTS])
    firsts, seconds, slots = uint64_at(c[f.FIRSTS]), uint64_at(c[f.SECONDS]), int64_at(c[f.SLOTS])
    table, out, shift = uint64_at(c[f.TABLE]), uint8_at(c[f.OUT]), c[f.ID_SHIFT]
    n_inline = np.uint64(8 >> shift)
    n_out = c[f.N_OUT]
    if c[f.OUT_SIZE] < n_out + starts[n_tokens] + _SLACK:
        return codes.OUT_FULL
    for token in range(n_tokens):
        prefetch_soon(table, slots[token + AHEAD])
        slot = slots[token]
        second = seconds[token]
        is_first = table[slot + 1] == second and table[slot] == firsts[token]
        slot += 0 if is_first else 4
        if table[slot + 1] == second and table[slot] == firsts[token]:
            n_ids = table[slot + VALUE + 1]
            store_word(out, n_out << shift, table[slot + VALUE])
            if n_ids > n_inline:
                _copy_ids(c, slot, out, n_out)
            n_out += np.int64(n_ids)
            continue
        begin = np.int64(starts[token])
        length = np.int64(starts[token + 1]) - begin
        slot = find_token(c, token) if length <= _CACHED_BYTES else _NOT_CACHED
        n_long, status = _encode_word(c, c[f.TEXT], begin, length, n_out, slot)
        if status != codes.DONE:
            c[f.POSITION] += begin + (n_long if status == codes.UNKNOWN_BYTE else 0)
            c[f.N_OUT] = n_out
            return status
        n_out += n_long
    c[f.POSITION] += starts[n_tokens]
    c[f.N_OUT] = n_out
    return codes.DONE


@inner
def _encode_long_token(c: pi64, data: i64) -> i64:
    begin, length = c[f.POSITION], c[f.TOKEN_END] - c[f.POSITION]
    if c[f.OUT_SIZE] < c[f.N_OUT] + length + _SLACK:
        return codes.OUT_FULL
    slot = find_word(c, data, begin, length) if length <= _CACHED_BYTES else _NOT_CACHED
    n_ids, status = _encode_word(c, data, begin, length, c[f.N_OUT], slot)
    if status != codes.DONE:
        c[f.POSITION] += n_ids if status == codes.UNKNOWN_BYTE else 0
        return status
    c[f.N_OUT] += n_ids
    c[f.POSITION] = c[f.TOKEN_END]
    return codes.DONE


@inner
def _encode_word(
    c: pi64, text_address: i64, begin: i64, length: i64, n_out: i64, slot: i64
) -> tuple[i64, i64]:
    """Write the ids of a word to OUT from n_out on.

    Args:
        slot: its slot in the table, _NOT_CACHED, or the status code of what is full.
    Returns:
        (number of ids, DONE), or an error of merge_word, or (0, the status code of what is full).
    """
    out, shift = uint8_at(c[f.OUT]), c[f.ID_SHIFT]
    if slot == _NOT_CACHED:
        n_ids, status = merge_word(c, uint8_at(text_address), begin, length)
        if status == codes.DONE:
            _pack_ids(c, n_ids, out, n_out << shift)
        return n_ids, status
    if slot < 0:
        return 0, slot
    table = uint64_at(c[f.TABLE])
    n_inline = 8 >> shift
    if c[f.IS_NEW]:
        n_ids, status = np.int64(0), np.int64(codes.ARENA_FULL)
        c[f.ARENA_WANTED] = c[f.ARENA_USED] + length // n_inline + 2  # for as many ids as bytes
        if c[f.ARENA_WANTED] <= c[f.ARENA_SIZE]:
            n_ids, status = merge_word(c, uint8_at(text_address), begin, length)
        if status != codes.DONE:
            # A later look-up would take its 0 ids for the result, so the word is removed again.
            take_back(c, slot)
            return n_ids, status
        table[slot + VALUE + 1] = np.uint64(n_ids)
        if n_ids <= n_inline:
            _pack_ids(c, n_ids, uint8_at(c[f.TABLE]), (slot + VALUE) * 8)
        else:
            table[slot + VALUE] = np.uint64(c[f.ARENA_USED])
            _pack_ids(c, n_ids, uint8_at(c[f.ARENA]), c[f.ARENA_USED] * 8)
            c[f.ARENA_USED] += (n_ids + n_inline - 1) // n_inline
    n_ids = np.int64(table[slot + VALUE + 1])
    store_word(out, n_out << shift, table[slot + VALUE])
    if n_ids > n_inline:
        _copy_ids(c, slot, out, n_out)
    return n_ids, codes.DONE


@inner
def _copy_ids(c: pi64, slot: i64, out: pu8, n_out: i64) -> None:
    """Write the ids of a word that has too many for its slot."""
    table, arena, shift = uint64_at(c[f.TABLE]), uint64_at(c[f.ARENA]), c[f.ID_SHIFT]
    n_inline = 8 >> shift
    place = np.int64(table[slot + VALUE])
    for i in range(0, np.int64(table[slot + VALUE + 1]), n_inline):
        store_word(out, (n_out + i) << shift, arena[place])
        place += 1


@inner
def _pack_ids(c: pi64, n_ids: i64, target: pu8, begin: i64) -> None:
    """Copy ids from SCRATCH in the output's dtype, padded with zeros to a multiple of 8 bytes."""
    ids, shift = int32_at(c[f.SCRATCH]), c[f.ID_SHIFT]
    n_inline = 8 >> shift
    if n_ids <= n_inline:  # nearly always, and so without a loop
        word = np.uint64(ids[0]) | np.uint64(ids[1]) << np.uint64(8 << shift)
        if shift == 1:
            word |= np.uint64(ids[2]) << np.uint64(32) | np.uint64(ids[3]) << np.uint64(48)
        word &= _ALL_BITS >> np.uint64(64 - (n_ids << (shift + 3)))
        store_word(target, begin, word)
        return
    for i in range(0, n_ids, n_inline):
        word = np.uint64(0)
        for k in range(min(n_inline, n_ids - i)):
            word |= np.uint64(ids[i + k]) << np.uint64(k << (shift + 3))
        store_word(target, begin + (i << shift), word)
