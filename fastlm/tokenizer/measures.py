"""Measure tokenizers on texts: compression, speed, sizes of token files, overlap of vocabularies.

This file imports no torch. Texts are read in blocks, so that memory grows only with the distinct
words, plus HELD_BYTES. One process and one thread are measured.
"""

import codecs
import copy
import functools
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from fastlm.cli.progress import Progress
from fastlm.corpus.documents import Errors, iter_pieces
from fastlm.corpus.text_files import kind_of
from fastlm.files.compression import read_blocks
from fastlm.files.not_text import checked_blocks
from fastlm.files.paths import check_file
from fastlm.files.utf8 import check_errors
from fastlm.tokenizer.bpe.blocks import BLOCK_BYTES, common_cuts, cut_blocks
from fastlm.tokenizer.bpe.errors import InvalidUtf8
from fastlm.tokenizer.bpe.lazy_encoder import SMALL_CHARACTERS
from fastlm.tokenizer.bpe.patterns import Cuts
from fastlm.tokenizer.bpe.unicode_table import N_CODE_POINTS
from fastlm.tokenizer.tokenizer import END_OF_TEXT, Tokenizer

PILE_BYTES = 825 * 10**9
BASELINES = ("character", "byte", "word")
HELD_BYTES = 1 << 25  # a text of up to this size is kept in memory and encoded more than once

_END = END_OF_TEXT.encode()
_WARM_UP = b"a "


@dataclass(frozen=True)
class Measure:
    """The measurements of one tokenizer on one text.

    Attributes:
        vocab_size: for characters and words, the number of distinct ones in the text.
        n_document_bytes: size of the first documents.
        n_document_tokens: number of tokens of the first documents.
        first_seconds: time of the first pass, which begins with empty caches.
        elapsed_seconds: time of all passes.
        warm_bytes: size of the text that was encoded with warm caches: by the passes after the
            first, or of a longer text by the first one after HELD_BYTES.
        warm_seconds: time of it.
    """

    tokenizer: str
    vocab_size: int
    n_bytes: int
    n_tokens: int
    n_document_bytes: int
    n_document_tokens: int
    n_passes: int
    first_seconds: float
    elapsed_seconds: float
    warm_bytes: int = 0
    warm_seconds: float = 0.0

    @property
    def bytes_per_token(self) -> float:
        """Compression ratio."""
        return self.n_bytes / self.n_tokens

    @property
    def document_bytes_per_token(self) -> float:
        """Compression ratio of the first documents; NaN where there are none."""
        if self.n_document_tokens == 0:
            return float("nan")
        return self.n_document_bytes / self.n_document_tokens

    @property
    def bytes_per_second(self) -> float:
        return self.n_bytes * self.n_passes / self.elapsed_seconds

    @property
    def first_bytes_per_second(self) -> float:
        return self.n_bytes / self.first_seconds

    @property
    def warm_bytes_per_second(self) -> float:
        """Speed with warm caches; if nothing was encoded with them, speed of the first pass."""
        if self.warm_bytes == 0:
            return self.first_bytes_per_second
        return self.warm_bytes / self.warm_seconds

    @property
    def pile_seconds(self) -> float:
        """Estimated time to encode The Pile with warm caches, in seconds."""
        return PILE_BYTES / self.warm_bytes_per_second

    @property
    def dtype(self) -> str:
        """Name of the dtype of ids in a token file."""
        return id_dtype(self.vocab_size)

    @property
    def token_file_bytes(self) -> int:
        return self.n_tokens * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class TextMeasures:
    """A text and the measurements of each tokenizer on it.

    Attributes:
        n_first_documents: number of documents that were also measured by themselves.
        n_first_bytes: size of these documents.
    """

    name: str
    n_bytes: int
    n_documents: int
    n_first_documents: int
    n_first_bytes: int
    measures: list[Measure]


@dataclass(frozen=True)
class Overlap:
    """The overlap of two vocabularies, without special tokens."""

    first: str
    second: str
    n_first: int
    n_second: int
    n_shared: int

    @property
    def share_of_smaller(self) -> float:
        """|A and B| / min(|A|, |B|)."""
        return self.n_shared / max(min(self.n_first, self.n_second), 1)

    @property
    def jaccard(self) -> float:
        """|A and B| / |A or B|."""
        return self.n_shared / max(self.n_first + self.n_second - self.n_shared, 1)


def id_dtype(vocab_size: int) -> str:
    """ "uint16" if all ids are below 65,536, else "uint32"."""
    return "uint16" if vocab_size <= 1 << 16 else "uint32"


def learned_tokens(tokenizer: Tokenizer) -> dict[int, bytes]:
    """The vocabulary without special tokens."""
    special = set(tokenizer.special_tokens.values())
    return {i: token for i, token in tokenizer.vocab.items() if i not in special}


def longest_tokens(tokenizer: Tokenizer, n: int) -> list[tuple[int, bytes]]:
    """Ids and bytes of the n longest tokens without special tokens; lower ids win ties."""
    tokens = learned_tokens(tokenizer).items()
    return sorted(tokens, key=lambda item: (-len(item[1]), item[0]))[:n]


