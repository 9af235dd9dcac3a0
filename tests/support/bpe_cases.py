"""Texts that are hard to cut into words, and the compiled cores as plain functions."""

from itertools import pairwise

from fastlm.tokenizer.bpe.count import WordCounter
from fastlm.tokenizer.bpe.merge import learn_merges
from fastlm.tokenizer.bpe.pretokenize import token_bounds

SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"


NOT_SPACES = "\x1c\x1d\x1e\x1f\u200b\u180e\ufeff\0"


CONTRACTIONS = [
    "'s",
    "'d",
    "'m",
    "'t",
    "'ll",
    "'ve",
    "'re",
    "'S",
    "'LL",
    "''s",
    "' s",
    "'l",
    "'v",
    "'",
]


CHARACTERS = list('abstrevlm 019.,!?-_"éßЖ中文字あ한ा́½Ⅷ²৪😀🇩🏽\u200d𝔘') + [" "] * 6 + ["\n"] * 3


TRICKY = [*CHARACTERS, *SPACES, *NOT_SPACES, *CONTRACTIONS]


def pretokenize(text: str) -> list[bytes]:
    data = text.encode()
    bounds = token_bounds(data).tolist()
    return [data[begin:end] for begin, end in pairwise(bounds)]


def count_words(counter: WordCounter) -> dict[bytes, int]:
    words = counter.words()
    bounds = words.bounds.tolist()
    tokens = [words.text[a:b].tobytes() for a, b in pairwise(bounds)]
    assert len(set(tokens)) == len(tokens)
    return dict(zip(tokens, words.counts.tolist(), strict=True))


def learn(text: str, n_merges: int, special_tokens: list[str] | None = None):
    counter = WordCounter([token.encode() for token in special_tokens or []])
    counter.add(text.encode())
    return learn_merges(counter.words(), n_merges)
