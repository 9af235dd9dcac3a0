"""tiktoken's rank files: a line for each token, with its bytes in base64 and its rank.

A rank file does not have the merges that make its tokens. They follow from the ranks, because each
token was made of two tokens of lower ranks.
"""

import base64
import binascii
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

from fastlm.tokenizer.bpe.patterns import (
    CL100K,
    GPT2,
    LLAMA3,
    O200K,
    SMOLLM,
    Pattern,
    Step,
    pattern_of,
)
from fastlm.tokenizer.formats.expressions import is_portable
from fastlm.tokenizer.rules import Rules

_ADVICE = "use tokenizer.json with the package tokenizers"

_END, _FIM = "<|endoftext|>", ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>")
_LLAMA3 = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    *(f"<|reserved_special_token_{i}|>" for i in range(4)),
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|reserved_special_token_4|>",
    "<|eot_id|>",
    *(f"<|reserved_special_token_{i}|>" for i in range(5, 251)),
)

ENCODINGS: dict[str, tuple[Pattern, dict[str, int]]] = {
    **dict.fromkeys(("gpt2", "r50k_base", "p50k_base"), (GPT2, {_END: 50256})),
    "p50k_edit": (GPT2, {_END: 50256, **{token: 50281 + i for i, token in enumerate(_FIM)}}),
    "cl100k_base": (
        CL100K,
        {_END: 100257, **{t: 100258 + i for i, t in enumerate(_FIM)}, "<|endofprompt|>": 100276},
    ),
    "o200k_base": (O200K, {_END: 199999, "<|endofprompt|>": 200018}),
    "llama3": (LLAMA3, {token: 128000 + i for i, token in enumerate(_LLAMA3)}),
}
"""Pattern and special tokens of known encodings, by the name of their rank file"""


def parse_pattern(expression: object, source: str) -> Pattern:
    """Parse pat_str. tiktoken leaves out what its pattern does not match.

    Raises:
        ValueError: if it is not known that `regex` finds the matches of tiktoken.
    """
    if not isinstance(expression, str):
        raise ValueError(f"{source}: pat_str must be a regular expression: got {expression!r}")
    if expression == _SMOLLM_AT_ONCE:
        return SMOLLM
    try:
        pattern = pattern_of([Step(expression, "removed", True)])
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    if not pattern.name and not is_portable(expression):
        raise ValueError(
            f"{source}: expected a pat_str that means the same in the packages regex and tiktoken: "
            f"got {expression!r}"
        )
    return pattern


# The two steps of the pattern in one: a digit ends a run of spaces as the end of the text does.
_SMOLLM_AT_ONCE = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?![^\s\p{N}])|\s+"


def format_pattern(rules: Rules) -> str:
    """Make the pat_str of an encoding.

    Raises:
        ValueError: if tiktoken cannot do what the rules say.
    """
    pattern = rules.pattern
    if rules.normalizer:
        raise ValueError(f"tiktoken does not normalize texts: {_ADVICE}")
    if any(token.has_rules or not token.special for token in rules.added):
        raise ValueError(f"tiktoken has no tokens with rules of their own: {_ADVICE}")
    if pattern == SMOLLM:
        return _SMOLLM_AT_ONCE
    if len(pattern.steps) == 1:
        step = pattern.steps[0]
        if pattern.name or (step.kind == "removed" and step.is_inverted):
            return step.regex
        if step.kind == "isolated" and is_portable(step.regex):
            # The text between two matches is a pre-token too, which tiktoken leaves out.
            return rf"{step.regex}|(?:(?!{step.regex})[\s\S])+"
    raise ValueError(f"tiktoken's pattern is one expression, unlike {pattern.spelled!r}: {_ADVICE}")


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
    none = max(vocab, default=0) + 1
    find = ranks.get
    merges = []
    for rank, token in sorted(vocab.items()):
        if len(token) == 1:
            continue
        bounds = list(range(len(token) + 1))
        # The rank of what each pair makes; only ranks below the token's count.
        found = [find(token[i : i + 2], none) for i in range(len(token) - 1)]
        while len(found) > 1:
            lowest = min(found)
            if lowest >= rank:
                break
            i = found.index(lowest)
            del bounds[i + 1], found[i]
            for k in (i - 1, i):
                if 0 <= k < len(found):
                    found[k] = find(token[bounds[k] : bounds[k + 2]], none)
        parts = [token[begin:end] for begin, end in pairwise(bounds)]
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


def missing_bytes(vocab: Mapping[int, bytes]) -> list[int]:
    """Return the bytes that are no token."""
    tokens = set(vocab.values())
    return [byte for byte in range(256) if bytes([byte]) not in tokens]


def find_all_merges(vocab: Mapping[int, bytes]) -> list[tuple[bytes, bytes]]:
    """Find each pair of tokens whose concatenation is a token, in the order of its rank.

    Pairs that make the same token are in the order of their ranks, as where transformers converts
    a rank file.
    """
    ranks = {token: rank for rank, token in vocab.items()}
    merges: list[tuple[bytes, bytes]] = []
    for _, token in sorted(vocab.items()):
        splits = ((token[:i], token[i:]) for i in range(1, len(token)))
        known = [(a, b) for a, b in splits if a in ranks and b in ranks]
        merges += sorted(known, key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))
    return merges


def format_ranks(vocab: Mapping[int, bytes], merges: Sequence[tuple[bytes, bytes]] | None) -> str:
    """Make the content of a rank file.

    tiktoken has no merges: it joins the two neighbours whose token has the lowest rank. So it gives
    the same ids only if ranks are in the order of the merges, and each merge follows from them.

    Args:
        vocab: tokens by id, without special tokens.
        merges: None for a tokenizer that merges by rank, as tiktoken does.
    Raises:
        ValueError: if tiktoken would give other ids; the message has the first token at fault.
    """
    tokens = set(vocab.values())
    missing = missing_bytes(vocab)
    if missing:
        raise ValueError(
            f"tiktoken needs a token for each of the 256 bytes: there is none for "
            f"{bytes(missing[:1])!r}{f' and {len(missing) - 1} others' if missing[1:] else ''}; "
            f"{_ADVICE}"
        )
    if len(tokens) < len(vocab):
        raise ValueError(f"tiktoken cannot have two ids for one token: {_ADVICE}")
    if merges is None:
        return _format_lines(vocab)
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
    return _format_lines(vocab)


def _format_lines(vocab: Mapping[int, bytes]) -> str:
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
