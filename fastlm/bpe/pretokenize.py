# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code=assignment
"""GPT-2's pre-tokenization as local rules on bytes, without a regular expression.

The pattern is `'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+`.
Every byte takes the class of its character. Where the class changes, a token starts, unless the
byte before is a blank (U+0020), which belongs to the token after it. In a run of spaces only the
last character can start a token, and only when something else follows; the text's end counts as a
space. An apostrophe that starts a token may begin a contraction, which sets one more start. Since
the pattern never looks back, a scan may be taken up again at any token start as if at the text's
start: that is how a window ends.
"""

import functools

import numba
import numpy as np
from jaxtyping import Int64, UInt8
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from fastlm.bpe.errors import InvalidUtf8
from fastlm.bpe.unicode_table import LETTER, NUMBER, OTHER, SPACE, code_point_classes

BLANK = 16  # set beside SPACE for U+0020
STARTS, MAY_CONTRACT = 1, 2  # bits of a window's flags

WINDOW_BYTES = 8192  # a window's buffers fit the second-level cache, its text the first
LOOKAHEAD = 16  # bytes copied past a window: the next character's class, a contraction, key loads
PADDING = 64  # bytes past a window in its buffers

_EACH_BYTE = 0x0101010101010101
_HIGH_BITS = np.uint64(0x80 * _EACH_BYTE)
_APOSTROPHE = ord("'")
_D, _E, _L, _M, _R, _S, _T, _V = b"delmrstv"


@functools.cache
def class_table() -> UInt8[np.ndarray, "1114112"]:
    """The Unicode table, unpacked once."""
    return code_point_classes()


@numba.njit(cache=True, nogil=True)
def new_window(n_bytes):
    """Buffers (text, classes, flags, starts) for scan_window, for n_bytes a multiple of 8."""
    size = n_bytes + PADDING
    return (
        np.empty(size, np.uint8),
        np.empty(size, np.uint8),
        np.empty(size, np.uint8),
        np.empty(size, np.int32),
    )


@numba.njit(cache=True, nogil=True)
def scan_window(data, begin, end, class_of, window):
    """Find the complete pre-tokens of data[begin:end] that fit a window laid at begin.

    Args:
        begin: start of a pre-token; end: where the text ends (a special token may follow).
        window: from new_window; window[0] receives the text, window[3][:n + 1] the n tokens'
            bounds relative to begin.
    Returns:
        (n, invalid): n is 0 when the first token does not end inside the window; invalid is the
        position in data of a character that is not UTF-8, or -1.
    """
    text, classes, flags, starts = window
    n_bytes = min(end - begin, text.size - PADDING)
    visible = min(end - begin, n_bytes + LOOKAHEAD)
    _copy(data[begin : begin + visible], text)
    for i in range(visible, n_bytes + LOOKAHEAD):
        text[i] = 0
    _classify_ascii(text, classes, n_bytes + LOOKAHEAD)
    has_wide_space = False
    if _has_high_bit(text, n_bytes + LOOKAHEAD):
        has_wide_space, invalid = _classify_wide(text, classes, n_bytes, visible, class_of)
        if invalid >= 0:
            return 0, begin + invalid
    for i in range(visible, n_bytes + LOOKAHEAD):
        classes[i] = SPACE
    _flag_starts(text, classes, flags, n_bytes)
    if has_wide_space:
        _flag_wide_spaces(text, classes, flags, n_bytes)
    _flag_contractions(text, flags, n_bytes)
    n_starts = _gather_starts(flags, starts, n_bytes)
    if begin + n_bytes == end:
        starts[n_starts] = n_bytes
        return n_starts, -1
    return n_starts - 1, -1


@numba.njit(cache=True, nogil=True)
def _copy(source, target):
    for i in range(source.size):
        target[i] = source[i]


@numba.njit(cache=True, nogil=True)
def _has_high_bit(text, n_bytes):
    seen = np.uint8(0)
    for i in range(n_bytes):
        seen |= text[i]
    return seen >= np.uint8(0x80)


@numba.njit(cache=True, nogil=True)
def _classify_ascii(text, classes, n_bytes):
    """Classify every byte as if it were an ASCII character."""
    # Selects on uint8 alone, without branches, so that LLVM makes vector code of the loop.
    for i in range(n_bytes):
        byte = text[i]
        label = np.uint8(OTHER)
        is_letter = np.uint8(np.uint8(byte | np.uint8(32)) - np.uint8(97)) < np.uint8(26)
        label = np.uint8(LETTER) if is_letter else label
        label = np.uint8(NUMBER) if np.uint8(byte - np.uint8(48)) < np.uint8(10) else label
        label = np.uint8(SPACE) if np.uint8(byte - np.uint8(9)) < np.uint8(5) else label
        label = np.uint8(SPACE | BLANK) if byte == np.uint8(32) else label
        classes[i] = label


@numba.njit(cache=True, nogil=True)
def _classify_wide(text, classes, n_bytes, visible, class_of):
    """Classify characters beyond ASCII; returns (is one of them a space, invalid position or -1).

    Reads on until the character after a space at the window's end is classified too.
    """
    has_wide_space = False
    words = text.view(np.uint64)
    limit = min(visible, n_bytes + 4)
    i = np.int64(0)
    while i < limit:
        if i & 7 == 0 and words[i >> 3] & _HIGH_BITS == 0:
            i += 8
            continue
        if text[i] < 0x80:
            i += 1
            continue
        code_point, length = decode_character(text, i)
        if length == 0 or i + length > visible:
            return has_wide_space, i
        label = class_of[code_point]
        has_wide_space |= label == SPACE
        for k in range(length):
            classes[i + k] = label
        i += length
    return has_wide_space, -1


