"""Encode a text file to a token file, and continue after an interruption.

While a text is being encoded, FILE.bin.part holds the ids so far, and FILE.bin.part.json says
which text they encode and up to which byte. When the text is encoded, the note gets the facts, the
ids get their name, and FILE.bin.json is written last: whoever reads FILE.bin before that reads the
facts in the note.
"""

from __future__ import annotations

import contextlib
import itertools
import warnings
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fastlm.corpus.text_files import kind_of
from fastlm.files import disk, resumed
from fastlm.files.json_files import read_object_or_empty, to_json
from fastlm.files.not_text import check_no_pointer
from fastlm.files.notes import End, NoteTimes, write_noted
from fastlm.files.outputs import check_not_read
from fastlm.files.paths import (
    check_file,
    check_unchanged,
    identify,
    identify_exactly,
)
from fastlm.files.tokens import (
    FACTS,
    FACTS_OF,
    TokenWriter,
    Written,
    facts_path_of,
    noted_facts,
)
from fastlm.files.utf8 import check_errors
from fastlm.lazy import numpy as np
from fastlm.tokenizer.bpe.blocks import Loadable, resolve_threads
from fastlm.tokenizer.bpe.errors import InvalidUtf8
from fastlm.tokenizer.bpe.patterns import Cuts
from fastlm.tokenizer.text_blocks import JsonTexts, file_blocks

if TYPE_CHECKING:
    from jaxtyping import UInt

    from fastlm.cli.progress import Progress

_NOTED = ("tokenizer_hash", "text", "errors")
_MADE_OF = (*_NOTED, "json")
_NAMED = (*_NOTED, FACTS, FACTS_OF)
_HAS_FACTS = "has_facts"  # in notes of versions that wrote FILE.bin.json before renaming


class BlockEncoder(Protocol):
    """The part of a tokenizer's interface that writing a token file needs."""

    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def hash(self) -> str: ...
    @property
    def special_tokens(self) -> dict[str, int]: ...
    @property
    def cuts(self) -> Cuts: ...
    def encode_blocks(
        self, blocks: Iterable[Loadable], *, n_threads: int | None
    ) -> Generator[UInt[np.ndarray, " n_tokens"], None, None]: ...


def encode_text_file(
    path: Path,
    out: Path,
    tokenizer: BlockEncoder,
    *,
    n_threads: int | None,
    errors: str,
    resume: bool,
    json: JsonTexts,
    replace: bool,
    on_progress: Progress | None,
) -> int:
    """Encode a text file, as documented at Tokenizer.encode_file."""
    check_errors(errors)
    n_threads = resolve_threads(n_threads)
    check_file(path)
    check_no_pointer(path)
    check_encoded(out, [path], replace=replace)
    text = identify(path)
    made_of = {"tokenizer_hash": tokenizer.hash, "text": identify_exactly(path), "errors": errors}
    made_of |= {"json": list(json)} if kind_of(path) == "jsonl" else {}
    finished = _finish(out, replace=replace)
    if resume and finished and all(finished.get(key) == made_of.get(key) for key in _MADE_OF):
        return int(finished[FACTS]["count"])
    with resumed.resumed_file(out, made_of=made_of, replace=replace) as part:
        _remove_early_facts(part, out)
        disk.check_new_file(facts_path_of(out), replace=replace)
        begun = _go_on(part, out, made_of, tokenizer) if resume else None
        if begun is None:
            part.clear()
            begun = 0, TokenWriter(part.part, dtype=tokenizer.dtype.name)
        begin, writer = begun
        with contextlib.closing(writer):
            blocks = file_blocks(
                path,
                list(tokenizer.special_tokens),
                errors,
                begin=begin,
                json=json,
                cuts=tokenizer.cuts,
            )
            try:
                _encode(blocks, begin, writer, part, made_of, tokenizer, n_threads, on_progress)
                check_unchanged(path, text)
            except ValueError as error:
                if not may_be_replaced(error):
                    part.clear()  # only another text can be encoded: nothing is to be gone on with
                raise
            facts = writer.finish()
        del facts["file"]  # the file may be renamed later, together with its facts
        facts |= {"vocab_size": tokenizer.vocab_size, "tokenizer_hash": tokenizer.hash}
        # The rename decides: before it the old pair is whole, after it the new one, as open_single
        # reads the facts of these very ids in the note until they are in their file.
        part.write_note({**part.read_note(), FACTS: facts, FACTS_OF: identify(part.part)})
        disk.check_new_file(facts_path_of(out), replace=replace)
        part.give_name()
        disk.write_file(facts_path_of(out), to_json(facts, indent=0), replace=replace)
    return int(facts["count"])


def may_be_replaced(error: ValueError) -> bool:
    """Return whether errors="replace" goes on where an error ended the encoding of a text."""
    return isinstance(error, InvalidUtf8) or isinstance(error.__cause__, UnicodeDecodeError)


