"""How the texts between special tokens become words, and words ids, besides by merges."""

import warnings
from collections.abc import Mapping
from typing import NamedTuple

from fastlm.tokenizer.bpe.patterns import GPT2, PATTERNS, Pattern


class WordRules(NamedTuple):
    """The pattern of words, and words with an id that is not what merges would make of them.

    Attributes:
        whole: ids of whole words.
        merges_by_rank: a merge ranks by the id of what it makes, not by its place.
    """

    pattern: Pattern = GPT2
    whole: Mapping[bytes, int] = {}
    merges_by_rank: bool = False

    @property
    def has_kernels(self) -> bool:
        """Whether there is compiled code for them; without it, Python encodes texts of any size."""
        return is_scanned(self.pattern)


PLAIN_WORDS = WordRules()


def is_scanned(pattern: Pattern) -> bool:
    """Whether kernels find the words of a pattern."""
    return pattern.name in PATTERNS


def warn_if_slow(pattern: Pattern) -> None:
    """Warn, once in a process, that a pattern is found by the regex package."""
    if not is_scanned(pattern) and not _told:
        _told.append(pattern)
        shown = pattern.spelled if len(pattern.spelled) <= 60 else pattern.spelled[:60] + "..."
        warnings.warn(
            f"the pattern {shown!r} has no compiled scanner: ids are right, but encoding and "
            "counting take about 50 times as long as with a pattern known by name",
            stacklevel=3,
        )


_told: list[Pattern] = []
