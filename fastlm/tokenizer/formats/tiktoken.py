"""tiktoken's rank files: a line for each token, with its bytes in base64 and its rank.

A rank file does not have the merges that make its tokens. They follow from the ranks, because each
token was made of two tokens of lower ranks.
"""

import base64
import binascii
from collections.abc import Mapping
from itertools import pairwise


def parse_ranks(text: str, source: str) -> dict[int, bytes]:
    """Parse a rank file to tokens by rank.

    Args:
        source: name of the file in error messages.
    Raises:
        ValueError: with the line that is not a token and a rank, or that repeats a rank.
    """
    vocab: dict[int, bytes] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line:
            continue
        try:
            encoded, rank = line.split()
            token, token_id = base64.b64decode(encoded, validate=True), int(rank)
        except (ValueError, binascii.Error):
            raise ValueError(
                f"{source}, line {number}: expected a token in base64, a space and its rank: got "
                f"{line[:40]!r}"
            ) from None
        if vocab.setdefault(token_id, token) != token:
            raise ValueError(f"{source}, line {number}: rank {token_id} belongs to an earlier line")
    return vocab


def find_merges(vocab: Mapping[int, bytes], source: str) -> list[tuple[bytes, bytes]]:
    """Find the merge that makes each token of two bytes or more, in the order of ranks.

    Raises:
        ValueError: for a token that merges of lower ranks do not make.
    """
    ranks = {token: rank for rank, token in vocab.items()}
    merges = []
    for rank, token in sorted(vocab.items()):
        if len(token) == 1:
            continue
        parts = [token[i : i + 1] for i in range(len(token))]
        while len(parts) > 2:
            # The pair of the lowest rank merges first; only ranks below the token's count.
            found = [(ranks.get(a + b, rank), i) for i, (a, b) in enumerate(pairwise(parts))]
            lowest, i = min(found)
            if lowest >= rank:
                break
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        if len(parts) != 2 or any(ranks.get(part, rank) >= rank for part in parts):
            raise ValueError(
                f"{source}: no two tokens of lower rank make the token {token!r}, rank {rank}; "
                "expected the ranks of byte-pair merges"
            )
        merges.append((parts[0], parts[1]))
    return merges
