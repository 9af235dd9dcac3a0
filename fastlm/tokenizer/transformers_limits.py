"""The arguments padding, truncation and max_length as transformers reads them."""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

from fastlm.tokenizer.bpe.errors import check_integer

_PADDINGS = ("do_not_pad", "longest", "max_length")
_TRUNCATIONS = ("do_not_truncate", "longest_first", "only_first")


class Limits(NamedTuple):
    """The number of ids at which a text is cut, or None, and how rows are filled."""

    cut_at: int | None
    is_padded: bool
    width: int | None
    """None fills rows up to the longest one."""
    multiple_of: int
    side: str

    def width_of(self, lengths: Sequence[int]) -> int:
        """Return the length up to which rows of these lengths are filled."""
        if not self.is_padded:
            return 0
        width = max(lengths, default=0) if self.width is None else self.width
        return -(-width // self.multiple_of) * self.multiple_of


def choose_limits(
    padding: bool | str,
    truncation: bool | str | None,
    max_length: int | None,
    pad_to_multiple_of: int | None,
    side: str,
    model_max_length: int | None,
) -> Limits:
    """Apply arguments of transformers' names; model_max_length stands in for max_length.

    Raises:
        TypeError, ValueError: naming the argument.
    """
    pads = _choose("padding", padding, _PADDINGS)
    if truncation is None:
        truncation = max_length is not None and padding is False
    truncates = _choose("truncation", truncation, _TRUNCATIONS) != "do_not_truncate"
    max_length = check_least("max_length", max_length, 0)
    pad_to_multiple_of = check_least("pad_to_multiple_of", pad_to_multiple_of, 1)
    if padding is True and max_length is not None and not truncates:
        warnings.warn(
            "max_length has no effect with padding=True and no truncation: give "
            "padding='max_length' or truncation=True",
            stacklevel=4,
        )
    length = model_max_length if max_length is None else max_length
    is_padded = pads == "longest" or (pads == "max_length" and length is not None)
    cut_at = length if truncates else None
    multiple_of = pad_to_multiple_of or 1
    if is_padded and cut_at is not None and cut_at % multiple_of:
        raise ValueError(
            "max_length must be a multiple of pad_to_multiple_of where texts are cut and padded: "
            f"got {cut_at} and {multiple_of}"
        )
    return Limits(cut_at, is_padded, length if pads == "max_length" else None, multiple_of, side)


def cut_lists(rows: Sequence[list[Any]], length: int, side: str) -> list[list[Any]]:
    """Cut off what is more than length on a side."""
    if side == "right":
        return [row[:length] for row in rows]
    return [row[max(len(row) - length, 0) :] for row in rows]


def fill_rows(rows: Sequence[Sequence[Any]], fill: Any, width: int, limits: Limits) -> list[Any]:
    """Fill rows up to a width; longer ones stay as they are."""
    pairs = [(list(row), [fill] * (width - len(row))) for row in rows]
    return [row + extra if limits.side == "right" else extra + row for row, extra in pairs]


def check_side(name: str, side: str) -> str:
    """Return a side unchanged; a ValueError if it is none."""
    if side not in ("right", "left"):
        raise ValueError(f"{name} must be 'right' or 'left': got {side!r}")
    return side


def check_least(name: str, value: int | None, least: int) -> int | None:
    """Return None or an integer as Python's; a TypeError or ValueError if it is none of them."""
    if value is None:
        return None
    number = check_integer(name, value)
    if number < least:
        raise ValueError(f"{name} must be at least {least}: got {number}")
    return number


def _choose(name: str, value: bool | str, known: Sequence[str]) -> str:
    """Return which of the known values is meant: False is the first, True the second."""
    if isinstance(value, bool):
        return known[int(value)]
    if value not in known:
        choice = ", ".join(map(repr, known))
        raise ValueError(f"{name} must be true, false or one of {choice}: got {value!r}")
    return value
