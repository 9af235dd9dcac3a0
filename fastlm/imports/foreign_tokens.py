"""Import token files of other tools.

python -m fastlm.imports tokens --train FILE --val FILE --tokenizer FOLDER --out DATA
"""

import contextlib
import hashlib
import itertools
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastlm.data.prepared import write_meta
from fastlm.data.unfinished import tokenizer_of
from fastlm.files import disk
from fastlm.files.json_files import read_object_or_empty
from fastlm.files.not_text import are_characters, find_format
from fastlm.files.paths import check_unchanged, identify, open_to_read
from fastlm.files.tokens import (
    Facts,
    TokenWriter,
    facts_path_of,
    noted_facts,
    open_token_file,
    read_ids,
)
from fastlm.tokenizer.tokenizer import END_OF_TEXT, Tokenizer

HEADER_BYTES = 1024
_KINDS: dict[tuple[int, int], np.dtype[Any]] = {
    (20240520, 1): np.dtype("<u2"),
    (20240801, 7): np.dtype("<u4"),
}
"""Magic number and version of llm.c's token files, and the dtype of their tokens.
Source: Karpathy 2024, github.com/karpathy/llm.c, dev/data/data_common.py."""
_MEGATRON_INDEX = b"MMIDIDX\x00"
_TEXT_BYTES = 32
"""So many bytes of ids are never text by chance."""
_LOOKED_AT_BYTES = 1 << 14
_ALPHABET = 256
_MADE_AGAIN = 0.9
"""Least share of its own ids that a tokenizer makes again of their text, which may be cut"""
_BLOCK_TOKENS = 1 << 24
_TELLING_TOKENS = 16
"""Tokens needed to judge a dtype: every second one is 0, for example, only if it is wrong"""
_HIGH_HALVES = 16
"""Bound of the high halves of uint32 ids: no vocabulary has 16 * 65,536 tokens"""


class ForeignTokens(NamedTuple):
    """A token file of another tool."""

    path: Path
    kind: np.dtype[Any]
    begin: int
    """Size of its header in bytes."""
    n_tokens: int
    vocab_size: int
    seen: list[int]
    """The file's identity when it was opened, see files.paths.identify."""

    def blocks(self) -> Iterator[NDArray[Any]]:
        """Read and check all tokens.

        Raises:
            ValueError: if one does not belong to the vocabulary, or the file changes meanwhile.
        """
        with open_to_read(self.path) as file:
            yield from read_ids(
                file,
                self.kind,
                self.vocab_size,
                self.path,
                n_ids=self.n_tokens,
                offset=self.begin,
            )
        check_unchanged(self.path, self.seen)


def import_tokens(
    train: Sequence[Path],
    val: Sequence[Path],
    tokenizer: Path,
    out: Path,
    *,
    dtype: Literal["uint16", "uint32"] | None = None,
) -> Path:
    """Make a prepared folder from token files of nanoGPT (no header) or llm.c (with a header).

    Args:
        train, val: token files, joined in the given order.
        tokenizer: the tokenizer that made them.
        dtype: dtype of the tokens in files without a header; None: found from their ids.
    Warns:
        UserWarning: if the ids of a file look as if they were of another dtype than the given one.
    Raises:
        FileNotFoundError, ValueError: if a file cannot be imported; the message names it and its
            fault, and nothing is written.
        FileExistsError: if out is not empty.
    """
    disk.check_new_folder(out)
    for name, given in (("train", train), ("val", val)):
        if not given:
            raise ValueError(f"--{name}: expected at least one token file, got none")
    read = Tokenizer.load(tokenizer)
    if END_OF_TEXT not in read.special_tokens:
        raise ValueError(f"the tokenizer in {tokenizer} has no {END_OF_TEXT} token")
    _check_different(train, val)
    splits = {
        name: [_open(path, read, dtype) for path in files]
        for name, files in (("train", train), ("val", val))
    }
    for name, files in splits.items():
        if not sum(file.n_tokens for file in files):
            paths = ", ".join(str(file.path) for file in files)
            raise ValueError(f"--{name}: there are no tokens in {paths}")
    _refuse_copies(splits)
    lengths = np.array([len(read.vocab[i]) for i in range(read.vocab_size)], np.int64)
    lengths[list(read.special_tokens.values())] = 0
    end = read.special_tokens[END_OF_TEXT]
    described = {}
    source = {"files": [file.path.name for files in splits.values() for file in files]}
    with disk.whole_folder(out, last="meta.json") as partial:
        for name, files in splits.items():
            n_bytes, n_documents = 0, 0
            writer = TokenWriter(partial / f"{name}.bin", dtype=read.dtype.name)
            with contextlib.closing(writer):
                for block in itertools.chain.from_iterable(file.blocks() for file in files):
                    n_bytes += int(lengths[block].sum())
                    n_documents += int((block == end).sum())
                    writer.write(block)
                facts = writer.finish()
            described[name] = {**facts, "text_bytes": n_bytes, "documents": n_documents}
        read.save(tokenizer_of(partial))
        write_meta(partial, read, described, source)
    return out


