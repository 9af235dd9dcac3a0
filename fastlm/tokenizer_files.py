"""Training from text files and documents; files of token ids; checks of what a user gives."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import UInt

from fastlm.bpe.blocks import BLOCK_BYTES, Block, document_blocks, stream_blocks
from fastlm.bpe.errors import InvalidUtf8
from fastlm.bpe.train import Merges, Progress, Vocab, learn_vocabulary

StrPath = str | os.PathLike[str]


class TokenizerFacts(Protocol):
    """What a token file says of the tokenizer it was written with."""

    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def hash(self) -> str: ...


def train_bpe(
    input_path: StrPath | Sequence[StrPath],
    vocab_size: int,
    special_tokens: Sequence[str],
    *,
    n_threads: int | None = None,
    errors: str = "strict",
    on_progress: Progress | None = None,
) -> tuple[Vocab, Merges]:
    """Learn a vocabulary from UTF-8 text files: 256 bytes, merges, special tokens.

    Memory grows with the number of distinct words, not with the files.

    Args:
        input_path: a file or several.
        special_tokens: cut the text and add no counts; they take the last ids.
        n_threads: None takes all cores.
        errors: "strict" refuses invalid UTF-8, "replace" reads it as U+FFFD.
    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if vocab_size has no room for the bytes and the special tokens, or the files
            hold no text or are not UTF-8.
    """
    paths = [input_path] if isinstance(input_path, (str, os.PathLike)) else list(input_path)
    special_bytes = _check_training(vocab_size, special_tokens)
    if not paths:
        raise ValueError("input_path must name at least one text file: got none")
    for path in paths:
        check_file(path)
    return learn_vocabulary(
        (block for path in paths for block in text_file_blocks(path, special_bytes, errors)),
        vocab_size,
        special_bytes,
        n_threads=n_threads,
        on_progress=on_progress,
        source=", ".join(map(str, paths)),
    )


def train_bpe_from_documents(
    documents: Iterable[str],
    vocab_size: int,
    special_tokens: Sequence[str],
    *,
    n_threads: int | None = None,
    on_progress: Progress | None = None,
) -> tuple[Vocab, Merges]:
    """As train_bpe, from documents one by one; nothing is merged across two documents."""
    special_bytes = _check_training(vocab_size, special_tokens)
    return learn_vocabulary(
        document_blocks(map(to_utf8, documents)),
        vocab_size,
        special_bytes,
        n_threads=n_threads,
        on_progress=on_progress,
        source="the documents",
    )


def _check_training(vocab_size: int, special_tokens: Sequence[str]) -> list[bytes]:
    special_bytes = [token.encode() for token in check_special(special_tokens)]
    least = 256 + len(special_bytes)
    if vocab_size < least:
        raise ValueError(
            f"vocab_size must be at least {least}, for 256 bytes and {len(special_bytes)} special "
            f"tokens: got {vocab_size}"
        )
    for token in special_bytes:
        if len(token) == 1:
            raise ValueError(
                f"special token {token.decode()!r} is a single byte, which the vocabulary has "
                "already; give it a longer name"
            )
    return special_bytes


def write_token_file(
    path: Path, arrays: Iterable[UInt[np.ndarray, " n_tokens"]], tokenizer: TokenizerFacts
) -> int:
    """Write ids as little-endian tokenizer.dtype and PATH.json beside; returns how many.

    PATH.json has dtype, count, vocab_size and tokenizer_hash. Neither file is there unless whole.
    """
    count = 0

    def pieces() -> Iterator[bytes]:
        nonlocal count
        for array in arrays:
            count += len(array)
            yield array.astype(tokenizer.dtype.newbyteorder("<"), copy=False).tobytes()

    write_atomically(path, pieces())
    facts = {
        "dtype": tokenizer.dtype.name,
        "count": count,
        "vocab_size": tokenizer.vocab_size,
        "tokenizer_hash": tokenizer.hash,
    }
    write_atomically(_facts_path(path), [to_json(facts).encode()])
    return count


def read_token_file(path: Path, tokenizer: TokenizerFacts) -> UInt[np.ndarray, " n_tokens"]:
    """Ids of a token file, mapped from disk.

    Raises:
        ValueError: if it was not written with this tokenizer, or is not as long as it should be.
    """
    check_file(path)
    facts_path = _facts_path(path)
    try:
        facts = json.loads(read_text(facts_path))
        dtype, count = np.dtype(facts["dtype"]).newbyteorder("<"), int(facts["count"])
        written_with = str(facts["tokenizer_hash"])
    except (ValueError, KeyError, TypeError):
        raise ValueError(
            f"{facts_path} must hold dtype, count, vocab_size and tokenizer_hash; encode again"
        ) from None
    if written_with != tokenizer.hash:
        raise ValueError(
            f"{path} was encoded with tokenizer {written_with[:12]}, this one is "
            f"{tokenizer.hash[:12]}; give the tokenizer it was encoded with"
        )
    n_bytes = path.stat().st_size
    if n_bytes != count * dtype.itemsize:
        raise ValueError(
            f"{path} must have {count * dtype.itemsize} bytes for {count} tokens: it has "
            f"{n_bytes}; encode again"
        )
    if count == 0:
        return np.empty(0, dtype)
    return np.memmap(path, dtype, mode="r")


def _facts_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def check_file(path: StrPath) -> None:
    if not Path(path).is_file():
        raise FileNotFoundError(f"expected a file at {path}: there is none")


def read_text(path: StrPath) -> str:
    check_file(path)
    try:
        return Path(path).read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidUtf8(error.start, str(path)) from None


def to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=0) + "\n"


def write_atomically(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a file beside the path and put it in place when it is whole."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as out:
            for piece in pieces:
                out.write(piece)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def to_utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"text must be Unicode characters: character {error.start} is the lone surrogate "
            f"{text[error.start]!r}; read the text as UTF-8, or replace it"
        ) from None


def check_special(special_tokens: Sequence[str]) -> Sequence[str]:
    if isinstance(special_tokens, str):
        raise ValueError(f"special_tokens must be a list of strings: got {special_tokens!r}")
    for index, token in enumerate(special_tokens):
        if not token:
            raise ValueError(f"special tokens must not be empty: number {index} is")
        if token in special_tokens[:index]:
            raise ValueError(f"special tokens must differ: got {token!r} twice")
        to_utf8(token)
    return special_tokens


def check_errors(errors: str) -> None:
    if errors not in ("strict", "replace"):
        raise ValueError(f'errors must be "strict" or "replace": got {errors!r}')


def text_file_blocks(
    path: StrPath, special_tokens: Sequence[bytes], errors: str
) -> Iterator[Block]:
    """A text file in blocks that can be tokenized apart."""
    check_errors(errors)
    check_file(path)
    with open(path, "rb") as file:
        chunks = iter(lambda: file.read(BLOCK_BYTES), b"")
        yield from stream_blocks(chunks, special_tokens, str(path), errors=errors)
