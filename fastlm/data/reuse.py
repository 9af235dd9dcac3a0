"""Decide whether the prepared data in a folder can be reused.

They can if they were made from the same texts with the same options and are undamaged. If the texts
have other paths or times but the same sizes, the token ids decide.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fastlm.data.prepared import check_tokenizer, open_prepared
from fastlm.data.splits import SPLITS, Texts
from fastlm.data.spool import Spool
from fastlm.data.unfinished import changed_keys, hash_split, tokenizer_of
from fastlm.files import disk
from fastlm.files.destination import entries, find, is_leftover
from fastlm.files.json_files import read_object
from fastlm.files.paths import identify_exactly
from fastlm.files.sealed import read_sealed, seal
from fastlm.tokenizer.folder import saved_files
from fastlm.tokenizer.tokenizer import Tokenizer

# Names that the commands of this package leave in a prepared folder.
_OWN_NAME = re.compile(r"meta\.json|tokenizer|(train|val)(-(\d{5}|[1-9]\d{5,}))?\.bin")


class Found(NamedTuple):
    """The data that a folder holds already, compared with what is to be prepared."""

    is_same: bool
    needs_comparison: bool = False
    """The texts have the same sizes as those of the data, but other paths or times"""
    damage: str = ""
    """Why the data cannot be used; empty if they can"""

    @property
    def is_up_to_date(self) -> bool:
        return self.is_same and not self.damage


def find_data(out: Path, source: dict[str, Any], *, replace: bool) -> Found:
    """Look for data of a source in a folder, and check that they are undamaged.

    Raises:
        FileExistsError: as compare_source does, or if the data are damaged and their folder holds
            other things.
    """
    found = compare_source(out, source, replace=replace)
    if not found.is_same:
        return found
    try:
        data = open_prepared(out)
        data.verify()
        check_tokenizer(data)
    except (FileNotFoundError, ValueError) as error:
        if found.needs_comparison and not replace:
            raise _other_data(out, ["files"]) from error
        others = [path.name for path in out.iterdir() if not _is_own(path.name)]
        if others and not replace:
            raise FileExistsError(
                f"{error}: {out} also holds {', '.join(sorted(others))}; move that elsewhere first"
            ) from error
        return found._replace(damage=str(error))
    return found


def compare_source(out: Path, source: dict[str, Any], *, replace: bool) -> Found:
    """Compare the source of the data in a folder, if there is any, with another.

    Args:
        source: with or without the files.
    Raises:
        FileExistsError: if out holds something else, and is not to be replaced.
    """
    nothing = Found(is_same=False)
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
        # Earlier versions noted a size that was given beside a tokenizer and had no effect.
        found["vocab_size"] = meta.get("vocab_size")
    if "files" not in source:
        found.pop("files", None)
        found.pop("split", None)
    changed = changed_keys(found, source)
    if "files" in source and "split" not in found:  # earlier versions did not note the split
        changed = [key for key in changed if key != "split"] or ["files"]
    if changed == ["files"] and _may_be_the_same(found.get("files"), source["files"]):
        return Found(is_same=True, needs_comparison=True)
    if changed and not replace:
        raise _other_data(out, changed)
    return Found(is_same=not changed)


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


def compare_texts(
    out: Path, texts: Texts, source: dict[str, Any], n_threads: int, *, replace: bool
) -> Found:
    """Encode texts and compare the ids with those of the data; note the texts if they are equal.

    The caller holds disk.locked(out).

    Raises:
        FileExistsError: if the texts are others, and the data is not to be replaced.
    """
    data = open_prepared(out)
    tokenizer = Tokenizer.load(data.tokenizer_folder)
    for name in SPLITS:
        if hash_split(texts, name, tokenizer, n_threads) != getattr(data, name).hash:
            if not replace:
                raise _other_data(out, ["text"])
            return Found(is_same=False)
    meta = read_sealed(out / "meta.json")
    meta["source"] = source
    disk.write_file(out / "meta.json", seal(meta), replace=True)
    return Found(is_same=True)


def _other_data(out: Path, changed: Sequence[str]) -> FileExistsError:
    return FileExistsError(
        f"{out} holds data prepared with another {', '.join(changed)}; give another --out, or "
        "--overwrite to replace it"
    )


def refuse_others(out: Path) -> None:
    """Raise a FileExistsError if a folder to be replaced has files that prepare() did not make."""
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


def _is_own(name: str) -> bool:
    return is_leftover(name) or _OWN_NAME.fullmatch(name) is not None


def identify_files(texts: Texts, spool: Spool | None) -> list[list[Any]]:
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


def without_change_times(identities: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Return identities without the time that changes with a file's mode and links."""
    return [list(identity[:4]) for identity in identities]


def count_files(texts: Texts) -> dict[str, int]:
    """Return how many of texts.files are for training, which come first, and for validation.

    If none are for validation, a part of all is held out.
    """
    return {"train": len(texts.split.train), "val": len(texts.split.val)}
