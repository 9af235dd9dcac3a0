"""Prepared data in progress, with a note from which a later process continues the work."""

import contextlib
import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastlm.data.splits import BEGIN, Place, Reading, SplitName, Texts
from fastlm.files import disk, resumed
from fastlm.files.notes import End, NoteTimes, write_noted
from fastlm.files.tokens import Facts, TokenWriter, Written
from fastlm.tokenizer.bpe.blocks import Block, document_blocks
from fastlm.tokenizer.folder import KEPT_AS
from fastlm.tokenizer.pieces import cut_pieces
from fastlm.tokenizer.tokenizer import END_OF_TEXT, Tokenizer

NOTE_FORMAT = 3
"""Version of the note; it changes when texts are read in another order or known by other values"""


def tokenizer_of(prepared: Path) -> Path:
    """Return the folder of the tokenizer in a prepared folder."""
    return prepared / KEPT_AS


class SplitProgress(NamedTuple):
    """The progress of encoding a split."""

    place: Place = BEGIN
    n_documents: int = 0
    n_bytes: int = 0
    """UTF-8 bytes of the documents encoded so far, without separators"""
    written: Written | None = None
    is_whole: bool = False


class UnfinishedData:
    """A folder with a tokenizer and with token files, complete or not.

    The note records their progress. It is written periodically, so that a killed process loses at
    most NOTE_SECONDS of work, and also when an error ends the work.
    """

    def __init__(
        self,
        part: resumed.ResumedFolder,
        made_of: dict[str, Any],
        tokenizer: Tokenizer,
        splits: dict[str, tuple[SplitProgress, TokenWriter]],
        times: NoteTimes,
    ) -> None:
        """Take over splits that have been begun.

        Args:
            made_of: the texts and options that determine the files, as JSON values.
        """
        self.tokenizer = tokenizer
        self._part, self._made_of, self._times = part, made_of, times
        self._writers = {name: writer for name, (_, writer) in splits.items()}
        self._progress = {name: progress for name, (progress, _) in splits.items()}

    def __str__(self) -> str:
        counts = [f"{p.n_documents:,} documents of {name}" for name, p in self._progress.items()]
        return ", ".join(counts) or "0 documents"

    def is_whole(self, name: SplitName) -> bool:
        """Return whether a split is encoded completely."""
        return name in self._progress and self._progress[name].is_whole

    def write_split(self, texts: Texts, name: SplitName, n_threads: int | None) -> Facts:
        """Encode a split, or the rest of it, and return its facts for meta.json."""
        begun = self._progress.get(name, SplitProgress())
        if name not in self._writers:
            self._writers[name] = _writer(self._part, self._made_of, self.tokenizer, name)
        writer = self._writers[name]
        with contextlib.closing(writer):
            if not self.is_whole(name):
                if self._times.add(0):
                    self._note()
                begun = self._encode(texts, name, begun, writer, n_threads)
            facts = writer.finish()
        self._progress[name] = begun._replace(written=writer.written)
        return {**facts, "text_bytes": begun.n_bytes, "documents": begun.n_documents}

    def _note(self) -> None:
        for writer in self._writers.values():
            writer.flush()
        self._part.write_note(
            {
                "format": NOTE_FORMAT,
                "made_of": self._made_of,
                "tokenizer_hash": self.tokenizer.hash,
                "splits": {name: p._asdict() for name, p in self._progress.items()},
            }
        )

    def _encode(
        self,
        texts: Texts,
        name: SplitName,
        begun: SplitProgress,
        writer: TokenWriter,
        n_threads: int | None,
    ) -> SplitProgress:
        reading = texts.read(name, begun.place)
        counted = _Counted(reading, self.tokenizer, begun)
        ends: deque[End] = deque()

        def blocks() -> Iterator[Block]:
            for block in document_blocks(counted):
                progress = counted.progress
                ends.append(End(progress.n_bytes, progress))
                yield block

        def keep(end: End, written: Written) -> None:
            self._progress[name] = end.place._replace(written=written)

        # Pieces end at token boundaries, and the end of a document is a piece of its own.
        encoded = self.tokenizer.encode_blocks(blocks(), n_threads=n_threads)
        with contextlib.closing(encoded) as arrays:
            write_noted(
                arrays,
                ends,
                writer,
                self._times,
                text_bytes=begun.n_bytes,
                keep=keep,
                note=self._note,
            )
        return counted.progress._replace(is_whole=True)


