"""Read the training and validation documents of texts, beginning at any place.

If the names of the texts do not say which are for validation, a part of their documents is held
out. Documents are read in pieces, so that memory does not grow with their length.
"""

import functools
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, NamedTuple

from fastlm.corpus.documents import Errors, Piece, iter_pieces
from fastlm.corpus.text_files import find_texts, is_description, kind_of, spell_names
from fastlm.data.split_names import all_words_of, split_by_names

SplitName = Literal["train", "val"]
SPLITS: tuple[SplitName, ...] = ("train", "val")

VAL_FRACTION = 0.01
"""Share of the documents that is held out unless another one is asked for."""
LOOKED_AT_CHARACTERS = 1 << 24
"""Characters after which it may be decided that whole documents are held out."""


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


class Cut(NamedTuple):
    """The place from which on the text is held out."""

    document: int
    characters: int
    """Characters of this document before the place"""


class HeldOut(NamedTuple):
    """One of the two parts of a text whose names do not say a split."""

    is_val: bool
    fraction: Fraction
    cut: Cut | None
    """None if whole documents are held out, evenly spaced"""

    def has(self, index: int) -> bool:
        """Return whether a whole document belongs to this part."""
        if self.cut is None:
            return is_held_out(index, self.fraction) == self.is_val
        return (index >= self.cut.document) == self.is_val


