"""Learn a vocabulary from blocks of text."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from itertools import pairwise
from typing import TYPE_CHECKING

from fastlm.tokenizer.bpe import machine_code, small
from fastlm.tokenizer.bpe.blocks import Block, Loadable, map_blocks, resolve_threads
from fastlm.tokenizer.bpe.compiler import numpy as np
from fastlm.tokenizer.bpe.errors import InvalidUtf8
from fastlm.tokenizer.bpe.patterns import GPT2, Pattern
from fastlm.tokenizer.bpe.word_rules import is_scanned, warn_if_slow

if TYPE_CHECKING:
    from jaxtyping import Int64

    from fastlm.cli.progress import Progress
    from fastlm.tokenizer.bpe.count import Words

Vocab = dict[int, bytes]
Merges = list[tuple[bytes, bytes]]

# Plain Python learns from so many bytes in less time than it takes to compile the kernels.
SMALL_BYTES = 1 << 19
# From so few bytes it learns in less time than it takes to load kernels that are compiled already.
TINY_BYTES = 1 << 12


def learn_vocabulary(
    blocks: Iterable[Loadable],
    vocab_size: int,
    special_tokens: Sequence[bytes],
    *,
    n_threads: int | None,
    on_progress: Progress | None,
    source: str,
    max_token_bytes: int | None = None,
    pattern: Pattern = GPT2,
) -> tuple[Vocab, Merges]:
    """Learn merges, and make a vocabulary of the 256 bytes, the merges and the special tokens.

    Args:
        n_threads: None uses all cores.
        on_progress: called with ("bytes", number read), then with ("merges", number learned).
        source: name of the text in error messages.
        max_token_bytes: greatest length of a learned token; None sets no limit.
    Returns:
        (vocabulary, merges), both in the order of ids.
    Raises:
        InvalidUtf8: with the position of the byte.
        ValueError: if the blocks hold no text besides special tokens.
    """
    n_merges = vocab_size - 256 - len(special_tokens)
    n_threads = resolve_threads(n_threads)
    blocks = iter(blocks)
    first, is_all = _load_first(blocks, pattern)
    if is_all:
        counted: Mapping[bytes, int] = _count_in_python(first, special_tokens, pattern, on_progress)
        _check_any(counted, source)
        merges = small.learn_merges(counted, n_merges, max_token_bytes)
        if on_progress is not None:
            on_progress("merges", len(merges))
    else:
        from fastlm.tokenizer.bpe.merge import learn_merges

        every_block = itertools.chain(first, blocks)
        if is_scanned(pattern):
            words = _count_blocks(every_block, special_tokens, pattern, n_threads, on_progress)
        else:
            warn_if_slow(pattern)
            words = _as_words(_count_in_python(every_block, special_tokens, pattern, on_progress))
        _check_any(words.counts, source)
        merges = learn_merges(words, n_merges, on_progress, max_token_bytes)
    tokens = [bytes([byte]) for byte in range(256)]
    tokens += [left + right for left, right in merges]
    tokens += special_tokens
    if len(merges) < n_merges:
        warnings.warn(
            f"the text has no more pairs to merge: the vocabulary has {len(tokens)} tokens, not "
            f"vocab_size={vocab_size}; give more text or a smaller vocab_size",
            stacklevel=3,
        )
    return dict(enumerate(tokens)), merges


def _load_first(blocks: Iterator[Loadable], pattern: Pattern) -> tuple[list[Block], bool]:
    """Load blocks until kernels are faster than Python; returns (blocks, are these all)."""
    first: list[Block] = []
    n_bytes = 0
    while not _kernels_are_faster(n_bytes, pattern):
        following = next(blocks, None)
        if following is None:
            return first, True
        first.append(following.load())
        n_bytes += len(first[-1].text)
    return first, False


def _kernels_are_faster(n_bytes: int, pattern: Pattern) -> bool:
    """Whether it is worthwhile to load the kernels, or even to compile them, for so many bytes."""
    if n_bytes > SMALL_BYTES:
        return machine_code.can_be_loaded()
    return n_bytes > TINY_BYTES and is_scanned(pattern) and machine_code.is_at_hand()


def _check_any(words: Sized, source: str) -> None:
    if len(words) == 0:
        raise ValueError(f"{source}: no text to learn from besides special tokens; give some")


def _count_in_python(
    blocks: Iterable[Loadable],
    special_tokens: Sequence[bytes],
    pattern: Pattern,
    on_progress: Progress | None,
) -> Mapping[bytes, int]:
    def documents() -> Iterator[str]:
        n_bytes = 0
        for block in blocks:
            text, bounds, source, offset = block.load()
            for begin, end in pairwise(bounds.tolist()):
                try:
                    yield text[begin:end].decode()
                except UnicodeDecodeError as error:
                    raise InvalidUtf8(offset + begin + error.start, source) from None
            n_bytes += len(text)
            if on_progress is not None:
                on_progress("bytes", n_bytes)

    special = [token.decode() for token in special_tokens]
    return small.count_words(documents(), special, pattern)


def _as_words(counted: Mapping[bytes, int]) -> "Words":
    from fastlm.tokenizer.bpe.count import Words

    return Words(
        np.frombuffer(b"".join(counted), np.uint8),
        np.cumsum([0, *map(len, counted)], dtype=np.int64),
        np.fromiter(counted.values(), np.int64, len(counted)),
    )


def _count_blocks(
    blocks: Iterable[Loadable],
    special_tokens: Sequence[bytes],
    pattern: Pattern,
    n_threads: int,
    on_progress: Progress | None,
) -> "Words":
    from fastlm.tokenizer.bpe.count import WordCounter

    counters = [WordCounter(special_tokens, pattern) for _ in range(n_threads)]
    # list.pop and list.append are atomic, so no two threads hold the same counter.
    idle = counters.copy()

    def count(text: bytes, bounds: Int64[np.ndarray, " n_documents_plus_1"]) -> int:
        counter = idle.pop()
        counter.add(text, bounds)
        idle.append(counter)
        return len(text)

    n_bytes = 0
    for n_block_bytes in map_blocks(count, blocks, n_threads):
        n_bytes += n_block_bytes
        if on_progress is not None:
            on_progress("bytes", n_bytes)
    total, *others = counters
    for counter in others:
        total.merge(counter.words())
    return total.words()
