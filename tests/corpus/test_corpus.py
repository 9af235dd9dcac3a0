"""Claims about readers and the stories command: documents arrive as they stand in the file."""

import gzip
import hashlib
import json
import lzma
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastlm.cli import BadArguments, run
from fastlm.corpus import documents as reader
from fastlm.corpus import generated, make_stories
from fastlm.corpus.__main__ import main
from fastlm.corpus.documents import iter_documents
from fastlm.corpus.stories import generate_stories
from fastlm.corpus.text_files import find_texts
from fastlm.data.split_names import split_by_names
from fastlm.files import disk
from fastlm.tokenizer import train_bpe

SEPARATOR = "<|endoftext|>"
PACK = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: zstandard.ZstdCompressor().compress(data),
}
any_path = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
pieces = st.one_of(
    st.just(SEPARATOR),
    st.sampled_from(
        [SEPARATOR[:5], SEPARATOR[5:], "<", "|>", "\r\n", "\n", " ", "\u2028", "é", "🦊"]
    ),
    st.text(max_size=8),
)
texts = st.lists(pieces, max_size=20).map("".join)


def documents(path: Path, **options: object) -> list[str]:
    return list(iter_documents(path, **options))  # type: ignore[arg-type]


@any_path
@given(text=texts, block_bytes=st.sampled_from([1, 2, 3, 5, 12, 13, 14, 1000]))
def test_txt_documents_are_what_stands_between_separators(
    tmp_path: Path, text: str, block_bytes: int
) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(text.encode())
    expected = [piece for piece in text.split(SEPARATOR) if piece.strip()]
    if expected:
        assert documents(path, block_bytes=block_bytes) == expected
    else:
        with pytest.raises(ValueError, match=r"text.txt holds no documents: expected text"):
            documents(path, block_bytes=block_bytes)


@any_path
@given(data=st.binary(max_size=60), block_bytes=st.integers(1, 9))
def test_bytes_that_are_not_utf8_are_refused_at_their_offset_or_replaced(
    tmp_path: Path, data: bytes, block_bytes: int
) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"first" + data)
    replaced = (b"first" + data).decode("utf-8", "replace")
    assert documents(path, block_bytes=block_bytes, errors="replace") == [replaced]
    try:
        (b"first" + data).decode()
    except UnicodeDecodeError as error:
        with pytest.raises(ValueError, match=rf"text.txt: expected UTF-8, .*offset {error.start};"):
            documents(path, block_bytes=block_bytes)
    else:
        assert documents(path, block_bytes=block_bytes) == [replaced]


@any_path
@given(
    rows=st.lists(st.text(max_size=9), min_size=1, max_size=9),
    block_bytes=st.integers(1, 50),
    ascii_only=st.booleans(),
    newline=st.sampled_from(["\n", "\r\n", "\n\n", "\n \n"]),
)
def test_jsonl_documents_are_the_strings_of_the_field(
    tmp_path: Path, rows: list[str], block_bytes: int, ascii_only: bool, newline: str
) -> None:
    path = tmp_path / "text.jsonl"
    rows.append("last")
    lines = [json.dumps({"id": 1, "body": row}, ensure_ascii=ascii_only) for row in rows]
    path.write_bytes(newline.join(lines).encode())
    expected = [row for row in rows if row.strip()]
    assert documents(path, text_field="body", block_bytes=block_bytes) == expected


@pytest.mark.parametrize("packed", PACK)
def test_compressed_files_read_as_plain_ones(tmp_path: Path, packed: str) -> None:
    txt = tmp_path / f"a.txt{packed}"
    txt.write_bytes(PACK[packed](f"né\r\n{SEPARATOR}\n{SEPARATOR}two".encode()))
    assert documents(txt, block_bytes=3) == ["né\r\n", "two"]
    jsonl = tmp_path / f"b.jsonl{packed}"
    jsonl.write_bytes(PACK[packed](b'{"text": "three"}\n'))
    assert documents(jsonl, block_bytes=3) == ["three"]
    assert documents(tmp_path) == ["né\r\n", "two", "three"]


def test_offsets_of_bad_bytes_count_unpacked_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"a" * 5000 + b"\xff"))
    with pytest.raises(ValueError, match="offset 5000;"):
        documents(path)
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a"}\n{"text": "\xff"}\n')
    with pytest.raises(ValueError, match=r"a.jsonl: expected UTF-8, got .* offset 24;"):
        documents(path)
    assert documents(path, errors="replace") == ["a", "\ufffd"]


