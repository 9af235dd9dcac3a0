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

from fastlm.corpus.documents import Errors
from fastlm.corpus.text_files import is_pattern, spell_names
from fastlm.data.splits import SPLITS, VAL_FRACTION, Texts, UnusableTextError
from fastlm.data.spool import STANDARD_INPUT, Format, Spool, spooled
from fastlm.data.unfinished import begin, changed_keys, go_on, hash_split, tokenizer_of
from fastlm.files import disk, resumed
from fastlm.files.destination import entries, find, is_leftover
from fastlm.files.json_files import read_object
from fastlm.files.notes import NoteTimes
from fastlm.files.outputs import check_not_read
from fastlm.files.paths import StrPath, identify_exactly, spell
from fastlm.files.sealed import read_sealed, seal
from fastlm.files.tokens import Facts, ShardedTokens, TokenFile, Tokens, open_token_file
from fastlm.files.utf8 import check_errors
from fastlm.runs.given import check_prepared
from fastlm.tokenizer.bpe.blocks import resolve_threads
from fastlm.tokenizer.bpe.errors import UnknownByte
from fastlm.tokenizer.folder import copy_tokenizer, saved_files
from fastlm.tokenizer.pieces import cut_pieces
from fastlm.tokenizer.tokenizer import END_OF_TEXT, Tokenizer
from fastlm.tokenizer.training import train_bpe_from_documents

__all__ = ["END_OF_TEXT", "PreparedData", "Split", "open_prepared", "prepare"]

# Names that the commands of this package leave in a prepared folder.
_OWN_NAME = re.compile(r"meta\.json|tokenizer|(train|val)(-(\d{5}|[1-9]\d{5,}))?\.bin")

