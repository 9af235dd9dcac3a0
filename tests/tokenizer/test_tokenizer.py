"""Encoding and decoding against the plain reference, tiktoken and `tokenizers`."""

import pickle
import random
from collections import Counter

import numpy as np
import pytest
import tiktoken
import tokenizers
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizer_cases import END, PROPERTY, SPECIAL, TEXT, small_tokenizer, texts

from fastlm.tokenizer import Tokenizer, train_bpe_from_documents
from fastlm.tokenizer import tokenizer as tokenizer_module
from fastlm.tokenizer.bpe import blocks, lazy_encoder, machine_code, reference, token_bytes
from fastlm.tokenizer.bpe.errors import UnknownByte

pytestmark = pytest.mark.usefixtures("path_taken")


@pytest.fixture(scope="module")
def tokenizer(path_taken) -> Tokenizer:
    return small_tokenizer()


@pytest.fixture(scope="module")
def gpt2(text_dir, path_taken) -> Tokenizer:
    folder = text_dir / "gpt2"
    return Tokenizer.from_files(folder / "vocab.json", folder / "merges.txt", [END])


@pytest.fixture(scope="module")
def tiktoken_gpt2(gpt2) -> tiktoken.Encoding:
    ranks = {token: token_id for token_id, token in gpt2.vocab.items() if token != END.encode()}
    return tiktoken.Encoding(
        "gpt2 from files",
        pat_str=reference.PATTERN,
        mergeable_ranks=ranks,
        special_tokens={END: gpt2.special_tokens[END]},
    )


