"""Text files in blocks, whole or in samples; checks of what a user gives; files written whole."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from fastlm.files.paths import StrPath, check_file
from fastlm.files.utf8 import check_errors
from fastlm.tokenizer.bpe.blocks import BLOCK_BYTES, Block, first_cut, last_cut
from fastlm.tokenizer.bpe.errors import InvalidUtf8

STRIPE_BYTES = 1 << 20  # of a sample, at most
_TAIL_BYTES = 1 << 13  # where a cut is looked for first


class FileBlock(NamedTuple):
    """Bytes begin to end of a text file, which can be tokenized apart; read when loaded."""

    path: StrPath
    begin: int
    end: int
    errors: str

    @property
    def offset(self) -> int:
        return self.begin

    def load(self) -> Block:
        with open(self.path, "rb") as file:
            file.seek(self.begin)
            text = file.read(self.end - self.begin)
        if self.errors == "replace":
            text = text.decode("utf-8", errors="replace").encode()
        return Block(text, np.array([0, len(text)], np.int64), str(self.path), self.begin)


def text_file_blocks(
    path: StrPath, special_tokens: Sequence[bytes], errors: str, *, begin: int = 0
) -> Iterator[FileBlock]:
    """A text file in blocks of about BLOCK_BYTES, each cut where the text may be cut.

    Here only what decides over the cuts is read: the text itself is read by the threads that
    work on it.

    Args:
        errors: "strict" leaves invalid UTF-8 for the scan to refuse, "replace" puts U+FFFD there.
        begin: byte to read from, a place where the text may be cut.
    """
    check_errors(errors)
    check_file(path)
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        while begin < size:
            end = _cut_after(file, begin, size, special_tokens)
            yield FileBlock(path, begin, end, errors)
            begin = end


def _cut_after(file: BinaryIO, begin: int, size: int, special_tokens: Sequence[bytes]) -> int:
    """Where a block that begins at `begin` ends: the last cut of BLOCK_BYTES, or of more."""
    margin = max(4, *map(len, special_tokens), 0)  # what decides over a cut lies so far around it
    n_bytes = BLOCK_BYTES
    while begin + n_bytes < size:
        for low in (max(begin, begin + n_bytes - _TAIL_BYTES), begin):
            read_from = max(low - margin, 0)
            file.seek(read_from)
            place = read_from + last_cut(file.read(begin + n_bytes - read_from), special_tokens)
            if place > low:
                return place
        n_bytes *= 2
    return size


class Stripe(NamedTuple):
    """Bytes begin to end of a file; its ends still have to move to where text may be cut."""

    path: StrPath
    begin: int
    end: int


def sample_stripes(paths: Sequence[StrPath], sample_bytes: int) -> list[Stripe]:
    """About sample_bytes of the files: evenly spaced stripes, in proportion to each file's size."""
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
    stripes: Iterable[Stripe], special_tokens: Sequence[bytes], errors: str
) -> Iterator[Block]:
    """Each stripe as a block, without what comes before its first cut and after its last one."""
    check_errors(errors)
    longest = max(map(len, special_tokens), default=1)
    for path, begin, end in stripes:
        # As much again around the stripe as decides whether its first and last bytes are cuts.
        read_from = max(begin - max(longest, 4), 0)
        with open(path, "rb") as file:
            file.seek(read_from)
            data = file.read(end + longest - read_from)
            is_rest = not file.read(1)
        first = first_cut(data, begin - read_from, special_tokens) if begin > 0 else 0
        last = len(data) if is_rest else last_cut(data, special_tokens)
        if not 0 <= first < last:
            continue
        text = data[first:last]
        if errors == "replace":
            text = text.decode("utf-8", errors="replace").encode()
        yield Block(text, np.array([0, len(text)], np.int64), str(path), read_from + first)


def read_text(path: StrPath) -> str:
    """A whole file as UTF-8; InvalidUtf8 names the file and the byte that is not."""
    check_file(path)
    try:
        return Path(path).read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidUtf8(error.start, str(path)) from None
