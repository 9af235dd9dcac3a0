"""Prepare token files from text, and open them again.

A prepared folder holds train.bin and val.bin (or shards: train-00000.bin, ...), meta.json, which
describes them, and the tokenizer that made them. While the folder is being made, it holds the
work done so far, and a note beside it records the progress: the same call continues from there.
"""

import contextlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from fastlm.data.splits import SPLITS, Texts, UnusableTextError
from fastlm.data.spool import STANDARD_INPUT, Format, Spool, spooled
from fastlm.data.unfinished import begin, changed_keys, go_on, tokenizer_of
from fastlm.files import disk, resumed
from fastlm.files.destination import OURS, entries, find
from fastlm.files.json_files import read_object
from fastlm.files.notes import NoteTimes
from fastlm.files.paths import identify
from fastlm.files.sealed import read_sealed, seal
from fastlm.files.tokens import Facts, ShardedTokens, TokenFile, Tokens, open_token_file
from fastlm.tokenizer.bpe.blocks import resolve_threads
from fastlm.tokenizer.folder import copy_tokenizer, own_files
from fastlm.tokenizer.pieces import cut_pieces
from fastlm.tokenizer.tokenizer import END_OF_TEXT, Tokenizer
from fastlm.tokenizer.training import train_bpe_from_documents

__all__ = ["END_OF_TEXT", "PreparedData", "Split", "open_prepared", "prepare"]

# Names that the commands of this package leave in a prepared folder.
_OWN_NAME = re.compile(rf"meta\.json|tokenizer|(train|val)(-\d+)?\.bin|{re.escape(OURS)}.*")

FORMAT = 2
SHARDED_FORMAT = 3  # readers that know only format 2 refuse this number


class Split(NamedTuple):
    """The memory-mapped token ids of one split, in one file or in several consecutive ones."""

    tokens: Tokens
    text_bytes: int
    """Number of UTF-8 bytes of the text that the tokens encode, without separators"""
    files: tuple[TokenFile, ...]
    hash: str
    """SHA-256 of the ids as written, independent of the number of files"""

    def verify(self) -> None:
        """Call TokenFile.verify for each file."""
        for file in self.files:
            file.verify()


@dataclass(frozen=True)
class PreparedData:
    """A prepared folder that has been checked and opened."""

    folder: Path
    vocab_size: int
    tokenizer_hash: str
    train: Split
    val: Split

    @property
    def tokenizer_folder(self) -> Path:
        return tokenizer_of(self.folder)

    def copy_tokenizer(self, folder: Path) -> None:
        """Copy the tokenizer; files that are equal already and files of others stay."""
        copy_tokenizer(self.tokenizer_folder, folder)

    def verify(self) -> None:
        """Call Split.verify for both splits."""
        self.train.verify()
        self.val.verify()


