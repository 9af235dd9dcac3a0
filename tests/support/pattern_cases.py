"""Strings that are hard to cut into words by any pattern, and truths to compare the cuts with."""

import random
from collections.abc import Iterator

import numpy as np
from bpe_cases import NOT_SPACES, SPACES

from fastlm.tokenizer.bpe.categories import UNASSIGNED, categories

UPPER, LOWER, TITLE = "ABSTZÉЖΣ", "abstlredvméжσſ", "ǅǈᾈ"
MODIFIER, CASELESS, MARKS = "ʰˢᵃ", "ªאあ中龥한กーア", "\u0301\u0338\u0e31\u20dd\U000e0100"
NUMBERS, SYMBOLS = "0123456789½Ⅷ²৪", "!\"#$%&'()*+,-./:;<=>?@[]^_`{|}~¿€«。，・゛゠😀🏽"
FORMATS = "\u200b\u200d\ufeff\x00\x1b\xad\ue000\u3040\u3097"
WORDS = ["'s", "'S", "'ll", "'LL", "'lL", "'re", "'ve", "'d", "'ſ", "'", "''", "//", "\r\n", "\n"]
WORDS += [
    "the",
    "The",
    "THE",
    "cat's",
    "CAT'S",
    " x",
    "  ",
    "   ",
    " \n",
    "\n ",
    "12345",
    "a1",
    "。\n",
]
_POOLS = [UPPER, LOWER, TITLE, MODIFIER, CASELESS, MARKS, NUMBERS, SYMBOLS, FORMATS]
_POOLS += [SPACES, SPACES, NOT_SPACES, " ", "\r\n", "'", "/"]


def hard_strings(n_strings: int, seed: int = 0, n_parts: int = 12) -> Iterator[str]:
    """Yield seeded random strings of up to n_parts runs of one kind of character each."""
    rng = random.Random(seed)
    for _ in range(n_strings):
        parts = []
        for _ in range(rng.randrange(1, n_parts + 1)):
            if rng.random() < 0.3:
                parts.append(rng.choice(WORDS))
            else:
                pool = rng.choice(_POOLS)
                parts.append("".join(rng.choices(pool, k=rng.choice((1, 1, 1, 2, 3, 4, 7)))))
        yield "".join(parts)


_ASCII_WORDS = [
    "the",
    "The",
    "THE",
    "theM",
    "iPhone",
    "12",
    "123",
    "1234",
    "12345678",
    "a1",
    "1a",
    "'s",
    "'S",
    "'ll",
    "'lL",
    "'re",
    "''s",
    "it's",
    "don't",
    "'",
    "''",
    ".",
    "...",
    "//",
    "/",
    ",",
    "a.b",
    "(a",
    "(a)",
    "((a",
    "1'st",
    "s's's",
    "a'sB",
    "X'S'd",
    "A'ſ",
    '."a"',
    "--",
    "---",
    "x",
]
_ASCII_GAPS = [
    "",
    "",
    " ",
    " ",
    " ",
    "  ",
    "   ",
    " \n",
    "\n ",
    "\n",
    "\n\n",
    "\n  \n",
    "\t",
    "\t\t",
]
_ASCII_GAPS += [
    "\n\t",
    "\n    ",
    "\r\n",
    "\x0b",
    "\x0c",
    "\x1c",
    "\x00",
    "!\n",
    "!\n\n",
    "!\n/",
    "\n/",
]


def long_texts(n_texts: int, seed: int = 0) -> Iterator[str]:
    """Yield seeded random texts of hundreds of words, most of them in ASCII alone."""
    rng = random.Random(seed)
    for _ in range(n_texts):
        n_words = rng.choice([40, 150, 400])
        pairs = zip(
            rng.choices(_ASCII_WORDS, k=n_words), rng.choices(_ASCII_GAPS, k=n_words), strict=True
        )
        text = "".join(word + gap for word, gap in pairs)
        is_ascii = rng.random() < 0.7
        yield "".join(c for c in text if c.isascii()) if is_ascii else text.replace("iP", "“é—")


def any_characters(n_strings: int, seed: int = 0) -> Iterator[str]:
    """Yield seeded random strings of characters that Unicode 16 assigns."""
    assigned = np.flatnonzero(categories() != UNASSIGNED)
    assigned = assigned[(assigned < 0xD800) | (assigned >= 0xE000)].tolist()
    rng = random.Random(seed)
    for _ in range(n_strings):
        yield "".join(map(chr, rng.choices(assigned, k=rng.randrange(1, 12))))
