"""Patterns: their cuts against tiktoken and `tokenizers`, and tokenizers that have one."""

import copy
import functools
import json
import pickle
import warnings
from itertools import pairwise

import numpy as np
import pytest
import regex
import tiktoken
import tiktoken.load
import tokenizers
from pattern_cases import any_characters, hard_strings, long_texts

from fastlm.tokenizer import Tokenizer, train_bpe, train_bpe_from_documents
from fastlm.tokenizer.bpe import (
    blocks,
    categories,
    encode,
    lazy_encoder,
    learn,
    reference,
    small,
    token_walk,
    unicode_table,
)
from fastlm.tokenizer.bpe.context import Context
from fastlm.tokenizer.bpe.errors import InvalidUtf8
from fastlm.tokenizer.bpe.patterns import PATTERNS, Pattern, Step, find_pattern, pattern_of
from fastlm.tokenizer.bpe.pretokenize import WINDOW_BYTES, token_bounds

END = "<|endoftext|>"
NAMES = sorted(PATTERNS)
OTHER = r"[a-z]+|\d| ?[^\sa-z\d]+|\s+(?!\S)|\s"
"""A pattern without a name, whose matches leave nothing out"""
SPARSE = r"[a-z]+|\d\d"
"""A pattern that leaves most of a text out"""
TEXTS = list(hard_strings(300, seed=1))
HARD = list(hard_strings(2000, seed=10))
LONG = list(long_texts(80))


def trained(pattern: str, n_merges: int = 150) -> Tokenizer:
    texts = [*TEXTS, *["the theme of THE cats, it's 12345 中文中文  \n\n end.\n"] * 20]
    vocab, merges = train_bpe_from_documents(texts, 257 + n_merges, [END], pattern=pattern)
    return Tokenizer(vocab, merges, [END], pattern)


@pytest.fixture(scope="module", params=[*NAMES, OTHER, SPARSE])
def tokenizer(request) -> Tokenizer:
    return trained(request.param)