def _check_different(train: Sequence[Path], val: Sequence[Path]) -> None:
    """Raise a ValueError if two of the files are one, by whatever names."""
    flags: dict[tuple[int, int], str] = {}
    given = [(f"--train {path}", path) for path in train] + [
        (f"--val {path}", path) for path in val
    ]
    for flag, path in given:
        if not path.is_file():
            raise FileNotFoundError(f"no such token file: {path}")
        found = path.stat()
        other = flags.setdefault((found.st_dev, found.st_ino), flag)
        if other is not flag:
            raise ValueError(f"{other} and {flag} are the same file: give each file once")


def _open(path: Path, tokenizer: Tokenizer, dtype: str | None) -> ForeignTokens:
    if not path.is_file():
        raise FileNotFoundError(f"no such token file: {path}")
    for name in dict.fromkeys((path, Path(os.path.realpath(path)))):
        if (described := _described(name)) is not None:
            return _open_described(path, *described, tokenizer, dtype)
    found = open_foreign(path, tokenizer.vocab_size, dtype)
    if dtype is None and found.begin == 0:
        _refuse_wide_text(found, tokenizer)
    return found


def _described(path: Path) -> tuple[Facts, str] | None:
    """Return the facts of a token file that fastlm made, and the name of the file that has them."""
    facts_path = facts_path_of(path)
    facts = noted_facts(path) or read_object_or_empty(facts_path)
    if {"dtype", "count", "tokenizer_hash"} <= facts.keys():
        return facts, facts_path.name
    meta = read_object_or_empty(path.with_name("meta.json"))
    try:
        for split in meta["splits"].values():
            for file in split.get("shards", [split]):
                if file["file"] == path.name:
                    return {**split, **file, "tokenizer_hash": meta["tokenizer_hash"]}, "meta.json"
    except (KeyError, TypeError, AttributeError):
        pass  # it describes something else
    return None


def _open_described(
    path: Path, facts: Facts, facts_file: str, tokenizer: Tokenizer, dtype: str | None
) -> ForeignTokens:
    """Open a token file by its facts, and read it once.

    Raises:
        ValueError: if the file, the tokenizer or dtype contradicts them.
    """
    seen = identify(path)
    if facts["tokenizer_hash"] != tokenizer.hash:
        raise ValueError(
            f"{path} was encoded with tokenizer {str(facts['tokenizer_hash'])[:12]}, says "
            f"{facts_file}, and this one is {tokenizer.hash[:12]}: give the tokenizer it was "
            "encoded with"
        )
    if dtype not in (None, facts["dtype"]):
        raise ValueError(
            f"{path} has tokens of {facts['dtype']}, says {facts_file}: leave --dtype {dtype} out"
        )
    found = open_token_file(
        path,
        dtype=str(facts["dtype"]),
        count=facts["count"],
        sha256=facts.get("sha256"),
        vocab_size=tokenizer.vocab_size,
        facts_file=facts_file,
        remedy=f"make it again, or copy it away from {facts_file} if it is right",
    )
    found.verify()
    return ForeignTokens(path, found.tokens.dtype, 0, len(found.tokens), tokenizer.vocab_size, seen)


