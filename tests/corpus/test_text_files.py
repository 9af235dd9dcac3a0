"""Which files a folder or a pattern stands for: each text once, all else passed over and counted."""

import glob
import os
import random
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from fastlm.corpus import text_files
from fastlm.corpus.documents import iter_documents
from fastlm.corpus.text_files import FoundTexts, expand_patterns, find_texts, kind_of


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def relative(found: FoundTexts, folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in found.paths]


def find_both_ways(folder: Path, suffix: str = "txt") -> tuple[list[str], list[str]]:
    """The texts of a folder, which are those of a pattern of all depths, and the folder's notes."""
    found = find_texts([folder])
    assert relative(find_texts([f"{folder}/**/*.{suffix}"]), folder) == relative(found, folder)
    assert relative(find_texts([f"{folder}/**"]), folder) == relative(found, folder)
    return relative(found, folder), found.notes()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.TXT", "txt"), ("a.Txt.GZ", "txt"), ("a.JSONL.zst", "jsonl"), ("a.Parquet", "parquet"),
        ("notes.jsonl.txt", "txt"), ("a.txt.jsonl", "jsonl"), ("a.parquet.gz", None),
        ("a.json.gz", None), ("a.md", None), ("txt", None), ("a.gz", None), ("a.txt~", None),
    ],
)  # fmt: skip
def test_the_last_suffix_says_the_kind_in_any_case(name, kind):
    assert kind_of(name) == kind


def test_json_in_a_text_file_is_text_and_upper_case_is_read(tmp_path):
    (tmp_path / "notes.jsonl.txt").write_text("plain text")
    (tmp_path / "B.JSONL").write_text('{"text": "a line"}')
    assert list(iter_documents(tmp_path)) == ["a line", "plain text"]


def test_hidden_names_are_passed_over_once_with_a_count(tmp_path):
    touch(tmp_path, "a.txt", ".hidden.txt", ".ipynb_checkpoints/a-checkpoint.txt", ".git/x/b.txt")
    texts, (note,) = find_both_ways(tmp_path)
    assert texts == ["a.txt"]
    assert note == (
        f"note: not read: 3 hidden files and folders ({tmp_path}/.git, {tmp_path}/.hidden.txt, "
        f"{tmp_path}/.ipynb_checkpoints)"
    )
    # A path, or a pattern with the dot in it, says that they are wanted.
    assert find_texts([tmp_path / ".hidden.txt"]).paths == [tmp_path / ".hidden.txt"]
    assert find_texts([tmp_path / ".git"]).paths == [tmp_path / ".git/x/b.txt"]
    assert find_texts([f"{tmp_path}/.*.txt"]).paths == [tmp_path / ".hidden.txt"]


def test_tokenizers_prepared_data_and_runs_are_passed_over(tmp_path):
    touch(tmp_path, "a.txt", "tok/vocab.json", "tok/merges.txt", "tok/special_tokens.json")
    touch(tmp_path, "bert/tokenizer_config.json", "bert/vocab.txt", "bert/LICENSE.txt")
    touch(tmp_path, "d/meta.json", "d/train.bin", "d/tokenizer/merges.txt", "d/notes.txt")
    touch(tmp_path, "run/config.json", "run/log.jsonl", "run/sample.txt")
    texts, (note,) = find_both_ways(tmp_path)
    assert texts == ["a.txt", "bert/LICENSE.txt"]
    assert f"1 prepared folder ({tmp_path}/d)" in note
    assert f"1 folder of a run ({tmp_path}/run)" in note
    assert f"2 tokenizers ({tmp_path}/bert, {tmp_path}/tok)" in note
    for folder in ("tok", "d", "run"):
        with pytest.raises(ValueError, match=rf"{folder}: expected a folder .* found none besides"):
            find_texts([tmp_path / folder])


@pytest.mark.parametrize("name", ["vocab.txt", "merges.txt", "log.jsonl", "meta.json.txt"])
def test_names_of_such_files_are_texts_where_nothing_says_otherwise(name, tmp_path):
    touch(tmp_path, name)
    assert relative(find_texts([tmp_path]), tmp_path) == [name]


def test_a_tokenizer_beside_the_texts_does_not_hide_them(tmp_path):
    touch(tmp_path, "a.txt", "vocab.json", "merges.txt", "tables.npz")
    assert find_both_ways(tmp_path)[0] == ["a.txt"]


def test_other_kinds_are_counted_and_our_own_descriptions_are_not_told(tmp_path):
    touch(tmp_path, "a.txt", "b.md", "c.json.gz", "d.png", "e.csv")
    (tmp_path / "corpus.json").write_text('{"what": "stories"}')
    (tmp_path / "sources.json").write_text('{"a.txt": {"url": "https://a"}}')
    names = ", ".join(f"{tmp_path}/{name}" for name in ("b.md", "c.json.gz", "d.png"))
    note = f"note: not read: 4 files of other kinds ({names} and 1 more)"
    assert find_texts([tmp_path]).notes() == [note]
    assert find_texts([f"{tmp_path}/*"]).notes() == [note]
    assert find_texts([f"{tmp_path}/*.txt"]).notes() == []


