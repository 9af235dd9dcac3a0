# mypy: allow-untyped-defs, allow-untyped-calls
"""The UTF-8 of a str, from the memory of its characters.

str.encode() goes through the characters one by one. Most of a text is ASCII in most languages that
are written in Latin letters, and here 64 bytes of it are narrowed at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastlm.tokenizer.bpe.buffers import Buffer
from fastlm.tokenizer.bpe.compiler import inner, instruction, ir, kernel, types
from fastlm.tokenizer.bpe.compiler import numpy as np
from fastlm.tokenizer.bpe.context import i64, int32_at, pu8, u8, uint8_at, uint16_at
from fastlm.tokenizer.bpe.objects import address_of, wide_characters

_MAX_KEPT = 1 << 20  # bytes of a buffer that is used again
_LOOKED_AT = 4096  # bytes at the end of a piece in which a place to cut is looked for
_BLANK = ord(" ")
_SLACK = 64  # bytes that may be written past the last one


def _narrow(width: int) -> Any:
    """Make an instruction (source, target) that copies 64 bytes of characters as bytes.

    It returns the number of characters before the first that is not ASCII.
    """

    @instruction
    def copy(_typing_context, source, target):
        n = 64 // width
        characters = ir.VectorType(ir.IntType(8 * width), n)
        narrow = ir.VectorType(ir.IntType(8), n)
        bits, word = ir.IntType(n), ir.IntType(64)

        def generate(_context, builder, _signature, arguments):
            place = builder.inttoptr(arguments[0], characters.as_pointer())
            block = builder.load(place, align=1)
            wide = builder.icmp_unsigned(">", block, ir.Constant(characters, [0x7F] * n))
            if width > 1:
                block = builder.trunc(block, narrow)
            builder.store(block, builder.inttoptr(arguments[1], narrow.as_pointer()), align=1)
            found = builder.bitcast(wide, bits)
            if n < 64:
                found = builder.zext(found, word)
                found = builder.or_(found, ir.Constant(word, 1 << n))
            return builder.cttz(found, ir.Constant(ir.IntType(1), 0))

        return types.int64(types.int64, types.int64), generate

    return copy


_narrow_1, _narrow_2, _narrow_4 = _narrow(1), _narrow(2), _narrow(4)


@inner
def _put(target: pu8, n: i64, character: i64) -> i64:
    """Append the UTF-8 of a character; returns the new size, or -1 for a surrogate."""
    if character < 0x80:
        target[n] = np.uint8(character)
        return n + 1
    last = np.uint8(0x80 | character & 0x3F)
    if character < 0x800:
        target[n] = np.uint8(0xC0 | character >> 6)
        target[n + 1] = last
        return n + 2
    third = np.uint8(0x80 | character >> 6 & 0x3F)
    if character < 0x10000:
        if character & 0xF800 == 0xD800:
            return -1
        target[n] = np.uint8(0xE0 | character >> 12)
        target[n + 1] = third
        target[n + 2] = last
        return n + 3
    target[n] = np.uint8(0xF0 | character >> 18)
    target[n + 1] = np.uint8(0x80 | character >> 12 & 0x3F)
    target[n + 2] = third
    target[n + 3] = last
    return n + 4


@inner
def _character(source: i64, width: i64, i: i64) -> i64:
    if width == 1:
        return np.int64(uint8_at(source)[i])
    if width == 2:
        return np.int64(uint16_at(source)[i])
    return np.int64(int32_at(source)[i])


@kernel
def _to_utf8(source, width, n_characters, target_address):
    """Write the UTF-8 of characters; returns its size, or -1 if one is a surrogate."""
    target = uint8_at(target_address)
    n = np.int64(0)
    i = np.int64(0)
    at_once = 64 // width
    while i < n_characters:
        if i + at_once <= n_characters:
            place, to = source + i * width, target_address + n
            if width == 1:
                n_ascii = _narrow_1(place, to)
            elif width == 2:
                n_ascii = _narrow_2(place, to)
            else:
                n_ascii = _narrow_4(place, to)
            i += n_ascii
            n += n_ascii
            if n_ascii == at_once:
                continue
        character = np.int64(128)
        while character >= 0x80 and i < n_characters:
            character = _character(source, width, i)
            n = _put(target, n, character)
            if n < 0:
                return -1
            i += 1
    return n


@kernel
def _last_cut(utf8_address, n_bytes):
    """Bytes before the last blank between two ASCII letters, or 0; looks at the last few only."""
    utf8 = uint8_at(utf8_address)
    for place in range(n_bytes - 2, max(n_bytes - _LOOKED_AT, 0), -1):
        if (
            utf8[place] == _BLANK
            and np.uint8((utf8[place - 1] | np.uint8(32)) - np.uint8(97)) < np.uint8(26)
            and np.uint8((utf8[place + 1] | np.uint8(32)) - np.uint8(97)) < np.uint8(26)
        ):
            return place
    return 0


@kernel
def _count_characters(utf8_address, begin, end):
    utf8 = uint8_at(utf8_address)
    n = np.int64(0)
    for place in range(begin, end):
        n += utf8[place] & 0xC0 != 0x80
    return n


class Utf8Pieces:
    """The UTF-8 of long texts, piece by piece: a piece stays in the caches until it is encoded.

    Every known pattern has a token begin at a blank between two ASCII letters, so that a text may
    be cut there, if no special token holds a blank.

    Args:
        may_cut: whether texts may be cut there.
        n_characters: of a piece.
    """

    def __init__(self, may_cut: bool, n_characters: int) -> None:
        self._may_cut = may_cut
        self._n_characters = n_characters
        self._kept = Buffer(0, u8)

    def pieces(self, text: str) -> Iterator[tuple[int, int, object]]:
        """Return (address, number of bytes, what keeps them there) of each piece of a text.

        A piece is there until the next is asked for.

        Raises:
            UnicodeEncodeError: if it holds lone surrogates.
        """
        if text.isascii():
            yield address_of(text), len(text), text
            return
        place = wide_characters(text)
        if place is None:
            data = text.encode()
            yield address_of(data), len(data), data
            return
        address, width = place
        begin, n_wanted = 0, self._n_characters if self._may_cut else len(text)
        while begin < len(text):
            n = min(n_wanted, len(text) - begin)
            utf8 = self._room(n, width)
            n_bytes = _to_utf8(address + begin * width, width, n, utf8.address)
            if n_bytes < 0:
                text.encode()  # raises the error, with the place in the text
            if begin + n < len(text):
                cut = _last_cut(utf8.address, n_bytes)
                if cut == 0:  # as in Chinese
                    n_wanted = len(text)
                    continue
                n -= _count_characters(utf8.address, cut, n_bytes)
                n_bytes = cut
            yield utf8.address, n_bytes, utf8
            begin += n

    def _room(self, n_characters: int, width: int) -> Buffer:
        # A character of 1, 2 or 4 bytes takes at most 2, 3 or 4 of UTF-8.
        n_bytes = n_characters * (width + (width < 4)) + _SLACK
        if n_bytes > len(self._kept):
            room = Buffer(n_bytes, u8)
            if n_bytes > _MAX_KEPT:
                return room
            self._kept = room
        return self._kept
