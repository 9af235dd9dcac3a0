""".parquet files: the documents are the rows of a column, and what is wrong with a file is one line."""

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from fastlm.cli import run
from fastlm.corpus.documents import iter_documents
from fastlm.data.__main__ import main

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

ROWS = ["one", "né\r\n 🦊", "  ", "", "<|endoftext stays", "x" * 100_000, "last\x00"]
KEPT = [row for row in ROWS if row.strip()]


def write(path: Path, rows: list[object], column: str = "text", **options: object) -> Path:
    kind = options.pop("kind", pyarrow.string())
    columns = {"id": pyarrow.array(range(len(rows))), column: pyarrow.array(rows, kind)}
    parquet.write_table(pyarrow.table(columns), path, **options)
    return path


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd"])
@pytest.mark.parametrize("row_group_size", [1, 3, 1000])
def test_documents_are_the_rows_of_the_column(
    tmp_path: Path, compression: str, row_group_size: int
) -> None:
    path = write(
        tmp_path / "a.parquet", ROWS, compression=compression, row_group_size=row_group_size
    )
    assert list(iter_documents(path)) == KEPT
    many = write(tmp_path / "b.parquet", [f"row {i}" for i in range(1000)], row_group_size=300)
    assert list(iter_documents(many)) == [f"row {i}" for i in range(1000)]


@pytest.mark.parametrize("kind", ["string", "large_string", "dictionary"])
def test_texts_of_all_kinds_of_columns_are_read(tmp_path: Path, kind: str) -> None:
    types = {
        "string": pyarrow.string(),
        "large_string": pyarrow.large_string(),
        "dictionary": pyarrow.dictionary(pyarrow.int32(), pyarrow.string()),
    }
    path = write(tmp_path / "a.parquet", [*KEPT, *KEPT], "body", kind=types[kind])
    assert list(iter_documents(path, text_field="body")) == [*KEPT, *KEPT]


def test_a_column_that_is_called_like_a_field_of_another_is_read(tmp_path: Path) -> None:
    table = pyarrow.table({"a": [{"b": 1}, {"b": 2}], "a.b": ["one", "two"]})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert list(iter_documents(tmp_path / "a.parquet", text_field="a.b")) == ["one", "two"]


def test_a_missing_column_or_field_is_told_with_ten_others(tmp_path: Path) -> None:
    names = [f"column-{i}" for i in range(1000)] + ["x" * 5000]
    parquet.write_table(pyarrow.table({name: ["x"] for name in names}), tmp_path / "a.parquet")
    (tmp_path / "a.jsonl").write_text(json.dumps(dict.fromkeys(names, "x")))
    for name in ("a.parquet", "a.jsonl"):
        with pytest.raises(ValueError, match="column-9 and 991 more; ") as caught:
            list(iter_documents(tmp_path / name))
        assert len(str(caught.value)) < 500


