"""Blocks of text that can be tokenized independently of each other, and on threads.

A text may be cut where a pre-token surely starts and those before it do not depend on what follows,
unless a special token covers the position. Where that is depends on the pattern:

- "spaces": at an ASCII space after a character that is no space;
- "lines", for patterns whose tokens may end with line breaks: the same, but at a line break only
  after an ASCII letter or digit; and after a line break, unless a space or a slash follows;
- "words": where both of these hold, for several tokenizers at once;
- "specials": after a special token, because nothing is known of the pattern;
- "never": nowhere.
"""

from __future__ import annotations

import functools
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from fastlm.tokenizer.bpe.compiler import numpy as np
from fastlm.tokenizer.bpe.errors import BadByte, check_integer
from fastlm.tokenizer.bpe.patterns import Cuts

if TYPE_CHECKING:
    from concurrent.futures import Future

    from jaxtyping import Bool, Int64, UInt8

T = TypeVar("T")
R = TypeVar("R")

BLOCK_BYTES = 1 << 21

_ASCII_SPACES = b"\t\n\v\f\r "

# A cut is looked for in the last bytes first.
_TAIL_BYTES = 4096
_LINE_BREAKS = b"\r\n"
_WORD = bytes(byte for byte in range(128) if chr(byte).isalnum())
# The spaces beyond ASCII begin with the bytes C2, E1, E2 and E3.
_BEGIN_NO_LINE = bytes((*_ASCII_SPACES, *b"/", *range(0x80, 0xC3), 0xE1, 0xE2, 0xE3))


@functools.cache
def _are(kinds: bytes) -> Bool[np.ndarray, "256"]:
    """Return which bytes are among some."""
    found = np.zeros(256, np.bool_)
    found[list(kinds)] = True
    return found


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


def common_cuts(several: Iterable[Cuts]) -> Cuts:
    """Where a text may be cut without another id of any of several tokenizers."""
    kinds = set(several)
    for kind in ("never", "specials", "words"):
        if kind in kinds:
            return kind
    if len(kinds) == 1:
        return kinds.pop()
    return "words" if kinds else "spaces"


def last_cut(data: bytes, special_tokens: Sequence[bytes], cuts: Cuts = "spaces") -> int:
    """Last position at which data may be cut, whatever follows it; 0 when there is none.

    For "specials", data must begin where the text may be cut.
    """
    if cuts == "never":
        return 0
    if cuts == "specials":
        return _last_after_special(data, special_tokens)
    longest = max(map(len, special_tokens), default=1)
    # A special token that begins before the cut must lie in data as a whole.
    end = len(data) - longest
    for begin in (max(end - _TAIL_BYTES, 0), 0):
        places = _find_places(np.frombuffer(data[begin : max(end, begin)], np.uint8), cuts) + begin
        for place in places[::-1]:
            if _may_cut(data, int(place), special_tokens):
                return int(place)
    return 0


def first_cut(
    data: bytes, begin: int, special_tokens: Sequence[bytes], cuts: Cuts = "spaces"
) -> int:
    """First position from begin on at which data may be cut; -1 when there is none.

    Whether a position is a cut depends on up to max(4, length of the longest special token) bytes
    on both sides of it, which must lie in data.
    """
    places = _find_places(np.frombuffer(data, np.uint8), cuts)
    for place in places[np.searchsorted(places, begin) :]:
        if _may_cut(data, int(place), special_tokens):
            return int(place)
    return -1


def _find_places(data: UInt8[np.ndarray, " n_bytes"], cuts: Cuts) -> Int64[np.ndarray, " n_places"]:
    """Find where data may be cut if no space beyond ASCII and no special token is in the way."""
    before, here = data[:-1], data[1:]
    is_space = _are(_ASCII_SPACES)[data]
    begins = is_space[1:] & ~is_space[:-1]
    if cuts != "spaces":
        begins &= ~_are(_LINE_BREAKS)[here] | _are(_WORD)[before]
    if cuts == "lines":
        begins |= _are(_LINE_BREAKS)[before] & ~_are(_BEGIN_NO_LINE)[here]
    return np.flatnonzero(begins) + 1


def _last_after_special(data: bytes, special_tokens: Sequence[bytes]) -> int:
    """End of the last special token of data, read from its beginning; 0 when there is none."""
    longest_first = sorted(special_tokens, key=len, reverse=True)
    last = 0
    if longest_first:
        for found in re.finditer(b"|".join(map(re.escape, longest_first)), data):
            if found.start() + len(longest_first[0]) <= len(data):  # no longer one is cut off
                last = found.end()
    return last


def _may_cut(data: bytes, place: int, special_tokens: Sequence[bytes]) -> bool:
    # str.isspace is true for four more characters than the pattern's \s: a few cuts are missed.
    is_after_space = data[max(place - 4, 0) : place].decode("utf-8", "ignore")[-1:].isspace()
    if is_after_space and data[place - 1] not in _LINE_BREAKS:
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
    cuts: Cuts = "spaces",
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
        place = last_cut(data, special_tokens, cuts)
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
    from concurrent.futures import ThreadPoolExecutor

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
