"""Read the training and validation documents of a corpus, beginning at any place.

Documents are read in pieces, so that memory does not grow with their length.
"""

import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from fastlm.corpus.documents import Piece, iter_pieces, text_files

SplitName = Literal["train", "val"]
SPLITS: tuple[SplitName, ...] = ("train", "val")


class UnusableTextError(ValueError):
    """A text cannot be read, or has changed: work that was done on it is of no use."""


class Place(NamedTuple):
    """A position in the documents of several files, where reading begins or has stopped."""

    file: int = 0
    """Index of the file"""
    n_before: int = 0
    """Number of documents in the files before it"""
    document: int = 0
    """Index of the document in its file"""
    characters: int = 0
    """Characters of the document before the place"""


BEGIN = Place()


class Texts:
    """Training and validation documents of files and folders, which can be read repeatedly.

    A folder with a training and a validation file is split accordingly, and so are several files
    whose names say which split they belong to. All other texts form one text, and a part of it is
    held out.
    """

    def __init__(self, paths: Sequence[Path], *, val_fraction: float, text_field: str) -> None:
        self.paths = list(paths)
        self.text_field = text_field
        self.period = max(2, round(1 / val_fraction))
        self.splits = _find(self.paths)

    @property
    def sources(self) -> list[Path]:
        """Return the given files, or the given folder if it is a single one without a split."""
        if self.splits is not None:
            return [*self.splits[0], *self.splits[1]]
        return self.paths if len(self.paths) == 1 else text_files(self.paths)

    @property
    def files(self) -> list[Path]:
        """Return all files that are read."""
        return text_files(self.sources)

    def check(self) -> None:
        """Refuse unusable text, as far as the beginning of each split shows, before long work.

        Raises:
            FileNotFoundError, ValueError: as iter_pieces does.
        """
        if self.splits is None:
            _ = self._counts  # read now, and kept
            return
        for paths in self.splits:
            next(iter_pieces(paths, text_field=self.text_field))

    def train(self) -> "Reading":
        return self.read("train")

    def val(self) -> "Reading":
        return self.read("val")

    def read(self, name: SplitName, begin: Place = BEGIN) -> "Reading":
        """Return the pieces of one split, beginning at a place that an earlier Reading gave."""
        if self.splits is not None:
            return Reading(self.splits[name == "val"], self.text_field, begin)
        n_documents, n_characters = self._counts
        period = min(self.period, n_documents)
        one = self._cut_of_one(n_characters) if n_documents == 1 else None
        return Reading(self.paths, self.text_field, begin, period, name == "val", one)

    @functools.cached_property
    def _counts(self) -> tuple[int, int]:
        """Return the documents and characters of the first period, which decide the split rule."""
        n_documents = n_characters = 0
        for text, is_end in iter_pieces(self.paths, text_field=self.text_field):
            n_characters += len(text)
            n_documents += is_end
            if n_documents == self.period:
                break
        return n_documents, n_characters

    def _cut_of_one(self, n_characters: int) -> int:
        """Return where to cut a single document: the last line start before its held-out end."""
        end = n_characters - max(1, n_characters // self.period)
        found = begin = 0
        for text, _ in iter_pieces(self.paths, text_field=self.text_field):
            last = text.rfind("\n", 0, max(end - begin, 0))
            found = found if last < 0 else begin + last + 1
            begin += len(text)
            if begin >= end:
                break
        return found or end


class Reading:
    """The pieces of a split; during iteration, place is the start of the current document.

    If documents are held out, every period-th document is for validation; if there is only one
    document, its end is.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        text_field: str,
        begin: Place,
        period: int = 1,
        is_val: bool = True,
        cut: int | None = None,
    ) -> None:
        """Prepare to read; no file is opened yet.

        Args:
            begin: a place in a document of this split, or the document's end.
            cut: index of the character at which a single document is cut into the two splits.
        """
        self._paths, self._text_field = paths, text_field
        self._begin = begin
        self._period, self._is_val, self._cut = period, is_val, cut
        self._file, self._n_before, self._document = begin.file, begin.n_before, 0

    @property
    def place(self) -> Place:
        """Return the start of the document that the latest piece belongs to."""
        return Place(self._file, self._n_before, self._document)

    def __iter__(self) -> Iterator[Piece]:
        """Yield the pieces.

        Raises:
            UnusableTextError: with the message of the ValueError that iter_pieces raises.
        """
        try:
            yield from self._from_begin()
        except ValueError as error:
            raise UnusableTextError(str(error)) from error

    def _from_begin(self) -> Iterator[Piece]:
        pieces = self._held() if self._cut is None else self._of_one(self._cut)
        n_skipped = self._begin.characters
        for text, is_end in pieces:
            yield text[n_skipped:], is_end
            n_skipped = max(n_skipped - len(text), 0)
            if is_end or not n_skipped:
                break
        yield from pieces

    def _all(self) -> Iterator[Piece]:
        """Return all pieces, beginning at the start of the first document to be read."""
        first, n_skipped = self._begin.file, self._begin.document
        pieces = iter_pieces(
            self._paths, text_field=self._text_field, first_file=first, on_file=self._begin_file
        )
        for _, is_end in pieces if n_skipped else ():
            self._document += is_end
            if self._document == n_skipped:
                break
        return pieces

    def _begin_file(self, number: int) -> None:
        self._n_before += self._document
        self._file, self._document = number, 0

    def _held(self) -> Iterator[Piece]:
        last = self._period - 1
        for text, is_end in self._all():
            if ((self._n_before + self._document) % self._period == last) == self._is_val:
                yield text, is_end
            self._document += is_end

    def _of_one(self, cut: int) -> Iterator[Piece]:
        begin = 0
        for text, is_end in self._all():
            at = min(max(cut - begin, 0), len(text))
            begin += len(text)
            if self._is_val and (at < len(text) or is_end):
                yield text[at:], is_end
            elif not self._is_val:
                yield text[:at], begin >= cut
                if begin >= cut:
                    return


def _find(paths: list[Path]) -> tuple[list[Path], list[Path]] | None:
    if len(paths) > 1:
        return split_by_names(text_files(paths))
    found = find_splits(paths[0])
    return None if found is None else ([found[0]], [found[1]])


_TRAIN = re.compile(r"(?<![a-z])train(ing)?(?![a-z])")


_VALID = re.compile(r"(?<![a-z])val(id|idation)?(?![a-z])")


def find_splits(path: str | Path) -> tuple[Path, Path] | None:
    """Find the training and the validation file of a folder by the words in their names.

    One has "train" or "training" in its name, the other "val", "valid" or "validation", as in
    owt_train.txt.gz and owt_valid.txt.gz. Files with other names are ignored.

    Returns:
        (train, valid), or None if path is not a folder or lacks one of them.
    Raises:
        ValueError: if two files match the same word.
    """
    from fastlm.corpus.documents import is_text  # it reads compressed files

    path = Path(path)
    if not path.is_dir():
        return None
    found: list[Path] = []
    for word in (_TRAIN, _VALID):
        fitting = [
            file
            for file in sorted(path.iterdir())
            if is_text(file) and word.search(file.name.lower())
        ]
        if len(fitting) > 1:
            names = " and ".join(file.name for file in fitting[:2])
            raise ValueError(
                f"{path}: expected one training and one validation file, got {names}; "
                f"move or rename one of them, or give them all as '{path}/*'"
            )
        found += fitting
    return (found[0], found[1]) if len(found) == 2 else None


def split_by_names(files: Sequence[Path]) -> tuple[list[Path], list[Path]] | None:
    """Separate training from validation files by the words that find_splits looks for.

    Returns:
        (train, valid), each of any length, or None if no name says train or none says valid.
    Raises:
        ValueError: if both kinds exist and a file's name says neither or both.
    """
    words = [tuple(bool(w.search(f.name.lower())) for w in (_TRAIN, _VALID)) for f in files]
    train, valid = (
        [file for file, word in zip(files, words, strict=True) if word == wanted]
        for wanted in ((True, False), (False, True))
    )
    if not train or not valid:
        return None
    for file, (is_train, is_valid) in zip(files, words, strict=True):
        if is_train == is_valid:
            raise ValueError(
                f"{file}: {train[0].name} and {valid[0].name} are for training and validation by "
                f"their names: expected a name that says which this is, got {file.name}; rename "
                "it or leave it out"
            )
    return train, valid
