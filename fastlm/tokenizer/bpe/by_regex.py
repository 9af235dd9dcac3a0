"""Pre-tokens by the `regex` package: the plain way, for every pattern."""

import functools
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import regex

from fastlm.tokenizer.bpe.patterns import Pattern, Step

_Span = tuple[int, int, bool]


@functools.lru_cache(maxsize=256)
def compile_expression(expression: str) -> "regex.Pattern[str]":
    """Compile a regular expression.

    Raises:
        ValueError: if it is none, or matches an empty text, between any two characters.
    """
    try:
        compiled = regex.compile(expression)
    except (regex.error, RecursionError, OverflowError) as error:
        raise ValueError(
            f"pattern must be a regular expression of the regex package: {error} in {expression!r}"
        ) from None
    if compiled.fullmatch("") is not None:
        raise ValueError(f"pattern must not match an empty text: {expression!r} does")
    return compiled


def pretokenize(text: str, pattern: Pattern) -> list[str]:
    """Split a text without special tokens into pre-tokens."""
    pieces: Iterable[str] = [text] if text else []
    for step in pattern.steps:
        pieces = itertools.chain.from_iterable([_split(piece, step) for piece in pieces])
    return list(pieces)


@functools.lru_cache(maxsize=256)
def _with_group(expression: str) -> Any:
    """Compile an expression so that split returns its matches and what lies between them."""
    return regex.compile(f"({expression})")


def _split(text: str, step: Step) -> list[str]:
    if step.kind == "prefix_space":
        return [text if text.startswith(" ") else " " + text]
    compiled = compile_expression(step.regex)
    if compiled.groups == 0:  # the quick way of the two most frequent kinds
        if step.kind == "isolated":
            return [piece for piece in _with_group(step.regex).split(text) if piece]
        if step.kind == "removed" and step.is_inverted:
            return [piece for piece in compiled.findall(text) if piece]
    spans = ((a, b, found != step.is_inverted) for a, b, found in _spans(text, compiled))
    return [text[a:b] for a, b in _PIECES[step.kind](spans) if a < b]


def _spans(text: str, compiled: Any) -> Iterator[_Span]:
    """Yield matches and the gaps between them, as (begin, end, is it a match)."""
    end = 0
    for match in compiled.finditer(text):
        begin = match.start()
        if end < begin:
            yield end, begin, False
        end = match.end()
        yield begin, end, True
    if end < len(text):
        yield end, len(text), False


def _isolated(spans: Iterable[_Span]) -> Iterator[tuple[int, int]]:
    return ((begin, end) for begin, end, _ in spans)


def _removed(spans: Iterable[_Span]) -> Iterator[tuple[int, int]]:
    return ((begin, end) for begin, end, is_match in spans if not is_match)


def _contiguous(spans: Iterable[_Span]) -> Iterator[tuple[int, int]]:
    for _, group in itertools.groupby(spans, key=lambda span: span[2]):
        run = list(group)
        yield run[0][0], run[-1][1]


def _merged_with_previous(spans: Iterable[_Span]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    is_after_match = False
    for begin, end, is_match in spans:
        if is_match and not is_after_match and merged:
            merged[-1] = merged[-1][0], end
        else:
            merged.append((begin, end))
        is_after_match = is_match
    return merged


def _merged_with_next(spans: Iterable[_Span]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    is_before_match = False
    for begin, end, is_match in reversed(list(spans)):
        if is_match and not is_before_match and merged:
            merged[-1] = begin, merged[-1][1]
        else:
            merged.append((begin, end))
        is_before_match = is_match
    return merged[::-1]


_PIECES: dict[str, Any] = {
    "isolated": _isolated,
    "removed": _removed,
    "contiguous": _contiguous,
    "merged_with_previous": _merged_with_previous,
    "merged_with_next": _merged_with_next,
}