def plain_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of the reference."""
    pattern = find_pattern(tokenizer.pattern)
    tokens = reference.encode(text, tokenizer.merges, [END], pattern)
    return [tokenizer.token_to_id(token) for token in tokens]


class TestPatterns:
    def test_names_and_other_spellings_are_found(self):
        assert find_pattern("llama3") is PATTERNS["llama3"]
        for pattern in PATTERNS.values():
            assert find_pattern(pattern.spelled) == pattern
            assert pattern_of(pattern.steps) == pattern
        newest = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
        assert find_pattern(newest).name == "gpt2"
        assert find_pattern(OTHER) == Pattern("", (Step(OTHER),))

    def test_steps_of_any_kind_are_spelled_and_found_again(self):
        steps = (Step("a", "removed", True), Step("", "prefix_space"), Step(r"\s", "contiguous"))
        assert find_pattern(pattern_of(steps).spelled) == pattern_of(steps)

    @pytest.mark.parametrize("given", ["gpt3", "", "(a", "a*", "cl100k_base"])
    def test_what_is_no_pattern_is_refused_in_a_line(self, given):
        with pytest.raises(ValueError, match=r"^pattern must [^\n]*$"):
            find_pattern(given)
        with pytest.raises(ValueError, match=r"^pattern must [^\n]*$"):
            Tokenizer({0: b"a"}, [], pattern=given)

    def test_what_is_no_text_is_refused(self):
        with pytest.raises(
            TypeError, match="pattern must be a name or a regular expression: got 1"
        ):
            train_bpe_from_documents(["a"], 300, [], pattern=1)  # type: ignore[arg-type]

    def test_categories_make_the_classes(self):
        table = np.frombuffer(categories.categories(), np.uint8)
        class_of = np.full(9, unicode_table.OTHER, np.uint8)
        letters = [categories.UPPER, categories.LOWER, categories.CASELESS]
        class_of[letters] = unicode_table.LETTER
        class_of[categories.NUMBER] = unicode_table.NUMBER
        class_of[categories.SPACE] = unicode_table.SPACE
        assert class_of[table].tobytes() == unicode_table.code_point_classes()

    def test_categories_are_those_of_regex(self):
        expressions = {
            categories.UPPER: r"[\p{Lu}\p{Lt}]",
            categories.LOWER: r"\p{Ll}",
            categories.CASELESS: r"[\p{Lm}\p{Lo}]",
            categories.MARK: r"\p{M}",
            categories.SYMBOL: r"[\p{P}\p{S}]",
        }
        table = np.frombuffer(categories.categories(), np.uint8)
        # U+0295 is a lower-case letter up to Unicode 16, and none in the newer one of regex.
        assigned = [p for p in range(0x30000) if table[p] != categories.UNASSIGNED and p != 0x295]
        text = "".join(chr(p) for p in assigned if not 0xD800 <= p < 0xE000)
        for category, expression in expressions.items():
            found = set(map(ord, regex.findall(expression, text)))
            assert found == {p for p in assigned if table[p] == category}


class TestAgainstPeers:
    @pytest.mark.parametrize("name", NAMES)
    def test_tokenizers_cuts_as_the_reference(self, name, tmp_path):
        made = trained(name, n_merges=0)
        made.save(tmp_path)
        peer = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json")).pre_tokenizer
        for text in [*hard_strings(400, seed=2), *any_characters(100)]:
            found = [text[a:b].encode() for _, (a, b) in peer.pre_tokenize_str(text)]
            assert found == reference.pretokenize(text, PATTERNS[name]), repr(text)

    def test_ids_of_tokenizers(self, tokenizer, tmp_path):
        tokenizer.save(tmp_path)
        peer = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
        for text in [*hard_strings(300, seed=3), f"a{END}b {END} c\n{END}"]:
            assert tokenizer.encode(text) == peer.encode(text).ids, repr(text)

    def test_ids_of_tiktoken(self, tokenizer, tmp_path):
        from fastlm.export.targets import export_tiktoken

        if tokenizer.pattern == "deepseek":
            with pytest.raises(ValueError, match="tiktoken's pattern is one expression"):
                export_tiktoken(tokenizer, tmp_path / "ranks")
            return
        export_tiktoken(tokenizer, tmp_path / "ranks")
        told = json.loads((tmp_path / "ranks" / "encoding.json").read_text(encoding="utf-8"))
        ranks = tiktoken.load.load_tiktoken_bpe(str(tmp_path / "ranks" / "ranks.tiktoken"))
        peer = tiktoken.Encoding("made", mergeable_ranks=ranks, **told)
        for text in [*hard_strings(300, seed=4), f"a{END}b {END} c\n{END}"]:
            assert tokenizer.encode(text) == peer.encode(text, allowed_special="all"), repr(text)
        again = Tokenizer.load(tmp_path / "ranks")
        for text in hard_strings(50, seed=5):
            assert again.encode(text) == tokenizer.encode(text), repr(text)
        if tokenizer.pattern in PATTERNS:
            assert again.hash == tokenizer.hash


class TestTokenizers:
    def test_ids_are_those_of_the_reference(self, tokenizer):
        for text in [*hard_strings(300, seed=6), f"a{END}b {END} c\n{END}"]:
            ids = tokenizer.encode(text)
            assert ids == plain_ids(tokenizer, text), repr(text)
            assert tokenizer.decode(ids) == text
            assert tokenizer.encode_to_numpy(text.encode()).tolist() == ids

    def test_the_pattern_is_kept(self, tokenizer, tmp_path):
        tokenizer.save(tmp_path / "t")
        others = [Tokenizer.load(tmp_path / "t"), pickle.loads(pickle.dumps(tokenizer))]
        others.append(copy.copy(tokenizer))
        (tmp_path / "t" / "tables.npz").unlink()
        others += [Tokenizer.load(tmp_path / "t"), Tokenizer.load(tmp_path / "t/tokenizer.json")]
        for other in others:
            assert other.pattern == tokenizer.pattern
            assert other.hash == tokenizer.hash
            assert other.encode(TEXTS[0]) == tokenizer.encode(TEXTS[0])

    def test_the_hash_tells_patterns_apart(self, tokenizer):
        hashes = {
            Tokenizer(tokenizer.vocab, tokenizer.merges, [END], name).hash for name in PATTERNS
        }
        assert len(hashes) == len(PATTERNS)

    def test_one_replaces_another(self, tokenizer, tmp_path):
        other = Tokenizer(tokenizer.vocab, tokenizer.merges, [END])
        for first, second in ((tokenizer, other), (other, tokenizer)):
            first.save(tmp_path, replace=True)
            second.save(tmp_path, replace=True)
            assert Tokenizer.load(tmp_path).pattern == second.pattern
            assert Tokenizer.load(tmp_path).hash == second.hash

    def test_a_folder_that_is_not_whole_is_no_tokenizer(self, tmp_path):
        trained("cl100k").save(tmp_path)
        for name in ("special_tokens.json", "tokenizer.json", "tables.npz"):
            (tmp_path / name).unlink()
        with pytest.raises(FileNotFoundError, match="expected a tokenizer in"):
            Tokenizer.load(tmp_path)

    def test_a_folder_without_its_rules_is_refused(self, tmp_path):
        trained("cl100k").save(tmp_path)
        (tmp_path / "rules.json").unlink()
        with pytest.raises(FileNotFoundError, match=r"rules\.json is missing"):
            Tokenizer.load(tmp_path)
        # Versions that do not know the file take each entry for a token and its id.
        told = json.loads((tmp_path / "special_tokens.json").read_text())
        assert told == {END: told[END], "": "rules.json"}

    @pytest.mark.parametrize(
        "told",
        ["[]", "{", '{"pattern": "gpt3"}', '{"other": 1}', '{"added": [1]}', '{"before": 1}'],
    )
    def test_rules_that_are_none_are_refused_in_a_line(self, tmp_path, told):
        trained("cl100k").save(tmp_path)
        (tmp_path / "rules.json").write_text(told)
        with pytest.raises(ValueError, match=r"^[^\n]*rules\.json[^\n]*$"):
            Tokenizer.load(tmp_path)

    @pytest.mark.parametrize("pattern", [*NAMES, OTHER, SPARSE])
    def test_training_learns_the_merges_of_the_reference(self, pattern, monkeypatch):
        documents = TEXTS[:60]
        expected = reference.learn_merges(documents, 30, [END], find_pattern(pattern))
        _, merges = train_bpe_from_documents(documents, 257 + 30, [END], pattern=pattern)
        assert merges == expected
        monkeypatch.setattr(learn, "SMALL_BYTES", 0)  # by kernels, where there are some
        _, merges = train_bpe_from_documents(documents, 257 + 30, [END], pattern=pattern)
        assert merges == expected

    def test_training_on_a_file_is_training_on_its_text(self, tokenizer, tmp_path, monkeypatch):
        monkeypatch.setattr("fastlm.tokenizer.text_blocks.BLOCK_BYTES", 64)
        text = f"{END}".join(TEXTS[:80]).replace("\r", "")
        (tmp_path / "t.txt").write_text(text, encoding="utf-8", newline="")
        pattern = tokenizer.pattern
        whole = train_bpe_from_documents(text.split(END), 300, [END], pattern=pattern)
        assert train_bpe(tmp_path / "t.txt", 300, [END], pattern=pattern) == whole

    def test_files_and_streams_have_the_ids_of_the_text(self, tokenizer, tmp_path, monkeypatch):
        monkeypatch.setattr("fastlm.tokenizer.text_blocks.BLOCK_BYTES", 64)
        monkeypatch.setattr("fastlm.tokenizer.tokenizer._FIRST_STREAM_BYTES", 4)
        monkeypatch.setattr("fastlm.tokenizer.tokenizer._STREAM_BYTES", 32)
        text = f"{END}".join(TEXTS[:100])
        (tmp_path / "t.txt").write_text(text, encoding="utf-8", newline="")
        ids = tokenizer.encode(text)
        arrays = list(tokenizer.encode_file_blocks(tmp_path / "t.txt", n_threads=1))
        assert np.concatenate(arrays).tolist() == ids
        assert len(arrays) > 10
        chunks = [text[i : i + 7] for i in range(0, len(text), 7)]
        assert list(tokenizer.encode_iterable(chunks)) == ids


class TestCuts:
    """Whatever lies on its two sides, a cut changes no pre-token."""

    @pytest.mark.parametrize("name", NAMES)
    def test_a_cut_anywhere_it_is_allowed_changes_nothing(self, name):
        pattern = PATTERNS[name]
        n_cuts = 0
        for text in hard_strings(500, seed=7):
            whole = reference.pretokenize(text, pattern)
            data = text.encode()
            bounds = set(np.cumsum([0, *map(len, whole)]).tolist())
            for place in range(1, len(data)):
                if blocks.first_cut(data, place, [], pattern.cuts) != place:
                    continue
                n_cuts += 1
                parts = [data[:place].decode(), data[place:].decode()]
                pieces = [piece for part in parts for piece in reference.pretokenize(part, pattern)]
                assert pieces == whole, (text, place)
                assert place in bounds
        assert n_cuts > 200

    @pytest.mark.parametrize("cuts", ["spaces", "lines", "specials", "never"])
    def test_blocks_of_a_stream_are_cut_where_it_is_allowed(self, cuts):
        text = (
            "".join(hard_strings(50, seed=8))
            + f"one two\nthree{END}four\n\nfive 六。\n七"
            + "no end" * 500
        )
        data = text.encode()
        special = [END.encode()]
        pieces = list(blocks.cut_blocks([data[i : i + 5] for i in range(0, len(data), 5)], special, n_bytes=20, cuts=cuts))  # fmt: skip
        assert b"".join(pieces) == data
        ends = np.cumsum([0, *map(len, pieces)]).tolist()[1:-1]
        if cuts in ("spaces", "lines"):
            assert len(ends) > 10
            assert all(blocks.first_cut(data, end, special, cuts) == end for end in ends)
        elif cuts == "specials":
            assert ends == [data.index(END.encode()) + len(END)]
        else:
            assert ends == []

    def test_a_text_without_blanks_is_cut_at_its_line_breaks(self):
        data = "数。\n中文\n12\n".encode() * 20
        pieces = list(blocks.cut_blocks([data], [], n_bytes=10, cuts="lines"))
        assert len(pieces) == 2
        assert pieces[1] == b"12\n"


def test_a_pattern_without_kernels_is_told_of_once(monkeypatch):
    monkeypatch.setattr(lazy_encoder, "SMALL_CHARACTERS", 10)
    monkeypatch.setattr("fastlm.tokenizer.bpe.word_rules._told", [])
    tokenizer = trained(OTHER)
    with pytest.warns(UserWarning, match="has no compiled scanner"):
        tokenizer.encode("the cat sat on it")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trained(SPARSE).encode("the cat sat on it")


def test_known_patterns_have_kernels_with_the_same_ids(tokenizer, monkeypatch):
    if tokenizer.pattern not in PATTERNS:
        pytest.skip("a pattern of the user has no kernels")
    monkeypatch.setattr(lazy_encoder, "SMALL_CHARACTERS", 0)
    compiled = copy.copy(tokenizer)
    for text in [*hard_strings(200, seed=9), f"a{END}b {END} c\n{END}"]:
        assert compiled.encode(text) == tokenizer.encode(text), repr(text)


def test_a_text_in_pieces_has_the_ids_of_the_whole(tokenizer, monkeypatch):
    if tokenizer.pattern not in PATTERNS:
        pytest.skip("a pattern of the user has no kernels")
    monkeypatch.setattr(lazy_encoder, "SMALL_CHARACTERS", 0)
    monkeypatch.setattr(encode, "_SMALL_CHARACTERS", 0)
    monkeypatch.setattr(encode, "_PIECE_CHARACTERS", 24)
    in_pieces = copy.copy(tokenizer)
    words = "caf\xe9 and 123 o'clock. it's\n  so\u4e2d good\U0001f600 " * 3
    for text in [*(words + hard + words for hard in hard_strings(60, seed=3)), f"{words}{END} a b"]:
        assert in_pieces.encode(text) == tokenizer.encode(text), repr(text)
        assert in_pieces.encode_to_numpy(text).tolist() == tokenizer.encode(text)
        assert in_pieces.count(text) == len(tokenizer.encode(text))


class TestScanners:
    """The compiled and the plain way, against the reference."""

    @pytest.mark.parametrize("name", [name for name in NAMES if name != "gpt2"])
    def test_hard_strings(self, name):
        pattern = PATTERNS[name]
        plain = small.pretokenizer_of(pattern)
        for text in [*HARD, *any_characters(200, seed=1)]:
            expected = reference.pretokenize(text, pattern)
            assert [word.encode() for word in plain(text)] == expected, repr(text)
            assert compiled_words(text, pattern) == expected, repr(text)

    @pytest.mark.parametrize("name", [name for name in NAMES if name != "gpt2"])
    def test_long_texts(self, name):
        pattern = PATTERNS[name]
        for text in LONG:
            expected = reference.pretokenize(text, pattern)
            assert compiled_words(text, pattern) == expected, repr(text)

    @pytest.mark.parametrize("name", ["llama3", "o200k", "deepseek"])
    def test_every_code_point(self, name):
        """Each is one word with its neighbours or is not, as its category says."""
        pattern = PATTERNS[name]
        table = np.frombuffer(categories.categories(), np.uint8)
        skipped = (table == categories.UNASSIGNED) | (np.arange(len(table)) == 0x295)
        points = [p for p in np.flatnonzero(~skipped).tolist() if not 0xD800 <= p < 0xE000]
        plain = small.pretokenizer_of(pattern)
        for begin in range(0, len(points), 4000):
            text = "".join(f"a{chr(p)}b{chr(p)}{chr(p)}A" for p in points[begin : begin + 4000])
            words = plain(text)
            assert [word.encode() for word in words] == compiled_words(text, pattern)
            assert (regex_words(text, pattern) == words) is True, begin

    @pytest.mark.parametrize("name", [name for name in NAMES if name != "gpt2"])
    def test_tokens_across_windows(self, name):
        pattern = PATTERNS[name]
        n = WINDOW_BYTES
        for text in [
            *("x" * n + " y", "x" * (n - 1) + "'ll", " " * (n + 5) + "a", "é" * n + "b"),
            *(
                "1" * (n + 7),
                "." * n + "\n\n\n" + "b",
                "\n" * n + " " * n,
                "A" * n + "が" + "A" * n,
            ),
            *((" word" * n)[: n - k] + "'ſ \r\n,, x" for k in range(20)),
        ]:
            assert compiled_words(text, pattern) == reference.pretokenize(text, pattern), text[:9]

    @pytest.mark.parametrize("name", [name for name in NAMES if name != "gpt2"])
    @pytest.mark.parametrize(
        "invalid", [b"\x80", b"a\xc3", b" \xe4\xb8", b"x\xed\xa0\x80", b"\n\xff"]
    )
    def test_invalid_text_is_told_by_its_place(self, name, invalid):
        for before in (b"", b"some words, 12 ", b"x" * WINDOW_BYTES):
            data = before + invalid + b" and more"
            with pytest.raises(UnicodeDecodeError) as expected:
                data.decode()
            with pytest.raises(InvalidUtf8) as told:
                token_walk.token_bounds(data, PATTERNS[name])
            assert told.value.position == expected.value.start


@functools.cache
def context_of(pattern: Pattern) -> Context:
    return token_walk.scan_context(pattern)


def compiled_words(text: str, pattern: Pattern) -> list[bytes]:
    data = text.encode()
    is_gpt2 = pattern.name == "gpt2"
    bounds = (
        token_bounds(data)
        if is_gpt2
        else token_walk.token_bounds(data, pattern, context_of(pattern))
    )
    return [data[a:b] for a, b in pairwise(bounds.tolist())]


def regex_words(text: str, pattern: Pattern) -> list[str]:
    return [word.decode() for word in reference.pretokenize(text, pattern)]
