"""The arrays that encoding and decoding need, and their storage."""

from __future__ import annotations

import hashlib
import io
import json
import re
import struct
import sys
import zlib
from array import array
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from fastlm.lazy import numpy as np
from fastlm.tokenizer.bpe.merge_word import rows_are_sound
from fastlm.tokenizer.rules import Rules, read_rules
from fastlm.tokenizer.special_tokens import check_special

if TYPE_CHECKING:
    from jaxtyping import Int32, Int64

_FORMAT = 1


class Tables(NamedTuple):
    """A tokenizer in arrays. Token i is text[ends[i] : ends[i + 1]].

    rows has three ids for each merge, of the left token, the right token and the merged token: an
    array("i") of Python, as ends is an array("q"), so that NumPy need not be imported.
    """

    text: bytes
    ends: array[int]
    rows: array[int]
    special_ids: tuple[int, ...]
    rules: Rules = Rules()

    @property
    def bounds(self) -> Int64[np.ndarray, " vocab_size_plus_1"]:
        return np.frombuffer(self.ends, np.int64)

    @property
    def merges(self) -> Int32[np.ndarray, "n_merges 3"]:
        return np.frombuffer(self.rows, np.int32).reshape(-1, 3)

    def tokens(self) -> list[bytes]:
        return [self.text[begin:end] for begin, end in pairwise(self.ends)]


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
        array("q", accumulate(map(len, tokens), initial=0)),
        _interleaved(rows),
        tuple(ids[special.encode()] for special in special_tokens),
        rules or Rules(),
    )


def _interleaved(columns: Sequence[Sequence[int]]) -> array[int]:
    """Return the rows of three columns one after another."""
    rows = array("i", bytes(4 * 3 * len(columns[0])))
    for part, ids in enumerate(columns):
        rows[part::3] = array("i", ids)
    return rows


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
    pairs = zip(tables.rows[::3], tables.rows[1::3], strict=True)
    merge_parts = [tokens[part] for pair in pairs for part in pair]
    digest = hashlib.sha256()
    for group in (tokens, merge_parts, [tokens[i] for i in sorted(tables.special_ids)]):
        digest.update(len(group).to_bytes(8, "little"))
        for item in group:
            digest.update(len(item).to_bytes(8, "little") + item)
    digest.update(_hashed_rules(tables.rules).encode())
    return digest.hexdigest()


def _hashed_rules(rules: Rules) -> str:
    """Return the rules that determine the ids of a text, spelled; empty for the default."""
    # The ids put around a text on request, and which count as special, change no other id.
    kept = tuple(token._replace(special=True) for token in rules.added if token.has_rules)
    return rules._replace(added=kept, before=(), after=(), unused=()).spelled()


def pack_tables(tables: Tables, tokenizer_hash: str, made_from: str) -> bytes:
    """Pack tables into an uncompressed .npz file; equal tables give equal bytes.

    Args:
        made_from: hash of the files that the tables were made from.
    """
    import zipfile

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
        arrays = _read_npz(packed)
        if arrays["format"].tolist() != [_FORMAT] or arrays["made_from"] != made_from:
            return None
        ends = array("q", accumulate(arrays["lengths"], initial=0))
        special_ids = tuple(arrays["special_ids"])
        rules = Rules()
        if "rules" in arrays:
            rules = read_rules(json.loads(arrays["rules"].tobytes()), "the rules")
        tables = Tables(bytes(arrays["text"]), ends, arrays["merges"], special_ids, rules)
        return (tables, str(arrays["hash"])) if _is_sound(tables, arrays["lengths"]) else None
    except (LookupError, ValueError, TypeError, AttributeError, struct.error):
        return None


_STORED = 0  # in a zip file, that content is not compressed
_FORMS = {"'<i8'": "q", "'<i4'": "i", "'|u1'": "B"}
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': ('[^']+'), 'fortran_order': False, "
    rb"'shape': \([0-9, ]*\), \} *\n",
    re.DOTALL,
)


def _read_npz(packed: bytes) -> dict[str, Any]:
    """Read the arrays of a file that pack_tables wrote, without NumPy.

    Strings are of Python, the items of other arrays stand one after another.

    Raises:
        LookupError, ValueError, struct.error: if a file is damaged or of another kind.
    """
    arrays: dict[str, Any] = {}
    begin = 0
    while packed[begin : begin + 4] == b"PK\x03\x04":
        method, crc, size, n_name, n_extra = struct.unpack_from("<8xH4xI4xIHH", packed, begin)
        at = begin + 30
        name = packed[at : at + n_name].decode().removesuffix(".npy")
        content = packed[at + n_name + n_extra :][:size]
        begin = at + n_name + n_extra + size
        header = _HEADER.match(content)
        if method != _STORED or zlib.crc32(content) != crc or header is None:
            raise ValueError(f"{name} is damaged")
        data = content[header.end() :]
        form = header[1].decode()
        if form.startswith("'<U"):
            arrays[name] = data.decode("utf-32-le").rstrip("\0")
            continue
        arrays[name] = array(_FORMS[form])
        arrays[name].frombytes(data)
        if sys.byteorder == "big":
            arrays[name].byteswap()
    return arrays


def _is_sound(tables: Tables, lengths: array[int]) -> bool:
    """Whether all ids and lengths are valid, so that compiled code stays inside the tables."""
    n_tokens, special_ids = len(lengths), tables.special_ids
    return (
        len(tables.rows) % 3 == 0
        and min(lengths, default=1) > 0
        and tables.ends[-1] == len(tables.text)
        and all(0 <= token_id < n_tokens for token_id in special_ids)
        and rows_are_sound(tables.rows, lengths)
    )
