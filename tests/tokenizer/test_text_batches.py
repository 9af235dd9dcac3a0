"""Counts, flat arrays and matrices of many texts against plain loops over encode."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pattern_cases import hard_strings
from tokenizer_cases import END, PROPERTY, SPECIAL, TEXT, small_tokenizer, texts

from fastlm.tokenizer import Tokenizer, text_batches
from fastlm.tokenizer.bpe.errors import UnknownByte

pytestmark = pytest.mark.usefixtures("path_taken")

SEVERAL = settings(PROPERTY, max_examples=60)


@pytest.fixture(scope="module")
def tokenizer(path_taken) -> Tokenizer:
    return small_tokenizer()


def rows_of(flat: tuple[np.ndarray, np.ndarray]) -> list[list[int]]:
    ids, offsets = flat
    assert (offsets[0], offsets[-1]) == (0, len(ids))
    return [ids[a:b].tolist() for a, b in pairwise(offsets)]


class TestFlat:
    @SEVERAL
    @given(
        documents=st.lists(texts, max_size=8),
        sizes=st.tuples(st.integers(1, 40), st.integers(1, 4)),
        n_threads=st.integers(1, 3),
        allowed=st.sets(st.sampled_from(SPECIAL)),
    )
    def test_each_text_has_the_ids_of_encode(self, tokenizer, documents, sizes, n_threads, allowed):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(text_batches, "_GROUP_CHARACTERS", sizes[0])
            patch.setattr(text_batches, "_GROUP_TEXTS", sizes[1])
            flat = tokenizer.encode_batch_flat(
                documents, n_threads=n_threads, allowed_special=allowed
            )
            counts = tokenizer.count_batch(documents, allowed_special=allowed)
            lists = tokenizer.encode_batch(documents, n_threads=n_threads, allowed_special=allowed)
        assert (flat[0].dtype, flat[1].dtype) == (np.uint16, np.int64)
        rows = [tokenizer.encode(text, allowed_special=allowed) for text in documents]
        assert rows_of(flat) == lists == rows
        assert counts == list(map(len, rows))

    @pytest.mark.parametrize("documents", [[], [""], ["", "", ""], ["", "the", ""], [END, ""]])
    def test_empty_texts_and_no_texts(self, tokenizer, documents):
        assert rows_of(tokenizer.encode_batch_flat(documents)) == list(
            map(tokenizer.encode, documents)
        )
        assert tokenizer.count_batch(documents) == [tokenizer.count(text) for text in documents]

    def test_large_texts_among_many_small_ones(self, tokenizer):
        large = "the cat sat\u3000on " * 30_000
        documents = ["a cat"] * 40_000 + [large, "", "x" * 20_000, "mat"] + ["the"] * 20_000
        ids, offsets = tokenizer.encode_batch_flat(documents, n_threads=2)
        assert len(offsets) == len(documents) + 1
        for index in (0, 39_999, 40_000, 40_001, 40_002, 40_003, 60_003):
            expected = tokenizer.encode(documents[index])
            assert ids[offsets[index] : offsets[index + 1]].tolist() == expected

    def test_lists_of_long_and_short_texts(self, tokenizer):
        for documents in (
            ["the cat sat " * 500, "中文 " * 900],
            ["the cat"] * 700,
            ["the cat sat " * 500, "a"],
        ):
            expected = [tokenizer.encode_to_numpy(text).tolist() for text in documents]
            assert tokenizer.encode_batch(documents) == expected
            expected[0].append(1)  # a list is nobody else's
            assert tokenizer.encode_batch(documents)[0] == expected[0][:-1]

    def test_any_iterable_and_subclasses_of_str(self, tokenizer):
        expected = [tokenizer.encode(text) for text in ("the", "", "中cat")]
        for kind in (tuple, iter, np.array, lambda rows: (row for row in rows)):
            assert rows_of(tokenizer.encode_batch_flat(kind(["the", "", "中cat"]))) == expected
        shout = type("Shout", (str,), {"__len__": lambda s: 1, "__str__": lambda s: "!"})
        assert rows_of(tokenizer.encode_batch_flat([shout("the"), "", "中cat"])) == expected

    def test_bounds_of_an_earlier_batch_are_not_written_to(self, tokenizer):
        _, offsets = tokenizer.encode_batch_flat(["the", "cat"])
        before = offsets.tolist()
        tokenizer.encode_to_numpy("the cat sat on the mat" * 100)
        list(tokenizer.encode_documents(["a cat"] * 50, end_of_text=None))
        assert offsets.tolist() == before

    @pytest.mark.parametrize(
        "method", ["encode_batch", "encode_batch_flat", "count_batch", "encode_batch_padded"]
    )
    def test_what_is_no_list_of_texts_is_refused(self, tokenizer, method):
        encode = getattr(tokenizer, method)
        for given_texts, message in (
            ("the cat", "expected several texts, got one str: put it in a list"),
            (b"the cat", "expected several texts, got one bytes: put it in a list"),
            ({"the", "cat"}, "expected several texts, got a set, whose order is arbitrary"),
            ({"the": 1}, "expected several texts, got a dict"),
            (None, "expected several texts, got NoneType: give a list of str"),
            (5, "expected several texts, got int: give a list of str"),
            (np.array("the"), "expected several texts, got ndarray: give a list of str"),
            (np.int8(5), "expected several texts, got int8: give a list of str"),
            (["the", b"cat"], "expected a text as str, got bytes: decode it first"),
            (["the", None], "expected a text as str, got NoneType: decode it first"),
            ([["the"]], "expected a text as str, got list: decode it first"),
            (np.array([1, 2]), "expected a text as str, got int64: decode it first"),
        ):
            with pytest.raises(TypeError, match=f"^{message}"):
                encode(given_texts)
        message = r"^text 1 must be .* character 2 is the lone surrogate '\\ud800'"
        with pytest.raises(ValueError, match=message):
            encode(["é", "ab\ud800"])
        with pytest.raises(ValueError, match=r"^text 1 must not hold the special token '<\|end"):
            encode(["a", "b<|end|>", END], disallowed_special={"<|end|>"}, allowed_special={END})
        with pytest.raises(ValueError, match="n_threads must be at least 1: got 0"):
            encode(["a"], n_threads=0)
        with pytest.raises(ValueError, match="allowed_special must name special tokens"):
            encode(["a"], allowed_special={"<none>"})

    def test_a_byte_without_a_token_is_named_with_its_text(self, path_taken, monkeypatch):
        tokenizer = Tokenizer(dict(enumerate([b"a", b"b", b" ", b"\xc3", b"\xa9"])), [])
        for group_texts in (1, 2, 9):
            monkeypatch.setattr(text_batches, "_GROUP_TEXTS", group_texts)
            message = "^the vocabulary must cover every byte of text 3: no token is byte 0x63, found at byte 3;"
            for encode in (tokenizer.encode_batch, tokenizer.encode_batch_flat):
                with pytest.raises(UnknownByte, match=message):
                    encode(["ab", "", "é", "éac", "b"])
                with pytest.raises(UnknownByte, match="byte of text 2: .* found at byte 0;"):
                    encode(["ab", "", "ca", ""])


class TestCount:
    @PROPERTY
    @given(text=texts, allowed=st.sets(st.sampled_from(SPECIAL)))
    def test_it_is_the_number_of_ids(self, tokenizer, text, allowed):
        assert tokenizer.count(text) == len(tokenizer.encode(text))
        expected = len(tokenizer.encode(text, allowed_special=allowed))
        assert tokenizer.count(text, allowed_special=allowed) == expected

    @pytest.mark.parametrize(
        "text",
        [
            TEXT * 3000,
            "x" * 300_000,  # one token for the merges, which does not fit the buffer
            "the " + "ab" * 90_000 + " cat" * 30_000,
            "é" * 40_000 + " 中文" * 40_000,
            " " * 50_000,
            END * 20_000,
        ],
        ids=["text", "one word", "words", "not ASCII", "blanks", "special tokens"],
    )
    def test_long_texts(self, tokenizer, text):
        for _ in range(2):  # a buffer that was filled is used again
            assert tokenizer.count(text) == len(tokenizer.encode_to_numpy(text))
        assert tokenizer.encode("the cat") == tokenizer.encode_to_numpy("the cat").tolist()

    def test_what_is_no_text_is_refused(self, tokenizer):
        for text in (b"the", None, 5, ["the"]):
            with pytest.raises(TypeError, match="^expected a text as str, got "):
                tokenizer.count(text)
        with pytest.raises(ValueError, match="lone surrogate"):
            tokenizer.count("a\udfff")
        with pytest.raises(ValueError, match="must not hold the special token"):
            tokenizer.count(END, allowed_special=(), disallowed_special="all")
        vocab = dict(enumerate([b"a", b" "]))
        with pytest.raises(UnknownByte, match="found at byte 12000;"):
            Tokenizer(vocab, []).count("a " * 6000 + "b")


OWN_PATTERN = r"[a-z]+|[^a-z]"
ADDED = [
    {"id": 300, "content": "<|mask|>", "lstrip": True, "special": True},
    {"id": 301, "content": "the_e\u0301", "normalized": True, "special": False},
]


class TestOtherRules:
    """The ids of batches and counts are those of encode, whatever a tokenizer does with a text."""

    @pytest.fixture(
        params=["cl100k", "o200k", "deepseek", OWN_PATTERN, "NFC", "prepended", "added tokens"]
    )
    def ruled(self, request, path_taken, tmp_path) -> Tokenizer:
        plain = small_tokenizer()
        if request.param in ("cl100k", "o200k", "deepseek", OWN_PATTERN):
            return Tokenizer(plain.vocab, plain.merges, SPECIAL, pattern=request.param)
        plain.save(tmp_path)
        told = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
        told["normalizer"] = {"type": "NFC"}
        if request.param == "prepended":
            told["normalizer"] = {"type": "Prepend", "prepend": "_"}
        if request.param == "added tokens":
            told["added_tokens"] += ADDED
        (tmp_path / "own.json").write_text(json.dumps(told), encoding="utf-8")
        return Tokenizer.load(tmp_path / "own.json")

    @pytest.mark.filterwarnings("ignore:the pattern .* has no compiled scanner")
    def test_batches_and_counts(self, ruled, monkeypatch):
        monkeypatch.setattr(text_batches, "_GROUP_TEXTS", 7)
        documents = [
            *hard_strings(60, seed=5),
            "",
            f"e\u0301{END}  <|mask|> the_e\u0301 ",
            "THE cat",
        ]
        for allowed in ("all", (), {END}):
            rows = [ruled.encode(text, allowed_special=allowed) for text in documents]
            options = {"allowed_special": allowed, "n_threads": 2}
            assert ruled.encode_batch(documents, **options) == rows
            assert rows_of(ruled.encode_batch_flat(documents, **options)) == rows
            assert ruled.count_batch(documents, **options) == list(map(len, rows))
            assert [ruled.count(t, allowed_special=allowed) for t in documents] == list(
                map(len, rows)
            )
            assert allowed != () or list(map(ruled.encode_ordinary, documents)) == rows
        text = "the e\u0301 cat  " * 400
        assert ruled.count(text) == len(ruled.encode(text))


def matrix_by_loop(rows, width, pad_id, side, truncate, length):
    matrix, mask = [], []
    for row in rows:
        if length is not None and len(row) > length:
            row = row[:length] if truncate == "right" else row[len(row) - length :]
        extra = width - len(row)
        filled, is_token = [pad_id] * extra, [False] * extra
        matrix.append(row + filled if side == "right" else filled + row)
        mask.append(
            [True] * len(row) + is_token if side == "right" else is_token + [True] * len(row)
        )
    return matrix, mask


class TestPadded:
    @SEVERAL
    @given(
        documents=st.lists(texts, max_size=6),
        length=st.none() | st.integers(0, 20),
        side=st.sampled_from(["right", "left"]),
        truncate=st.sampled_from(["right", "left"]),
        multiple_of=st.integers(1, 8),
        pad_id=st.integers(0, 299),
    )
    def test_rows_are_those_of_a_loop(
        self, tokenizer, documents, length, side, truncate, multiple_of, pad_id
    ):
        matrix, mask = tokenizer.encode_batch_padded(
            documents, length, side=side, truncate=truncate, multiple_of=multiple_of, pad_id=pad_id
        )
        rows = [tokenizer.encode(text) for text in documents]
        width = max(map(len, rows), default=0) if length is None else length
        while width % multiple_of:
            width += 1
        expected = matrix_by_loop(rows, width, pad_id, side, truncate, length)
        assert matrix.shape == mask.shape == (len(documents), width)
        assert (matrix.tolist(), mask.tolist()) == expected
        assert (matrix.dtype, mask.dtype) == (np.uint16, np.bool_)

    def test_integers_of_numpy_do_not_overflow(self, tokenizer):
        length, multiple_of = np.int8(100), np.int8(64)
        matrix, _ = tokenizer.encode_batch_padded(["the"], length, multiple_of=multiple_of)
        assert matrix.shape == (1, 128)
        matrix, _ = tokenizer.encode_batch_padded(["the"], length, multiple_of=np.uint64(8))
        assert matrix.shape == (1, 104)

    def test_by_default_end_of_text_fills_on_the_right(self, tokenizer):
        matrix, mask = tokenizer.encode_batch_padded(["the cat", "a"], dtype=np.int64)
        end = tokenizer.special_tokens[END]
        assert matrix.tolist() == [tokenizer.encode("the cat"), [97, end]]
        assert mask.tolist() == [[True, True], [True, False]]
        assert matrix.dtype == np.int64

    def test_a_longer_text_is_an_error_unless_it_may_be_cut(self, tokenizer):
        documents = ["a", "the cat sat on"]
        message = "^text 1 has 4 tokens, more than length=3: give truncate='right' or 'left'"
        with pytest.raises(ValueError, match=message):
            tokenizer.encode_batch_padded(documents, 3)
        assert tokenizer.encode_batch_padded(documents, 4)[0].shape == (2, 4)

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"length": -1}, ValueError, "length must not be negative: got -1"),
            ({"length": True}, TypeError, "length must be an integer: got True"),
            ({"length": 2.0}, TypeError, r"length must be an integer: got 2\.0"),
            ({"length": "2"}, TypeError, "length must be an integer: got '2'"),
            ({"length": int}, TypeError, "length must be an integer: got <class 'int'>"),
            ({"length": np.array([2.0])}, TypeError, r"length must be an integer: got array"),
            ({"length": torch.empty(2, device="meta")}, TypeError, "length must be an integer: got t"),
            ({"pad_id": torch.empty((), device="meta")}, TypeError, "ids as integers, got Tensor"),
            ({"pad_id": int}, TypeError, "expected token ids as integers, got type"),
            ({"pad_id": 300}, ValueError, "token ids must be 0 to 299: got 300"),
            ({"pad_id": -100}, ValueError, "token ids must be 0 to 299: got -100"),
            ({"pad_id": True}, TypeError, "expected token ids as integers, got bool"),
            ({"pad_id": 1.0}, TypeError, "expected token ids as integers, got float"),
            ({"side": "up"}, ValueError, "side must be one of 'right', 'left': got 'up'"),
            ({"side": None}, ValueError, "side must be one of 'right', 'left': got None"),
            ({"truncate": True}, ValueError, "truncate must be one of 'error', 'right', 'left'"),
            ({"multiple_of": 0}, ValueError, "multiple_of must be at least 1: got 0"),
            ({"multiple_of": None}, TypeError, "multiple_of must be an integer: got None"),
            ({"dtype": np.uint8}, ValueError, "dtype must hold the ids 0 to 299: got uint8"),
            ({"dtype": np.float32}, ValueError, "dtype must hold the ids 0 to 299: got float32"),
            ({"dtype": "ids"}, ValueError, "dtype must hold the ids 0 to 299: got 'ids'"),
        ],
    )  # fmt: skip
    def test_arguments_out_of_range_are_refused(self, tokenizer, arguments, error, message):
        with pytest.raises(error, match=message):
            tokenizer.encode_batch_padded(["a", "the"], **arguments)

    def test_without_end_of_text_a_pad_id_is_asked_for(self, path_taken):
        tokenizer = Tokenizer({byte: bytes([byte]) for byte in range(256)}, [])
        with pytest.raises(ValueError, match=r"no special token <\|endoftext\|>: give pad_id$"):
            tokenizer.encode_batch_padded(["a"])
        assert tokenizer.encode_batch_padded(["a"], 2, pad_id=0)[0].tolist() == [[97, 0]]
