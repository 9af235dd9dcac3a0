"""Text files read in blocks, as a whole or as a sample."""

import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from fastlm.corpus.documents import END_OF_TEXT, iter_json_texts
from fastlm.corpus.text_files import kind_of
from fastlm.files.compression import compression_of
from fastlm.files.not_text import HEAD_BYTES, refuse_no_text, refuse_zeros
from fastlm.files.paths import StrPath, check_file, open_to_read, read_bytes
from fastlm.files.utf8 import check_errors
from fastlm.lazy import numpy as np
from fastlm.tokenizer.bpe.blocks import BLOCK_BYTES, Block, Loadable, first_cut, last_cut
from fastlm.tokenizer.bpe.errors import InvalidUtf8
from fastlm.tokenizer.bpe.patterns import Cuts

STRIPE_BYTES = 1 << 20  # greatest size of a stripe of a sample
_READ_BYTES = 1 << 20
_TAIL_BYTES = 1 << 13  # a cut is looked for in the last bytes of a block first


class FileBlock(NamedTuple):
    """A block of a text file that can be tokenized independently, from byte begin to byte end."""

    path: StrPath
    begin: int
    end: int
    errors: str

    @property
    def offset(self) -> int:
        return self.begin

    def load(self) -> Block:
        with open_to_read(self.path) as file:
            file.seek(self.begin)
            text = file.read(self.end - self.begin)
        refuse_zeros(self.path, text, self.begin)
        if self.errors == "replace":
            text = text.decode("utf-8", errors="replace").encode()
        return Block(text, np.array([0, len(text)], np.int64), str(self.path), self.begin)


class JsonTexts(NamedTuple):
    """How the texts of a .jsonl file are read."""

    field: str = "text"
    allow_end_of_text: bool = False


JSON_TEXTS = JsonTexts()


def file_blocks(
    path: StrPath,
    special_tokens: Sequence[str],
    errors: str,
    *,
    begin: int = 0,
    json: JsonTexts = JSON_TEXTS,
    cuts: Cuts = "spaces",
) -> Iterator[Loadable]:
    """Cut a file into blocks that can be tokenized independently.

    The blocks are those of the whole file, or, of a .jsonl file, those of the texts of its lines,
    each with <|endoftext|> after it.

    Args:
        begin: byte to begin at: 0, or where a block of an earlier call ended.
    Raises:
        FileNotFoundError, ValueError: if the file cannot be read, or a .jsonl file's texts cannot
            be told apart because <|endoftext|> is no special token.
    """
    if kind_of(path) != "jsonl" or compression_of(path) is not None:
        special = [token.encode() for token in special_tokens]
        return text_file_blocks(path, special, errors, begin=begin, cuts=cuts)
    check_file(path)
    if END_OF_TEXT not in special_tokens:
        raise ValueError(
            f"{path}: each text of a .jsonl file ends with {END_OF_TEXT}, which is no special "
            "token of this tokenizer; train one that has it, or write the texts to a .txt file"
        )
    return _json_blocks(Path(path), errors, begin, json)


def _json_blocks(path: Path, errors: str, begin: int, json: JsonTexts) -> Iterator[Block]:
    """Join the texts of whole lines into blocks of about BLOCK_BYTES; offset is a line's start."""
    check_errors(errors)
    n_bytes = n_lines = 0
    held: list[bytes] = []
    with open_to_read(path) as file:
        while before := file.read(min(_READ_BYTES, begin - file.tell())):
            n_lines += before.count(b"\n")
        texts = iter_json_texts(
            path,
            iter(functools.partial(file.read, _READ_BYTES), b""),
            errors="replace" if errors == "replace" else "strict",
            text_field=json.field,
            allow_end_of_text=json.allow_end_of_text,
            offset=begin,
            n_lines=n_lines,
        )
        for text, end in texts:
            # The end is a piece of its own: no other special token takes a part of it.
            held += (text.encode(), END_OF_TEXT.encode())
            n_bytes += len(held[-2]) + len(held[-1])
            if n_bytes >= BLOCK_BYTES:
                yield _joined(held, path, begin)
                held, n_bytes, begin = [], 0, end
    if held:
        yield _joined(held, path, begin)


def _joined(pieces: Sequence[bytes], path: Path, begin: int) -> Block:
    bounds = np.cumsum([0, *map(len, pieces)], dtype=np.int64)
    return Block(b"".join(pieces), bounds, str(path), begin)


