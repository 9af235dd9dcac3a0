"""tiktoken's rank files: a line for each token, with its bytes in base64 and its rank.

A rank file does not have the merges that make its tokens. They follow from the ranks, because each
token was made of two tokens of lower ranks.
"""

import base64
import binascii
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

_ADVICE = "use tokenizer.json with the package tokenizers"


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
        # The rank of a single byte plays no part, as no merge makes it.
        if len(parts) != 2 or any(
            part not in ranks or (len(part) > 1 and ranks[part] >= rank) for part in parts
        ):
            raise ValueError(
                f"{source}: no two tokens of lower rank make the token {token!r}, rank {rank}; "
                "expected the ranks of byte-pair merges"
            )
        merges.append((parts[0], parts[1]))
    return merges


def format_ranks(vocab: Mapping[int, bytes], merges: Sequence[tuple[bytes, bytes]]) -> str:
    """Make the content of a rank file.

    tiktoken has no merges: it joins the two neighbours whose token has the lowest rank. So it gives
    the same ids only if ranks are in the order of the merges, and each merge follows from them.

    Args:
        vocab: tokens by id, without special tokens.
    Raises:
        ValueError: if tiktoken would give other ids; the message has the first token at fault.
    """
    tokens = set(vocab.values())
    missing = [byte for byte in range(256) if bytes([byte]) not in tokens]
    if missing:
        raise ValueError(
            f"tiktoken needs a token for each of the 256 bytes: there is none for "
            f"{bytes(missing[:1])!r}{f' and {len(missing) - 1} others' if missing[1:] else ''}; "
            f"{_ADVICE}"
        )
    if len(tokens) < len(vocab):
        raise ValueError(f"tiktoken cannot have two ids for one token: {_ADVICE}")
    try:
        found = find_merges(vocab, "tiktoken's ranks are the ids")
    except ValueError as error:
        raise ValueError(f"{error}, so tiktoken would give other ids: {_ADVICE}") from None
    for ours, theirs in zip(merges, found, strict=False):
        if ours != theirs:
            raise ValueError(
                f"tiktoken merges in the order of ids, and would join {theirs[0]!r} and "
                f"{theirs[1]!r} where this tokenizer joins {ours[0]!r} and {ours[1]!r}: {_ADVICE}"
            )
    if len(found) != len(merges):
        raise ValueError(
            f"tiktoken would have {len(found):,} merges, this tokenizer {len(merges):,}: {_ADVICE}"
        )
    lines = [f"{base64.b64encode(t).decode()} {rank}\n" for rank, t in sorted(vocab.items())]
    return "".join(lines)


def check_special_tokens(special_tokens: Collection[str]) -> None:
    """Check that tiktoken finds the special tokens that this tokenizer finds.

    Both look for the leftmost one. Where two begin at the same place, this tokenizer takes the
    longer one, and tiktoken the one that comes first in the order of a hash table, which nobody
    chooses. Two can begin at the same place only if one is a prefix of the other.

    Raises:
        ValueError: for the first two of which one is a prefix of the other.
    """
    # Sorted, all tokens that begin with one follow it at once.
    for token, longer in pairwise(sorted(special_tokens)):
        if longer.startswith(token):
            raise ValueError(
                f"the special token {longer!r} begins with the special token {token!r}, and "
                f"tiktoken may find either of them there, which gives other ids: {_ADVICE}"
            )
