"""Text to train on: stories made here, data sets fetched, and which files are for training.

Level 1. A text is files that fastlm.documents reads, one or a folder of them.

    python -m fastlm.corpus stories --out data/stories
    python -m fastlm.corpus tinystories --out data/tinystories
    python -m fastlm.corpus owt --out data/owt
"""

import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastlm import cli
from fastlm.compression import read_blocks
from fastlm.download import BASE_URL, fetch_dataset
from fastlm.stories import SEPARATOR, generate_stories, story

# Validation stories come from indices that no training file reaches: 2^40 stories are a petabyte.
_FIRST_VALID_STORY = 1 << 40
_SECONDS_BETWEEN_LINES = 2.0
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
    from fastlm.documents import is_text  # reads what is compiled

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


def make_stories(
    out: Path, *, seed: int = 0, n_bytes: int = 10_000_000, valid_bytes: int = 200_000
) -> Path:
    """Write train.txt, valid.txt and corpus.json of generated stories; return the folder.

    No story is in both files. Finished files of the same arguments are kept as they are.

    Args:
        n_bytes: size of train.txt, passed by less than one story; valid_bytes likewise.
    Raises:
        ValueError: sizes below 1, or a folder whose train.txt or valid.txt are not such stories.
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
        # Another edition of the generator makes the files anew.
        "first_stories": hashlib.sha256(
            "".join(story(seed, index) for index in range(100)).encode()
        ).hexdigest(),
    }
    texts = {
        "train.txt": generate_stories(seed, n_bytes),
        "valid.txt": generate_stories(seed, valid_bytes, first=_FIRST_VALID_STORY),
    }
    card = _read_card(out)
    if asked.items() <= card.items() and _intact(out, card["files"]):
        print(f"{out}: the stories are there already", file=sys.stderr)
        return out
    for name in texts:
        if card.get("what") != "stories" and (out / name).exists():
            raise ValueError(
                f"{out / name} exists and is not of generated stories; choose another folder"
            )
    out.mkdir(parents=True, exist_ok=True)
    files = {
        name: _write_documents(out / (name + ".part"), stories, name)
        for name, stories in texts.items()
    }
    # The card goes first: after a crash between the renames it tells whose the files are.
    _write_atomically(out / "corpus.json", json.dumps({**asked, "files": files}, indent=1) + "\n")
    for name in texts:
        os.replace(out / (name + ".part"), out / name)
    return out


def _stories(
    out: Path, seed: int = 0, n_bytes: int = 10_000_000, valid_bytes: int = 200_000
) -> None:
    """Make children's stories; needs no network.

    Args:
        out: folder for train.txt, valid.txt and corpus.json.
        seed: another seed, other stories.
        n_bytes: size of train.txt.
        valid_bytes: size of valid.txt.
    """
    make_stories(out, seed=seed, n_bytes=n_bytes, valid_bytes=valid_bytes)


def _tinystories(out: Path, base_url: str | None = None) -> None:
    """Download TinyStories (GPT-4 part, 2.2 GB).

    Args:
        out: folder for train.txt, valid.txt and sources.json.
        base_url: address of a mirror, in place of https://huggingface.co/datasets; when not given,
            that in FASTLM_MIRROR, or HF_ENDPOINT with /datasets after it.
    """
    url = _mirror(base_url, os.environ)
    fetch_dataset("tinystories", out, base_url=url, progress=_Progress("tinystories"))


def _owt(out: Path, base_url: str | None = None) -> None:
    """Download and unpack the CS336 sample of OpenWebText (4.5 GB packed, 12 GB unpacked).

    Args:
        out: folder for train.txt, valid.txt and sources.json.
        base_url: address of a mirror, in place of https://huggingface.co/datasets; when not given,
            that in FASTLM_MIRROR, or HF_ENDPOINT with /datasets after it.
    """
    url = _mirror(base_url, os.environ)
    fetch_dataset("owt", out, base_url=url, progress=_Progress("owt"))


def _mirror(base_url: str | None, environment: Mapping[str, str]) -> str:
    """Where data sets come from: the flag, else FASTLM_MIRROR, else HF_ENDPOINT, else their home.

    An empty variable is none.

    Raises:
        ValueError: if it is no address, with where it stands.
    """
    mirror, endpoint = environment.get("FASTLM_MIRROR"), environment.get("HF_ENDPOINT")
    if base_url is not None:
        name, url = "--base-url", base_url
    elif mirror:
        name, url = "FASTLM_MIRROR", mirror
    elif endpoint:
        name, url = "HF_ENDPOINT", endpoint
    else:
        return BASE_URL
    if not re.match("https?://.", url):
        raise ValueError(
            f"{name} must be the http:// or https:// address of a mirror: got {url!r}; mend it, or "
            f"leave it out to download from {BASE_URL}"
        )
    if name == "HF_ENDPOINT":
        url = url.rstrip("/") + "/datasets"
    if name != "--base-url":
        print(f"from {url}, as {name} says", file=sys.stderr)
    return url


def _write_documents(path: Path, documents: Iterable[str], label: str) -> dict[str, Any]:
    """Write documents with a separator after each; return size, hash and number of them."""
    report = _Progress(label)
    digest = hashlib.sha256()
    n_documents = n_bytes = 0
    with open(path, "wb") as file:
        for document in documents:
            data = f"{document}\n{SEPARATOR}\n".encode()
            file.write(data)
            digest.update(data)
            n_documents += 1
            n_bytes += len(data)
            report(n_bytes, None)
        file.flush()
        os.fsync(file.fileno())
    return {"bytes": n_bytes, "sha256": digest.hexdigest(), "documents": n_documents}


def _write_atomically(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    os.replace(part, path)


def _read_card(folder: Path) -> dict[str, Any]:
    try:
        card = json.loads((folder / "corpus.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return card if isinstance(card, dict) else {}


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


class _Progress:
    """Prints how far a long job is, a line every two seconds, on standard error."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.last = time.monotonic()

    def __call__(self, n_done: int, n_total: int | None) -> None:
        now = time.monotonic()
        if now - self.last < _SECONDS_BETWEEN_LINES and n_done != n_total:
            return
        self.last = now
        of = f" of {n_total / 1e6:.1f}" if n_total else ""
        print(f"{self.label}: {n_done / 1e6:.1f}{of} MB", file=sys.stderr)


ARGUMENTS: dict[str, Callable[..., None]] = {
    "stories": _stories,
    "tinystories": _tinystories,
    "owt": _owt,
}


def main(argv: Sequence[str] | None = None) -> None:
    """The command line of fastlm.corpus."""
    cli.run_command(
        ARGUMENTS,
        argv,
        prog=cli.program("corpus"),
        description="Make or download a text to train on: OUT/train.txt and OUT/valid.txt.",
    )


if __name__ == "__main__":
    cli.run(main)
