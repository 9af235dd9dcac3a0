"""The tokenizer in plain Python against the `regex` package, the plain truth and the kernels."""

import random
import subprocess
import sys
from collections import Counter
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from fastlm.tokenizer.bpe import count, encode, merge, reference, small
from fastlm.tokenizer.bpe.errors import UnknownByte
from fastlm.tokenizer.bpe.pretokenize import token_bounds
from fastlm.tokenizer.bpe.unicode_table import LETTER, NUMBER, OTHER, SPACE, code_point_classes

SPACES = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
NOT_SPACES = "\x1c\x1d\x1e\x1f\u200b\u180e\ufeff\0\x7f"
PIECES = [
    *'abstrevlmAZ019.,!?-_"éßЖ中文あ한\u0301½Ⅷ²৪😀🇩🏽\u200d𝔘', *SPACES, *NOT_SPACES, *" " * 8, *"\n\n\n",
    *"''''", "'s", "'d", "'ll", "'ve", "'re", "'S", "''s", "' s", "'l", "<s>", "<s><s>", "a b",
]  # fmt: skip
SPECIAL = ["<s>", "<s><s>", "<s><s>a", "a b", "'s", "é\n"]
ROOT = Path(__file__).resolve().parents[2]

PROPERTY = settings(max_examples=100, deadline=None, derandomize=True)

any_text = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20)
tricky_text = st.lists(st.one_of(st.sampled_from(PIECES), any_text), max_size=40).map("".join)
# Few letters make ties, overlapping runs and tokens that merge with each other.
dense_text = st.sampled_from(["a", "ab", "ab ", "abc' ", "aé\u3000", "0123. "]).flatmap(
    lambda alphabet: st.text(alphabet=alphabet, max_size=120)
)


def is_known_to_unicode_16(character: str) -> bool:
    """False for the letters and numbers of later versions, which regex alone knows."""
    is_other = code_point_classes()[ord(character)] == OTHER
    return not (is_other and regex.match(r"[\p{L}\p{N}]", character))


def compiled_tokens(text: str) -> list[str]:
    data = text.encode()
    return [data[a:b].decode() for a, b in pairwise(token_bounds(data).tolist())]


def vocabulary(merges, special_tokens=()):
    """The tokens in order, and the rows (left id, right id, merged id) of the merges."""
    tokens = [bytes([byte]) for byte in range(256)] + [left + right for left, right in merges]
    ids = {token: token_id for token_id, token in enumerate(tokens)}
    rows = [(ids[left], ids[right], ids[left + right]) for left, right in merges]
    return tokens + [token.encode() for token in special_tokens], rows


def make_encoder(merges, special_tokens=()):
    """An encoder with ids in the order learned, and the bytes of each id."""
    tokens, rows = vocabulary(merges, special_tokens)
    ranked = {(left, right): (rank, merged) for rank, (left, right, merged) in enumerate(rows)}
    first_special = len(tokens) - len(special_tokens)
    special = {token: first_special + i for i, token in enumerate(special_tokens)}
    return small.SmallEncoder(range(256), ranked, special), tokens


def make_compiled_encoder(merges, special_tokens=()):
    tokens, rows = vocabulary(merges, special_tokens)
    special = {token.encode(): tokens.index(token.encode()) for token in special_tokens}
    merge_rows = np.array(rows, np.int64).reshape(-1, 3)
    return encode.Encoder(np.arange(256), merge_rows, special, np.dtype(np.uint32))


def compiled_words(text: str, special_tokens=()) -> count.Words:
    counter = count.WordCounter([token.encode() for token in special_tokens])
    counter.add(text.encode())
    return counter.words()


def as_dict(words: count.Words) -> dict[bytes, int]:
    tokens = [words.text[a:b].tobytes() for a, b in pairwise(words.bounds.tolist())]
    return dict(zip(tokens, words.counts.tolist(), strict=True))


def learn(text: str, n_merges: int, special_tokens=(), max_token_bytes: int | None = None):
    return small.learn_merges(small.count_words([text], special_tokens), n_merges, max_token_bytes)


