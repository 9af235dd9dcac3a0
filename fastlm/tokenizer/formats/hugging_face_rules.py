"""The parts of a tokenizer.json that say how texts are normalized, cut, and put between tokens."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

from fastlm.tokenizer.bpe.patterns import (
    GPT2,
    Pattern,
    Step,
    expression_for_tokenizers,
    pattern_of,
)
from fastlm.tokenizer.formats.expressions import is_portable
from fastlm.tokenizer.rules import UNICODE_FORMS, AddedToken, Rules

_KIND_OF = {
    "Isolated": "isolated",
    "Removed": "removed",
    "Contiguous": "contiguous",
    "MergedWithPrevious": "merged_with_previous",
    "MergedWithNext": "merged_with_next",
}
_BEHAVIOR_OF = {kind: behavior for behavior, kind in _KIND_OF.items()}
_PREFIX = Step("", "prefix_space")


def refuse(source: str, name: str, value: Any, expected: str) -> NoReturn:
    """Raise a ValueError for a part of the file that this tokenizer cannot do."""
    shown = json.dumps(value, default=str)
    shown = shown if len(shown) <= 100 else shown[:100] + "..."
    raise ValueError(
        f"{source}: {name} must be {expected} for this tokenizer to give the ids of the file: got "
        f"{shown}; use the file with the `tokenizers` package"
    )


def steps_of(part: Any) -> list[Any]:
    """Return the steps of a part in order: none if it is null, those in a Sequence, or itself."""
    if part is None:
        return []
    if not is_type(part, "Sequence"):
        return [part]
    names = ("normalizers", "pretokenizers", "processors", "decoders")
    inner = next((part[name] for name in names if isinstance(part.get(name), list)), [part])
    return [step for one in inner for step in ([one] if one is part else steps_of(one))]


def is_type(part: Any, name: str) -> bool:
    """Return whether a part is of a type."""
    return isinstance(part, dict) and part.get("type") == name


def parse_normalizer(part: Any, source: str) -> tuple[tuple[str, ...], ...]:
    """Parse the normalizer to the steps of Rules.

    Raises:
        ValueError: for a step that this tokenizer does not have.
    """
    return tuple(_parse_normal_step(step, source) for step in steps_of(part))


def _parse_normal_step(step: Any, source: str) -> tuple[str, ...]:
    kind = step.get("type") if isinstance(step, dict) else None
    if kind in UNICODE_FORMS:
        return (str(kind),)
    # Before an empty "prepend", `tokenizers` doubles the first character.
    if kind == "Prepend" and isinstance(step.get("prepend"), str) and step["prepend"]:
        return "prepend", step["prepend"]
    if kind == "Replace" and isinstance(step.get("content"), str):
        text, how = _parse_pattern(step.get("pattern"), source, "normalizer.pattern")
        if how == "regex":
            _check_replaced(text, source)
        return "replace", text, step["content"], how
    refuse(source, "normalizer", step, "null, NFC, NFD, NFKC, NFKD, Prepend or Replace")


def _check_replaced(expression: str, source: str) -> None:
    from fastlm.tokenizer.bpe.by_regex import compile_expression

    # A group would be a reference in the replacement.
    if not is_portable(expression) or re.search(r"(?<!\\)\((?!\?)", expression):
        expected = "an expression that means the same in the packages regex and tokenizers"
        refuse(source, "normalizer.pattern", expression, expected)
    try:
        compile_expression(expression)
    except ValueError as error:
        raise ValueError(f"{source}: normalizer: {error}") from None


def _parse_pattern(pattern: Any, source: str, name: str) -> tuple[str, str]:
    """Return (text or expression, "text" or "regex")."""
    if isinstance(pattern, dict) and len(pattern) == 1:
        ((kind, text),) = pattern.items()
        if kind == "String" and isinstance(text, str) and text:
            return text, "text"
        if kind == "Regex" and isinstance(text, str) and text:
            return text, "regex"
    refuse(source, name, pattern, '{"String": text} or {"Regex": expression}')


def parse_pre_tokenizer(part: Any, source: str) -> Pattern:
    """Parse the pre_tokenizer: any Split and Digits, and ByteLevel as the last.

    Raises:
        ValueError: for a step that this tokenizer does not have, and for an expression of which it
            is not known that the packages `regex` and `tokenizers` find the same matches.
    """
    *splits, last = steps_of(part) or [None]
    if not is_type(last, "ByteLevel"):
        refuse(source, "pre_tokenizer", part, "ByteLevel, alone or after Split and Digits")
    steps = [_parse_split(split, source) for split in splits]
    for name in ("add_prefix_space", "use_regex"):
        if type(last.get(name, True)) is not bool:
            refuse(source, f"pre_tokenizer.{name}", last[name], "true or false")
    if last.get("add_prefix_space", True):
        steps.append(_PREFIX)
    if last.get("use_regex", True):
        steps.append(GPT2.steps[0])
    try:
        pattern = pattern_of(steps)
    except ValueError as error:
        raise ValueError(f"{source}: pre_tokenizer: {error}") from None
    unlike = _find_unlike(pattern)
    if unlike is not None:
        expected = "an expression that means the same in the packages regex and tokenizers"
        refuse(source, "pre_tokenizer.pattern", unlike.regex, expected)
    return pattern


def _find_unlike(pattern: Pattern) -> Step | None:
    """Return the first step of which it is not known that `tokenizers` finds its matches."""
    for step in () if pattern.name else pattern.steps:
        is_known = step.kind == "prefix_space" or pattern_of([Step(step.regex)]).name
        if not is_known and not is_portable(step.regex):
            return step
    return None


def _parse_split(split: Any, source: str) -> Step:
    if is_type(split, "Digits"):
        individual = split.get("individual_digits", False)
        if type(individual) is not bool:
            refuse(source, "pre_tokenizer.individual_digits", individual, "true or false")
        return Step(r"\p{N}" if individual else r"\p{N}+")
    if not is_type(split, "Split"):
        refuse(source, "pre_tokenizer", split, "Split, Digits or ByteLevel")
    text, how = _parse_pattern(split.get("pattern"), source, "pre_tokenizer.pattern")
    behavior, is_inverted = split.get("behavior"), split.get("invert", False)
    if not isinstance(behavior, str) or behavior not in _KIND_OF:
        refuse(source, "pre_tokenizer.behavior", behavior, "one of " + ", ".join(_KIND_OF))
    if type(is_inverted) is not bool:
        refuse(source, "pre_tokenizer.invert", is_inverted, "true or false")
    if how == "text":  # re.escape would also escape what has no other meaning
        text = re.sub(r"[\\.\[\]{}()*+?^$|]", r"\\\g<0>", text)
    return Step(text, _KIND_OF[behavior], is_inverted)


def parse_post_processor(part: Any, source: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Parse the post_processor to the ids that it puts before and after a text.

    Raises:
        ValueError: for another processor, or a template that is not of one text.
    """
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    for step in steps_of(part):
        if is_type(step, "ByteLevel"):
            continue
        try:
            first, last = _put_around(step)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            refuse(source, "post_processor", step, "null, ByteLevel or a template of one text")
        if (first or last) and (before or after):
            refuse(source, "post_processor", part, "one template at most")
        before, after = first + before, after + last
    return before, after


