"""Prepared data: the text comes back from the tokens, nothing is written from bad input."""

import contextlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastlm.corpus import make_stories
from fastlm.corpus.stories import generate_stories
from fastlm.data import open_prepared, prepare
from fastlm.data.prepared import END_OF_TEXT, is_small
from fastlm.files.paths import identify
from fastlm.files.sealed import read_sealed, seal
from fastlm.files.tokens import TokenWriter
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


@pytest.mark.parametrize(
    "name",
    [
        "notes.md",
        "tokenizer/notes.md",
        "train-7.bin",
        ".fastlm-notes.txt",
        "tokenizer/encoder.json",
    ],
)
def test_files_of_others_in_data_to_be_replaced_stay(name, corpus, prepared, tmp_path):
    folder = copy_of(prepared, tmp_path / "d")
    (folder / name).write_text("mine")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(FileExistsError, match=rf"d also holds {name}; move that elsewhere first"):
        prepare(corpus, folder, vocab_size=300, replace=True)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_text_in_the_data_that_it_would_replace_is_refused(prepared, tmp_path):
    folder = copy_of(prepared, tmp_path / "d")
    text = folder / "tokenizer/merges.txt"
    before = text.read_bytes()
    with pytest.raises(ValueError, match=r"d holds .*merges\.txt, which is read"):
        prepare(text, folder, vocab_size=257, replace=True)
    assert text.read_bytes() == before
    assert open_prepared(folder).vocab_size == 400


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


def test_damaged_data_at_a_relative_path_or_a_link_are_made_anew(
    corpus, prepared, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    copy_of(prepared, Path("d"))
    Path("link").symlink_to("d")
    for out in (Path("d"), Path("link")):
        cut_ids(out)
        said: list[str] = []
        prepare(corpus, out, vocab_size=400, say=said.append)
        assert said[0].startswith(f"made anew: the data in {out} cannot be used")
        assert Path("d/train.bin").read_bytes() == (prepared / "train.bin").read_bytes()


def change_time(path: Path) -> None:
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns - 10**9))


def put_another_in_place(path: Path) -> None:
    """An older file of equal name, size and time, as a copy from a backup is."""
    stat = path.stat()
    other = path.with_name("other")
    other.write_text(path.read_text().replace("a", "e"))
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(path)


def test_texts_of_other_paths_and_times_are_compared_and_then_known(tmp_path):
    text = tmp_path / "one" / "x.txt"
    text.parent.mkdir()
    text.write_text("".join(f"a story {i}\n<|endoftext|>" for i in range(50)))
    out = prepare(text, tmp_path / "d", vocab_size=300)
    ids = (out / "train.bin").stat()
    up_to_date = f"data in {out} is up to date"
    compared = f"the texts are not known by their paths and times: comparing them with {out}"

    def say_of(path: Path, **options: object) -> list[str]:
        said: list[str] = []
        prepare(path, out, say=said.append, **({"vocab_size": 300} | options))
        return said

    change_time(text)
    assert say_of(text) == [compared, up_to_date]
    assert say_of(text) == [up_to_date]
    elsewhere = Path(shutil.copytree(text.parent, tmp_path / "two")) / "x.txt"
    assert say_of(elsewhere) == [compared, up_to_date]
    assert say_of(tmp_path / "two") == [up_to_date]
    assert identify(out / "train.bin") == [ids.st_size, ids.st_mtime_ns, ids.st_ino]
    open_prepared(out).verify()
    change_in_place(elsewhere)
    assert say_of(text) == [compared, up_to_date]
    with pytest.raises(FileExistsError, match="d holds data prepared with another text; "):
        say_of(elsewhere)
    change_in_place(elsewhere)
    assert say_of(elsewhere) == [compared, up_to_date]
    elsewhere.chmod(0o600)
    assert say_of(elsewhere) == [compared, up_to_date]
    put_another_in_place(elsewhere)
    with pytest.raises(FileExistsError, match="d holds data prepared with another text; .*--overw"):
        say_of(elsewhere)
    elsewhere.write_text("of another size")
    with pytest.raises(FileExistsError, match="d holds data prepared with another files; "):
        say_of(elsewhere)
    cut_ids(out)
    change_time(text)
    with pytest.raises(FileExistsError, match="prepared with another files; .*--overwrite"):
        say_of(text)
    assert say_of(text, replace=True)[0].startswith(f"made anew: the data in {out} cannot be used")
    put_another_in_place(text)
    assert "training a tokenizer of 300 entries" in say_of(text, replace=True)
    assert "e story 0" in decoded(out, "train")[0]