def test_folders_mix_parquet_with_other_texts(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("first")
    write(tmp_path / "b.parquet", ["second", "third"])
    (tmp_path / "c.jsonl").write_text('{"text": "fourth"}')
    assert list(iter_documents(tmp_path)) == ["first", "second", "third", "fourth"]


def wrong_utf8(path: Path) -> Path:
    raw = pyarrow.array([b"good", b"ba\xffd"], pyarrow.binary())
    strings = pyarrow.Array.from_buffers(pyarrow.string(), 2, raw.buffers())
    parquet.write_table(pyarrow.table({"text": strings}), path)
    return path


def test_bytes_that_are_not_utf8_are_refused_or_replaced(tmp_path: Path) -> None:
    path = wrong_utf8(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a.parquet, row 2: expected UTF-8 .* at offset 2"):
        list(iter_documents(path))
    assert list(iter_documents(path, errors="replace")) == ["good", "ba\ufffdd"]


def damaged(path: Path) -> None:
    write(path, ["some text " * 1000 + str(i) for i in range(50)], compression="gzip")
    raw = bytearray(path.read_bytes())
    raw[100:400] = bytes(300)
    path.write_bytes(raw)


BAD = {
    "no column": (
        lambda path: write(path, ["a"], "body"),
        "expected a column 'text', got the columns id, body; name the one that holds the text with --text-field",
    ),
    "numbers": (
        lambda path: write(path, [1, 2], kind=pyarrow.int64()),
        "expected text in the column 'text', got int64",
    ),
    "bytes": (
        lambda path: write(path, [b"a"], kind=pyarrow.binary()),
        "expected text in the column 'text', got binary",
    ),
    "lists": (
        lambda path: write(path, [["a"]], kind=pyarrow.list_(pyarrow.string())),
        "expected text in the column 'text', got list<",
    ),
    "null": (
        lambda path: write(path, ["a", None, "b"]),
        "row 2: expected text in the column 'text', got null; leave such rows out of the file",
    ),
    "cut short": (
        lambda path: path.write_bytes(write(path, ["a"]).read_bytes()[:-9]),
        "expected a whole .parquet file, but it is damaged or cut short (",
    ),
    "empty": (lambda path: path.write_bytes(b""), "expected a whole .parquet file"),
    "no parquet": (lambda path: path.write_text("text\n" * 99), "expected a whole .parquet file"),
    "damaged inside": (damaged, "expected a whole .parquet file"),
    "no rows": (lambda path: write(path, []), "holds no documents"),
}


@pytest.mark.parametrize(("make", "message"), BAD.values(), ids=BAD)
def test_what_is_wrong_with_a_file_is_one_line_and_nothing_is_written(
    make, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "a.parquet")
    text, out = str(tmp_path / "a.parquet"), str(tmp_path / "new" / "d")
    with pytest.raises(SystemExit) as stop:
        run(lambda: main(["prepare", text, "--vocab-size", "300", "--out", out]))
    told = capsys.readouterr().err
    assert stop.value.code == 2
    assert told.count("\n") == 1
    assert f"{tmp_path}/a.parquet" in told
    assert message in told
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


def test_columns_of_all_files_are_looked_at_before_any_text_is_read(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", ["fine"])
    write(tmp_path / "b.parquet", ["fine"], "body")
    with pytest.raises(ValueError, match=r"b\.parquet: expected a column 'text', got the columns"):
        iter_documents(tmp_path)


def test_without_pyarrow_the_line_names_the_remedy_and_other_texts_are_read(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", ["one"])
    (tmp_path / "b.txt").write_text("two")
    code = """
import sys
sys.modules["pyarrow"] = None
from fastlm.cli import run
from fastlm.corpus.documents import iter_documents
print(*iter_documents("b.txt"), flush=True)
run(lambda: iter_documents("."))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "two\n")
    remedy = "reading .parquet files needs pyarrow: pip install 'fastlm[parquet]'"
    assert done.stderr == f"error: a.parquet: {remedy}\n"


def test_pyarrow_is_not_imported_for_other_texts(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("two")
    code = (
        "import sys; from fastlm.corpus.documents import iter_documents; list(iter_documents('.'));"
        "sys.exit('pyarrow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == 0


def test_one_large_row_group_is_read_in_parts(tmp_path: Path) -> None:
    n_rows, row = 4000, "word " * 2000
    texts = [f"{i} {row}" for i in range(n_rows)]  # 40 MB
    path = write(tmp_path / "a.parquet", texts, row_group_size=n_rows, use_dictionary=False)
    assert parquet.ParquetFile(path).num_row_groups == 1
    n_bytes = sum(map(len, texts))
    del texts
    before = pyarrow.default_memory_pool().bytes_allocated()
    tracemalloc.start()
    held, n_read = 0, 0
    for text in iter_documents(path):
        n_read += len(text)
        held = max(held, pyarrow.default_memory_pool().bytes_allocated() - before)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert n_read == n_bytes
    assert held + peak < 20_000_000