def _put_around(step: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if step["type"] in ("RobertaProcessing", "BertProcessing"):
        ends = [step[name][1] for name in ("cls", "sep")]
        return (_as_id(ends[0]),), (_as_id(ends[1]),)
    if step["type"] != "TemplateProcessing":
        raise ValueError
    ids: list[tuple[int, ...]] = [()]
    for place in step["single"]:
        ((kind, what),) = place.items()
        if kind == "Sequence" and what["id"] == "A":
            ids.append(())
        elif kind == "SpecialToken":
            ids[-1] += tuple(map(_as_id, step["special_tokens"][what["id"]]["ids"]))
        else:
            raise ValueError
    before, after = ids  # the text is there once
    return before, after


def _as_id(given: Any) -> int:
    if type(given) is not int or given < 0:
        raise TypeError
    return given


def why_not(rules: Rules, merges: Iterable[Sequence[int]], lengths: Sequence[int]) -> str | None:
    """Return the reason why a tokenizer.json cannot have these rules; None if it can.

    Args:
        merges: rows of the ids of the left, the right and the merged token.
        lengths: length in bytes of each token.
    """
    if rules.merges_by_rank:
        # transformers converts rank files in this way; ids that were not learned would differ.
        made = {
            merged
            for *parts, merged in merges
            if all(part < merged or lengths[part] == 1 for part in parts)
        }
        if len(made) < len({merged for _, _, merged in merges}):
            return "its tokens merge by their ids, and some have a lower id than their parts"
    unlike = _find_unlike(rules.pattern)
    if unlike is not None:
        return f"`tokenizers` may find other matches of its pattern {unlike.regex!r}"
    return None


def format_rules(rules: Rules, text_of_id: Callable[[int], str]) -> dict[str, Any]:
    """Make the normalizer, the pre_tokenizer, the post_processor and the decoder.

    Args:
        text_of_id: the text of a special token.
    """
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    steps = list(rules.pattern.steps)
    uses_regex = rules.pattern == GPT2 or steps[-2:] == [_PREFIX, GPT2.steps[0]]
    if uses_regex:
        steps = steps[:-1]
    has_prefix = steps[-1:] == [_PREFIX]
    if has_prefix:
        steps = steps[:-1]
    last = byte_level | {"add_prefix_space": has_prefix, "use_regex": uses_regex}
    splits: list[dict[str, Any]] = [_format_split(step) for step in steps]
    normalizers = [_format_normal_step(step) for step in rules.normalizer]
    normalizer: dict[str, Any] | None = {"type": "Sequence", "normalizers": normalizers}
    if len(normalizers) < 2:
        normalizer = normalizers[0] if normalizers else None
    return {
        "normalizer": normalizer,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*splits, last]} if splits else last,
        "post_processor": _format_template(rules, text_of_id),
        "decoder": byte_level | {"use_regex": True},
    }


