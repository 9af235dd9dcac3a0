"""Writing generated stories to files, which are kept while their arguments are the same."""

import contextlib
import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from fastlm.cli.meter import Meter
from fastlm.corpus.documents import END_OF_TEXT
from fastlm.corpus.stories import generate_stories, story
from fastlm.files import disk
from fastlm.files.compression import read_blocks
from fastlm.files.json_files import read_object_or_empty, to_json

# No training file reaches the indices of validation stories: 2^40 stories are a petabyte.
_FIRST_VALID_STORY = 1 << 40


def make_stories(
    out: Path, *, seed: int = 0, n_bytes: int = 10_000_000, valid_bytes: int = 200_000
) -> Path:
    """Write train.txt, valid.txt and corpus.json of generated stories; return the folder.

    No story is in both files. Finished files of the same arguments are kept as they are.

    Args:
        n_bytes: size of train.txt, exceeded by less than one story.
        valid_bytes: size of valid.txt, likewise.
    Raises:
        ValueError: if a size is below 1, or the folder has a train.txt, valid.txt or corpus.json
            of something else.
        BlockingIOError: if another process makes them.
    """
    out = Path(out)
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
    if asked.items() <= card.items() and _intact(out, card["files"]):
        print(f"{out}: the stories are there already", file=sys.stderr)
        return out
    is_ours = card.get("what") == "stories"
    for name in (*texts, "corpus.json"):
        if not is_ours and (out / name).exists():
            raise ValueError(
                f"{out / name} exists and is not of generated stories; choose another folder"
            )
    with contextlib.ExitStack() as stack:
        files = {}
        for name, stories in texts.items():
            file = stack.enter_context(disk.whole_file(out / name, replace=is_ours))
            files[name] = _write_documents(file, stories, name, sizes[name])
        # The card is written first: after a crash it identifies files that have no names yet.
        raw = to_json({**asked, "files": files}, indent=1)
        disk.write_file(out / "corpus.json", raw, replace=is_ours)
    return out


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


def _intact(folder: Path, files: dict[str, dict[str, Any]]) -> bool:
    for name, card in files.items():
        if not (folder / name).is_file():
            return False
        digest = hashlib.sha256()
        for block in read_blocks(folder / name):
            digest.update(block)
        if digest.hexdigest() != card["sha256"]:
            return False
    return True
