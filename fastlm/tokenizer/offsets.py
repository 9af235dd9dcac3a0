"""Positions of tokens in a text, in characters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from fastlm.lazy import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Int64

# A run of whole characters, or (group 1) the bytes that become one U+FFFD: the longest prefix of a
# valid character, else one byte. See The Unicode Standard, table 3-7 and "maximal subparts".
_CHARACTERS_OR_PART = re.compile(
    rb"(?:[\x00-\x7f]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]"
    rb"|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]"
    rb"|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2})+"
    rb"|(\xe0[\xa0-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]|\xed[\x80-\x9f]"
    rb"|\xf0[\x90-\xbf][\x80-\xbf]?|[\xf1-\xf3][\x80-\xbf]{1,2}|\xf4[\x80-\x8f][\x80-\xbf]?|.)",
    re.DOTALL,
)


def token_spans(
    data: bytes, lengths: Int64[np.ndarray, " n_tokens"]
) -> tuple[Int64[np.ndarray, " n_tokens"], Int64[np.ndarray, " n_tokens"]]:
    """Find the characters of each token.

    Args:
        data: bytes of the tokens, one after another; invalid UTF-8 counts as the U+FFFD that
            decoding puts there.
        lengths: length in bytes of each token, at least 1.
    Returns:
        (begins, ends): for each token the index of the character that holds its first byte, and
        one past the index of the character that holds its last byte.
    """
    first_bytes = (np.frombuffer(data, np.uint8) & 0xC0) != 0x80
    if not _is_utf8(data):
        for match in _CHARACTERS_OR_PART.finditer(data):
            if match.group(1) is not None:
                first_bytes[match.start() : match.end()] = False
                first_bytes[match.start()] = True
    character_of_byte = np.cumsum(first_bytes) - 1
    ends = np.cumsum(lengths)
    return character_of_byte[ends - lengths], character_of_byte[ends - 1] + 1


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def decode_strictly(tokens: Sequence[bytes]) -> str:
    """Decode tokens to text.

    Raises:
        ValueError: with the first byte that is not UTF-8, and its token.
    """
    try:
        return b"".join(tokens).decode()
    except UnicodeDecodeError as error:
        position = error.start
    ends = accumulate(map(len, tokens))
    index = next(index for index, end in enumerate(ends) if position < end)
    raise ValueError(
        f"tokens must be UTF-8 text: no valid character begins at byte {position}, in token "
        f"number {index}, {tokens[index]!r}; errors='replace' puts U+FFFD there"
    )
