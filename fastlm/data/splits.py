"""Training and validation documents of a corpus.

Level 1. They come in pieces, so that memory does not grow with a long document.
"""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

from fastlm.corpus import find_splits, split_by_names
from fastlm.documents import Piece, iter_pieces, text_files


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

    @functools.cached_property
    def _counts(self) -> tuple[int, int]:
        """Documents and characters as far as the first period: they say which rule applies."""
        n_documents = n_characters = 0
        for text, is_end in self._read(self.paths):
            n_characters += len(text)
            n_documents += is_end
            if n_documents == self.period:
                break
        return n_documents, n_characters

    @property
    def files(self) -> list[Path]:
        """What is read: files, or of one folder without a split the folder."""
        if self.splits is not None:
            return [*self.splits[0], *self.splits[1]]
        return self.paths if len(self.paths) == 1 else text_files(self.paths)

    def train(self) -> Iterator[Piece]:
        return self._held(False) if self.splits is None else self._read(self.splits[0])

    def val(self) -> Iterator[Piece]:
        return self._held(True) if self.splits is None else self._read(self.splits[1])

    def _read(self, paths: Sequence[Path]) -> Iterator[Piece]:
        return iter_pieces(paths, text_field=self.text_field)

    def _held(self, wanted: bool) -> Iterator[Piece]:
        """Every period-th document is for validation; of fewer the last one; of one its end."""
        n_documents, n_characters = self._counts
        if n_documents == 1:
            yield from self._of_one(wanted, n_characters)
            return
        period = min(self.period, n_documents)
        i = 0
        for text, is_end in self._read(self.paths):
            if (i % period == period - 1) == wanted:
                yield text, is_end
            i += is_end

    def _of_one(self, wanted: bool, n_characters: int) -> Iterator[Piece]:
        cut = n_characters - max(1, n_characters // self.period)
        cut = self._line_begin(cut) or cut
        begin = 0
        for text, is_end in self._read(self.paths):
            at = min(max(cut - begin, 0), len(text))
            begin += len(text)
            if wanted and (at < len(text) or is_end):
                yield text[at:], is_end
            elif not wanted:
                yield text[:at], begin >= cut
                if begin >= cut:
                    return

    def _line_begin(self, end: int) -> int:
        """Where the last line that begins before end begins; 0 where it is the first."""
        found = begin = 0
        for text, _ in self._read(self.paths):
            last = text.rfind("\n", 0, max(end - begin, 0))
            found = found if last < 0 else begin + last + 1
            begin += len(text)
            if begin >= end:
                break
        return found


def _find(paths: list[Path]) -> tuple[list[Path], list[Path]] | None:
    if len(paths) > 1:
        return split_by_names(text_files(paths))
    found = find_splits(paths[0])
    return None if found is None else ([found[0]], [found[1]])
