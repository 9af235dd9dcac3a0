"""Reading a column of text from .parquet files, in batches of rows.

pyarrow is imported only when a .parquet file is read: pip install 'fastlm[parquet]'.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastlm.corpus.naming import listed
from fastlm.files.paths import check_unchanged, identify, open_to_read

_BATCH_ROWS = 256
_BUFFER_BYTES = 1 << 20  # without a buffer a whole column of a row group is read at once


def check_parquet(path: Path, column: str) -> None:
    """Refuse a file that has no such column of text, without reading rows.

    Raises:
        ValueError: if the file is damaged, the column is missing or holds no text, or pyarrow is
            missing.
    """
    _open(path, column).close()


def read_parquet(path: Path, column: str, errors: str) -> Iterator[str]:
    """Yield the texts of a column. Memory grows with a batch of rows, not with the file.

    Args:
        errors: "strict" refuses bytes that are not UTF-8; "replace" reads U+FFFD.
    Raises:
        ValueError: as in check_parquet, or if a row holds no text; the message names it.
    """
    import pyarrow

    seen = identify(path)
    row = 0
    with _open(path, column) as file:
        # A struct "a" with a field "b" is read too where the column is called "a.b".
        batches = file.iter_batches(_BATCH_ROWS, columns=[column], use_threads=False)
        while True:
            try:
                batch = next(batches, None)
            except (pyarrow.ArrowException, OSError) as error:
                raise _damaged(path, error) from error
            if batch is None:
                break
            for value in _as_bytes(batch.column(column)):
                row += 1
                if value is None:
                    raise ValueError(
                        f"{path}, row {row}: expected text in the column {column!r}, got null; "
                        "leave such rows out of the file"
                    )
                try:
                    yield value.decode("utf-8", errors)
                except UnicodeDecodeError as error:
                    raise ValueError(
                        f"{path}, row {row}: expected UTF-8 in the column {column!r}, got an "
                        f"invalid byte at offset {error.start}; read it with --errors replace "
                        '(errors="replace")'
                    ) from error
    check_unchanged(path, seen)


def _open(path: Path, column: str) -> Any:
    """Open a ParquetFile and check that the column is text."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ValueError(
            f"{path}: reading .parquet files needs pyarrow: pip install 'fastlm[parquet]'"
        ) from None

    open_to_read(path).close()  # a pipe is refused
    try:
        file = pyarrow.parquet.ParquetFile(path, buffer_size=_BUFFER_BYTES)
        schema = file.schema_arrow
    except (pyarrow.ArrowException, OSError) as error:
        raise _damaged(path, error) from error
    n_found = schema.names.count(column)
    if n_found == 1:
        kind = schema.field(column).type
        if pyarrow.types.is_dictionary(kind):
            kind = kind.value_type
        if any(kind == one for one in _text_types()):
            return file
    file.close()
    if n_found == 1:
        raise ValueError(f"{path}: expected text in the column {column!r}, got {kind}")
    if n_found > 1:
        raise ValueError(f"{path}: expected one column {column!r}, got {n_found} of that name")
    raise ValueError(
        f"{path}: expected a column {column!r}, got the columns {listed(schema.names)}; "
        "name the one that holds the text with --text-field"
    )


def _text_types() -> list[Any]:
    import pyarrow

    return [pyarrow.string(), pyarrow.large_string(), pyarrow.string_view()]


def _as_bytes(column: Any) -> list[bytes | None]:
    import pyarrow

    # A direct cast to strings could not tell which row has bytes that are not UTF-8.
    if pyarrow.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.cast(pyarrow.large_binary()).to_pylist()


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{path}: expected a whole .parquet file, but it is damaged or cut short "
        f"({' '.join(str(error).split())}); get it again"
    )