FORMAT = 2
LEAST_DOCUMENTS, LEAST_TOKENS = 10, 100_000
"""A validation set below either is warned of."""
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
    check_prepared(folder)
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
    corpus: StrPath | Sequence[StrPath],
    out: StrPath,
    *,
    vocab_size: int | None = None,
    tokenizer: Path | None = None,
    val_fraction: float = VAL_FRACTION,
    n_threads: int | None = None,
    replace: bool = False,
    text_field: str = "text",
    shard_tokens: int | None = None,
    stdin_format: Format = "txt",
    errors: Errors = "strict",
    allow_end_of_text: bool = False,
    say: Callable[[str], object] = lambda line: None,
) -> Path:
    """Make the token files of a text; a second call with the same arguments reuses them.

    If they are damaged, it makes them anew. If the texts have other paths, times or inodes than
    before, but the same sizes, they are encoded again and compared.

    After an interruption, a call with the same texts and arguments continues the work: it does
    not train the tokenizer again and keeps the ids already encoded. The files are the same as
    those of an uninterrupted call. Memory grows with the number of distinct words in the training
    text, not with its length.

    Args:
        corpus: text files, folders and patterns; split_by_names tells which are for training and
            which for validation by their names. "-" is standard input.
        vocab_size: entries of the tokenizer to train. A given tokenizer has as many as it has.
        tokenizer: folder of a tokenizer to use instead of training one on the training text.
        val_fraction: share of the documents kept for validation where no name says validation; of
            few documents, or of very unequal ones, the end of the text is kept.
        replace: replace data that was prepared with other arguments, once the new data is ready.
        text_field: field of .jsonl files and column of .parquet files that holds the text.
        shard_tokens: write files of at most this many tokens instead of one file for each split.
        stdin_format: format of standard input, which may also be compressed.
        errors: "replace" replaces bytes that are not UTF-8 by U+FFFD; "strict" refuses them.
        allow_end_of_text: <|endoftext|> in such a field or column separates documents, as in .txt
            files, and is not an error.
        say: called with each line of progress for the user.
    Raises:
        FileNotFoundError, ValueError: if a text or an argument cannot be used, before anything is
            written; if a text turns out to be unusable later or changes during the call, nothing
            is left behind.
        FileExistsError: if out holds something else.
        BlockingIOError: if another process is making out.
    """
    given = [corpus] if isinstance(corpus, (str, os.PathLike)) else corpus
    paths = [Path(path) for path in given]
    out = Path(out)
    say = _spelled(say)
    if not 0 < val_fraction <= 0.5:
        raise ValueError(f"val_fraction must lie in (0, 0.5]: got {val_fraction}")
    if shard_tokens is not None and shard_tokens < 1:
        raise ValueError(f"shard_tokens must be at least 1: got {shard_tokens}")
    check_errors(errors)
    n_threads = resolve_threads(n_threads)
    for path in paths:
        if path != STANDARD_INPUT and not is_pattern(path) and not path.exists():
            raise FileNotFoundError(f"no such text file or folder: {path}")
    loaded = _load(tokenizer) if tokenizer else None
    settings: dict[str, Any] = {
        "vocab_size": _check_vocab_size(vocab_size, tokenizer, loaded),
        "val_fraction": val_fraction,
        "tokenizer": loaded.hash if loaded else "trained on the text",
    }
    # Default values are left out, so that data prepared before these options existed is reused.
    settings |= {"text_field": text_field} if text_field != "text" else {}
    settings |= {"shard_tokens": shard_tokens} if shard_tokens is not None else {}
    settings |= {"errors": errors} if errors != "strict" else {}
    settings |= {"allow_end_of_text": True} if allow_end_of_text else {}
    with contextlib.ExitStack() as stack:
        spool = None
        if STANDARD_INPUT in paths:
            if sys.stdin is None:
                raise ValueError("expected a text on standard input, but it is closed: pipe one in")
            _compare(out, settings, replace=replace)  # refuse before anything is read
            stack.enter_context(disk.locked(out))
            say("reading standard input")
            spool = stack.enter_context(spooled(sys.stdin.buffer, out, stdin_format))
            paths = [spool.path if path == STANDARD_INPUT else path for path in paths]
        texts = Texts(
            paths,
            val_fraction=val_fraction,
            text_field=text_field,
            errors=errors,
            allow_end_of_text=allow_end_of_text,
        )
        source = {"files": _identities(texts, spool), "split": _count_split(texts), **settings}
        found = _look(out, source, replace=replace)
        if not found.is_up_to_date or found.is_maybe_other:
            texts.check()  # refuse unusable text before anything is written
            if spool is None:
                stack.enter_context(disk.locked(out))
                found = _look(out, source, replace=replace)  # it may be by now
        for note in texts.notes:
            say(note)
        if found.is_up_to_date and found.is_maybe_other:
            say(f"the texts are not known by their paths and times: comparing them with {out}")
            found = _compare_texts(out, texts, source, n_threads, replace=replace)
        if found.is_up_to_date:
            say(f"data in {out} is up to date")
            return out
        if found.damage:
            say(f"made anew: the data in {out} cannot be used: {found.damage}")
        _refuse_others(out)
        check_not_read([out], (path for path in texts.files if not spool or path != spool.path))
        part = stack.enter_context(
            resumed.resumed_folder(
                out, replace=replace or bool(found.damage), last="meta.json", is_locked=True
            )
        )
        try:
            _fill(part, texts, source, spool, loaded, n_threads, say)
        except (UnusableTextError, UnknownByte):
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


def _spelled(say: Callable[[str], object]) -> Callable[[str], object]:
    """Escape the names of files that would break or colour a line before it is said."""
    return lambda line: say(spell(line))


def _check_vocab_size(
    vocab_size: int | None, folder: Path | None, tokenizer: Tokenizer | None
) -> int:
    """Return the size of the vocabulary; refuse one that a given tokenizer contradicts."""
    if tokenizer is not None:
        if vocab_size not in (None, tokenizer.vocab_size):
            raise ValueError(
                f"vocab_size {vocab_size} was given, but the tokenizer in {folder} has "
                f"{tokenizer.vocab_size} entries: leave the one or the other out"
            )
        return tokenizer.vocab_size
    if vocab_size is None:
        raise ValueError(
            "expected the size of a vocabulary to train (--vocab-size 4096), or a tokenizer "
            "(--tokenizer FOLDER): got neither"
        )
    if vocab_size < 257:
        raise ValueError(
            f"vocab_size must be at least 257 (256 bytes and {END_OF_TEXT}): got {vocab_size}"
        )
    return vocab_size


def _identities(texts: Texts, spool: Spool | None) -> list[list[Any]]:
    """Return values that identify each file of a text and differ when the file changes.

    They are the real path, the size, the time of modification, the inode and, last, the time at
    which the file system noted a change, which no program can set back.
    """
    return [
        spool.identity
        if spool is not None and path == spool.path
        else [os.path.realpath(path), *identify_exactly(path)]
        for path in texts.files
    ]


