"""Many texts at once: their ids one after another, each text's at offsets, and as a matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from fastlm.lazy import numpy as np
from fastlm.tokenizer.bpe.blocks import map_in_order
from fastlm.tokenizer.bpe.errors import BadByte, check_integer, plain_str
from fastlm.tokenizer.given_texts import check_several, check_text
from fastlm.tokenizer.special_tokens import SpecialUse, refuse_special

if TYPE_CHECKING:
    from jaxtyping import Bool, Int64, Integer, UInt

    from fastlm.tokenizer.text_encoder import TextEncoder

    Flat = tuple[UInt[np.ndarray, " n_tokens"], Int64[np.ndarray, " n_texts_plus_1"]]

R = TypeVar("R")

Side = Literal["right", "left"]
Truncate = Literal["error", "right", "left"]

_GROUP_CHARACTERS = 1 << 18  # characters that one thread encodes at a time
_GROUP_TEXTS = 1 << 14


def encode_flat(
    encoder: TextEncoder, texts: Iterable[str], use: SpecialUse, n_threads: int | None
) -> Flat:
    """Encode texts as Tokenizer.encode_batch_flat does."""
    groups = list(_map_groups(encoder.encode_texts, texts, use, n_threads))
    if not groups:
        return encoder.encode(b""), np.zeros(1, np.int64)
    if len(groups) == 1:
        return groups[0]
    lengths = np.concatenate([np.diff(offsets) for _, offsets in groups])
    return np.concatenate([ids for ids, _ in groups]), np.append(0, np.cumsum(lengths))


def encode_to_lists(
    encoder: TextEncoder, texts: Iterable[str], use: SpecialUse, n_threads: int | None
) -> list[list[int]]:
    """Encode texts as Tokenizer.encode_batch does."""
    groups = _map_groups(encoder.encode_texts_to_lists, texts, use, n_threads)
    return [ids for group in groups for ids in group]


def count_each(
    encoder: TextEncoder, texts: Iterable[str], use: SpecialUse, n_threads: int | None
) -> list[int]:
    """Return the number of ids of each text."""
    groups = _map_groups(encoder.encode_texts, texts, use, n_threads)
    return [n for _, offsets in groups for n in np.diff(offsets).tolist()]


def _map_groups(
    encode: Callable[[Sequence[str]], R],
    texts: Iterable[str],
    use: SpecialUse,
    n_threads: int | None,
) -> Iterator[R]:
    """Call encode for each group of neighbouring texts, on threads; yield its results in order."""
    check_several(texts)
    listed = list(texts)
    if any(kind is not str for kind in set(map(type, listed))):
        listed = list(map(plain_str, listed))

    def encode_group(bounds: tuple[int, int]) -> R:
        begin, end = bounds
        group = listed[begin:end]
        if use.refused:
            for index, text in enumerate(group, start=begin):
                refuse_special(text, use.refused, name=f"text {index}")
        try:
            return encode(group)
        except (BadByte, UnicodeEncodeError):
            _name_fault(encode, group, begin)
            raise

    cuts = _cut_groups(list(map(len, listed)))
    return map_in_order(encode_group, list(pairwise(cuts)), n_threads)


def _name_fault(
    encode: Callable[[Sequence[str]], object], group: Sequence[str], n_before: int
) -> None:
    """Raise the error of the first text of a group that cannot be encoded, by its number."""
    for index, text in enumerate(group, start=n_before):
        check_text(text, f"text {index}")
        try:
            encode([text])
        except BadByte as error:
            error.source = f"text {index}"
            raise


def _cut_groups(lengths: Sequence[int]) -> list[int]:
    """Return the index of the first text of each group, and the number of texts."""
    cuts, begin, next_cut = [0], 0, _GROUP_CHARACTERS
    for index, n_characters in enumerate(accumulate(lengths), start=1):
        if n_characters >= next_cut or index - begin == _GROUP_TEXTS:
            cuts.append(index)
            begin, next_cut = index, n_characters + _GROUP_CHARACTERS
    return cuts if cuts[-1] == len(lengths) else [*cuts, len(lengths)]


def dtype_for(dtype: object, vocab_size: int) -> np.dtype[Any]:
    """Return a dtype as NumPy has it; a ValueError if it is none, or not one of all the ids."""
    try:
        found = np.dtype(dtype)  # type: ignore[call-overload]
    except TypeError:
        found = None
    if found is None or found.kind not in "iu" or np.iinfo(found).max < vocab_size - 1:
        shown = repr(dtype) if found is None else found
        raise ValueError(f"dtype must hold the ids 0 to {vocab_size - 1}: got {shown}")
    return found


def pad_batch(
    flat: Flat,
    length: int | None,
    *,
    pad_id: int,
    side: Side,
    truncate: Truncate,
    multiple_of: int,
    dtype: np.dtype[Any],
    before: Sequence[int] = (),
    after: Sequence[int] = (),
) -> tuple[Integer[np.ndarray, "n_texts width"], Bool[np.ndarray, "n_texts width"]]:
    """Make a matrix of encoded texts, as documented at Tokenizer.encode_batch_padded."""
    for name, value, known in (("side", side, Side), ("truncate", truncate, Truncate)):
        if value not in get_args(known):
            choice = ", ".join(map(repr, get_args(known)))
            raise ValueError(f"{name} must be one of {choice}: got {value!r}")
    multiple_of = check_integer("multiple_of", multiple_of)
    if multiple_of < 1:
        raise ValueError(f"multiple_of must be at least 1: got {multiple_of}")
    ids, offsets = flat
    n_added = len(before) + len(after)
    lengths = np.diff(offsets) + n_added
    if length is None:
        length = int(lengths.max(initial=0))
    length = check_integer("length", length)
    if length < 0:
        raise ValueError(f"length must not be negative: got {length}")
    if truncate != "error":
        kept, offsets = cut_rows(offsets, room_in("length", length, n_added), truncate)
        ids = ids[kept]
    elif (lengths > length).any():
        row = int(np.argmax(lengths > length))
        raise ValueError(
            f"text {row} has {lengths[row]} tokens, more than length={length}: give "
            "truncate='right' or 'left' to cut it there, or a greater length"
        )
    width = -(-length // multiple_of) * multiple_of
    ids, offsets = put_around(ids, offsets, before, after)
    return pad_rows(ids, offsets, width, fill=pad_id, side=side, dtype=dtype)


def room_in(name: str, length: int, n_added: int) -> int:
    """Return how many ids of a text fit a length with those that are put around it.

    Raises:
        ValueError: with the name of the length, if not even these fit it.
    """
    if length < n_added:
        raise ValueError(
            f"{name} must be at least {n_added}, for the special tokens around a text: got {length}"
        )
    return length - n_added


def cut_rows(
    offsets: Int64[np.ndarray, " n_rows_plus_1"], length: int, side: str
) -> tuple[Int64[np.ndarray, " n_kept"] | slice, Int64[np.ndarray, " n_rows_plus_1"]]:
    """Cut off what is more than length from rows that lie one after another, on a side.

    Returns:
        (indices of what is kept, the new offsets).
    """
    lengths = np.diff(offsets)
    kept = np.minimum(lengths, min(length, int(offsets[-1])))
    new = np.append(0, np.cumsum(kept))
    if new[-1] == offsets[-1]:
        return slice(None), offsets
    begins = offsets[:-1] + (lengths - kept if side == "left" else 0)
    return np.arange(new[-1]) + np.repeat(begins - new[:-1], kept), new


def put_around(
    ids: Integer[np.ndarray, " n_tokens"],
    offsets: Int64[np.ndarray, " n_rows_plus_1"],
    before: Sequence[int],
    after: Sequence[int],
) -> tuple[Integer[np.ndarray, " n_all"], Int64[np.ndarray, " n_rows_plus_1"]]:
    """Put ids before and after each of the rows that lie one after another."""
    n_rows = len(offsets) - 1
    if not (before or after) or n_rows == 0:
        return ids, offsets
    new = offsets + (len(before) + len(after)) * np.arange(n_rows + 1)
    found = np.empty(new[-1], ids.dtype)
    is_text = np.ones(len(found), np.bool_)
    begins, ends = new[:-1, None], new[1:, None] - len(after)
    for places, added in (
        (begins + np.arange(len(before)), before),
        (ends + np.arange(len(after)), after),
    ):
        found[places] = np.array(added, ids.dtype)
        is_text[places] = False
    found[is_text] = ids
    return found, new


def pad_rows(
    ids: Integer[np.ndarray, " n_tokens"],
    offsets: Int64[np.ndarray, " n_rows_plus_1"],
    width: int,
    *,
    fill: int,
    side: str,
    dtype: np.dtype[Any] | type,
) -> tuple[Integer[np.ndarray, "n_rows width"], Bool[np.ndarray, "n_rows width"]]:
    """Put rows of ids that lie one after another into a matrix, and say where in it they are.

    Args:
        width: number of columns, at least the length of the longest row.
        side: the side of the rows, "right" or "left", that is filled.
    """
    lengths, columns = np.diff(offsets)[:, None], np.arange(width)
    is_token = columns < lengths if side == "right" else columns >= width - lengths
    matrix = np.full((len(lengths), width), fill, dtype)
    matrix[is_token] = ids
    return matrix, is_token
