"""Learning merges, from whole files and from samples, against the plain reference."""

import gzip
import json
import math
import os
import random
import shutil

import numpy as np
import pytest
from tokenizer_cases import END, SPECIAL, TEXT

from fastlm.tokenizer import text_blocks, train_bpe, train_bpe_from_documents
from fastlm.tokenizer.bpe import blocks, reference

pytestmark = pytest.mark.usefixtures("path_taken")


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
        for module in (blocks, text_blocks):
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
        for module in (blocks, text_blocks):
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
            (b"abc", 300, [""], ValueError, r"must not be empty: the one at index 0 is"),
            (b"abc", 300, ["a"], ValueError, r"'a' is a single byte"),
            (b"abc", 300, ["\u0120"], ValueError, r"is how vocab\.json writes a single byte"),
            (b"abc", 300, [END, "\u00e9"], ValueError, r"'\u00e9' is how vocab\.json writes a"),
            (b"abc", 300, END, ValueError, r"must be a list of strings"),
            (b"abc", 300, [5], TypeError, r"special tokens must be strings: got 5 of type int"),
            (b"abc", 300, [b"x"], TypeError, r"must be strings: got b.x. of type bytes"),
            (b"abc", 300, {END}, TypeError, r"expected special tokens, got a set, whose order is"),
            (b"abc", math.nan, [], TypeError, r"vocab_size must be an integer: got nan"),
            (b"abc", 300.0, [], TypeError, r"vocab_size must be an integer: got 300\.0"),
            (b"abc", "300", [], TypeError, r"vocab_size must be an integer: got '300'"),
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

    @pytest.mark.parametrize("name", ["n_threads", "max_token_bytes", "sample_bytes"])
    def test_numbers_are_integers(self, tmp_path, name):
        (tmp_path / "text.txt").write_bytes(b"abab")
        with pytest.raises(TypeError, match=f"{name} must be an integer: got nan"):
            train_bpe(tmp_path / "text.txt", 257, [], **{name: math.nan})
        with pytest.warns(UserWarning, match="no more pairs"):
            train_bpe(tmp_path / "text.txt", np.int64(300), [], **{name: np.int32(4)})

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


def test_json_lines_and_packed_files_are_read_as_documents(tmp_path):
    documents = [f"the cat {i} sat on the mat" for i in range(50)]
    (tmp_path / "a.txt").write_text(END.join(documents))
    rows = [
        json.dumps({"body": text, "url": "zqzq"})
        for text in [*documents[:9], END.join(documents[9:])]
    ]
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress("\n".join(rows).encode()))
    expected = train_bpe(tmp_path / "a.txt", 280, [END])
    assert train_bpe(tmp_path / "a.jsonl.gz", 280, [END], text_field="body") == expected
    with pytest.raises(ValueError, match="a sample is taken from plain text files: unpack"):
        train_bpe(tmp_path / "a.jsonl.gz", 280, [END], sample_bytes=10)


@pytest.mark.parametrize("sample_bytes", [None, 3000])
@pytest.mark.parametrize("change", ["time", "more", "less", "another"])
def test_a_text_that_changes_while_it_is_counted_is_refused(tmp_path, change, sample_bytes):
    path = tmp_path / "a.txt"
    path.write_text("the cat sat on the mat " * 1000)

    def on_progress(what: str, n: int) -> None:
        if what != "bytes":
            return
        if change == "time":
            os.utime(path, ns=(1, 1))
        elif change == "another":
            shutil.copy2(path, tmp_path / "b.txt")
            (tmp_path / "b.txt").replace(path)
        else:
            path.write_text("the cat " * (9000 if change == "more" else 1))

    with pytest.raises(ValueError, match=r"a\.txt must stay as it is while it is read: it has cha"):
        train_bpe(path, 260, [END], on_progress=on_progress, sample_bytes=sample_bytes)


class TestSample:
    """Samples are made of stripes of 100 bytes in place of a MiB."""

    @pytest.fixture(autouse=True)
    def small_stripes(self, monkeypatch):
        monkeypatch.setattr(text_blocks, "STRIPE_BYTES", 100)

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
        stripes = text_blocks.sample_stripes([tmp_path / "a", tmp_path / "b"], 800)
        assert [(path.name, begin, end) for path, begin, end in stripes] == [
            *[("a", begin, begin + 100) for begin in (0, 500, 1000, 1500, 2000, 2500)],
            *[("b", begin, begin + 100) for begin in (0, 500)],
        ]
        stripes = text_blocks.sample_stripes([tmp_path / "a"], 250)
        assert [(begin, end) for _, begin, end in stripes] == [(0, 83), (1000, 1083), (2000, 2083)]

    def test_stripes_are_tokenized_as_in_the_whole(self, paths):
        """Each block, put back, cuts its file into what gives the same pre-tokens."""
        stripes = text_blocks.sample_stripes(paths, 2000)
        found = list(text_blocks.stripe_blocks(stripes, [END.encode()], "strict"))
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
        stripes = text_blocks.sample_stripes(paths, 2000)
        sample = [b.text for b in text_blocks.stripe_blocks(stripes, [END.encode()], "strict")]
        assert 1000 < sum(map(len, sample)) <= 2000
        expected = reference.learn_merges([text.decode() for text in sample], 10, [END])
        for module in (blocks, text_blocks):
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
        assert told[0] == ("total", sum(stripe.end - stripe.begin for stripe in stripes))
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
