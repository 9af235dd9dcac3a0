"""Tokenizer and its command line against the plain reference, tiktoken and `tokenizers`."""

import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest
import tiktoken
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from fastlm import tokenizer as tokenizer_module
from fastlm import tokenizer_files
from fastlm.bpe import blocks, gpt2_files, reference
from fastlm.tokenizer import Tokenizer, main, train_bpe, train_bpe_from_documents
from fastlm.tokenizer_files import read_token_file, write_token_file

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


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    vocab, merges = train_bpe_from_documents([TEXT], 256 + 40 + len(SPECIAL), SPECIAL)
    return Tokenizer(vocab, merges, SPECIAL)


@pytest.fixture(scope="module")
def gpt2(text_dir) -> Tokenizer:
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
        for module in (blocks, tokenizer_files):
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
        for module in (blocks, tokenizer_files):
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

    def test_no_files_is_an_error(self):
        with pytest.raises(ValueError, match=r"at least one text file: got none"):
            train_bpe([], 300, [])


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


class TestFiles:
    def test_load_gives_what_was_saved(self, tokenizer, tmp_path):
        tokenizer.save(tmp_path / "new" / "folder")
        loaded = Tokenizer.load(tmp_path / "new" / "folder")
        assert (loaded.vocab, loaded.merges) == (tokenizer.vocab, tokenizer.merges)
        assert loaded.special_tokens == tokenizer.special_tokens
        assert loaded.hash == tokenizer.hash
        names = {path.name for path in (tmp_path / "new" / "folder").iterdir()}
        assert names == {"vocab.json", "merges.txt", "special_tokens.json", "tokenizer.json"}

    def test_printable_bytes_are_gpt2s(self):
        assert gpt2_files.to_printable(b" \n\x00\xad!\xff") == "ĠĊĀŃ!ÿ"
        everything = bytes(range(256))
        assert gpt2_files.from_printable(gpt2_files.to_printable(everything)) == everything

    def test_merges_that_begin_with_a_hash_are_no_comments(self, tmp_path):
        vocab, merges = train_bpe_from_documents(["##", "a#a#"], 257, [])
        Tokenizer(vocab, merges).save(tmp_path)
        assert (b"#", b"#") in merges
        assert Tokenizer.load(tmp_path).merges == merges

    def test_hash_tells_tokenizers_apart_and_not_processes(self, tokenizer):
        other = Tokenizer(tokenizer.vocab, tokenizer.merges[:-1], SPECIAL)
        assert (
            len({tokenizer.hash, other.hash, Tokenizer(tokenizer.vocab, tokenizer.merges).hash})
            == 3
        )
        code = (
            "from fastlm.tokenizer import Tokenizer, train_bpe_from_documents as train\n"
            "vocab, merges = train(['the cat sat on the mat ' * 3], 275, ['<b>', '<a>'])\n"
            "print(Tokenizer(vocab, merges, ['<b>', '<a>']).hash)"
        )
        hashes = set()
        for seed in ("0", "1"):
            environment = os.environ | {"PYTHONHASHSEED": seed}
            done = subprocess.run(
                [sys.executable, "-c", code],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            )
            hashes.add(done.stdout)
        assert len(hashes) == 1

    @pytest.mark.parametrize(
        ("vocab", "merges", "message"),
        [
            ("{", "", r"vocab\.json must be a JSON object"),
            ("[1]", "", r"vocab\.json must be a JSON object"),
            ('{"a": "0"}', "", r"whole-number ids"),
            ('{"a": 0, "b": 0}', "", r"gives id 0 to two tokens"),
            ('{"a b": 0}', "", r"'a b' holds ' '.* name it as one"),
            ('{"a": 0, "b": 2}', "", r"ids must be 0 to 1.* id 1 is missing"),
            ('{"": 0}', "", r"tokens must not be empty: id 0 is"),
            ('{"a": 0, "b": 1}', "a b\n", r"merge 0, b'a' \+ b'b', needs b'ab'"),
            ('{"a": 0}', "#version: 0.2\na\n", r"merges\.txt line 2 must be two tokens"),
            ('{"a": 0}', "a \u4e2d\n", r"merges\.txt line 1 holds '\u4e2d'"),
        ],
    )
    def test_malformed_files_are_named(self, tmp_path, vocab, merges, message):
        (tmp_path / "vocab.json").write_text(vocab, encoding="utf-8")
        (tmp_path / "merges.txt").write_text(merges, encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            Tokenizer.load(tmp_path)

    def test_missing_files_are_named(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"vocab\.json"):
            Tokenizer.load(tmp_path)

    def test_double_tokens_are_refused(self):
        with pytest.raises(ValueError, match=r"ids 0 and 1 are both b'a'"):
            Tokenizer({0: b"a", 1: b"a"}, [])

    def test_token_file_is_refused_by_another_tokenizer(self, tokenizer, tmp_path):
        path = tmp_path / "ids.bin"
        assert write_token_file(path, [np.array([1, 2], np.uint16)] * 2, tokenizer) == 4
        assert path.read_bytes() == b"\x01\0\x02\0" * 2
        assert json.loads((tmp_path / "ids.bin.json").read_text()) == {
            "dtype": "uint16",
            "count": 4,
            "vocab_size": tokenizer.vocab_size,
            "tokenizer_hash": tokenizer.hash,
        }
        assert read_token_file(path, tokenizer).tolist() == [1, 2, 1, 2]
        with pytest.raises(ValueError, match=r"was encoded with tokenizer"):
            read_token_file(path, Tokenizer(tokenizer.vocab, []))
        path.write_bytes(b"\x01")
        with pytest.raises(ValueError, match=r"must have 8 bytes for 4 tokens: it has 1"):
            read_token_file(path, tokenizer)

    def test_a_failed_write_leaves_nothing(self, tmp_path):
        def pieces():
            yield b"half"
            raise RuntimeError("disk")

        with pytest.raises(RuntimeError):
            tokenizer_files.write_atomically(tmp_path / "file", pieces())
        assert list(tmp_path.iterdir()) == []


class TestCommands:
    def test_train_encode_decode_report(self, tmp_path, capfdbinary):
        text, folder, ids = tmp_path / "text.txt", tmp_path / "tokenizer", tmp_path / "ids.bin"
        text.write_bytes(TEXT.encode())
        main(["train", str(text), "--vocab-size", "290", "--out", str(folder)])
        assert Tokenizer.load(folder).special_tokens == {END: 289}
        main(["encode", str(text), "--tokenizer", str(folder), "--out", str(ids)])
        capfdbinary.readouterr()
        main(["decode", str(ids), "--tokenizer", str(folder)])
        assert capfdbinary.readouterr().out == TEXT.encode()
        main(["report", str(text), "--tokenizer", str(folder)])
        lines = capfdbinary.readouterr().out.decode().splitlines()
        rows = {line.split()[0]: line.split() for line in lines[1:5]}
        n_bytes = len(TEXT.encode())
        assert rows["byte"][1:4] == ["256", f"{n_bytes:,}", "1.000"]
        assert rows["character"][1:3] == [f"{len(set(TEXT))}", f"{len(TEXT)}"]
        assert rows["bpe"][2] == f"{len(Tokenizer.load(folder).encode(TEXT))}"

    def test_special_tokens_can_be_added(self, tmp_path):
        text, folder = tmp_path / "text.txt", tmp_path / "tokenizer"
        text.write_text(TEXT, encoding="utf-8")
        added = [
            argument for token in ("<|x|>", END, "<|y|>") for argument in ("--special-token", token)
        ]
        main(["train", str(text), "--vocab-size", "290", "--out", str(folder), *added])
        assert Tokenizer.load(folder).special_tokens == {END: 287, "<|x|>": 288, "<|y|>": 289}

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["train", "nothing.txt", "--vocab-size", "300", "--out", "t"], "nothing.txt"),
            (["train", "bad.txt", "--vocab-size", "300", "--out", "t"], "at byte 1"),
            (["train", "bad.txt", "--vocab-size", "9", "--out", "t"], "at least 257"),
            (["encode", "bad.txt", "--tokenizer", "t", "--out", "x.bin"], "vocab.json"),
            (["encode", "bad.txt", "--tokenizer", "good", "--out", "x.bin"], "at byte 1"),
            (["encode", "bad.txt", "--tokenizer", "good", "--out", "no/x.bin"], "make it first"),
            (["decode", "x.bin", "--tokenizer", "good"], "x.bin"),
            (["report", "empty.txt", "--tokenizer", "good"], "empty.txt is empty"),
        ],
    )
    def test_bad_input_is_one_line_and_writes_nothing(
        self, tokenizer, tmp_path, arguments, message
    ):
        (tmp_path / "bad.txt").write_bytes(b"a\xff")
        (tmp_path / "empty.txt").write_bytes(b"")
        tokenizer.save(tmp_path / "good")
        before = sorted(tmp_path.rglob("*"))
        code = f"import sys; sys.path.insert(0, {os.getcwd()!r}); from fastlm import cli, tokenizer; cli.run(lambda: tokenizer.main({arguments!r}))"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 2
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
        assert sorted(tmp_path.rglob("*")) == before

    def test_help_needs_neither_torch_nor_numba(self):
        code = (
            "import sys\nfrom fastlm.tokenizer import main\n"
            "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
            "assert not {'torch', 'numba'} & set(sys.modules)"
        )
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