class TestEncode:
    def test_handout_example(self):
        tokens = [b" ", b"a", b"c", b"e", b"h", b"t", b"th", b" c", b" a", b"the", b" at"]
        merges = [(b"t", b"h"), (b" ", b"c"), (b" ", b"a"), (b"th", b"e"), (b" a", b"t")]
        tokenizer = Tokenizer(dict(enumerate(tokens)), merges)
        assert tokenizer.encode("the cat ate") == [9, 7, 1, 5, 10, 3]
        assert tokenizer.decode([9, 7, 1, 5, 10, 3]) == "the cat ate"
        with pytest.raises(ValueError, match=r"no token is byte 0x78, found at byte 4"):
            tokenizer.encode("the x")

    @PROPERTY
    @given(text=texts)
    def test_ids_equal_plain_encoding_and_decode_gives_the_text(self, tokenizer, text):
        ids = tokenizer.encode(text)
        assert [tokenizer.vocab[i] for i in ids] == reference.encode(
            text, tokenizer.merges, SPECIAL
        )
        assert tokenizer.decode(ids) == text
        assert tokenizer.encode_to_numpy(text).tolist() == ids
        assert tokenizer.encode_to_numpy(text.encode()).tolist() == ids

    @PROPERTY
    @given(text=texts, cuts=st.lists(st.integers(0, 60), max_size=12))
    def test_encode_iterable_equals_the_joined_text(self, tokenizer, text, cuts):
        cuts = sorted(min(cut, len(text)) for cut in cuts)
        chunks = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert list(tokenizer.encode_iterable(chunks)) == tokenizer.encode(text)

    def test_encode_iterable_equals_the_joined_text_in_small_blocks(self, tokenizer, monkeypatch):
        monkeypatch.setattr(tokenizer_module, "_FIRST_STREAM_BYTES", 4)
        monkeypatch.setattr(tokenizer_module, "_STREAM_BYTES", 4)
        rng = random.Random(3)
        alphabet = [" ", "  ", "\n", "\u3000", "the", "'s", *SPECIAL, "中", "|>"]
        for _ in range(500):
            text = "".join(rng.choices(alphabet, k=30))
            chunks = []
            rest = text
            while rest:
                n = rng.randrange(1, 9)
                chunks.append(rest[:n])
                rest = rest[n:]
            assert list(tokenizer.encode_iterable(chunks)) == tokenizer.encode(text)

    def test_encode_iterable_is_lazy(self, tokenizer):
        taken = 0

        def lines():
            nonlocal taken
            while True:
                taken += 1
                yield "the cat sat on the mat\n"

        stream = tokenizer.encode_iterable(lines())
        for _ in range(1000):
            next(stream)
        assert taken < 1000

    def test_longest_special_token_wins_at_the_leftmost_position(self):
        tokens = ["<a>", "<a><b>", "<b><c>", "<a"]
        vocab = {byte: bytes([byte]) for byte in range(256)}
        tokenizer = Tokenizer(vocab, [], tokens)
        assert [tokenizer.vocab[i] for i in tokenizer.encode("<a><b><c>x<a><a")] == [
            b"<a><b>", b"<", b"c", b">", b"x", b"<a>", b"<a",
        ]  # fmt: skip

    def test_special_tokens_of_the_vocabulary_keep_their_ids(self):
        vocab = {byte: bytes([byte]) for byte in range(256)} | {256: END.encode()}
        tokenizer = Tokenizer(vocab, [], ["<new>", END])
        assert tokenizer.special_tokens == {"<new>": 257, END: 256}
        assert tokenizer.encode(f"{END}<new>") == [256, 257]
        assert Tokenizer(vocab, []).encode("<|") == [60, 124]
        assert tokenizer.token_to_id(END) == tokenizer.token_to_id(END.encode()) == 256
        with pytest.raises(ValueError, match=r"'<old>' is not one of the 258 tokens"):
            tokenizer.token_to_id("<old>")

    def test_batches_and_documents(self, tokenizer):
        documents = ["the cat", "", f"sat{END}on", "'s 中"]
        assert tokenizer.encode_batch(documents) == [tokenizer.encode(d) for d in documents]
        assert tokenizer.decode_batch(tokenizer.encode_batch(documents)) == documents
        end = tokenizer.special_tokens[END]
        expected = [i for d in documents for i in [*tokenizer.encode(d), end]]
        for n_threads in (1, 3):
            arrays = tokenizer.encode_documents(documents, n_threads=n_threads)
            assert np.concatenate(list(arrays)).tolist() == expected
        arrays = list(tokenizer.encode_documents(documents, end_of_text=None))
        expected = [i for d in documents for i in tokenizer.encode(d)]
        assert np.concatenate(arrays).tolist() == expected

    def test_documents_in_many_blocks_keep_their_order(self, tokenizer, monkeypatch):
        monkeypatch.setattr(blocks, "BLOCK_BYTES", 50)
        documents = [f"document {number} of the cat" for number in range(300)]
        arrays = list(tokenizer.encode_documents(documents, n_threads=4))
        assert len(arrays) > 50
        expected = END.join([*documents, ""])
        assert tokenizer.decode(np.concatenate(arrays)) == expected

    def test_dtype_grows_with_the_vocabulary(self, tokenizer):
        assert tokenizer.encode_to_numpy("the").dtype == np.uint16
        tokens = [bytes([b]) for b in range(256)]
        tokens += [bytes([a, b]) for a in range(256) for b in range(256)][: 65_536 - 256]
        assert Tokenizer(dict(enumerate(tokens)), []).encode_to_numpy("a").dtype == np.uint16
        larger = Tokenizer(dict(enumerate(tokens)), [(b"a", b"b")], ["<s>"])
        ids = larger.encode_to_numpy("<s>ab")
        assert (ids.dtype, ids.tolist()) == (np.uint32, [65_536, larger.token_to_id(b"ab")])

    def test_lone_surrogates_are_refused(self, tokenizer):
        with pytest.raises(ValueError, match=r"character 2 is the lone surrogate '\\ud800'"):
            tokenizer.encode("ab\ud800")
        with pytest.raises(ValueError, match=r"lone surrogate"):
            list(tokenizer.encode_iterable(["a", "\udfff"]))

    @pytest.mark.parametrize("text", ["the cat", "caf\u00e9 " * 3000, ""])
    def test_a_subclass_of_str_is_read_as_its_text(self, tokenizer, text):
        expected = tokenizer.encode(text)
        for other in (np.str_(text), type("Shout", (str,), {"__str__": lambda s: "!"})(text)):
            assert tokenizer.encode(other) == expected
            assert tokenizer.encode_to_numpy(other).tolist() == expected
            assert tokenizer.encode_batch([other]) == [expected]
            assert list(tokenizer.encode_iterable([other])) == expected
            assert tokenizer.encode_with_offsets(other) == tokenizer.encode_with_offsets(text)

    @pytest.mark.parametrize(
        "text",
        [b"the cat", b"caf\xff", bytearray(b"the cat"), b"the " * 3000, ["the"], None, 5],
        ids=repr,
    )
    def test_what_is_no_str_is_refused(self, tokenizer, text):
        message = rf"^expected a text as str, got {type(text).__name__}: decode it first$"
        for encode in (
            tokenizer.encode,
            lambda text: tokenizer.encode(text, disallowed_special="all"),
            tokenizer.encode_with_offsets,
            lambda text: tokenizer.encode_batch([text]),
            lambda text: tokenizer.encode_batch(["the", text], disallowed_special="all"),
            lambda text: list(tokenizer.encode_iterable([text])),
            lambda text: list(tokenizer.encode_documents(["the", text])),
            lambda text: train_bpe_from_documents([text], 300, []),
        ):
            with pytest.raises(TypeError, match=message):
                encode(text)
        if not isinstance(text, bytes):
            with pytest.raises(TypeError, match=message):
                tokenizer.encode_to_numpy(text)
            with pytest.raises(TypeError, match=message):
                tokenizer.encode_to_numpy(text, disallowed_special="all")

    @pytest.mark.parametrize("text", ["the cat", b"the cat"])
    def test_one_text_is_not_taken_for_several(self, tokenizer, text):
        """Its characters would be encoded one by one."""
        for encode in (
            tokenizer.encode_batch,
            tokenizer.encode_documents,
            lambda text: train_bpe_from_documents(text, 300, []),
        ):
            with pytest.raises(
                TypeError, match=r"expected several texts, got one (str|bytes): put"
            ):
                encode(text)

    @pytest.mark.parametrize("kind", [set, frozenset, dict, Counter])
    def test_texts_without_an_order_are_refused(self, tokenizer, kind):
        """The ids of a set would differ from one process to the next."""
        texts = kind([("the", 1), ("cat", 2)])
        named = rf"^expected several texts, got a {kind.__name__}(, whose order|: put its values)"
        for encode in (
            tokenizer.encode_batch,
            tokenizer.encode_iterable,
            tokenizer.encode_documents,
            lambda texts: train_bpe_from_documents(texts, 300, []),
        ):
            with pytest.raises(TypeError, match=named):
                encode(texts)
        assert tokenizer.encode_batch({"the": 1}.keys()) == [tokenizer.encode("the")]

    @pytest.mark.parametrize("blocks", ["the cat", ["the", "cat"], [b"the"]], ids=repr)
    def test_texts_are_no_blocks(self, tokenizer, blocks):
        named = "^expected blocks of text, got (str|bytes): encode_documents takes texts$"
        with pytest.raises(TypeError, match=named):
            list(tokenizer.encode_blocks(blocks))

    def test_invalid_utf8_is_refused(self, tokenizer):
        with pytest.raises(ValueError, match=r"text must be UTF-8: .* at byte 1;"):
            tokenizer.encode_to_numpy(b"a\xc3(")

    def test_kernels_take_over_when_much_was_encoded(self, tokenizer, monkeypatch):
        monkeypatch.setattr(machine_code, "is_at_hand", lambda: False)
        monkeypatch.setattr(lazy_encoder, "SMALL_CHARACTERS", 3 * len(TEXT))
        fresh = Tokenizer(tokenizer.vocab, tokenizer.merges, list(tokenizer.special_tokens))
        expected = tokenizer.encode(TEXT)
        for i in range(6):
            assert (fresh._encoder._compiled is not None) is (i > 3)
            assert fresh.encode(TEXT) == expected
            assert fresh.encode_to_numpy(TEXT.encode()[:0]).tolist() == []

    def test_pickled_tokenizer_gives_the_same_ids(self, tokenizer):
        copy = pickle.loads(pickle.dumps(tokenizer))
        assert copy.encode(TEXT) == tokenizer.encode(TEXT)
        assert copy.hash == tokenizer.hash

    def test_a_megabyte_without_a_space_completes(self, tokenizer):
        for text in ("a" * 1_000_000, " " * 1_000_000, "thecatsat" * 100_000, END * 50_000):
            assert tokenizer.decode(tokenizer.encode(text)) == text
            assert tokenizer.decode(tokenizer.encode_iterable([text])) == text

    def test_decode_replaces_what_is_not_utf8(self, tokenizer):
        assert tokenizer.decode([0xE2, 0x82, ord("a")]) == "\ufffda"
        assert tokenizer.decode_bytes([0xE2, 0x82]) == b"\xe2\x82"
        assert tokenizer.decode([]) == ""

    @pytest.mark.parametrize("bad", [-1, 100_000])
    def test_decode_refuses_unknown_ids(self, tokenizer, bad):
        message = rf"token ids must be 0 to {tokenizer.vocab_size - 1}: got {bad}"
        with pytest.raises(ValueError, match=message):
            tokenizer.decode([1, bad])


