"""Decode ids to the bytes of their tokens, by a kernel where there are many ids."""

import functools
from collections.abc import Collection, Iterable, Sized
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int64, Shaped

if TYPE_CHECKING:
    from fastlm.tokenizer.bpe.decode import Decoder

KERNEL_TOKENS = 1 << 17  # from so many ids on it is worthwhile to load the kernel


class TokenBytes:
    """The bytes of the tokens: token i is text[bounds[i] : bounds[i + 1]]."""

    def __init__(self, text: bytes, bounds: Int64[np.ndarray, " vocab_size_plus_1"]) -> None:
        self._text = text
        self._bounds = bounds

    @functools.cached_property
    def of_id(self) -> dict[int, bytes]:
        ends = pairwise(self._bounds.tolist())
        return dict(enumerate([self._text[begin:end] for begin, end in ends]))

    @functools.cached_property
    def _decoder(self) -> "Decoder":
        from fastlm.tokenizer.bpe.decode import Decoder

        return Decoder(self._text, self._bounds)

    def join(self, ids: Iterable[int], left_out: Collection[int] = ()) -> bytes:
        """Concatenate the bytes of the tokens, without those of the ids left out.

        Raises:
            ValueError: if an id belongs to no token.
        """
        _check_row(ids)
        if not left_out and isinstance(ids, Sized) and len(ids) >= KERNEL_TOKENS:
            return self._join_many(np.asarray(ids))
        return b"".join(self.of_ids(ids, left_out))

    def of_ids(self, ids: Iterable[int], left_out: Collection[int] = ()) -> list[bytes]:
        """Return the bytes of each token, without those of the ids left out."""
        # Arrays and tensors give Python integers much faster all at once.
        _check_row(ids)
        listed = ids.tolist() if hasattr(ids, "tolist") else ids
        if left_out:
            listed = [token_id for token_id in listed if token_id not in left_out]
        try:
            return list(map(self.of_id.__getitem__, listed))
        except KeyError as error:
            raise self._unknown_id(error.args[0]) from None

    def _join_many(self, ids: Shaped[np.ndarray, " n_tokens"]) -> bytes:
        _check_row(ids)
        if ids.dtype.kind not in "iu":
            raise ValueError(f"token ids must be integers: got {ids.dtype}")
        try:
            return self._decoder.decode(ids)
        except IndexError as error:
            raise self._unknown_id(error.args[0]) from None

    def _unknown_id(self, token_id: int) -> ValueError:
        return ValueError(
            f"token ids must be 0 to {len(self._bounds) - 2}: got {token_id}; "
            "was this encoded with another tokenizer?"
        )


def _check_row(ids: Any) -> None:
    """Raise a ValueError if ids are an array or tensor of another shape than (n_tokens,)."""
    if getattr(ids, "ndim", 1) != 1:
        raise ValueError(
            f"token ids must be in one row: got an array of shape {tuple(ids.shape)}; "
            "decode_batch takes several rows"
        )
