"""The tokenizer.json of Hugging Face's `tokenizers`, if it is byte-level BPE.

Such a file can describe many other tokenizers. A setting that would give other ids is refused by
its name in the file; settings of offsets and of training are ignored, and so are truncation and
padding, with a warning.
"""

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fastlm.tokenizer.formats import gpt2
from fastlm.tokenizer.formats.hugging_face_rules import (
    format_rules,
    is_type,
    parse_added_token,
    parse_normalizer,
    parse_post_processor,
    parse_pre_tokenizer,
    refuse,
    steps_of,
    why_not,
)
from fastlm.tokenizer.rules import AddedToken, Rules
from fastlm.tokenizer.tables import fill_gaps

# The values of settings of the model that change no ids, the default first.
_HARMLESS_MODEL: dict[str, tuple[Any, ...]] = {
    "type": ("BPE",),
    "dropout": (None, 0),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
}
# Settings for characters without a token, which change no ids if each byte has a token.
_FOR_UNKNOWN: dict[str, tuple[Any, ...]] = {
    "unk_token": (None, ""),
    "byte_fallback": (False, None),
}


class Parts(NamedTuple):
    """The arguments of a Tokenizer."""

    vocab: dict[int, bytes]
    merges: list[tuple[bytes, bytes]]
    special_tokens: list[str]
    rules: Rules


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
        kind = model.get("type", "BPE")
        entries, merges = (model["vocab"], model["merges"]) if kind == "BPE" else ({}, [])
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        raise ValueError(
            f"{source} must be a tokenizer.json of Hugging Face with a BPE model, its vocab and "
            "merges; for vocab.json and merges.txt give their folder"
        ) from None
    _refuse_others(source, "model.", model, _HARMLESS_MODEL)
    ignore_merges = model.get("ignore_merges")
    ignore_merges = False if ignore_merges is None else ignore_merges
    is_flag = type(ignore_merges) is bool
    _refuse_unless(is_flag, source, "model.ignore_merges", ignore_merges, "true or false")
    normalizer = parse_normalizer(described.get("normalizer"), source)
    steps = steps_of(described.get("pre_tokenizer"))
    if model.get("byte_fallback") and not any(is_type(step, "ByteLevel") for step in steps):
        refuse(source, "model.byte_fallback", True, "false, as it is in byte-level BPE")
    pattern = parse_pre_tokenizer(described.get("pre_tokenizer"), source)
    before, after = parse_post_processor(described.get("post_processor"), source)
    part = described.get("decoder")
    is_byte_level = all(is_type(step, "ByteLevel") for step in steps_of(part))
    _refuse_unless(is_byte_level, source, "decoder", part, "null or ByteLevel")

    all_entries = dict(gpt2.check_entries(entries, f"{source}: model.vocab"))
    added = described.get("added_tokens") or []
    if not isinstance(added, list):
        raise ValueError(f"{source}: added_tokens must be a list: got {added}")
    tokens = []
    next_id = len(all_entries)
    for token in added:
        content, token_id = (
            (token.get("content"), token.get("id")) if isinstance(token, dict) else (None, None)
        )
        if not isinstance(content, str) or type(token_id) is not int:
            raise ValueError(
                f"{source}: added_tokens must each have a content and an id: got {token}"
            )
        tokens.append(parse_added_token(token, source))
        name = f"added_tokens {content!r}."
        # `tokenizers` counts on from the vocabulary, whatever the file says.
        known_id = all_entries.get(content, next_id)
        _refuse_unless(known_id == token_id, source, f"{name}id", token_id, str(known_id))
        if content not in all_entries:
            all_entries[content] = next_id
            next_id += 1
    # A pre-token of its text would be the token, although it is no word by itself.
    has_words = any(token.single_word for token in tokens)
    _refuse_unless(
        not (has_words and ignore_merges), source, "model.ignore_merges", True, "false beside words"
    )
    rules = Rules(
        pattern,
        normalizer,
        ignore_merges=ignore_merges,
        added=_with_rules(tokens, is_normalized=bool(normalizer)),
        before=before,
        after=after,
    )
    special = sorted((token["content"] for token in added), key=all_entries.__getitem__)
    vocab = gpt2.spell_vocab(all_entries, special, source)
    rules = rules._replace(unused=fill_gaps(vocab, source))
    if len({token for token in vocab.values() if len(token) == 1}) < 256:
        _refuse_others(source, "model.", model, _FOR_UNKNOWN)
    try:
        lines = [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]
    except TypeError:
        raise ValueError(f"{source}: model.merges must be a list of pairs of tokens") from None
    spelled = gpt2.parse_merges("\n".join(lines), f"{source}: model.merges")
    _warn_of_limits(described, source)
    for token_id in (*before, *after):
        is_special = any(all_entries[token] == token_id for token in special)
        _refuse_unless(is_special, source, "post_processor", token_id, "of ids of added_tokens")
    return Parts(vocab, spelled, special, rules)


def _with_rules(tokens: Sequence[AddedToken], *, is_normalized: bool) -> tuple[AddedToken, ...]:
    """Return the tokens that are not plain special tokens.

    `tokenizers` searches for normalized tokens last, in the text between the other ones. Without a
    normalizer this makes a difference only for tokens that overlap.
    """
    later = [token.content for token in tokens if token.normalized]
    first = [token.content for token in tokens if not token.normalized]
    flagged = any(token.lstrip or token.rstrip or token.single_word for token in tokens)
    keeps = is_normalized or flagged or any(_may_overlap(a, b) for a in first for b in later)
    kept = [token if keeps else token._replace(normalized=False) for token in tokens]
    return tuple(token for token in kept if token != AddedToken(token.content))


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


def _may_overlap(one: str, other: str) -> bool:
    lengths = range(1, min(len(one), len(other)) + 1)
    return (
        one in other
        or other in one
        or any(one[-n:] == other[:n] or other[-n:] == one[:n] for n in lengths)
    )


def _refuse_others(
    source: str, where: str, part: Mapping[str, Any], harmless: Mapping[str, tuple[Any, ...]]
) -> None:
    for name, values in harmless.items():
        value = part.get(name, values[0])
        _refuse_unless(value in values, source, where + name, value, json.dumps(values[0]))


def _refuse_unless(holds: bool, source: str, name: str, value: Any, expected: str) -> None:
    if not holds:
        refuse(source, name, value, expected)


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
    rules: Rules,
) -> dict[str, Any]:
    """Make the content of a tokenizer.json for `tokenizers.Tokenizer.from_file`.

    Raises:
        ValueError: if `tokenizers` could give other ids.
    """
    ids = {token: token_id for token_id, token in vocab.items()} if rules.merges_by_rank else {}
    rows = [(ids[a], ids[b], ids[a + b]) for a, b in merges] if rules.merges_by_rank else []
    if reason := why_not(rules, rows, [len(vocab[i]) for i in range(len(vocab))]):
        raise ValueError(f"this tokenizer cannot be written as tokenizer.json: {reason}")
    told = {token.content: token for token in rules.added}
    text_of_special = {token_id: token for token, token_id in special_tokens.items()}
    in_order = sorted(special_tokens.items(), key=lambda item: item[1])
    used = {i: token for i, token in vocab.items() if i not in rules.unused}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": token_id, **told.get(token, AddedToken(token))._asdict()}
            for token, token_id in in_order
        ],
        **format_rules(rules, text_of_special.__getitem__),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": rules.ignore_merges,
            "vocab": gpt2.printable_vocab(used, special_tokens),
            "merges": [
                [gpt2.to_printable(left), gpt2.to_printable(right)] for left, right in merges
            ],
        },
    }