class TestDecode:
    @pytest.mark.parametrize(
        ("ids", "got"),
        [
            (b"12", "bytes"),
            ("12", "str"),
            ("", "str"),
            (bytearray(b"12"), "bytearray"),
            (memoryview(b"12"), "memoryview"),
            ([True], "bool"),
            ([97, True], "bool"),
            ((97, 98.0), "float"),
            ([None], "NoneType"),
            (["a"], "str"),
            ([b"a"], "bytes"),
            ([[97, 98]], "list; decode_batch takes several rows"),
            ([np.float32(97)], "float32"),
            ([np.bool_(True)], "bool"),
            (np.array([97.0]), "float"),
            (np.array([True]), "bool"),
            (np.array([97, "a"], object), "str"),
            (np.array([5], "m8[s]"), "timedelta"),
        ],
    )
    def test_ids_that_are_no_integers_are_refused(self, tokenizer, ids, got):
        """Also those that equal one: an answer to another question would look like a text."""
        for decode in (
            tokenizer.decode,
            tokenizer.decode_bytes,
            tokenizer.decode_with_offsets,
            lambda ids: tokenizer.decode(ids, errors="strict"),
            lambda ids: tokenizer.decode(ids, skip_special=True),
            lambda ids: tokenizer.decode_batch([[97], ids]),
        ):
            with pytest.raises(TypeError, match=rf"^expected token ids as integers, got {got}$"):
                decode(ids)

    def test_many_ids_are_refused_as_few_are(self, tokenizer):
        many = [97] * token_bytes.KERNEL_TOKENS
        for ids in (iter([97.0]), {97.0: 0}.keys(), (97.0,)):
            with pytest.raises(TypeError, match="as integers, got float$"):
                tokenizer.decode(ids)
        for last in (True, 97.0, None, "a"):
            with pytest.raises(TypeError, match=rf"as integers, got {type(last).__name__}$"):
                tokenizer.decode([*many, last])
        for last in (-1, tokenizer.vocab_size, 1 << 40, 1 << 70):
            for ids in ([last], [*many, last]):
                with pytest.raises(ValueError, match=rf"token ids must be 0 to \d+: got {last};"):
                    tokenizer.decode(ids)

    @pytest.mark.parametrize("ids", [97, None, 97.5], ids=repr)
    def test_a_single_id_is_no_row(self, tokenizer, ids):
        for decode in (tokenizer.decode, lambda ids: tokenizer.decode_batch([ids])):
            with pytest.raises(
                TypeError, match=rf"a row of token ids, got one {type(ids).__name__}"
            ):
                decode(ids)

    @pytest.mark.parametrize("kind", [set, frozenset, dict])
    def test_ids_without_an_order_are_refused(self, tokenizer, kind):
        ids = dict.fromkeys([97, 98]) if kind is dict else kind([97, 98])
        named = rf"expected a row of token ids, got a {kind.__name__}"
        for decode in (
            tokenizer.decode,
            tokenizer.decode_bytes,
            tokenizer.decode_with_offsets,
            lambda ids: tokenizer.decode(ids, errors="strict"),
            lambda ids: tokenizer.decode_batch([ids]),
        ):
            with pytest.raises(TypeError, match=named):
                decode(ids)
        rows = {(97,): [98]} if kind is dict else kind([(97,), (98,)])
        with pytest.raises(TypeError, match="expected several rows of token ids, got a "):
            tokenizer.decode_batch(rows)

    @pytest.mark.parametrize("n_ids", [2, token_bytes.KERNEL_TOKENS])
    def test_tensors_without_values_in_a_row_are_refused(self, tokenizer, n_ids):
        meta = torch.empty(n_ids, dtype=torch.int64, device="meta")
        with pytest.raises(TypeError, match="got a tensor on the meta device, which has no"):
            tokenizer.decode(meta)
        sparse = torch.full((n_ids,), 97).to_sparse()
        with pytest.raises(TypeError, match=r"of layout torch\.sparse_coo: give to_dense"):
            tokenizer.decode(sparse)

    @pytest.mark.parametrize("dtype", ["u1", "i4", "u2", "i8", object])
    def test_integers_of_all_kinds_are_decoded(self, tokenizer, dtype):
        array = np.array([97, 98], dtype)
        tensor = torch.tensor([97, 98])
        kinds = (
            array,
            list(array),
            tuple(array),
            {97: 0, 98: 0}.keys(),
            tensor,
            list(tensor),
            range(97, 99),
        )
        for ids in (*kinds, iter([97, 98])):
            assert tokenizer.decode(ids) == "ab"
        assert tokenizer.decode(np.array([])) == tokenizer.decode([]) == ""

    @pytest.mark.parametrize("shape", [(6, 1), (3, 2), (1, 6), ()])
    def test_ids_that_are_no_row_are_refused(self, tokenizer, shape):
        ids = np.full(shape, 97)
        with pytest.raises(ValueError, match=r"in one row: got an array of shape .*decode_batch"):
            tokenizer.decode(ids)
        with pytest.raises(ValueError, match=r"in one row"):
            tokenizer.decode(ids, errors="strict")

    @PROPERTY
    @given(data=st.data())
    def test_any_ids_decode_to_their_bytes(self, tokenizer, data):
        ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=30))
        joined = b"".join(tokenizer.vocab[i] for i in ids)
        assert tokenizer.decode_bytes(ids) == joined
        for errors in ("replace", "ignore"):
            assert tokenizer.decode(ids, errors=errors) == joined.decode("utf-8", errors)

    @PROPERTY
    @given(text=texts)
    def test_ids_are_of_the_vocabulary_and_every_text_comes_back(self, tokenizer, text):
        ids = tokenizer.encode(text)
        assert all(0 <= i < tokenizer.vocab_size for i in ids)
        assert tokenizer.decode(ids, errors="strict") == text

    def test_strict_names_byte_and_token(self, tokenizer):
        message = (
            r"no valid character begins at byte 2, in token number 2, b'\\xe2'; errors='replace'"
        )
        with pytest.raises(ValueError, match=message):
            tokenizer.decode([0x61, 0x62, 0xE2, 0x82], errors="strict")
        with pytest.raises(ValueError, match=r"at byte 1, in token number 1, b'\\xff'"):
            tokenizer.decode_batch([[0x61], [0x61, 0xFF, 0x62]], errors="strict")
        assert tokenizer.decode([0x61, 0xFF, 0x62], errors="ignore") == "ab"
        with pytest.raises(ValueError, match=r'errors must be "replace".* got \'none\''):
            tokenizer.decode([], errors="none")


