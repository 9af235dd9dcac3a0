"""Compression and speed of a tokenizer beside characters, bytes and words."""

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt

from fastlm.bpe.blocks import Loadable
from fastlm.bpe.count import WordCounter


class Measure(NamedTuple):
    """What one way to cut a text gave; n_tokens_known is the size of its vocabulary."""

    name: str
    n_tokens_known: int
    n_bytes: int
    n_tokens: int
    elapsed_seconds: float

    @property
    def bytes_per_token(self) -> float:
        """Compression ratio."""
        return self.n_bytes / self.n_tokens

    @property
    def bytes_per_second(self) -> float:
        return self.n_bytes / self.elapsed_seconds


def compare(
    blocks: Iterable[Loadable],
    encode: Callable[[bytes], UInt[np.ndarray, " n_tokens"]],
    vocab_size: int,
) -> list[Measure]:
    """Cut blocks into BPE tokens, characters, bytes and words (pre-tokens), on one thread.

    Characters and words have as vocabulary what occurs in the text. Bytes are only copied.
    """
    characters: set[str] = set()
    counter = WordCounter()
    n_tokens = dict.fromkeys(("bpe", "character", "byte", "word"), 0)
    seconds = dict.fromkeys(n_tokens, 0.0)
    n_bytes = 0
    encode(b"compile what is not compiled yet")
    counter.add(b"")
    for loadable in blocks:
        block = loadable.load()
        n_bytes += len(block.text)
        marks = [time.perf_counter()]
        n_tokens["bpe"] += len(encode(block.text))
        marks.append(time.perf_counter())
        points = np.frombuffer(block.text.decode().encode("utf-32-le"), np.uint32)
        n_tokens["character"] += len(points)
        marks.append(time.perf_counter())
        n_tokens["byte"] += len(np.frombuffer(block.text, np.uint8).astype(np.uint16))
        marks.append(time.perf_counter())
        counter.add(block.text)
        marks.append(time.perf_counter())
        characters |= set(block.text.decode())
        for name, begin, end in zip(seconds, marks, marks[1:], strict=False):
            seconds[name] += end - begin
    words = counter.words()
    n_tokens["word"] = int(words.counts.sum())
    known = {
        "bpe": vocab_size,
        "character": len(characters),
        "byte": 256,
        "word": len(words.counts),
    }
    return [Measure(name, known[name], n_bytes, n_tokens[name], seconds[name]) for name in n_tokens]
