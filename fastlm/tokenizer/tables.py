"""The arrays that encoding and decoding need, and their storage."""

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, Int64

from fastlm.tokenizer.rules import Rules, read_rules
from fastlm.tokenizer.special_tokens import check_special

_FORMAT = 1


class Tables(NamedTuple):
    """A tokenizer in arrays. Token i is text[bounds[i] : bounds[i + 1]].

    A row of merges has the ids of the left token, the right token and the merged token.
    """

    text: bytes
    bounds: Int64[np.ndarray, " vocab_size_plus_1"]
    merges: Int32[np.ndarray, "n_merges 3"]
    special_ids: tuple[int, ...]
    rules: Rules = Rules()

    def tokens(self) -> list[bytes]:
        return [self.text[begin:end] for begin, end in pairwise(self.bounds.tolist())]


def make_tables(
    vocab: Mapping[int, bytes],
    merges: Sequence[tuple[bytes, bytes]],
    special_tokens: Sequence[str],
    rules: Rules | None = None,
) -> Tables:
    """Make tables; special tokens outside the vocabulary get the next ids, in the order given.

    Raises:
        ValueError: if ids are not 0 to n - 1, a token is empty or occurs twice, or the parts or the
            result of a merge are not in the vocabulary.
    """
    tokens = [vocab[token_id] for token_id in range(len(vocab)) if token_id in vocab]
    if len(tokens) < len(vocab):
        missing = next(i for i in range(len(vocab)) if i not in vocab)
        raise ValueError(
            f"token ids must be 0 to {len(vocab) - 1}, one for each of {len(vocab)} tokens: "
            f"id {missing} is missing"
        )
    ids = {token: token_id for token_id, token in enumerate(tokens)}
    if b"" in ids:
        raise ValueError(f"tokens must not be empty: the one with id {ids[b'']} is")
    if len(ids) < len(tokens):
        first, token = next((i, token) for i, token in enumerate(tokens) if ids[token] != i)
        raise ValueError(f"ids {first} and {ids[token]} are both {token!r}; keep one")
    for special in check_special(special_tokens):
        if ids.setdefault(special.encode(), len(tokens)) == len(tokens):
            tokens.append(special.encode())
    try:
        rows = [
            [ids[left] for left, _ in merges],
            [ids[right] for _, right in merges],
            [ids[left + right] for left, right in merges],
        ]
    except KeyError as error:
        unknown = error.args[0]
        rank, (left, right) = next(
            (i, pair) for i, pair in enumerate(merges) if unknown in (*pair, b"".join(pair))
        )
        raise ValueError(
            f"merge {rank}, {left!r} + {right!r}, needs {unknown!r}, which is not in the "
            "vocabulary; vocabulary and merges must come from one training"
        ) from None
    return Tables(
        b"".join(tokens),
        np.cumsum([0, *map(len, tokens)], dtype=np.int64),
        np.ascontiguousarray(np.array(rows, np.int32).T),
        tuple(ids[special.encode()] for special in special_tokens),
        rules or Rules(),
    )


def fill_gaps(vocab: dict[int, bytes], source: str) -> tuple[int, ...]:
    """Give each id without a token below the greatest one a token that no text has.

    Returns:
        the ids filled.
    Raises:
        ValueError: if most ids have no token.
    """
    n_ids = max(vocab, default=-1) + 1
    if n_ids > 2 * len(vocab) + 1024:
        raise ValueError(
            f"{source}: expected ids without large gaps: got {len(vocab)} tokens and the id "
            f"{n_ids - 1}"
        )
    gaps = tuple(i for i in range(n_ids) if i not in vocab) if len(vocab) < n_ids else ()
    vocab |= {i: f"[unused{i}]".encode() for i in gaps}
    return gaps


def hash_tables(tables: Tables) -> str:
    """SHA-256, in hex, of everything that determines ids.

    Three groups are hashed: the tokens in the order of their ids, the left and right token of each
    merge, and the special tokens in the order of their ids. Each group is preceded by its number of
    tokens, and each token by its length in bytes, both as 8 little-endian bytes. Rules that are not
    the default follow as JSON.
    """
    tokens = tables.tokens()
    merge_parts = [tokens[part] for row in tables.merges[:, :2].tolist() for part in row]
    digest = hashlib.sha256()
    for group in (tokens, merge_parts, [tokens[i] for i in sorted(tables.special_ids)]):
        digest.update(len(group).to_bytes(8, "little"))
        for item in group:
            digest.update(len(item).to_bytes(8, "little") + item)
    digest.update(_hashed_rules(tables.rules).encode())
    return digest.hexdigest()


def _hashed_rules(rules: Rules) -> str:
    """Return the rules that determine the ids of a text, spelled; empty for the default."""
    # What is put around a text on request, and what counts as special, changes no other id.
    kept = tuple(token._replace(special=True) for token in rules.added if token.has_rules)
    return rules._replace(added=kept, before=(), after=(), unused=()).spelled()


def pack_tables(tables: Tables, tokenizer_hash: str, made_from: str) -> bytes:
    """Pack tables into an uncompressed .npz file; equal tables give equal bytes.

    Args:
        made_from: hash of the files that the tables were made from.
    """
    arrays = {
        "format": np.array(_FORMAT),
        "made_from": np.array(made_from),
        "hash": np.array(tokenizer_hash),
        "text": np.frombuffer(tables.text, np.uint8),
        "lengths": np.diff(tables.bounds).astype(np.int32),
        "merges": tables.merges,
        "special_ids": np.array(tables.special_ids, np.int32),
    }
    if rules := tables.rules.spelled():
        arrays["rules"] = np.frombuffer(rules.encode(), np.uint8)
    packed = io.BytesIO()
    # numpy.savez would also write the current time.
    with zipfile.ZipFile(packed, "w") as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())
    return packed.getvalue()


def unpack_tables(packed: bytes, made_from: str) -> tuple[Tables, str] | None:
    """Unpack (tables, hash of the tokenizer); None if damaged or made from other files."""
    try:
        with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
            if arrays["format"] != _FORMAT or arrays["made_from"] != made_from:
                return None
            bounds = np.append(0, np.cumsum(arrays["lengths"], dtype=np.int64))
            text = arrays["text"].tobytes()
            special_ids = tuple(arrays["special_ids"].tolist())
            rules = Rules()
            if "rules" in arrays:
                rules = read_rules(json.loads(arrays["rules"].tobytes()), "the rules")
            tables = Tables(text, bounds, arrays["merges"], special_ids, rules)
            return (tables, str(arrays["hash"])) if _is_sound(tables) else None
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return None


def _is_sound(tables: Tables) -> bool:
    """Whether all ids and lengths are valid, so that compiled code stays inside the tables."""
    lengths = np.diff(tables.bounds)
    ids = np.append(tables.merges, np.array(tables.special_ids, np.int64))
    if tables.merges.shape[1:] != (3,) or ((ids < 0) | (ids >= len(lengths))).any():
        return False
    left, right, both = lengths[tables.merges].T
    return bool(
        (lengths > 0).all()
        and (left + right == both).all()
        and tables.bounds[-1] == len(tables.text)
    )
