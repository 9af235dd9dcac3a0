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
from typing import Any, Literal

from fastlm.corpus.naming import listed
from fastlm.corpus.parquet import check_parquet, read_parquet
from fastlm.corpus.text_files import find_texts, kind_of, spell_names
from fastlm.files.compression import read_blocks
from fastlm.files.not_text import checked_blocks
from fastlm.files.paths import StrPath
from fastlm.files.utf8 import check_errors

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
    allow_end_of_text: bool = False,
    block_bytes: int = _READ_BYTES,
    say: Callable[[str], object] = lambda line: None,
) -> Iterator[str]:
    """Yield the documents of text files, or of all text files in folders, in sorted order.

    Documents of .txt files are the unchanged text between separators; those of only white space
    are skipped. Memory grows with one document, not with the file.

    >>> Path("two.txt").write_text("one\\n<|endoftext|>\\r\\n two")
    >>> list(iter_documents("two.txt"))
    ['one\\n', '\\r\\n two']

    Args:
        path: a text file, a folder that is searched recursively for such files, a pattern, or
            several of them; find_texts has the rule. Each file is read once.
        errors: "replace" replaces bytes that are not UTF-8 by U+FFFD; "strict" refuses them.
        text_field: field of .jsonl lines, or column of .parquet files, that holds the document.
        allow_end_of_text: <|endoftext|> in such a field or column is not an error, but separates
            documents, as in .txt files.
        block_bytes: bytes per read; the documents do not depend on it.
        say: called with a line that tells which files are passed over, if there are any.
    Raises:
        FileNotFoundError: if there is no such path.
        ValueError: if bytes are not UTF-8, a line is not such JSON, a .parquet file has no such
            column, a file changes while it is read, or there are no documents.
    """
    return _joined(
        iter_pieces(
            path,
            errors=errors,
            text_field=text_field,
            allow_end_of_text=allow_end_of_text,
            block_bytes=block_bytes,
            say=say,
        )
    )


def iter_pieces(
    path: StrPath | Sequence[StrPath],
    *,
    errors: Errors = "strict",
    text_field: str = "text",
    allow_end_of_text: bool = False,
    block_bytes: int = _READ_BYTES,
    piece_characters: int = PIECE_CHARACTERS,
    are_found: bool = False,
    first_file: int = 0,
    on_file: Callable[[int], object] = lambda number: None,
    on_blank: Callable[[Path], object] = lambda path: None,
    say: Callable[[str], object] = lambda line: None,
) -> Iterator[Piece]:
    """Yield documents like iter_documents, but long ones of .txt files in several pieces.

    Memory does not grow with the documents of .txt files.

    Args:
        piece_characters: minimum size in characters of a piece that does not end its document.
        are_found: the paths are files that find_texts returned, and are not looked at again.
        first_file: index of the file to begin with, if earlier files were read already.
        on_file: called with the index of each file before its first piece.
        on_blank: called with each file that has no documents, once it is read.
    """
    check_errors(errors)
    paths = [path] if isinstance(path, (str, Path)) else list(path)  # type: ignore[arg-type]
    files = list(map(Path, paths))
    if not are_found:
        found = find_texts(paths)
        files = found.paths
        for note in found.notes():
            say(note)
    for file in files:
        if kind_of(file) == "parquet":
            check_parquet(file, text_field)
    numbered = list(enumerate(files))[first_file:]
    pieces = _pieces(
        numbered,
        on_file,
        on_blank,
        errors,
        text_field,
        allow_end_of_text,
        block_bytes,
        piece_characters,
    )
    name = spell_names([str(path) for path in paths])
    return pieces if first_file else _at_least_one(pieces, name)


