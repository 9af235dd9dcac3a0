"""Files of token ids: writing them whole or step by step, and opening them again.

FILE.bin holds little-endian unsigned integers and nothing else; FILE.bin.json says how to
read it. While a text is encoded, FILE.bin.part holds the ids so far and FILE.bin.part.json says of
which text, and up to which byte.
"""

import contextlib
import hashlib
import itertools
import json
import os
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

import numpy as np
from jaxtyping import UInt

from fastlm.cli.progress import Progress
from fastlm.files.disk import to_json, write_atomically
from fastlm.files.paths import check_file
from fastlm.files.utf8 import check_errors
from fastlm.tokenizer.bpe.blocks import Loadable
from fastlm.tokenizer.text_blocks import read_text, text_file_blocks

try:
    import fcntl
except ImportError:  # not on Windows: there two writers of one file are not told apart
    fcntl = None  # type: ignore[assignment]

RECORD_BYTES = 1 << 26  # of text, after which the record of a part is written anew

_HEAD_BYTES = 1 << 20  # of a text, which tell it from another of the same size and time


class TokenizerFacts(Protocol):
    """What a token file says of the tokenizer it was written with."""

    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def hash(self) -> str: ...
    @property
    def special_tokens(self) -> dict[str, int]: ...


class _Progress(NamedTuple):
    """How far a part has come; a new one is made for each block, so that both count the same."""

    bytes_read: int
    tokens_written: int


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
            yield _to_bytes(array, tokenizer)

    write_atomically(path, pieces())
    _write_facts(path, count, tokenizer)
    return count


def encode_text_file(
    path: Path,
    out: Path,
    tokenizer: TokenizerFacts,
    encode_blocks: Callable[
        [Iterable[Loadable]], Generator[UInt[np.ndarray, " n_tokens"], None, None]
    ],
    *,
    errors: str,
    resume: bool,
    on_progress: Progress | None,
) -> int:
    """Tokenizer.encode_file; encode_blocks gives one array for each block, in their order."""
    check_errors(errors)
    check_file(path)
    if not out.parent.is_dir():
        raise FileNotFoundError(f"expected a folder {out.parent} to write in: make it first")
    text = _identify(path)
    described = {"tokenizer_hash": tokenizer.hash, "text": text, "errors": errors}
    special = [token.encode() for token in tokenizer.special_tokens]
    part, record = _beside(out, ".part"), _beside(out, ".part.json")
    with _open_alone(part) as file:
        done = _resumable(part, record, described, tokenizer) if resume else _Progress(0, 0)
        if done.tokens_written == 0:
            record.unlink(missing_ok=True)
        file.truncate(done.tokens_written * tokenizer.dtype.itemsize)
        file.seek(0, os.SEEK_END)
        recorded_bytes = done.bytes_read
        ends: deque[int] = deque()
        blocks = text_file_blocks(path, special, errors, begin=done.bytes_read)
        # Closed, encode_blocks calls off what its threads have not begun.
        with contextlib.closing(encode_blocks(_note_ends(blocks, text["size"], ends))) as arrays:
            try:
                if on_progress is not None:
                    on_progress("bytes", done.bytes_read)
                for array in arrays:
                    file.write(_to_bytes(array, tokenizer))
                    done = _Progress(ends.popleft(), done.tokens_written + len(array))
                    if done.bytes_read - recorded_bytes >= RECORD_BYTES:
                        _write_record(file, record, described, done)
                        recorded_bytes = done.bytes_read
                    if on_progress is not None:
                        on_progress("bytes", done.bytes_read)
                if _identify(path) != text:
                    raise ValueError(
                        f"{path} must stay as it is while it is encoded: it has changed; encode it "
                        "again when nothing writes to it"
                    )
                file.flush()
                os.fsync(file.fileno())
            except BaseException:
                if done.tokens_written == 0:
                    part.unlink()
                else:
                    # What stopped us may stop this too (a full disk): then the last record holds.
                    with contextlib.suppress(OSError):
                        _write_record(file, record, described, done)
                raise
        record.unlink(missing_ok=True)
        if fcntl is None:
            file.close()  # Windows gives no open file another name
        os.replace(part, out)
    _write_facts(out, done.tokens_written, tokenizer)
    return done.tokens_written


def _identify(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        stat = os.fstat(file.fileno())
        head = hashlib.sha256(file.read(_HEAD_BYTES)).hexdigest()
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256_of_first_mib": head}


def _note_ends(blocks: Iterable[Loadable], n_bytes: int, ends: deque[int]) -> Iterator[Loadable]:
    """Put where each block ends in the text into ends: only the block after it says so."""
    for block, following in itertools.pairwise(itertools.chain(blocks, [None])):
        assert block is not None
        ends.append(n_bytes if following is None else following.offset)
        yield block


@contextlib.contextmanager
def _open_alone(part: Path) -> Iterator[BinaryIO]:
    """Open a file to go on writing it, unless another process does.

    Raises:
        BlockingIOError: if another process does.
    """
    while True:
        with open(os.open(part, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
            if fcntl is not None:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise BlockingIOError(
                        f"{part} must not be written twice at once: another process writes it; "
                        "wait for it, or give another file to write"
                    ) from None
                # Between open and flock another process may have finished and renamed the file.
                if not _is_at(file, part):
                    continue
            yield file
            return


def _is_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _resumable(
    part: Path, record: Path, described: dict[str, Any], tokenizer: TokenizerFacts
) -> _Progress:
    """How far the part has come that an earlier call left, if it can be gone on with."""
    if not record.exists() and part.stat().st_size == 0:
        return _Progress(0, 0)
    try:
        found = json.loads(read_text(record))
        done = _Progress(int(found["bytes_read"]), int(found["tokens_written"]))
        # What was read strictly reads the same when invalid bytes are replaced.
        same_errors = found["errors"] in ("strict", described["errors"])
        if found["tokenizer_hash"] != described["tokenizer_hash"]:
            unlike = "is of another tokenizer"
        elif found["text"] != described["text"]:
            unlike = "is of another text, or the text has changed"
        elif not same_errors:
            unlike = f"was read with errors={found['errors']}"
        elif part.stat().st_size < done.tokens_written * tokenizer.dtype.itemsize:
            unlike = "is shorter than its record says"
        else:
            return done
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        unlike = "has no record that can be read"
    warnings.warn(f"{part} {unlike}: encoding starts afresh", stacklevel=4)
    return _Progress(0, 0)


def _write_record(file: BinaryIO, record: Path, described: dict[str, Any], done: _Progress) -> None:
    # On disk before the record says so: after a loss of power the record must not promise more.
    file.flush()
    os.fsync(file.fileno())
    write_atomically(record, [to_json(described | done._asdict()).encode()])


def read_token_file(path: Path, tokenizer: TokenizerFacts) -> UInt[np.ndarray, " n_tokens"]:
    """Ids of a token file, mapped from disk.

    Raises:
        ValueError: if it was not written with this tokenizer, or is not as long as it should be.
    """
    check_file(path)
    facts_path = _beside(path, ".json")
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


def _to_bytes(array: UInt[np.ndarray, " n_tokens"], tokenizer: TokenizerFacts) -> bytes:
    return array.astype(tokenizer.dtype.newbyteorder("<"), copy=False).tobytes()


def _write_facts(path: Path, count: int, tokenizer: TokenizerFacts) -> None:
    facts = {
        "dtype": tokenizer.dtype.name,
        "count": count,
        "vocab_size": tokenizer.vocab_size,
        "tokenizer_hash": tokenizer.hash,
    }
    write_atomically(_beside(path, ".json"), [to_json(facts).encode()])


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