def open_prepared(folder: Path | str) -> PreparedData:
    """Open a folder that prepare() made; only PreparedData.verify reads all token ids.

    Raises:
        FileNotFoundError: if the folder does not exist or was not made by prepare().
        ValueError: if a file does not match meta.json; the message names the file.
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
    if meta.get("format") not in (FORMAT, SHARDED_FORMAT):
        raise ValueError(
            f"{meta_path} has format {meta.get('format')}, expected {FORMAT}; "
            "prepare the data again"
        )
    train, val = (_open_split(folder, meta["splits"][n], meta["vocab_size"]) for n in SPLITS)
    return PreparedData(folder, meta["vocab_size"], meta["tokenizer_hash"], train, val)


def _open_split(folder: Path, described: dict[str, Any], vocab_size: int) -> Split:
    files = tuple(
        open_token_file(
            folder / file["file"],
            dtype=described["dtype"],
            count=file["count"],
            sha256=file["sha256"],
            vocab_size=vocab_size,
        )
        for file in described.get("shards", [described])
    )
    for file in files:
        if not len(file.tokens):
            raise ValueError(f"{file.path} is empty; {file.remedy}")
    tokens = ShardedTokens([f.tokens for f in files]) if "shards" in described else files[0].tokens
    return Split(tokens, described["text_bytes"], files, described["sha256"])


def check_tokenizer(data: PreparedData) -> None:
    """Refuse data whose folder holds a different tokenizer from the one that made them.

    Raises:
        ValueError, FileNotFoundError: if so; the message names the folder.
    """
    folder = data.tokenizer_folder
    found = Tokenizer.load(folder).hash
    if found != data.tokenizer_hash:
        raise ValueError(
            f"{folder} is not the tokenizer that {data.folder} was made with: its hash is "
            f"{found[:12]}, expected {data.tokenizer_hash[:12]}; prepare the data again"
        )


def prepare(
    corpus: Path | Sequence[Path],
    out: Path,
    *,
    vocab_size: int,
    tokenizer: Path | None = None,
    val_fraction: float = 0.01,
    n_threads: int | None = None,
    replace: bool = False,
    text_field: str = "text",
    shard_tokens: int | None = None,
    stdin_format: Format = "txt",
    say: Callable[[str], object] = lambda line: None,
) -> Path:
    """Make the token files of a text; a second call with the same arguments reuses them.

    If they are damaged, it makes them anew.

    After an interruption, a call with the same texts and arguments continues the work: it does
    not train the tokenizer again and keeps the ids already encoded. The files are the same as
    those of an uninterrupted call. Memory grows with the number of distinct words in the training
    text, not with its length.

    Args:
        corpus: a text file, a folder with a train and a valid file, or a folder with documents;
            several of them form one text unless their names say which are for validation. "-" is
            standard input.
        tokenizer: folder of a tokenizer to use instead of training one on the training text.
        val_fraction: share of the documents kept for validation where there is no valid file.
        replace: replace data that was prepared with other arguments, once the new data is ready.
        text_field: field of .jsonl files and column of .parquet files that holds the text.
        shard_tokens: write files of at most this many tokens instead of one file for each split.
        stdin_format: format of standard input, which may also be compressed.
        say: called with each line of progress for the user.
    Raises:
        FileNotFoundError, ValueError: if a text or an argument cannot be used, before anything is
            written; if a text turns out to be unusable later or changes during the call, nothing
            is left behind.
        FileExistsError: if out holds something else.
        BlockingIOError: if another process is making out.
    """
    paths = [corpus] if isinstance(corpus, Path) else list(corpus)
    if not 0 < val_fraction <= 0.5:
        raise ValueError(f"val_fraction must lie in (0, 0.5]: got {val_fraction}")
    if shard_tokens is not None and shard_tokens < 1:
        raise ValueError(f"shard_tokens must be at least 1: got {shard_tokens}")
    n_threads = resolve_threads(n_threads)
    for path in paths:
        if path != STANDARD_INPUT and not path.exists():
            raise FileNotFoundError(f"no such text file or folder: {path}")
    if vocab_size < 257 and tokenizer is None:
        raise ValueError(
            f"vocab_size must be at least 257 (256 bytes and {END_OF_TEXT}): got {vocab_size}"
        )
    settings: dict[str, Any] = {
        "vocab_size": vocab_size,
        "val_fraction": val_fraction,
        "tokenizer": _load(tokenizer).hash if tokenizer else "trained on the text",
    }
    # Default values are left out, so that data prepared before these options existed is reused.
    settings |= {"text_field": text_field} if text_field != "text" else {}
    settings |= {"shard_tokens": shard_tokens} if shard_tokens is not None else {}
    with contextlib.ExitStack() as stack:
        spool = None
        if STANDARD_INPUT in paths:
            if sys.stdin is None:
                raise ValueError("expected a text on standard input, but it is closed: pipe one in")
            _same_source(out, settings, replace=replace)  # refuse before anything is read
            stack.enter_context(disk.locked(out))
            say("reading standard input")
            spool = stack.enter_context(spooled(sys.stdin.buffer, out, stdin_format))
            paths = [spool.path if path == STANDARD_INPUT else path for path in paths]
        texts = Texts(paths, val_fraction=val_fraction, text_field=text_field)
        files = [
            spool.identity
            if spool is not None and path == spool.path
            else [path.name, *_fingerprint(path)]
            for path in texts.sources
        ]
        source = {"files": files, **settings}
        found = _look(out, source, replace=replace)
        if not found.is_up_to_date:
            texts.check()  # refuse unusable text before anything is written
        if not found.is_up_to_date and spool is None:
            stack.enter_context(disk.locked(out))
            found = _look(out, source, replace=replace)  # it may be by now
        if found.is_up_to_date:
            say(f"data in {out} is up to date")
            return out
        if found.damage:
            say(f"made anew: the data in {out} cannot be used: {found.damage}")
        _refuse_others(out)
        part = stack.enter_context(
            resumed.resumed_folder(
                out, replace=replace or bool(found.damage), last="meta.json", is_locked=True
            )
        )
        try:
            _fill(part, texts, source, spool, vocab_size, tokenizer, n_threads, say)
        except UnusableTextError:
            part.clear()
            raise
        except BaseException:
            if part.read_note():
                is_inside = part.folder.parent == Path(os.path.realpath(out))
                kept = f"what is done is kept beside {out}"
                if is_inside:
                    kept = f"what is done is kept in {out}"
                say(f"{kept}: the same command goes on from there")
            raise
    return out


def _fingerprint(path: Path) -> tuple[int, int]:
    """Return the size in bytes and the last modification time of a file or a folder's files."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    stats = [f.stat() for f in files if not disk.is_in_the_making(f, path)]
    return sum(s.st_size for s in stats), max((s.st_mtime_ns for s in stats), default=0)