def iter_json_texts(
    file: Path,
    blocks: Iterable[bytes],
    *,
    errors: Errors,
    text_field: str,
    allow_end_of_text: bool,
    offset: int = 0,
    n_lines: int = 0,
) -> Iterator[tuple[str, int]]:
    """Yield the text of each line of a .jsonl file, and the offset of the line's end in bytes.

    Texts of only white space are not skipped: the n-th text is on the n-th line that is not empty.

    Args:
        offset: bytes of the file before the given blocks, which begin at the start of a line.
        n_lines: lines of the file before them.
    Raises:
        ValueError: with the file and the line, if a line is no JSON object with such a text.
    """
    blocks = checked_blocks(file, blocks, offset=offset)
    for number, line in enumerate(_lines(blocks), start=n_lines + 1):
        try:
            text = line.decode("utf-8", errors)
        except UnicodeDecodeError as error:
            raise _not_utf8(file, offset + error.start) from error
        if offset == 0:
            text = text.removeprefix("\ufeff")  # a mark that some programs put before UTF-8
        offset += len(line)
        if text.strip():
            where = f"{file}, line {number}"
            text = _json_text(where, text, errors, text_field)
            _check_end_of_text(text, f"{where}: the field {text_field!r}", allow_end_of_text)
            yield text, offset


def _pieces(
    files: Iterable[tuple[int, Path]],
    on_file: Callable[[int], object],
    on_blank: Callable[[Path], object],
    errors: Errors,
    text_field: str,
    allow_end_of_text: bool,
    block_bytes: int,
    piece_characters: int,
) -> Iterator[Piece]:
    for number, file in files:
        on_file(number)
        kind = kind_of(file)
        if kind == "parquet":
            rows = enumerate(read_parquet(file, text_field, errors), start=1)
            pieces = _whole(
                _check_end_of_text(
                    text, f"{file}, row {row}: the column {text_field!r}", allow_end_of_text
                )
                for row, text in rows
            )
        elif kind == "jsonl":
            texts = iter_json_texts(
                file,
                read_blocks(file, block_bytes),
                errors=errors,
                text_field=text_field,
                allow_end_of_text=allow_end_of_text,
            )
            pieces = _whole(text for text, _ in texts)
        else:
            decoded = _decoded(file, read_blocks(file, block_bytes), errors)
            pieces = _separated(decoded, piece_characters)
        is_blank = True
        for piece in _without_blank(pieces):
            is_blank = False
            yield piece
        if is_blank:
            on_blank(file)


def _check_end_of_text(text: str, where: str, is_allowed: bool) -> str:
    if not is_allowed and END_OF_TEXT in text:
        raise ValueError(
            f"{where} has {END_OF_TEXT}, which ends a document: expected text without it; mend the "
            "text, or separate documents there with --allow-end-of-text (allow_end_of_text=True)"
        )
    return text


def _at_least_one(pieces: Iterator[Piece], name: str) -> Iterator[Piece]:
    first = next(pieces, None)
    if first is None:
        raise ValueError(f"{name} holds no documents: expected text, got nothing but white space")
    yield first
    yield from pieces


def _whole(texts: Iterable[str]) -> Iterator[Piece]:
    """Yield each text as a document, or as several if it has separators."""
    return ((document, True) for text in texts for document in text.split(END_OF_TEXT))


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
    for block in itertools.chain(checked_blocks(file, blocks), [b""]):
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


def _json_text(where: str, line: str, errors: Errors, text_field: str) -> str:
    row = _parse(where, line)
    if not isinstance(row, dict) or text_field not in row:
        got = f"the fields {listed(row)}" if isinstance(row, dict) else type(row).__name__
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


def _parse(where: str, line: str, **options: Any) -> Any:
    try:
        return json.loads(line, **options)
    except RecursionError:
        raise ValueError(
            f"{where}: expected a JSON object, got one that is nested too deeply to be read; leave "
            "the line out"
        ) from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: expected a JSON object, got broken JSON ({error})") from error
    except ValueError:
        if options:
            raise
        # Python converts no integers of thousands of digits, which are not needed here.
        return _parse(where, line, parse_int=lambda digits: 0)


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
        f"{file}: expected UTF-8, got an invalid byte at offset {offset}; convert the file, or "
        'read it with --errors replace (errors="replace")'
    )
