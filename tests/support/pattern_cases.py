"""Strings that are hard to cut into words by any pattern, and truths to compare the cuts with."""

import random
from collections.abc import Iterator

import numpy as np
from bpe_cases import NOT_SPACES, SPACES

from fastlm.tokenizer.bpe.categories import UNASSIGNED, categories

UPPER, LOWER, TITLE = "ABSTZÉЖΣ", "abstlredvméжσſ", "ǅǈᾈ"
MODIFIER, CASELESS, MARKS = "ʰˢᵃ", "ªאあ中龥한ก", "\u0301\u0338\u0e31\u20dd\U000e0100"
NUMBERS, SYMBOLS = "0123456789½Ⅷ²৪", "!\"#$%&'()*+,-./:;<=>?@[]^_`{|}~¿€«。，😀🏽"
FORMATS = "\u200b\u200d\ufeff\x00\x1b\xad\ue000"
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


def any_characters(n_strings: int, seed: int = 0) -> Iterator[str]:
    """Yield seeded random strings of characters that Unicode 16 assigns."""
    assigned = np.flatnonzero(categories() != UNASSIGNED)
    assigned = assigned[(assigned < 0xD800) | (assigned >= 0xE000)].tolist()
    rng = random.Random(seed)
    for _ in range(n_strings):
        yield "".join(map(chr, rng.choices(assigned, k=rng.randrange(1, 12))))
