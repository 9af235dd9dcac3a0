"""The reference of the tokenizer: the `regex` package and a merge loop, slow and plain.

`regex` implements a newer Unicode than the compiled scan; the two differ only on code points that
Unicode 16 leaves unassigned.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import regex

from fastlm.tokenizer.bpe.patterns import GPT2, Pattern

PATTERN = GPT2.steps[0].regex

Pair = tuple[bytes, bytes]


def pretokenize(text: str, pattern: Pattern = GPT2) -> list[bytes]:
    """Split a text without special tokens into pre-tokens."""
    pieces = [text]
    for step in pattern.steps:
        # Group 0 is a match, and what lies between two matches is a piece as well.
        assert step.kind == "isolated"
        split = regex.compile(f"({step.regex})").splititer
        pieces = [part for piece in pieces for part in split(piece) if part]
    return [piece.encode("utf-8") for piece in pieces]


def split_special(text: str, special_tokens: Iterable[str]) -> list[tuple[str, bool]]:
    """Split a text into (piece, is it special); the longest token wins at the leftmost position."""
    longest_first = sorted(special_tokens, key=len, reverse=True)
    if not longest_first:
        return [(text, False)]
    pieces = re.split("(" + "|".join(map(re.escape, longest_first)) + ")", text)
    return [(piece, index % 2 == 1) for index, piece in enumerate(pieces) if piece]


def merge_pair(symbols: Sequence[bytes], pair: Pair) -> list[bytes]:
    """Merge every occurrence of a pair, from left to right."""
    merged: list[bytes] = []
    i = 0
    while i < len(symbols):
        matches = tuple(symbols[i : i + 2]) == pair
        merged.append(b"".join(pair) if matches else symbols[i])
        i += 2 if matches else 1
    return merged


def learn_merges(
    documents: Iterable[str],
    n_merges: int,
    special_tokens: Iterable[str],
    pattern: Pattern = GPT2,
) -> list[Pair]:
    """Learn merges; every pair is counted again before each merge."""
    special = list(special_tokens)
    words: Counter[tuple[bytes, ...]] = Counter()
    for document in documents:
        for piece, is_special in split_special(document, special):
            if not is_special:
                words.update(
                    tuple(bytes([b]) for b in word) for word in pretokenize(piece, pattern)
                )
    merges: list[Pair] = []
    while len(merges) < n_merges:
        counts: Counter[Pair] = Counter()
        for word, count in words.items():
            for pair in pairwise(word):
                counts[pair] += count
        if not counts:
            break
        best = max(counts, key=lambda pair: (counts[pair], pair))
        merges.append(best)
        words = Counter({tuple(merge_pair(word, best)): count for word, count in words.items()})
    return merges


def encode_word(word: bytes, ranks: Mapping[Pair, int]) -> list[bytes]:
    """Apply merges to one pre-token, the lowest rank first."""
    symbols = [bytes([byte]) for byte in word]
    while len(symbols) > 1:
        pairs = set(pairwise(symbols))
        best = min(pairs, key=lambda pair: ranks.get(pair, len(ranks)))
        if best not in ranks:
            break
        symbols = merge_pair(symbols, best)
    return symbols


def encode(
    text: str,
    merges: Sequence[Pair],
    special_tokens: Iterable[str] = (),
    pattern: Pattern = GPT2,
) -> list[bytes]:
    """Encode a text to the bytes of its tokens."""
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    tokens: list[bytes] = []
    for piece, is_special in split_special(text, special_tokens):
        if is_special:
            tokens.append(piece.encode("utf-8"))
        else:
            for word in pretokenize(piece, pattern):
                tokens.extend(encode_word(word, ranks))
    return tokens
