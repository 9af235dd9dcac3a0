"""GPT-2's vocab.json and merges.txt.

Both write each byte as one printable character: the Latin-1 character if it is printable, else one
of the characters from U+0100 on, in order. vocab.json has special tokens unchanged.
"""

import codecs
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import accumulate, pairwise

from fastlm.tokenizer.bpe import gpt2_reader
from fastlm.tokenizer.bpe.gpt2_reader import Read

_PRINTED = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = [byte for byte in range(256) if byte not in set(_PRINTED)]
_CHARACTER_OF_BYTE = {byte: chr(byte) for byte in _PRINTED} | {
    byte: chr(0x100 + index) for index, byte in enumerate(_OTHERS)
}
_BYTE_OF_CHARACTER = {character: byte for byte, character in _CHARACTER_OF_BYTE.items()}

_BYTE_OF_POINT = {ord(character): byte for character, byte in _BYTE_OF_CHARACTER.items()}

_HEADER = "#version"
_PAIR = re.compile(r"[^ ]+ [^ ]+")
_MARKUP = re.compile(r"<[^<>]+>", re.DOTALL)  # such as <|endoftext|> and <pad>


def to_printable(token: bytes) -> str:
    """Spell each byte of a token as GPT-2's printable character."""
    return token.decode("latin-1").translate(_CHARACTER_OF_BYTE)


def is_printed_byte(character: str) -> bool:
    """Return whether vocab.json writes a byte as this character."""
    return character in _BYTE_OF_CHARACTER


def from_printable(text: str) -> bytes:
    """Invert to_printable; raises a KeyError with the first character that spells no byte."""
    return bytes([_BYTE_OF_CHARACTER[character] for character in text])


def spell_all(texts: Sequence[str]) -> list[bytes]:
    """Apply from_printable to many texts at once, which is much faster."""
    data = _spell_joined("".join(texts))
    bounds = accumulate(map(len, texts), initial=0)
    return [data[begin:end] for begin, end in pairwise(bounds)]


def _spell_joined(text: str) -> bytes:
    """Invert to_printable at once; raises a KeyError as from_printable does."""
    try:
        return codecs.charmap_encode(text, "strict", _BYTE_OF_POINT)[0]
    except UnicodeEncodeError as error:
        raise KeyError(text[error.start]) from None


def parse_entries(text: str, source: str) -> dict[str, int]:
    """Parse vocab.json to printable tokens and their ids."""
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{source} must be a JSON object of tokens and their ids: {error}"
        ) from None
    return check_entries(entries, source)


def check_entries(entries: object, source: str) -> dict[str, int]:
    """Return the entries of a vocabulary unchanged; a ValueError if they are not tokens and ids."""
    if not isinstance(entries, dict) or not all(type(i) is int for i in entries.values()):
        raise ValueError(f"{source} must be a JSON object of tokens and their integer ids")
    return entries


def spell_vocab(
    entries: Mapping[str, int], special_tokens: Collection[str], source: str
) -> dict[int, bytes]:
    """Map each id to the bytes of its token.

    Args:
        special_tokens: keys that are not spelled in printable characters.
        source: name of the file in error messages.
    """
    plain = [key for key in entries if key not in special_tokens]
    try:
        spelled = spell_all(plain)
    except KeyError as error:
        character = error.args[0]
        key = next(key for key in plain if character in key)
        raise ValueError(
            f"{source}: token {key!r} holds {character!r}, which is none of GPT-2's printable byte "
            "characters; if it is a special token, name it as one"
        ) from None
    vocab = {entries[key]: token for key, token in zip(plain, spelled, strict=True)}
    vocab |= {entries[key]: key.encode() for key in special_tokens if key in entries}
    if len(vocab) < len(entries):
        double, _ = Counter(entries.values()).most_common(1)[0]
        raise ValueError(f"{source} gives id {double} to two tokens; each needs its own")
    return vocab


def parse_merges(text: str, source: str) -> list[tuple[bytes, bytes]]:
    """Parse merges.txt; of a merge that is there twice, the last one counts, as in GPT-2's code.

    Args:
        source: name of the file in error messages.
    """
    lines = (text + "\n").replace("\r\n", "\n").split("\n")
    if lines[0].startswith(_HEADER):
        lines[0] = ""
    merge_lines = list(filter(None, lines))
    parts = " ".join(merge_lines).split(" ") if merge_lines else []
    if "" in parts or any(line.count(" ") != 1 for line in merge_lines):
        number, line = next(
            (i, line) for i, line in enumerate(lines, start=1) if line and not _PAIR.fullmatch(line)
        )
        raise ValueError(
            f"{source} line {number} must be two tokens with a blank between: got {line[:200]!r}"
        )
    try:
        spelled = spell_all(parts)
    except KeyError as error:
        character = error.args[0]
        number, line = next((i, li) for i, li in enumerate(lines, start=1) if character in li)
        raise ValueError(
            f"{source} line {number} holds {character!r}, which is none of GPT-2's printable byte "
            f"characters: got {line[:200]!r}"
        ) from None
    merges = list(zip(spelled[::2], spelled[1::2], strict=True))
    if len(set(merges)) < len(merges):
        merges = list(dict.fromkeys(reversed(merges)))[::-1]
    return merges


def read_quickly(vocab: bytes, merges: bytes) -> tuple[Read, tuple[int, ...]] | None:
    """Read GPT-2's two files if nothing about them is unusual; None if something is.

    Whatever is wrong or worth a warning is left to the functions above.

    Returns:
        (the two files, ids of the special tokens), as find_special finds them.
    """
    read = gpt2_reader.read(vocab, merges, [_BYTE_OF_POINT.get(point, -1) for point in range(512)])
    if read is None:
        return None
    for token_id in read.unmade:
        token = read.text[read.ends[token_id] : read.ends[token_id + 1]]
        if not (token.isascii() and _MARKUP.fullmatch(token.decode())):
            return None  # no text gets its id, or it is spelled in other characters
    return read, tuple(read.unmade)


def _marked(entries: Mapping[str, int]) -> list[str]:
    return [key for key in entries if key[:1] == "<" and _MARKUP.fullmatch(key)]


def find_special(entries: Mapping[str, int], made: Collection[bytes]) -> list[str]:
    """Find keys in angle brackets that no merge makes, such as <|endoftext|>, in order of ids."""

    def is_made(key: str) -> bool:
        try:
            return from_printable(key) in made
        except KeyError:
            return False

    return sorted((key for key in _marked(entries) if not is_made(key)), key=entries.__getitem__)


def find_unreachable(
    vocab: Mapping[int, bytes], made: Collection[bytes], special_tokens: Iterable[str]
) -> list[int]:
    """Find the ids of tokens that are neither single bytes nor special nor made by a merge."""
    left = set(vocab.values()).difference(made, (token.encode() for token in special_tokens))
    left = {token for token in left if len(token) > 1}
    return sorted(i for i, token in vocab.items() if token in left) if left else []


def printable_vocab(
    vocab: Mapping[int, bytes], special_tokens: Mapping[str, int]
) -> dict[str, int]:
    """Make the entries of vocab.json, in the order of ids."""
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
    """Make the content of merges.txt."""
    lines = [f"{_HEADER}: 0.2"]
    lines += [f"{to_printable(left)} {to_printable(right)}" for left, right in merges]
    return "\n".join(lines) + "\n"
