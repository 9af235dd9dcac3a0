"""How a tokenizer's texts become ids, besides its vocabulary and merges."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from fastlm.tokenizer.bpe.patterns import GPT2, Cuts, Pattern, find_pattern

UNICODE_FORMS = ("NFC", "NFD", "NFKC", "NFKD")


class AddedToken(NamedTuple):
    """A token that is found in texts before they are cut, as `tokenizers` describes it.

    Attributes:
        single_word: it is found only where no letter, mark, digit or underscore touches it.
        lstrip, rstrip: it takes the white space on that side of it.
        normalized: it is found in the normalized text, after the other tokens.
        special: allowed_special and disallowed_special apply to it, and skip_special leaves it out.
    """

    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False
    special: bool = True

    @property
    def has_rules(self) -> bool:
        """Whether it is found elsewhere than wherever its text is."""
        return self._replace(special=True) != AddedToken(self.content)


class Rules(NamedTuple):
    """Everything that determines ids beside vocabulary, merges and special tokens.

    Attributes:
        normalizer: steps in order: one of UNICODE_FORMS, ("prepend", text), or ("replace", text or
            expression, replacement, "text" or "regex").
        ignore_merges: a pre-token that is a token is that token, whatever merges would make of it.
        merges_by_rank: any two neighbours merge whose concatenation is a token, the lowest id
            first, as in tiktoken.
        added: the tokens that are not plain special tokens.
        before, after: ids put around a text on request.
        unused: ids without a token in the file that the tokenizer comes from.
    """

    pattern: Pattern = GPT2
    normalizer: tuple[tuple[str, ...], ...] = ()
    ignore_merges: bool = False
    merges_by_rank: bool = False
    added: tuple[AddedToken, ...] = ()
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    unused: tuple[int, ...] = ()

    @property
    def cuts(self) -> Cuts:
        """Where a text may be cut without another id."""
        if any(token.lstrip or token.rstrip or token.single_word for token in self.added):
            return "never"
        has_prefix = any(step.kind == "prefix_space" for step in self.pattern.steps)
        if has_prefix or any(step[0] not in UNICODE_FORMS for step in self.normalizer):
            return "never"
        if any(token.normalized for token in self.added):
            return "never"
        return self.pattern.cuts

    @property
    def has_plain_texts(self) -> bool:
        """Whether texts are cut into pre-tokens as they are, with plain special tokens."""
        return not self.normalizer and not any(token.has_rules for token in self.added)

    @property
    def keeps_texts(self) -> bool:
        """Whether the tokens of a text, joined, are the text, whichever it is."""
        steps = self.pattern.steps
        return (
            not self.normalizer
            and not any(step.kind in ("removed", "prefix_space") for step in steps)
            and not any(token.lstrip or token.rstrip for token in self.added)
        )

    def as_json(self) -> dict[str, Any]:
        """Return what is not the default."""
        told: dict[str, Any] = {}
        for name, value, default in zip(self._fields, self, Rules(), strict=True):
            if value != default:
                told[name] = value
        if "pattern" in told:
            told["pattern"] = self.pattern.spelled
        if "added" in told:
            told["added"] = [token._asdict() for token in self.added]
        return told

    def spelled(self) -> str:
        """Return as_json as text; empty for the default."""
        told = self.as_json()
        return json.dumps(told, ensure_ascii=False, sort_keys=True) if told else ""


def read_rules(told: object, source: str) -> Rules:
    """Invert Rules.as_json.

    Args:
        source: name of the file in error messages.
    Raises:
        ValueError: if it is something else.
    """
    try:
        if not isinstance(told, Mapping) or not told.keys() <= set(Rules._fields):
            raise TypeError
        values = dict(told)
        if "pattern" in values:
            values["pattern"] = find_pattern(values["pattern"])
        if "normalizer" in values:
            values["normalizer"] = tuple(tuple(map(str, step)) for step in values["normalizer"])
        if "added" in values:
            values["added"] = tuple(_read_added(token) for token in values["added"])
        for name in ("before", "after", "unused"):
            if name in values:
                values[name] = tuple(map(int, values[name]))
        for name in ("ignore_merges", "merges_by_rank"):
            if type(values.get(name, False)) is not bool:
                raise TypeError
        return Rules(**values)
    except (TypeError, AttributeError):
        raise ValueError(f"{source} must be a JSON object with the rules of a tokenizer") from None
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None


def _read_added(told: Mapping[str, Any]) -> AddedToken:
    content, *flags = AddedToken(**told)
    if not isinstance(content, str) or not all(type(flag) is bool for flag in flags):
        raise TypeError
    return AddedToken(content, *flags)
