# mypy: allow-untyped-defs, allow-untyped-calls
"""The UTF-8 of a str, from the memory of its characters.

str.encode() goes through the characters one by one. Most of a text is ASCII in most languages that
are written in Latin letters, and here 64 bytes of it are narrowed at a time.
"""

from __future__ import annotations

from typing import Any

from fastlm.tokenizer.bpe.buffers import Buffer
from fastlm.tokenizer.bpe.compiler import inner, instruction, ir, kernel, types
from fastlm.tokenizer.bpe.compiler import numpy as np
from fastlm.tokenizer.bpe.context import i64, int32_at, pu8, u8, uint8_at, uint16_at
from fastlm.tokenizer.bpe.objects import wide_characters

_MAX_KEPT = 1 << 24  # bytes of a buffer that is used again
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


class Utf8Buffer:
    """A buffer for the UTF-8 of one str after another; fresh memory would cost as much time."""

    def __init__(self) -> None:
        self._kept = Buffer(0, u8)

    def to_utf8(self, text: str) -> bytes | memoryview[int]:
        """Return the UTF-8 of a str that is not ASCII, valid until the next call.

        Raises:
            UnicodeEncodeError: if it holds lone surrogates.
        """
        place = wide_characters(text)
        if place is None:
            return text.encode()
        address, width = place
        # A character of 1, 2 or 4 bytes takes at most 2, 3 or 4 of UTF-8.
        n_bytes = len(text) * (width + (width < 4)) + _SLACK
        target = self._kept
        if n_bytes > len(target):
            target = Buffer(n_bytes, u8)
            if n_bytes <= _MAX_KEPT:
                self._kept = target
        n = _to_utf8(address, width, len(text), target.address)
        return text.encode() if n < 0 else target.items[:n]
