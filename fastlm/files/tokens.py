"""Writing files of token ids, continuing after an interruption, opening and checking them.

A file holds little-endian uint16 or uint32 and nothing else. Ids are stored in one file or, in
order, in several, called shards. The facts needed to read them (dtype, count, sha256, shards) are
stored beside them: in meta.json of a prepared folder, in FILE.bin.json of a single FILE.bin.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple, TypeAlias, overload

from fastlm.files import disk, sync
from fastlm.files.json_files import read_object, read_object_or_empty
from fastlm.files.paths import check_file, identify, open_to_read
from fastlm.lazy import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Int, UInt
    from numpy.typing import NDArray

_CHECKED_IDS = 1 << 22  # ids per read
_READ_BYTES = 1 << 22

FACTS, FACTS_OF = "facts", "facts_of"
"""Keys of a note FILE.bin.part.json: the facts of whole ids, and identify() of their file."""
Facts: TypeAlias = dict[str, Any]
"""dtype, count, sha256 and, if there are several files, shards (file, count, sha256 of each)."""


class ShardedTokens:
    """Arrays of token ids, indexed like their concatenation.

    >>> tokens = ShardedTokens([np.array([5, 6, 7]), np.array([8, 9])])
    >>> tokens[np.array([[1, 2, 3], [0, 1, 2]])]
    array([[6, 7, 8], [5, 6, 7]])
    """

    def __init__(self, shards: Sequence[UInt[np.ndarray, " n"]]) -> None:
        """Take at least one array; all have the same dtype."""
        self.shards = tuple(shards)
        self.dtype = self.shards[0].dtype
        self._ends = np.cumsum([len(shard) for shard in self.shards])
        self._begins = self._ends - [len(shard) for shard in self.shards]

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def shape(self) -> tuple[int]:
        return (len(self),)

    @overload
    def __getitem__(self, index: int | np.integer[Any]) -> np.integer[Any]: ...
    @overload
    def __getitem__(self, index: slice | NDArray[np.integer[Any]]) -> NDArray[Any]: ...
    def __getitem__(self, index: Any) -> Any:
        """Index like one array: by an integer, a slice, or an array of integers."""
        if isinstance(index, slice):
            begin, end, step = index.indices(len(self))
            if step == 1:
                return self._in_a_row(begin, end)
            return self._gather(np.arange(begin, end, step))
        places = np.asarray(index)
        if not np.issubdtype(places.dtype, np.integer):
            raise TypeError(f"token ids are indexed by integers or slices: got {index!r}")
        gathered = self._gather(places)
        return gathered if places.ndim > 0 else gathered[()]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("tokens in several files are no one array: they have to be copied")
        return np.concatenate(self.shards, dtype=dtype or self.dtype, casting="unsafe")

    def _in_a_row(self, begin: int, end: int) -> NDArray[Any]:
        parts = [np.empty(0, self.dtype)]
        first = int(np.searchsorted(self._ends, begin, side="right"))
        for shard, shard_begin in zip(self.shards[first:], self._begins[first:], strict=True):
            if shard_begin >= end:
                break
            parts.append(shard[max(begin - shard_begin, 0) : end - shard_begin])
        return np.concatenate(parts)

    def _gather(self, places: Int[np.ndarray, "*shape"]) -> UInt[np.ndarray, "*shape"]:
        if places.size and not -len(self) <= places.min() <= places.max() < len(self):
            raise IndexError(
                f"there are {len(self)} tokens: none at {places.min()}, or none at {places.max()}"
            )
        flat = np.where(places < 0, places + len(self), places).ravel()
        holders = np.searchsorted(self._ends, flat, side="right")
        ids = np.empty(flat.shape, self.dtype)
        # Windows are rows of ascending positions, so neighbours mostly lie in the same shard.
        edges = np.flatnonzero(np.diff(holders)) + 1
        for begin, end in zip([0, *edges], [*edges, len(flat)], strict=True):
            if begin < end:
                holder = holders[begin]
                ids[begin:end] = self.shards[holder][flat[begin:end] - self._begins[holder]]
        return ids.reshape(places.shape)


if TYPE_CHECKING:
    Tokens: TypeAlias = UInt[np.ndarray, " n_tokens"] | ShardedTokens
else:
    Tokens = Any


class DataLost(ValueError):
    """Token files were cut or written to while they are read."""


class Change(NamedTuple):
    """A change of a file that is mapped."""

    told: str
    is_read: bool
    """Whether other ids are read since; a file that was replaced or removed is read as it was."""


class TokenFile(NamedTuple):
    """One memory-mapped file of token ids."""

    tokens: UInt[np.ndarray, " n_tokens"]
    path: Path
    hash: str | None
    """SHA-256 of the file when it was written; None if its facts do not have it."""
    vocab_size: int
    facts_file: str = "meta.json"
    remedy: str = "prepare the data again"
    seen: tuple[int, ...] = ()
    """identify() of the file when it was mapped; nothing for a file without tokens."""

    def change(self) -> Change | None:
        """Return the change of the file since it was mapped; None if there is none."""
        if not self.seen:
            return None
        try:
            now = identify(self.path)
        except OSError:
            return Change(f"{self.path} was removed: it is read as it was", is_read=False)
        if now[-1] != self.seen[-1]:
            return Change(f"{self.path} was replaced: it is read as it was", is_read=False)
        if now == list(self.seen):
            return None
        return Change(f"{self.path} was written to while it is read", is_read=True)

    def verify(self) -> None:
        """Read the whole file once and check its ids and its hash; other threads can run meanwhile.

        Raises:
            ValueError: if an id is not below vocab_size, or the file was changed.
        """
        if len(self.tokens) == 0:
            return
        digest = hashlib.sha256()
        with open_to_read(self.path) as file:
            for ids in read_ids(
                file, self.tokens.dtype, self.vocab_size, self.path, n_ids=len(self.tokens)
            ):
                digest.update(ids.data)
        if self.hash is not None and digest.hexdigest() != self.hash:
            raise ValueError(
                f"{self.path} was changed since it was made: its hash is not the one in "
                f"{self.facts_file}; {self.remedy}"
            )


def open_token_file(
    path: Path,
    *,
    dtype: str,
    count: int,
    sha256: str | None,
    vocab_size: int,
    facts_file: str = "meta.json",
    remedy: str = "prepare the data again",
) -> TokenFile:
    """Map a file of count ids; only TokenFile.verify reads its content.

    Args:
        facts_file: name of the file that has these facts, for messages.
        remedy: advice for a file that contradicts its facts.
    Raises:
        FileNotFoundError, ValueError: if it contradicts them; the message names the file.
    """
    if dtype not in ("uint16", "uint32"):  # NumPy also knows other byte orders
        raise ValueError(f"{path}: expected dtype uint16 or uint32, {facts_file} says {dtype}")
    kind = np.dtype(dtype).newbyteorder("<")
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; {remedy}")
    n_bytes = path.stat().st_size
    if n_bytes != count * kind.itemsize:
        raise ValueError(
            f"{path} holds {n_bytes} bytes, {facts_file} says {count} tokens of "
            f"{kind.itemsize} bytes; {remedy}"
        )
    if n_bytes == 0:
        return TokenFile(np.empty(0, kind), path, sha256, vocab_size, facts_file, remedy)
    try:
        seen = tuple(identify(path))
        tokens = np.memmap(path, kind, mode="r")
        return TokenFile(tokens, path, sha256, vocab_size, facts_file, remedy, seen)
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
        raise OSError(
            f"{path}: this process may not open more files; raise `ulimit -n`, or prepare the "
            "data again in fewer of them (--shard-tokens)"
        ) from error


def open_single(path: Path, tokenizer_hash: str) -> TokenFile:
    """Open FILE.bin by the facts in FILE.bin.json, which name the tokenizer that encoded it.

    Args:
        tokenizer_hash: hash of the tokenizer that will read the ids.
    Raises:
        FileNotFoundError, ValueError: as in open_token_file, or if another tokenizer encoded it.
    """
    facts_path = facts_path_of(path)
    check_file(path)
    noted = noted_facts(path)
    if noted is None:
        check_file(facts_path)
    try:
        facts = noted or read_object(facts_path)
        dtype, count = str(facts["dtype"]), int(facts["count"])
        vocab_size, encoded_with = int(facts["vocab_size"]), str(facts["tokenizer_hash"])
        sha256 = facts.get("sha256")
    except (ValueError, KeyError, TypeError, OverflowError):
        raise ValueError(
            f"{facts_path} must hold dtype, count, vocab_size and tokenizer_hash; encode again"
        ) from None
    if encoded_with != tokenizer_hash:
        raise ValueError(
            f"{path} was encoded with tokenizer {encoded_with[:12]}, this one is "
            f"{tokenizer_hash[:12]}; give the tokenizer it was encoded with"
        )
    return open_token_file(
        path,
        dtype=dtype,
        count=count,
        sha256=sha256,
        vocab_size=vocab_size,
        facts_file=facts_path.name,
        remedy="encode again",
    )


def noted_facts(path: Path) -> Facts | None:
    """Return the facts that a process noted before it named this very file, if they still count.

    They count until the process, or the next one that makes the file, has written FILE.bin.json.
    """
    found = Path(os.path.realpath(path))
    note = read_object_or_empty(found.with_name(f"{found.name}.part.json"))
    facts = note.get(FACTS)
    if not (isinstance(facts, dict) and found.is_file() and note.get(FACTS_OF) == identify(found)):
        return None
    return facts


def facts_path_of(path: Path) -> Path:
    """Return FILE.bin.json for FILE.bin."""
    return path.with_name(f"{path.name}.json")


def read_ids(
    file: BinaryIO,
    dtype: np.dtype[Any],
    vocab_size: int,
    path: Path,
    *,
    n_ids: int,
    offset: int = 0,
) -> Iterator[UInt[np.ndarray, " n"]]:
    """Yield all ids of a file in arrays of a few million, once they are checked.

    They are read rather than mapped: mapped pages would count as memory of this process, and a
    file that another process cuts off meanwhile would end it.

    Args:
        n_ids: number of ids in the file.
        offset: bytes before the first id.
    Raises:
        ValueError: if an id is missing or not below vocab_size; the message gives its position.
    """
    file.seek(offset)
    for start in range(0, n_ids, _CHECKED_IDS):
        n = min(_CHECKED_IDS, n_ids - start)
        raw = file.read(n * dtype.itemsize)
        if len(raw) < n * dtype.itemsize:
            raise ValueError(
                f"{path} must stay as it is while it is read: it ends before token "
                f"{start + n - 1} of {n_ids}; read it again when nothing writes to it"
            )
        part = np.frombuffer(raw, dtype)
        if part.max() >= vocab_size:
            position = int(np.argmax(part >= vocab_size))
            raise ValueError(
                f"{path}: token {int(part[position])} at position {start + position} does not "
                f"belong to a vocabulary of {vocab_size}; the file was made with another tokenizer"
            )
        yield part


class Written(NamedTuple):
    """Number and hash of the ids written: all that another TokenWriter needs to continue."""

    n_ids: int
    sha256: str
    """SHA-256 of all ids in order, independent of shard_tokens."""


class TokenWriter:
    """Writes ids to NAME.bin, or to NAME-00000.bin and so on in shards of shard_tokens ids.

    The last shard may have fewer. After an error in write, the files hold all earlier arrays and
    a part of the last one.
    """

    def __init__(
        self,
        path: Path,
        *,
        dtype: str,
        shard_tokens: int | None = None,
        after: Written | None = None,
    ) -> None:
        """Create the writer; without `after`, no file is opened before there are ids.

        Args:
            path: NAME.bin.
            dtype: uint16 or uint32.
            after: ids of an earlier writer to continue from; anything after them is removed.
        Raises:
            ValueError: if any of those ids are missing or changed.
        """
        self._path, self._shard_tokens = path, shard_tokens
        self._kind = np.dtype(dtype).newbyteorder("<")
        self._shards: list[Facts] = []  # facts of closed files
        self._file: io.FileIO | None = None
        self._unflushed: list[Path] = []  # closed files
        self._has_new_names = False
        self._count = 0  # ids in the open file
        self._digest = hashlib.sha256()
        # With a single file the two digests are the same, so ids are hashed once.
        self._digest_of_all = self._digest if shard_tokens is None else hashlib.sha256()
        if after is not None:
            self._go_on(after)

    @property
    def written(self) -> Written:
        """Number and hash of all ids in the files."""
        count = sum(shard["count"] for shard in self._shards) + self._count
        return Written(count, self._digest_of_all.hexdigest())

    def write(self, ids: UInt[np.ndarray, " n_ids"]) -> Written:
        """Append ids; return the number and hash of all ids written so far."""
        while len(ids):
            file = self._file or self._open("wb")
            n_free = len(ids) if self._shard_tokens is None else self._shard_tokens - self._count
            self._append(file, ids[:n_free])
            self._close_if_full()
            ids = ids[n_free:]
        return self.written

    def flush(self) -> None:
        """Flush the content and the names of all files to disk."""
        while self._unflushed:
            sync.sync_file(self._unflushed[-1])
            self._unflushed.pop()
        if self._file is not None and not self._file.closed:
            os.fsync(self._file.fileno())
        if self._has_new_names:
            sync.sync_folder(self._path.parent)
            self._has_new_names = False

    def finish(self) -> Facts:
        """Close the files, of which there is at least one; return their facts.

        In the facts of a single file, `file` is its name.
        """
        if self._file is None and not self._shards:
            self._open("wb")
        if self._file is not None:
            self._close_shard()
        count, sha256 = self.written
        facts: Facts = {"dtype": self._kind.name, "count": count, "sha256": sha256}
        if self._shard_tokens is None:
            return {"file": self._path.name, **facts}
        return {**facts, "shards": self._shards}

    def close(self) -> None:
        """Close the open file; nothing more can be written."""
        if self._file is not None:
            self._file.close()

    def _path_of(self, number: int) -> Path:
        if self._shard_tokens is None:
            return self._path
        return self._path.with_name(f"{self._path.stem}-{number:05}{self._path.suffix}")

    def _open(self, mode: Literal["wb", "r+b"]) -> io.FileIO:
        # The file is unbuffered: ids counted as written survive any interruption of the program.
        self._file = io.FileIO(self._path_of(len(self._shards)), mode)
        self._has_new_names |= mode == "wb"
        if self._shard_tokens is not None:
            self._digest = hashlib.sha256()
        return self._file

    def _append(self, file: io.FileIO, ids: UInt[np.ndarray, " n_ids"]) -> None:
        raw = np.ascontiguousarray(ids, self._kind).view(np.uint8).data
        begin, left = file.tell(), raw
        try:
            while left:
                left = left[file.write(left) :]
        except BaseException:
            # On a full disk this frees space for the note.
            file.truncate(begin)
            file.seek(begin)
            raise
        self._hash(raw)
        self._count += len(ids)
        if hasattr(os, "posix_fadvise"):
            # Linux starts writing to disk now, so that flush waits only for the last ids.
            os.posix_fadvise(file.fileno(), begin, len(raw), os.POSIX_FADV_DONTNEED)

    def _go_on(self, after: Written) -> None:
        """Read the ids to keep again, as Python cannot store the state of a hash."""
        n_left = after.n_ids
        while n_left > 0 and self._path_of(len(self._shards)).is_file():
            n_wanted = min(n_left, self._shard_tokens or n_left)
            disk.part_from_copies(self._path_of(len(self._shards)))
            file = self._open("r+b")
            if not self._has_read(file, n_wanted):
                break
            file.truncate()
            self._close_if_full()
            n_left -= n_wanted
        if self.written != after:
            self.close()
            raise ValueError(f"{self._path} does not hold the ids that were noted")
        if self._shard_tokens is not None:
            n_files = len(self._shards) + (self._file is not None)
            while (behind := self._path_of(n_files)).exists():
                behind.unlink()
                n_files += 1

    def _has_read(self, file: io.FileIO, n_ids: int) -> bool:
        """Hash the first n_ids of a file; return False if it has fewer."""
        n_left = n_ids * self._kind.itemsize
        while raw := file.read(min(n_left, _READ_BYTES)):
            self._hash(raw)
            n_left -= len(raw)
        self._count = n_ids
        return n_left == 0

    def _hash(self, raw: bytes | memoryview) -> None:
        self._digest.update(raw)
        if self._digest_of_all is not self._digest:
            self._digest_of_all.update(raw)

    def _close_if_full(self) -> None:
        if self._count == self._shard_tokens:
            self._close_shard()

    def _close_shard(self) -> None:
        assert self._file is not None
        self._file.close()
        path = self._path_of(len(self._shards))
        self._unflushed.append(path)
        facts = {"file": path.name, "count": self._count, "sha256": self._digest.hexdigest()}
        self._shards.append(facts)
        self._file, self._count = None, 0
