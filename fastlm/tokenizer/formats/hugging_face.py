"""The tokenizer.json of Hugging Face's `tokenizers`, if it is byte-level BPE like GPT-2's.

Such a file can describe many other tokenizers. A setting that would give other ids is refused by
its name in the file; settings of offsets and of training are ignored, and so are truncation and
padding, with a warning.
"""

import itertools
import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from fastlm.tokenizer.formats import gpt2

# GPT-2's pattern as tiktoken writes it, and as OpenAI first did.
PATTERNS = {
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
}
# The values of settings of the model and of an added token that change no ids, the default first.
_HARMLESS_MODEL: dict[str, tuple[Any, ...]] = {
    "type": ("BPE",),
    "dropout": (None, 0),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "ignore_merges": (False, None),
}
# Settings for characters without a token, which change no ids if each byte has a token.
_FOR_UNKNOWN: dict[str, tuple[Any, ...]] = {
    "unk_token": (None, ""),
    "byte_fallback": (False, None),
}
_HARMLESS_TOKEN = dict.fromkeys(("single_word", "lstrip", "rstrip"), (False, None))


class Parts(NamedTuple):
    """The arguments of a Tokenizer."""

    vocab: dict[int, bytes]
    merges: list[tuple[bytes, bytes]]
    special_tokens: list[str]


def parse_tokenizer_json(text: str, source: str) -> Parts:
    """Parse tokenizer.json; all of its added tokens become special tokens.

    Args:
        source: name of the file in error messages.
    Raises:
        ValueError: with the setting that would give other ids than this tokenizer.
    Warns:
        UserWarning: if the file says that texts are cut or padded.
    """
    try:
        described = json.loads(text)
        model = described["model"]
        entries, merges = model["vocab"], model["merges"]
    except (ValueError, RecursionError, KeyError, TypeError):
        raise ValueError(
            f"{source} must be a tokenizer.json of Hugging Face with a BPE model, its vocab and "
            "merges; for vocab.json and merges.txt give their folder"
        ) from None
    _refuse_others(source, "model.", model, _HARMLESS_MODEL)
    normalizer = described.get("normalizer")
    _refuse_unless(not _steps(normalizer), source, "normalizer", normalizer, "null")
    _check_pre_tokenizer(described.get("pre_tokenizer"), source)
    for name, is_harmless in (("post_processor", _adds_nothing), ("decoder", _is_byte_level)):
        part = described.get(name)
        holds = all(map(is_harmless, _steps(part)))
        _refuse_unless(holds, source, name, part, "null or ByteLevel")

    all_entries = dict(gpt2.check_entries(entries, f"{source}: model.vocab"))
    added = described.get("added_tokens") or []
    if not isinstance(added, list):
        raise ValueError(f"{source}: added_tokens must be a list: got {added}")
    for token in added:
        content, token_id = (
            (token.get("content"), token.get("id")) if isinstance(token, dict) else (None, None)
        )
        if not isinstance(content, str) or type(token_id) is not int:
            raise ValueError(
                f"{source}: added_tokens must each have a content and an id: got {token}"
            )
        name = f"added_tokens {content!r}."
        _refuse_others(source, name, token, _HARMLESS_TOKEN)
        known_id = all_entries.setdefault(content, token_id)
        _refuse_unless(known_id == token_id, source, f"{name}id", token_id, str(known_id))
    # `tokenizers` searches for normalized tokens last, in the text between the other ones.
    later = [token["content"] for token in added if token.get("normalized")]
    first = [token["content"] for token in added if not token.get("normalized")]
    for pair in itertools.product(first, later):
        name = "added_tokens.normalized of tokens that overlap"
        _refuse_unless(not _may_overlap(*pair), source, name, pair, "the same")
    special = sorted((token["content"] for token in added), key=all_entries.__getitem__)
    vocab = gpt2.spell_vocab(all_entries, special, source)
    if len({token for token in vocab.values() if len(token) == 1}) < 256:
        _refuse_others(source, "model.", model, _FOR_UNKNOWN)
    try:
        lines = [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]
    except TypeError:
        raise ValueError(f"{source}: model.merges must be a list of pairs of tokens") from None
    spelled = gpt2.parse_merges("\n".join(lines), f"{source}: model.merges")
    _warn_of_limits(described, source)
    return Parts(vocab, spelled, special)


def _warn_of_limits(described: Mapping[str, Any], source: str) -> None:
    """Warn of truncation and padding: settings of batches, often left in the file by a call."""
    truncation = described.get("truncation")
    limits = []
    if truncation is not None:
        length = truncation.get("max_length") if isinstance(truncation, dict) else None
        limits.append("truncation" if length is None else f"truncation to {length} tokens")
    if described.get("padding") is not None:
        limits.append("padding")
    if limits:
        warnings.warn(
            f"{source}: {' and '.join(limits)} will not be applied, unlike in `tokenizers`: each "
            "text gets all of its ids and no others",
            stacklevel=5,
        )


