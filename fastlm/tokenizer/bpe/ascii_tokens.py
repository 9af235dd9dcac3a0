# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code=assignment
r"""Pre-tokens of ASCII text by the patterns of token_ends.py, with the bits of 64 bytes at a time.

Like GPT-2's pattern, these are local, as pretokenize.py says, by other rules. A token starts

- at a letter after another class, unless the character before belongs to it: a space, or a symbol
  that is a token's first character; in O200K also at a capital after a small letter;
- at a digit after another class, and after every so many digits;
- at a symbol after another class, unless a blank before belongs to it;
- at the first of a run of spaces and line breaks, from which the line breaks that follow a symbol
  are taken off; at its last space, where something else follows; and after its last line break.

Before a number, SMOLLM and DEEPSEEK take no last space from a run, and SMOLLM has GPT-2's rules.
A few places are looked at one by one: apostrophes between letters, long numbers, and spaces after a
line break.
"""

from __future__ import annotations

from fastlm.tokenizer.bpe import fields as f
from fastlm.tokenizer.bpe.compiler import (
    byte_bits,
    count_leading_zeros,
    count_trailing_zeros,
    inner,
)
from fastlm.tokenizer.bpe.compiler import numpy as np
from fastlm.tokenizer.bpe.context import (
    i64,
    int32_at,
    pi32,
    pi64,
    pu8,
    pu64,
    uint8_at,
    uint64_at,
)
from fastlm.tokenizer.bpe.pretokenize import gather_starts
from fastlm.tokenizer.bpe.token_ends import CASES, DIGITS, PIECES

_ZERO, _ONE, _TWO = np.uint64(0), np.uint64(1), np.uint64(2)
_TOP, _TOP_TWO = np.uint64(63), np.uint64(62)
_BLOCK = 64
_APOSTROPHE, _SLASH = b"'/"

_letter_bits = byte_bits(((ord("a"), ord("z")),), ignored_bits=0x20)
_lower_bits = byte_bits(((ord("a"), ord("z")),))
_number_bits = byte_bits(((ord("0"), ord("9")),))
_space_bits = byte_bits(((9, 13), (32, 32)))
_break_bits = byte_bits(((10, 10), (13, 13)))
_blank_bits = byte_bits(((32, 32),))
_slash_bits = byte_bits(((ord("/"), ord("/")),))
_apostrophe_bits = byte_bits(((_APOSTROPHE, _APOSTROPHE),))
_wide_bits = byte_bits(((0x80, 0xFF),))
_control_bits = byte_bits(((0, 8), (14, 31), (127, 127)))


@inner
def ascii_bytes(data: i64, begin: i64, n_bytes: i64) -> i64:
    """Number of bytes from begin on that are ASCII, in whole blocks of 64."""
    text = uint8_at(data)
    i = np.int64(0)
    while i + _BLOCK <= n_bytes and _wide_bits(text, begin + i) == _ZERO:
        i += _BLOCK
    return i


@inner
def wide_bytes(data: i64, begin: i64, n_bytes: i64, n_ascii: i64) -> i64:
    """Number of bytes from begin on to the end of the first n_ascii bytes that are ASCII."""
    text = uint8_at(data)
    i = n_plain = np.int64(0)
    while i + _BLOCK <= n_bytes and n_plain < n_ascii:
        n_plain = n_plain + _BLOCK if _wide_bits(text, begin + i) == _ZERO else 0
        i += _BLOCK
    return i - n_plain if n_plain >= n_ascii else n_bytes