class TestPeers:
    def test_ids_equal_tiktoken_on_real_texts(self, gpt2, tiktoken_gpt2, text_dir):
        paths = [text_dir / "tinystories_valid.txt", text_dir / "owt_sample.txt"]
        paths += sorted(text_dir.rglob("unicode/*.txt"))
        for path in paths:
            if path.exists():
                text = path.read_bytes()[:2_000_000].decode("utf-8", "ignore")
                expected = tiktoken_gpt2.encode_to_numpy(text, allowed_special="all")
                np.testing.assert_array_equal(gpt2.encode_to_numpy(text), expected)

    def test_ids_equal_tiktoken_on_random_strings(self, gpt2, tiktoken_gpt2):
        rng = random.Random(4)
        planes = [range(0x80), range(0x80), range(0x3000), range(0x1E000, 0x1F800), range(0x110000)]
        points = [p for plane in planes for p in rng.choices(plane, k=2000)]
        points = [p for p in points if not 0xD800 <= p < 0xE000]
        alphabet = [*map(chr, points), *[" "] * 2000, *["'s", "'ll", "'", "\n", "\u3000"] * 200]
        for _ in range(20_000):
            text = "".join(rng.choices(alphabet, k=rng.randrange(24)))
            assert gpt2.encode(text) == tiktoken_gpt2.encode_ordinary(text)

    def test_tokenizer_json_gives_the_same_ids(self, tokenizer, tmp_path):
        tokenizer.save(tmp_path)
        peer = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
        assert peer.get_vocab_size() == tokenizer.vocab_size
        for text in (
            TEXT,
            "<|end|><|endoftext|><|endoftext|> <|a b|>x",
            "  'll é\u3000\n 中😀 the\x00",
        ):
            assert peer.encode(text).ids == tokenizer.encode(text)
            assert peer.decode(peer.encode(text).ids, skip_special_tokens=False) == text

    def test_gpt2_saved_as_tokenizer_json_gives_the_same_ids(self, gpt2, text_dir, tmp_path):
        gpt2.save(tmp_path)
        peer = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
        text = (text_dir / "tinystories_valid.txt").read_text(encoding="utf-8")[:200_000]
        text += (text_dir / "owt_sample.txt").read_text(encoding="utf-8")[:200_000]
        assert peer.encode(text).ids == gpt2.encode(text)