def _identities(texts: Texts, spool: Spool | None) -> list[list[Any]]:
    """Return values that identify each file of a text and differ when the file changes."""
    return [
        spool.identity if spool is not None and path == spool.path else identify(path)
        for path in texts.files
    ]


class _Found(NamedTuple):
    """The data of a source that a folder holds already."""

    is_up_to_date: bool
    damage: str = ""
    """Why data of this source cannot be used"""


def _look(out: Path, source: dict[str, Any], *, replace: bool) -> _Found:
    """Look for data of a source in a folder, and check it.

    Raises:
        FileExistsError: as _same_source does, or if the data is damaged and other things lie in
            its folder.
    """
    if not _same_source(out, source, replace=replace):
        return _Found(is_up_to_date=False)
    try:
        data = open_prepared(out)
        data.verify()
        check_tokenizer(data)
    except (FileNotFoundError, ValueError) as error:
        others = [path.name for path in out.iterdir() if not _OWN_NAME.fullmatch(path.name)]
        if others and not replace:
            raise FileExistsError(
                f"{error}: {out} also holds {', '.join(sorted(others))}; move that elsewhere first"
            ) from error
        return _Found(is_up_to_date=False, damage=str(error))
    return _Found(is_up_to_date=True)


def _same_source(out: Path, source: dict[str, Any], *, replace: bool) -> bool:
    """Return whether out already holds data made from this source; False if out is free for it.

    Raises:
        FileExistsError: if out holds something else.
    """
    if not out.exists():
        return False
    if not out.is_dir():
        raise FileExistsError(f"--out must be a folder: {out} is a file")
    if not any(entries(find(out))):
        return False
    try:
        found = dict(read_object(out / "meta.json")["source"])
    except (OSError, ValueError, KeyError, TypeError):
        raise FileExistsError(
            f"{out} is not empty and holds no prepared data; give another --out"
        ) from None
    if "files" not in source:
        found.pop("files", None)
    changed = changed_keys(found, source)
    if changed and not replace:
        raise FileExistsError(
            f"{out} holds data prepared with another {', '.join(changed)}; "
            "give another --out or remove it"
        )
    return not changed


