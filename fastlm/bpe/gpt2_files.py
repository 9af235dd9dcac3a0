"""The text of GPT-2's vocab.json and merges.txt, and of a tokenizer.json that says the same.

Both write each byte as one printable character: itself where Latin-1 prints it, else one of the
characters from U+0100 on, in order. Special tokens stand in vocab.json as they are.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

_PRINTED = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = [byte for byte in range(256) if byte not in set(_PRINTED)]
CHARACTER_OF_BYTE = {byte: chr(byte) for byte in _PRINTED} | {
    byte: chr(0x100 + index) for index, byte in enumerate(_OTHERS)
}
BYTE_OF_CHARACTER = {character: byte for byte, character in CHARACTER_OF_BYTE.items()}

_HEADER = "#version"


def to_printable(token: bytes) -> str:
    return "".join([CHARACTER_OF_BYTE[byte] for byte in token])


def from_printable(text: str) -> bytes:
    """Raises KeyError with the character that spells no byte."""
    return bytes([BYTE_OF_CHARACTER[character] for character in text])


def parse_vocab(text: str, special_tokens: Collection[str], source: str) -> dict[int, bytes]:
    """Read vocab.json.

    Args:
        special_tokens: keys to take as they are.
        source: names the file in errors.
    """
    try:
        entries = json.loads(text)
    except ValueError as error:
        raise ValueError(
            f"{source} must be a JSON object of tokens and their ids: {error}"
        ) from None
    if not isinstance(entries, dict) or not all(type(i) is int for i in entries.values()):
        raise ValueError(f"{source} must be a JSON object of tokens and their whole-number ids")
    vocab: dict[int, bytes] = {}
    for key, token_id in entries.items():
        if token_id in vocab:
            raise ValueError(f"{source} gives id {token_id} to two tokens; each needs its own")
        try:
            vocab[token_id] = key.encode() if key in special_tokens else from_printable(key)
        except KeyError as error:
            raise ValueError(
                f"{source}: token {key!r} holds {error.args[0]!r}, which is none of GPT-2's "
                "printable byte characters; if it is a special token, name it as one"
            ) from None
    return vocab


def parse_merges(text: str, source: str) -> list[tuple[bytes, bytes]]:
    """Read merges.txt; source names the file in errors."""
    merges = []
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.removesuffix("\r")
        if not line or (number == 1 and line.startswith(_HEADER)):
            continue
        parts = line.split(" ")
        if len(parts) != 2 or not all(parts):
            raise ValueError(
                f"{source} line {number} must be two tokens with a blank between: got {line!r}"
            )
        try:
            merges.append((from_printable(parts[0]), from_printable(parts[1])))
        except KeyError as error:
            raise ValueError(
                f"{source} line {number} holds {error.args[0]!r}, which is none of GPT-2's "
                f"printable byte characters: got {line!r}"
            ) from None
    return merges


def printable_vocab(
    vocab: Mapping[int, bytes], special_tokens: Mapping[str, int]
) -> dict[str, int]:
    """Token texts and ids as vocab.json has them, in the order of ids."""
    text_of_special = {token_id: token for token, token_id in special_tokens.items()}
    entries: dict[str, int] = {}
    for token_id in sorted(vocab):
        text = text_of_special.get(token_id) or to_printable(vocab[token_id])
        if text in entries:
            raise ValueError(
                f"ids {entries[text]} and {token_id} are both written {text!r} in vocab.json; "
                "rename the special token"
            )
        entries[text] = token_id
    return entries


def format_merges(merges: Sequence[tuple[bytes, bytes]]) -> str:
    lines = [f"{_HEADER}: 0.2"]
    lines += [f"{to_printable(left)} {to_printable(right)}" for left, right in merges]
    return "\n".join(lines) + "\n"


def hugging_face_tokenizer(
    vocab: Mapping[int, bytes],
    merges: Sequence[tuple[bytes, bytes]],
    special_tokens: Mapping[str, int],
) -> dict[str, Any]:
    """What tokenizer.json holds, for `tokenizers.Tokenizer.from_file`."""
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
            "vocab": printable_vocab(vocab, special_tokens),
            "merges": [[to_printable(left), to_printable(right)] for left, right in merges],
        },
    }
