"""Blocks of text that can be tokenized independently of each other, and on threads.

An ASCII space after a character that is no space always starts a pre-token, and the pre-tokens
before it do not depend on the text after it. So a text may be cut there, unless a special token
covers the position.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from jaxtyping import Int64

from fastlm.tokenizer.bpe.errors import BadByte, check_integer

T = TypeVar("T")
R = TypeVar("R")

BLOCK_BYTES = 1 << 21

_IS_ASCII_SPACE = np.zeros(256, np.bool_)
_IS_ASCII_SPACE[list(b"\t\n\v\f\r ")] = True

# A cut is looked for in the last bytes or characters first.
_TAIL_BYTES = 4096


class Block(NamedTuple):
    """Document i is text[bounds[i] : bounds[i + 1]]; text begins at byte offset of source."""

    text: bytes
    bounds: Int64[np.ndarray, " n_documents_plus_1"]
    source: str
    offset: int

    def load(self) -> "Block":
        """Return the block itself: other Loadables read theirs from a file."""
        return self


class Loadable(Protocol):
    """A block that the thread that works on it loads."""

    @property
    def offset(self) -> int: ...
    def load(self) -> Block: ...


def last_cut(data: bytes, special_tokens: Sequence[bytes]) -> int:
    """Last position at which data may be cut, whatever follows it; 0 when there is none."""
    longest = max(map(len, special_tokens), default=1)
    # A special token that begins before the cut must lie in data as a whole.
    end = len(data) - longest
    for begin in (max(end - _TAIL_BYTES, 0), 0):
        is_space = _IS_ASCII_SPACE[np.frombuffer(data[begin : max(end, begin)], np.uint8)]
        places = np.flatnonzero(is_space[1:] & ~is_space[:-1]) + begin + 1
        for place in places[::-1]:
            if _may_cut(data, int(place), special_tokens):
                return int(place)
    return 0


def first_cut(data: bytes, begin: int, special_tokens: Sequence[bytes]) -> int:
    """First position from begin on at which data may be cut; -1 when there is none.

    Whether a position is a cut depends on up to max(4, length of the longest special token) bytes
    on both sides of it, which must lie in data.
    """
    is_space = _IS_ASCII_SPACE[np.frombuffer(data, np.uint8)]
    places = np.flatnonzero(is_space[1:] & ~is_space[:-1]) + 1
    for place in places[np.searchsorted(places, begin) :]:
        if _may_cut(data, int(place), special_tokens):
            return int(place)
    return -1


def _may_cut(data: bytes, place: int, special_tokens: Sequence[bytes]) -> bool:
    # str.isspace is true for four more characters than the pattern's \s: a few cuts are missed.
    if data[max(place - 4, 0) : place].decode("utf-8", "ignore")[-1:].isspace():
        return False
    return not any(
        token in data[max(place - len(token) + 1, 0) : place + len(token) - 1]
        for token in special_tokens
    )


def cut_blocks(
    chunks: Iterable[bytes],
    special_tokens: Sequence[bytes],
    *,
    n_bytes: int,
    n_first_bytes: int | None = None,
) -> Iterator[bytes]:
    """Join a stream of chunks and cut it into blocks that can be tokenized independently.

    Args:
        n_bytes: approximate size of a block; a block without a position to cut grows until it has
            one.
        n_first_bytes: size of the first block, doubled from block to block up to n_bytes; n_bytes
            when not given.
    """
    wanted = n_bytes if n_first_bytes is None else n_first_bytes
    held: list[bytes] = []
    n_held = n_uncut = 0
    for chunk in chunks:
        held.append(chunk)
        n_held += len(chunk)
        if n_held < max(wanted, 2 * n_uncut):
            continue
        data = b"".join(held)
        place = last_cut(data, special_tokens)
        if place > 0:
            yield data[:place]
            wanted = min(2 * wanted, n_bytes)
        held = [data[place:]]
        n_held = n_uncut = len(held[0])
    if n_held > 0:
        yield b"".join(held)


def document_blocks(documents: Iterable[bytes]) -> Iterator[Block]:
    """Join documents into blocks of about BLOCK_BYTES."""
    held: list[bytes] = []
    n_held = offset = 0
    for document in documents:
        held.append(document)
        n_held += len(document)
        if n_held >= BLOCK_BYTES:
            yield _join(held, offset)
            offset += n_held
            held, n_held = [], 0
    if held:
        yield _join(held, offset)


def _join(documents: list[bytes], offset: int) -> Block:
    bounds = np.cumsum([0, *map(len, documents)], dtype=np.int64)
    return Block(b"".join(documents), bounds, "the documents", offset)


def map_blocks(
    function: Callable[[bytes, Int64[np.ndarray, " n_documents_plus_1"]], R],
    blocks: Iterable[Loadable],
    n_threads: int | None,
) -> Iterator[R]:
    """Call function(text, bounds) for each block, like map_in_order.

    Raises:
        InvalidUtf8, UnknownByte: with the position in the block's source.
    """

    def call(loadable: Loadable) -> R:
        block = loadable.load()
        try:
            return function(block.text, block.bounds)
        except BadByte as error:
            error.shift(block.offset, block.source)
            raise

    return map_in_order(call, blocks, n_threads)


def map_in_order(
    function: Callable[[T], R], items: Iterable[T], n_threads: int | None
) -> Iterator[R]:
    """map() on threads (None: all cores), with at most two unfinished items for each thread."""
    n_threads = resolve_threads(n_threads)
    if n_threads == 1 or (isinstance(items, Sized) and len(items) < 2):
        yield from map(function, items)
        return
    pending: deque[Future[R]] = deque()
    with ThreadPoolExecutor(n_threads) as executor:
        try:
            for item in items:
                pending.append(executor.submit(function, item))
                if len(pending) == 2 * n_threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def resolve_threads(n_threads: int | None) -> int:
    """Return n_threads, or for None the number of cores this process may use."""
    if n_threads is not None:
        check_integer("n_threads", n_threads)
        if n_threads < 1:
            raise ValueError(f"n_threads must be at least 1: got {n_threads}")
        return n_threads
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
