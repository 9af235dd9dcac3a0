# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code=assignment
r"""The ends of pre-tokens by the patterns of newer models, character by character.

Where a token begins, the first alternative that matches is the token, as in a regular expression;
each function below goes through the alternatives of its pattern in order. None of the patterns
looks back, so that what precedes a token does not matter. A byte that is not UTF-8 has no label:
it ends every run, and is found when a token should begin with it.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from fastlm.tokenizer.bpe import fields as f
from fastlm.tokenizer.bpe.categories import (
    CASELESS,
    CONTROL,
    LOWER,
    MARK,
    NUMBER,
    SPACE,
    SYMBOL,
    UPPER,
    categories,
)
from fastlm.tokenizer.bpe.compiler import byte_bits, count_trailing_zeros, inner
from fastlm.tokenizer.bpe.compiler import numpy as np
from fastlm.tokenizer.bpe.context import (
    Context,
    boolean,
    i64,
    load_tail,
    pi64,
    pu8,
    uint8_at,
    uint64_at,
)
from fastlm.tokenizer.bpe.patterns import (
    CL100K,
    DEEPSEEK,
    LLAMA3,
    NANOCHAT,
    O200K,
    QWEN2,
    SMOLLM,
    Pattern,
)
from fastlm.tokenizer.bpe.pretokenize import decode_character

if TYPE_CHECKING:
    from jaxtyping import UInt8

# The labels of characters, one bit each. A line break is "\r" or "\n" and no space.
_UPPER, _LOWER, _CASELESS, _MARK, _NUMBER, _SPACE, _BREAK, _OTHER = (1 << k for k in range(8))
_LETTER, _WORD = _UPPER | _LOWER | _CASELESS, _UPPER | _LOWER | _CASELESS | _MARK
_BLANKS = _SPACE | _BREAK
# Those of DEEPSEEK, which knows no case, but tells ASCII letters and Chinese and Japanese apart.
_ASCII, _ALPHA, _CJK, _CONTROL, _SYMBOL = _UPPER, _LOWER, _CASELESS, _MARK, _OTHER
# Symbols between Chinese and Japanese letters, such as U+30FB, and code points without a character.
_CJK_SYMBOL, _CJK_NONE = _CJK | _NUMBER, _CJK | _CONTROL

WORDS, CASES, DIGITS, PIECES = range(1, 5)
# The scanner of a pattern, the greatest number of digits of a token, and whether a token takes all
# spaces at the end of a text.
_SCANNERS = {
    CL100K: (WORDS, 3, True),
    LLAMA3: (WORDS, 3, False),
    QWEN2: (WORDS, 1, False),
    NANOCHAT: (WORDS, 2, False),
    O200K: (CASES, 3, False),
    SMOLLM: (DIGITS, 1, False),
    DEEPSEEK: (PIECES, 3, False),
}
_BLANK, _APOSTROPHE, _SLASH = b" '/"

_ONE, _LAST_BIT = np.uint64(1), np.uint64(1 << 63)

_letter_bits = byte_bits(((ord("a"), ord("z")),), ignored_bits=0x20)
_lower_bits = byte_bits(((ord("a"), ord("z")),))


@functools.cache
def _labels(scanner: int) -> UInt8[np.ndarray, "1114112"]:
    of_category = np.zeros(9, np.uint8)
    of_category[:] = _CONTROL if scanner == PIECES else _OTHER
    for category, label, piece_label in (
        (UPPER, _UPPER, _ALPHA),
        (LOWER, _LOWER, _ALPHA),
        (CASELESS, _CASELESS, _ALPHA),
        (MARK, _MARK, _ALPHA),
        (NUMBER, _NUMBER, _NUMBER),
        (SPACE, _SPACE, _SPACE),
        (SYMBOL, _OTHER, _SYMBOL),
        (CONTROL, _OTHER, _CONTROL),
    ):
        of_category[category] = piece_label if scanner == PIECES else label
    labels = of_category[np.frombuffer(categories(), np.uint8)]
    labels[[*b"\r\n"]] = _BREAK
    if scanner == PIECES:
        labels[[byte for byte in range(128) if chr(byte).isalpha()]] = _ASCII
        of_label = np.zeros(256, np.uint8)
        of_label[[_ALPHA, _SYMBOL, _CONTROL]] = _CJK, _CJK_SYMBOL, _CJK_NONE
        for first, last in ((0x4E00, 0x9FA5), (0x3040, 0x30FF)):
            labels[first : last + 1] = of_label[labels[first : last + 1]]
    return labels


def add_scanner(context: Context, pattern: Pattern) -> None:
    """Give a context the labels and numbers of a pattern that token_end finds."""
    scanner, max_digits, takes_end = _SCANNERS[pattern]
    context.hold(f.CLASS_OF, _labels(scanner))
    context.fields[f.SCANNER] = scanner
    context.fields[f.MAX_DIGITS] = max_digits
    context.fields[f.TAKES_END] = takes_end


@inner
def note_letters(c: pi64, text: pu8, begin: i64, n_bytes: i64) -> None:
    """Note where ASCII letters are in the window text[:n_bytes], which begins at begin of the data.

    For O200K these are those in lower case, as only they can follow each other in any number.
    """
    bits = uint64_at(c[f.LETTER_BITS])
    c[f.WINDOW_BEGIN], c[f.WINDOW_END] = begin, begin + n_bytes
    is_cased = c[f.SCANNER] == CASES
    for block in range((n_bytes + 63) >> 6):
        bits[block] = _lower_bits(text, block << 6) if is_cased else _letter_bits(text, block << 6)


@inner
def plain_end(c: pi64, text: pu8, place: i64, n_bytes: i64) -> i64:
    """Find the end of the most frequent tokens of ASCII text in a window; 0 for all others.

    They are words with a blank before them or none, and a symbol before a blank. The branches are
    few, because most tokens of a text take the same ones.
    """
    bits = uint64_at(c[f.LETTER_BITS])
    block, shift = place >> 6, np.uint64(place & 63)
    # The letters from the place on; the bits of two blocks, shifted twice as 64 is no shift.
    letters = bits[block] >> shift | bits[block + 1] << _ONE << (np.uint64(63) - shift)
    first = text[place]
    n_first = np.int64(first == _BLANK)
    is_cased = c[f.SCANNER] == CASES
    if is_cased:
        # A capital may begin a word.
        n_first += np.int64(np.uint8(text[place + n_first] - np.uint8(65)) < np.uint8(26))
    n_letters = count_trailing_zeros(~(letters >> np.uint64(n_first)) | _LAST_BIT)
    if n_letters > 0:
        after = place + n_first + n_letters
        last = text[after]
        is_plain = after < n_bytes and last < 0x80 and n_letters < 60
        is_contracted = is_cased and last == _APOSTROPHE
        return after if is_plain and not is_contracted else 0
    if text[place + 1] == _BLANK and place + 1 < n_bytes and first < 0x80:
        return place + 1 if uint8_at(c[f.CLASS_OF])[first] & _OTHER else 0
    return 0


@inner
def token_end(c: pi64, text: pu8, begin: i64, end: i64) -> i64:
    """Find the end of the pre-token at begin; -1 if no UTF-8 character begins there."""
    class_of = uint8_at(c[f.CLASS_OF])
    label, length = _label_at(text, begin, end, class_of)
    if length == 0:
        return -1
    after = begin + length
    if label == _NUMBER:
        return _number_end(text, after, end, class_of, c[f.MAX_DIGITS])
    scanner = c[f.SCANNER]
    if scanner == WORDS:
        return _end_of_words(c, text, begin, after, end, class_of, label)
    if scanner == CASES:
        return _end_of_cases(c, text, begin, after, end, class_of, label)
    if scanner == DIGITS:
        return _end_of_digits(c, text, begin, after, end, class_of, label)
    return _end_of_pieces(c, text, begin, after, end, class_of, label)


@inner
def _label_at(text: pu8, i: i64, end: i64, class_of: pu8) -> tuple[i64, i64]:
    """Return (label, length in bytes) of the character at i, and (0, 0) for one that is none."""
    byte = np.int64(text[i])
    if byte < 0x80:
        return np.int64(class_of[byte]), 1
    point, length = decode_character(load_tail(text, i, end))
    if length == 0:
        return 0, 0
    return np.int64(class_of[point]), length


@inner
def _label_before(text: pu8, i: i64, end: i64, class_of: pu8) -> i64:
    """Return the label of the character at i; 0 at the end of the text."""
    if i >= end:
        return 0
    label, _ = _label_at(text, i, end, class_of)
    return label


@inner
def _run_end(text: pu8, i: i64, end: i64, class_of: pu8, labels: i64) -> i64:
    """Find the end of a run of characters with one of several labels."""
    while i < end:
        label, length = _label_at(text, i, end, class_of)
        if label & labels == 0:
            break
        i += length
    return i


@inner
def _letters_end(c: pi64, text: pu8, i: i64, end: i64, class_of: pu8, labels: i64) -> i64:
    """Do what _run_end does, where the run is mostly the ASCII letters that LETTER_BITS has."""
    bits = uint64_at(c[f.LETTER_BITS])
    first, limit = c[f.WINDOW_BEGIN], c[f.WINDOW_END]
    while i < limit:
        place = i - first
        others = ~bits[place >> 6] >> np.uint64(place & 63)
        if others == np.uint64(0):
            i += 64 - (place & 63)
            continue
        i += count_trailing_zeros(others)
        if i >= limit:
            return _run_end(text, limit, end, class_of, labels)
        label, length = _label_at(text, i, end, class_of)
        if label & labels == 0:
            return i
        i += length
    return _run_end(text, i, end, class_of, labels)


@inner
def _number_end(text: pu8, after: i64, end: i64, class_of: pu8, max_digits: i64) -> i64:
    for _ in range(max_digits - 1):
        if after >= end:
            break
        label, length = _label_at(text, after, end, class_of)
        if label != _NUMBER:
            break
        after += length
    return after


@inner
def _contraction_end(text: pu8, i: i64, end: i64) -> i64:
    r"""Match (?i:'s|'t|'re|'ve|'m|'ll|'d) at i, where an apostrophe is; returns i if there is none.

    Without regard to case, "ſ" (U+017F) is an "s" too.
    """
    if i + 1 >= end:
        return i
    first = np.int64(text[i + 1]) | 32
    if first == 115 or first == 116 or first == 109 or first == 100:
        return i + 2
    if i + 2 >= end:
        return i
    if text[i + 1] == 0xC5 and text[i + 2] == 0xBF:
        return i + 3
    second = np.int64(text[i + 2]) | 32
    if first == 108 and second == 108:  # ll
        return i + 3
    if (first == 118 or first == 114) and second == 101:
        return i + 3
    return i


@inner
def _line_end(text: pu8, i: i64, end: i64) -> i64:
    r"""Match [\r\n]* at i."""
    while i < end and (text[i] == 10 or text[i] == 13):
        i += 1
    return i


@inner
def _spaces_end(
    text: pu8, begin: i64, end: i64, class_of: pu8, borders: i64, takes_end: i64
) -> i64:
    r"""Match \s*[\r\n]+|\s+(?!\S)|\s+ at a space or a line break.

    Args:
        borders: labels before which the text counts as ended.
        takes_end: whether \s+$ stands before these alternatives.
    """
    after_break = np.int64(-1)
    last = i = begin
    label = np.int64(0)
    while i < end:
        label, length = _label_at(text, i, end, class_of)
        if label & _BLANKS == 0:
            break
        last = i
        i += length
        if label & _BREAK:
            after_break = i
    is_end = i == end or label & borders != 0
    if is_end and takes_end:
        return i
    if after_break >= 0:
        return after_break
    return last if not is_end and last > begin else i


@inner
def _end_of_words(
    c: pi64, text: pu8, begin: i64, after: i64, end: i64, class_of: pu8, label: i64
) -> i64:
    r"""CL100K, LLAMA3, QWEN2 and NANOCHAT, which differ in \p{N}{1,3} and at the end of a text.

    (?i:'s|...)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|...
    """
    if label & _LETTER:
        return _letters_end(c, text, after, end, class_of, _LETTER)
    if label & _BREAK == 0:
        following = _label_before(text, after, end, class_of)
        if following & _LETTER:
            if text[begin] == _APOSTROPHE:
                end_of_contraction = _contraction_end(text, begin, end)
                if end_of_contraction > begin:
                    return end_of_contraction
            return _letters_end(c, text, after, end, class_of, _LETTER)
        if label & (_OTHER | _MARK) or (text[begin] == _BLANK and following & (_OTHER | _MARK)):
            i = _run_end(text, after, end, class_of, _OTHER | _MARK)
            return _line_end(text, i, end)
    return _spaces_end(text, begin, end, class_of, 0, c[f.TAKES_END])


@inner
def _end_of_cases(
    c: pi64, text: pu8, begin: i64, after: i64, end: i64, class_of: pu8, label: i64
) -> i64:
    r"""O200K, with U for [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}] and l for [\p{Ll}\p{Lm}\p{Lo}\p{M}].

    X?U*l+(?i:'s|...)?|X?U+l*(?i:'s|...)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|...
    where X is [^\r\n\p{L}\p{N}], which a mark is as well.
    """
    i = np.int64(-1)
    if label & _LETTER:
        i = _cased_end(c, text, begin, end, class_of, True)
    elif label & _BREAK == 0:
        is_word = _label_before(text, after, end, class_of) & _WORD
        if is_word:
            # A mark that is X leaves the word to U*l+, or else is a word without an X.
            i = _cased_end(c, text, after, end, class_of, label & _MARK == 0)
        if i < 0 and label & _MARK:
            i = after
    if i >= 0:
        if i < end and text[i] == _APOSTROPHE:
            return _contraction_end(text, i, end)
        return i
    is_after_blank = text[begin] == _BLANK and _label_before(text, after, end, class_of) & _OTHER
    if label & _OTHER or is_after_blank:
        i = _run_end(text, after, end, class_of, _OTHER | _MARK)
        while i < end and (text[i] == 10 or text[i] == 13 or text[i] == _SLASH):
            i += 1
        return i
    return _spaces_end(text, begin, end, class_of, 0, 0)


@inner
def _cased_end(
    c: pi64, text: pu8, begin: i64, end: i64, class_of: pu8, may_be_upper: boolean
) -> i64:
    """Match U*l+, or else U+ if it may be; -1 if neither does.

    U* takes as much as it can, and gives back characters until l+ has one: without a lower-case
    letter after the run, this is the last one that is both U and l.
    """
    after_both = np.int64(-1)
    i = begin
    while i < end:
        label, length = _label_at(text, i, end, class_of)
        if label & _LOWER:
            return _letters_end(c, text, i + length, end, class_of, _LOWER | _CASELESS | _MARK)
        if label & _WORD == 0:
            break
        i += length
        if label & (_CASELESS | _MARK):
            after_both = i
    if after_both >= 0:
        return after_both
    return i if may_be_upper and i > begin else -1


@inner
def _end_of_digits(
    c: pi64, text: pu8, begin: i64, after: i64, end: i64, class_of: pu8, label: i64
) -> i64:
    r"""SMOLLM: each \p{N} alone, and what lies between two of them cut by GPT-2's pattern.

    '(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
    """
    others = _OTHER | _MARK
    if label & _LETTER:
        return _letters_end(c, text, after, end, class_of, _LETTER)
    if label & others:
        if text[begin] == _APOSTROPHE:
            i = _contraction_end(text, begin, end)
            # The contractions of GPT-2 are in lower case.
            is_lower = True
            for k in range(begin + 1, i):
                is_lower &= text[k] >= 97 and text[k] < 0x80
            if i > begin and is_lower:
                return i
        return _run_end(text, after, end, class_of, others)
    if text[begin] == _BLANK:
        following = _label_before(text, after, end, class_of)
        if following & _LETTER:
            return _letters_end(c, text, after, end, class_of, _LETTER)
        if following & others:
            return _run_end(text, after, end, class_of, others)
    last = i = begin
    following = np.int64(0)
    while i < end:
        following, length = _label_at(text, i, end, class_of)
        if following & _BLANKS == 0:
            break
        last = i
        i += length
    is_end = i == end or following & _NUMBER != 0
    return last if not is_end and last > begin else i


@inner
def _alike_end(text: pu8, i: i64, end: i64, class_of: pu8, label: i64) -> i64:
    """Find the end of a run of characters with one label."""
    while i < end:
        here, length = _label_at(text, i, end, class_of)
        if here != label:
            break
        i += length
    return i


@inner
def _left_over_end(text: pu8, i: i64, end: i64, class_of: pu8, label: i64) -> i64:
    """Find the end of a run of one label, without a last character that a letter follows."""
    while i < end:
        here, length = _label_at(text, i, end, class_of)
        if here != label:
            break
        following = _label_before(text, i + length, end, class_of)
        if following == _CJK if label == _CJK_NONE else following & (_ASCII | _ALPHA) != 0:
            break
        i += length
    return i


@inner
def _end_of_pieces(
    c: pi64, text: pu8, begin: i64, after: i64, end: i64, class_of: pu8, label: i64
) -> i64:
    r"""DEEPSEEK: \p{N}{1,3}, then runs of Chinese and Japanese, and these and all others cut by

    [ASCII symbol][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+
    |\s+(?!\S)|\s+, where control characters that nothing matches are left over as one piece.
    """
    letters = _ASCII | _ALPHA
    if label & letters:
        return _letters_end(c, text, after, end, class_of, letters)
    following = _label_before(text, after, end, class_of)
    if label == _CJK or label == _CJK_SYMBOL:  # noqa: SIM109 - no tuple to compile
        return _alike_end(text, after, end, class_of, label)
    if label == _CJK_NONE and following == _CJK:
        return _alike_end(text, after, end, class_of, _CJK)
    if label == _CJK_NONE:
        return _left_over_end(text, after, end, class_of, label)
    if label & _SYMBOL:
        if text[begin] < 0x80 and following & _ASCII:
            return _run_end(text, after, end, class_of, _ASCII)
        return _line_end(text, _run_end(text, after, end, class_of, _SYMBOL), end)
    if label & _BREAK == 0 and following & letters:
        return _letters_end(c, text, after, end, class_of, letters)
    if label & _CONTROL:
        return _left_over_end(text, after, end, class_of, label)
    if text[begin] == _BLANK and following & _SYMBOL:
        return _line_end(text, _run_end(text, after, end, class_of, _SYMBOL), end)
    return _spaces_end(text, begin, end, class_of, _NUMBER | _CJK, 0)