def test_links_are_followed_and_each_text_is_read_once_by_its_own_name(tmp_path):
    touch(tmp_path, "big/wiki.txt", "my/b.txt", "my/z/c.txt")
    (tmp_path / "my/linked").symlink_to("../big")
    (tmp_path / "my/a-latest.txt").symlink_to("b.txt")
    (tmp_path / "my/again").symlink_to("z")
    (tmp_path / "my/other.txt").symlink_to("../big/wiki.txt")
    os.link(tmp_path / "my/b.txt", tmp_path / "my/z/hard.txt")
    texts, (note,) = find_both_ways(tmp_path / "my")
    assert texts == ["b.txt", "linked/wiki.txt", "z/c.txt"]
    assert "4 second names of what is read" in note
    given = [tmp_path / "my/b.txt", tmp_path / "my/z/../b.txt", tmp_path / "my/a-latest.txt"]
    assert find_texts(given).paths == given[:1]
    assert find_texts([*given, tmp_path / "my"]).paths[0] == given[0]


def test_what_is_only_named_like_our_descriptions_and_leftovers_is_read_or_told(tmp_path):
    touch(tmp_path, "a.txt", "corpus.json/b.txt", ".fastlm-x/c.txt", "x/sources.json", "x/d.json")
    note = f"1 hidden file or folder ({tmp_path}/.fastlm-x), 2 files of other kinds"
    assert find_both_ways(tmp_path)[0] == ["a.txt", "corpus.json/b.txt"]
    assert note in find_texts([tmp_path]).notes()[0]
    assert find_texts([f"{tmp_path}/x/*.json"], is_any_suffix=True).paths == [
        tmp_path / "x/d.json",
        tmp_path / "x/sources.json",
    ]


def test_a_second_name_in_a_mounted_folder_is_one_of_a_file_with_one_link(tmp_path, monkeypatch):
    touch(tmp_path, "train/a.txt", "val/b.txt")
    os.link(tmp_path / "train/a.txt", tmp_path / "val/a.txt")
    look = Path.stat

    def with_one_link(path: Path, **options: bool) -> object:
        found = look(path, **options)
        names = [name for name in dir(found) if name.startswith("st_")]
        return SimpleNamespace(**{name: getattr(found, name) for name in names} | {"st_nlink": 1})

    monkeypatch.setattr(Path, "stat", with_one_link)
    assert relative(find_texts([tmp_path]), tmp_path) == ["train/a.txt", "val/b.txt"]


@pytest.mark.parametrize("pattern", ["", "/**/*.txt", "/**", "/*/*/*.txt", "/**/**/a.txt"])
def test_loops_of_links_are_survived(pattern, tmp_path):
    touch(tmp_path, "a/a.txt")
    for name in ("again", "twice", "thrice"):  # 3^40 paths
        (tmp_path / name).symlink_to(".")
        (tmp_path / "a" / name).symlink_to("..")
    (tmp_path / "self.txt").symlink_to("self.txt")
    assert [path.resolve() for path in find_texts([f"{tmp_path}{pattern}"]).paths] == [
        (tmp_path / "a/a.txt").resolve()
    ]


def test_links_to_nothing_and_what_is_no_file_are_counted(tmp_path):
    touch(tmp_path, "a.txt")
    (tmp_path / "gone.txt").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.txt")
    texts, (note,) = find_both_ways(tmp_path)
    assert texts == ["a.txt"]
    assert f"1 link to nothing ({tmp_path}/gone.txt)" in note
    assert f"1 entry that is no file ({tmp_path}/pipe.txt)" in note
    with pytest.raises(FileNotFoundError, match=r"gone\.txt: .* found a link to nothing"):
        find_texts([tmp_path / "gone.txt"])
    with pytest.raises(ValueError, match=r"pipe\.txt is no regular file: expected a text file"):
        find_texts([tmp_path / "pipe.txt"])


def test_what_cannot_be_read_is_an_error(tmp_path, monkeypatch):
    """As root, no mode keeps anybody from reading: the calls to the system are refused here."""
    touch(tmp_path, "a.txt", "closed/b.txt")
    scandir, access = os.scandir, os.access

    def refused(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    for text in (tmp_path, f"{tmp_path}/**/*.txt"):
        with monkeypatch.context() as patch:
            patch.setattr(text_files.os, "scandir", refused)
            with pytest.raises(PermissionError, match=r"closed cannot be read \(Permission denied"):
                find_texts([text])
        with monkeypatch.context() as patch:
            patch.setattr(
                os, "access", lambda path, mode: "b.txt" not in str(path) and access(path, mode)
            )
            with pytest.raises(PermissionError, match=r"closed/b\.txt cannot be read: "):
                find_texts([text])


def test_the_same_text_packed_and_unpacked_is_refused_unless_both_are_given(tmp_path):
    touch(tmp_path, "in/a.txt", "in/a.txt.gz", "in/b.txt")
    with pytest.raises(ValueError, match=r"in/a\.txt\.gz seems to be the text of .*in/a\.txt once"):
        find_texts([tmp_path / "in"])
    given = [tmp_path / "in/a.txt", tmp_path / "in/a.txt.gz"]
    assert find_texts(given).paths == given


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("x/*", ["x/1.txt"]),
        ("*/1.txt", ["x/1.txt", "y/1.txt"]),
        ("[xy]/**", ["x/1.txt", "x/deep/2.txt", "y/1.txt"]),
        ("**/deep/*", ["x/deep/2.txt"]),
        ("**/x/**/*.txt", ["x/1.txt", "x/deep/2.txt"]),
        ("*.md", ["z.md"]),
        ("z*", ["z.md"]),
        ("*o*", ["book"]),
        ("*", ["a.txt"]),
    ],
)
def test_patterns_match_as_in_a_shell(pattern, expected, tmp_path, monkeypatch):
    touch(tmp_path, "a.txt", "x/1.txt", "x/deep/2.txt", "y/1.txt", "z.md", "book")
    monkeypatch.chdir(tmp_path)
    if pattern == "z*":  # the pattern does not say that other kinds are wanted
        with pytest.raises(FileNotFoundError, match=r"found none besides 1 file of another kind"):
            find_texts([pattern], is_any_suffix=True)
        return
    assert [str(path) for path in expand_patterns([pattern], is_any_suffix=True)] == expected


