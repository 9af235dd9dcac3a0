# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code=assignment
"""GPT-2's pre-tokenization by local rules on bytes, without a regular expression.

The pattern is `'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+`.
Every byte has the class of its character. Where the class changes, a token starts, unless the
byte before is a blank (U+0020), which belongs to the token after it. In a run of spaces only the
last character can start a token, and only when something else follows; the end of the text counts
as a space. An apostrophe that starts a token may begin a contraction, which sets one more start.
Since the pattern never looks back, a scan can resume at any token start as if the text began there:
this is how one window follows another.

A block of 64 bytes has a bit for each byte in one number for each class. Comparing 64 bytes makes
such a number, and a few operations on numbers apply a rule to the whole block. Only characters
beyond ASCII and contractions are looked at one by one.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from fastlm.tokenizer.bpe import fields as f
from fastlm.tokenizer.bpe.buffers import Buffer
from fastlm.tokenizer.bpe.compiler import (
    byte_bits,
    can_compress,
    count_ones,
    count_trailing_zeros,
    either,
    inner,
    kernel,
    store_places,
)
from fastlm.tokenizer.bpe.compiler import numpy as np
from fastlm.tokenizer.bpe.context import (
    Context,
    boolean,
    i32,
    i64,
    int32_at,
    int64_at,
    load_tail,
    load_word,
    pi32,
    pi64,
    pu8,
    pu64,
    u8,
    u64,
    uint8_at,
    uint64_at,
)
from fastlm.tokenizer.bpe.errors import InvalidUtf8
from fastlm.tokenizer.bpe.objects import address_of
from fastlm.tokenizer.bpe.unicode_table import LETTER, NUMBER, SPACE, code_point_classes

if TYPE_CHECKING:
    from jaxtyping import Int64

WINDOW_BYTES = 8192
_LOOKAHEAD = 16  # bytes copied past a window: for the next class, contractions and loads of keys
PADDING = 256  # bytes past a window in its buffers
_BLOCK = 64  # bytes of a block
_N_BLOCKS = (WINDOW_BYTES + PADDING) // _BLOCK

_ONE, _ALL = np.uint64(1), np.uint64(0xFFFFFFFFFFFFFFFF)
_TOP = np.uint64(63)
_APOSTROPHE = ord("'")
_D, _E, _L, _M, _R, _S, _T, _V = b"delmrstv"

_letter_bits = byte_bits(((ord("a"), ord("z")),), ignored_bits=0x20)
_number_bits = byte_bits(((ord("0"), ord("9")),))
_space_bits = byte_bits(((9, 13), (32, 32)))
_blank_bits = byte_bits(((32, 32),))
_apostrophe_bits = byte_bits(((_APOSTROPHE, _APOSTROPHE),))
_wide_bits = byte_bits(((0x80, 0xFF),))


@functools.cache
def class_table() -> bytes:
    """The class of each code point, unpacked once."""
    return code_point_classes()


def add_window(context: Context) -> None:
    """Give a context the buffers that scan_window works in."""
    size = WINDOW_BYTES + PADDING
    context.hold(f.CLASS_OF, class_table())
    context.hold(f.TEXT, Buffer(size, u8))
    for field in (f.LETTER_BITS, f.NUMBER_BITS, f.SPACE_BITS, f.START_BITS):
        context.hold(field, Buffer(_N_BLOCKS, u64))
    for field in (f.STARTS, f.PLACES):
        context.hold(field, Buffer(size, i32))


@inner
def scan_window(c: pi64, data: i64, begin: i64, end: i64) -> tuple[i64, i64]:
    """Find the complete pre-tokens of data[begin:end] in a window that starts at begin.

    Args:
        begin: start of a pre-token.
        end: end of the text (a special token may follow).
    Returns:
        (n, invalid): n pre-tokens stand in the context's TEXT, with n + 1 bounds in STARTS; n is 0
        when the first one does not end inside the window. invalid is the position in data of a
        character that is not UTF-8, or -1.
    """
    text, starts = uint8_at(c[f.TEXT]), int32_at(c[f.STARTS])
    n_bytes = min(end - begin, WINDOW_BYTES)
    visible = min(end - begin, n_bytes + _LOOKAHEAD)
    _copy(uint8_at(data + begin), text, visible)
    n_blocks = (n_bytes + _LOOKAHEAD + _BLOCK - 1) // _BLOCK
    for i in range(visible, n_blocks * _BLOCK + 8):
        text[i] = 0
    n_wide_spaces = 0
    if _classify_ascii(c, text, n_blocks):
        n_wide_spaces, invalid = _classify_wide(c, text, min(visible, n_bytes + 4))
        if invalid >= 0:
            return 0, begin + invalid
    spaces = uint64_at(c[f.SPACE_BITS])
    if visible < n_blocks * _BLOCK:  # the end of the text counts as a space
        spaces[visible >> 6] |= _ALL << np.uint64(visible & 63)
    n_apostrophes = _find_starts(c, text, (n_bytes + _BLOCK - 1) // _BLOCK, n_wide_spaces)
    bits = uint64_at(c[f.START_BITS])
    _move_wide_spaces(bits, spaces, int32_at(c[f.PLACES]), n_wide_spaces)
    _end_contractions(bits, text, int32_at(c[f.PLACES] + 4 * n_wide_spaces), n_apostrophes)
    n_starts = gather_starts(bits, starts, n_bytes)
    if begin + n_bytes == end:
        starts[n_starts] = n_bytes
        return n_starts, -1
    return n_starts - 1, -1


@inner
def _copy(source: pu8, target: pu8, n_bytes: i64) -> None:
    for i in range(n_bytes):
        target[i] = source[i]


@inner
def _classify_ascii(c: pi64, text: pu8, n_blocks: i64) -> boolean:
    """Set the bits of the classes of ASCII characters; returns whether there are others."""
    letters, numbers = uint64_at(c[f.LETTER_BITS]), uint64_at(c[f.NUMBER_BITS])
    spaces = uint64_at(c[f.SPACE_BITS])
    wide = np.uint64(0)
    for block in range(n_blocks):
        begin = block * _BLOCK
        letters[block] = _letter_bits(text, begin)
        numbers[block] = _number_bits(text, begin)
        spaces[block] = _space_bits(text, begin)
        wide |= _wide_bits(text, begin)
    spaces[n_blocks] = _ALL
    return wide != np.uint64(0)


@inner
def _classify_wide(c: pi64, text: pu8, n_bytes: i64) -> tuple[i64, i64]:
    """Set the bits of the classes of the characters beyond ASCII that begin before n_bytes.

    Returns:
        (n, invalid): PLACES has place << 2 | length of n spaces of several bytes; invalid is the
        position of a byte that is not UTF-8, or -1.
    """
    class_of, places = uint8_at(c[f.CLASS_OF]), int32_at(c[f.PLACES])
    letters, numbers = uint64_at(c[f.LETTER_BITS]), uint64_at(c[f.NUMBER_BITS])
    spaces = uint64_at(c[f.SPACE_BITS])
    n_spaces = np.int64(0)
    spilled = np.uint64(0)  # bytes of a block that belong to a character of the block before
    for block in range((n_bytes + _BLOCK - 1) // _BLOCK):
        begin = block * _BLOCK
        wide = _wide_bits(text, begin) & ~((_ONE << spilled) - _ONE)
        if n_bytes - begin < _BLOCK:
            wide &= (_ONE << np.uint64(n_bytes - begin)) - _ONE
        spilled = np.uint64(0)
        while wide:
            place = count_trailing_zeros(wide)
            code_point, length = decode_character(load_word(text, begin + place))
            if length == 0:
                return n_spaces, begin + place
            label = class_of[code_point]
            ones = (_ONE << np.uint64(length)) - _ONE
            bits = ones << np.uint64(place)
            wide &= ~bits
            letter = _ALL if label == LETTER else np.uint64(0)
            letters[block] |= bits & letter
            over = place + length - _BLOCK
            if over > 0:
                spilled = np.uint64(over)
                letters[block + 1] |= letter & ((_ONE << spilled) - _ONE)
            if label & (NUMBER | SPACE):
                of_class = numbers if label == NUMBER else spaces
                of_class[block] |= bits
                if over > 0:
                    of_class[block + 1] |= (_ONE << spilled) - _ONE
                if label == SPACE:
                    places[n_spaces] = (begin + place) << 2 | length
                    n_spaces += 1
    return n_spaces, -1


@inner
def decode_character(word: u64) -> tuple[i64, i64]:
    """Decode the character beyond ASCII at the begin of 8 bytes to (code point, length in bytes).

    The length is 0 when it is not UTF-8.
    """
    w = np.int64(word & np.uint64(0xFFFFFFFF))
    if w & 0xC0E0 == 0x80C0:
        point = (w & 0x1F) << 6 | w >> 8 & 0x3F
        return point, 2 if point >= 0x80 else 0
    if w & 0xC0C0F0 == 0x8080E0:
        point = (w & 0x0F) << 12 | w >> 2 & 0xFC0 | w >> 16 & 0x3F
        return point, 3 if point >= 0x800 and point & 0xF800 != 0xD800 else 0
    if w & 0xC0C0C0F8 == 0x808080F0:
        point = (w & 0x07) << 18 | w << 4 & 0x3F000 | w >> 10 & 0xFC0 | w >> 24 & 0x3F
        return point, 4 if 0x10000 <= point < 0x110000 else 0
    return 0, 0


@inner
def _find_starts(c: pi64, text: pu8, n_blocks: i64, n_wide_spaces: i64) -> i64:
    """Apply the rules for spaces of one byte; returns the number of apostrophes.

    PLACES gets, after the wide spaces, the places where contractions may begin.
    """
    letters, numbers = uint64_at(c[f.LETTER_BITS]), uint64_at(c[f.NUMBER_BITS])
    spaces, bits = uint64_at(c[f.SPACE_BITS]), uint64_at(c[f.START_BITS])
    places = int32_at(c[f.PLACES] + 4 * n_wide_spaces)
    n_places = np.int64(0)
    # The top bits of the block before; before the first byte there is no class at all.
    letter_before = number_before = space_before = other_before = blank_before = np.uint64(0)
    for block in range(n_blocks):
        letter, number, space = letters[block], numbers[block], spaces[block]
        blank = _blank_bits(text, block * _BLOCK)
        other = ~(letter | number | space)
        after_space = space << _ONE | space_before
        after_blank = blank << _ONE | blank_before
        after_other = other << _ONE | other_before
        same = letter & (letter << _ONE | letter_before)
        same |= number & (number << _ONE | number_before)
        same |= other & after_other
        before_space = space >> _ONE | spaces[block + 1] << _TOP
        in_space = space & after_space
        bits[block] = ~(same | in_space | after_blank) | (in_space & ~before_space)
        apostrophes = _apostrophe_bits(text, block * _BLOCK) & ~(after_blank | after_other)
        while apostrophes:
            places[n_places] = block * _BLOCK + count_trailing_zeros(apostrophes)
            n_places += 1
            apostrophes &= apostrophes - _ONE
        letter_before, number_before = letter >> _TOP, number >> _TOP
        space_before, other_before, blank_before = space >> _TOP, other >> _TOP, blank >> _TOP
    return n_places


@inner
def _move_wide_spaces(bits: pu64, spaces: pu64, places: pi32, n_places: i64) -> None:
    """Move the start of a space of several bytes to its first byte."""
    for k in range(n_places):
        place, length = np.int64(places[k] >> 2), np.int64(places[k] & 3)
        for i in range(place + 1, place + length):
            bits[i >> 6] &= ~(_ONE << np.uint64(i & 63))
        if place > 0 and _bit(spaces, place - 1):
            bits[place >> 6] &= ~(_ONE << np.uint64(place & 63))
            if not _bit(spaces, place + length):
                bits[place >> 6] |= _ONE << np.uint64(place & 63)


@inner
def _bit(bits: pu64, place: i64) -> boolean:
    return bits[place >> 6] >> np.uint64(place & 63) & _ONE != np.uint64(0)


@inner
def _end_contractions(bits: pu64, text: pu8, places: pi32, n_places: i64) -> None:
    for k in range(n_places):
        place = np.int64(places[k])
        length = _contraction_length(text[place + 1], text[place + 2])
        if length:
            after, end = place + 1, place + length
            bits[after >> 6] &= ~(_ONE << np.uint64(after & 63))
            bits[end >> 6] |= _ONE << np.uint64(end & 63)


@inner
def _put_places_by_loop(starts: pi32, n_starts: i64, mask: u64, begin: i64, n_ones: i64) -> None:
    # The processor mispredicts the end of a loop. One that takes eight at a time, and writes a few
    # too many, ends after the second round in nearly every block.
    for group in range(n_starts, n_starts + n_ones, 8):
        for k in range(8):
            starts[group + k] = begin + count_trailing_zeros(mask)
            mask &= mask - _ONE


@inner
def _put_places_at_once(starts: pi32, n_starts: i64, mask: u64, begin: i64, n_ones: i64) -> None:
    store_places(starts, n_starts, mask, begin)
    if n_ones > 32:
        for k in range(n_starts, n_starts + n_ones):
            starts[k] = begin + count_trailing_zeros(mask)
            mask &= mask - _ONE


_put_places = either(can_compress, _put_places_at_once, _put_places_by_loop)


@inner
def gather_starts(bits: pu64, starts: pi32, n_bytes: i64) -> i64:
    """Write the positions of the starts before n_bytes; returns their number."""
    n_starts = np.int64(0)
    for block in range((n_bytes + _BLOCK - 1) // _BLOCK):
        begin = block * _BLOCK
        mask = bits[block]
        if n_bytes - begin < _BLOCK:
            mask &= (_ONE << np.uint64(n_bytes - begin)) - _ONE
        n_ones = count_ones(mask)
        _put_places(starts, n_starts, mask, begin, n_ones)
        n_starts += n_ones
    return n_starts


@inner
def _contraction_length(first: u8, second: u8) -> i64:
    if first == _S or first == _D or first == _M or first == _T:  # noqa: SIM109 - no tuple to compile
        return 2
    if first == _L and second == _L:
        return 3
    if (first == _V or first == _R) and second == _E:  # noqa: SIM109
        return 3
    return 0


@inner
def _are_all(text: pu8, begin: i64, label: i64) -> boolean:
    """Whether 64 bytes are ASCII characters of a class."""
    if label == LETTER:
        return _letter_bits(text, begin) == _ALL
    if label == NUMBER:
        return _number_bits(text, begin) == _ALL
    if label == SPACE:
        return _space_bits(text, begin) == _ALL
    others = _letter_bits(text, begin) | _number_bits(text, begin) | _space_bits(text, begin)
    return others | _wide_bits(text, begin) == np.uint64(0)


@inner
def long_token_end(c: pi64, data: i64, begin: i64, end: i64) -> tuple[i64, boolean]:
    """Find the end of a pre-token too long for a window; returns (end, True) or (invalid, False).

    Such a pre-token is a run of one class, perhaps after a blank, or a run of spaces without the
    last one. invalid is the position of a character that is not UTF-8.
    """
    text, class_of = uint8_at(data), uint8_at(c[f.CLASS_OF])
    label = np.int64(0)
    before = begin
    position = begin
    while position < end:
        while label != 0 and position + _BLOCK <= end and _are_all(text, position, label):
            position += _BLOCK
            before = position - 1
        if position == end:
            break
        code_point, length = np.int64(text[position]), 1
        if code_point >= 0x80:
            code_point, length = decode_character(load_tail(text, position, end))
            if length == 0:
                return position, False
        here = np.int64(class_of[code_point])
        if label == 0 or (position == begin + 1 and text[begin] == 32 and here != SPACE):
            label = here
        elif here != label:
            return (before if label == SPACE else position), True
        before = position
        position += length
    return end, True


@kernel
def _token_bounds(address, data, n_bytes, bounds_address):
    c, bounds = int64_at(address), int64_at(bounds_address)
    starts = int32_at(c[f.STARTS])
    position = 0
    n_bounds = 1
    while position < n_bytes:
        n_tokens, invalid = scan_window(c, data, position, n_bytes)
        if invalid >= 0:
            return -1 - invalid
        if n_tokens == 0:
            position, is_valid = long_token_end(c, data, position, n_bytes)
            if not is_valid:
                return -1 - position
            bounds[n_bounds] = position
            n_bounds += 1
            continue
        for token in range(1, n_tokens + 1):
            bounds[n_bounds] = position + starts[token]
            n_bounds += 1
        position += starts[n_tokens]
    return n_bounds


def token_bounds(data: bytes) -> Int64[np.ndarray, " n_tokens_plus_1"]:
    """Byte offsets at which the pre-tokens of a text begin, and the length of the text.

    token_bounds(b"It's 5") is [0, 2, 4, 6].

    Raises:
        InvalidUtf8: with the byte offset.
    """
    context = Context(f.N_FIELDS)
    add_window(context)
    bounds = np.zeros(len(data) + 1, np.int64)
    n_bounds = _token_bounds(context.address, address_of(data), len(data), bounds.ctypes.data)
    if n_bounds < 0:
        raise InvalidUtf8(-1 - n_bounds)
    return bounds[:n_bounds]