def learn_naively(words: dict[bytes, int], n_merges: int, max_token_bytes: int):
    """reference.learn_merges, blind to pairs that would be too long."""
    cut = {tuple(word[i : i + 1] for i in range(len(word))): n for word, n in words.items()}
    merges = []
    for _ in range(n_merges):
        counts: Counter = Counter()
        for word, n in cut.items():
            for pair in pairwise(word):
                counts[pair] += n if len(b"".join(pair)) <= max_token_bytes else 0
        counts += Counter()  # drops the zeros
        if not counts:
            break
        merges.append(max(counts, key=lambda pair: (counts[pair], pair)))
        cut = {tuple(reference.merge_pair(word, merges[-1])): n for word, n in cut.items()}
    return merges


MERGES = reference.learn_merges(
    ["the theatre's quick 中文 foxes aaaa we'll  see, it's the end\n\nthe end é é the quick"],
    60,
    [],
)
ENCODER, TOKENS = make_encoder(MERGES, SPECIAL)
COMPILED_ENCODER = make_compiled_encoder(MERGES, SPECIAL)


def test_import_and_use_load_neither_numba_nor_regex():
    program = (
        "import sys; from fastlm.tokenizer.bpe import small\n"
        "merges = small.learn_merges(small.count_words(['é é abab'], ['<s>']), 3)\n"
        "assert small.SmallEncoder(range(256), {}, {}).encode_to_list('é') == [195, 169]\n"
        "print(len(merges), [name for name in ('numba', 'regex', 'torch') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "3 []\n"


class TestPretokenize:
    @PROPERTY
    @given(tricky_text)
    def test_tokens_equal_the_pattern(self, text):
        text = "".join(filter(is_known_to_unicode_16, text))
        assert [token.encode() for token in small.pretokenize(text)] == reference.pretokenize(text)

    @PROPERTY
    @given(tricky_text)
    def test_tokens_equal_the_compiled_scan(self, text):
        assert small.pretokenize(text) == compiled_tokens(text)

    def test_tokens_equal_the_pattern_on_all_short_strings(self):
        for length in range(5):
            for characters in product("asle1.' \n\x1c\u3000é", repeat=length):
                text = "".join(characters)
                assert small.pretokenize(text) == regex.findall(reference.PATTERN, text)

    def test_every_code_point_is_cut_as_its_class_demands(self):
        # Beside a letter, a number and a mark a character joins those of its own class alone.
        classes = code_point_classes()
        for plane in range(0, 0x110000, 0x10000):
            expected = []
            for point in range(plane, plane + 0x10000):
                c = chr(point)
                if c == " ":
                    expected += ["a", " 1", " !"]
                else:
                    expected += {
                        LETTER: ("a" + c, "1", c, "!"),
                        NUMBER: ("a", c + "1" + c, "!"),
                        OTHER: ("a", c, "1", c + "!"),
                        SPACE: ("a", c, "1", c, "!"),
                    }[classes[point]]
            text = "".join(
                f"a{chr(point)}1{chr(point)}!" for point in range(plane, plane + 0x10000)
            )
            # Not compared by a bare assert: pytest would explain the difference for minutes.
            assert (small.pretokenize(text) == expected) is True, f"plane {plane >> 16}"

    @pytest.mark.parametrize("space", SPACES)
    def test_each_space_alone_in_runs_and_at_the_end(self, space):
        alone = ["a", " b"] if space == " " else ["a", space, "b"]
        assert small.pretokenize(f"a{space}b") == alone
        run = ["a", " ", " b"] if space == " " else ["a", space, space, "b"]
        assert small.pretokenize(f"a{space}{space}b") == run
        assert small.pretokenize(f"a{space}{space}{space}") == ["a", space * 3]
        assert small.pretokenize(f"1{space} .") == ["1", space, " ."]

    @pytest.mark.parametrize("character", NOT_SPACES)
    def test_characters_near_spaces_are_marks(self, character):
        assert small.pretokenize(f"a {character}.b") == ["a", f" {character}.", "b"]

    @pytest.mark.parametrize(
        ("text", "tokens"),
        [
            ("", []),
            ("It's 5", ["It", "'s", " 5"]),
            ("we'll  go\n\n now ", ["we", "'ll", " ", " go", "\n\n", " now", " "]),
            ("I'd've", ["I", "'d", "'ve"]),
            ("they're'm't", ["they", "'re", "'m", "'t"]),
            ("IT'S 'LL", ["IT", "'", "S", " '", "LL"]),
            ("'sé 'store 's''s", ["'s", "é", " '", "store", " '", "s", "''", "s"]),
            ("'lé 'é's", ["'", "lé", " '", "é", "'s"]),
            ("é'ſ l'ét'", ["é", "'", "ſ", " l", "'", "ét", "'"]),
            ("\u2019s ½Ⅷ٣", ["\u2019", "s", " ½Ⅷ٣"]),
        ],
    )
    def test_worked_examples(self, text, tokens):
        assert small.pretokenize(text) == tokens
        assert regex.findall(reference.PATTERN, text) == tokens

    def test_tokens_equal_the_compiled_scan_on_real_texts(self, text_dir):
        paths = [
            path
            for name in ("owt_sample", "tinystories_valid", "zhwiki_3M", "udhr_all", "blns")
            for path in text_dir.rglob(f"{name}.txt")
        ]
        assert paths
        for path in paths:
            text = path.read_bytes()[:500_000].decode("utf-8", "ignore")
            assert (small.pretokenize(text) == compiled_tokens(text)) is True, path.name


class TestEncoder:
    @PROPERTY
    @given(tricky_text)
    def test_ids_equal_plain_and_compiled_encoding(self, text):
        ids = ENCODER.encode_to_list(text)
        assert ids == COMPILED_ENCODER.encode(text.encode()).tolist()
        text = "".join(filter(is_known_to_unicode_16, text))
        spelled = [TOKENS[token_id] for token_id in ENCODER.encode_to_list(text)]
        assert spelled == reference.encode(text, MERGES, SPECIAL)

    @PROPERTY
    @given(st.text(alphabet="ab", min_size=1, max_size=300), st.integers(1, 30))
    def test_long_words_equal_plain_encoding(self, word, n_merges):
        merges = reference.learn_merges([word + "aaaaab"], n_merges, [])
        encoder, tokens = make_encoder(merges)
        assert [tokens[i] for i in encoder.encode_to_list(word)] == reference.encode(word, merges)

    @PROPERTY
    @given(
        st.text(alphabet="abc", min_size=2, max_size=150),
        st.lists(st.tuples(*[st.sampled_from("abc")] * 2, st.sampled_from("abc")), max_size=6),
    )
    def test_heap_and_scanning_agree_on_merges_in_any_order(self, word, rows):
        # Merges that give a symbol there already is come in no training, yet in users' files.
        merges = {
            (ord(left), ord(right)): (rank, ord(merged))
            for rank, (left, right, merged) in enumerate(rows)
        }
        ids = list(word.encode())
        by_heap = small._merge_by_heap(ids.copy(), merges)
        assert by_heap == small._merge_by_scanning(ids.copy(), merges)

    @pytest.mark.parametrize("n_bytes", [1, 2, 63, 64, 65, 66, 127, 257, 100_003])
    def test_a_run_of_one_letter_halves_and_halves(self, n_bytes):
        encoder, tokens = make_encoder([(b"a", b"a"), (b"aa", b"aa")])
        spelled = [tokens[i] for i in encoder.encode_to_list("a" * n_bytes)]
        rest = {0: [], 1: [b"a"], 2: [b"aa"], 3: [b"aa", b"a"]}[n_bytes % 4]
        assert spelled == [b"aaaa"] * (n_bytes // 4) + rest

    def test_the_longest_special_token_at_the_leftmost_place_wins(self):
        encoder, _ = make_encoder([], ["<s>", "<s><s>", "s><", "ab", "bcd"])
        assert encoder.encode_to_list("<s>") == [256]
        assert encoder.encode_to_list("<s><s><s>") == [257, 256]
        assert encoder.encode_to_list("<s><sabcd") == [
            256,
            ord("<"),
            ord("s"),
            259,
            ord("c"),
            ord("d"),
        ]
        assert encoder.encode_to_list("s><s><s>") == [258, 258, ord("s"), ord(">")]
        assert encoder.encode_to_list("") == []

    def test_special_tokens_are_taken_literally(self):
        encoder, _ = make_encoder([], [".*", "|", "a|b"])
        assert encoder.encode_to_list("a|bx.*|") == [258, ord("x"), 256, 257]

    def test_no_pre_token_or_merge_crosses_a_special_token(self):
        encoder, _ = make_encoder([(b"a", b"b")], ["<s>"])
        assert encoder.encode_to_list("a<s>b ab") == [ord("a"), 257, ord("b"), ord(" "), 256]

    def test_the_lowest_rank_is_applied_first_and_the_leftmost_of_it(self):
        encoder, tokens = make_encoder([(b"b", b"c"), (b"a", b"b"), (b"c", b"c"), (b"ab", b"c")])
        assert [tokens[i] for i in encoder.encode_to_list("abc")] == [b"a", b"bc"]
        assert [tokens[i] for i in encoder.encode_to_list("abccc")] == [b"a", b"bc", b"cc"]
        assert [tokens[i] for i in encoder.encode_to_list("ccc")] == [b"cc", b"c"]

    def test_a_byte_without_a_token_is_named_where_it_stands(self):
        byte_ids = [small.NO_TOKEN] * 256
        for i, byte in enumerate("aé<".encode()):
            byte_ids[byte] = i
        encoder = small.SmallEncoder(byte_ids, {}, {"<s>": 9, "b<": 10})
        for text, message in (
            ("aab", "byte 0x62, found at byte 2;"),
            ("é<s>éa\n", "byte 0x0a, found at byte 8;"),
            ("b<aaè", "byte 0xa8, found at byte 5;"),
        ):
            for _ in range(2):
                with pytest.raises(UnknownByte, match=message):
                    encoder.encode_to_list(text)
        assert encoder.encode_to_list("aé<s>b<é") == [0, 1, 2, 9, 10, 1, 2]

    @pytest.mark.parametrize("byte", [0x5C, 0x5D, 0x5E, 0x2D, 0x00, 0x0A])
    def test_a_byte_that_patterns_treat_specially_may_lack_a_token(self, byte):
        byte_ids = [small.NO_TOKEN if i == byte else i for i in range(256)]
        encoder = small.SmallEncoder(byte_ids, {}, {})
        others = "".join(chr(i) for i in range(128) if i != byte)
        assert encoder.encode_to_list(others) == list(others.encode())
        with pytest.raises(UnknownByte, match=f"byte 0x{byte:02x}, found at byte 1;"):
            encoder.encode_to_list("a" + chr(byte))

    def test_a_cache_that_overflows_gives_the_same_ids_and_stays_bounded(self, monkeypatch):
        rng = random.Random(0)
        text = " ".join("".join(rng.choices("theaq", k=rng.randrange(1, 9))) for _ in range(500))
        expected = make_encoder(MERGES)[0].encode_to_list(text)
        monkeypatch.setattr(small, "_MAX_WORDS", 7)
        encoder, _ = make_encoder(MERGES)
        for _ in range(2):
            assert encoder.encode_to_list(text) == expected
            assert 1 <= len(encoder._words) <= 7

    def test_long_words_are_not_kept(self):
        encoder, _ = make_encoder(MERGES)
        encoder.encode_to_list("a" * 1000 + " the")
        assert list(encoder._words) == [" the"]

    def test_changing_the_ids_returned_changes_no_later_ids(self):
        encoder, _ = make_encoder(MERGES)
        first = encoder.encode_to_list("the")
        expected = first.copy()
        first.append(0)
        assert encoder.encode_to_list("the") == expected

    def test_lone_surrogates_are_refused(self):
        with pytest.raises(UnicodeEncodeError):
            ENCODER.encode_to_list("a\ud800")
        with pytest.raises(UnicodeEncodeError):
            small.count_words(["\udfff"], [])

    def test_ids_equal_compiled_encoding_on_real_text(self, text_dir):
        data = (text_dir / "owt_sample.txt").read_bytes()[:300_000]
        text = data.decode("utf-8", "ignore")
        merges = merge.learn_merges(compiled_words(text, ["<|endoftext|>"]), 3000)
        encoder, _ = make_encoder(merges, ["<|endoftext|>"])
        expected = make_compiled_encoder(merges, ["<|endoftext|>"]).encode(text.encode())
        assert (encoder.encode_to_list(text) == expected.tolist()) is True


class TestCountWords:
    @PROPERTY
    @given(tricky_text, st.sampled_from([[], ["a"], ["ab", " a", "a b"], ["'s", "'s '"], SPECIAL]))
    def test_counts_equal_compiled_counts(self, text, special):
        assert small.count_words([text], special) == as_dict(compiled_words(text, special))

    def test_texts_are_counted_each_by_itself(self):
        counts = small.count_words(iter(["the a", "b the<s> the", "", "<s>"]), ["<s>"])
        assert counts == {b"the": 1, b" a": 1, b"b": 1, b" the": 2}


class TestLearnMerges:
    def test_handout_example(self):
        words = {b"low": 5, b"lower": 2, b"widest": 3, b"newest": 6}
        assert small.learn_merges(words, 6) == [
            (b"s", b"t"),
            (b"e", b"st"),
            (b"o", b"w"),
            (b"l", b"ow"),
            (b"w", b"est"),
            (b"n", b"e"),
        ]

    def test_ties_take_the_greater_pair_of_byte_strings(self):
        # By hand: (BA, A) is greater than (B, ZZ), which "BAA" < "BZZ" hides; the last pair made,
        # (BA, A), is as frequent as those that waited before it was.
        words = {b"BAA": 2, b"BZZ": 2}
        assert small.learn_merges(words, 9) == [
            (b"Z", b"Z"),
            (b"B", b"ZZ"),
            (b"B", b"A"),
            (b"BA", b"A"),
        ]
        assert small.learn_merges({b"\xff\xfe": 1, b"\x7f\xff": 1}, 1) == [(b"\xff", b"\xfe")]

    def test_overlapping_pairs_count_at_every_position(self):
        # aaa holds (a, a) twice: 2 * 2 = 4 beats (b, c) 3 times.
        words = {b"aaa": 2, b"bc": 3}
        assert small.learn_merges(words, 3) == [(b"a", b"a"), (b"b", b"c"), (b"aa", b"a")]

    def test_a_run_doubles_until_one_symbol_is_left(self):
        expected = [(b"a" * 2**k, b"a" * 2**k) for k in range(10)]
        assert small.learn_merges({b"a" * 1024: 1}, 100) == expected

    @pytest.mark.parametrize("words", [{}, {b"a": 5}, {b"a": 1, b"b": 2}])
    def test_words_without_pairs_give_no_merges(self, words):
        assert small.learn_merges(words, 10) == []

    def test_no_more_merges_than_asked(self):
        assert small.learn_merges({b"abab": 1}, 0) == []
        assert small.learn_merges({b"abab": 1}, 1) == [(b"a", b"b")]

    @PROPERTY
    @given(dense_text, st.integers(0, 40))
    def test_merges_equal_plain_merges(self, text, n_merges):
        assert learn(text, n_merges) == reference.learn_merges([text], n_merges, [])

    @PROPERTY
    @given(tricky_text)
    def test_merges_equal_compiled_merges(self, text):
        assert learn(text, 50, SPECIAL) == merge.learn_merges(compiled_words(text, SPECIAL), 50)

    @PROPERTY
    @given(dense_text, st.integers(1, 7))
    def test_merges_within_a_length_equal_plain_merges(self, text, max_token_bytes):
        words = small.count_words([text], [])
        expected = learn_naively(words, 40, max_token_bytes)
        assert small.learn_merges(words, 40, max_token_bytes) == expected

    def test_a_pair_too_long_leaves_its_place_to_the_next(self):
        words = {b"abcd": 9, b"ef": 1}
        assert small.learn_merges(words, 9, 2) == [(b"c", b"d"), (b"a", b"b"), (b"e", b"f")]
        assert small.learn_merges(words, 9, 1) == []
        assert small.learn_merges(words, 9, 4) == small.learn_merges(words, 9)

    def test_merges_equal_plain_merges_on_made_text(self):
        rng = random.Random(1)
        words = ["".join(rng.choices("aeinrstlo", k=rng.randrange(1, 9))) for _ in range(150)]
        text = " ".join(rng.choices(words, weights=[1 / (n + 1) for n in range(150)], k=3000))
        assert learn(text, 300) == reference.learn_merges([text], 300, [])
        counts = small.count_words([text], [])
        assert learn(text, 300, (), 4) == learn_naively(counts, 300, 4)

    @pytest.mark.parametrize("name", ["owt_sample", "tinystories_valid"])
    def test_merges_equal_compiled_merges_on_real_text(self, text_dir, name):
        data = (text_dir / f"{name}.txt").read_bytes()[:130_000]
        text = data.decode("utf-8", "ignore")
        expected = merge.learn_merges(compiled_words(text, ["<|endoftext|>"]), 9743)
        assert len(expected) > 2000
        assert (learn(text, 9743, ["<|endoftext|>"]) == expected) is True