def is_named(out: Path) -> bool:
    """Return whether a process was ended between naming its ids and writing their facts."""
    return noted_facts(out) is not None and resumed.was_named(out, _NAMED)


def _finish(out: Path, *, replace: bool) -> dict[str, Any]:
    """Write the facts that an ended process left in its note; return the note, {} without one."""
    finished: dict[str, Any] = {}

    def write_facts(note: dict[str, Any]) -> None:
        if noted_facts(out) is None:  # another file has taken the name
            return
        raw, facts = to_json(note[FACTS], indent=0), facts_path_of(out)
        if not (facts.is_file() and facts.read_bytes() == raw):
            disk.write_file(facts, raw, replace=replace)
        finished.update(note)

    resumed.finish_named(out, _NAMED, write_facts)
    return finished


def _remove_early_facts(part: resumed.ResumedFile, out: Path) -> None:
    """Remove the facts of an earlier call that ended before its ids got their name."""
    note, facts = part.read_note(), facts_path_of(out)
    if not note.get(_HAS_FACTS) or out.exists():
        return
    if read_object_or_empty(facts).get("tokenizer_hash") == note["tokenizer_hash"]:
        disk.remove_file(facts)
    part.write_note({**note, _HAS_FACTS: False})


def check_encoded(out: Path, inputs: Iterable[Path], *, replace: bool) -> None:
    """Check the files that encode_text_file writes, before slow work.

    Args:
        inputs: all files that are read.
        replace: whether an existing token file is replaced.
    Raises:
        ValueError, OSError: if one of them is read, cannot be made, or exists and is not replaced.
    """
    if not out.parent.is_dir():
        raise FileNotFoundError(f"expected a folder {out.parent} to write in: make it first")
    disk.check_new_file(out, replace=True)
    facts, part = facts_path_of(out), Path(f"{out}.part")
    check_not_read([out, facts, part, facts_path_of(part)], inputs)
    resumed.check_resumed_file(out, made_of=_NOTED, replace=replace or is_named(out))
    is_noted = facts_path_of(part).exists()  # then the facts belong to the note's file
    disk.check_new_file(facts, replace=replace or is_noted)


def _encode(
    blocks: Iterable[Loadable],
    begin: int,
    writer: TokenWriter,
    part: resumed.ResumedFile,
    made_of: dict[str, Any],
    tokenizer: BlockEncoder,
    n_threads: int | None,
    on_progress: Progress | None,
) -> None:
    """Append the ids of a text, beginning at byte begin."""
    ends: deque[End] = deque()
    noted = _note_ends(blocks, made_of["text"][0], ends)
    done: dict[str, Any] = {}

    def keep(end: End, written: Written) -> None:
        nonlocal done
        done = {**made_of, "bytes_read": end.place, "written": written}
        tell(end.text_bytes)

    def note() -> None:
        if done:
            part.write_note(done)

    def tell(n_bytes: int) -> None:
        if on_progress is not None:
            on_progress("bytes", n_bytes)

    # When closed, encode_blocks cancels the work that its threads have not begun.
    with contextlib.closing(tokenizer.encode_blocks(noted, n_threads=n_threads)) as arrays:
        tell(begin)
        times = NoteTimes()
        write_noted(arrays, ends, writer, times, text_bytes=begin, keep=keep, note=note)


def _note_ends(blocks: Iterable[Loadable], n_bytes: int, ends: deque[End]) -> Iterator[Loadable]:
    """Append the end of each block in the text to ends; the next block's offset gives it."""
    for block, following in itertools.pairwise(itertools.chain(blocks, [None])):
        assert block is not None
        end = n_bytes if following is None else following.offset
        ends.append(End(end, end))
        yield block


def _go_on(
    part: resumed.ResumedFile, out: Path, made_of: dict[str, Any], tokenizer: BlockEncoder
) -> tuple[int, TokenWriter] | None:
    """Return the byte to read from and a writer that appends to an earlier part, if usable."""
    if part.n_bytes == 0:
        return None
    note = part.read_note()
    try:
        begin, after = int(note["bytes_read"]), Written(*note["written"])
        # Text that was read strictly reads the same when invalid bytes are replaced.
        same_errors = note["errors"] in ("strict", made_of["errors"])
        if note["tokenizer_hash"] != made_of["tokenizer_hash"]:
            unlike = "is of another tokenizer"
        elif note["text"] != made_of["text"]:
            unlike = "is of another text, or the text has changed"
        elif note.get("json") != made_of.get("json"):
            unlike = "was read as another kind of text"
        elif not same_errors:
            unlike = f"was read with errors={note['errors']}"
        else:
            dtype = tokenizer.dtype.name
            return begin, TokenWriter(part.part, dtype=dtype, after=after)
    except (KeyError, TypeError):
        unlike = "has no note of its progress"
    except ValueError:
        unlike = "does not hold the ids that its note says"
    warnings.warn(f"{out}.part {unlike}: encoding starts afresh", stacklevel=4)
    return None