def _format_split(step: Step) -> dict[str, Any]:
    return {
        "type": "Split",
        "pattern": {"Regex": expression_for_tokenizers(step)},
        "behavior": _BEHAVIOR_OF[step.kind],
        "invert": step.is_inverted,
    }


def _format_normal_step(step: Sequence[str]) -> dict[str, Any]:
    kind, *how = step
    if kind == "prepend":
        return {"type": "Prepend", "prepend": how[0]}
    if kind == "replace":
        name = {"text": "String", "regex": "Regex"}[how[2]]
        return {"type": "Replace", "pattern": {name: how[0]}, "content": how[1]}
    return {"type": kind}


def _format_template(rules: Rules, text_of_id: Callable[[int], str]) -> dict[str, Any] | None:
    if not (rules.before or rules.after):
        return None
    texts = {token_id: text_of_id(token_id) for token_id in (*rules.before, *rules.after)}

    def special(token_ids: Sequence[int], type_id: int) -> list[dict[str, Any]]:
        return [{"SpecialToken": {"id": texts[i], "type_id": type_id}} for i in token_ids]

    def around(name: str, type_id: int) -> list[dict[str, Any]]:
        text = {"Sequence": {"id": name, "type_id": type_id}}
        return [*special(rules.before, type_id), text, *special(rules.after, type_id)]

    return {
        "type": "TemplateProcessing",
        "single": around("A", 0),
        "pair": around("A", 0) + around("B", 1),
        "special_tokens": {t: {"id": t, "ids": [i], "tokens": [t]} for i, t in texts.items()},
    }


def parse_added_token(told: Mapping[str, Any], source: str) -> AddedToken:
    """Parse an added token, whose content is known to be a str."""
    flags = {}
    for name in ("lstrip", "rstrip", "single_word", "normalized", "special"):
        value = told.get(name)
        value = False if value is None else value
        if type(value) is not bool:
            refuse(source, f"added_tokens {told['content']!r}.{name}", value, "true or false")
        flags[name] = value
    return AddedToken(told["content"], **flags)
