# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code=assignment
"""Read GPT-2's vocab.json and merges.txt in a few milliseconds, if nothing in them is unusual."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import NamedTuple

from fastlm.tokenizer.bpe import fields as f
from fastlm.tokenizer.bpe import machine_code
from fastlm.tokenizer.bpe.buffers import Buffer, place_of
from fastlm.tokenizer.bpe.compiler import inner, kernel
from fastlm.tokenizer.bpe.compiler import numpy as np
from fastlm.tokenizer.bpe.context import (
    Context,
    boolean,
    i32,
    i64,
    int32_at,
    int64_at,
    pi32,
    pu8,
    u64,
    uint8_at,
    uint64_at,
)
from fastlm.tokenizer.bpe.words import (
    VALUE,
    add_keys,
    find_word,
    hold_arena,
    hold_table,
    new_table,
)

_UNUSUAL = -1
_QUOTE, _BACKSLASH, _BLANK, _LINE_END = b'"\\ \n'
_OPEN, _CLOSE, _COLON, _COMMA = b"{}:,"
_ZERO, _NINE, _SLASH, _U = b"09/u"
_N_POINTS = 512  # characters that spell bytes lie below


class Read(NamedTuple):
    """Two files. Token i is text[ends[i] : ends[i + 1]], rows has three ids for each merge.

    Attributes:
        unmade: ids of the tokens of more than one byte that no merge makes.
    """

    text: bytes
    ends: array[int]
    rows: array[int]
    unmade: list[int]


def read(vocab: bytes, merges: bytes, byte_of_point: Sequence[int]) -> Read | None:
    """Read the two files; None if something is unusual, or the kernels are not compiled yet.

    Ids are 0, 1, 2 ... in the order of the file; each token is there once, and is made by at most
    one merge; all keys are spelled in the characters of bytes, special ones too.

    Args:
        byte_of_point: the byte that a character below U+0200 spells, or -1.
    """
    if not machine_code.is_at_hand():
        return None
    begin = merges.find(b"\n") + 1 if merges.startswith(b"#version") else 0
    n_tokens, n_merges = vocab.count(b":"), merges.count(b"\n") + 1
    context = Context(f.N_FIELDS)
    add_keys(context)
    hold_table(context, new_table(1 << (2 * n_tokens + 16).bit_length()))
    hold_arena(context, Buffer(len(vocab) // 8 + 2 * n_tokens + 16, u64))
    byte_of, text = Buffer(_N_POINTS, i32), Buffer(max(len(vocab), len(merges)) + 16, "uint8")
    ends, rows, made = Buffer(n_tokens + 1, i64), Buffer(3 * n_merges, i32), Buffer(n_tokens, i32)
    byte_of.items[:] = array("i", byte_of_point)
    n_tokens = _read_vocab(
        context.address, place_of(vocab), len(vocab), byte_of.address, text.address, ends.address
    )
    if n_tokens < 0:
        return None
    spelled = bytes(text.items[: ends.items[n_tokens]])
    n_merges = _read_merges(
        context.address,
        place_of(merges) + begin,
        len(merges) - begin,
        byte_of.address,
        text.address,
        rows.address,
        made.address,
    )
    if n_merges < 0:
        return None
    bounds = array("q")
    bounds.frombytes(bytes(ends.items[: n_tokens + 1]))
    ids = array("i")
    ids.frombytes(bytes(rows.items[: 3 * n_merges]))
    unmade = [i for i, n in enumerate(made.items[:n_tokens]) if n == 0]
    return Read(
        spelled,
        bounds,
        ids,
        [i for i in unmade if bounds[i + 1] - bounds[i] > 1],
    )


@inner
def _after_blanks(source: pu8, i: i64, n_bytes: i64) -> i64:
    while i < n_bytes and (source[i] == 32 or 9 <= source[i] <= 10 or source[i] == 13):
        i += 1
    return i


@inner
def _hex_digit(byte: i64) -> i64:
    if _ZERO <= byte <= _NINE:
        return byte - _ZERO
    letter = byte | 32
    return letter - 87 if 97 <= letter <= 102 else -1


@inner
def _byte_at(
    source: pu8, i: i64, n_bytes: i64, byte_of: pi32, has_escapes: boolean
) -> tuple[i64, i64]:
    """Return (the byte that the character at i spells, what follows it), or (_UNUSUAL, i)."""
    point, length = np.int64(source[i]), 1
    if has_escapes and point == _BACKSLASH:
        if i + 1 >= n_bytes:
            return _UNUSUAL, i
        point, length = np.int64(source[i + 1]), 2
        if point == _U:
            if i + 6 > n_bytes:
                return _UNUSUAL, i
            point, length = 0, 6
            for k in range(2, 6):
                digit = _hex_digit(np.int64(source[i + k]))
                if digit < 0:
                    return _UNUSUAL, i
                point = point << 4 | digit
        elif point != _QUOTE and point != _BACKSLASH and point != _SLASH:
            return _UNUSUAL, i
    elif point >= 0x80:
        if not 0xC2 <= point < 0xE0 or i + 1 >= n_bytes or source[i + 1] & 0xC0 != 0x80:
            return _UNUSUAL, i
        point, length = (point & 0x1F) << 6 | np.int64(source[i + 1]) & 0x3F, 2
    if point >= _N_POINTS:
        return _UNUSUAL, i
    return np.int64(byte_of[point]), i + length


@kernel
def _read_vocab(address, data, n_bytes, byte_of_address, text_address, ends_address):
    """Write the tokens in a row, and their ends; returns their number, or _UNUSUAL.

    The table gets each token with its id.
    """
    c, table = int64_at(address), uint64_at(int64_at(address)[f.TABLE])
    source, byte_of = uint8_at(data), int32_at(byte_of_address)
    text, ends = uint8_at(text_address), int64_at(ends_address)
    n_tokens, end = np.int64(0), np.int64(0)
    ends[0] = 0
    i = _after_blanks(source, 0, n_bytes)
    if i >= n_bytes or source[i] != _OPEN:
        return _UNUSUAL
    while True:
        i = _after_blanks(source, i + 1, n_bytes)  # the bracket or the comma
        if i >= n_bytes or source[i] != _QUOTE:
            return _UNUSUAL
        i += 1
        begin = end
        while i < n_bytes and source[i] != _QUOTE:
            byte, i = _byte_at(source, i, n_bytes, byte_of, True)
            if byte < 0:
                return _UNUSUAL
            text[end] = byte
            end += 1
        i = _after_blanks(source, i + 1, n_bytes)
        if i >= n_bytes or source[i] != _COLON or end == begin:
            return _UNUSUAL
        i = _after_blanks(source, i + 1, n_bytes)
        first, number = i, np.int64(0)
        while i < n_bytes and _ZERO <= source[i] <= _NINE and i - first < 10:
            number = 10 * number + np.int64(source[i]) - _ZERO
            i += 1
        if i == first or number != n_tokens or (source[first] == _ZERO and i > first + 1):
            return _UNUSUAL
        slot = find_word(c, text_address, begin, end - begin)
        if slot < 0 or c[f.IS_NEW] == 0:
            return _UNUSUAL
        table[slot + VALUE] = np.uint64(n_tokens)
        n_tokens += 1
        ends[n_tokens] = end
        i = _after_blanks(source, i, n_bytes)
        if i >= n_bytes or source[i] != _COMMA:
            break
    if i >= n_bytes or source[i] != _CLOSE or _after_blanks(source, i + 1, n_bytes) != n_bytes:
        return _UNUSUAL
    return n_tokens


@kernel
def _read_merges(address, data, n_bytes, byte_of_address, text_address, rows_address, made_address):
    """Write the three ids of each merge, and how many make each id; returns the number of merges.

    Returns _UNUSUAL if a line is not two tokens that make a third, or two make the same.
    """
    c, table = int64_at(address), uint64_at(int64_at(address)[f.TABLE])
    source, byte_of = uint8_at(data), int32_at(byte_of_address)
    text, rows, made = uint8_at(text_address), int32_at(rows_address), int32_at(made_address)
    n_merges, i = np.int64(0), np.int64(0)
    while i < n_bytes:
        end = np.int64(0)
        while i < n_bytes and source[i] != _BLANK:
            byte, i = _byte_at(source, i, n_bytes, byte_of, False)
            if byte < 0:
                return _UNUSUAL
            text[end] = byte
            end += 1
        n_left = end
        i += 1
        while i < n_bytes and source[i] != _LINE_END:
            byte, i = _byte_at(source, i, n_bytes, byte_of, False)
            if byte < 0:
                return _UNUSUAL
            text[end] = byte
            end += 1
        i += 1
        if n_left == 0 or end == n_left:
            return _UNUSUAL
        for part in range(3):
            begin = n_left if part == 1 else 0
            length = (n_left if part == 0 else end) - begin
            slot = find_word(c, text_address, begin, length)
            if slot < 0 or c[f.IS_NEW] != 0:
                return _UNUSUAL
            rows[3 * n_merges + part] = np.int64(table[slot + VALUE])
        made[rows[3 * n_merges + 2]] += 1
        if made[rows[3 * n_merges + 2]] > 1:
            return _UNUSUAL
        n_merges += 1
    return n_merges
