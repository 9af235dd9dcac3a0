"""The compiled tokenizer cores against the plain ones, the `regex` package and Python's decoder."""

import random
import subprocess
import sys
import unicodedata
from collections import Counter

import numpy as np
import pytest
import regex
from bpe_cases import SPACES, TRICKY, count_words, learn, pretokenize
from hypothesis import given, settings
from hypothesis import strategies as st
from make_unicode_table import SURROGATES, UNICODE_16_COUNTS

from fastlm.tokenizer.bpe import blocks, encode, reference
from fastlm.tokenizer.bpe.context import Context
from fastlm.tokenizer.bpe.count import WordCounter
from fastlm.tokenizer.bpe.encode import NO_TOKEN, Encoder
from fastlm.tokenizer.bpe.errors import InvalidUtf8, UnknownByte
from fastlm.tokenizer.bpe.pretokenize import WINDOW_BYTES, class_table, token_bounds
from fastlm.tokenizer.bpe.unicode_table import LETTER, NUMBER, OTHER, SPACE

PROPERTY = settings(max_examples=150, deadline=None, derandomize=True)


def known_in_unicode_16(text: str) -> bool:
    """regex is newer than Unicode 16: leave out code points it alone knows."""
    return all(
        class_table()[ord(c)] != OTHER or not regex.match(r"[\p{L}\p{N}]", c)
        for c in text
        if ord(c) > 127
    )


any_text = st.text(alphabet=st.characters(exclude_categories=["Cs"])).filter(known_in_unicode_16)
tricky_text = st.lists(st.one_of(st.sampled_from(TRICKY), any_text), max_size=40).map("".join)


def random_tricky(rng: random.Random, n_pieces: int) -> str:
    return "".join(rng.choices(TRICKY, k=n_pieces))


def make_encoder(merges, special_tokens: list[str] | None = None) -> tuple[Encoder, list[bytes]]:
    """An encoder with ids in the order learned, and the bytes of each id."""
    tokens = [bytes([byte]) for byte in range(256)] + [left + right for left, right in merges]
    ids = {token: token_id for token_id, token in enumerate(tokens)}
    rows = [(ids[left], ids[right], ids[left + right]) for left, right in merges]
    special = {}
    for token in special_tokens or []:
        special[token.encode()] = len(tokens)
        tokens.append(token.encode())
    merge_rows = np.array(rows, np.int64).reshape(-1, 3)
    return Encoder(np.arange(256), merge_rows, special, np.dtype(np.uint32)), tokens


class TestUnicodeTable:
    def test_table_has_the_counts_of_unicode_16(self):
        assert len(class_table()) == 0x110000
        for label in (LETTER, NUMBER, SPACE):
            assert class_table().count(label) == UNICODE_16_COUNTS[label]

    def test_table_differs_from_regex_only_on_unassigned_code_points(self):
        text = "".join(chr(point) for point in range(0x110000) if point not in SURROGATES)
        expected = np.full(0x110000, OTHER, np.uint8)
        for label, pattern in ((LETTER, r"\p{L}"), (NUMBER, r"\p{N}"), (SPACE, r"\s")):
            expected[[ord(c) for c in regex.findall(pattern, text)]] = label
        for point in np.flatnonzero(expected != np.frombuffer(class_table(), np.uint8)).tolist():
            assert class_table()[point] == OTHER
            assert unicodedata.category(chr(point)) == "Cn"

    def test_spaces_are_the_25_of_the_pattern(self):
        assert len(SPACES) == 25
        assert "".join(chr(p) for p, c in enumerate(class_table()) if c == SPACE) == SPACES


