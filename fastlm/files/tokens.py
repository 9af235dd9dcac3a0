"""Files of token ids for training, one or several behind one another: written, checked, opened.

They hold little-endian unsigned integers and nothing else: meta.json says what they are.
"""

import errno
import hashlib
import mmap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias, overload

import numpy as np
from jaxtyping import Int, UInt
from numpy.typing import NDArray

_CHECKED_IDS = 1 << 22  # at a time


class ShardedTokens:
    """Arrays of token ids, indexed as the one array that they are when put one after another.

    >>> tokens = ShardedTokens([np.array([5, 6, 7]), np.array([8, 9])])
    >>> tokens[np.array([[1, 2, 3], [0, 1, 2]])]
    array([[6, 7, 8], [5, 6, 7]])
    """

    def __init__(self, shards: Sequence[UInt[np.ndarray, " n"]]) -> None:
        """Of at least one array; all have one dtype."""
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
        """As of one array: an id, ids in a row, or ids in the shape of an array of places."""
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
        # Windows are rows of ascending places: runs of one holder are long.
        edges = np.flatnonzero(np.diff(holders)) + 1
        for begin, end in zip([0, *edges], [*edges, len(flat)], strict=True):
            if begin < end:
                holder = holders[begin]
                ids[begin:end] = self.shards[holder][flat[begin:end] - self._begins[holder]]
        return ids.reshape(places.shape)


Tokens: TypeAlias = UInt[np.ndarray, " n_tokens"] | ShardedTokens


class TokenFile(NamedTuple):
    """One file, memory-mapped."""

    tokens: UInt[np.ndarray, " n_tokens"]
    path: Path
    hash: str
    """sha256 of the file, as it was written"""

    def verify(self) -> None:
        """Read the whole file and compare its hash; other threads run meanwhile.

        Raises:
            ValueError: if a token was changed since.
        """
        if hashlib.sha256(self.tokens.data).hexdigest() != self.hash:
            raise ValueError(
                f"{self.path} was changed since it was made: its hash is not the one in meta.json; "
                "prepare the data again"
            )


def open_token_file(
    path: Path, *, dtype: str, count: int, sha256: str, vocab_size: int
) -> TokenFile:
    """Map a file that has count ids below vocab_size; its hash is not compared.

    Raises:
        FileNotFoundError, ValueError: if it has not, with the file's name.
    """
    kind = np.dtype(dtype).newbyteorder("<")
    if kind not in (np.dtype("<u2"), np.dtype("<u4")):
        raise ValueError(f"{path}: expected dtype uint16 or uint32, meta.json says {kind}")
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; prepare the data again")
    n_bytes = path.stat().st_size
    if n_bytes != count * kind.itemsize:
        raise ValueError(
            f"{path} holds {n_bytes} bytes, meta.json says {count} tokens of "
            f"{kind.itemsize} bytes; prepare the data again"
        )
    if n_bytes == 0:
        raise ValueError(f"{path} is empty; prepare the data again")
    try:
        with open(path, "rb") as file:
            check_ids(file, kind, vocab_size, path)
        return TokenFile(np.memmap(path, dtype=kind, mode="r"), path, sha256)
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
        raise OSError(
            f"{path}: this process may not open more files; raise `ulimit -n`, or prepare the "
            "data again in fewer of them (--shard-tokens)"
        ) from error


def check_ids(
    file: BinaryIO, dtype: np.dtype[Any], vocab_size: int, path: Path, *, offset: int = 0
) -> None:
    """Read all ids once, and keep no page of them: they would count as this process's memory.

    Args:
        offset: bytes before the first id.
    Raises:
        ValueError: for an id that is not below vocab_size, with its position.
    """
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        n_ids = (len(mapped) - offset) // dtype.itemsize
        for start in range(0, n_ids, _CHECKED_IDS):
            n = min(_CHECKED_IDS, n_ids - start)
            begin = offset + start * dtype.itemsize
            part = np.frombuffer(mapped, dtype, n, begin)
            if part.max() >= vocab_size:
                position = int(np.argmax(part >= vocab_size))
                found = int(part[position])
                del part  # a mapping is not closed while an array shows it
                raise ValueError(
                    f"{path}: token {found} at position {start + position} does not belong to a "
                    f"vocabulary of {vocab_size}; the file was made with another tokenizer"
                )
            del part
            if hasattr(mmap, "MADV_DONTNEED"):
                page = begin // mmap.PAGESIZE * mmap.PAGESIZE
                mapped.madvise(mmap.MADV_DONTNEED, page, begin + n * dtype.itemsize - page)


def write_token_files(
    arrays: Iterable[UInt[np.ndarray, " n"]],
    folder: Path,
    name: str,
    *,
    dtype: str,
    shard_tokens: int | None,
) -> tuple[list[dict[str, Any]], str]:
    """Write ids to NAME.bin, or to NAME-00000.bin and on, of shard_tokens ids and fewer the last.

    Returns:
        of each file what open_token_file asks for (file, count and sha256), and the sha256 of
        all of them one after another, which does not depend on shard_tokens.
    """
    kind = np.dtype(dtype).newbyteorder("<")
    digest_of_all = hashlib.sha256()
    files: list[dict[str, Any]] = []
    pending = iter(arrays)
    rest: UInt[np.ndarray, " n"] | None = next(pending, None)
    while rest is not None or not files:
        path = folder / (f"{name}.bin" if shard_tokens is None else f"{name}-{len(files):05}.bin")
        digest, count = hashlib.sha256(), 0
        with open(path, "wb") as out:
            while rest is not None and (shard_tokens is None or count < shard_tokens):
                n_wanted = len(rest) if shard_tokens is None else shard_tokens - count
                raw = rest[:n_wanted].astype(kind, copy=False).tobytes()
                digest.update(raw)
                if shard_tokens is not None:
                    digest_of_all.update(raw)
                out.write(raw)
                count += len(raw) // kind.itemsize
                rest = rest[n_wanted:]
                while rest is not None and len(rest) == 0:
                    rest = next(pending, None)
        files.append({"file": path.name, "count": count, "sha256": digest.hexdigest()})
    return files, files[0]["sha256"] if shard_tokens is None else digest_of_all.hexdigest()