def overlaps(tokenizers: Mapping[str, Tokenizer]) -> list[Overlap]:
    """The overlap of each pair of vocabularies."""
    tokens = {name: set(learned_tokens(one).values()) for name, one in tokenizers.items()}
    return [
        Overlap(a, b, len(tokens[a]), len(tokens[b]), len(tokens[a] & tokens[b]))
        for a, b in itertools.combinations(tokens, 2)
    ]


def utf8_blocks(
    path: Path,
    special_tokens: Sequence[str],
    errors: Errors,
    text_field: str = "text",
    *,
    allow_end_of_text: bool = False,
    cuts: Cuts = "spaces",
) -> Iterator[bytes]:
    """Read a text in UTF-8 blocks of about BLOCK_BYTES that can be tokenized independently.

    A .jsonl or .parquet file or a folder yields its documents with <|endoftext|> after each. Any
    other file is read as plain text, decompressed if its suffix says so.

    Args:
        special_tokens: no block ends inside of one.
        text_field: field or column that holds the text, as in iter_documents.
        allow_end_of_text: as in iter_documents.
        cuts: where the text may be cut.
    Raises:
        FileNotFoundError, ValueError: with the file and the byte that is not UTF-8.
    """
    check_errors(errors)
    chunks: Iterator[bytes]
    if path.is_dir() or kind_of(path) in ("jsonl", "parquet"):
        pieces = iter_pieces(
            path, errors=errors, text_field=text_field, allow_end_of_text=allow_end_of_text
        )
        chunks = ((text + END_OF_TEXT if is_end else text).encode() for text, is_end in pieces)
    else:
        check_file(path)
        chunks = _utf8_chunks(path, errors)
    special = {token.encode() for token in special_tokens} | {_END}
    return cut_blocks(chunks, sorted(special), n_bytes=BLOCK_BYTES, cuts=cuts)


def _utf8_chunks(path: Path, errors: Errors) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder("utf-8")(errors)
    n_read = 0
    for block in itertools.chain(checked_blocks(path, read_blocks(path)), [b""]):
        n_pending = len(decoder.getstate()[0])
        try:
            yield decoder.decode(block, final=not block).encode()
        except UnicodeDecodeError as error:
            raise InvalidUtf8(n_read - n_pending + error.start, str(path)) from None
        n_read += len(block)


class FirstDocuments:
    """Takes the first n documents out of blocks, in pieces, and counts all documents.

    <|endoftext|> separates documents; those that are only white space are not counted.

    >>> documents = FirstDocuments(2)
    >>> documents.take(b"one<|endoftext|> <|endoftext|>two")
    [b'one', b'two']
    >>> documents.take(b" and on<|endoftext|>three")
    [b' and on']
    >>> documents.n_documents
    3
    """

    def __init__(self, n_wanted: int) -> None:
        self.n_documents = 0
        self._n_wanted = n_wanted
        self._is_begun = False
        self._blank = b""  # white space that a document may begin with

    def take(self, block: bytes) -> list[bytes]:
        """Return the parts of a block in the first documents; no block cuts an <|endoftext|>."""
        taken: list[bytes] = []
        *ended, rest = block.split(_END)
        for piece in ended:
            taken += self._add(piece)
            self._is_begun, self._blank = False, b""
        return taken + self._add(rest)

    def _add(self, piece: bytes) -> list[bytes]:
        if not self._is_begun:
            piece = self._blank + piece
            if not piece or piece.decode().isspace():
                self._blank = piece
                return []
            self._blank, self._is_begun = b"", True
            self.n_documents += 1
        return [piece] if piece and self.n_documents <= self._n_wanted else []


