"""Text is prepared: each document is in its split, nothing is written from bad input."""

import json
import re
import shutil
from pathlib import Path

import pytest
from prepared_data import decoded

from fastlm.corpus import make_stories
from fastlm.data import open_prepared, prepare, preparing
from fastlm.data.preparing import is_small
from fastlm.files.sealed import read_sealed, seal
from fastlm.tokenizer import Tokenizer


def test_tokenizer_is_trained_on_the_training_text_only(tmp_path):
    folder = tmp_path / "c"
    folder.mkdir()
    (folder / "train.txt").write_text("abab abab abab\n" * 50)
    (folder / "valid.txt").write_text("zqzq zqzq zqzq\n" * 500)
    prepare(folder, tmp_path / "d", vocab_size=260)
    tokenizer = Tokenizer.load(tmp_path / "d" / "tokenizer")
    assert (b"a", b"b") in tokenizer.merges
    assert not any(b"z" in left + right for left, right in tokenizer.merges)


def test_documents_without_a_split_are_held_out_evenly(tmp_path):
    lines = [json.dumps({"text": f"document number {i} of many"}) for i in range(250)]
    (tmp_path / "texts.jsonl").write_text("\n".join(lines))
    prepare(tmp_path / "texts.jsonl", tmp_path / "d", vocab_size=300, val_fraction=0.02)
    assert decoded(tmp_path / "d", "val") == [
        f"document number {i} of many" for i in (49, 99, 149, 199, 249)
    ]
    assert len(decoded(tmp_path / "d", "train")) == 245


def test_a_single_document_is_cut_near_its_end(tmp_path):
    text = "".join(f"line {i}\n" for i in range(1000))
    (tmp_path / "one.txt").write_text(text)
    prepare(tmp_path / "one.txt", tmp_path / "d", vocab_size=270, val_fraction=0.1)
    (train,), (val,) = decoded(tmp_path / "d", "train"), decoded(tmp_path / "d", "val")
    assert train + val == text
    assert train.endswith("\n")
    assert 0.08 < len(val) / len(text) < 0.12


def test_odd_names_and_files_without_text_are_told_in_one_line_each(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, text in (("a.txt", "text"), ("b\x1b[2J\n.txt", " \n"), ("c\r\n.md", "x")):
        (folder / name).write_text(text)
    said: list[str] = []
    prepare(folder, tmp_path / "o\nd", vocab_size=257, say=said.append)
    assert f"note: 1 file without text ({folder}/b\\x1b[2J\\n.txt)" in said
    assert f"note: not read: 1 file of another kind ({folder}/c\\r\\n.md)" in said
    prepare(folder, tmp_path / "o\nd", vocab_size=257, say=said.append)
    assert said[-1] == f"data in {tmp_path}/o\\nd is up to date"
    assert all(line.isprintable() for line in said)


def test_a_given_tokenizer_is_used(corpus, prepared, tmp_path):
    prepare(corpus, tmp_path / "d", vocab_size=400, tokenizer=prepared / "tokenizer")
    assert (tmp_path / "d" / "train.bin").read_bytes() == (prepared / "train.bin").read_bytes()
    assert open_prepared(tmp_path / "d").tokenizer_hash == open_prepared(prepared).tokenizer_hash


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p / "absent.txt", "no such text file"),
        (
            lambda p: ((p / "empty.txt").write_text("") and None) or p / "empty.txt",
            "empty|no documents",
        ),
        (
            lambda p: (p / "blank.txt").write_text(" \n<|endoftext|>\n") and p / "blank.txt",
            "no documents",
        ),
        (lambda p: (p / "bad.txt").write_bytes(b"fine so far \xff") and p / "bad.txt", "12"),
    ],
    ids=["missing", "empty", "blank", "not UTF-8"],
)
def test_text_that_cannot_be_used_leaves_nothing_behind(make, message, tmp_path):
    path = make(tmp_path)
    out = tmp_path / "deep" / "d"
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        prepare(path, out, vocab_size=300)
    assert not out.exists()
    assert not list(tmp_path.glob("deep/.*"))


