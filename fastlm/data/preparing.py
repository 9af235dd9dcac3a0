"""Prepare token files from text: a tokenizer, train.bin, val.bin and meta.json in a folder.

While the folder is being made, it holds the work done so far, and a note beside it records the
progress: the same call continues from there.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fastlm.corpus.documents import Errors
from fastlm.corpus.text_files import is_pattern, spell_names
from fastlm.data.prepared import same_text_warning, write_meta
from fastlm.data.reuse import (
    compare_source,
    compare_texts,
    count_files,
    find_data,
    identify_files,
    refuse_others,
    without_change_times,
)
from fastlm.data.splits import SPLITS, VAL_FRACTION, Texts, UnusableTextError
from fastlm.data.spool import STANDARD_INPUT, Format, Spool, spooled
from fastlm.data.unfinished import begin, go_on
from fastlm.files import disk, resumed
from fastlm.files.notes import NoteTimes
from fastlm.files.outputs import check_not_read
from fastlm.files.paths import StrPath, spell
from fastlm.files.tokens import Facts
from fastlm.files.utf8 import check_errors
from fastlm.tokenizer.bpe.blocks import resolve_threads
from fastlm.tokenizer.bpe.errors import UnknownByte
from fastlm.tokenizer.pieces import cut_pieces
from fastlm.tokenizer.tokenizer import END_OF_TEXT, Tokenizer
from fastlm.tokenizer.training import train_bpe_from_documents

LEAST_DOCUMENTS, LEAST_TOKENS = 10, 100_000
"""Below either number, prepare() warns that a validation set is small"""


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
        vocab_size: entries of the tokenizer to train; with a given tokenizer, None or its size.
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
            compare_source(out, settings, replace=replace)  # refuse before anything is read
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
        source = {"files": identify_files(texts, spool), "split": count_files(texts), **settings}
        found = find_data(out, source, replace=replace)
        if not found.is_up_to_date or found.needs_comparison:
            texts.check()  # refuse unusable text before anything is written
            if spool is None:
                stack.enter_context(disk.locked(out))
                found = find_data(out, source, replace=replace)  # another process may have made it
        for note in texts.notes:
            say(note)
        if found.is_up_to_date and found.needs_comparison:
            say(f"the texts have other paths or times than before: comparing them with {out}")
            found = compare_texts(out, texts, source, n_threads, replace=replace)
        if found.is_up_to_date:
            say(f"data in {out} is up to date")
            return out
        if found.damage:
            say(f"made anew: the data in {out} cannot be used: {found.damage}")
        refuse_others(out)
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


def _load(folder: Path) -> Tokenizer:
    tokenizer = Tokenizer.load(folder)
    if END_OF_TEXT not in tokenizer.special_tokens:
        raise ValueError(
            f"the tokenizer in {folder} has no {END_OF_TEXT} token, which parts documents: give "
            f"one that was trained with --special-token '{END_OF_TEXT}'"
        )
    return tokenizer


def _check_vocab_size(
    vocab_size: int | None, folder: Path | None, tokenizer: Tokenizer | None
) -> int:
    """Return the vocabulary size; refuse one that differs from a given tokenizer's."""
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
        without_change_times(identify_files(texts, spool)),
        without_change_times(source["files"]),
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
    if warning := same_text_warning(*(splits[name]["sha256"] for name in SPLITS)):
        say(warning)
    if is_small(splits["val"]) and not texts.is_generated:
        n_documents, n_tokens = (
            sum(splits[name][key] for name in SPLITS) for key in ("documents", "count")
        )
        # At most half of the text is kept for validation.
        has_enough = n_documents >= 2 * LEAST_DOCUMENTS and n_tokens >= 2 * LEAST_TOKENS
        say(
            f"warning: there is little to validate on ({splits['val']['documents']:,} documents, "
            f"{splits['val']['count']:,} tokens), so its loss tells little: expected at least "
            f"{LEAST_DOCUMENTS} documents and {LEAST_TOKENS:,} tokens; give more text"
            + (", or a larger --val-fraction" if has_enough and not texts.split.val else "")
        )


def _train_tokenizer(
    texts: Texts, vocab_size: int, n_threads: int | None, say: Callable[[str], object]
) -> Tokenizer:
    say(f"training a tokenizer of {vocab_size} entries")
    pieces = cut_pieces(texts.train(), [END_OF_TEXT])
    vocab, merges = train_bpe_from_documents(
        (text for text, _ in pieces), vocab_size, [END_OF_TEXT], n_threads=n_threads
    )
    return Tokenizer(vocab, merges, [END_OF_TEXT])


def is_small(val: Facts) -> bool:
    """Return whether a validation set is too small for its loss to tell much."""
    return bool(val["documents"] < LEAST_DOCUMENTS or val["count"] < LEAST_TOKENS)
