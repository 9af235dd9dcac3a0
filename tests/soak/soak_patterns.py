"""Proofs about patterns and known vocabularies too long for the suite: part of `make soak`."""

import functools
import json
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tiktoken
import tokenizers
from known_vocabularies import PATTERN_OF, find_vocabularies, read_vocabulary, write_ranks
from pattern_cases import any_characters, hard_strings, long_texts

from fastlm.tokenizer import Tokenizer
from fastlm.tokenizer.bpe import blocks, reference, small, token_walk
from fastlm.tokenizer.bpe.context import Context
from fastlm.tokenizer.bpe.patterns import PATTERNS, Pattern
from fastlm.tokenizer.bpe.pretokenize import token_bounds

pytestmark = pytest.mark.slow

SHARE = float(os.environ.get("FASTLM_SOAK_SHARE", "1"))
PIECE_CHARACTERS = 1 << 22


def share_of(count: int) -> int:
    return max(int(count * SHARE), 1)


def real_texts(text_dir: Path) -> Iterator[tuple[str, str]]:
    """(name, text) in pieces, cut anywhere: each is a text of its own."""
    for path in sorted(text_dir.rglob("*.txt")):
        text = path.read_bytes().decode("utf-8", "replace")
        for begin in range(0, share_of(len(text)), PIECE_CHARACTERS):
            yield path.name, text[begin : min(begin + PIECE_CHARACTERS, share_of(len(text)))]


@functools.cache
def context_of(pattern: Pattern) -> Context:
    return token_walk.scan_context(pattern)


def bounds_of(text: str, pattern: Pattern) -> np.ndarray:
    data = text.encode()
    if pattern.name == "gpt2":
        return token_bounds(data)
    return token_walk.token_bounds(data, pattern, context_of(pattern))


def expected_bounds(text: str, pattern: Pattern) -> np.ndarray:
    return np.cumsum([0, *map(len, reference.pretokenize(text, pattern))])


class TestPatterns:
    @pytest.mark.parametrize("seed", range(4))
    def test_random_strings_are_cut_as_regex_cuts_them(self, seed):
        """A million strings; each is scanned alone by every pattern."""
        n_strings = share_of(250_000)
        for text in hard_strings(n_strings, seed=100 + seed):
            for pattern in PATTERNS.values():
                found = bounds_of(text, pattern)
                assert np.array_equal(found, expected_bounds(text, pattern)), (pattern.name, text)
        print(f"{n_strings:,} strings, {len(PATTERNS)} patterns")

    @pytest.mark.parametrize("name", sorted(PATTERNS))
    def test_long_texts_are_cut_as_regex_cuts_them(self, name):
        n_texts, pattern = share_of(20_000), PATTERNS[name]
        for text in long_texts(n_texts, seed=12):
            found = bounds_of(text, pattern)
            assert np.array_equal(found, expected_bounds(text, pattern)), repr(text)
        print(f"{n_texts:,} texts")

    @pytest.mark.parametrize("name", sorted(PATTERNS))
    def test_any_characters_are_cut_as_regex_cuts_them(self, name):
        n_strings, pattern = share_of(200_000), PATTERNS[name]
        plain = small.pretokenizer_of(pattern)
        for text in any_characters(n_strings, seed=7):
            if (
                "\u0295" in text
            ):  # a letter in lower case up to Unicode 16, and none in that of regex
                continue
            expected = reference.pretokenize(text, pattern)
            assert [word.encode() for word in plain(text)] == expected, repr(text)
            assert np.array_equal(bounds_of(text, pattern), expected_bounds(text, pattern))
        print(f"{n_strings:,} strings")

    @pytest.mark.parametrize("name", sorted(PATTERNS))
    def test_real_texts_are_cut_as_regex_cuts_them(self, text_dir, name):
        n_bytes, pattern = 0, PATTERNS[name]
        for file, text in real_texts(text_dir):
            found = bounds_of(text, pattern)
            assert np.array_equal(found, expected_bounds(text, pattern)), file
            n_bytes += int(found[-1])
        print(f"{n_bytes:,} bytes")

    @pytest.mark.parametrize("name", sorted(PATTERNS))
    def test_a_cut_where_it_is_allowed_changes_nothing(self, text_dir, name):
        pattern = PATTERNS[name]
        n_cuts = 0
        for text in hard_strings(share_of(50_000), seed=8):
            whole = reference.pretokenize(text, pattern)
            data = text.encode()
            place = blocks.first_cut(data, 1, [], pattern.cuts)
            while place > 0:
                parts = [data[:place].decode(), data[place:].decode()]
                pieces = [piece for part in parts for piece in reference.pretokenize(part, pattern)]
                assert pieces == whole, (text, place)
                n_cuts += 1
                place = blocks.first_cut(data, place + 1, [], pattern.cuts)
        print(f"{n_cuts:,} cuts")


