"""tiktoken's rank files: each token's bytes in base64 and its rank, a line each.

A rank file does not say which merges make its tokens; they follow from the ranks, because each
token was made of two that have lower ranks.
"""

import base64
import binascii
from collections.abc import Mapping
from itertools import pairwise


def parse_ranks(text: str, source: str) -> dict[int, bytes]:
    """Tokens by rank.

    Args:
        source: names the file in errors.
    Raises:
        ValueError: naming the line that is no token and rank, or has a rank a second time.
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
            raise ValueError(f"{source}, line {number}: rank {token_id} is there already")
    return vocab


def find_merges(vocab: Mapping[int, bytes], source: str) -> list[tuple[bytes, bytes]]:
    """The two tokens that each token of more than a byte is made of, in the order of ranks.

    Raises:
        ValueError: for a token that its own merges do not lead to.
    """
    ranks = {token: rank for rank, token in vocab.items()}
    merges = []
    for rank, token in sorted(vocab.items()):
        if len(token) == 1:
            continue
        parts = [token[i : i + 1] for i in range(len(token))]
        while len(parts) > 2:
            # The pair that is made first; none counts that is made later than this token.
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
