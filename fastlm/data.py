"""From text to token files, and opening them again.

Level 2. A prepared folder holds train.bin and val.bin (little-endian unsigned integers, nothing
else), meta.json that says what they are, and the tokenizer that made them.
"""

if __name__ == "__main__":
    from fastlm.cli import run
    from fastlm.data_cli import main

    run(main)  # before the slow imports

import hashlib
import itertools
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastlm.corpus import find_splits, iter_documents
from fastlm.sealed import read_sealed, seal
from fastlm.tokenizer import END_OF_TEXT, Tokenizer, train_bpe_from_documents
from fastlm.windows import get_batch

__all__ = ["END_OF_TEXT", "PreparedData", "Split", "get_batch", "open_prepared", "prepare"]

FORMAT = 2


class Split(NamedTuple):
    """One token file, memory-mapped."""

    tokens: NDArray[Any]
    text_bytes: int
    """UTF-8 bytes of the text these tokens stand for, separators not counted"""
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


@dataclass(frozen=True)
class PreparedData:
    """A prepared folder, checked and open."""

    folder: Path
    vocab_size: int
    tokenizer_hash: str
    train: Split
    val: Split

    def verify(self) -> None:
        """Split.verify of both."""
        self.train.verify()
        self.val.verify()


def open_prepared(folder: Path | str) -> PreparedData:
    """Open a folder that prepare() made.

    Raises:
        FileNotFoundError: if it is not there or not such a folder.
        ValueError: if a file is not what meta.json says, with the file's name.
    """
    folder = Path(folder)
    meta_path = folder / "meta.json"
    if not meta_path.is_file():
        raise FileNotFoundError(
            f"no prepared data in {folder}: expected {meta_path}; make it with "
            f"python -m fastlm.data prepare TEXT --vocab-size N --out {folder}"
        )
    try:
        meta = read_sealed(meta_path)
    except ValueError as error:
        raise ValueError(
            f"{meta_path} is not a description of token files: {error}; prepare the data again"
        ) from None
    if meta.get("format") != FORMAT:
        raise ValueError(
            f"{meta_path} has format {meta.get('format')}, expected {FORMAT}; "
            "prepare the data again"
        )
    train, val = (
        _open_split(folder, meta["splits"][n], meta["vocab_size"]) for n in ("train", "val")
    )
    return PreparedData(folder, meta["vocab_size"], meta["tokenizer_hash"], train, val)


def _open_split(folder: Path, described: dict[str, Any], vocab_size: int) -> Split:
    path = folder / described["file"]
    dtype = np.dtype(described["dtype"]).newbyteorder("<")
    if dtype not in (np.dtype("<u2"), np.dtype("<u4")):
        raise ValueError(f"{path}: expected dtype uint16 or uint32, meta.json says {dtype}")
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; prepare the data again")
    n_bytes = path.stat().st_size
    if n_bytes != described["count"] * dtype.itemsize:
        raise ValueError(
            f"{path} holds {n_bytes} bytes, meta.json says {described['count']} tokens of "
            f"{dtype.itemsize} bytes; prepare the data again"
        )
    if n_bytes == 0:
        raise ValueError(f"{path} is empty; prepare the data again")
    tokens = np.memmap(path, dtype=dtype, mode="r")
    check_ids(tokens, vocab_size, path)
    return Split(tokens, described["text_bytes"], path, described["sha256"])


def check_tokenizer(data: PreparedData) -> None:
    """Refuse data whose folder has another tokenizer than the one that made them.

    Raises:
        ValueError, FileNotFoundError: that names the folder.
    """
    folder = data.folder / "tokenizer"
    found = Tokenizer.load(folder).hash
    if found != data.tokenizer_hash:
        raise ValueError(
            f"{folder} is not the tokenizer that {data.folder} was made with: its hash is "
            f"{found[:12]}, expected {data.tokenizer_hash[:12]}; prepare the data again"
        )


