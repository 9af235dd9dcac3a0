"""Checks of a tokenizer's special tokens, and of the special tokens in a text."""

import re
from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

from fastlm.files.utf8 import to_utf8
from fastlm.tokenizer.bpe.errors import refuse_unordered

Choice = Literal["all"] | Collection[str]


class SpecialUse(NamedTuple):
    """The special tokens that become their ids, and those that a text must not hold."""

    allowed: frozenset[str]
    refused: frozenset[str]


def check_special(special_tokens: Sequence[str]) -> Sequence[str]:
    """Return special tokens unchanged.

    Raises:
        TypeError: if one is no str, or they have no order.
        ValueError: if two are equal or one is empty.
    """
    refuse_unordered(special_tokens, "special tokens")
    if isinstance(special_tokens, str):
        raise ValueError(f"special_tokens must be a list of strings: got {special_tokens!r}")
    for index, token in enumerate(special_tokens):
        if not isinstance(token, str):
            raise TypeError(
                f"special tokens must be strings: got {token!r} of type {type(token).__name__}"
            )
        if not token:
            raise ValueError(f"special tokens must not be empty: the one at index {index} is")
        if token in special_tokens[:index]:
            raise ValueError(f"special tokens must differ: got {token!r} twice")
        to_utf8(token, "special tokens")
    return special_tokens


def choose_special(known: Collection[str], allowed: Choice, disallowed: Choice) -> SpecialUse:
    """Apply allowed_special and disallowed_special to the known special tokens.

    Raises:
        ValueError: if they name an unknown token, which would have no effect.
    """
    allowed_set = _as_set("allowed_special", known, allowed, frozenset(known))
    others = frozenset(known) - allowed_set
    return SpecialUse(allowed_set, _as_set("disallowed_special", known, disallowed, others))


def _as_set(
    argument: str, known: Collection[str], choice: Choice, everything: frozenset[str]
) -> frozenset[str]:
    if choice == "all":
        return everything
    if isinstance(choice, str):
        raise ValueError(f'{argument} must be "all" or a set of special tokens: got {choice!r}')
    chosen = frozenset(choice)
    if not chosen <= frozenset(known):
        unknown = min(chosen - frozenset(known), key=str)
        raise ValueError(
            f"{argument} must name special tokens of this tokenizer, {sorted(known)}: "
            f"got {unknown!r}"
        )
    return chosen


def refuse_special(
    text: str, refused: Collection[str], *, name: str = "the text", n_before: int = 0
) -> None:
    """Raise a ValueError if the text holds a refused token.

    Args:
        name: name of the text in the error message.
        n_before: number of characters that precede this part of the text.
    """
    if not refused:
        return
    longest_first = sorted(refused, key=lambda token: (-len(token), token))
    found = re.search("|".join(map(re.escape, longest_first)), text)
    if found is not None:
        raise ValueError(
            f"{name} must not hold the special token {found.group()!r}: found it at character "
            f"{n_before + found.start()}; name it in allowed_special to get its id, or leave it "
            "out of disallowed_special to read it as plain text"
        )