@pytest.fixture(scope="module")
def vocabularies() -> Path:
    folder = find_vocabularies()
    if folder is None:
        pytest.skip(
            "the package quicktok-v1 has known vocabularies: install the extra vocabularies"
        )
    return folder


class TestKnownVocabularies:
    @pytest.fixture(params=sorted(PATTERN_OF))
    def known(self, request, vocabularies, tmp_path) -> tuple[Tokenizer, tiktoken.Encoding, Path]:
        """The tokenizer of its rank file, the same of tiktoken, and the folder that it saved."""
        name = request.param
        tokenizer = Tokenizer.load(write_ranks(vocabularies, name, tmp_path / "ranks"))
        ranks, special = read_vocabulary(vocabularies, name)
        peer = tiktoken.Encoding(
            name,
            pat_str=PATTERN_OF[name].steps[0].regex,
            mergeable_ranks=ranks,
            special_tokens=special,
        )
        tokenizer.save(tmp_path / "saved")
        return Tokenizer.load(tmp_path / "saved"), peer, tmp_path / "saved"

    def test_ids_are_those_of_tiktoken_and_tokenizers(self, known, text_dir):
        tokenizer, of_tiktoken, folder = known
        of_hugging_face = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        n_strings = share_of(100_000)
        runs = [
            f"{a * n}{b * m}" for a in " -=*\n" for b in " a-\n" for n in range(40) for m in (1, 7)
        ]
        for text in [*hard_strings(n_strings, seed=9), *runs]:
            ids = tokenizer.encode(text)
            assert ids == of_tiktoken.encode(text, allowed_special="all"), repr(text)
            assert ids == of_hugging_face.encode(text).ids, repr(text)
        n_bytes = 0
        for file, text in real_texts(text_dir):
            ids = tokenizer.encode_to_numpy(text)
            assert np.array_equal(ids, of_tiktoken.encode_to_numpy(text, allowed_special="all"))
            assert ids.tolist() == of_hugging_face.encode(text).ids, file
            n_bytes += len(text.encode())
        print(f"{n_strings + len(runs):,} strings, {n_bytes:,} bytes")

    def test_normalized_texts_have_the_ids_of_tokenizers(self, known, text_dir, tmp_path):
        _, _, folder = known
        told = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        path = tmp_path / "tokenizer.json"
        path.write_text(json.dumps(told | {"normalizer": {"type": "NFC"}}), encoding="utf-8")
        tokenizer, peer = Tokenizer.load(path), tokenizers.Tokenizer.from_file(str(path))
        for text in hard_strings(share_of(20_000), seed=10):
            assert tokenizer.encode(text) == peer.encode(text).ids, repr(text)


def test_pairwise_bounds_cover_the_text():
    """The bounds that the proofs above compare are those of tokens, from first to last byte."""
    for pattern in PATTERNS.values():
        for text in hard_strings(100, seed=11):
            bounds = bounds_of(text, pattern).tolist()
            assert bounds[0] == 0
            assert bounds[-1] == len(text.encode())
            assert all(a < b for a, b in pairwise(bounds))