class TestBytesWithoutAToken:
    """Python and the kernel name the same byte of the whole text, and its source."""

    @pytest.fixture
    def tokenizer(self) -> Tokenizer:
        letters = [bytes([byte]) for byte in b"abc \n"]
        return Tokenizer(dict(enumerate(letters)), [])

    def test_in_a_later_document(self, tokenizer):
        with pytest.raises(UnknownByte, match="byte of the text: .* 0x7a, found at byte 3;"):
            tokenizer._encoder.encode(b"abcz", np.array([0, 3, 4]))

    def test_in_a_later_block_of_a_file(self, tokenizer, tmp_path):
        path = tmp_path / "t.txt"
        n_before = blocks.BLOCK_BYTES + 1000
        path.write_bytes(b"ab c" * (n_before // 4) + b"z")
        message = rf"every byte of \S*t\.txt: no token is byte 0x7a, found at byte {n_before};"
        with pytest.raises(UnknownByte, match=message):
            list(tokenizer.encode_file_blocks(path))

    def test_in_a_later_block_of_documents(self, tokenizer):
        documents = ["ab c" * (blocks.BLOCK_BYTES // 4), "abc", "az"]
        message = f"every byte of the documents: .* found at byte {blocks.BLOCK_BYTES + 4};"
        with pytest.raises(UnknownByte, match=message):
            list(tokenizer.encode_documents(documents, end_of_text=None))

    def test_in_a_stream(self, tokenizer):
        stream = ["ab c" * 100] * 1000 + ["z"]
        with pytest.raises(UnknownByte, match="found at byte 400000;"):
            list(tokenizer.encode_iterable(stream))


def test_bounds_are_not_written_to(tokenizer):
    for bounds in ([0, 3], [0, 3, 7]):
        given_bounds = np.array(bounds)
        tokenizer._encoder.encode(b"ab cbab", given_bounds)
        assert given_bounds.tolist() == bounds
