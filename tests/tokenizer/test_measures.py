"""Measures of tokenizers on texts against counts by hand: ratios, documents, overlap, ids."""

import dataclasses
import gzip
import json
import lzma
import math

import pytest
import zstandard

from fastlm.tokenizer import Tokenizer
from fastlm.tokenizer import measures as tokenizer_measures
from fastlm.tokenizer.bpe import reference
from fastlm.tokenizer.bpe.errors import InvalidUtf8
from fastlm.tokenizer.measures import (
    FirstDocuments,
    Measure,
    Overlap,
    TextMeasures,
    id_dtype,
    longest_tokens,
    measure_text,
    overlaps,
    utf8_blocks,
)

END = "<|endoftext|>"
BYTES = {byte: bytes([byte]) for byte in range(256)}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Bytes, "th" (256), "the" (257), " a" (258), and the end of a text (259)."""
    vocab = BYTES | {256: b"th", 257: b"the", 258: b" a"}
    return Tokenizer(vocab, [(b"t", b"h"), (b"th", b"e"), (b" ", b"a")], [END])


def measured(tmp_path, data, tokenizers, **options) -> TextMeasures:
    path = tmp_path / "text.txt"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return measure_text("text", path, tokenizers, min_seconds=0, **options)


def cut_into(block_bytes: int, monkeypatch) -> None:
    """Let texts be read, and measured, in blocks of about so many bytes."""
    read = tokenizer_measures.read_blocks
    monkeypatch.setattr(tokenizer_measures, "BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(tokenizer_measures, "read_blocks", lambda path: read(path, block_bytes))


def by_name(text: TextMeasures) -> dict[str, Measure]:
    return {measure.tokenizer: measure for measure in text.measures}


class TestCounts:
    def test_a_text_cut_by_hand(self, tokenizer, tmp_path):
        # the| a|t|中(3 bytes)|END|the: 3 + 2 + 1 + 3 + 13 + 3 bytes, 8 tokens.
        text = measured(tmp_path, f"the at中{END}the", {"ours": tokenizer}, n_documents=1)
        assert (text.n_bytes, text.n_documents, text.n_first_documents) == (25, 2, 1)
        found = by_name(text)
        assert list(found) == ["ours", "character", "byte", "word"]
        ours = found["ours"]
        assert (ours.vocab_size, ours.n_tokens, ours.bytes_per_token) == (260, 8, 25 / 8)
        assert (ours.n_document_bytes, ours.n_document_tokens) == (9, 6)
        assert ours.document_bytes_per_token == 1.5
        assert (ours.dtype, ours.token_file_bytes) == ("uint16", 16)
        # 7 characters, the separator's 13, 3; different are "the a中", and "<|ndofx>" of it.
        character = found["character"]
        assert (character.n_tokens, character.vocab_size) == (23, 6 + 8)
        assert character.document_bytes_per_token == 9 / 7
        assert (found["byte"].n_tokens, found["byte"].vocab_size) == (25, 256)
        assert found["byte"].bytes_per_token == found["byte"].document_bytes_per_token == 1
        # the| at中|<||endoftext||>|the
        assert (found["word"].n_tokens, found["word"].vocab_size) == (6, 5)
        assert found["word"].document_bytes_per_token == 4.5

    @pytest.mark.parametrize("block_bytes", [16, 64, 1 << 21])
    def test_blocks_change_no_count(self, tokenizer, tmp_path, monkeypatch, block_bytes):
        documents = [f"the {'a ' * n}é中😀 \u3000 cat's\n" for n in range(40)]
        text = f"\n{END} \n".join(documents)
        cut_into(block_bytes, monkeypatch)
        found = measured(tmp_path, text, {"ours": tokenizer}, n_documents=10)
        assert (found.n_bytes, found.n_documents) == (len(text.encode()), 40)
        pieces = text.split(END)[:10]
        words = reference.pretokenize(text)
        tokens = {
            "ours": lambda s: len(reference.encode(s, tokenizer.merges, [END])),
            "character": len,
            "byte": lambda s: len(s.encode()),
            "word": lambda s: len(reference.pretokenize(s)),
        }
        vocabularies = {
            "ours": 260, "character": len(set(text)), "byte": 256, "word": len(set(words)),
        }  # fmt: skip
        for name, measure in by_name(found).items():
            assert measure.n_tokens == tokens[name](text), name
            assert measure.n_document_tokens == sum(map(tokens[name], pieces)), name
            assert measure.n_document_bytes == sum(len(piece.encode()) for piece in pieces)
            assert measure.vocab_size == vocabularies[name], name

    def test_tokenizers_are_measured_on_the_same_text(self, tokenizer, tmp_path):
        plain = Tokenizer(BYTES, [])
        found = by_name(measured(tmp_path, f"the the{END}", {"a": tokenizer, "b": plain}))
        assert (found["a"].n_tokens, found["b"].n_tokens) == (4, 20)
        assert found["b"].n_bytes == found["a"].n_bytes == 20

    def test_a_text_of_white_space_has_no_documents(self, tokenizer, tmp_path):
        text = measured(tmp_path, f" \n{END}\u3000{END}", {"ours": tokenizer})
        assert (text.n_documents, text.n_first_documents, text.n_first_bytes) == (0, 0, 0)
        assert math.isnan(by_name(text)["ours"].document_bytes_per_token)

    def test_ids_above_65535_take_four_bytes(self, tmp_path):
        assert (id_dtype(65_536), id_dtype(65_537)) == ("uint16", "uint32")
        pairs = [bytes([a, b]) for a in range(256) for b in range(256)]
        large = Tokenizer(BYTES | dict(enumerate(pairs[: 65_537 - 256], start=256)), [])
        ours = by_name(measured(tmp_path, "abc", {"ours": large}))["ours"]
        assert (ours.dtype, ours.token_file_bytes) == ("uint32", 12)

    @pytest.mark.parametrize(
        ("data", "options", "message"),
        [
            (b"", {}, r"text\.txt is empty: there is nothing to measure"),
            (b"abc", {"n_documents": 0}, r"n_documents must be at least 1: got 0"),
            (b"ab\xff", {}, r"text\.txt must be UTF-8: .* at byte 2;"),
            (b"a\xe4\xb8", {}, r"text\.txt must be UTF-8: .* at byte 1;"),
        ],
    )
    def test_bad_input_is_named(self, tokenizer, tmp_path, data, options, message):
        with pytest.raises(ValueError, match=message):
            measured(tmp_path, data, {"ours": tokenizer}, **options)

    def test_a_byte_without_a_token_is_named(self, tmp_path):
        small = Tokenizer({0: b"a", 1: b"b"}, [])
        with pytest.raises(ValueError, match=r"^small on text, .*: no token is byte 0x63"):
            measured(tmp_path, "abc", {"small": small})


class TestSpeed:
    def test_a_small_text_is_encoded_until_the_time_is_over(self, tokenizer, tmp_path):
        path = tmp_path / "text.txt"
        path.write_text("the cat " * 1000)
        text = measure_text("text", path, {"ours": tokenizer}, min_seconds=0.1)
        found = by_name(text)
        assert found["ours"].n_passes > 1
        assert found["ours"].elapsed_seconds >= 0.1
        assert found["ours"].first_seconds < found["ours"].elapsed_seconds
        assert found["ours"].n_tokens == 1000 * 6  # the| |c|a|t| , and the last blank by itself
        assert found["word"].n_passes == 1

    def test_a_text_too_large_to_keep_is_encoded_once(self, tokenizer, tmp_path, monkeypatch):
        monkeypatch.setattr(tokenizer_measures, "HELD_BYTES", 100)
        path = tmp_path / "text.txt"
        path.write_text("the cat " * 13)
        text = measure_text("text", path, {"ours": tokenizer}, min_seconds=60)
        assert by_name(text)["ours"].n_passes == 1

    @pytest.mark.parametrize("is_held", [True, False])
    def test_estimates_follow_from_warm_caches(self, is_held, tokenizer, tmp_path, monkeypatch):
        """The first block takes a minute, as code is loaded then; 800 bytes of others a second."""
        path = tmp_path / "text.txt"
        path.write_text("the cat " * 600)
        monkeypatch.setattr(tokenizer_measures, "BLOCK_BYTES", 800)
        monkeypatch.setattr(tokenizer_measures, "HELD_BYTES", 1 << 20 if is_held else 1600)
        seen = set()

        def timed(cutter, blocks, what):
            is_first = cutter not in seen
            seen.add(cutter)
            for block in blocks:
                cutter.add(block)
            return 60.0 if is_first else sum(map(len, blocks)) / 800

        monkeypatch.setattr(tokenizer_measures, "_timed", timed)
        text = measure_text("text", path, {"ours": tokenizer}, min_seconds=0)
        ours = by_name(text)["ours"]
        assert ours.first_seconds > 60
        assert ours.warm_bytes_per_second == pytest.approx(800)
        assert ours.pile_seconds == pytest.approx(825e9 / 800)

    def test_rates_follow_from_times(self):
        measure = Measure("ours", 300, 1000, 250, 0, 0, 4, 0.5, 1.0)
        assert measure.bytes_per_second == 4000
        assert measure.first_bytes_per_second == 2000
        assert measure.pile_seconds == 825e9 / 2000
        assert dataclasses.replace(measure, warm_bytes=3000, warm_seconds=0.5).pile_seconds == (
            825e9 / 6000
        )


class TestReading:
    @pytest.mark.parametrize("name", ["t.txt", "t.txt.gz", "t.txt.xz", "t.txt.zst", "t.other"])
    def test_text_is_taken_as_it_is(self, tmp_path, name):
        data = f"one 中\r\n{END}\n two".encode()
        pack = {".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstandard.compress}
        (tmp_path / name).write_bytes(pack.get((tmp_path / name).suffix, bytes)(data))
        assert b"".join(utf8_blocks(tmp_path / name, [], "strict")) == data

    def test_json_lines_and_folders_give_documents_with_an_end(self, tmp_path):
        lines = "".join(json.dumps({"text": text}) + "\n" for text in ("one 中", "two"))
        expected = f"one 中{END}two{END}".encode()
        (tmp_path / "t.jsonl").write_text(lines)
        assert b"".join(utf8_blocks(tmp_path / "t.jsonl", [], "strict")) == expected
        assert b"".join(utf8_blocks(tmp_path, [], "strict")) == expected
        (tmp_path / "t.jsonl").unlink()
        (tmp_path / "t.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
        assert b"".join(utf8_blocks(tmp_path / "t.jsonl.gz", [], "strict")) == expected

    def test_characters_that_reads_cut_stay_whole(self, tmp_path, monkeypatch):
        path = tmp_path / "t.txt"
        path.write_bytes(("中😀é " * 100).encode() + b"\xf0\x9f")
        read = tokenizer_measures.read_blocks
        monkeypatch.setattr(tokenizer_measures, "read_blocks", lambda path: read(path, 7))
        with pytest.raises(InvalidUtf8, match=r"t\.txt must be UTF-8: .* at byte 1000;"):
            list(utf8_blocks(path, [], "strict"))
        expected = path.read_bytes().decode("utf-8", "replace").encode()
        assert b"".join(utf8_blocks(path, [], "replace")) == expected

    def test_no_block_ends_inside_a_special_token(self, tmp_path, monkeypatch):
        cut_into(8, monkeypatch)
        path = tmp_path / "t.txt"
        path.write_text("<a b> " * 50)
        blocks = list(utf8_blocks(path, ["<a b>"], "strict"))
        assert len(blocks) > 5
        assert all(block.count(b"<") == block.count(b">") for block in blocks)

    @pytest.mark.parametrize(
        "blocks",
        [
            ["one<|endoftext|> <|endoftext|>two and on<|endoftext|>three"],
            ["one", f"{END} ", f"\n{END}two", " and on", END, "three"],
        ],
    )
    def test_first_documents_come_whole(self, blocks):
        documents = FirstDocuments(2)
        taken = [piece for block in blocks for piece in documents.take(block.encode())]
        assert b"|".join(taken).replace(b"| and", b" and") == b"one|two and on"
        assert documents.n_documents == 3

    def test_white_space_before_a_document_is_of_it(self):
        documents = FirstDocuments(1)
        assert documents.take(b"\n") == []
        assert documents.take(b" one\n") == [b"\n one\n"]
        assert documents.take(b"\n\n") == [b"\n\n"]


class TestVocabularies:
    def test_overlap_leaves_special_tokens_out(self, tokenizer):
        other = Tokenizer(BYTES | {256: b"the", 257: b"cat"}, [], [END, "<|x|>"])
        assert overlaps({"a": tokenizer, "b": other}) == [Overlap("a", "b", 259, 258, 257)]
        (pair,) = overlaps({"a": tokenizer, "b": other})
        assert pair.share_of_smaller == 257 / 258
        assert pair.jaccard == 257 / 260
        assert overlaps({"a": tokenizer}) == []

    def test_what_is_special_in_one_counts_in_the_other(self, tokenizer):
        learned = Tokenizer(BYTES | {256: END.encode()}, [])
        (pair,) = overlaps({"a": tokenizer, "b": learned})
        assert (pair.n_first, pair.n_second, pair.n_shared) == (259, 257, 256)

    def test_every_two_vocabularies_are_a_pair(self, tokenizer):
        pairs = overlaps({"a": tokenizer, "b": tokenizer, "c": Tokenizer(BYTES, [])})
        assert [(pair.first, pair.second, pair.n_shared) for pair in pairs] == [
            ("a", "b", 259), ("a", "c", 256), ("b", "c", 256),
        ]  # fmt: skip
        assert [pair.jaccard for pair in pairs] == [1, 256 / 259, 256 / 259]

    def test_longest_tokens_are_by_bytes_and_not_special(self, tokenizer):
        assert longest_tokens(tokenizer, 3) == [(257, b"the"), (256, b"th"), (258, b" a")]
        assert longest_tokens(tokenizer, 0) == []
