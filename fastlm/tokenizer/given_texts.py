"""Texts as callers of the tokenizer give them: checked, and as UTF-8."""

from collections.abc import Iterable, Iterator

from fastlm.files.utf8 import to_utf8
from fastlm.tokenizer.bpe.errors import plain_str, refuse_unordered


def check_text(text: str, name: str = "text") -> None:
    """Check that a text can be encoded.

    Args:
        name: of the text, in the error.

    Raises:
        TypeError: if it is no str.
        ValueError: naming the character, if it holds lone surrogates.
    """
    if not plain_str(text).isascii():
        to_utf8(text, name)


def check_several(texts: Iterable[str]) -> None:
    """Check that several texts are given in an order.

    Raises:
        TypeError: if it is one text, whose characters would be one each, a set or a mapping, or
            nothing that has texts.
    """
    refuse_unordered(texts, "several texts")
    if isinstance(texts, (str, bytes, bytearray)):
        raise TypeError(f"expected several texts, got one {type(texts).__name__}: put it in a list")
    try:
        iter(texts)
    except TypeError:
        name = type(texts).__name__
        raise TypeError(f"expected several texts, got {name}: give a list of str") from None


def each_as_utf8(texts: Iterable[str]) -> Iterator[bytes]:
    """Return texts as UTF-8, one after another; raise what check_text raises."""
    return (to_utf8(plain_str(text)) for text in texts)
