# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code=assignment
"""GPT-2's pre-tokenization by local rules on bytes, without a regular expression.

The pattern is `'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+`.
Every byte has the class of its character. Where the class changes, a token starts, unless the
byte before is a blank (U+0020), which belongs to the token after it. In a run of spaces only the
last character can start a token, and only when something else follows; the end of the text counts
as a space. An apostrophe that starts a token may begin a contraction, which sets one more start.
Since the pattern never looks back, a scan can resume at any token start as if the text began there:
this is how one window follows another.

Each rule is a loop over the bytes of a window without branches, which the compiler turns into
vector code, and the arrays of a window stay in the processor's caches.
"""

import functools

import numpy as np
from jaxtyping import Int64, UInt8

from fastlm.tokenizer.bpe import fields as f
from fastlm.tokenizer.bpe.compiler import count_trailing_zeros, inner, kernel
from fastlm.tokenizer.bpe.context import (
    Context,
    address_of,
    boolean,
    i64,
    int32_at,
    int64_at,
    pi32,
    pi64,
    pu8,
    pu64,
    u8,
    uint8_at,
    uint64_at,
)
from fastlm.tokenizer.bpe.errors import InvalidUtf8
from fastlm.tokenizer.bpe.unicode_table import LETTER, NUMBER, OTHER, SPACE, code_point_classes

_BLANK = 16  # a bit that U+0020 has beside SPACE
_IS_START, _MAY_CONTRACT = 1, 2  # bits of a window's flags

WINDOW_BYTES = 8192
_LOOKAHEAD = 16  # bytes copied past a window: for the next class, contractions and loads of keys
PADDING = 256  # bytes past a window in its buffers
_WHOLE = 128  # loops run over multiples of it, which vector code does without a remainder

_EACH_BYTE = 0x0101010101010101
_HIGH_BITS = np.uint64(0x80 * _EACH_BYTE)
_APOSTROPHE = ord("'")
_D, _E, _L, _M, _R, _S, _T, _V = b"delmrstv"


@functools.cache
def class_table() -> UInt8[np.ndarray, "1114112"]:
    """The class of each code point, unpacked once."""
    return code_point_classes()


