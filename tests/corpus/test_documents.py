"""Commands read patterns, several paths and standard input, and documents of any length."""

import gzip
import io
import itertools
import json
import lzma
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from fastlm.cli import run
from fastlm.corpus.documents import iter_documents, iter_pieces
from fastlm.corpus.stories import generate_stories
from fastlm.corpus.text_files import expand_patterns, find_texts
from fastlm.data import open_prepared, prepare
from fastlm.data.__main__ import main
from fastlm.data.splits import Texts
from fastlm.files import destination
from fastlm.tokenizer import Tokenizer, pieces
from fastlm.tokenizer.pieces import cut_pieces

ROOT = Path(__file__).resolve().parents[2]
END = "<|endoftext|>"
STORIES = list(generate_stories(seed=0, n_bytes=70_000))


def decoded(folder: Path, split: str) -> list[str]:
    ids = getattr(open_prepared(folder), split).tokens
    text = Tokenizer.load(folder / "tokenizer").decode(np.asarray(ids).tolist())
    assert text.endswith(END)
    return text.split(END)[:-1]


def told(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line that a command ends with."""
    with pytest.raises(SystemExit) as stop:
        run(lambda: main([str(word) for word in words]))
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert said.count("\n") == 1
    return said


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


class TestPatterns:
    @pytest.mark.parametrize(
        ("patterns", "expected"),
        [
            (["*.txt"], ["a.txt", "b.txt"]),
            (["b.txt", "*.txt"], ["b.txt", "a.txt"]),
            (["**/*.txt"], ["a.txt", "b.txt", "deep/c.txt", "deep/er/a.txt"]),
            (["**"], ["a.txt", "b.txt", "deep/c.txt", "deep/d.jsonl.gz", "deep/er/a.txt"]),
            (["deep/*", "[ab].txt"], ["deep/c.txt", "deep/d.jsonl.gz", "a.txt", "b.txt"]),
            (["?.txt", "a.txt", "deep"], ["a.txt", "b.txt", "deep"]),
            (["x[1].txt", "?[[]1].txt"], ["x[1].txt"]),
            (["absent.txt"], ["absent.txt"]),
        ],
    )
    def test_stand_for_the_text_files_that_match_sorted_and_each_once(
        self, patterns, expected, tmp_path, monkeypatch
    ):
        touch(tmp_path, "b.txt", "a.txt", "note.md", ".hidden.txt", "deep/d.jsonl.gz")
        touch(tmp_path, "deep/c.txt", "deep/er/a.txt", "deep/e.part")
        if "x[1].txt" in expected:
            touch(tmp_path, "x[1].txt")
        monkeypatch.chdir(tmp_path)
        assert list(map(str, expand_patterns(map(Path, patterns)))) == expected

    @pytest.mark.parametrize("pattern", ["*.md", "deep/*", "**/*.jsonl", "[z].txt"])
    def test_that_match_no_text_are_one_line(self, pattern, tmp_path, capsys):
        touch(tmp_path, "a.txt", "note.md", "deep/er/a.txt")
        line = told(
            capsys, "prepare", tmp_path / pattern, "--vocab-size", 300, "--out", tmp_path / "d"
        )
        assert f"{tmp_path}/{pattern}: expected a pattern that matches files ending in" in line
        assert ".parquet, found none" in line
        assert not (tmp_path / "d").exists()

    def test_of_prepare_are_one_text_in_their_order(self, tmp_path):
        for i, part in enumerate((STORIES[:20], STORIES[20:40])):
            packed = gzip.compress("\n".join(json.dumps({"text": s}) for s in part).encode())
            (tmp_path / "shards").mkdir(exist_ok=True)
            (tmp_path / "shards" / f"{i}.jsonl.gz").write_bytes(packed)
        (tmp_path / "extra.txt").write_text(END.join(STORIES[40:50]))
        words = [tmp_path / "shards/*.jsonl.gz", tmp_path / "extra.txt", tmp_path / "shards/0*"]
        rest = ["--vocab-size", 300, "--val-fraction", 0.1, "--out", tmp_path / "d"]
        main(["prepare", *map(str, [*words, *rest])])
        held_out = range(9, 50, 10)
        assert decoded(tmp_path / "d", "val") == [STORIES[i] for i in held_out]
        kept = [story for i, story in enumerate(STORIES[:50]) if i not in held_out]
        assert decoded(tmp_path / "d", "train") == kept
        files = json.loads((tmp_path / "d/meta.json").read_text())["source"]["files"]
        names = ["shards/0.jsonl.gz", "shards/1.jsonl.gz", "extra.txt"]
        assert [path for path, *_ in files] == [str(tmp_path.resolve() / name) for name in names]


def test_a_file_that_may_be_either_beside_both_is_refused(tmp_path, capsys):
    for name in ("extra.txt", "train-and-valid.txt"):
        touch(tmp_path / name, "train.txt", "valid.txt", name)
        files = sorted((tmp_path / name).iterdir())
        words = ["--vocab-size", 300, "--out", tmp_path / "d"]
        line = told(capsys, "prepare", *files, *words)
        assert f"{name}: train.txt and valid.txt are for training and valid" in line
        assert "says which this is" in line


def test_shards_with_a_validation_file_are_prepared(tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(3):
        part = END.join(STORIES[10 * i : 10 * i + 10])
        (tmp_path / "in" / f"train-{i}.txt").write_text(part)
    (tmp_path / "in" / "valid.txt").write_text(END.join(STORIES[30:35]))
    for text in (f"{tmp_path}/in/*", f"{tmp_path}/in"):
        main(["prepare", text, "--vocab-size", "300", "--out", str(tmp_path / "d")])
        assert decoded(tmp_path / "d", "train") == STORIES[:30]
        assert decoded(tmp_path / "d", "val") == STORIES[30:35]


@pytest.mark.parametrize("prefix", [destination.LOCK, destination.PARTIAL])
def test_what_a_running_or_killed_call_leaves_is_no_text(prefix, tmp_path):
    """A lock has the name of the file that is made, and its suffix."""
    for name in ("train.txt", f"{prefix}train.txt", f"{prefix}valid.txt"):
        (tmp_path / name).write_text("text")
    for text in (tmp_path, f"{tmp_path}/*.txt"):
        found = find_texts([text])
        assert (found.paths, found.notes()) == ([tmp_path / "train.txt"], [])
    with pytest.raises(FileNotFoundError, match="found none"):
        find_texts([f"{tmp_path}/.*.txt"])
    with pytest.raises(ValueError, match=f"{prefix}train.txt belongs to a file that is being made"):
        find_texts([tmp_path / f"{prefix}train.txt"])


def main_with_stdin(data: bytes, *words: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        main(["prepare", *words])


def told_with_stdin(capsys: pytest.CaptureFixture[str], data: bytes, *words: object) -> str:
    """The one line that a command ends with, after the one that says what it reads."""
    with pytest.raises(SystemExit) as stop:
        run(lambda: main_with_stdin(data, *map(str, words)))
    said, line = capsys.readouterr().err.splitlines()
    assert (stop.value.code, said) == (2, "reading standard input")
    return line


class TestStandardInput:
    TEXT = END.join(STORIES).encode()
    ROWS = "\n".join(json.dumps({"body": story}) for story in STORIES).encode()

    @pytest.fixture
    def from_file(self, tmp_path) -> Path:
        (tmp_path / "text.txt").write_bytes(self.TEXT)
        return prepare(tmp_path / "text.txt", tmp_path / "f", vocab_size=300)

    def test_is_prepared_as_a_file_is_and_leaves_nothing(self, from_file, tmp_path):
        words = ["-m", "fastlm.data", "prepare", "-", "--out", "d", "--vocab-size", "300"]
        done = subprocess.run(
            [sys.executable, *words], input=self.TEXT, capture_output=True, check=False,
            cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert b"reading standard input" in done.stderr
        assert done.stderr.count(b" bytes a token, from standard input") == 2
        for name in ("train.bin", "val.bin"):
            assert (tmp_path / "d" / name).read_bytes() == (from_file / name).read_bytes()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["d", "f", "text.txt"]

    @pytest.mark.parametrize(
        "pack",
        [gzip.compress, lzma.compress, lambda data: zstandard.ZstdCompressor().compress(data)],
        ids=["gz", "xz", "zst"],
    )
    @pytest.mark.parametrize("kind", ["txt", "jsonl"])
    def test_may_be_compressed_and_json_lines(self, pack, kind, from_file, tmp_path):
        flags = ["--format", "jsonl", "--text-field", "body"] if kind == "jsonl" else []
        data = pack(self.ROWS if kind == "jsonl" else self.TEXT)
        out = tmp_path / "d"
        main_with_stdin(data, "-", *flags, "--out", str(out), "--vocab-size", "300")
        assert (out / "train.bin").read_bytes() == (from_file / "train.bin").read_bytes()

    def test_may_be_parquet(self, from_file, tmp_path):
        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        file = io.BytesIO()
        parquet.write_table(pyarrow.table({"text": STORIES}), file)
        words = ["-", "--format", "parquet", "--out", str(tmp_path / "d"), "--vocab-size", "300"]
        main_with_stdin(file.getvalue(), *words)
        assert (tmp_path / "d/train.bin").read_bytes() == (from_file / "train.bin").read_bytes()

    def test_stands_beside_files(self, tmp_path):
        (tmp_path / "train.txt").write_text(END.join(STORIES[10:20]))
        words = ["-", str(tmp_path / "train.txt"), "--val-fraction", "0.1"]
        first = END.join(STORIES[:10]).encode()
        main_with_stdin(first, *words, "--out", str(tmp_path / "d"), "--vocab-size", "300")
        assert decoded(tmp_path / "d", "val") == [STORIES[9], STORIES[19]]

    def test_the_same_text_is_reused_and_another_refused_when_it_is_read(self, tmp_path, capsys):
        words = ["-", "--out", str(tmp_path / "d"), "--vocab-size", "300"]
        main_with_stdin(self.TEXT, *words)
        before = (tmp_path / "d/meta.json").stat().st_mtime_ns
        main_with_stdin(self.TEXT, *words)
        assert f"data in {tmp_path}/d is up to date" in capsys.readouterr().err
        assert (tmp_path / "d/meta.json").stat().st_mtime_ns == before
        with pytest.raises(FileExistsError, match=r"d holds data prepared with another files; "):
            main_with_stdin(self.TEXT + b"more", *words)
        assert [path.name for path in tmp_path.iterdir()] == ["d"]

    def test_is_not_read_for_a_folder_that_it_cannot_be_put_in(self, tmp_path):
        words = ["-", "--out", str(tmp_path / "d"), "--vocab-size"]
        main_with_stdin(self.TEXT, *words, "300")
        stream = io.BytesIO(self.TEXT)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdin", io.TextIOWrapper(stream))
            with pytest.raises(FileExistsError, match="prepared with another vocab_size"):
                main(["prepare", *words, "301"])
            assert stream.tell() == 0

    @pytest.mark.parametrize(
        ("data", "words", "message"),
        [
            (b"", [], "standard input holds no documents: expected text"),
            (b"good \xff", [], "standard input: expected UTF-8, got an invalid byte at offset 5"),
            (b"{", ["--format", "jsonl"], "standard input, line 1: expected a JSON object"),
            (gzip.compress(TEXT)[:-9], [], "standard input: expected a whole .gz file"),
        ],
        ids=["empty", "no UTF-8", "no JSON", "cut short"],
    )
    def test_what_is_wrong_with_it_is_one_line(self, data, words, message, tmp_path, capsys):
        words = ["-", *words, "--out", tmp_path / "d", "--vocab-size", 300]
        assert told_with_stdin(capsys, data, *words).startswith(f"error: {message}")
        assert not list(tmp_path.iterdir())

    def test_a_disk_that_takes_no_more_is_one_line_and_nothing_stays(self, tmp_path, capsys):
        data = os.urandom(3_000_000)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, limits[1]))
        try:
            line = told_with_stdin(capsys, data, "-", "--out", tmp_path / "d", "--vocab-size", 300)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert "bytes the disk took no more (File too large); make room, or give an --out" in line
        assert not list(tmp_path.iterdir())

    def test_its_format_is_for_nothing_else(self, tmp_path, capsys):
        touch(tmp_path, "a.txt")
        words = ["prepare", tmp_path / "a.txt", "--vocab-size", 300, "--out", tmp_path / "d"]
        line = told(capsys, *words, "--format", "jsonl")
        assert "--format jsonl is of standard input" in line
        line = told(capsys, "prepare", "--vocab-size", 300, "--out", tmp_path / "d")
        assert "expected at least one text to prepare" in line


def test_a_field_of_another_name_is_read(tmp_path):
    rows = [json.dumps({"body": story, "title": "a"}) for story in STORIES[:30]]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    words = ["prepare", str(tmp_path / "a.jsonl"), "--vocab-size", "300", "--val-fraction", "0.1"]
    words += ["--out", str(tmp_path / "d")]
    with pytest.raises(ValueError, match="with a field 'text', got the fields body, title; "):
        main(words)
    main([*words, "--text-field", "body"])
    assert decoded(tmp_path / "d", "val") == STORIES[9:30:10]
    with pytest.raises(FileExistsError, match="prepared with another text_field"):
        main([*words, "--text-field", "title"])


class TestLongDocuments:
    @given(
        text=st.lists(st.sampled_from([END, "<|", "a b", " ", "\n", "é🦊", "word "]), max_size=40),
        piece_characters=st.integers(1, 30),
        block_bytes=st.integers(1, 9),
    )
    @settings(deadline=None)
    def test_pieces_are_the_documents_cut(
        self, text, piece_characters, block_bytes, tmp_path_factory
    ):
        path = tmp_path_factory.mktemp("pieces") / "a.txt"
        path.write_bytes("".join([*text, "end"]).encode())
        pieces = list(iter_pieces(path, piece_characters=piece_characters, block_bytes=block_bytes))
        joined = "".join(piece + (END if is_end else "") for piece, is_end in pieces)
        assert joined.split(END)[:-1] == list(iter_documents(path))
        for piece, is_end in pieces:
            assert len(piece) >= piece_characters or is_end
        assert any(piece.strip() for piece, _ in pieces)

    @pytest.mark.parametrize("n_documents", [1, 2, 5])
    @pytest.mark.parametrize("piece_characters", [1, 100, 10**9])
    def test_of_any_number_are_split_wherever_pieces_end(
        self, n_documents, piece_characters, tmp_path, monkeypatch
    ):
        """One document is cut at the last line that begins before its end; else every n-th is."""
        monkeypatch.setattr(iter_pieces, "__kwdefaults__", {
            **iter_pieces.__kwdefaults__, "piece_characters": piece_characters, "block_bytes": 64,
        })  # fmt: skip
        texts = [f"line {i} of a text\nwith more " * 30 for i in range(n_documents)]
        (tmp_path / "a.txt").write_text(END.join(texts))
        found = Texts([tmp_path / "a.txt"], val_fraction=0.2, text_field="text")
        train, val = (
            "".join(text + (END if is_end else "") for text, is_end in part)
            for part in (found.train(), found.val())
        )
        if n_documents > 1:
            assert train == "".join(text + END for text in texts[:-1])
            assert val == texts[-1] + END
            return
        (text,) = texts
        cut = len(text) - len(text) // 5
        cut = text.rfind("\n", 0, cut) + 1
        assert (train, val) == (text[:cut] + END, text[cut:] + END)

    def test_without_a_line_are_cut_in_the_middle_of_it(self, tmp_path):
        (tmp_path / "a.txt").write_text("abcdefghij" * 10)
        found = Texts([tmp_path / "a.txt"], val_fraction=0.2, text_field="text")
        assert list(found.train()) == [("abcdefghij" * 8, True)]
        assert list(found.val()) == [("abcdefghij" * 2, True)]

    def test_give_the_tokens_of_whole_ones(self, tmp_path, monkeypatch):
        """The ids are those of encoding each document at once, with a special token in the text."""
        texts = ["  \n".join(STORIES[i : i + 7]) + " <|x|> 中文 🦊 \n" for i in range(0, 28, 7)]
        (tmp_path / "train.txt").write_text(END.join(texts))
        (tmp_path / "valid.txt").write_text(texts[0])
        base = Tokenizer({i: bytes([i]) for i in range(256)}, [], [END, "<|x|>"])
        base.save(tmp_path / "tok")
        monkeypatch.setattr(iter_pieces, "__kwdefaults__", {
            **iter_pieces.__kwdefaults__, "piece_characters": 50, "block_bytes": 64,
        })  # fmt: skip
        monkeypatch.setattr(pieces, "BLOCK_BYTES", 200)
        assert sum(1 for _ in iter_pieces(tmp_path / "train.txt")) > 100
        for name, tokenizer in (("given", tmp_path / "tok"), ("trained", None)):
            out = prepare(
                tmp_path,
                tmp_path / name,
                vocab_size=None if tokenizer else 400,
                tokenizer=tokenizer,
            )
            loaded = Tokenizer.load(out / "tokenizer")
            expected = [i for text in texts for i in loaded.encode(text + END)]
            assert open_prepared(out).train.tokens.tolist() == expected
            meta = json.loads((out / "meta.json").read_text())["splits"]["train"]
            assert meta["documents"] == len(texts)
            assert meta["text_bytes"] == sum(len(text.encode()) for text in texts)

    def test_are_cut_where_no_token_is(self):
        pieces = [("some words and ", False), ("more<|x|>of ", False), ("them", True), ("a", True)]
        cut = list(cut_pieces(pieces, [END, "<|x|>"]))
        assert cut[-2:] == [("", True), ("a", True)]
        assert "".join(text for text, _ in cut) == "some words and more<|x|>of thema"
        assert [is_end for _, is_end in cut].count(True) == 2

    def test_do_not_hold_memory(self, tmp_path):
        path = tmp_path / "a.txt"
        with open(path, "w") as file:
            for story in itertools.islice(itertools.cycle(STORIES), 20_000):
                file.write(story + "\n")
        sizes = [len(text) for text, _ in cut_pieces(iter_pieces(path), [END])]
        assert path.stat().st_size > 10_000_000
        assert max(sizes) < 3_500_000
        assert sum(sizes) == path.stat().st_size
