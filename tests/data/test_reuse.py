"""Prepared data is reused, made anew or refused, and files of others stay."""

import contextlib
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from prepared_data import copy_of, decoded

from fastlm.data import END_OF_TEXT, open_prepared, prepare
from fastlm.files.paths import identify
from fastlm.files.sealed import read_sealed, seal
from fastlm.files.tokens import TokenWriter


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
    compared = f"the texts have other paths or times than before: comparing them with {out}"

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


def test_foreign_folder_is_not_touched(corpus, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match="not empty and holds no prepared data"):
        prepare(corpus, tmp_path / "d", vocab_size=300)
    assert (tmp_path / "d" / "thesis.tex").read_text() == "years of work"