def test_a_tokenizer_without_a_byte_of_the_text_leaves_nothing_behind(tmp_path):
    text = tmp_path / "a.txt"
    text.write_text("no end to the zoo " * 99)
    letters = dict(enumerate(bytes([i]) for i in range(256) if i != ord("z")))
    Tokenizer(letters, [], ["<|endoftext|>"]).save(tmp_path / "tok")
    said: list[str] = []
    with pytest.raises(ValueError, match="no token is byte 0x7a"):
        prepare(text, str(tmp_path / "d"), tokenizer=tmp_path / "tok", say=said.append)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "tok"]
    assert not any("goes on" in line for line in said)


def test_vocabulary_below_the_bytes_is_refused_before_anything_is_written(corpus, tmp_path):
    with pytest.raises(ValueError, match="at least 257.*got 256"):
        prepare(corpus, tmp_path / "deep" / "d", vocab_size=256)
    assert not (tmp_path / "deep").exists()


def test_data_in_the_folder_of_the_texts_is_not_read_back(corpus, tmp_path):
    folder = Path(shutil.copytree(corpus, tmp_path / "stories"))
    prepare(folder, folder / "d", vocab_size=400)
    said: list[str] = []
    prepare(folder, folder / "d", vocab_size=400, say=said.append)
    assert said == [
        f"note: not read: 1 prepared folder ({folder}/d)", f"data in {folder}/d is up to date"
    ]  # fmt: skip
    Tokenizer.load(folder / "d" / "tokenizer").save(folder / "tok")
    prepare(folder, tmp_path / "e", vocab_size=400)
    assert (tmp_path / "e/train.bin").read_bytes() == (folder / "d/train.bin").read_bytes()


def test_the_size_of_a_given_tokenizer_is_not_contradicted(corpus, prepared, tmp_path):
    tokenizer = prepared / "tokenizer"
    with pytest.raises(
        ValueError, match=r"vocab_size 500 was given, but the tokenizer in .* 400 e"
    ):
        prepare(corpus, tmp_path / "d", vocab_size=500, tokenizer=tokenizer)
    with pytest.raises(ValueError, match=r"--vocab-size 4096.* or a tokenizer .*: got neither"):
        prepare(corpus, tmp_path / "d")
    assert not list(tmp_path.iterdir())
    prepare(corpus, tmp_path / "d", tokenizer=tokenizer)
    assert (tmp_path / "d/train.bin").read_bytes() == (prepared / "train.bin").read_bytes()
    # Earlier versions noted a size that was given and had no effect.
    meta = read_sealed(tmp_path / "d/meta.json")
    meta["source"]["vocab_size"] = 32_000
    (tmp_path / "d/meta.json").write_bytes(seal(meta))
    said: list[str] = []
    prepare(corpus, tmp_path / "d", tokenizer=tokenizer, say=said.append)
    assert said == [f"data in {tmp_path}/d is up to date"]


def test_what_serves_which_split_is_told_and_little_validation_is_warned_of(tmp_path):
    said: list[str] = []
    (tmp_path / "train.txt").write_text("one two three\n" * 50)
    (tmp_path / "valid.txt").write_text("one two\n")
    (tmp_path / "test.txt").write_text("zq " * 50)
    prepare(tmp_path, tmp_path / "d", vocab_size=260, say=said.append)
    assert said[0].startswith("note: not read: 1 text for tests, as the names say (")
    train_text, val_text = tmp_path / "train.txt", tmp_path / "valid.txt"
    assert said[1] == f"to train on: {train_text}; to validate on: {val_text}"
    train, val, warning = said[-3:]
    assert re.fullmatch(r"train: [\d,]+ tokens, 1 documents, .* from .*/train\.txt", train)
    assert re.fullmatch(r"val: [\d,]+ tokens, 1 documents, .* from .*/valid\.txt", val)
    assert warning.startswith("warning: there is little to validate on (1 documents, ")
    assert "at least 10 documents and 100,000 tokens; give more text" in warning
    assert "val-fraction" not in warning
    assert b"zq" not in b"".join(Tokenizer.load(tmp_path / "d/tokenizer").vocab.values())
    prepare(tmp_path / "train.txt", tmp_path / "e", vocab_size=260, say=said.append)
    assert said[-2].endswith("train.txt: 0.01 of the text, its end")
    assert said[-1].endswith("give more text")


