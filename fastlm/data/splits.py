"""Training and validation documents of a corpus, from any place on.

They come in pieces, so that memory does not grow with a long document.
"""

import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from fastlm.corpus.documents import Piece, iter_pieces, text_files

SplitName = Literal["train", "val"]
SPLITS: tuple[SplitName, ...] = ("train", "val")


class Place(NamedTuple):
    """Where in the documents of several files a reading is to begin, or has come to."""

    file: int = 0
    """number of the file"""
    n_before: int = 0
    """documents in the files before it"""
    document: int = 0
    """number of the document in its file"""
    characters: int = 0
    """of the document that lie before the place"""


BEGIN = Place()


class Texts:
    """Training and validation documents of files and folders, as often as they are asked for.

    One folder with a training and a validation file has that split, and so have several files
    whose names say which they are. All others are one text, of which a part is held out.
    """

    def __init__(self, paths: Sequence[Path], *, val_fraction: float, text_field: str) -> None:
        self.paths = list(paths)
        self.text_field = text_field
        self.period = max(2, round(1 / val_fraction))
        self.splits = _find(self.paths)

    @property
    def sources(self) -> list[Path]:
        """What was given: files, or the folder where it is one without a split."""
        if self.splits is not None:
            return [*self.splits[0], *self.splits[1]]
        return self.paths if len(self.paths) == 1 else text_files(self.paths)

    @property
    def files(self) -> list[Path]:
        """All files that are read."""
        return text_files(self.sources)

    def check(self) -> None:
        """Refuse files without a document, of both splits, before there is any long work.

        Raises:
            FileNotFoundError, ValueError: as iter_pieces.
        """
        for paths in [self.paths] if self.splits is None else self.splits:
            next(iter_pieces(paths, text_field=self.text_field))

    def train(self) -> "Reading":
        return self.read("train")

    def val(self) -> "Reading":
        return self.read("val")

    def read(self, name: SplitName, begin: Place = BEGIN) -> "Reading":
        """The pieces of one split from a place on, of which an earlier Reading told."""
        if self.splits is not None:
            return Reading(self.splits[name == "val"], self.text_field, begin)
        n_documents, n_characters = self._counts
        period = min(self.period, n_documents)
        one = self._cut_of_one(n_characters) if n_documents == 1 else None
        return Reading(self.paths, self.text_field, begin, period, name == "val", one)

    @functools.cached_property
    def _counts(self) -> tuple[int, int]:
        """Documents and characters as far as the first period: they say which rule applies."""
        n_documents = n_characters = 0
        for text, is_end in iter_pieces(self.paths, text_field=self.text_field):
            n_characters += len(text)
            n_documents += is_end
            if n_documents == self.period:
                break
        return n_documents, n_characters

    def _cut_of_one(self, n_characters: int) -> int:
        """Where the only document is cut in two: at the last line that begins before its end."""
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
    """The pieces of a split; while it is iterated over, place is the begin of their document.

    Of held-out documents every period-th is for validation, of a single one the end.
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
        """Nothing is read yet.

        Args:
            begin: a place, or the end, of a document of this split.
            cut: character at which the only document is cut into the two splits.
        """
        self._paths, self._text_field = paths, text_field
        self._begin = begin
        self._period, self._is_val, self._cut = period, is_val, cut
        self._file, self._n_before, self._document = begin.file, begin.n_before, 0

    @property
    def place(self) -> Place:
        """Begin of the document of the piece that came last."""
        return Place(self._file, self._n_before, self._document)

    def __iter__(self) -> Iterator[Piece]:
        pieces = self._held() if self._cut is None else self._of_one(self._cut)
        n_skipped = self._begin.characters
        for text, is_end in pieces:
            yield text[n_skipped:], is_end
            n_skipped = max(n_skipped - len(text), 0)
            if is_end or not n_skipped:
                break
        yield from pieces

    def _all(self) -> Iterator[Piece]:
        """From the begin of the first document on."""
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
    owt_train.txt.gz and owt_valid.txt.gz. Files of other names do not matter.

    Returns:
        (train, valid), or None if path is no folder or misses one of them.
    Raises:
        ValueError: if two files may be meant.
    """
    from fastlm.corpus.documents import is_text  # reads what is compiled

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
    """Tell training from validation files by the words find_splits knows; any number of each.

    Returns:
        (train, valid), or None if no name says train or none says valid.
    Raises:
        ValueError: if there are both, and a file of which the name says neither, or both.
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
