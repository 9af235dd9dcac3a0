"""Encoding that loads the kernels only once there is enough text to make it worthwhile."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from fastlm.tokenizer.bpe import machine_code
from fastlm.tokenizer.bpe.buffers import as_numbers
from fastlm.tokenizer.bpe.compiler import numpy as np
from fastlm.tokenizer.bpe.errors import InvalidUtf8, UnknownByte, plain_str
from fastlm.tokenizer.bpe.small import NO_TOKEN, SmallEncoder
from fastlm.tokenizer.bpe.word_rules import PLAIN_WORDS, WordRules, warn_if_slow

if TYPE_CHECKING:
    from jaxtyping import Int64, UInt

    from fastlm.tokenizer.bpe.encode import Encoder

# Python encodes so many characters in a fraction of the time that it takes to compile the kernels.
SMALL_CHARACTERS = 1 << 20


class LazyEncoder:
    """Encoder with a tokenizer's merges; safe to use from several threads.

    Kernels encode where their machine code is kept from an earlier process. Where they would have
    to be compiled first, Python encodes the first SMALL_CHARACTERS of all texts together.

    Args:
        byte_ids: token id of each single byte, or NO_TOKEN.
        merges: rows (left id, right id, merged id), in the order learned, as an array of NumPy, or
            one after another as an array("i") of Python.
        special_tokens: id of each special token.
        dtype: "uint16" or "uint32": that of ids in arrays.
        words: how texts are cut into words, and words into ids.
    """

    def __init__(
        self,
        byte_ids: Sequence[int],
        merges: Any,
        special_tokens: Mapping[str, int],
        dtype: str,
        words: WordRules = PLAIN_WORDS,
    ) -> None:
        rows = as_numbers(merges, "i")
        self._parts = (as_numbers(byte_ids, "i"), rows, special_tokens, str(dtype))
        self._words = words
        self._dtype = str(dtype)
        self._small: SmallEncoder | None = None
        self._compiled: Encoder | None = None
        self._n_characters = 0
        self._lock = threading.Lock()

    def encode_to_list(self, text: str) -> list[int]:
        """Encode a text to a list of token ids.

        Raises:
            UnknownByte: with the position of the byte in the UTF-8 of the text.
            UnicodeEncodeError: if the text holds lone surrogates.
        """
        if type(text) is not str:
            text = plain_str(text)
        return self._choose(len(text)).encode_to_list(text)

    def encode_text(self, text: str) -> UInt[np.ndarray, " n_tokens"]:
        """Encode a text to an array of token ids; raises what encode_to_list raises."""
        text = plain_str(text)
        encoder = self._choose(len(text))
        if isinstance(encoder, SmallEncoder):
            return np.array(encoder.encode_to_list(text), self._dtype)
        return encoder.encode_text(text)

    def encode(
        self,
        data: bytes,
        bounds: Int64[np.ndarray, " n_documents_plus_1"] | None = None,
        end_of_text: int = NO_TOKEN,
    ) -> UInt[np.ndarray, " n_tokens"]:
        """Encode UTF-8 text, like Encoder.encode."""
        encoder = self._choose(len(data))
        if not isinstance(encoder, SmallEncoder):
            return encoder.encode(data, bounds, end_of_text)
        ids: list[int] = []
        for begin, end in pairwise([0, len(data)] if bounds is None else bounds.tolist()):
            try:
                text = data[begin:end].decode()
            except UnicodeDecodeError as error:
                raise InvalidUtf8(begin + error.start) from None
            try:
                ids += encoder.encode_to_list(text)
            except UnknownByte as error:
                error.shift(begin)
                raise
            if end_of_text != NO_TOKEN:
                ids.append(end_of_text)
        return np.array(ids, self._dtype)

    def encode_texts(
        self, texts: Sequence[str]
    ) -> tuple[UInt[np.ndarray, " n_tokens"], Int64[np.ndarray, " n_texts_plus_1"]]:
        """Encode texts, like Encoder.encode_texts."""
        encoder = self._choose(sum(map(len, texts)))
        if not isinstance(encoder, SmallEncoder):
            return encoder.encode_texts(texts)
        rows = list(map(encoder.encode_to_list, texts))
        offsets = np.array(list(accumulate(map(len, rows), initial=0)), np.int64)
        return np.array([token_id for row in rows for token_id in row], self._dtype), offsets

    def encode_texts_to_lists(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode texts, like Encoder.encode_texts_to_lists."""
        encoder = self._choose(sum(map(len, texts)))
        if not isinstance(encoder, SmallEncoder):
            return encoder.encode_texts_to_lists(texts)
        return list(map(encoder.encode_to_list, texts))

    def count(self, text: str) -> int:
        """Return the number of token ids of a text; raises what encode_to_list raises."""
        text = plain_str(text)
        encoder = self._choose(len(text))
        if isinstance(encoder, SmallEncoder):
            return len(encoder.encode_to_list(text))
        return encoder.count(text)

    def _choose(self, n_characters: int) -> "SmallEncoder | Encoder":
        if self._compiled is not None:
            return self._compiled
        with self._lock:
            self._n_characters += n_characters
            if self._n_characters > SMALL_CHARACTERS:
                if self._words.has_kernels and machine_code.can_be_loaded():
                    return self._compile()
                warn_if_slow(self._words.pattern)
            if self._small is None:
                if self._words.has_kernels and machine_code.is_at_hand():
                    return self._compile()
                self._small = self._make_small()
            return self._small

    def _make_small(self) -> SmallEncoder:
        byte_ids, merges, special_tokens, _ = self._parts
        pairs = zip(merges[::3], merges[1::3], strict=True)
        # Reversed, so that the first of several rows with the same pair is kept.
        rows = reversed(list(zip(pairs, enumerate(merges[2::3]), strict=True)))
        ranks = dict(rows)
        if self._words.merges_by_rank:
            ranks = {pair: (merged, merged) for pair, (_, merged) in ranks.items()}
        return SmallEncoder(byte_ids, ranks, special_tokens, self._words)

    def _compile(self) -> "Encoder":
        from fastlm.tokenizer.bpe.encode import Encoder

        byte_ids, merges, special_tokens, dtype = self._parts
        special = {token.encode(): token_id for token, token_id in special_tokens.items()}
        compiled = Encoder(byte_ids, merges, special, dtype, self._words)
        # Later calls go to the compiled encoder directly.
        self.encode_to_list = compiled.encode_to_list  # type: ignore[method-assign]
        self.encode_text = compiled.encode_text  # type: ignore[method-assign]
        self.encode = compiled.encode  # type: ignore[method-assign]
        self.encode_texts = compiled.encode_texts  # type: ignore[method-assign]
        self.encode_texts_to_lists = compiled.encode_texts_to_lists  # type: ignore[method-assign]
        self.count = compiled.count  # type: ignore[method-assign]
        self._small, self._compiled = None, compiled
        return compiled