class Texts:
    """Training and validation documents of files, folders and patterns, read repeatedly."""

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        val_fraction: float,
        text_field: str = "text",
        errors: Errors = "strict",
        allow_end_of_text: bool = False,
    ) -> None:
        """Find the files.

        Raises:
            FileNotFoundError, OSError, ValueError: as find_texts and split_by_names do.
        """
        found = find_texts(paths)
        self.split = split_by_names(found.files)
        # Exactly what was meant: no float is 3/10.
        self.val_fraction = Fraction(val_fraction).limit_denominator(10**12)
        self.blank: set[Path] = set()
        """Files in which no text was found by now"""
        self._options: dict[str, Any] = {
            "text_field": text_field,
            "errors": errors,
            "allow_end_of_text": allow_end_of_text,
            "are_found": True,
            "on_blank": self.blank.add,
        }
        self.notes = found.notes()
        for left, why in (
            (self.split.test, "for tests, as the names say"),
            (self.split.unnamed, "beside those whose names say training or validation"),
        ):
            if left:
                files = "1 text" if len(left) == 1 else f"{len(left)} texts"
                names = spell_names([str(path) for path in left])
                self.notes.append(f"note: not read: {files} {why} ({names})")
        said = zip(found.files, all_words_of(found.files), strict=True)
        several = {file.path for file, words in said if len(set(words)) > 1}
        if read := [str(path) for path in self.split.train if path in several]:
            texts = "1 text" if len(read) == 1 else f"{len(read)} texts"
            self.notes.append(
                f"note: for training: {texts} whose names say several splits ({spell_names(read)})"
            )
        if self.split.val and val_fraction != VAL_FRACTION:
            self.notes.append("note: --val-fraction has no effect: names say what to validate on")
        if text_field != "text" and {kind_of(path) for path in self.files} == {"txt"}:
            self.notes.append("note: --text-field has no effect: no text is JSON lines or Parquet")

    @property
    def files(self) -> list[Path]:
        """Return all files that are read."""
        return [*self.split.train, *self.split.val]

    @property
    def is_generated(self) -> bool:
        """Whether the texts are the stories of fastlm.corpus, whose size is known to suffice."""
        folders = {path.parent for path in self.files}
        return all(is_description(folder / "corpus.json") for folder in folders)

    def spell(self, name: SplitName) -> str:
        """Return which files serve a split."""
        if self.split.val:
            paths = self.split.val if name == "val" else self.split.train
            return spell_names([str(path) for path in paths])
        from_files = spell_names([str(path) for path in self.split.train])
        if name == "train":
            return from_files
        held = "documents" if self._cut is None else "text, its end"
        return f"{from_files}: {float(self.val_fraction):.4g} of the {held}"

    def check(self) -> None:
        """Refuse unusable text, as far as the beginning of each split shows, before long work.

        Raises:
            FileNotFoundError, ValueError: as iter_pieces does, or if there is too little text.
        """
        if not self.split.val:
            _ = self._cut  # read now, and kept
            return
        for paths in (self.split.train, self.split.val):
            next(iter_pieces(paths, **self._options))

    def train(self) -> "Reading":
        return self.read("train")

    def val(self) -> "Reading":
        return self.read("val")

    def read(self, name: SplitName, begin: Place = BEGIN) -> "Reading":
        """Return the pieces of one split, beginning at a place that an earlier Reading gave."""
        if self.split.val:
            paths = self.split.val if name == "val" else self.split.train
            return Reading(paths, self._options, begin)
        held_out = HeldOut(name == "val", self.val_fraction, self._cut)
        return Reading(self.split.train, self._options, begin, held_out)

    def _pieces(self) -> Iterator[Piece]:
        return iter_pieces(self.split.train, **self._options)

    @functools.cached_property
    def _cut(self) -> Cut | None:
        """Return where to cut texts without a split, or None if whole documents are held out.

        They are, unless there are so few of them, or one is so long, that the splits would have
        shares of the text far from the wanted ones. Then the end of the text is held out.
        """
        fraction = self.val_fraction
        n_documents = n_characters = n_held = n_of_document = 0
        for text, is_end in self._pieces():
            n_of_document += len(text)
            if not is_end:
                continue
            n_characters += n_of_document
            n_held += n_of_document if is_held_out(n_documents, fraction) else 0
            n_documents, n_of_document = n_documents + 1, 0
            if n_characters >= LOOKED_AT_CHARACTERS and _is_near(n_held, n_characters, fraction):
                return None
        if _is_near(n_held, n_characters, fraction):
            return None
        return self._find_cut(n_characters)

    def _find_cut(self, n_characters: int) -> Cut:
        """Return the start of a document, line or word near the held-out end of the text."""
        n_held = max(1, int(self.val_fraction * n_characters))
        end = n_characters - n_held
        if end < 1:
            raise ValueError(
                f"{spell_names([str(path) for path in self.files])}: expected text of which a part "
                "can be held out for validation, got a single character; give more text"
            )
        # Nearer to the beginning, the splits would have other sizes than were asked for.
        low = max(end - 3 * n_held, end // 2)
        found: dict[str, Cut] = {}
        begin = document = n_of_document = 0
        for text, is_end in self._pieces():
            if low < begin <= end and n_of_document == 0:
                found["document"] = Cut(document, 0)
            for kind, mark in (("line", "\n"), ("word", " ")):
                at = text.rfind(mark, max(low - begin, 0), max(end - begin, 0)) + 1
                if at > 0:
                    found[kind] = Cut(document, n_of_document + at)
            if begin <= end:
                found["character"] = Cut(document, n_of_document + end - begin)
            begin, n_of_document = begin + len(text), n_of_document + len(text)
            if begin > end:
                break
            if is_end:
                document, n_of_document = document + 1, 0
        return next(
            found[kind] for kind in ("document", "line", "word", "character") if kind in found
        )


class Reading:
    """The pieces of a split; during iteration, place is the start of the current document."""

    def __init__(
        self,
        paths: Sequence[Path],
        options: dict[str, Any],
        begin: Place,
        held_out: HeldOut | None = None,
    ) -> None:
        """Prepare to read; no file is opened yet.

        Args:
            options: how iter_pieces reads the files.
            begin: a place in a document of this split, or the document's end.
            held_out: which part of the text this split is; None if it is all.
        """
        self._paths, self._options, self._held_out = paths, options, held_out
        self._begin = begin
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
        pieces = self._own()
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
            self._paths, first_file=first, on_file=self._begin_file, **self._options
        )
        for _, is_end in pieces if n_skipped else ():
            self._document += is_end
            if self._document == n_skipped:
                break
        return pieces

    def _begin_file(self, number: int) -> None:
        self._n_before += self._document
        self._file, self._document = number, 0

    def _own(self) -> Iterator[Piece]:
        """Yield the pieces of this split."""
        n_of_document = 0
        for text, is_end in self._all():
            index = self._n_before + self._document
            if self._held_out is None:
                yield text, is_end
            elif self._held_out.cut is None or index != self._held_out.cut.document:
                if self._held_out.has(index):
                    yield text, is_end
                elif not self._held_out.is_val and self._held_out.cut is not None:
                    return  # all that follows is for validation
            else:
                at = min(max(self._held_out.cut.characters - n_of_document, 0), len(text))
                n_of_document += len(text)
                is_cut = n_of_document >= self._held_out.cut.characters
                if self._held_out.is_val:
                    if at < len(text) or is_end:
                        yield text[at:], is_end
                else:
                    if self._held_out.cut.characters:
                        yield text[:at], is_cut
                    if is_cut:
                        return
            self._document += is_end


def is_held_out(index: int, fraction: Fraction) -> bool:
    """Return whether a document is for validation: of the first n, floor(n * fraction) are.

    >>> [index for index in range(10) if is_held_out(index, Fraction("0.3"))]
    [3, 6, 9]
    """
    n, of = fraction.numerator, fraction.denominator  # a Fraction computes slowly
    return (index + 1) * n // of > index * n // of


def _is_near(n_held: int, n_characters: int, fraction: Fraction) -> bool:
    """Return whether held-out documents are about the wanted share of the text."""
    share = Fraction(n_held, max(n_characters, 1))
    return n_held > 0 and fraction / 4 <= share <= min(4 * fraction, (1 + fraction) / 2)