def test_patterns_match_what_glob_matches(tmp_path, monkeypatch):
    """As Python's own glob does, where there are no links: those it follows around."""
    touch(
        tmp_path, "t/a/c.txt", "t/a/a/x.txt", "t/a/b/a/c.txt", "t/b/d.jsonl", "t/b/e.md", "t/c.txt"
    )
    touch(
        tmp_path, "t/train/a/b/c.txt", "t/train/x.txt", "t/c/c.txt", "t/a.txt/b.txt", "t/.h/a.txt"
    )
    monkeypatch.chdir(tmp_path)
    parts = ["*", "**", "a", "b", "*.txt", "?", "[ab]", "c*", "t*", "*a*", "x.txt", ".h"]
    rng = random.Random(0)
    n_found = 0
    for _ in range(500):
        pattern = "/".join(["t", *rng.choices(parts, k=rng.randint(1, 4))])
        # glob finds a file for FILE/**, as if it were a folder; no shell does.
        if not glob.has_magic(pattern) or re.search(r"(txt|\*|\?|\])/\*\*$", pattern):
            continue
        matches = map(Path, glob.iglob(pattern, recursive=True))
        expected = sorted({path for path in matches if path.is_file() and kind_of(path)})
        try:
            found = find_texts([pattern]).paths
        except FileNotFoundError:
            found = []
        assert found == expected, pattern
        n_found += bool(found)
    assert n_found > 100


def test_names_are_relative_to_what_the_given_paths_have_in_common(tmp_path):
    touch(tmp_path, "sd/train/0.txt", "sd/val/0.txt", "sd/val/1.txt")
    names = ["train/0.txt", "val/0.txt", "val/1.txt"]
    sd = tmp_path / "sd"
    for given in (
        [sd],
        [f"{sd}/**/*.txt"],
        [f"{sd}/*/*.txt"],
        [sd / "train", sd / "val"],
        [f"{sd}/train/*", sd / "val"],
        [sd / name for name in names],
    ):
        assert [file.name for file in find_texts(given).files] == names


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.txt.gz", "a.parquet", "a.md"])
def test_a_pointer_of_git_lfs_is_no_text(name, tmp_path):
    (tmp_path / name).write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    )
    for given in [tmp_path / name, *([] if name == "a.md" else [tmp_path, tmp_path / "a*"])]:
        with pytest.raises(ValueError, match=rf"{name} is the pointer of Git LFS, .* git lfs pull"):
            find_texts([given], is_any_suffix=True)
    (tmp_path / name).write_text("version 2 of https://git-lfs.github.com/spec/v1\n")
    assert find_texts([tmp_path / name], is_any_suffix=True).paths == [tmp_path / name]


def test_a_folder_that_exists_is_meant_by_its_name_in_a_pattern(tmp_path, monkeypatch):
    touch(tmp_path, "[data]/a.txt", "[data]/[x]/b.txt", "d/c.txt", "[data]/x/d.txt")
    monkeypatch.chdir(tmp_path)
    for pattern, names in {
        "[data]/*.txt": ["[data]/a.txt"],
        "[data]/[x]/*": ["[data]/[x]/b.txt"],
        "[da]/*.txt": ["d/c.txt"],
        "[data]/**/[bd].txt": ["[data]/[x]/b.txt", "[data]/x/d.txt"],
    }.items():
        for given in (pattern, tmp_path / pattern):
            found = [os.path.relpath(path) for path in find_texts([given]).paths]
            assert found == names, pattern
    with pytest.raises(FileNotFoundError, match=r"\[data\]/none\.txt: expected .* found none"):
        find_texts(["[data]/none.txt"])


def test_a_name_that_is_a_pattern_of_an_existing_file_is_that_file(tmp_path):
    touch(tmp_path, "x[1].txt", "x1.txt")
    assert find_texts([tmp_path / "x[1].txt"]).paths == [tmp_path / "x[1].txt"]
