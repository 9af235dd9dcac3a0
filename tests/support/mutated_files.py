"""A seeded mutator of tokenizer.json: files of odd shapes, most of which mean something."""

import copy
import random
from collections.abc import Iterator, Sequence
from typing import Any

_VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 3.5, "", "a", " ", "NFC", "ByteLevel", "Isolated", "Removed", [],
    [1], {}, {"String": " "}, {"Regex": r"\s+"}, {"Regex": r"\p{N}{1,3}|\p{L}+"}, {"type": "NFD"},
    {"Regex": r"a|$"}, {"Regex": r"(?i:'s|'t)|\p{L}+|[^\p{L}]"}, {"Regex": "[a-z"}, {"String": ""},
    {"type": "BPE"}, {"type": "Digits", "individual_digits": True}, "MergedWithNext", "\u00e9",
    {"type": "Split", "pattern": {"Regex": r" ?\w+"}, "behavior": "Isolated", "invert": False},
    {"type": "Split", "pattern": {"String": "t"}, "behavior": "MergedWithPrevious", "invert": True},
    {"type": "Whitespace"}, {"type": "Metaspace", "replacement": "_", "prepend_scheme": "first"},
    {"type": "Lowercase"}, {"type": "Prepend", "prepend": "_"}, {"type": "NFKC"}, {"type": "Fuse"},
    {"type": "Replace", "pattern": {"String": "t"}, "content": "th"},
]  # fmt: skip
_KEYS = ["type", "pattern", "normalized", "lstrip", "rstrip", "single_word", "special", "content",
         "behavior", "invert", "add_prefix_space", "use_regex", "ignore_merges", "byte_fallback",
         "unk_token", "dropout", "individual_digits", "other"]  # fmt: skip
_KEPT = ("vocab", "merges")


def _containers(part: Any) -> Iterator[Any]:
    if isinstance(part, dict | list):
        yield part
        for key, inner in part.items() if isinstance(part, dict) else enumerate(part):
            if key not in _KEPT:
                yield from _containers(inner)


def _mutate(described: dict[str, Any], rng: random.Random) -> None:
    """Change one thing somewhere."""
    part = rng.choice(list(_containers(described)))
    value = copy.deepcopy(rng.choice(_VALUES))
    how = rng.randrange(7)
    if isinstance(part, dict):
        keys = [key for key in part if key not in _KEPT]
        if how == 0 and keys:
            del part[rng.choice(keys)]
        elif how in (1, 2) and keys:
            key = rng.choice(keys)
            part[key] = not part[key] if isinstance(part[key], bool) else value
        elif how == 3:
            part[rng.choice(_KEYS)] = value
        elif how == 4 and keys:
            key = rng.choice(keys)
            names = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers"}
            part[key] = {"type": "Sequence", names.get(key, "processors"): [part[key]]}
        elif keys:
            first, second = rng.choice(keys), rng.choice(keys)
            part[first], part[second] = part[second], part[first]
    elif part:
        place = rng.randrange(len(part))
        if how == 0:
            del part[place]
        elif how == 1:
            part.insert(place, copy.deepcopy(part[place]))
        elif how == 2:
            rng.shuffle(part)
        else:
            part[place] = value
    else:
        part.append(value)


def _mutate_model(model: Any, rng: random.Random) -> None:
    """Change the vocabulary or the merges."""
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict):
        return
    vocab, merges = dict(model["vocab"]), list(model["merges"])
    how = rng.randrange(6)
    if how == 0 and merges:
        del merges[rng.randrange(len(merges))]
    elif how == 1 and merges:
        merges.append(merges[rng.randrange(len(merges))])
    elif how == 2 and merges:
        rng.shuffle(merges)
    elif how == 3:
        del vocab[rng.choice(list(vocab))]
    elif how == 4:
        first, second = rng.choice(list(vocab)), rng.choice(list(vocab))
        vocab[first], vocab[second] = vocab[second], vocab[first]
    else:
        vocab[rng.choice(["zz", "<new>", "é中", "the the"])] = rng.choice([len(vocab), 5, 10**6])
    model["vocab"], model["merges"] = vocab, merges


def mutated_files(
    described: dict[str, Any], changes: Sequence[dict[str, Any]], n_files: int, seed: int
) -> Iterator[dict[str, Any]]:
    """Yield files: up to three of the changes to the described one, then up to three mutations."""
    rng = random.Random(seed)
    for _ in range(n_files):
        told = copy.deepcopy(described)
        for change in rng.sample(changes, rng.randrange(4)):
            told |= copy.deepcopy(change)
        for _ in range(rng.choice((0, 1, 1, 2, 3))):
            if rng.random() < 0.15:
                _mutate_model(told.get("model"), rng)
            else:
                _mutate(told, rng)
        yield told