def test_a_validation_on_the_text_to_train_on_is_warned_of(tmp_path):
    warning = "warning: the text to validate on is the one to train on, token for token, so its "
    for name in ("train.txt", "valid.txt"):
        (tmp_path / name).write_text("one two three\n" * 50)
    for shard_tokens in (None, 20):
        said: list[str] = []
        out = tmp_path / f"d{shard_tokens}"
        texts = [tmp_path / "train.txt", tmp_path / "valid.txt"]
        prepare(texts, out, vocab_size=260, shard_tokens=shard_tokens, say=said.append)
        assert sum(line.startswith(warning) for line in said) == 1
    (tmp_path / "valid.txt").write_text("one two three\n" * 51)
    said = []
    prepare(texts, tmp_path / "other", vocab_size=260, say=said.append)
    assert not any(line.startswith(warning) for line in said)


def test_a_larger_part_is_advised_where_there_is_text_for_it(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("one two three<|endoftext|>\n" * 30)
    for least, advised in ((10, True), (10_000, False)):
        said = []
        monkeypatch.setattr(preparing, "LEAST_TOKENS", least)
        out = tmp_path / str(least)
        prepare(tmp_path / "a.txt", out, vocab_size=260, val_fraction=0.1, say=said.append)
        assert said[-1].startswith("warning: there is little to validate on (")
        assert said[-1].endswith(", or a larger --val-fraction") is advised


@pytest.mark.parametrize(("documents", "count"), [(9, 10**6), (10**6, 99_999)])
def test_few_documents_or_few_tokens_are_little(documents, count):
    assert is_small({"documents": documents, "count": count})
    assert not is_small({"documents": max(documents, 10), "count": max(count, 100_000)})


def test_generated_stories_are_not_warned_of(tmp_path):
    stories = make_stories(tmp_path / "s", n_bytes=20_000, valid_bytes=4_000)
    said: list[str] = []
    prepare(stories, tmp_path / "d", vocab_size=300, say=said.append)
    assert not [line for line in said if line.startswith(("warning: ", "note: "))]


def test_an_end_of_text_inside_json_is_refused_or_counted_as_an_end(tmp_path):
    texts = ["one", "two<|endoftext|>three", *(f"more {i}" for i in range(48))]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    with pytest.raises(ValueError, match=r"a\.jsonl, line 2: .* --allow-end-of-text"):
        prepare(tmp_path / "a.jsonl", tmp_path / "d", vocab_size=300, val_fraction=0.1)
    assert not (tmp_path / "d").exists()
    prepare(
        tmp_path / "a.jsonl", tmp_path / "d", vocab_size=300, val_fraction=0.1,
        allow_end_of_text=True,
    )  # fmt: skip
    (tmp_path / "a.txt").write_text("<|endoftext|>".join(texts))
    prepare(tmp_path / "a.txt", tmp_path / "e", vocab_size=300, val_fraction=0.1)
    one, other = (read_sealed(tmp_path / name / "meta.json")["splits"] for name in "de")
    assert one == other
    assert one["train"]["documents"] + one["val"]["documents"] == 51
    n_bytes = sum(len(text) for text in texts) - len("<|endoftext|>")
    assert one["train"]["text_bytes"] + one["val"]["text_bytes"] == n_bytes


def test_bytes_that_are_not_utf8_are_replaced_on_wish(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"caf\xe9 " * 100)
    with pytest.raises(ValueError, match=r"a\.txt: expected UTF-8, .* --errors replace"):
        prepare(tmp_path / "a.txt", tmp_path / "d", vocab_size=300)
    prepare(tmp_path / "a.txt", tmp_path / "d", vocab_size=300, errors="replace", val_fraction=0.5)
    assert "".join(decoded(tmp_path / "d", "train")) == "caf\ufffd " * 50