def _check_pre_tokenizer(part: Any, source: str) -> None:
    steps = _steps(part) or [None]
    if len(steps) == 2 and _is_type(steps[0], "Split"):
        split, *steps = steps
        pattern = split.get("pattern")
        is_gpt2 = isinstance(pattern, dict) and pattern.get("Regex") in tuple(PATTERNS)
        _refuse_unless(is_gpt2, source, "pre_tokenizer.pattern", pattern, "GPT-2's pattern")
        how = (split.get("behavior"), split.get("invert"))
        # The pattern matches every character, so that nothing lies between its matches.
        _refuse_unless(
            how[0] == "Isolated" or how == ("Removed", True),
            source,
            "pre_tokenizer.behavior and invert",
            how,
            "Isolated and false",
        )
        uses_regex = False
    else:
        uses_regex = True
    step = steps[0] if len(steps) == 1 and _is_type(steps[0], "ByteLevel") else None
    if step is None:
        _refuse(
            source, "pre_tokenizer", part, "ByteLevel, alone or after a Split by GPT-2's pattern"
        )
    for name, expected in (("add_prefix_space", False), ("use_regex", uses_regex)):
        # Both are true by default.
        value = step.get(name, True)
        _refuse_unless(
            value == expected, source, f"pre_tokenizer.{name}", value, json.dumps(expected)
        )


def _may_overlap(one: str, other: str) -> bool:
    lengths = range(1, min(len(one), len(other)) + 1)
    return (
        one in other
        or other in one
        or any(one[-n:] == other[:n] or other[-n:] == one[:n] for n in lengths)
    )


def _steps(part: Any) -> list[Any]:
    """Return the steps of a part in order: none if it is null, those in a Sequence, or itself."""
    if part is None:
        return []
    if not _is_type(part, "Sequence"):
        return [part]
    names = ("normalizers", "pretokenizers", "processors", "decoders")
    inner = next((part[name] for name in names if isinstance(part.get(name), list)), [part])
    return [step for one in inner for step in ([one] if one is part else _steps(one))]


def _is_byte_level(part: Any) -> bool:
    return _is_type(part, "ByteLevel")


def _adds_nothing(part: Any) -> bool:
    """Return whether a post-processor leaves the ids of a single text as they are."""
    if not _is_type(part, "TemplateProcessing"):
        return _is_byte_level(part)
    single = part.get("single")
    is_text = isinstance(single, list) and len(single) == 1 and isinstance(single[0], dict)
    return is_text and list(single[0]) == ["Sequence"]


def _is_type(part: Any, name: str) -> bool:
    return isinstance(part, dict) and part.get("type") == name


def _refuse_others(
    source: str, where: str, part: Mapping[str, Any], harmless: Mapping[str, tuple[Any, ...]]
) -> None:
    for name, values in harmless.items():
        value = part.get(name, values[0])
        _refuse_unless(value in values, source, where + name, value, json.dumps(values[0]))


def _refuse_unless(holds: bool, source: str, name: str, value: Any, expected: str) -> None:
    if not holds:
        _refuse(source, name, value, expected)


def _refuse(source: str, name: str, value: Any, expected: str) -> NoReturn:
    shown = json.dumps(value, default=str)
    shown = shown if len(shown) <= 100 else shown[:100] + "..."
    raise ValueError(
        f"{source}: {name} must be {expected} for this tokenizer to give the ids of the file: got "
        f"{shown}; use the file with the `tokenizers` package"
    )


def format_tokenizer_config(
    special: Mapping[str, str], *, model_max_length: int, **settings: Any
) -> dict[str, Any]:
    """Make the content of the tokenizer_config.json beside a tokenizer.json, for transformers.

    Args:
        special: tokens by their use: bos_token, eos_token and so on.
        settings: others, such as padding_side.
    """
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **special,
        "model_max_length": model_max_length,
        "clean_up_tokenization_spaces": False,
        "add_prefix_space": False,
        **settings,
    }


def format_tokenizer_json(
    vocab: Mapping[int, bytes],
    merges: Sequence[tuple[bytes, bytes]],
    special_tokens: Mapping[str, int],
) -> dict[str, Any]:
    """Make the content of a tokenizer.json for `tokenizers.Tokenizer.from_file`."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": token_id,
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for token, token_id in sorted(special_tokens.items(), key=lambda item: item[1])
        ],
        "normalizer": None,
        "pre_tokenizer": byte_level | {"use_regex": True},
        "post_processor": None,
        "decoder": byte_level | {"use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": gpt2.printable_vocab(vocab, special_tokens),
            "merges": [
                [gpt2.to_printable(left), gpt2.to_printable(right)] for left, right in merges
            ],
        },
    }