def open_foreign(path: Path, vocab_size: int, dtype: str | None) -> ForeignTokens:
    """Check a token file of another tool and read its ids once.

    Args:
        dtype: dtype of the tokens, used if the file has no header; None: found from its ids.
    Warns:
        UserWarning: as import_tokens does.
    Raises:
        FileNotFoundError, ValueError: as import_tokens does.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no such token file: {path}")
    seen = identify(path)
    size = seen[0]
    with open_to_read(path) as file:
        head = file.read(HEADER_BYTES)
    what = find_format(head)
    if head.startswith(_MEGATRON_INDEX):
        what = "the index of Megatron's tokens, not the tokens"
    if what:
        raise ValueError(f"{path} is {what}: expected bare tokens, or llm.c's header before")
    if size == 0:
        raise ValueError(f"{path} is empty")
    begin = 0
    versions = dict(_KINDS.keys())
    numbers = np.frombuffer(head[: len(head) // 4 * 4], "<i4")
    if len(numbers) and int(numbers[0]) in versions:
        if size < HEADER_BYTES:
            raise ValueError(f"{path} is cut off in its header: {size} bytes of {HEADER_BYTES}")
        number, version, count = (int(x) for x in numbers[:3])
        if versions[number] != version:
            raise ValueError(
                f"{path} has version {version} of its format: expected {versions[number]}"
            )
        begin, kind = HEADER_BYTES, _KINDS[number, version]
        if size != HEADER_BYTES + count * kind.itemsize:
            raise ValueError(
                f"{path} should have {count:,} tokens, says its header, which are "
                f"{HEADER_BYTES + count * kind.itemsize:,} bytes with it: it has {size:,}"
            )
    else:
        if len(head) >= _TEXT_BYTES and are_characters(head, "utf-8"):
            raise ValueError(
                f"{path} is text: expected token ids; python -m fastlm.data prepare makes them of "
                "a text"
            )
        kind = np.dtype(dtype or _find_dtype(path, vocab_size)).newbyteorder("<")
        if size % kind.itemsize:
            raise ValueError(
                f"{path} has {size:,} bytes: no whole number of {kind.name}; it is cut off, or of "
                "another --dtype"
            )
        if fault := _find_width_fault(path, kind):
            if dtype is None:
                raise ValueError(f"{path}: {fault}")
            warnings.warn(f"{path}: {fault}; it is read as --dtype {dtype} says", stacklevel=2)
    count = (size - begin) // kind.itemsize
    found = ForeignTokens(path, kind, begin, count, vocab_size, seen)
    for _ in found.blocks():
        pass
    return found


def _find_dtype(path: Path, vocab_size: int) -> str:
    """Return the dtype of the tokens in a file without a header.

    Raises:
        ValueError: if the first tokens do not tell.
    """
    fits = {}
    for name in ("uint16", "uint32"):
        ids = _first_ids(path, np.dtype(name))
        is_whole = path.stat().st_size % ids.itemsize == 0
        fits[name] = is_whole and len(ids) > 0 and int(ids.max()) < vocab_size
    if vocab_size > 1 << 16 and fits["uint32"]:
        halves = _first_ids(path, np.dtype("uint16"))
        # The low halves of ids that are spread over a vocabulary are spread as well.
        if len(halves) < 2 * _TELLING_TOKENS or int(halves[::2].max()) < _HIGH_HALVES:
            raise ValueError(
                f"{path}: its first numbers are ids of 2 bytes and of 4 bytes alike: give --dtype "
                "uint32, or --dtype uint16 if each token has 2"
            )
        return "uint32"
    if vocab_size > 1 << 16:
        raise ValueError(
            f"{path}: ids of a vocabulary of {vocab_size:,} need 4 bytes, and it holds none of "
            "this vocabulary in 4 bytes; give --dtype uint16 if no id was above 65,535"
        )
    if fits["uint32"]:
        raise ValueError(
            f"{path}: every second number of 2 bytes in it is 0, as if each token had 4: give "
            "--dtype uint32, or --dtype uint16 if it has 2"
        )
    return "uint16"


def _find_width_fault(path: Path, kind: np.dtype[Any]) -> str:
    """Return that every second token looks like the high half of one twice as wide, if it does."""
    ids = _first_ids(path, kind)
    if len(ids) < _TELLING_TOKENS:
        return ""
    low, high = int(ids[::2].max()), int(ids[1::2].max())
    if not ((kind.itemsize == 2 and high < _HIGH_HALVES <= low) or high == 0 < low):
        return ""
    small = "0" if high == 0 else f"below {_HIGH_HALVES}"
    remedy = "give --dtype uint32" if kind.itemsize == 2 else "write it again as uint32"
    return (
        f"every second token is {small}, as if it were no file of {kind.name} and each token had "
        f"{2 * kind.itemsize} bytes: {remedy}, or give --dtype {kind.name} if each has "
        f"{kind.itemsize}"
    )


def _refuse_wide_text(found: ForeignTokens, tokenizer: Tokenizer) -> None:
    """Raise a ValueError if the ids of a file without a header are the characters of a text.

    Those of a text in UTF-16 or UTF-32 are ids of most vocabularies.
    """
    bits = 8 * found.kind.itemsize
    with open_to_read(found.path) as file:
        head = file.read(_LOOKED_AT_BYTES)
    if len(head) < _TEXT_BYTES or not are_characters(head, f"utf-{bits}-le"):
        return
    ids = np.frombuffer(head, found.kind, len(head) // found.kind.itemsize)
    # A text has the characters of few alphabets, and tokens are from all over their vocabulary.
    are_few = 2 * len(np.unique(ids // _ALPHABET)) < -(-tokenizer.vocab_size // _ALPHABET)
    # A tokenizer joins letters to fewer ids; the text of its own ids gives as many ids again.
    if are_few or len(tokenizer.encode(tokenizer.decode(ids))) < _MADE_AGAIN * len(ids):
        raise ValueError(
            f"{found.path} seems to be text in UTF-{bits}: expected token ids; python -m "
            "fastlm.data prepare makes them of a text, or give "
            f"--dtype {found.kind.name} if they are ids"
        )


def _refuse_copies(splits: Mapping[str, Sequence[ForeignTokens]]) -> None:
    """Raise a ValueError if two files of all splits have the same tokens."""
    given = [(name, file) for name, files in splits.items() for file in files if file.n_tokens]
    alike: dict[tuple[int, bytes], list[tuple[str, ForeignTokens]]] = {}
    for name, file in given:
        with contextlib.closing(file.blocks()) as blocks:  # type: ignore[type-var]
            first = _digest(itertools.islice(blocks, 1))
        alike.setdefault((file.n_tokens, first), []).append((name, file))
    for group in alike.values():
        seen: dict[bytes, tuple[str, ForeignTokens]] = {}
        for name, file in group if len(group) > 1 else ():
            other_name, other = seen.setdefault(_digest(file.blocks()), (name, file))
            if other is not file:
                raise ValueError(
                    f"--{other_name} {other.path} and --{name} {file.path} have the same tokens: "
                    "give each file once"
                    + (
                        ""
                        if other_name == name
                        else ", as a validation on what was trained on tells nothing"
                    )
                )


def _digest(blocks: Iterable[NDArray[Any]]) -> bytes:
    """Return the SHA-256 of ids, whatever their dtype is."""
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block.astype("<u4").tobytes())
    return digest.digest()


def _first_ids(path: Path, kind: np.dtype[Any]) -> NDArray[Any]:
    with open_to_read(path) as file:
        raw = file.read(_BLOCK_TOKENS)
    return np.frombuffer(raw, kind.newbyteorder("<"), len(raw) // kind.itemsize)
