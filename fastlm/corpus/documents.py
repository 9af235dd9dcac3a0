"""Reading the documents of text files, whole or in pieces, in memory independent of file size.

Documents are separated by <|endoftext|> in .txt files, and stored one per line in .jsonl files and
one per row in .parquet files; .txt and .jsonl files may be compressed.
"""

import codecs
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from fastlm.corpus.parquet import check_parquet, read_parquet
from fastlm.files import disk
from fastlm.files.compression import COMPRESSIONS, read_blocks
from fastlm.files.paths import StrPath, expand
from fastlm.files.utf8 import check_errors

TEXT_SUFFIXES = (".txt", ".jsonl")
KNOWN_SUFFIXES = (
    *(text + packed for text in TEXT_SUFFIXES for packed in ("", *COMPRESSIONS)),
    ".parquet",
)

END_OF_TEXT = "<|endoftext|>"
"""Separator of documents in .txt files, and the special token after each document."""

Errors = Literal["strict", "replace"]
Piece = tuple[str, bool]
"""A part of a document, and whether the document ends with it."""

PIECE_CHARACTERS = 1 << 20
_READ_BYTES = 1 << 20


def iter_documents(
    path: StrPath | Sequence[StrPath],
    *,
    errors: Errors = "strict",
    text_field: str = "text",
    block_bytes: int = _READ_BYTES,
) -> Iterator[str]:
    """Yield the documents of text files, or of all text files in folders, in sorted order.

    Documents of .txt files are the unchanged text between separators; those of only white space
    are skipped. Memory grows with one document, not with the file.

    >>> Path("two.txt").write_text("one\\n<|endoftext|>\\r\\n two")
    >>> list(iter_documents("two.txt"))
    ['one\\n', '\\r\\n two']

    Args:
        path: a file with a suffix of KNOWN_SUFFIXES, or a folder that is searched recursively for
            such files, or several of both; each file is read once.
        errors: "replace" replaces bytes that are not UTF-8 by U+FFFD; "strict" refuses them.
        text_field: field of .jsonl lines, or column of .parquet files, that holds the document.
        block_bytes: bytes per read; the documents do not depend on it.
    Raises:
        FileNotFoundError: if there is no such path.
        ValueError: if bytes are not UTF-8, a line is not such JSON, a .parquet file has no such
            column, or there are no documents.
    """
    return _joined(iter_pieces(path, errors=errors, text_field=text_field, block_bytes=block_bytes))


def iter_pieces(
    path: StrPath | Sequence[StrPath],
    *,
    errors: Errors = "strict",
    text_field: str = "text",
    block_bytes: int = _READ_BYTES,
    piece_characters: int = PIECE_CHARACTERS,
    first_file: int = 0,
    on_file: Callable[[int], object] = lambda number: None,
) -> Iterator[Piece]:
    """Yield documents like iter_documents, but long ones of .txt files in several pieces.

    Memory does not grow with the documents of .txt files.

    Args:
        piece_characters: minimum size in characters of a piece that does not end its document.
        first_file: index of the file to begin with, if earlier files were read already.
        on_file: called with the index of each file before its first piece.
    """
    check_errors(errors)
    paths = [path] if isinstance(path, (str, Path)) else list(path)  # type: ignore[arg-type]
    files = text_files(paths)
    for file in files:
        if file.suffix == ".parquet":
            check_parquet(file, text_field)
    numbered = list(enumerate(files))[first_file:]
    pieces = _pieces(numbered, on_file, errors, text_field, block_bytes, piece_characters)
    return pieces if first_file else _at_least_one(pieces, _spell(paths))


def text_files(paths: Iterable[StrPath]) -> list[Path]:
    """Return the text files given by files and folders, each once.

    Raises:
        FileNotFoundError: if a path does not exist.
        ValueError: if a file is no text file, a folder has none, or there are no paths.
    """
    files = [file for path in paths for file in _text_files(Path(path))]
    if not files:
        raise ValueError("expected at least one text file or folder of them, got none")
    return list({file.absolute(): file for file in reversed(files)}.values())[::-1]


def expand_texts(paths: Iterable[StrPath]) -> list[Path]:
    """Expand patterns that match text files."""
    return expand(paths, is_wanted=is_text, wanted=f"files ending in {', '.join(KNOWN_SUFFIXES)}")


def is_text(file: Path) -> bool:
    """Return whether iter_documents reads a file, by its suffix; files in the making are none."""
    return (
        file.name.endswith(KNOWN_SUFFIXES)
        and not disk.is_in_the_making(file, file.parent)
        and file.is_file()
    )


def _spell(paths: Sequence[StrPath]) -> str:
    named = ", ".join(map(str, paths[:3]))
    return named if len(paths) <= 3 else f"{named} and {len(paths) - 3} more"