class TestPretokenize:
    @PROPERTY
    @given(tricky_text)
    def test_bounds_equal_the_pattern(self, text):
        assert pretokenize(text) == reference.pretokenize(text)

    def test_bounds_equal_the_pattern_on_all_short_strings(self):
        alphabet = ["a", "s", "l", "e", "r", "1", ".", "'", " ", "\n", "\u3000", "é"]
        for length in range(4):
            for number in range(len(alphabet) ** length):
                text = "".join(
                    alphabet[number // len(alphabet) ** k % len(alphabet)] for k in range(length)
                )
                assert pretokenize(text) == reference.pretokenize(text)

    def test_bounds_equal_the_pattern_across_windows(self):
        rng = random.Random(0)
        for shift in range(24):
            # The same edge of the window falls on every byte of what stands there.
            edge = random_tricky(rng, 30)
            text = "a" * shift + "b " * ((WINDOW_BYTES - 40) // 2) + edge + random_tricky(rng, 8000)
            assert pretokenize(text) == reference.pretokenize(text)

    @pytest.mark.parametrize("unit", ["a", " ", "\n", "'", "é", "中", "\u3000", "'s", "1"])
    def test_one_token_longer_than_many_windows(self, unit):
        text = unit * 100_003 + "x y"
        assert pretokenize(text) == reference.pretokenize(text)

    def test_worked_example(self):
        assert token_bounds(b"It's 5").tolist() == [0, 2, 4, 6]
        assert token_bounds(b"").tolist() == [0]
        assert pretokenize("we'll  go\n\n now ") == [
            b"we", b"'ll", b" ", b" go", b"\n\n", b" now", b" ",
        ]  # fmt: skip

    def test_bounds_equal_the_pattern_on_real_texts(self, text_dir):
        for name in (
            "owt_sample",
            "tinystories_valid",
            "zhwiki_3M",
            "udhr_all",
            "blns",
            "emoji-test",
        ):
            for path in text_dir.rglob(f"{name}.txt"):
                text = path.read_bytes()[:1_000_000].decode("utf-8", "ignore")
                if name == "udhr_all":
                    text = "".join(c for c in text if known_in_unicode_16(c))
                assert pretokenize(text) == reference.pretokenize(text), path.name

    @PROPERTY
    @given(st.binary(max_size=12), st.integers(0, 3))
    def test_invalid_utf8_is_found_where_python_finds_it(self, garbage, shift):
        data = "é😀 a".encode()[shift:] + garbage + b" tail"
        expected = None
        try:
            data.decode()
        except UnicodeDecodeError as error:
            expected = error.start
        try:
            token_bounds(data)
            found = None
        except InvalidUtf8 as error:
            found = error.position
        assert found == expected


class TestCount:
    @PROPERTY
    @given(tricky_text, st.sampled_from([[], ["a"], ["ab", " a", "a b"], ["'s", "'s '"]]))
    def test_counts_equal_plain_counts(self, text, special):
        expected: Counter[bytes] = Counter()
        for piece, is_special in reference.split_special(text, special):
            if not is_special:
                expected.update(reference.pretokenize(piece))
        counter = WordCounter([token.encode() for token in special])
        counter.add(text.encode())
        assert count_words(counter) == expected
        counter.merge(counter.words())
        assert count_words(counter) == {word: 2 * n for word, n in expected.items()}

    @pytest.mark.parametrize("dtype", [np.int64, np.int32])
    @pytest.mark.parametrize("bounds", [[0, 6], [0, 3, 6]])
    def test_bounds_are_not_written_to(self, bounds, dtype):
        counter, given_bounds = WordCounter([]), np.array(bounds, dtype)
        given_bounds.flags.writeable = False
        counter.add(b"a bc d", given_bounds)
        assert given_bounds.tolist() == bounds
        n_cut = len(bounds) - 2  # documents that begin inside the word " bc"
        words = [b"a", b" bc", b" d"] if n_cut == 0 else [b"a", b" b", b"c", b" d"]
        assert count_words(counter) == Counter(words)

    def test_counts_survive_growth(self):
        words = [f"w{'x' * (number % 40)}{number}" for number in range(40_000)]
        counter = WordCounter([])
        counter.add("\n".join(words).encode())
        expected = Counter(token for word in words for token in reference.pretokenize(word))
        expected[b"\n"] = len(words) - 1
        assert count_words(counter) == expected

    def test_nul_bytes_tell_words_apart(self):
        counter = WordCounter([])
        for word in (b"\0", b"\0\0", b"." + b"\0" * 14, b"." + b"\0" * 15, b"." + b"\0" * 16):
            counter.add(word)
        assert sorted(count_words(counter).values()) == [1, 1, 1, 1, 1]


class TestLearnMerges:
    def test_handout_example(self):
        words = ["low"] * 5 + ["lower"] * 2 + ["widest"] * 3 + ["newest"] * 6
        text = "<|endoftext|>".join(words)
        pairs = [
            (b"s", b"t"),
            (b"e", b"st"),
            (b"o", b"w"),
            (b"l", b"ow"),
            (b"w", b"est"),
            (b"n", b"e"),
        ]
        assert learn(text, 6, ["<|endoftext|>"]) == pairs

    def test_ties_take_the_greater_pair_of_byte_strings(self):
        # By hand: all four words once; (BA, A) is greater than (B, ZZ), which "BAA" < "BZZ" hides.
        assert max([(b"A", b"B"), (b"A", b"C"), (b"B", b"ZZ"), (b"BA", b"A")]) == (b"BA", b"A")
        text = "\n".join(["BAA", "BAA", "BZZ", "BZZ"])
        assert learn(text, 6) == reference.learn_merges([text], 6, [])

    def test_overlapping_pairs_count_at_every_position(self):
        # aaa holds (a, a) twice: 2 * 2 = 4 beats (b, c) 3 times.
        text = "aaa<s>aaa<s>bc<s>bc<s>bc"
        assert learn(text, 3, ["<s>"]) == [(b"a", b"a"), (b"b", b"c"), (b"aa", b"a")]

    @PROPERTY
    @given(
        st.sampled_from(["a", "ab", "ab ", "abc' ", "aé\u3000", "0123. "]).flatmap(
            lambda alphabet: st.text(alphabet=alphabet, max_size=120)
        )
    )
    def test_merges_equal_plain_merges(self, text):
        assert learn(text, 25) == reference.learn_merges([text], 25, [])

    def test_merges_equal_plain_merges_on_made_text(self):
        rng = random.Random(1)
        words = ["".join(rng.choices("aeinrstlo", k=rng.randrange(1, 9))) for _ in range(150)]
        text = " ".join(rng.choices(words, weights=[1 / (n + 1) for n in range(150)], k=3000))
        assert learn(text, 300) == reference.learn_merges([text], 300, [])

    def test_merges_equal_plain_merges_on_real_text(self, text_dir):
        text = (text_dir / "tinystories_valid.txt").read_text(encoding="utf-8")[:60_000]
        special = ["<|endoftext|>"]
        assert learn(text, 120, special) == reference.learn_merges([text], 120, special)

    def test_one_long_run_doubles(self):
        merges = learn("a" * 1_000_000, 10)
        assert merges == [(b"a" * 2**k, b"a" * 2**k) for k in range(10)]


AT_A_GUARDED_PAGE = """
import ctypes, mmap
import numpy as np
from fastlm.tokenizer.bpe.count import WordCounter, Words

size = mmap.PAGESIZE
room = np.frombuffer(mmap.mmap(-1, 2 * size), np.uint8)
assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(room.ctypes.data + size), size, 0) == 0
text = room[size - 3 : size]
text[:] = list(b"abc")
counter = WordCounter([])
counter.merge(Words(text, np.array([0, 2, 3]), np.array([5, 7])))
print(counter.words().counts.sum())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mprotect is called as Linux has it")
def test_merging_counts_reads_nothing_past_the_words():
    """The byte after the text lies in a page that may not be read: doing so ends the process."""
    done = subprocess.run([sys.executable, "-c", AT_A_GUARDED_PAGE], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "12\n"), done.stderr


class TestBlocks:
    @PROPERTY
    @given(st.lists(tricky_text, max_size=8), st.integers(1, 30))
    def test_blocks_have_the_pre_tokens_of_the_whole(self, chunks, n_bytes):
        special = ["'s '", "a b", "\n"]
        text = "".join(chunks)
        cut = blocks.cut_blocks(
            [chunk.encode() for chunk in chunks], [t.encode() for t in special], n_bytes=n_bytes
        )
        pieces = [piece.decode() for piece in cut]
        assert "".join(pieces) == text
        tokens = [token for piece in pieces for token in reference.encode(piece, [], special)]
        assert tokens == reference.encode(text, [], special)

    def test_a_stream_with_spaces_is_cut_near_the_size_asked(self):
        chunks = [b"some words here\n"] * 1000
        sizes = [len(piece) for piece in blocks.cut_blocks(chunks, [b"<s>"], n_bytes=100)]
        assert max(sizes) <= 130

    def test_first_blocks_grow(self):
        cut = blocks.cut_blocks([b"abcd "] * 400, [], n_bytes=500, n_first_bytes=10)
        assert len(next(cut)) <= 15
        assert max(map(len, cut)) <= 510

    def test_map_in_order_keeps_order_and_stops_early(self):
        taken = []

        def numbers():
            for number in range(1000):
                taken.append(number)
                yield number

        results = blocks.map_in_order(lambda number: number * 2, numbers(), 3)
        assert [next(results) for _ in range(5)] == [0, 2, 4, 6, 8]
        results.close()
        assert len(taken) < 20


class TestEncoder:
    @PROPERTY
    @given(tricky_text)
    def test_ids_equal_plain_encoding(self, text):
        encoder, tokens = ENCODER
        ids = encoder.encode(text.encode())
        assert [tokens[i] for i in ids] == reference.encode(text, MERGES, SPECIAL)

    @PROPERTY
    @given(st.text(alphabet="ab ", min_size=60, max_size=400))
    def test_long_words_equal_plain_encoding(self, text):
        merges = reference.learn_merges([text.replace(" ", "") + "aaaaab"], 30, [])
        encoder, tokens = make_encoder(merges)
        word = text.replace(" ", "") or "a"
        ids = encoder.encode(word.encode())
        assert [tokens[i] for i in ids] == reference.encode(word, merges)

    def test_cache_that_overflows_gives_the_same_ids(self, monkeypatch):
        rng = random.Random(2)
        text = " ".join("".join(rng.choices("theaq", k=rng.randrange(1, 60))) for _ in range(6000))
        encoder, _ = make_encoder(MERGES)
        expected = encoder.encode(text.encode())
        monkeypatch.setattr(encode, "_MAX_SLOTS", 1 << 12)
        monkeypatch.setattr(encode, "_MAX_ARENA", 1 << 12)
        monkeypatch.setattr(encode, "_BYTES_PER_ID", 1 << 30)
        small, _ = make_encoder(MERGES)
        for _ in range(2):
            np.testing.assert_array_equal(small.encode(text.encode()), expected)

    @pytest.mark.parametrize("when", ["held", "sized"])
    @pytest.mark.parametrize("call", ["encode_to_list", "encode_text", "count"])
    def test_after_an_interrupt_at_any_buffer_ids_are_the_same(self, monkeypatch, call, when):
        """Ctrl-C, or a lack of memory, may come between a buffer and the field of its size."""
        rng = random.Random(2)
        text = " ".join("".join(rng.choices("theaqé", k=rng.randrange(1, 60))) for _ in range(4000))
        short = text[:500]
        expected = list(map(make_encoder(MERGES)[0].encode_to_list, (short, text)))
        hold, n_left, n_calls = Context.hold, 0, 0

        def interrupted(context, field, array):
            nonlocal n_left
            n_left -= 1
            if when == "held":
                hold(context, field, array)
            if n_left == 0:
                raise KeyboardInterrupt
            if when == "sized":
                hold(context, field, array)

        for n_calls in range(1, 1000):
            encoder, _ = make_encoder(MERGES)
            encoder.encode_to_list("the")
            n_left = n_calls
            with monkeypatch.context() as patch:
                patch.setattr(Context, "hold", interrupted)
                try:
                    getattr(encoder, call)(text)
                    break
                except KeyboardInterrupt:
                    pass
            assert list(map(encoder.encode_to_list, (short, text))) == expected
        assert n_calls > 5

    def test_documents_end_with_their_token_and_do_not_touch(self):
        encoder, tokens = make_encoder([(b"a", b"b")], ["<s>"])
        data = b"a" + b"b" + b"" + b"ab<s>"
        ids = encoder.encode(data, np.array([0, 1, 2, 2, 7]), end_of_text=257)
        assert [tokens[i] for i in ids] == [
            b"a", b"<s>", b"b", b"<s>", b"<s>", b"ab", b"<s>", b"<s>",
        ]  # fmt: skip

    @pytest.mark.parametrize("unit", ["a", " ", "thequickbrownfox", "中", "\n"])
    def test_a_megabyte_without_a_cut_completes(self, unit):
        encoder, tokens = ENCODER
        data = unit.encode() * (1_000_000 // len(unit.encode()))
        ids = encoder.encode(data)
        assert b"".join(tokens[i] for i in ids.tolist()) == data

    def test_a_byte_without_a_token_is_named(self):
        byte_ids = np.full(256, NO_TOKEN)
        byte_ids[ord("a")] = 0
        encoder = Encoder(byte_ids, np.empty((0, 3), np.int64), {}, np.dtype(np.uint16))
        for _ in range(2):
            with pytest.raises(UnknownByte, match=r"no token is byte 0x62, found at byte 2"):
                encoder.encode(b"aab")
        assert encoder.encode(b"aaa").tolist() == [0, 0, 0]


SPECIAL = ["<|endoftext|>", "<|end|>", "<|endoftext|><|endoftext|>", "a b", "'s"]
MERGES = reference.learn_merges(
    ["the theatre's quick 中文 foxes aaaa we'll  see, it's the end\n\nthe end é é the quick"],
    60,
    [],
)
ENCODER = make_encoder(MERGES, SPECIAL)