def test_folder_is_read_in_order_of_names_in_all_depths(tmp_path: Path) -> None:
    for name in ("b/z.txt", "a/y.jsonl", "c.txt", "empty.txt", "notes.md", "b/x.txt.part"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({"text": name}) if name.endswith("jsonl") else name)
    (tmp_path / "empty.txt").write_text("")
    assert documents(tmp_path) == ["a/y.jsonl", "b/z.txt", "c.txt"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a"', r"line 3: expected a JSON object, got broken JSON \(Expecting"),
        ('{"body": "a", "id": 1}', "line 3: .* with a field 'text', got the fields body, id"),
        ('["text"]', "line 3: expected a JSON object with a field 'text', got list"),
        ('{"text": 5}', "line 3: expected a string in the field 'text', got int"),
        ('{"text": null}', "line 3: expected a string in the field 'text', got NoneType"),
        (r'{"text": "a\ud800"}', "line 3: the field 'text' has a lone surrogate"),
    ],
)
def test_bad_lines_of_jsonl_are_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "good"}\n\n' + line + "\n")
    with pytest.raises(ValueError, match=rf"a\.jsonl, {message}"):
        documents(path)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ('{"text": "x", "id": ' + "1" * 5000 + "}", "x"),
        ('{"text": "x", "id": [-' + "9" * 9000 + ", 1e99999, NaN]}", "x"),
        ('{"id": {"text": 1}, "text": "y"}', "y"),
    ],
)
def test_values_beside_the_text_may_be_anything(tmp_path: Path, line: str, text: str) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "good"}\n' + line)
    assert documents(tmp_path / "a.jsonl") == ["good", text]


@pytest.mark.parametrize(
    "deep", ["[" * 99_999 + "]" * 99_999, '{"a":' * 99_999 + "1" + "}" * 99_999]
)
@pytest.mark.parametrize("digits", ["1", "1" * 5000])
def test_a_line_that_is_nested_too_deeply_is_named(tmp_path: Path, deep: str, digits: str) -> None:
    line = f'{{"text": "x", "id": {digits}, "tree": {deep}}}'
    (tmp_path / "a.jsonl").write_text('{"text": "good"}\n' + line)
    with pytest.raises(ValueError, match=r"a\.jsonl, line 2: .* nested too deeply to be read"):
        documents(tmp_path / "a.jsonl")


@pytest.mark.parametrize("packed", PACK)
@pytest.mark.parametrize("first", ["", "\n", '{"text": "zero"}\n'])
def test_a_byte_order_mark_before_the_first_line_is_no_json(
    tmp_path: Path, packed: str, first: str
) -> None:
    path = tmp_path / f"a.jsonl{packed}"
    path.write_bytes(PACK[packed](b"\xef\xbb\xbf" + f'{first}{{"text": "one"}}'.encode()))
    assert documents(path, block_bytes=2) == [*(["zero"] if "zero" in first else []), "one"]
    path.write_bytes(PACK[packed](b'{"text": "one"}\n\xef\xbb\xbf{"text": "two"}'))
    with pytest.raises(ValueError, match=r"line 2: expected a JSON object, got broken JSON"):
        documents(path)