def text_file_blocks(
    path: StrPath,
    special_tokens: Sequence[bytes],
    errors: str,
    *,
    begin: int = 0,
    cuts: Cuts = "spaces",
) -> Iterator[FileBlock]:
    """Cut a text file into blocks of about BLOCK_BYTES that can be tokenized independently.

    Only the bytes around the cuts are read here: the threads that work on the blocks read the text.

    Args:
        errors: "strict" leaves invalid UTF-8 for the scan to refuse, "replace" puts U+FFFD there.
        begin: byte to begin at, a position where the text may be cut.
    """
    check_errors(errors)
    check_file(path)
    with open_to_read(path) as file:
        refuse_no_text(path, file.read(HEAD_BYTES))
        size = file.seek(0, os.SEEK_END)
        while begin < size:
            end = _cut_after(file, begin, size, special_tokens, cuts)
            yield FileBlock(path, begin, end, errors)
            begin = end


def _cut_after(
    file: BinaryIO, begin: int, size: int, special_tokens: Sequence[bytes], cuts: Cuts
) -> int:
    """Find the end of a block: the last cut in the BLOCK_BYTES from begin on, or in more."""
    if cuts == "never":
        return size
    margin = max(4, *map(len, special_tokens), 0)  # bytes around a position that make it a cut
    n_bytes = BLOCK_BYTES
    while begin + n_bytes < size:
        tail = max(begin, begin + n_bytes - _TAIL_BYTES)
        for low in (begin,) if cuts == "specials" else (tail, begin):
            read_from = low if cuts == "specials" else max(low - margin, 0)
            file.seek(read_from)
            data = file.read(begin + n_bytes - read_from)
            place = read_from + last_cut(data, special_tokens, cuts)
            if place > low:
                return place
        n_bytes *= 2
    return size


class Stripe(NamedTuple):
    """Bytes begin to end of a file, not yet moved to positions where the text may be cut."""

    path: StrPath
    begin: int
    end: int


def sample_stripes(paths: Sequence[StrPath], sample_bytes: int) -> list[Stripe]:
    """Place evenly spaced stripes of about sample_bytes in files, in proportion to their sizes."""
    sizes = [os.stat(path).st_size for path in paths]
    stripes = []
    for path, size in zip(paths, sizes, strict=True):
        wanted = sample_bytes * size // sum(sizes)
        n_stripes = -(-wanted // STRIPE_BYTES)
        for i in range(n_stripes):
            begin = i * size // n_stripes
            stripes.append(Stripe(path, begin, begin + wanted // n_stripes))
    return stripes


def stripe_blocks(
    stripes: Iterable[Stripe],
    special_tokens: Sequence[bytes],
    errors: str,
    cuts: Cuts = "spaces",
) -> Iterator[Block]:
    """Read each stripe as a block, without the bytes before its first cut and after its last.

    Where a text may hardly be cut, a sample is cut at spaces all the same: at worst the first and
    last words of a stripe are split in another way.
    """
    if cuts not in ("spaces", "lines", "words"):
        cuts = "spaces"
    check_errors(errors)
    longest = max(map(len, special_tokens), default=1)
    for path, begin, end in stripes:
        # The bytes around the stripe determine whether its first and last bytes are cuts.
        read_from = max(begin - max(longest, 4), 0)
        with open_to_read(path) as file:
            if begin == 0:
                refuse_no_text(path, file.read(HEAD_BYTES))
            file.seek(read_from)
            data = file.read(end + longest - read_from)
            is_rest = not file.read(1)
        first = first_cut(data, begin - read_from, special_tokens, cuts) if begin > 0 else 0
        last = len(data) if is_rest else last_cut(data, special_tokens, cuts)
        if not 0 <= first < last:
            continue
        text = data[first:last]
        refuse_zeros(path, text, read_from + first)
        if errors == "replace":
            text = text.decode("utf-8", errors="replace").encode()
        yield Block(text, np.array([0, len(text)], np.int64), str(path), read_from + first)


def read_text(path: StrPath) -> str:
    """Read a whole file as UTF-8, without the mark that some editors put at its beginning.

    Raises:
        ValueError: if it is plainly no text.
        InvalidUtf8: with the file and the position of the byte.
    """
    check_file(path)
    raw = read_bytes(path)
    refuse_no_text(path, raw[:HEAD_BYTES])
    refuse_zeros(path, raw, 0)
    try:
        return raw.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise InvalidUtf8(error.start, str(path)) from None
