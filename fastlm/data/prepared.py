"""From text to token files, and opening them again.

A prepared folder holds train.bin and val.bin, or train-00000.bin and on of each, meta.json that
says what they are, and the tokenizer that made them. While it is made, it holds what is done so
far, and a note beside it says how far that is: the same call goes on from there.
"""

import contextlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from fastlm.data.splits import SPLITS, Texts
from fastlm.data.spool import STANDARD_INPUT, Format, Spool, spooled
from fastlm.data.unfinished import begin, changed_keys, go_on, tokenizer_of
from fastlm.files import disk
from fastlm.files.paths import identify
from fastlm.files.sealed import read_sealed, seal
from fastlm.files.tokens import (
    Facts,
    RecordTimes,
    ShardedTokens,
    TokenFile,
    Tokens,
    open_token_file,
)
from fastlm.tokenizer.pieces import cut_pieces
from fastlm.tokenizer.tokenizer import END_OF_TEXT, Tokenizer
from fastlm.tokenizer.training import train_bpe_from_documents

__all__ = ["END_OF_TEXT", "PreparedData", "Split", "open_prepared", "prepare"]

FORMAT = 2
SHARDED_FORMAT = 3  # another number, so that what reads format 2 alone refuses it


class Split(NamedTuple):
    """Token ids in one file, or in several behind one another; memory-mapped."""

    tokens: Tokens
    text_bytes: int
    """UTF-8 bytes of the text these tokens stand for, separators not counted"""
    files: tuple[TokenFile, ...]
    hash: str
    """sha256 of the ids, as they were written, in however many files"""

    def verify(self) -> None:
        """TokenFile.verify of each."""
        for file in self.files:
            file.verify()


@dataclass(frozen=True)
class PreparedData:
    """A prepared folder, checked and open."""

    folder: Path
    vocab_size: int
    tokenizer_hash: str
    train: Split
    val: Split

    @property
    def tokenizer_folder(self) -> Path:
        return tokenizer_of(self.folder)

    def verify(self) -> None:
        """Split.verify of both."""
        self.train.verify()
        self.val.verify()


def open_prepared(folder: Path | str) -> PreparedData:
    """Open a folder that prepare() made; token ids are read by PreparedData.verify alone.

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
    """Refuse data whose folder has another tokenizer than the one that made them.

    Raises:
        ValueError, FileNotFoundError: that names the folder.
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
    """Make the token files of a text, once; a second call with the same arguments reuses them.

    A call that was interrupted is gone on with by the next one with the same texts and arguments:
    the tokenizer is not trained again, and what is encoded stays; begun anew it would give the
    same files. Memory grows with the distinct words of the training text, not with the text.

    Args:
        corpus: a text file, or a folder with a train and a valid file, or with documents; or
            several, which are one text unless their names say which are for validation. "-" is
            standard input.
        tokenizer: folder of a tokenizer to use in place of training one on the training text.
        val_fraction: share of the documents kept for validation where there is no valid file.
        replace: put the new data in the place of data prepared otherwise, when they are ready.
        text_field: field of .jsonl files and column of .parquet files that holds the text.
        shard_tokens: write token files of so many tokens at most, and not one for each split.
        stdin_format: what "-" gives; it may be compressed as well.
        say: tells a person a line.
    Raises:
        FileNotFoundError, ValueError: for texts that cannot be used, or that change meanwhile;
            nothing is left then.
        FileExistsError: if out holds something else.
        BlockingIOError: if another process makes out.
    """
    paths = [corpus] if isinstance(corpus, Path) else list(corpus)
    if not 0 < val_fraction <= 0.5:
        raise ValueError(f"val_fraction must lie in (0, 0.5]: got {val_fraction}")
    if shard_tokens is not None and shard_tokens < 1:
        raise ValueError(f"shard_tokens must be at least 1: got {shard_tokens}")
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
        "tokenizer": Tokenizer.load(tokenizer).hash if tokenizer else "trained on the text",
    }
    # Left out where they are as ever: what was prepared before they came is reused.
    settings |= {"text_field": text_field} if text_field != "text" else {}
    settings |= {"shard_tokens": shard_tokens} if shard_tokens is not None else {}
    with contextlib.ExitStack() as stack:
        spool = None
        if STANDARD_INPUT in paths:
            _same_source(out, settings, replace=replace)  # refused before anything is read
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
        if _is_up_to_date(out, source, say, replace=replace):
            return out
        texts.check()  # unusable text is refused before anything is written
        if spool is None:
            stack.enter_context(disk.locked(out))
            if _is_up_to_date(out, source, say, replace=replace):  # by now
                return out
        part = stack.enter_context(
            disk.resumed_folder(out, replace=replace, last="meta.json", is_locked=True)
        )
        try:
            _fill(part, texts, source, spool, vocab_size, tokenizer, n_threads, say)
        except ValueError:
            part.clear()  # of a text that cannot be used, or is another one now
            raise
        except BaseException:
            if part.read_note():
                say(f"what is done is kept beside {out}: the same command goes on from there")
            raise
    return out


def _fingerprint(path: Path) -> tuple[int, int]:
    """Bytes and time of the last change of a file, or of all files of a folder."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    stats = [f.stat() for f in files if not disk.is_in_the_making(f, path)]
    return sum(s.st_size for s in stats), max((s.st_mtime_ns for s in stats), default=0)


def _identities(texts: Texts, spool: Spool | None) -> list[list[Any]]:
    """What tells each file of a text from another file in its place, and from a changed one."""
    return [
        spool.identity if spool is not None and path == spool.path else identify(path)
        for path in texts.files
    ]


def _is_up_to_date(
    out: Path, source: dict[str, Any], say: Callable[[str], object], *, replace: bool
) -> bool:
    if not _same_source(out, source, replace=replace):
        return False
    open_prepared(out).verify()
    say(f"data in {out} is up to date")
    return True


def _same_source(out: Path, source: dict[str, Any], *, replace: bool) -> bool:
    """Whether out holds data made of this already; False where such data can be put.

    Raises:
        FileExistsError: if out holds something else.
    """
    if not out.exists():
        return False
    if not out.is_dir():
        raise FileExistsError(f"--out must be a folder: {out} is a file")
    if all(path.name.startswith(disk.OURS) for path in out.iterdir()):
        return False
    try:
        found = dict(json.loads((out / "meta.json").read_text(encoding="utf-8"))["source"])
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
    part: disk.ResumedFolder,
    texts: Texts,
    source: dict[str, Any],
    spool: Spool | None,
    vocab_size: int,
    tokenizer_folder: Path | None,
    n_threads: int | None,
    say: Callable[[str], object],
) -> None:
    """Make all files of a prepared folder, or those that an interrupted call did not."""
    identities = _identities(texts, spool)
    made_of = {**source, "texts": identities}
    times = RecordTimes()
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
        raise ValueError(
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
    tokenizer = Tokenizer.load(folder)
    if END_OF_TEXT not in tokenizer.special_tokens:
        raise ValueError(f"the tokenizer in {folder} has no {END_OF_TEXT} token")
    return tokenizer


def write_meta(
    folder: Path, tokenizer: Tokenizer, splits: dict[str, Any], source: dict[str, Any]
) -> None:
    """Write meta.json, which makes a folder with token files a prepared one.

    Args:
        splits: train and val: of each the facts of its files, text_bytes and documents.
        source: what the tokens were made of, for people and for prepare().
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