class _Counted:
    """Yields pieces as UTF-8, with <|endoftext|> after each document, and counts them."""

    def __init__(self, reading: Reading, tokenizer: Tokenizer, begun: SplitProgress) -> None:
        self._reading, self._cuts = reading, tokenizer.cuts
        self._special_tokens = list(tokenizer.special_tokens)
        self._n_characters = begun.place.characters
        self._is_ended = False
        self._n_documents, self._n_bytes = begun.n_documents, begun.n_bytes

    def __iter__(self) -> Iterator[bytes]:
        end = END_OF_TEXT.encode()
        for text, is_end in cut_pieces(self._reading, self._special_tokens, self._cuts):
            raw = text.encode()
            self._n_bytes += len(raw)
            self._n_characters += len(text)
            self._is_ended = False
            yield raw
            if is_end:
                self._n_documents += 1
                self._n_characters = 0
                self._is_ended = True
                yield end

    @property
    def progress(self) -> SplitProgress:
        """Return the progress up to the end of the latest piece."""
        place = self._reading.place
        if self._is_ended:
            place = place._replace(document=place.document + 1)
        else:
            place = place._replace(characters=self._n_characters)
        return SplitProgress(place, self._n_documents, self._n_bytes)


def hash_split(texts: Texts, name: SplitName, tokenizer: Tokenizer, n_threads: int | None) -> str:
    """Return the SHA-256 of the ids of a split as TokenWriter would write them."""
    digest = hashlib.sha256()
    counted = _Counted(texts.read(name), tokenizer, SplitProgress())
    encoded = tokenizer.encode_blocks(document_blocks(counted), n_threads=n_threads)
    with contextlib.closing(encoded) as arrays:
        for ids in arrays:
            digest.update(np.ascontiguousarray(ids, tokenizer.dtype.newbyteorder("<")).data)
    return digest.hexdigest()


def begin(
    part: resumed.ResumedFolder, made_of: dict[str, Any], tokenizer: Tokenizer, times: NoteTimes
) -> UnfinishedData:
    """Begin in an empty folder by saving the tokenizer there."""
    tokenizer.save(tokenizer_of(part.folder))
    return UnfinishedData(part, made_of, tokenizer, {}, times)


def go_on(
    part: resumed.ResumedFolder,
    made_of: dict[str, Any],
    times: NoteTimes,
    say: Callable[[str], object],
) -> UnfinishedData | None:
    """Take over the work of an interrupted call; return None if there is nothing usable.

    Args:
        say: called with a line that tells whether the work is continued or begun anew.
    """
    if not any(part.folder.iterdir()):
        return None
    note = part.read_note()
    with contextlib.ExitStack() as stack:
        splits: dict[str, tuple[SplitProgress, TokenWriter]] = {}
        try:
            _check(note, made_of)
            tokenizer = Tokenizer.load(tokenizer_of(part.folder))
            if tokenizer.hash != note["tokenizer_hash"]:
                raise ValueError("has another tokenizer than its note says")
            for name, noted in note["splits"].items():
                written = Written(*noted["written"])
                writer = _writer(part, made_of, tokenizer, name, written)
                stack.callback(writer.close)
                kept = {**noted, "place": Place(*noted["place"]), "written": written}
                splits[name] = SplitProgress(**kept), writer
        except (KeyError, TypeError, AttributeError):
            unlike = "has no note that can be read"
        except (ValueError, FileNotFoundError) as error:
            unlike = str(error)
        else:
            stack.pop_all()
            unfinished = UnfinishedData(part, made_of, tokenizer, splits, times)
            say(f"going on where an earlier call stopped: {unfinished} were encoded by then")
            disk.remove_file(part.folder / "meta.json")
            return unfinished
    say(f"begun anew: what an earlier call left in {part.folder} {unlike}")
    return None


def _check(note: dict[str, Any], made_of: dict[str, Any]) -> None:
    if note["format"] != NOTE_FORMAT:
        raise ValueError("is of another version of fastlm")
    changed = changed_keys(note["made_of"], made_of)
    if "files" in changed:
        raise ValueError("is of another text, or the text has changed")
    if changed:
        raise ValueError(f"was begun with another {', '.join(changed)}")


def changed_keys(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Return the keys whose values differ between two descriptions of how data is made."""
    return [key for key in {**wanted, **found} if found.get(key) != wanted.get(key)]


def _writer(
    part: resumed.ResumedFolder,
    made_of: dict[str, Any],
    tokenizer: Tokenizer,
    name: str,
    after: Written | None = None,
) -> TokenWriter:
    return TokenWriter(
        part.folder / f"{name}.bin",
        dtype=tokenizer.dtype.name,
        shard_tokens=made_of.get("shard_tokens"),
        after=after,
    )