def change_in_place(path: Path) -> None:
    """Exchange two letters, and set the time back, as cp -p does."""
    stat = path.stat()
    path.write_text(path.read_text().translate(str.maketrans("st", "ts")))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (path.stat().st_ino, path.stat().st_size) == (stat.st_ino, stat.st_size)


@pytest.mark.parametrize("is_interrupted", [False, True])
def test_texts_that_serve_other_splits_than_before_are_other_texts(
    is_interrupted, tmp_path, monkeypatch
):
    for name in ("texts/x.txt", "texts/val/y.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("".join(f"{name} {i}\n{END_OF_TEXT}" for i in range(30)))
    files = [tmp_path / "texts/x.txt", tmp_path / "texts/val/y.txt"]
    given = prepare(files, tmp_path / "whole", vocab_size=290) / "tokenizer"
    options: dict[str, Any] = {"tokenizer": given, "val_fraction": 0.5}
    out = tmp_path / "d"
    said: list[str] = []
    with monkeypatch.context() as patch:
        if is_interrupted:
            patch.setattr(TokenWriter, "write", written_to_train_only)
        with contextlib.suppress(KeyboardInterrupt):
            prepare(files, out, **options)
    if not is_interrupted:
        with pytest.raises(FileExistsError, match="d holds data prepared with another split"):
            prepare(tmp_path / "texts", out, **options)
        old = read_sealed(out / "meta.json")
        del old["source"]["split"]  # as earlier versions wrote it
        (out / "meta.json").write_bytes(seal(old))
        with pytest.raises(FileExistsError, match="d holds data prepared with another text"):
            prepare(tmp_path / "texts", out, **options)
        prepare(files, out, say=said.append, **options)
        assert said[-1] == f"data in {out} is up to date"
        assert read_sealed(out / "meta.json")["source"]["split"] == {"train": 2, "val": 0}
        return
    prepare(tmp_path / "texts", out, say=said.append, **options)
    assert any(line.startswith("begun anew: ") for line in said)
    assert {text.split()[0] for text in decoded(out, "train")} == {"texts/x.txt"}
    assert {text.split()[0] for text in decoded(out, "val")} == {"texts/val/y.txt"}


def written_to_train_only(writer: TokenWriter, ids: Any, write: Any = TokenWriter.write) -> Any:
    if "val" in writer._path.name:
        raise KeyboardInterrupt
    return write(writer, ids)


@pytest.mark.parametrize("given", ["folder", "files"])
def test_data_of_earlier_versions_is_compared_before_it_is_reused(given, corpus, tmp_path):
    """They noted name, size and time of each given file, or of a folder with all that was in it."""
    folder = Path(shutil.copytree(corpus, tmp_path / "stories"))
    (folder / "README.md").write_text("of no split")
    texts = [folder] if given == "folder" else [folder / "train.txt", folder / "valid.txt"]
    out = prepare(texts, tmp_path / "d", vocab_size=400)
    meta = read_sealed(out / "meta.json")
    meta["source"]["files"] = [
        [Path(path).name, *rest[:2]] for path, *rest in meta["source"]["files"]
    ]
    if given == "folder":
        size = sum(path.stat().st_size for path in folder.iterdir())
        meta["source"]["files"] = [[folder.name, size, 1]]
    (out / "meta.json").write_bytes(seal(meta))
    old = (out / "meta.json").read_bytes()
    said: list[str] = []
    prepare(texts, out, vocab_size=400, say=said.append)
    assert said[-1] == f"data in {out} is up to date"
    assert any(line.endswith(f"comparing them with {out}") for line in said)
    assert open_prepared(out).vocab_size == 400
    (out / "meta.json").write_bytes(old)
    put_another_in_place(folder / "valid.txt")
    with pytest.raises(FileExistsError, match="d holds data prepared with another text; "):
        prepare(texts, out, vocab_size=400)


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
    assert said[-1].endswith("give more text, or a larger --val-fraction")


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


def test_foreign_folder_is_not_touched(corpus, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match="not empty and holds no prepared data"):
        prepare(corpus, tmp_path / "d", vocab_size=300)
    assert (tmp_path / "d" / "thesis.tex").read_text() == "years of work"
