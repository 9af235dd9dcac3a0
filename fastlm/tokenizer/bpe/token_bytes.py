"""Decode ids to the bytes of their tokens, by a kernel where there are many ids."""

from __future__ import annotations

import functools
import operator
from array import array
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from fastlm.tokenizer.bpe import machine_code
from fastlm.tokenizer.bpe.compiler import numpy as np
from fastlm.tokenizer.bpe.errors import UnknownToken, refuse_unordered

if TYPE_CHECKING:
    from jaxtyping import Shaped

    from fastlm.tokenizer.bpe.decode import Decoder

KERNEL_TOKENS = 1 << 17  # from so many ids on it is worthwhile to load the kernel


class TokenBytes:
    """The bytes of the tokens: token i is text[bounds[i] : bounds[i + 1]]."""

    def __init__(self, text: bytes, bounds: array[int]) -> None:
        self._text = text
        self._bounds = bounds

    @functools.cached_property
    def of_id(self) -> dict[int, bytes]:
        ends = pairwise(self._bounds)
        return dict(enumerate([self._text[begin:end] for begin, end in ends]))

    @functools.cached_property
    def _decoder(self) -> "Decoder":
        from fastlm.tokenizer.bpe.decode import Decoder

        return Decoder(self._text, np.frombuffer(self._bounds, np.int64))

    def join(self, ids: Iterable[int], left_out: Collection[int] = ()) -> bytes:
        """Concatenate the bytes of the tokens, without those of the ids left out.

        Raises:
            TypeError: if ids are no integers.
            ValueError: if an id belongs to no token, or ids are an array of another shape.
        """
        row = as_row(ids)
        if not left_out and len(row) >= KERNEL_TOKENS and machine_code.can_be_loaded():
            array = np.asarray(row.cpu() if hasattr(row, "cpu") else row)
            if array.dtype.kind in "iu":  # integers of more than 64 bits belong to no token
                return self._join_many(array)
        return b"".join(self._of_ids(row, left_out))

    def of_ids(self, ids: Iterable[int], left_out: Collection[int] = ()) -> list[bytes]:
        """Return the bytes of each token, without those of the ids left out.

        Raises:
            TypeError, ValueError: as join does.
        """
        return self._of_ids(as_row(ids), left_out)

    def _of_ids(self, ids: Any, left_out: Collection[int]) -> list[bytes]:
        # Arrays and tensors give Python integers much faster all at once.
        listed = ids.tolist() if hasattr(ids, "tolist") else ids
        if left_out:
            listed = [token_id for token_id in listed if token_id not in left_out]
        try:
            return list(map(self.of_id.__getitem__, listed))
        except KeyError as error:
            raise self._unknown_id(error.args[0]) from None

    def _join_many(self, ids: Shaped[np.ndarray, " n_tokens"]) -> bytes:
        try:
            return self._decoder.decode(ids)
        except IndexError as error:
            raise self._unknown_id(error.args[0]) from None

    def _unknown_id(self, token_id: int) -> UnknownToken:
        return UnknownToken(
            f"token ids must be 0 to {len(self._bounds) - 2}: got {token_id}; "
            "was this encoded with another tokenizer?"
        )


def as_row(ids: Any) -> Any:
    """Return ids as an array or tensor of integers in one row, or as a collection of Python's.

    Raises:
        TypeError: if they are none, or have no order. Those that only equal integers, such as True
            and 1.0, are none.
        ValueError: if they are an array or tensor of another shape than (n_tokens,).
    """
    if type(ids) is list:  # the most frequent case is the quickest
        return _as_integers(ids)
    if getattr(ids, "ndim", 1) != 1:
        raise ValueError(
            f"token ids must be in one row: got an array of shape {tuple(ids.shape)}; "
            "decode_batch takes several rows"
        )
    if getattr(ids, "is_meta", False):
        raise TypeError("expected token ids, got a tensor on the meta device, which has no values")
    layout = str(getattr(ids, "layout", "torch.strided"))
    if layout != "torch.strided":
        raise TypeError(f"expected token ids, got a tensor of layout {layout}: give to_dense()")
    if hasattr(ids, "dtype"):
        is_array = isinstance(ids, np.ndarray)
        if ids.dtype.kind in "iu" if is_array else "int" in str(ids.dtype):
            return ids
    if isinstance(ids, (str, bytes, bytearray, memoryview)):
        raise _no_integers(ids)
    refuse_unordered(ids, "a row of token ids")
    listed = ids.tolist() if hasattr(ids, "tolist") else ids
    if not isinstance(listed, (list, tuple)):
        try:
            listed = list(listed)
        except TypeError:
            raise TypeError(f"expected a row of token ids, got one {type(ids).__name__}") from None
    return _as_integers(listed)


def _as_integers(listed: Sequence[Any]) -> Sequence[int]:
    if list(map(type, listed)).count(int) == len(listed):
        return listed
    return [_as_integer(token_id) for token_id in listed]


def _as_integer(token_id: Any) -> int:
    try:
        # One of NumPy or torch; a tensor without values raises a RuntimeError.
        value = token_id.tolist() if hasattr(token_id, "tolist") else token_id
        if not isinstance(value, bool):
            return operator.index(value)
    except (TypeError, RuntimeError):
        pass
    raise _no_integers(token_id)


def _no_integers(given: Any) -> TypeError:
    hint = "; decode_batch takes several rows" if isinstance(given, (list, tuple)) else ""
    return TypeError(f"expected token ids as integers, got {type(given).__name__}{hint}")
