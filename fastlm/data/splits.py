"""Training and validation documents of a corpus.

They come in pieces, so that memory does not grow with a long document.
"""

import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from fastlm.corpus.documents import Piece, iter_pieces, text_files


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