def add_window(context: Context) -> None:
    """Give a context the buffers that scan_window works in."""
    size = WINDOW_BYTES + PADDING
    context.hold(f.CLASS_OF, class_table())
    for field in (f.TEXT, f.CLASSES, f.FLAGS):
        # uint64, so that loads of eight bytes are aligned.
        context.hold(field, np.zeros(size // 8, np.uint64))
    context.hold(f.STARTS, np.zeros(size, np.int32))


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
    text, classes = uint8_at(c[f.TEXT]), uint8_at(c[f.CLASSES])
    flags, starts = uint8_at(c[f.FLAGS]), int32_at(c[f.STARTS])
    n_bytes = min(end - begin, WINDOW_BYTES)
    visible = min(end - begin, n_bytes + _LOOKAHEAD)
    _copy(uint8_at(data + begin), text, visible)
    n_padded = (n_bytes + _LOOKAHEAD + _WHOLE - 1) & -_WHOLE
    for i in range(visible, n_padded):
        text[i] = 0
    seen = _classify_ascii(text, classes, n_padded)
    for i in range(visible, n_bytes + _LOOKAHEAD):
        classes[i] = SPACE
    has_wide_space = False
    if seen >= 0x80:
        has_wide_space, invalid = _classify_wide(
            text, uint64_at(c[f.TEXT]), classes, uint8_at(c[f.CLASS_OF]), n_bytes, visible
        )
        if invalid >= 0:
            return 0, begin + invalid
    _flag_starts(text, classes, flags, n_bytes)
    if has_wide_space:
        _flag_wide_spaces(text, uint64_at(c[f.TEXT]), classes, flags, n_bytes)
    _flag_contractions(text, flags, uint64_at(c[f.FLAGS]), n_bytes)
    n_starts = _gather_starts(flags, uint64_at(c[f.FLAGS]), starts, n_bytes)
    if begin + n_bytes == end:
        starts[n_starts] = n_bytes
        return n_starts, -1
    return n_starts - 1, -1


@inner
def _copy(source: pu8, target: pu8, n_bytes: i64) -> None:
    for i in range(n_bytes):
        target[i] = source[i]


@inner
def _classify_ascii(text: pu8, classes: pu8, n_padded: i64) -> u8:
    """Classify each byte as if it were an ASCII character; returns the bitwise or of all bytes."""
    # It selects on uint8 and has no branches, so that LLVM turns the loop into vector code.
    seen = np.uint8(0)
    for i in range(n_padded & -_WHOLE):
        byte = text[i]
        seen |= byte
        label = np.uint8(OTHER)
        is_letter = np.uint8(np.uint8(byte | np.uint8(32)) - np.uint8(97)) < np.uint8(26)
        label = np.uint8(LETTER) if is_letter else label
        label = np.uint8(NUMBER) if np.uint8(byte - np.uint8(48)) < np.uint8(10) else label
        label = np.uint8(SPACE) if np.uint8(byte - np.uint8(9)) < np.uint8(5) else label
        label = np.uint8(SPACE | _BLANK) if byte == np.uint8(32) else label
        classes[i] = label
    return seen


@inner
def _classify_wide(
    text: pu8, words: pu64, classes: pu8, class_of: pu8, n_bytes: i64, visible: i64
) -> tuple[boolean, i64]:
    """Classify characters beyond ASCII; returns (is one of them a space, invalid position or -1).

    Reads past the end of the window, so that the character after a space there is classified too.
    """
    has_wide_space = False
    limit = min(visible, n_bytes + 4)
    i = 0
    while i < limit:
        if i & 7 == 0 and words[i >> 3] & _HIGH_BITS == 0:
            i += 8
            continue
        if text[i] < 0x80:
            i += 1
            continue
        code_point, length = _decode_character(text, i, visible)
        if length == 0:
            return has_wide_space, i
        label = class_of[code_point]
        has_wide_space |= label == SPACE
        for k in range(length):
            classes[i + k] = label
        i += length
    return has_wide_space, -1


@inner
def _decode_character(text: pu8, i: i64, end: i64) -> tuple[i64, i64]:
    """Decode the UTF-8 character beyond ASCII at i to (code point, length); length 0 is invalid."""
    first = np.int64(text[i])
    second = np.int64(text[i + 1]) ^ 0x80 if i + 1 < end else 0xFF
    third = np.int64(text[i + 2]) ^ 0x80 if i + 2 < end else 0xFF
    fourth = np.int64(text[i + 3]) ^ 0x80 if i + 3 < end else 0xFF
    if 0xC2 <= first < 0xE0 and second < 0x40:
        return (first & 0x1F) << 6 | second, 2
    if 0xE0 <= first < 0xF0 and second < 0x40 and third < 0x40:
        point = (first & 0x0F) << 12 | second << 6 | third
        if point >= 0x800 and not 0xD800 <= point < 0xE000:
            return point, 3
    if 0xF0 <= first < 0xF5 and second < 0x40 and third < 0x40 and fourth < 0x40:
        point = (first & 0x07) << 18 | second << 12 | third << 6 | fourth
        if 0x10000 <= point < 0x110000:
            return point, 4
    return 0, 0


@inner
def _flag_starts(text: pu8, classes: pu8, flags: pu8, n_bytes: i64) -> None:
    """Apply the rules for single-byte spaces; mark where contractions may begin."""
    class_bits = np.uint8(LETTER | NUMBER | OTHER | SPACE)
    for i in range((n_bytes + _WHOLE - 1) & -_WHOLE):
        before = classes[i]
        here = classes[i + 1]
        after = classes[i + 2]
        changes = np.uint8(np.uint8((before ^ here) & class_bits) != np.uint8(0))
        after_blank = np.uint8(np.uint8(before & np.uint8(_BLANK)) != np.uint8(0))
        last_space = np.uint8(before & here & np.uint8(~after) & np.uint8(SPACE))
        contracts = np.uint8(text[i + 1] == np.uint8(_APOSTROPHE)) & np.uint8(
            np.uint8(before & np.uint8(OTHER | _BLANK)) == np.uint8(0)
        )
        starts = (changes & (np.uint8(1) - after_blank)) | np.uint8(last_space != np.uint8(0))
        flags[i + 1] = starts | (contracts << 1)
    flags[0] = _IS_START | (_MAY_CONTRACT if text[0] == _APOSTROPHE else 0)


@inner
def _flag_wide_spaces(text: pu8, words: pu64, classes: pu8, flags: pu8, n_bytes: i64) -> None:
    """Move the start of a space of several bytes to its first byte."""
    i = 0
    while i < n_bytes:
        if i & 7 == 0 and words[i >> 3] & _HIGH_BITS == 0:
            i += 8
            continue
        if text[i] >= 0xC0 and classes[i] == SPACE:
            length = 2 if text[i] < 0xE0 else 3
            for k in range(1, length):
                flags[i + k] = 0
            if i > 0 and classes[i - 1] & SPACE:
                flags[i] = _IS_START if classes[i + length] & SPACE == 0 else 0
        i += 1


@inner
def _flag_contractions(text: pu8, flags: pu8, words: pu64, n_bytes: i64) -> None:
    for word in range((n_bytes + 7) >> 3):
        if words[word] & np.uint64(_MAY_CONTRACT * _EACH_BYTE) == 0:
            continue
        for i in range(word * 8, min(word * 8 + 8, n_bytes)):
            if flags[i] & _MAY_CONTRACT:
                length = _contraction_length(text[i + 1], text[i + 2])
                if length:
                    flags[i + 1] = 0
                    flags[i + length] |= _IS_START


@inner
def _gather_starts(flags: pu8, words: pu64, starts: pi32, n_bytes: i64) -> i64:
    """Write the positions of the flags with _IS_START; returns their number."""
    for i in range(n_bytes, n_bytes + 64):
        flags[i] = 0
    n_starts = 0
    for base in range(0, n_bytes, 64):
        # 64 flags go into one mask: the processor mispredicts the end of a loop, and one loop over
        # a mask of 64 ends once where eight short loops would end eight times.
        mask = np.uint64(0)
        for k in range(8):
            bits = words[(base >> 3) + k] & np.uint64(_IS_START * _EACH_BYTE)
            packed = (bits * np.uint64(0x0102040810204080)) >> np.uint64(56)
            mask |= packed << np.uint64(8 * k)
        while mask:
            starts[n_starts] = base + count_trailing_zeros(mask)
            n_starts += 1
            mask &= mask - np.uint64(1)
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
        code_point, length = np.int64(text[position]), 1
        if code_point >= 0x80:
            code_point, length = _decode_character(text, position, end)
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
