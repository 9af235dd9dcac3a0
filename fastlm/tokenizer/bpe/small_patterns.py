r"""The known patterns in plain Python, by the categories of Unicode 16.

Python's re has no \p{L}. So each character beyond ASCII is replaced by one below U+0100 that stands
for its category, and the expressions of a pattern are translated to name these.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from fastlm.lazy import numpy as np
from fastlm.tokenizer.bpe.categories import (
    CASELESS,
    CONTROL,
    LOWER,
    MARK,
    NUMBER,
    SPACE,
    SYMBOL,
    UNASSIGNED,
    UPPER,
    categories,
)
from fastlm.tokenizer.bpe.patterns import DEEPSEEK, Pattern

if TYPE_CHECKING:
    from jaxtyping import UInt8

_FIRST = 0x80  # stands for category 0, and the next ones for the others
_LONG_S = "\x90"
_CJK, _CJK_SYMBOL, _CJK_NONE = "\x91", "\x92", "\x93"
_SYMBOL = r"!-/:-@\[-`{-~" + chr(_FIRST + SYMBOL) + _CJK_SYMBOL
_CLASSES = {
    "Lu": "A-Z" + chr(_FIRST + UPPER),
    "Lt": "",  # the same stand-in
    "Ll": "a-z" + chr(_FIRST + LOWER) + _LONG_S,
    "Lm": chr(_FIRST + CASELESS) + _CJK,
    "Lo": "",
    "M": chr(_FIRST + MARK),
    "N": "0-9" + chr(_FIRST + NUMBER),
    "P": _SYMBOL,
    "S": "",
}
_CLASSES["L"] = "".join(_CLASSES[name] for name in ("Lu", "Ll", "Lm"))
_SPACES = r"\t-\r " + chr(_FIRST + SPACE)
_PART = re.compile(r"\(\?i:[^()]*\)|\\p\{(\w+)\}|\\[sS]|\\.|\[一[^]]*\]|[\[\]$]|.", re.DOTALL)


@functools.cache
def _stand_ins(has_cjk: bool) -> UInt8[np.ndarray, "1114112"]:
    stand_ins = np.frombuffer(categories(), np.uint8) + np.uint8(_FIRST)
    stand_ins[ord("ſ")] = ord(_LONG_S)  # without regard to case it is an "s"
    if has_cjk:
        of_category = np.full(256, ord(_CJK), np.uint8)
        of_category[_FIRST + SYMBOL] = ord(_CJK_SYMBOL)
        of_category[[_FIRST + CONTROL, _FIRST + UNASSIGNED]] = ord(_CJK_NONE)
        for first, last in ((0x4E00, 0x9FA5), (0x3040, 0x30FF)):
            stand_ins[first : last + 1] = of_category[stand_ins[first : last + 1]]
    stand_ins[:128] = np.arange(128)
    return stand_ins


def _translate(expression: str) -> str:
    """Name the stand-ins in place of categories."""
    translated = ""
    is_class = False
    for found in _PART.finditer(expression):
        part, name = found.group(), found.group(1)
        if name is not None:
            part = _CLASSES[name] if is_class else f"[{_CLASSES[name]}]"
        elif part == r"\s":
            part = _SPACES if is_class else f"[{_SPACES}]"
        elif part == r"\S":
            part = f"[^{_SPACES}]"
        elif part == "$" and not is_class:
            part = r"\Z"  # "$" is also true before a last line break
        elif part.startswith("(?i:"):
            part = _translate_caseless(part)
        elif part.startswith("[一"):
            part = f"[{_CJK}{_CJK_SYMBOL}{_CJK_NONE}]"
        elif part in ("[", "]"):
            is_class = part == "["
        translated += part
    return translated


def _translate_caseless(group: str) -> str:
    translated = "(?:"
    is_class = False
    for character in group.removeprefix("(?i:"):
        if character in "[]":
            is_class = character == "["
        if character.isalpha():
            both = character + character.upper() + (_LONG_S if character == "s" else "")
            character = both if is_class else f"[{both}]"
        translated += character
    return translated


@functools.cache
def pretokenizer_of(pattern: Pattern) -> Callable[[str], list[str]]:
    """Return the function that splits a text without special tokens by a known pattern."""
    splits = [re.compile(f"({_translate(step.regex)})").split for step in pattern.steps]
    stand_ins = functools.partial(_stand_ins, pattern == DEEPSEEK)

    def pretokenize(text: str) -> list[str]:
        alike = text
        if not text.isascii():
            points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
            alike = stand_ins().take(points).tobytes().decode("latin-1")
        pieces = [alike]
        for split in splits:
            # Group 0 is a match, and what lies between two matches is a piece as well.
            pieces = [part for piece in pieces for part in split(piece) if part]
        if text.isascii():
            return pieces
        return [text[a:b] for a, b in pairwise(accumulate(map(len, pieces), initial=0))]

    return pretokenize