def _count_split(texts: Texts) -> dict[str, int]:
    """Return how many of texts.files, the first ones, are for training, and how many follow them.

    Without any for validation, a part of all is held out.
    """
    return {"train": len(texts.split.train), "val": len(texts.split.val)}


def _lasting(identities: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Return what identifies files, without the time that changes with their modes and links."""
    return [list(identity[:4]) for identity in identities]


class _Found(NamedTuple):
    """The data that a folder holds already, compared with what is to be prepared."""

    is_same: bool
    is_maybe_other: bool = False
    """The texts have the same sizes as those of the data, but not the same paths or times"""
    damage: str = ""
    """Why data of this source cannot be used"""

    @property
    def is_up_to_date(self) -> bool:
        return self.is_same and not self.damage


def _look(out: Path, source: dict[str, Any], *, replace: bool) -> _Found:
    """Look for data of a source in a folder, and check it.

    Raises:
        FileExistsError: as _compare does, or if the data is damaged and other things lie in its
            folder.
    """
    found = _compare(out, source, replace=replace)
    if not found.is_same:
        return found
    try:
        data = open_prepared(out)
        data.verify()
        check_tokenizer(data)
    except (FileNotFoundError, ValueError) as error:
        if found.is_maybe_other and not replace:
            raise _other_data(out, ["files"]) from error
        others = [path.name for path in out.iterdir() if not _is_own(path.name)]
        if others and not replace:
            raise FileExistsError(
                f"{error}: {out} also holds {', '.join(sorted(others))}; move that elsewhere first"
            ) from error
        return found._replace(damage=str(error))
    return found


def _compare(out: Path, source: dict[str, Any], *, replace: bool) -> _Found:
    """Compare the source of the data in a folder, if there is any, with another.

    Args:
        source: with or without the files.
    Raises:
        FileExistsError: if out holds something else, and is not to be replaced.
    """
    nothing = _Found(is_same=False)
    if not out.exists():
        return nothing
    if not out.is_dir():
        raise FileExistsError(f"--out must be a folder: {out} is a file")
    if not any(entries(find(out))):
        return nothing
    try:
        meta = read_object(out / "meta.json")
        found = dict(meta["source"])
    except (OSError, ValueError, KeyError, TypeError):
        raise FileExistsError(
            f"{out} is not empty and holds no prepared data; give another --out"
        ) from None
    if found.get("tokenizer") == source["tokenizer"] == meta.get("tokenizer_hash"):
        # It was given, and data of earlier versions has a size that was given beside it.
        found["vocab_size"] = meta.get("vocab_size")
    if "files" not in source:
        found.pop("files", None)
        found.pop("split", None)
    changed = changed_keys(found, source)
    if "files" in source and "split" not in found:  # earlier versions did not note it
        changed = [key for key in changed if key != "split"] or ["files"]
    if changed == ["files"] and _may_be_the_same(found.get("files"), source["files"]):
        return _Found(is_same=True, is_maybe_other=True)
    if changed and not replace:
        raise _other_data(out, changed)
    return _Found(is_same=not changed)


def _other_data(out: Path, changed: Sequence[str]) -> FileExistsError:
    return FileExistsError(
        f"{out} holds data prepared with another {', '.join(changed)}; give another --out, or "
        "--overwrite to replace it"
    )


def _may_be_the_same(found: Any, wanted: Sequence[Sequence[Any]]) -> bool:
    """Return whether files may have the content of others: they have the same sizes.

    Earlier versions noted name, size and time of a file, or of all files of a folder together.
    """
    try:
        if all(len(one) == 3 and isinstance(one[2], int) for one in found):
            return sum(one[1] for one in found) >= sum(one[1] for one in wanted)
        return len(found) == len(wanted) and all(
            one == other or (len(one) == len(other) == 5 and one[1] == other[1])
            for one, other in zip(found, wanted, strict=True)
        )
    except (TypeError, IndexError):
        return False


def _compare_texts(
    out: Path, texts: Texts, source: dict[str, Any], n_threads: int, *, replace: bool
) -> _Found:
    """Encode texts and compare the ids with those of the data; the caller has locked out.

    Raises:
        FileExistsError: if the texts are others, and the data is not to be replaced.
    """
    data = open_prepared(out)
    tokenizer = Tokenizer.load(data.tokenizer_folder)
    for name in SPLITS:
        if hash_split(texts, name, tokenizer, n_threads) != getattr(data, name).hash:
            if not replace:
                raise _other_data(out, ["text"])
            return _Found(is_same=False)
    meta = read_sealed(out / "meta.json")
    meta["source"] = source
    disk.write_file(out / "meta.json", seal(meta), replace=True)
    return _Found(is_same=True)


def _fill(
    part: resumed.ResumedFolder,
    texts: Texts,
    source: dict[str, Any],
    spool: Spool | None,
    tokenizer: Tokenizer | None,
    n_threads: int | None,
    say: Callable[[str], object],
) -> None:
    """Make all files of a prepared folder, or those that an interrupted call did not make."""
    times = NoteTimes()
    unfinished = go_on(part, source, times, say)
    files = {name: texts.spell(name) for name in SPLITS}
    if spool is not None:
        spooled_at = str(spool.path)
        files = {name: f.replace(spooled_at, "standard input") for name, f in files.items()}
    if unfinished is None:
        part.clear()
        say(f"to train on: {files['train']}; to validate on: {files['val']}")
        if tokenizer is None:
            tokenizer = _train_tokenizer(texts, source["vocab_size"], n_threads, say)
        unfinished = begin(part, source, tokenizer, times)
    splits: dict[str, Facts] = {}
    for name in SPLITS:
        if not unfinished.is_whole(name):
            say(f"encoding {name}.bin")
        splits[name] = unfinished.write_split(texts, name, n_threads)
    for path, now, before in zip(
        texts.files,
        _lasting(_identities(texts, spool)),
        _lasting(source["files"]),
        strict=True,
    ):
        if now != before:
            raise UnusableTextError(
                f"the texts must stay as they are while they are prepared: {path} has changed; "
                "prepare them again when nothing writes to them"
            )
    write_meta(part.folder, unfinished.tokenizer, splits, source)
    if blank := [str(path) for path in texts.files if path in texts.blank]:
        n_files = "1 file" if len(blank) == 1 else f"{len(blank)} files"
        say(f"note: {n_files} without text ({spell_names(blank)})")
    for split_name in SPLITS:
        split = splits[split_name]
        ratio = split["text_bytes"] / split["count"]
        in_files = f" in {len(split['shards'])} files" if "shards" in split else ""
        say(
            f"{split_name}: {split['count']:,} tokens{in_files}, {split['documents']:,} documents, "
            f"{ratio:.2f} bytes a token, from {files[split_name]}"
        )
    if is_small(splits["val"]) and not texts.is_generated:
        say(
            f"warning: there is little to validate on ({splits['val']['documents']:,} documents, "
            f"{splits['val']['count']:,} tokens), so its loss tells little: expected at least "
            f"{LEAST_DOCUMENTS} documents and {LEAST_TOKENS:,} tokens; give more text"
            + ("" if texts.split.val else ", or a larger --val-fraction")
        )


def is_small(val: Facts) -> bool:
    """Return whether a validation set is too small for its loss to tell much."""
    return bool(val["documents"] < LEAST_DOCUMENTS or val["count"] < LEAST_TOKENS)


def _train_tokenizer(
    texts: Texts, vocab_size: int, n_threads: int | None, say: Callable[[str], object]
) -> Tokenizer:
    say(f"training a tokenizer of {vocab_size} entries")
    pieces = cut_pieces(texts.train(), [END_OF_TEXT])
    vocab, merges = train_bpe_from_documents(
        (text for text, _ in pieces), vocab_size, [END_OF_TEXT], n_threads=n_threads
    )
    return Tokenizer(vocab, merges, [END_OF_TEXT])


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


def _is_own(name: str) -> bool:
    return is_leftover(name) or _OWN_NAME.fullmatch(name) is not None


def _refuse_others(out: Path) -> None:
    """Raise a FileExistsError if a folder to be replaced has files that are not of prepare()."""
    if not out.is_dir():
        return
    others = [path.name for path in out.iterdir() if not _is_own(path.name)]
    inner = tokenizer_of(out)
    own = {path.name for path in saved_files(inner)}  # their folder is spelled otherwise
    for path in inner.iterdir() if inner.is_dir() else ():
        if path.name not in own and not is_leftover(path.name):
            others.append(f"{inner.name}/{path.name}")
    if others:
        raise FileExistsError(
            f"{out} also holds {', '.join(sorted(others))}; move that elsewhere first"
        )