@inner
def find_ascii_tokens(c: pi64, text: pu8, n_bytes: i64) -> i64:
    """Find tokens of an ASCII window, a multiple of 64 bytes; returns their number.

    They end where spaces begin after a character that is none: what follows cannot change them.
    It returns 0 for a window that must be looked at by characters.
    """
    bits, places = uint64_at(c[f.START_BITS]), int32_at(c[f.PLACES])
    spaces, numbers = uint64_at(c[f.SPACE_BITS]), uint64_at(c[f.NUMBER_BITS])
    scanner, max_digits = c[f.SCANNER], c[f.MAX_DIGITS]
    is_cased, is_of_gpt2 = scanner == CASES, scanner == DIGITS
    # Whether a number ends the text before it, so that it takes no last space from a run.
    has_borders = is_of_gpt2 or scanner == PIECES
    n_blocks = n_bytes // _BLOCK
    controls = _ZERO
    for block in range(n_blocks):
        spaces[block] = _space_bits(text, block * _BLOCK)
        numbers[block] = _number_bits(text, block * _BLOCK)
        controls |= _control_bits(text, block * _BLOCK)
    if scanner == PIECES and controls != _ZERO:
        return 0
    spaces[n_blocks] = numbers[n_blocks] = _ZERO
    last_cut = np.int64(0)
    n_places = np.int64(0)
    # The top bits of the block before; before the first byte there is no class at all.
    letter_before = lower_before = number_before = other_before = _ZERO
    space_before = plain_before = break_before = blank_before = _ZERO
    others_before = blanks_before = taken_before = _ZERO
    for block in range(n_blocks):
        begin = block * _BLOCK
        letter, number = _letter_bits(text, begin), numbers[block]
        space = spaces[block]
        line_break = _ZERO if is_of_gpt2 else _break_bits(text, begin)
        blank, apostrophe = _blank_bits(text, begin), _apostrophe_bits(text, begin)
        plain = space & ~line_break
        other = ~(letter | number | space)
        after_letter = letter << _ONE | letter_before
        after_other = other << _ONE | other_before
        after_blank = blank << _ONE | blank_before
        # Line breaks after a symbol belong to it: the carry of the sum runs through them.
        seeds = line_break & (after_other | taken_before)
        taken = line_break & ~(line_break + seeds)
        run = space & ~taken
        after_run = run << _ONE | space_before
        before_space = space >> _ONE | spaces[block + 1] << _TOP
        number_starts = number & ~(number << _ONE | number_before)
        attached = plain << _ONE | plain_before
        attached |= after_other & ~(other << _TWO | others_before | blank << _TWO | blanks_before)
        attached = after_blank if is_of_gpt2 else attached
        starts = letter & ~(after_letter | attached)
        starts |= other & ~(after_other | after_blank)
        starts |= run & ~after_run
        before_border = number >> _ONE | numbers[block + 1] << _TOP if has_borders else _ZERO
        starts |= plain & after_run & ~(before_space | before_border)
        odd = (
            plain & after_run & (before_space | before_border) & (line_break << _ONE | break_before)
        )
        if is_cased:
            lower = _lower_bits(text, begin)
            starts |= letter & ~lower & (lower << _ONE | lower_before)
            lower_before = lower >> _TOP
            odd |= apostrophe & after_letter
            # Slashes after such line breaks belong to the symbol as well.
            odd |= _slash_bits(text, begin) & (taken << _ONE | taken_before)
        elif scanner != PIECES:
            odd |= apostrophe & ~(after_other | after_blank)
        if max_digits == 1:
            starts |= number
        else:
            starts |= number_starts
            # A run of three may end in the next block.
            odd |= number_starts & (number >> _ONE | _ONE << _TOP) & (number >> _TWO | _TWO_TOP)
        bits[block] = starts
        cuts = plain & (after_letter | after_other | number << _ONE | number_before)
        if cuts:
            last_cut = begin + 63 - count_leading_zeros(cuts)
        while odd:
            places[n_places] = begin + count_trailing_zeros(odd)
            n_places += 1
            odd &= odd - _ONE
        letter_before, number_before, other_before = letter >> _TOP, number >> _TOP, other >> _TOP
        plain_before, break_before, blank_before = plain >> _TOP, line_break >> _TOP, blank >> _TOP
        space_before, taken_before = run >> _TOP, taken >> _TOP
        others_before, blanks_before = other >> _TOP_TWO, blank >> _TOP_TWO
    if last_cut == 0:
        return 0
    if n_places > 0:
        last_cut = _look_closer(bits, text, places, n_places, last_cut, max_digits, scanner)
    starts_at = int32_at(c[f.STARTS])
    n_tokens = gather_starts(bits, starts_at, last_cut)
    starts_at[n_tokens] = last_cut
    return n_tokens


_TWO_TOP = np.uint64(3 << 62)


@inner
def _look_closer(
    bits: pu64,
    text: pu8,
    places: pi32,
    n_places: i64,
    end: i64,
    max_digits: i64,
    scanner: i64,
) -> i64:
    """Correct the starts at odd places; returns where the starts that are right end."""
    is_cased = scanner == CASES
    last_end = np.int64(-1)
    for k in range(n_places):
        place = np.int64(places[k])
        if place >= end:
            break
        byte = text[place]
        if byte == _APOSTROPHE:
            length = _contraction_length(text, place)
            if scanner == DIGITS:  # in lower case
                for i in range(place + 1, place + length):
                    length = length if text[i] >= 97 else 0
            if length > 0 and not (is_cased and place == last_end):
                if is_cased:
                    bits[place >> 6] &= ~(_ONE << np.uint64(place & 63))
                for i in range(place + 1, place + length):
                    bits[i >> 6] &= ~(_ONE << np.uint64(i & 63))
                last_end = place + length
                bits[last_end >> 6] |= _ONE << np.uint64(last_end & 63)
        elif byte == _SLASH:  # seldom: left to the scan by characters
            return _cut_before(text, place)
        elif byte >= 48:
            i = place + max_digits
            digit = place
            while digit < end and np.uint8(text[digit] - np.uint8(48)) < np.uint8(10):
                if digit == i:
                    bits[i >> 6] |= _ONE << np.uint64(i & 63)
                    i += max_digits
                digit += 1
        else:
            i = place
            while text[i] == 32 or text[i] == 9 or text[i] == 11 or text[i] == 12:
                i += 1
            if text[i] != 10 and text[i] != 13:
                bits[place >> 6] |= _ONE << np.uint64(place & 63)
    return end


@inner
def _cut_before(text: pu8, place: i64) -> i64:
    """Find the last place before another where spaces begin after a character that is none."""
    i = place - 1
    while i > 0:
        is_here = text[i] == 32 or text[i] == 9
        before = text[i - 1]
        if is_here and before > 32 and before < 0x7F:
            return i
        i -= 1
    return 0


@inner
def _contraction_length(text: pu8, place: i64) -> i64:
    """Length of (?i:'s|'t|'re|'ve|'m|'ll|'d) at an apostrophe of ASCII text, or 0."""
    first, second = text[place + 1] | 32, text[place + 2] | 32
    if first == 115 or first == 116 or first == 109 or first == 100:
        return 2
    if first == 108 and second == 108:  # ll
        return 3
    return 3 if (first == 118 or first == 114) and second == 101 else 0