class Cutter(Protocol):
    """Splits text into tokens and counts them."""

    def add(self, text: bytes) -> None: ...
    @property
    def n_tokens(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...


class BpeTokens:
    """Tokens of a tokenizer, encoded by kernels if its vocabulary has the bytes of the warm-up."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = copy.copy(tokenizer)  # the same tables, empty caches
        self.vocab_size = tokenizer.vocab_size
        self.n_tokens = 0
        if {bytes([byte]) for byte in _WARM_UP} <= set(tokenizer.vocab.values()):
            # After so much text all else is encoded by kernels, which are then loaded.
            self._tokenizer.encode_to_numpy(_WARM_UP * (SMALL_CHARACTERS // len(_WARM_UP) + 1))

    def add(self, text: bytes) -> None:
        self.n_tokens += len(self._tokenizer.encode_to_numpy(text))


class Characters:
    """Code points; the vocabulary consists of those that occur."""

    def __init__(self) -> None:
        self.n_tokens = 0
        self._is_known = np.zeros(N_CODE_POINTS, np.bool_)

    def add(self, text: bytes) -> None:
        code_points = np.frombuffer(text.decode().encode("utf-32-le"), np.uint32)
        self._is_known[code_points] = True
        self.n_tokens += len(code_points)

    @property
    def vocab_size(self) -> int:
        return int(np.count_nonzero(self._is_known))


class Bytes:
    """Bytes, copied into an array of uint16."""

    vocab_size = 256

    def __init__(self) -> None:
        self.n_tokens = 0

    def add(self, text: bytes) -> None:
        self.n_tokens += len(np.frombuffer(text, np.uint8).astype(np.uint16))


class Words:
    """Pre-tokens, the matches of GPT-2's pattern; the vocabulary consists of those that occur."""

    def __init__(self) -> None:
        from fastlm.tokenizer.bpe.count import WordCounter

        self._counter = WordCounter()
        self._counter.add(b"")  # loads or compiles the kernels

    def add(self, text: bytes) -> None:
        self._counter.add(text)

    @property
    def n_tokens(self) -> int:
        return int(self._counter.words().counts.sum())

    @property
    def vocab_size(self) -> int:
        return len(self._counter.words().counts)


def measure_text(
    name: str,
    path: Path,
    tokenizers: Mapping[str, Tokenizer],
    *,
    n_documents: int = 10,
    min_seconds: float = 1.0,
    errors: Errors = "strict",
    text_field: str = "text",
    allow_end_of_text: bool = False,
    on_progress: Progress | None = None,
) -> TextMeasures:
    """Measure each tokenizer on a text, and characters, bytes and words (BASELINES).

    Each tokenizer encodes the whole text once. It encodes a text of up to HELD_BYTES again, at
    least once and until min_seconds of encoding have passed. The time of reading is not included.

    Args:
        n_documents: number of first documents to measure by themselves as well.
        on_progress: called with the name and the number of bytes measured so far.
    Raises:
        FileNotFoundError, ValueError: if the text cannot be read, is empty, or has bytes for which
            a tokenizer has no token.
    """
    if n_documents < 1:
        raise ValueError(f"n_documents must be at least 1: got {n_documents}")
    makers: dict[str, Callable[[], Cutter]] = {
        maker: functools.partial(BpeTokens, tokenizer) for maker, tokenizer in tokenizers.items()
    }
    makers |= zip(BASELINES, (Characters, Bytes, Words), strict=True)
    whole = {maker: make() for maker, make in makers.items()}
    sampled = {maker: make() for maker, make in makers.items()}
    seconds = dict.fromkeys(makers, 0.0)
    late_seconds = dict.fromkeys(makers, 0.0)  # after HELD_BYTES, when caches are warm
    special = {token for tokenizer in tokenizers.values() for token in tokenizer.special_tokens}
    documents = FirstDocuments(n_documents)
    held: list[bytes] = []
    n_bytes = n_late_bytes = n_document_bytes = 0
    blocks = utf8_blocks(
        path,
        sorted(special),
        errors,
        text_field,
        allow_end_of_text=allow_end_of_text,
        # The words of the baseline are GPT-2's.
        cuts=common_cuts(["spaces", *(tokenizer.cuts for tokenizer in tokenizers.values())]),
    )
    for block in blocks:
        for maker, cutter in whole.items():
            passed = _timed(cutter, [block], f"{maker} on {name}, from byte {n_bytes:,} on")
            seconds[maker] += passed
            late_seconds[maker] += passed if n_bytes >= HELD_BYTES else 0.0
        for piece in documents.take(block):
            n_document_bytes += len(piece)
            for cutter in sampled.values():
                cutter.add(piece)
        n_late_bytes += len(block) if n_bytes >= HELD_BYTES else 0
        n_bytes += len(block)
        if n_bytes <= HELD_BYTES:
            held.append(block)
        else:
            held.clear()
        if on_progress is not None:
            on_progress(name, n_bytes)
    if n_bytes == 0:
        raise ValueError(f"{path} is empty: there is nothing to measure")

    measures = []
    for maker, cutter in whole.items():
        # Read the counts now, because the passes after the first add to them.
        n_tokens, vocab_size = cutter.n_tokens, cutter.vocab_size
        passes = [seconds[maker]]
        while held and maker in tokenizers and (len(passes) < 2 or sum(passes) < min_seconds):
            passes.append(_timed(cutter, held, maker))
        measures.append(
            Measure(
                tokenizer=maker,
                vocab_size=vocab_size,
                n_bytes=n_bytes,
                n_tokens=n_tokens,
                n_document_bytes=n_document_bytes,
                n_document_tokens=sampled[maker].n_tokens,
                n_passes=len(passes),
                first_seconds=passes[0],
                elapsed_seconds=sum(passes),
                warm_bytes=n_late_bytes or n_bytes * (len(passes) - 1),
                warm_seconds=late_seconds[maker] if n_late_bytes else sum(passes[1:]),
            )
        )
    n_first = min(n_documents, documents.n_documents)
    return TextMeasures(name, n_bytes, documents.n_documents, n_first, n_document_bytes, measures)


def _timed(cutter: Cutter, blocks: Iterable[bytes], what: str) -> float:
    try:
        begin = time.perf_counter()
        for block in blocks:
            cutter.add(block)
        return time.perf_counter() - begin
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None
