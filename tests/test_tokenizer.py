"""Training, encoding and decoding against the plain reference, tiktoken and `tokenizers`."""

import pickle
import random

import numpy as np
import pytest
import tiktoken
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from fastlm import text_files
from fastlm import tokenizer as tokenizer_module
from fastlm.bpe import blocks, lazy_encoder, reference, token_bytes, train
from fastlm.tokenizer import Tokenizer, train_bpe, train_bpe_from_documents

END = "<|endoftext|>"
TEXT = (
    f"the cat sat on the mat, didn't it?\n\n  The end.{END}\nOne more: 中文 😀 the the{END}the end"
    * 3
)
SPECIAL = [END, "<|end|>", f"{END}{END}", "<|a b|>"]

PROPERTY = settings(max_examples=120, deadline=None, derandomize=True)

pieces = st.sampled_from(
    [
        *"the cat sat",
        " ",
        "  ",
        "\n",
        "\u3000",
        "'s",
        "中",
        "😀",
        "é",
        *SPECIAL,
        "<|end",
        "|>",
        "<|a",
        " b|>",
    ]
)
texts = st.lists(st.one_of(pieces, st.text(max_size=3)), max_size=30).map("".join)


@pytest.fixture(scope="module", autouse=True, params=["python", "kernels"])
def path_taken(request):
    """Small texts are handled in Python, by default; all must be the same where kernels do it."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "kernels":
            patch.setattr(train, "SMALL_BYTES", -1)
            patch.setattr(lazy_encoder, "SMALL_CHARACTERS", -1)
            patch.setattr(token_bytes, "KERNEL_TOKENS", 1)
        yield request.param


@pytest.fixture(scope="module")
def tokenizer(path_taken) -> Tokenizer:
    vocab, merges = train_bpe_from_documents([TEXT], 256 + 40 + len(SPECIAL), SPECIAL)
    return Tokenizer(vocab, merges, SPECIAL)


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


class TestTraining:
    def test_vocabulary_is_bytes_then_merges_then_special_tokens(self, tmp_path):
        path = tmp_path / "text.txt"
        path.write_text(TEXT, encoding="utf-8")
        vocab, merges = train_bpe(path, 256 + 20 + 2, [END, "<|pad|>"])
        assert merges == reference.learn_merges([TEXT], 20, [END])
        tokens = [bytes([b]) for b in range(256)] + [a + b for a, b in merges]
        assert vocab == dict(enumerate([*tokens, END.encode(), b"<|pad|>"]))

    @pytest.mark.parametrize("block_bytes", [16, 100, 1000])
    @pytest.mark.parametrize("n_threads", [1, 2, 4])
    def test_result_does_not_depend_on_threads_and_blocks(
        self, tmp_path, monkeypatch, n_threads, block_bytes
    ):
        paths = [tmp_path / "first.txt", tmp_path / "second.txt"]
        paths[0].write_bytes(TEXT.encode())
        paths[1].write_bytes(b"the theme, then <|a b|> the\r\nend " * 20)
        expected = reference.learn_merges(
            [path.read_bytes().decode() for path in paths], 40, SPECIAL
        )
        for module in (blocks, text_files):
            monkeypatch.setattr(module, "BLOCK_BYTES", block_bytes)
        _, merges = train_bpe(paths, 296 + len(SPECIAL), SPECIAL, n_threads=n_threads)
        assert merges == expected
        documents = [path.read_bytes().decode() for path in paths]
        _, merges = train_bpe_from_documents(
            documents, 296 + len(SPECIAL), SPECIAL, n_threads=n_threads
        )
        assert merges == expected

    def test_documents_are_not_merged_across(self):
        _, merges = train_bpe_from_documents(["xa", "bx", "xa", "bx"], 258, [], n_threads=2)
        assert merges == [(b"x", b"a"), (b"b", b"x")]

    def test_warns_when_no_pairs_are_left(self):
        with pytest.warns(UserWarning, match=r"has 258 tokens, not vocab_size=300"):
            vocab, merges = train_bpe_from_documents(["ab"], 300, [END])
        assert (len(vocab), merges) == (258, [(b"a", b"b")])
        assert vocab[257] == END.encode()

    def test_progress_is_told(self):
        told = []
        train_bpe_from_documents(["abab"], 257, [], on_progress=lambda *args: told.append(args))
        assert told == [("bytes", 4), ("merges", 1)]

    def test_invalid_utf8_is_an_error_or_replaced(self, tmp_path, monkeypatch):
        path = tmp_path / "bad.txt"
        path.write_bytes(b"good words " * 30 + b"b\xffd" + b" more words" * 30)
        for module in (blocks, text_files):
            monkeypatch.setattr(module, "BLOCK_BYTES", 64)
        with pytest.raises(
            ValueError, match=r"bad\.txt must be UTF-8: .* at byte 331; errors=replace"
        ):
            train_bpe(path, 300, [])
        text = path.read_bytes().decode("utf-8", "replace")
        _, merges = train_bpe(path, 270, [], errors="replace")
        assert merges == reference.learn_merges([text], 14, [])

    @pytest.mark.parametrize(
        ("text", "vocab_size", "special", "error", "message"),
        [
            (b"abc", 256, [END], ValueError, r"vocab_size must be at least 257.* got 256"),
            (None, 300, [], FileNotFoundError, r"expected a file at .*text\.txt"),
            (b"", 300, [], ValueError, r"text\.txt: no text to learn from"),
            (END.encode() * 3, 300, [END], ValueError, r"no text to learn from"),
            (b"abc", 300, [END, END], ValueError, r"must differ: got '<\|endoftext\|>' twice"),
            (b"abc", 300, [""], ValueError, r"must not be empty: number 0 is"),
            (b"abc", 300, ["a"], ValueError, r"'a' is a single byte"),
            (b"abc", 300, END, ValueError, r"must be a list of strings"),
        ],
    )
    def test_bad_input_is_named(self, tmp_path, text, vocab_size, special, error, message):
        path = tmp_path / "text.txt"
        if text is not None:
            path.write_bytes(text)
        with pytest.raises(error, match=message):
            train_bpe(path, vocab_size, special)

    def test_no_threads_is_an_error(self):
        with pytest.raises(ValueError, match=r"n_threads must be at least 1: got 0"):
            train_bpe_from_documents(["abab"], 257, [], n_threads=0)

    def test_room_for_bytes_alone_learns_nothing(self):
        vocab, merges = train_bpe_from_documents(["abab"], 257, [END])
        assert (len(vocab), merges, vocab[256]) == (257, [], END.encode())

    @pytest.mark.filterwarnings("ignore:the text has no more pairs")
    @pytest.mark.parametrize("max_token_bytes", [2, 3, 5])
    def test_no_token_is_longer_than_allowed(self, tmp_path, max_token_bytes):
        path = tmp_path / "text.txt"
        path.write_bytes(TEXT.encode())
        _, merges = train_bpe(path, 300, [END], max_token_bytes=max_token_bytes)
        assert max(len(left + right) for left, right in merges) == max_token_bytes
        assert train_bpe_from_documents(
            [TEXT], 300, [END], max_token_bytes=max_token_bytes
        ) == train_bpe(path, 300, [END], max_token_bytes=max_token_bytes)

    def test_too_short_tokens_are_an_error(self):
        with pytest.raises(ValueError, match=r"max_token_bytes must be at least 2.* got 1"):
            train_bpe_from_documents(["abab"], 257, [], max_token_bytes=1)

    def test_no_files_is_an_error(self):
        with pytest.raises(ValueError, match=r"at least one text file: got none"):
            train_bpe([], 300, [])


class TestSample:
    """Stripes of 100 bytes in place of a MiB."""

    @pytest.fixture(autouse=True)
    def small_stripes(self, monkeypatch):
        monkeypatch.setattr(text_files, "STRIPE_BYTES", 100)

    @pytest.fixture
    def paths(self, tmp_path):
        paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
        for path, n_words, rest in zip(paths, (3000, 1000), ("中文", END), strict=True):
            words = random.Random(path.name).choices(["a", "the", "other", rest], k=n_words)
            path.write_bytes(" ".join(words).encode())
        return paths

    def test_stripes_are_spread_evenly_and_in_proportion(self, tmp_path):
        for name, size in (("a", 3000), ("b", 1000)):
            (tmp_path / name).write_bytes(b"x" * size)
        stripes = text_files.sample_stripes([tmp_path / "a", tmp_path / "b"], 800)
        assert [(path.name, begin, end) for path, begin, end in stripes] == [
            *[("a", begin, begin + 100) for begin in (0, 500, 1000, 1500, 2000, 2500)],
            *[("b", begin, begin + 100) for begin in (0, 500)],
        ]
        stripes = text_files.sample_stripes([tmp_path / "a"], 250)
        assert [(begin, end) for _, begin, end in stripes] == [(0, 83), (1000, 1083), (2000, 2083)]

    def test_stripes_are_tokenized_as_in_the_whole(self, paths):
        """Each block, put back, cuts its file into what gives the same pre-tokens."""
        stripes = text_files.sample_stripes(paths, 2000)
        found = list(text_files.stripe_blocks(stripes, [END.encode()], "strict"))
        assert len(found) > 15
        for text, bounds, source, offset in found:
            whole = next(p for p in paths if str(p) == source).read_bytes()
            assert whole[offset : offset + len(text)] == text
            assert bounds.tolist() == [0, len(text)]
            parts = (whole[:offset], text, whole[offset + len(text) :])
            joined = [t for p in parts for t in reference_pretokens(p.decode())]
            assert joined == reference_pretokens(whole.decode())

    @pytest.mark.parametrize("n_threads", [1, 3])
    @pytest.mark.parametrize("block_bytes", [16, 1000])
    def test_result_is_that_of_the_stripes(self, paths, monkeypatch, n_threads, block_bytes):
        stripes = text_files.sample_stripes(paths, 2000)
        sample = [b.text for b in text_files.stripe_blocks(stripes, [END.encode()], "strict")]
        assert 1000 < sum(map(len, sample)) <= 2000
        expected = reference.learn_merges([text.decode() for text in sample], 10, [END])
        for module in (blocks, text_files):
            monkeypatch.setattr(module, "BLOCK_BYTES", block_bytes)
        told = []
        _, merges = train_bpe(
            paths,
            267,
            [END],
            n_threads=n_threads,
            sample_bytes=2000,
            on_progress=lambda *args: told.append(args),
        )
        assert merges == expected
        assert told[0] == ("sampled", sum(stripe.end - stripe.begin for stripe in stripes))
        assert told[-1] == ("merges", 10)

    def test_files_that_are_no_larger_are_read_whole(self, paths):
        n_bytes = sum(path.stat().st_size for path in paths)
        told = []
        sampled = train_bpe(
            paths, 267, [END], sample_bytes=n_bytes, on_progress=lambda *args: told.append(args)
        )
        assert sampled == train_bpe(paths, 267, [END])
        assert {what for what, _ in told} == {"bytes", "merges"}

    def test_invalid_utf8_is_named_by_its_place_in_the_file(self, tmp_path):
        path = tmp_path / "bad.txt"
        path.write_bytes(b"good words " * 104 + b"b\xffd" + b" more words" * 100)
        with pytest.raises(ValueError, match=r"bad\.txt must be UTF-8: .* at byte 1145;"):
            train_bpe(path, 270, [], sample_bytes=2000)
        _, merges = train_bpe(path, 266, [], sample_bytes=2000, errors="replace")
        assert len(merges) == 10

    def test_bad_samples_are_named(self, tmp_path):
        path = tmp_path / "text.txt"
        path.write_bytes(b"abab" * 100)
        with pytest.raises(ValueError, match=r"sample_bytes must be at least 1: got 0"):
            train_bpe(path, 270, [], sample_bytes=0)
        with pytest.raises(ValueError, match=r"a sample of 50 bytes of .*no text to learn from"):
            train_bpe(path, 270, [], sample_bytes=50)


def reference_pretokens(text: str) -> list[bytes]:
    pieces = reference.split_special(text, [END])
    return [
        token
        for piece, is_special in pieces
        for token in ([piece.encode()] if is_special else reference.pretokenize(piece))
    ]


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

    def test_invalid_utf8_is_refused(self, tokenizer):
        with pytest.raises(ValueError, match=r"text must be UTF-8: .* at byte 1;"):
            tokenizer.encode_to_numpy(b"a\xc3(")

    def test_kernels_take_over_when_much_was_encoded(self, tokenizer, monkeypatch):
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


class TestSpecialTokens:
    """What is allowed becomes an id, what is disallowed is an error, all else is plain text."""

    @PROPERTY
    @given(text=texts, allowed=st.sets(st.sampled_from(SPECIAL)))
    def test_only_allowed_ones_become_ids(self, tokenizer, text, allowed):
        ids = tokenizer.encode(text, allowed_special=allowed)
        assert [tokenizer.vocab[i] for i in ids] == reference.encode(
            text, tokenizer.merges, sorted(allowed)
        )
        assert tokenizer.decode(ids) == text
        options = {"allowed_special": allowed}
        assert tokenizer.encode_to_numpy(text, **options).tolist() == ids
        assert tokenizer.encode_to_numpy(text.encode(), **options).tolist() == ids
        assert tokenizer.encode_batch([text], **options) == [ids]
        assert list(tokenizer.encode_iterable(list(text), **options)) == ids
        assert tokenizer.encode_with_offsets(text, **options)[0] == ids

    @PROPERTY
    @given(text=texts, allowed=st.sets(st.sampled_from(SPECIAL)))
    def test_all_others_can_be_disallowed(self, tokenizer, text, allowed):
        others = set(SPECIAL) - allowed
        options = {"allowed_special": allowed, "disallowed_special": "all"}
        if any(token in text for token in others):
            with pytest.raises(ValueError, match=r"must not hold the special token"):
                tokenizer.encode(text, **options)
            with pytest.raises(ValueError, match=r"must not hold the special token"):
                list(tokenizer.encode_iterable(list(text), **options))
        else:
            ids = tokenizer.encode(text, allowed_special=allowed)
            assert tokenizer.encode(text, **options) == ids
            assert list(tokenizer.encode_iterable(list(text), **options)) == ids

    def test_error_names_token_and_character(self, tokenizer):
        text = f"中文 the{END}"
        message = r"the text must not hold the special token '<\|endoftext\|>': it does at character 6; name it in allowed_special"
        for given_text in (text, text.encode()):
            with pytest.raises(ValueError, match=message):
                tokenizer.encode_to_numpy(given_text, disallowed_special={END})
        with pytest.raises(ValueError, match=message):
            tokenizer.encode(text, allowed_special={"<|end|>"}, disallowed_special="all")
        with pytest.raises(ValueError, match=message):
            tokenizer.encode_with_offsets(text, disallowed_special=[END])
        with pytest.raises(ValueError, match=r"^text 300 must not hold"):
            tokenizer.encode_batch(["the"] * 300 + [text], disallowed_special=[END])
        assert tokenizer.encode(text, disallowed_special="all") == tokenizer.encode(text)

    def test_place_in_a_stream_is_counted_from_its_begin(self, tokenizer):
        lines = ["中文 the cat\n"] * 10_000
        stream = tokenizer.encode_iterable([*lines, END], disallowed_special=[END])
        with pytest.raises(ValueError, match=r"at character 110000;"):
            list(stream)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                {"allowed_special": END},
                r"allowed_special must be \"all\" or a set .* got '<\|endof",
            ),
            (
                {"allowed_special": ["<x>"]},
                r"allowed_special must name special tokens .* got '<x>'",
            ),
            ({"disallowed_special": "none"}, r"disallowed_special must be \"all\" or a set"),
            ({"disallowed_special": {"<x>"}}, r"disallowed_special must name .* got '<x>'"),
        ],
    )
    def test_choices_are_checked(self, tokenizer, options, message):
        for encode in (
            tokenizer.encode,
            tokenizer.encode_to_numpy,
            tokenizer.encode_iterable,
            tokenizer.encode_batch,
        ):
            with pytest.raises(ValueError, match=message):
                encode("the", **options)

    def test_they_can_be_left_out_of_the_text(self, tokenizer):
        ids = tokenizer.encode(f"the{END}<|end|>cat")
        assert tokenizer.decode(ids, skip_special=True) == "thecat"
        assert tokenizer.decode(np.array(ids), skip_special=True) == "thecat"
        assert tokenizer.decode_bytes(ids, skip_special=True) == b"thecat"
        assert tokenizer.decode(ids, errors="strict", skip_special=True) == "thecat"
        assert tokenizer.decode_batch([ids, [0x41]], skip_special=True) == ["thecat", "A"]


@pytest.fixture(scope="module")
def pairs() -> Tokenizer:
    """Bytes, and three tokens that hold parts of characters."""
    # é = c3 a9, 😀 = f0 9f 98 80
    vocab = {byte: bytes([byte]) for byte in range(256)}
    vocab |= {256: b"a\xc3", 257: b"\xa9\xf0", 258: b"\x98\x80"}
    merges = [(b"a", b"\xc3"), (b"\xa9", b"\xf0"), (b"\x98", b"\x80")]
    return Tokenizer(vocab, merges, [END])


class TestOffsets:
    def test_characters_split_over_tokens(self, pairs):
        # a c3 | a9 || f0 | 9f | 98 80 || space | b : é and 😀 are of different pre-tokens
        ids, offsets = pairs.encode_with_offsets("aé😀 b")
        assert ids == [256, 0xA9, 0xF0, 0x9F, 258, 0x20, 0x62]
        assert offsets == [(0, 2), (1, 2), (2, 3), (2, 3), (2, 3), (3, 4), (4, 5)]
        assert pairs.decode_with_offsets(ids) == ("aé😀 b", [0, 1, 2, 2, 2, 3, 4])

    def test_tokens_over_two_characters(self, pairs):
        # a c3 | a9 f0 | 9f | 98 80: the second token ends é and begins 😀
        assert pairs.decode_with_offsets([256, 257, 0x9F, 258]) == ("aé😀", [0, 1, 2, 2])

    def test_invalid_bytes_count_as_the_characters_put_there(self, pairs):
        # c3 alone is one U+FFFD, and so is f0 9f 98 as a begun character; a9 alone is another.
        ids = [256, 0x62, 0xF0, 0x9F, 0x98, 0xA9 - 0x80, 0xA9, 0xFF, 0x63]
        assert pairs.decode_with_offsets(ids) == (
            "a\ufffdb\ufffd)\ufffd\ufffdc",
            [0, 2, 3, 3, 3, 4, 5, 6, 7],
        )

    def test_special_tokens_and_nothing(self, pairs):
        assert pairs.encode_with_offsets(f"é{END}b")[1] == [(0, 1), (0, 1), (1, 14), (14, 15)]
        assert pairs.encode_with_offsets("") == ([], [])
        assert pairs.decode_with_offsets([]) == ("", [])

    @PROPERTY
    @given(text=texts)
    def test_offsets_hold_each_tokens_bytes(self, tokenizer, text):
        ids, offsets = tokenizer.encode_with_offsets(text)
        assert ids == tokenizer.encode(text)
        assert len(offsets) == len(ids)
        for token_id, (begin, end) in zip(ids, offsets, strict=True):
            assert tokenizer.vocab[token_id] in text[begin:end].encode()
            assert tokenizer.vocab[token_id] not in text[begin + 1 : end].encode()
        decoded, begins = tokenizer.decode_with_offsets(ids)
        assert (decoded, begins) == (text, [begin for begin, _ in offsets])

    @PROPERTY
    @given(data=st.data())
    def test_any_ids_have_offsets_in_their_text(self, tokenizer, data):
        ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=30))
        text, begins = tokenizer.decode_with_offsets(ids)
        assert text == tokenizer.decode(ids)
        for index, begin in enumerate(begins):
            # Up to a token's first byte, that byte included, its text has begin + 1 characters.
            before = tokenizer.decode_bytes(ids[:index]) + tokenizer.vocab[ids[index]][:1]
            assert len(before.decode("utf-8", "replace")) == begin + 1


class TestDecode:
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