@pytest.mark.parametrize("errors", ["strict", "replace"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16_is_not_read_as_letters_between_zeros(encoding, errors, tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(("Once upon a time there was a cat.\n" * 9).encode(encoding))
    with pytest.raises(ValueError, match=r"a\.txt: expected UTF-8, got UTF-16: convert it"):
        list(iter_documents(path, errors=errors))
    with pytest.raises(ValueError, match=r"a\.txt: expected UTF-8, got UTF-16: convert it"):
        train_bpe(path, 300, [], errors=errors)
    for other in (b"\0", b"a\0b", b"ab\0" + b"cd " * 99):  # odd, but no UTF-16
        path.write_bytes(other)
        assert list(iter_documents(path)) == [other.decode()]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_an_end_of_text_inside_a_text_is_refused_or_ends_a_document(
    tmp_path: Path, kind: str
) -> None:
    rows = ["one", f"two{SEPARATOR}three", f"{SEPARATOR} four{SEPARATOR}"]
    path = tmp_path / f"a.{kind}"
    if kind == "jsonl":
        path.write_text("\n".join(json.dumps({"body": row}) for row in rows))
    else:
        pyarrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table({"body": rows}), path)
    unit = {"jsonl": "line 2: the field", "parquet": "row 2: the column"}[kind]
    with pytest.raises(ValueError, match=rf"a\.{kind}, {unit} 'body' has <.*--allow-end-of-text"):
        documents(path, text_field="body")
    allowed = documents(path, text_field="body", allow_end_of_text=True)
    assert allowed == ["one", "two", "three", " four"]


def test_lone_surrogates_are_replaced_on_wish(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(r'{"text": "a\ud800b\ud83e\udd8a"}')
    assert documents(path, errors="replace") == ["a\ufffdb🦊"]


def test_paths_that_hold_no_text_are_errors_at_the_call(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere: expected a text file or a folder"):
        iter_documents(tmp_path / "nowhere")
    (tmp_path / "a.pdf").write_text("x")
    known = r"\.txt, \.txt\.gz, \.txt\.xz, \.txt\.zst, \.jsonl, .*\.jsonl\.zst"
    with pytest.raises(ValueError, match=rf"a\.pdf: expected a file ending in {known}"):
        iter_documents(tmp_path / "a.pdf")
    with pytest.raises(ValueError, match=rf"expected a folder with files ending in {known}"):
        iter_documents(tmp_path)
    with pytest.raises(ValueError, match='errors must be "strict" or "replace": got \'ignore\''):
        iter_documents(tmp_path, errors="ignore")  # type: ignore[arg-type]


def test_one_long_document_is_not_joined_block_by_block(tmp_path: Path, monkeypatch) -> None:
    """Adding each block to one growing string would copy the square of the document's size."""
    n_copied = 0

    class Block(str):
        def __radd__(self, before: str) -> str:
            nonlocal n_copied
            n_copied += len(before) + len(self)
            return before + str(self)

    decoded = reader._decoded
    monkeypatch.setattr(reader, "_decoded", lambda *arguments: map(Block, decoded(*arguments)))
    path = tmp_path / "long.txt"
    path.write_bytes(b"<|endoftext|" * 100_000)
    (text,) = iter_documents(path, block_bytes=4096)
    assert len(text) == 1_200_000
    assert 1_200_000 <= n_copied < 1_300_000


def test_documents_of_real_text_are_those_of_split(text_dir: Path) -> None:
    path = text_dir / "tinystories_valid.txt"
    text = path.read_bytes().decode()
    assert documents(path, block_bytes=4099) == [p for p in text.split(SEPARATOR) if p.strip()]


def test_stories_files_hold_disjoint_stories_of_the_asked_size(tmp_path: Path) -> None:
    out = make_stories(tmp_path / "new" / "stories", seed=3, n_bytes=60_000, valid_bytes=20_000)
    card = json.loads((out / "corpus.json").read_text())
    assert (card["what"], card["seed"]) == ("stories", 3)
    seen: dict[str, list[str]] = {}
    for name, size in (("train.txt", 60_000), ("valid.txt", 20_000)):
        data = (out / name).read_bytes()
        assert size <= len(data) < size + 3000
        assert data.decode().endswith(f"\n{SEPARATOR}\n")
        seen[name] = [document.strip() for document in iter_documents(out / name)]
        assert card["files"][name] == {
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "documents": len(seen[name]),
        }
    assert seen["train.txt"] == list(generate_stories(3, 60_000))
    assert not set(seen["train.txt"]) & set(seen["valid.txt"])
    split = split_by_names(find_texts([out]).files)
    assert split == ([out / "train.txt"], [out / "valid.txt"], [], [])
    assert sorted(path.name for path in out.iterdir()) == ["corpus.json", "train.txt", "valid.txt"]


def test_finished_stories_are_kept_and_others_replaced_if_that_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def make(seed: int = 0, *, replace: bool = False) -> str:
        make_stories(tmp_path, seed=seed, n_bytes=5000, valid_bytes=2000, replace=replace)
        return (tmp_path / "train.txt").read_text()

    first = make()
    before = (tmp_path / "train.txt").stat().st_mtime_ns
    assert "are there already" not in capsys.readouterr().err
    assert make() == first
    assert (tmp_path / "train.txt").stat().st_mtime_ns == before
    assert "the stories are there already" in capsys.readouterr().err
    (tmp_path / "train.txt").unlink()
    assert make() == first
    assert generated.are_unchanged(tmp_path)
    with pytest.raises(FileExistsError, match="holds stories of other arguments"):
        make(seed=1)
    assert (tmp_path / "train.txt").read_text() == first
    assert make(seed=1, replace=True) != first
    # Somebody works on them: neither that call nor one for other stories takes that away.
    (tmp_path / "valid.txt").write_text("edited")
    assert not generated.are_unchanged(tmp_path)
    for seed in (0, 1):
        with pytest.raises(FileExistsError, match=r"valid\.txt was changed since the stories were"):
            make(seed)
    assert (tmp_path / "valid.txt").read_text() == "edited"
    assert make(replace=True) == first
    assert (tmp_path / "valid.txt").stat().st_size >= 2000


def test_what_is_in_the_way_of_the_last_story_is_told_before_the_first(tmp_path: Path) -> None:
    (tmp_path / "valid.txt").mkdir()
    with pytest.raises(IsADirectoryError, match=r"valid\.txt is a folder"):
        make_stories(tmp_path, n_bytes=1 << 50, valid_bytes=2000)
    assert [path.name for path in tmp_path.iterdir()] == ["valid.txt"]


def test_a_crash_while_stories_are_replaced_is_in_no_ones_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_stories(tmp_path, seed=0, n_bytes=5000, valid_bytes=2000)
    name_file = disk.name_file

    def crash(partial: Path, *arguments: Any, **options: Any) -> None:
        if partial.name.endswith("train.txt"):  # the last one: valid.txt and the card are new
            raise KeyboardInterrupt
        name_file(partial, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(disk, "name_file", crash)
        with pytest.raises(KeyboardInterrupt):
            make_stories(tmp_path, seed=1, n_bytes=5000, valid_bytes=2000, replace=True)
    make_stories(tmp_path, seed=1, n_bytes=5000, valid_bytes=2000)
    expected = make_stories(tmp_path / "new", seed=1, n_bytes=5000, valid_bytes=2000)
    assert (tmp_path / "train.txt").read_bytes() == (expected / "train.txt").read_bytes()


@pytest.mark.parametrize("name", ["train.txt", "valid.txt", "corpus.json"])
def test_texts_of_others_are_not_written_over(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=f"{name} exists and is not of generated stories"):
        make_stories(tmp_path, n_bytes=5000, valid_bytes=2000)
    assert (tmp_path / name).read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_break_while_writing_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(seed: int, n_bytes: int, *, first: int = 0):  # type: ignore[no-untyped-def]
        yield "a story"
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("fastlm.corpus.generated.generate_stories", broken)
        with pytest.raises(KeyboardInterrupt):
            make_stories(tmp_path, n_bytes=5000, valid_bytes=2000)
    assert not (tmp_path / "train.txt").exists()
    make_stories(tmp_path, n_bytes=5000, valid_bytes=2000)
    assert len(list(tmp_path.iterdir())) == 3


def test_stories_command_makes_what_the_function_makes(tmp_path: Path) -> None:
    sizes = ["--n-bytes", "4000", "--valid-bytes", "3000"]
    main(["stories", "--out", str(tmp_path / "a"), "--seed", "7", *sizes])
    make_stories(tmp_path / "b", seed=7, n_bytes=4000, valid_bytes=3000)
    for name in ("train.txt", "valid.txt", "corpus.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--n-bytes", "0"], "error: n_bytes must be at least 1: got 0\n"),
        (["--valid-bytes", "-3"], "error: valid_bytes must be at least 1: got -3\n"),
    ],
)
def test_impossible_sizes_are_one_line_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        run(lambda: main(["stories", "--out", str(tmp_path / "a"), *arguments]))
    assert (stop.value.code, capsys.readouterr().err) == (2, message)
    assert not (tmp_path / "a").exists()


def test_folder_that_cannot_be_is_one_line_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as stop:
        run(lambda: main(["stories", "--out", str(tmp_path / "file" / "a")]))
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"error: Not a directory: {tmp_path}/file/a\n"


def test_unknown_corpus_names_the_nearest() -> None:
    with pytest.raises(BadArguments, match="unknown command 'story'; did you mean stories"):
        main(["story", "--out", "x"])


def test_command_starts_fast_and_without_torch(tmp_path: Path) -> None:
    code = (
        "import fastlm.corpus, sys; sys.exit('torch' in sys.modules or 'zstandard' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    assert (
        subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
    )
    help_text = subprocess.run(
        [sys.executable, "-m", "fastlm.corpus", "--help"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert all(name in help_text for name in ("stories", "tinystories", "owt"))