@numba.njit(cache=True, nogil=True)
def decode_character(text, i):
    """(code point, bytes) of the UTF-8 character beyond ASCII at i; 0 bytes when it is invalid."""
    first = np.int64(text[i])
    second = np.int64(text[i + 1]) ^ 0x80
    third = np.int64(text[i + 2]) ^ 0x80
    fourth = np.int64(text[i + 3]) ^ 0x80
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


@numba.njit(cache=True, nogil=True)
def _flag_starts(text, classes, flags, n_bytes):
    """Apply the rules above, as if every space were one byte and no contraction began."""
    class_bits = np.uint8(LETTER | NUMBER | OTHER | SPACE)
    for i in range(1, n_bytes):
        before = classes[i - 1]
        here = classes[i]
        after = classes[i + 1]
        changes = np.uint8(np.uint8((before ^ here) & class_bits) != np.uint8(0))
        after_blank = np.uint8(np.uint8(before & np.uint8(BLANK)) != np.uint8(0))
        last_space = np.uint8(before & here & np.uint8(~after) & np.uint8(SPACE))
        contracts = np.uint8(text[i] == np.uint8(_APOSTROPHE)) & np.uint8(
            np.uint8(before & np.uint8(OTHER | BLANK)) == np.uint8(0)
        )
        starts = (changes & (np.uint8(1) - after_blank)) | np.uint8(last_space != np.uint8(0))
        flags[i] = starts | (contracts << 1)
    flags[0] = STARTS | (MAY_CONTRACT if text[0] == _APOSTROPHE else 0)


@numba.njit(cache=True, nogil=True)
def _flag_wide_spaces(text, classes, flags, n_bytes):
    """Move the start of a space of several bytes to its first byte."""
    words = text.view(np.uint64)
    for word in range((n_bytes + 7) >> 3):
        if words[word] & _HIGH_BITS == 0:
            continue
        for i in range(word * 8, min(word * 8 + 8, n_bytes)):
            if text[i] < 0xC0 or classes[i] != SPACE:
                continue
            length = 2 if text[i] < 0xE0 else 3
            for k in range(1, length):
                flags[i + k] = 0
            if i > 0 and classes[i - 1] & SPACE:
                flags[i] = STARTS if classes[i + length] & SPACE == 0 else 0


@numba.njit(cache=True, nogil=True)
def _flag_contractions(text, flags, n_bytes):
    words = flags.view(np.uint64)
    for word in range((n_bytes + 7) >> 3):
        if words[word] & np.uint64(MAY_CONTRACT * _EACH_BYTE) == 0:
            continue
        for i in range(word * 8, min(word * 8 + 8, n_bytes)):
            if flags[i] & MAY_CONTRACT:
                length = _contraction_length(text[i + 1], text[i + 2])
                if length:
                    flags[i + 1] = 0
                    flags[i + length] |= STARTS


@numba.njit(cache=True, nogil=True)
def _gather_starts(flags, starts, n_bytes):
    """Write the positions of the flags that say STARTS; returns how many."""
    for i in range(n_bytes, n_bytes + 64):
        flags[i] = 0
    words = flags.view(np.uint64)
    n_starts = 0
    for base in range(0, n_bytes, 64):
        # 64 flags into one mask: its loop ends once where eight short loops would, and the end
        # is what the processor cannot predict.
        mask = np.uint64(0)
        for k in range(8):
            bits = words[(base >> 3) + k] & np.uint64(STARTS * _EACH_BYTE)
            packed = (bits * np.uint64(0x0102040810204080)) >> np.uint64(56)
            mask |= packed << np.uint64(8 * k)
        while mask:
            starts[n_starts] = base + count_trailing_zeros(mask)  # type: ignore[call-arg]
            n_starts += 1
            mask &= mask - np.uint64(1)
    return n_starts


@intrinsic
def count_trailing_zeros(_typing_context, value):
    """Index of the lowest bit set in a uint64 that is not 0."""

    def generate(_context, builder, _signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@numba.njit(cache=True, nogil=True)
def _contraction_length(first, second):
    if first in (_S, _D, _M, _T):
        return 2
    if first == _L and second == _L:
        return 3
    if first in (_V, _R) and second == _E:
        return 3
    return 0


@numba.njit(cache=True, nogil=True)
def _token_bounds(data, class_of, bounds):
    window = new_window(np.int64(WINDOW_BYTES))
    position = np.int64(0)
    n_bounds = 1
    while position < data.size:
        n_tokens, invalid = scan_window(data, position, data.size, class_of, window)
        if invalid >= 0:
            return n_bounds, invalid
        if n_tokens == 0:
            window = new_window(2 * (window[0].size - PADDING))
            continue
        for token in range(1, n_tokens + 1):
            bounds[n_bounds] = position + window[3][token]
            n_bounds += 1
        position += window[3][n_tokens]
    return n_bounds, -1


def token_bounds(data: bytes) -> Int64[np.ndarray, " n_tokens_plus_1"]:
    """Byte offsets at which the pre-tokens of a text begin, and its end.

    token_bounds(b"It's 5") is [0, 2, 4, 6].

    Raises:
        InvalidUtf8: naming the byte offset.
    """
    bounds = np.zeros(len(data) + 1, np.int64)
    n_bounds, invalid = _token_bounds(np.frombuffer(data, np.uint8), class_table(), bounds)
    if invalid >= 0:
        raise InvalidUtf8(invalid)
    return bounds[:n_bounds]