def check_ids(tokens: NDArray[Any], vocab_size: int, name: Path | str) -> None:
    """Read all token ids once and refuse one that is not below vocab_size.

    Raises:
        ValueError: that names the file, the id and its position.
    """
    block = 1 << 24
    for start in range(0, len(tokens), block):
        part = tokens[start : start + block]
        if part.max() >= vocab_size:
            position = start + int(np.argmax(part >= vocab_size))
            raise ValueError(
                f"{name}: token {tokens[position]} at position {position} does not belong to a "
                f"vocabulary of {vocab_size}; the file was made with another tokenizer"
            )


class _Texts:
    """Training and validation documents of a corpus, as often as they are asked for."""

    def __init__(self, corpus: Path, val_fraction: float) -> None:
        self.corpus = corpus
        self.splits = find_splits(corpus) if corpus.is_dir() else None
        self.period = max(2, round(1 / val_fraction))
        self.files = list(self.splits) if self.splits else [corpus]
        self.n_documents = 0
        if self.splits is None:
            # Counted as far as the first period only: enough to know which rule applies.
            self.n_documents = sum(1 for _ in itertools.islice(iter_documents(corpus), self.period))

    def train(self) -> Iterator[str]:
        return self._held(False) if self.splits is None else iter_documents(self.splits[0])

    def val(self) -> Iterator[str]:
        return self._held(True) if self.splits is None else iter_documents(self.splits[1])

    def _held(self, wanted: bool) -> Iterator[str]:
        """Every period-th document is for validation; of fewer the last one; of one its end."""
        if self.n_documents == 1:
            (text,) = iter_documents(self.corpus)
            cut = len(text) - max(1, len(text) // self.period)
            line_end = text.rfind("\n", 0, cut) + 1
            cut = line_end or cut
            yield text[cut:] if wanted else text[:cut]
            return
        period = min(self.period, self.n_documents)
        for i, document in enumerate(iter_documents(self.corpus)):
            if (i % period == period - 1) == wanted:
                yield document


def prepare(
    corpus: Path,
    out: Path,
    *,
    vocab_size: int,
    tokenizer: Path | None = None,
    val_fraction: float = 0.01,
    n_threads: int | None = None,
    replace: bool = False,
    report: Callable[[str], object] = lambda line: None,
) -> Path:
    """Make the token files of a text, once; a second call with the same arguments reuses them.

    Args:
        corpus: a text file, or a folder with a train and a valid file, or with documents.
        tokenizer: folder of a tokenizer to use in place of training one on the training text.
        val_fraction: share of the documents kept for validation where there is no valid file.
        replace: put the new data in the place of data prepared otherwise, when they are ready.
        report: called with a line of progress.
    Raises:
        FileNotFoundError, ValueError: for texts that cannot be used; nothing is written then.
        FileExistsError: if out holds something else.
    """
    if not 0 < val_fraction <= 0.5:
        raise ValueError(f"val_fraction must lie in (0, 0.5]: got {val_fraction}")
    if not corpus.exists():
        raise FileNotFoundError(f"no such text file or folder: {corpus}")
    if vocab_size < 257 and tokenizer is None:
        raise ValueError(
            f"vocab_size must be at least 257 (256 bytes and {END_OF_TEXT}): got {vocab_size}"
        )
    texts = _Texts(corpus, val_fraction)
    next(texts.train())  # unusable text is refused before anything is written
    source = {
        "files": [[f.name, *_fingerprint(f)] for f in texts.files],
        "vocab_size": vocab_size,
        "val_fraction": val_fraction,
        "tokenizer": Tokenizer.load(tokenizer).hash if tokenizer else "trained on the text",
    }
    if _same_source(out, source, replace=replace):
        report(f"data in {out} is up to date")
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        _write_prepared(texts, partial, vocab_size, tokenizer, n_threads, source, report)
        if out.is_dir():
            shutil.rmtree(out)  # empty or to be replaced: _same_source refuses all else
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out


def _fingerprint(path: Path) -> tuple[int, int]:
    """Bytes and time of the last change of a file, or of all files of a folder."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    stats = [f.stat() for f in files]
    return sum(s.st_size for s in stats), max((s.st_mtime_ns for s in stats), default=0)


def _same_source(out: Path, source: dict[str, Any], *, replace: bool) -> bool:
    """Whether out holds these data already; False where they can be put.

    Raises:
        FileExistsError: if out holds something else.
    """
    if not out.exists():
        return False
    if not out.is_dir():
        raise FileExistsError(f"--out must be a folder: {out} is a file")
    if not any(out.iterdir()):
        return False
    try:
        found = json.loads((out / "meta.json").read_text(encoding="utf-8"))["source"]
    except (OSError, ValueError, KeyError, TypeError):
        found = None
    if found is None:
        raise FileExistsError(f"{out} is not empty and holds no prepared data; give another --out")
    if found != source:
        if replace:
            return False
        changed = [key for key in source if found.get(key) != source[key]]
        raise FileExistsError(
            f"{out} holds data prepared with another {', '.join(changed)}; "
            "give another --out or remove it"
        )
    open_prepared(out)
    return True


def _write_prepared(
    texts: _Texts,
    folder: Path,
    vocab_size: int,
    tokenizer_folder: Path | None,
    n_threads: int | None,
    source: dict[str, Any],
    say: Callable[[str], object],
) -> None:
    if tokenizer_folder is None:
        say(f"training a tokenizer of {vocab_size} entries")
        vocab, merges = train_bpe_from_documents(
            texts.train(), vocab_size, [END_OF_TEXT], n_threads=n_threads
        )
        tokenizer = Tokenizer(vocab, merges, [END_OF_TEXT])
    else:
        tokenizer = Tokenizer.load(tokenizer_folder)
        if END_OF_TEXT not in tokenizer.special_tokens:
            raise ValueError(f"the tokenizer in {tokenizer_folder} has no {END_OF_TEXT} token")
    splits = {}
    for name, documents in (("train", texts.train()), ("val", texts.val())):
        say(f"encoding {name}.bin")
        splits[name] = _write_split(tokenizer, documents, folder / f"{name}.bin", n_threads)
    tokenizer.save(folder / "tokenizer")
    write_meta(folder, tokenizer, splits, source)
    for name, split in splits.items():
        ratio = split["text_bytes"] / split["count"]
        say(
            f"{name}: {split['count']:,} tokens, {split['documents']:,} documents, "
            f"{ratio:.2f} bytes a token"
        )


def write_meta(
    folder: Path, tokenizer: Tokenizer, splits: dict[str, Any], source: dict[str, Any]
) -> None:
    """Write meta.json, which makes a folder with token files a prepared one.

    Args:
        splits: train and val: what write_tokens returned, with text_bytes and documents.
        source: what the tokens were made of, for people and for prepare().
    """
    meta = {
        "format": FORMAT,
        "vocab_size": tokenizer.vocab_size,
        "tokenizer_hash": tokenizer.hash,
        "end_of_text_id": tokenizer.special_tokens[END_OF_TEXT],
        "splits": splits,
        "source": source,
    }
    (folder / "meta.json").write_bytes(seal(meta))


class _Counted:
    """Iterates documents and counts them and their UTF-8 bytes on the way."""

    def __init__(self, documents: Iterable[str]) -> None:
        self.documents = documents
        self.n_documents = 0
        self.n_bytes = 0

    def __iter__(self) -> Iterator[str]:
        for document in self.documents:
            self.n_documents += 1
            self.n_bytes += len(document.encode("utf-8"))
            yield document


def _write_split(
    tokenizer: Tokenizer, documents: Iterable[str], path: Path, n_threads: int | None
) -> dict[str, Any]:
    counted = _Counted(documents)
    parts = tokenizer.encode_documents(counted, end_of_text=END_OF_TEXT, n_threads=n_threads)
    described = write_tokens(parts, path, tokenizer.vocab_size)
    return described | {"text_bytes": counted.n_bytes, "documents": counted.n_documents}


def write_tokens(parts: Iterable[NDArray[Any]], path: Path, vocab_size: int) -> dict[str, Any]:
    """Write ids as a token file; returns what meta.json says of it."""
    dtype = "uint16" if vocab_size <= 1 << 16 else "uint32"
    digest = hashlib.sha256()
    count = 0
    with open(path, "wb") as out:
        for part in parts:
            raw = part.astype(np.dtype(dtype).newbyteorder("<"), copy=False).tobytes()
            digest.update(raw)
            out.write(raw)
            count += len(part)
    return {"file": path.name, "dtype": dtype, "count": count, "sha256": digest.hexdigest()}
