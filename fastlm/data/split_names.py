"""Separate texts for training from those for validation by the names of files and folders.

Names are read as in data sets of Hugging Face.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from fastlm.corpus.text_files import TextFile, spell_names

Word = Literal["train", "val", "test"]

# The words that Hugging Face's datasets looks for in the names of files and folders.
_WORDS: dict[Word, frozenset[str]] = {
    "train": frozenset(("train", "training")),
    "val": frozenset(("valid", "validation", "val", "dev")),
    "test": frozenset(("test", "testing", "eval", "evaluation")),
}


class NamedSplit(NamedTuple):
    """Text files separated by their names."""

    train: list[Path]
    val: list[Path]
    """Empty if no name says validation: then a part of the training texts is held out."""
    test: list[Path]
    """Texts that are for tests, and therefore not read"""
    unnamed: list[Path]
    """Texts whose names say nothing, beside some that say train and some that say validation"""


def split_by_names(files: Sequence[TextFile]) -> NamedSplit:
    """Separate text files by the words in their names and in those of their folders.

    A word of a folder goes before that of the file. Between two words are no letters:
    owt_train.txt.gz and validation/0.txt have one, training-set.txt too, constraint.txt has none.
    The folders are those below each given one, and that one itself if several are given that have
    different last names. Those above it count only where one of them says training, as in
    data/train/en and data/val/en. Of several different words, the last one counts if it says test;
    otherwise they say nothing.

    Raises:
        ValueError: if training and validation texts are there, and a file that was given itself is
            neither; if texts of a folder or a pattern are all for validation or tests.
    """
    words = _words_of(files)
    of: dict[Word | None, list[Path]] = {"train": [], "val": [], "test": [], None: []}
    for file, word in zip(files, words, strict=True):
        of[word].append(file.path)
    train, val, test, unnamed = of["train"], of["val"], of["test"], of[None]
    if train and val:
        for file, word in zip(files, words, strict=True):
            if word is None and file.is_given:
                raise ValueError(
                    f"{file.path}: {train[0].name} and {val[0].name} are for training and "
                    "validation by their names: expected a name that says which this is, got "
                    f"{file.path.name}; rename it or leave it out"
                )
        return NamedSplit(train, val, test, unnamed)
    if unnamed and val:
        return NamedSplit(unnamed, val, test, [])
    if unnamed or train:
        kept = [file.path for file, word in zip(files, words, strict=True) if word != "test"]
        return NamedSplit(kept, [], test, [])
    if all(file.is_given for file in files):
        return NamedSplit(val or test, [], test if val else [], [])
    names = spell_names([str(path) for path in [*val, *test]])
    raise ValueError(
        f"{names}: expected texts to train on, got texts for {'validation' if val else 'tests'} "
        "alone, as their names say; rename them, or give the files themselves"
    )


def _words_of(files: Sequence[TextFile]) -> list[Word | None]:
    """Return the one word that the names of each file say; None if they say none or several."""
    return [
        said[0] if len(set(said)) == 1 else "test" if said[-1:] == ["test"] else None
        for said in all_words_of(files)
    ]


def all_words_of(files: Sequence[TextFile]) -> list[list[Word]]:
    """Return the words that the folders of each file say, or else its own name, in their order."""
    folders = [PurePosixPath(file.name).parts[:-1] for file in files]
    above = [_words_in(parts[: file.n_above]) for file, parts in zip(files, folders, strict=True)]
    below = [_words_in(parts[file.n_above :]) for file, parts in zip(files, folders, strict=True)]
    # Folders above what was given may be anywhere, and be called so by chance.
    is_any_train = any("train" in [*high, *low] for high, low in zip(above, below, strict=True))
    is_train_above = any(
        "train" in high for file, high in zip(files, above, strict=True) if not file.is_given
    )
    found = []
    for file, high, low in zip(files, above, below, strict=True):
        said = [*high, *low] if (is_any_train if file.is_given else is_train_above) else low
        found.append(said or _words_in([PurePosixPath(file.name).name]))
    return found


def _words_in(names: Iterable[str]) -> list[Word]:
    letters = (
        word
        for name in names
        if not name.startswith(".")
        for word in re.findall(r"[^\W\d_]+", name.lower())
    )
    return [word for letter in letters for word, spelled in _WORDS.items() if letter in spelled]
