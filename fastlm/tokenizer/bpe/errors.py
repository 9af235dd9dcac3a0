"""Errors of texts that cannot be encoded, and of other arguments that are none."""

import operator
from collections.abc import Mapping
from typing import Any


def plain_str(text: str) -> str:
    """Return a text as a str of no subclass, as kernels read its memory by its layout.

    Raises:
        TypeError: if it is no str.
    """
    if not isinstance(text, str):
        raise TypeError(f"expected a text as str, got {type(text).__name__}: decode it first")
    return str.__str__(text)


def refuse_unordered(given: object, expected: str) -> None:
    """Raise a TypeError if a set or a mapping is given for several things in an order."""
    name = type(given).__name__
    if isinstance(given, (set, frozenset)):
        raise TypeError(
            f"expected {expected}, got a {name}, whose order is arbitrary: put them in a list"
        )
    if isinstance(given, Mapping):
        raise TypeError(
            f"expected {expected}, got a {name}: put its values, or its keys, in a list"
        )


def check_integer(name: str, value: Any) -> int:
    """Return an integer as Python's; a TypeError if it is none, such as nan, 300.0, "300" and True.

    Types, arrays and tensors have __index__ too, and tensors without values raise a RuntimeError.
    """
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except (TypeError, RuntimeError):
        pass
    raise TypeError(f"{name} must be an integer: got {value!r}")


class UnknownToken(ValueError, KeyError):
    """A token or an id is not in the vocabulary.

    It is a KeyError too, which tiktoken raises in its place.
    """

    def __str__(self) -> str:
        return ValueError.__str__(self)  # a KeyError's would put it in quotation marks


class BadByte(ValueError):
    """The byte at `position` of `source` cannot be encoded."""

    def __init__(self, position: int, source: str) -> None:
        super().__init__(position, source)
        self.position, self.source = position, source

    def shift(self, offset: int, source: str | None = None) -> None:
        """Make the position relative to the file or stream that the text is a part of.

        Args:
            offset: position of the text in that file or stream, in bytes.
            source: its name; None keeps the present name.
        """
        self.position += offset
        self.source = self.source if source is None else source


class InvalidUtf8(BadByte):
    """No valid UTF-8 character begins at byte `position` of `source`."""

    def __init__(self, position: int, source: str = "text") -> None:
        super().__init__(position, source)

    def __str__(self) -> str:
        return (
            f"{self.source} must be UTF-8: no valid character begins at byte {self.position}; "
            "errors=replace puts U+FFFD there"
        )


class UnknownByte(BadByte):
    """The vocabulary has no token for the byte at `position` of `source`."""

    def __init__(self, byte: int, position: int, source: str = "the text") -> None:
        super().__init__(position, source)
        self.byte = byte

    def __str__(self) -> str:
        return (
            f"the vocabulary must cover every byte of {self.source}: no token is byte "
            f"0x{self.byte:02x}, found at byte {self.position}; add the 256 single bytes to the "
            "vocabulary"
        )