def _text_files(path: Path) -> list[Path]:
    known = ", ".join(KNOWN_SUFFIXES)
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if is_text(file))
        files = [file for file in found if not disk.is_in_the_making(file, path)]
        if not files:
            raise ValueError(f"{path}: expected a folder with files ending in {known}, found none")
        return files
    if not path.exists():
        raise FileNotFoundError(f"{path}: expected a text file or a folder of them, found nothing")
    if not path.name.endswith(KNOWN_SUFFIXES):
        raise ValueError(f"{path}: expected a file ending in {known}")
    if disk.is_in_the_making(path, path.parent):
        raise ValueError(f"{path} is of a file that is being made: give that one once it is whole")
    return [path]


def _pieces(
    files: Iterable[tuple[int, Path]],
    on_file: Callable[[int], object],
    errors: Errors,
    text_field: str,
    block_bytes: int,
    piece_characters: int,
) -> Iterator[Piece]:
    for number, file in files:
        on_file(number)
        if file.suffix == ".parquet":
            pieces = _whole(read_parquet(file, text_field, errors))
        elif ".jsonl" in file.suffixes[-2:]:
            pieces = _whole(_json_texts(file, read_blocks(file, block_bytes), errors, text_field))
        else:
            texts = _decoded(file, read_blocks(file, block_bytes), errors)
            pieces = _separated(texts, piece_characters)
        yield from _without_blank(pieces)


def _at_least_one(pieces: Iterator[Piece], name: str) -> Iterator[Piece]:
    first = next(pieces, None)
    if first is None:
        raise ValueError(f"{name} holds no documents: expected text, got nothing but white space")
    yield first
    yield from pieces


def _whole(documents: Iterable[str]) -> Iterator[Piece]:
    return ((document, True) for document in documents)


def _without_blank(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Skip documents of only white space."""
    blank: list[str] = []  # blank pieces at the start of a document
    is_begun = False
    for text, is_end in pieces:
        if not is_begun and (not text or text.isspace()):
            blank = [] if is_end else [*blank, text]
            continue
        yield "".join([*blank, text]) if blank else text, is_end
        blank, is_begun = [], not is_end


def _joined(pieces: Iterable[Piece]) -> Iterator[str]:
    parts: list[str] = []
    for text, is_end in pieces:
        parts.append(text)
        if is_end:
            yield "".join(parts)
            parts = []


def _decoded(file: Path, blocks: Iterable[bytes], errors: Errors) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")(errors)
    n_read = 0
    for block in itertools.chain(blocks, [b""]):
        pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            raise _not_utf8(file, n_read - pending + error.start) from error
        n_read += len(block)
        yield text


def _separated(texts: Iterable[str], piece_characters: int) -> Iterator[Piece]:
    """Split at separators, independently of the borders between the given texts."""
    parts: list[str] = []
    n_held = 0
    tail = ""
    for text in texts:
        first, *later = (tail + text).split(END_OF_TEXT)
        for piece in later:
            parts.append(first)
            yield "".join(parts), True
            parts, n_held, first = [], 0, piece
        # The last characters may be the beginning of a separator.
        cut = max(len(first) - len(END_OF_TEXT) + 1, 0)
        parts.append(first[:cut])
        n_held += cut
        tail = first[cut:]
        if n_held >= piece_characters:
            yield "".join(parts), False
            parts, n_held = [], 0
    yield "".join([*parts, tail]), True


def _json_texts(
    file: Path, blocks: Iterable[bytes], errors: Errors, text_field: str
) -> Iterator[str]:
    offset = 0
    for number, line in enumerate(_lines(blocks), start=1):
        try:
            text = line.decode("utf-8", errors)
        except UnicodeDecodeError as error:
            raise _not_utf8(file, offset + error.start) from error
        offset += len(line)
        if text.strip():
            yield _json_text(f"{file}, line {number}", text, errors, text_field)


def _json_text(where: str, line: str, errors: Errors, text_field: str) -> str:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: expected a JSON object, got broken JSON ({error})") from error
    if not isinstance(row, dict) or text_field not in row:
        got = f"the fields {', '.join(row)}" if isinstance(row, dict) else type(row).__name__
        raise ValueError(
            f"{where}: expected a JSON object with a field {text_field!r}, got {got}; --text-field "
            "names another"
        )
    text = row[text_field]
    if not isinstance(text, str):
        raise ValueError(
            f"{where}: expected a string in the field {text_field!r}, got {type(text).__name__}"
        )
    if re.search("[\ud800-\udfff]", text) is None:
        return text
    if errors == "strict":
        raise ValueError(f"{where}: the field {text_field!r} has a lone surrogate, no Unicode text")
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def _lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield lines with their line feeds; joined, they equal the joined blocks."""
    parts: list[bytes] = []
    for block in blocks:
        first, *later = block.split(b"\n")
        for line in later:
            yield b"".join([*parts, first, b"\n"])
            parts, first = [], line
        parts.append(first)
    yield b"".join(parts)


def _not_utf8(file: Path, offset: int) -> ValueError:
    return ValueError(
        f"{file}: expected UTF-8, got an invalid byte at offset {offset}; "
        'convert the file, or read it with errors="replace"'
    )
