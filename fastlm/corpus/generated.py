"""Writing generated stories to files, which are kept while their arguments are the same."""

import contextlib
import hashlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from fastlm.cli import say
from fastlm.cli.meter import Meter
from fastlm.corpus.documents import END_OF_TEXT
from fastlm.corpus.stories import generate_stories, story
from fastlm.files import disk
from fastlm.files.json_files import read_object_or_empty, to_json
from fastlm.files.paths import open_to_read

# No training file reaches the indices of validation stories: 2^40 stories are a petabyte.
_FIRST_VALID_STORY = 1 << 40
_TEXTS = ("train.txt", "valid.txt")


def make_stories(
    out: Path,
    *,
    seed: int = 0,
    n_bytes: int = 10_000_000,
    valid_bytes: int = 200_000,
    replace: bool = False,
) -> Path:
    """Write train.txt, valid.txt and corpus.json of generated stories; return the folder.

    No story is in both files. Finished files of the same arguments are kept as they are, and a
    missing one is made again.

    Args:
        n_bytes: size of train.txt, exceeded by less than one story.
        valid_bytes: size of valid.txt, likewise.
        replace: replace files of these names that are there already.
    Raises:
        ValueError: if a size is below 1, or the folder has a train.txt, valid.txt or corpus.json
            of something else.
        FileExistsError: if it has stories of other arguments, or a file was changed.
        BlockingIOError: if another process makes them.
    """
    out = Path(out)
    disk.check_folder(out)
    for name, size in (("n_bytes", n_bytes), ("valid_bytes", valid_bytes)):
        if size < 1:
            raise ValueError(f"{name} must be at least 1: got {size}")
    asked = {
        "what": "stories",
        "seed": seed,
        "n_bytes": n_bytes,
        "valid_bytes": valid_bytes,
        # A changed generator makes new files.
        "first_stories": hashlib.sha256(
            "".join(story(seed, index) for index in range(100)).encode()
        ).hexdigest(),
    }
    sizes = {"train.txt": n_bytes, "valid.txt": valid_bytes}
    texts = {
        "train.txt": generate_stories(seed, n_bytes),
        "valid.txt": generate_stories(seed, valid_bytes, first=_FIRST_VALID_STORY),
    }
    card = read_object_or_empty(out / "corpus.json")
    is_asked = asked.items() <= card.items()
    for name in (*texts, "corpus.json"):
        disk.check_new_file(out / name, replace=True)  # all of them, before the first is made
    found = {name: _hash(out / name) for name in texts if (out / name).is_file()}
    if is_asked and found == {name: _made(card, name)[0] for name in texts}:
        say(f"{out}: the stories are there already", file=sys.stderr)
        return out
    if not replace:
        _refuse(out, card, is_asked=is_asked)
    with contextlib.ExitStack() as stack:
        files = {}
        for name, stories in texts.items():
            file = stack.enter_context(disk.whole_file(out / name, replace=name in found))
            files[name] = _write_documents(file, stories, name, sizes[name])
        # corpus.json is written before the texts are renamed: after a crash it identifies both the
        # new texts and those that they replace.
        replaced = {n: sha256 for n, sha256 in found.items() if sha256 != files[n]["sha256"]}
        told = {**asked, "files": files} | ({"replaced": replaced} if replaced else {})
        disk.write_file(out / "corpus.json", to_json(told, indent=1), replace=bool(card) or replace)
    return out


def are_unchanged(out: Path) -> bool:
    """Return whether all files that make_stories would replace are stories that it made."""
    return not _changed(out, read_object_or_empty(out / "corpus.json"))


def _changed(out: Path, card: dict[str, Any]) -> list[str]:
    """Return the names of the files that make_stories did not write, or that were changed since."""
    if card.get("what") != "stories":
        return [name for name in (*_TEXTS, "corpus.json") if os.path.lexists(out / name)]
    there = [name for name in _TEXTS if os.path.lexists(out / name)]
    return [n for n in there if not (out / n).is_file() or _hash(out / n) not in _made(card, n)]


def _made(card: dict[str, Any], name: str) -> list[Any]:
    """Return the hashes of a file that make_stories wrote and of the older one it replaces."""
    file = _object(_object(card.get("files")).get(name))
    return [file.get("sha256"), _object(card.get("replaced")).get(name)]


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _refuse(out: Path, card: dict[str, Any], *, is_asked: bool) -> None:
    """Raise an error if files would be replaced without being asked for."""
    changed = _changed(out, card)
    if changed and card.get("what") != "stories":
        raise ValueError(
            f"{out / changed[0]} exists and is not of generated stories; choose another folder"
        )
    if changed:
        raise FileExistsError(
            f"{out / changed[0]} was changed since the stories were made: move it away, and they "
            "are made again; or prepare it under another name"
        )
    if card and not is_asked:
        raise FileExistsError(
            f"{out} holds stories of other arguments: give another --out, or --overwrite"
        )


def _write_documents(
    file: BinaryIO, documents: Iterable[str], label: str, total: int
) -> dict[str, Any]:
    """Write documents with a separator after each; return size, hash and count."""
    digest = hashlib.sha256()
    n_documents = n_bytes = 0
    with Meter() as meter:
        for document in documents:
            data = f"{document}\n{END_OF_TEXT}\n".encode()
            file.write(data)
            digest.update(data)
            n_documents += 1
            n_bytes += len(data)
            meter.update(label, n_bytes, total, unit="bytes")
    return {"bytes": n_bytes, "sha256": digest.hexdigest(), "documents": n_documents}


def _hash(path: Path) -> str:
    with open_to_read(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
