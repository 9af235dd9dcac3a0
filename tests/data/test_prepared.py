"""Prepared data: the text comes back from the tokens, nothing is written from bad input."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from fastlm.corpus.stories import generate_stories
from fastlm.data import open_prepared, prepare
from fastlm.tokenizer import Tokenizer


def write_corpus(folder: Path, *, n_bytes: int = 60_000) -> Path:
    folder.mkdir()
    for i, name in enumerate(("train", "valid")):
        documents = list(generate_stories(seed=i, n_bytes=n_bytes // (9 * i + 1)))
        text = "".join(f"{document}\n<|endoftext|>\n" for document in documents)
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus") / "stories")


@pytest.fixture(scope="module")
def prepared(corpus, tmp_path_factory) -> Path:
    return prepare(corpus, tmp_path_factory.mktemp("data") / "d", vocab_size=400)


def decoded(folder: Path, split: str) -> list[str]:
    data = open_prepared(folder)
    text = Tokenizer.load(folder / "tokenizer").decode(getattr(data, split).tokens.tolist())
    assert text.endswith("<|endoftext|>")
    return text.split("<|endoftext|>")[:-1]


def test_tokens_decode_to_the_documents(corpus, prepared):
    for split, name in (("train", "train"), ("val", "valid")):
        pieces = (corpus / f"{name}.txt").read_text(encoding="utf-8").split("<|endoftext|>")
        assert decoded(prepared, split) == [p for p in pieces if p.strip()]


def test_meta_says_what_the_files_are(corpus, prepared):
    meta = json.loads((prepared / "meta.json").read_text())
    data = open_prepared(prepared)
    assert meta["vocab_size"] == data.vocab_size == 400
    assert meta["tokenizer_hash"] == Tokenizer.load(prepared / "tokenizer").hash
    split = meta["splits"]["train"]
    assert split["count"] == len(data.train.tokens)
    assert split["documents"] == len(decoded(prepared, "train"))
    assert split["text_bytes"] == sum(len(d.encode()) for d in decoded(prepared, "train"))
    assert (prepared / "train.bin").read_bytes() == data.train.tokens.astype("<u2").tobytes()
    assert sorted(p.name for p in prepared.iterdir()) == [
        "meta.json",
        "tokenizer",
        "train.bin",
        "val.bin",
    ]


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


def test_second_call_reuses_and_a_different_one_is_refused(corpus, prepared):
    before = {p: p.stat().st_mtime_ns for p in prepared.rglob("*")}
    said = []
    prepare(corpus, prepared, vocab_size=400, say=said.append)
    assert said == [f"data in {prepared} is up to date"]
    assert {p: p.stat().st_mtime_ns for p in prepared.rglob("*")} == before
    with pytest.raises(FileExistsError, match="another vocab_size"):
        prepare(corpus, prepared, vocab_size=500)


def test_other_data_are_replaced_when_asked_and_nothing_else_is(corpus, prepared, tmp_path):
    folder = copy_of(prepared, tmp_path / "d")
    prepare(corpus, folder, vocab_size=300, replace=True)
    assert open_prepared(folder).vocab_size == 300
    assert [p.name for p in tmp_path.iterdir()] == ["d"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match="holds no prepared data"):
        prepare(corpus, tmp_path / "mine", vocab_size=300, replace=True)


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


def test_vocabulary_below_the_bytes_is_refused_before_anything_is_written(corpus, tmp_path):
    with pytest.raises(ValueError, match="at least 257.*got 256"):
        prepare(corpus, tmp_path / "deep" / "d", vocab_size=256)
    assert not (tmp_path / "deep").exists()


def copy_of(prepared: Path, folder: Path) -> Path:
    shutil.copytree(prepared, folder)
    return folder


def test_files_that_are_not_what_meta_says_are_refused(prepared, tmp_path):
    folder = copy_of(prepared, tmp_path / "d")
    raw = (folder / "train.bin").read_bytes()
    (folder / "train.bin").write_bytes(raw[:-1])
    with pytest.raises(ValueError, match=r"train.bin holds \d+ bytes, meta.json says"):
        open_prepared(folder)
    tokens = np.frombuffer(raw, "<u2").copy()
    tokens[77] = 400
    (folder / "train.bin").write_bytes(tokens.tobytes())
    with pytest.raises(ValueError, match="token 400 at position 77 .* vocabulary of 400"):
        open_prepared(folder).verify()
    tokens[77] = (np.frombuffer(raw, "<u2")[77] + 1) % 400
    (folder / "train.bin").write_bytes(tokens.tobytes())
    with pytest.raises(ValueError, match=r"train.bin was changed since it was made"):
        open_prepared(folder).verify()
    (folder / "train.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"train.bin is missing"):
        open_prepared(folder)
    (folder / "meta.json").write_text("{")
    with pytest.raises(ValueError, match=r"meta.json is not a description"):
        open_prepared(folder)
    with pytest.raises(FileNotFoundError, match=r"python -m fastlm.data prepare"):
        open_prepared(tmp_path / "absent")


def cut_ids(folder: Path) -> None:
    (folder / "train.bin").write_bytes((folder / "train.bin").read_bytes()[:-2])


def change_an_id(folder: Path) -> None:
    raw = bytearray((folder / "val.bin").read_bytes())
    raw[0] ^= 1
    (folder / "val.bin").write_bytes(raw)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_ids, r"train.bin holds \d+ bytes"),
        (change_an_id, "val.bin was changed since it was made"),
        (lambda folder: (folder / "train.bin").unlink(), "train.bin is missing"),
        (lambda folder: shutil.rmtree(folder / "tokenizer"), "expected a tokenizer in"),
        (
            lambda folder: (folder / "meta.json").write_text(
                (folder / "meta.json")
                .read_text()
                .replace('"vocab_size": 400', '"vocab_size":  401', 1)
            ),
            "meta.json is not a description of token files",
        ),
    ],
)
def test_damaged_data_are_made_anew_by_the_same_call(damage, message, corpus, prepared, tmp_path):
    folder = copy_of(prepared, tmp_path / "d")
    damage(folder)
    said: list[str] = []
    prepare(corpus, folder, vocab_size=400, say=said.append)
    assert re.match(rf"made anew: the data in {folder} cannot be used: .*{message}", said[0])
    assert sum(line.startswith("made anew") for line in said) == 1
    for name in ("train.bin", "val.bin", "meta.json", "tokenizer/vocab.json"):
        assert (folder / name).read_bytes() == (prepared / name).read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["d"]
    cut_ids(folder)
    (folder / "runs").mkdir()
    with pytest.raises(FileExistsError, match="prepare the data again: .*/d also holds runs; move"):
        prepare(corpus, folder, vocab_size=400)
    assert (folder / "runs").is_dir()
    with pytest.raises(FileExistsError, match="another vocab_size"):
        prepare(corpus, folder, vocab_size=300)


def test_foreign_folder_is_not_touched(corpus, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match="not empty and holds no prepared data"):
        prepare(corpus, tmp_path / "d", vocab_size=300)
    assert (tmp_path / "d" / "thesis.tex").read_text() == "years of work"