def _fill(
    part: resumed.ResumedFolder,
    texts: Texts,
    source: dict[str, Any],
    spool: Spool | None,
    vocab_size: int,
    tokenizer_folder: Path | None,
    n_threads: int | None,
    say: Callable[[str], object],
) -> None:
    """Make all files of a prepared folder, or those that an interrupted call did not make."""
    identities = _identities(texts, spool)
    made_of = {**source, "texts": identities}
    times = NoteTimes()
    unfinished = go_on(part, made_of, times, say)
    if unfinished is None:
        part.clear()
        tokenizer = _make_tokenizer(texts, vocab_size, tokenizer_folder, n_threads, say)
        unfinished = begin(part, made_of, tokenizer, times)
    splits: dict[str, Facts] = {}
    for name in SPLITS:
        if not unfinished.is_whole(name):
            say(f"encoding {name}.bin")
        splits[name] = unfinished.write_split(texts, name, n_threads)
    if _identities(texts, spool) != identities:
        raise UnusableTextError(
            "the texts must stay as they are while they are prepared: one has changed; prepare "
            "them again when nothing writes to them"
        )
    write_meta(part.folder, unfinished.tokenizer, splits, source)
    for split_name, split in splits.items():
        ratio = split["text_bytes"] / split["count"]
        in_files = f" in {len(split['shards'])} files" if "shards" in split else ""
        say(
            f"{split_name}: {split['count']:,} tokens{in_files}, {split['documents']:,} documents, "
            f"{ratio:.2f} bytes a token"
        )


def _make_tokenizer(
    texts: Texts,
    vocab_size: int,
    folder: Path | None,
    n_threads: int | None,
    say: Callable[[str], object],
) -> Tokenizer:
    if folder is None:
        say(f"training a tokenizer of {vocab_size} entries")
        pieces = cut_pieces(texts.train(), [END_OF_TEXT])
        vocab, merges = train_bpe_from_documents(
            (text for text, _ in pieces), vocab_size, [END_OF_TEXT], n_threads=n_threads
        )
        return Tokenizer(vocab, merges, [END_OF_TEXT])
    return _load(folder)


def _load(folder: Path) -> Tokenizer:
    tokenizer = Tokenizer.load(folder)
    if END_OF_TEXT not in tokenizer.special_tokens:
        raise ValueError(f"the tokenizer in {folder} has no {END_OF_TEXT} token")
    return tokenizer


def write_meta(
    folder: Path, tokenizer: Tokenizer, splits: dict[str, Any], source: dict[str, Any]
) -> None:
    """Write meta.json, which turns a folder with token files into a prepared folder.

    Args:
        splits: for train and val, the facts of the files, text_bytes and documents.
        source: description of the texts and settings, read by people and by prepare().
    """
    meta = {
        "format": SHARDED_FORMAT if any("shards" in s for s in splits.values()) else FORMAT,
        "vocab_size": tokenizer.vocab_size,
        "tokenizer_hash": tokenizer.hash,
        "end_of_text_id": tokenizer.special_tokens[END_OF_TEXT],
        "splits": splits,
        "source": source,
    }
    disk.write_new(folder / "meta.json", seal(meta))


def _refuse_others(out: Path) -> None:
    """Raise a FileExistsError if a folder to be replaced has files that are not of prepare()."""
    if not out.is_dir():
        return
    others = [path.name for path in out.iterdir() if not _OWN_NAME.fullmatch(path.name)]
    inner = tokenizer_of(out)
    own = own_files(inner)
    for path in inner.iterdir() if inner.is_dir() else ():
        if path not in own and not path.name.startswith(OURS):
            others.append(f"{inner.name}/{path.name}")
    if others:
        raise FileExistsError(
            f"{out} also holds {', '.join(sorted(others))}; move that elsewhere first"
        )
