# mypy: allow-untyped-defs, allow-untyped-calls
"""Decode ids to bytes: tokens are copied one after another, eight bytes at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlm.tokenizer.bpe.compiler import kernel
from fastlm.tokenizer.bpe.compiler import numpy as np
from fastlm.tokenizer.bpe.context import int64_at, load_word, store_word, uint8_at

if TYPE_CHECKING:
    from jaxtyping import Int64, Shaped

_SLACK = 8  # bytes read and written past a token


class Decoder:
    """Decoder of the tokens text[bounds[i] : bounds[i + 1]]; safe to use from several threads."""

    def __init__(self, text: bytes, bounds: Int64[np.ndarray, " n_tokens_plus_1"]) -> None:
        self._text = np.frombuffer(text + bytes(_SLACK), np.uint8)
        self._bounds = np.ascontiguousarray(bounds, np.int64)
        self._lengths = np.diff(self._bounds)

    def decode(self, ids: Shaped[np.ndarray, " n_tokens"]) -> bytes:
        """Concatenate the bytes of the tokens with these ids, integers of any dtype.

        Raises:
            IndexError: with the first id that no token has.
        """
        ids = np.ascontiguousarray(ids, np.int64)
        wrong = (ids < 0) | (ids >= len(self._lengths))
        if wrong.any():
            raise IndexError(int(ids[wrong.argmax()]))
        n_bytes = int(self._lengths[ids].sum())
        out = np.empty(n_bytes + _SLACK, np.uint8)
        _decode(*(array.ctypes.data for array in (ids, self._text, self._bounds, out)), len(ids))
        return out[:n_bytes].tobytes()


@kernel
def _decode(ids_address, text_address, bounds_address, out_address, n_ids):
    ids, bounds = int64_at(ids_address), int64_at(bounds_address)
    text, out = uint8_at(text_address), uint8_at(out_address)
    end = np.int64(0)
    for i in range(n_ids):
        begin = bounds[ids[i]]
        length = bounds[ids[i] + 1] - begin
        for k in range(0, length, 8):
            store_word(out, end + k, load_word(text, begin + k))
        end += length
    return end
