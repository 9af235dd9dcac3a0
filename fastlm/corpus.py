"""Text to train on: stories made here, data sets fetched from their homes, and readers for both.

Level 1. A text is UTF-8 documents with <|endoftext|> between them (.txt) or one JSON object a line
with the document in a field (.jsonl), plain or compressed, one file or a folder of files.

    python -m fastlm.corpus stories --out data/stories
    python -m fastlm.corpus tinystories --out data/tinystories
    python -m fastlm.corpus owt --out data/owt
"""

import codecs
import hashlib
import itertools
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from fastlm import cli
from fastlm.compression import COMPRESSIONS, read_blocks
from fastlm.download import BASE_URL, fetch_dataset
from fastlm.stories import SEPARATOR, generate_stories, story

TEXT_SUFFIXES = (".txt", ".jsonl")
KNOWN_SUFFIXES = tuple(text + packed for text in TEXT_SUFFIXES for packed in ("", *COMPRESSIONS))

Errors = Literal["strict", "replace"]

# Validation stories come from indices that no training file reaches: 2^40 stories are a petabyte.
_FIRST_VALID_STORY = 1 << 40
_BLOCK_BYTES = 1 << 20
_SECONDS_BETWEEN_LINES = 2.0
_TRAIN = re.compile(r"(?<![a-z])train(ing)?(?![a-z])")
_VALID = re.compile(r"(?<![a-z])val(id|idation)?(?![a-z])")


def iter_documents(
    path: str | Path,
    *,
    errors: Errors = "strict",
    text_field: str = "text",
    block_bytes: int = _BLOCK_BYTES,
) -> Iterator[str]:
    """Yield the documents of a text file or of all text files in a folder, in sorted order.

    Documents of .txt files are what stands between separators, not one character changed;
    pieces that are only white space are skipped. Memory grows with one document, not the file.

    >>> Path("two.txt").write_text("one\\n<|endoftext|>\\r\\n two")
    >>> list(iter_documents("two.txt"))
    ['one\\n', '\\r\\n two']

    Args:
        path: a file with a suffix of KNOWN_SUFFIXES, or a folder, searched for them in all depths.
        errors: "replace" puts U+FFFD where the bytes are not UTF-8; "strict" refuses them.
        text_field: where the lines of .jsonl files keep the document.
        block_bytes: how much is read at once; the documents do not depend on it.
    Raises:
        FileNotFoundError: if there is no such path.
        ValueError: bytes that are not UTF-8, lines that are not such JSON, or no documents at all.
    """
    if errors not in ("strict", "replace"):
        raise ValueError(f'errors must be "strict" or "replace": got {errors!r}')
    path = Path(path)
    return _documents(path, _text_files(path), errors, text_field, block_bytes)


def find_splits(path: str | Path) -> tuple[Path, Path] | None:
    """Find the training and the validation file of a folder by the words in their names.

    One has "train" or "training" in its name, the other "val", "valid" or "validation", as in
    owt_train.txt.gz and owt_valid.txt.gz. Files of other names do not matter.

    Returns:
        (train, valid), or None if path is no folder or misses one of them.
    Raises:
        ValueError: if two files may be meant.
    """
    path = Path(path)
    if not path.is_dir():
        return None
    found: list[Path] = []
    for word in (_TRAIN, _VALID):
        fitting = [
            file
            for file in sorted(path.iterdir())
            if _is_text(file) and word.search(file.name.lower())
        ]
        if len(fitting) > 1:
            names = " and ".join(file.name for file in fitting[:2])
            raise ValueError(
                f"{path}: expected one training and one validation file, got {names}; "
                "move or rename one of them"
            )
        found += fitting
    return (found[0], found[1]) if len(found) == 2 else None


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


def _tinystories(out: Path, base_url: str = BASE_URL) -> None:
    """Download TinyStories (GPT-4 part, 2.2 GB).

    Args:
        out: folder for train.txt, valid.txt and sources.json.
        base_url: address of a mirror.
    """
    fetch_dataset("tinystories", out, base_url=base_url, progress=_Progress("tinystories"))


def _owt(out: Path, base_url: str = BASE_URL) -> None:
    """Download and unpack the CS336 sample of OpenWebText (4.5 GB packed, 12 GB unpacked).

    Args:
        out: folder for train.txt, valid.txt and sources.json.
        base_url: address of a mirror.
    """
    fetch_dataset("owt", out, base_url=base_url, progress=_Progress("owt"))


def _text_files(path: Path) -> list[Path]:
    known = ", ".join(KNOWN_SUFFIXES)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if _is_text(file))
        if not files:
            raise ValueError(f"{path}: expected a folder with files ending in {known}, found none")
        return files
    if not path.exists():
        raise FileNotFoundError(f"{path}: expected a text file or a folder of them, found nothing")
    if not path.name.endswith(KNOWN_SUFFIXES):
        raise ValueError(f"{path}: expected a file ending in {known}")
    return [path]


def _is_text(file: Path) -> bool:
    return file.name.endswith(KNOWN_SUFFIXES) and file.is_file()


def _documents(
    path: Path, files: Iterable[Path], errors: Errors, text_field: str, block_bytes: int
) -> Iterator[str]:
    n_documents = 0
    for file in files:
        blocks = read_blocks(file, block_bytes)
        if ".jsonl" in file.suffixes[-2:]:
            pieces = _json_texts(file, blocks, errors, text_field)
        else:
            pieces = _separated(_decoded(file, blocks, errors))
        for piece in pieces:
            if piece and not piece.isspace():
                n_documents += 1
                yield piece
    if not n_documents:
        raise ValueError(f"{path} holds no documents: expected text, got nothing but white space")


def _decoded(file: Path, blocks: Iterable[bytes], errors: Errors) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")(errors)
    n_read = 0
    for block in itertools.chain(blocks, [b""]):
        pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            raise _not_utf8(file, n_read - pending + error.start) from error
        n_read += len(block)
        yield text


def _separated(texts: Iterable[str]) -> Iterator[str]:
    """Split at separators, wherever the borders between the given texts lie."""
    parts: list[str] = []
    tail = ""
    for text in texts:
        first, *later = (tail + text).split(SEPARATOR)
        for piece in later:
            parts.append(first)
            yield "".join(parts)
            parts, first = [], piece
        # The last characters may be the beginning of a separator.
        cut = max(len(first) - len(SEPARATOR) + 1, 0)
        parts.append(first[:cut])
        tail = first[cut:]
    yield "".join([*parts, tail])


def _json_texts(
    file: Path, blocks: Iterable[bytes], errors: Errors, text_field: str
) -> Iterator[str]:
    offset = 0
    for number, line in enumerate(_lines(blocks), start=1):
        try:
            text = line.decode("utf-8", errors)
        except UnicodeDecodeError as error:
            raise _not_utf8(file, offset + error.start) from error
        offset += len(line)
        if text.strip():
            yield _json_text(f"{file}, line {number}", text, errors, text_field)


def _json_text(where: str, line: str, errors: Errors, text_field: str) -> str:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: expected a JSON object, got broken JSON ({error})") from error
    if not isinstance(row, dict) or text_field not in row:
        got = f"the fields {', '.join(row)}" if isinstance(row, dict) else type(row).__name__
        raise ValueError(f"{where}: expected a JSON object with a field {text_field!r}, got {got}")
    text = row[text_field]
    if not isinstance(text, str):
        raise ValueError(
            f"{where}: expected a string in the field {text_field!r}, got {type(text).__name__}"
        )
    if re.search("[\ud800-\udfff]", text) is None:
        return text
    if errors == "strict":
        raise ValueError(f"{where}: the field {text_field!r} has a lone surrogate, no Unicode text")
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def _lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Cut at line feeds and keep them; joined, the lines are the blocks."""
    parts: list[bytes] = []
    for block in blocks:
        first, *later = block.split(b"\n")
        for line in later:
            yield b"".join([*parts, first, b"\n"])
            parts, first = [], line
        parts.append(first)
    yield b"".join(parts)


def _not_utf8(file: Path, offset: int) -> ValueError:
    return ValueError(
        f"{file}: expected UTF-8, got an invalid byte at offset {offset}; "
        'convert the file, or read it with errors="replace"'
    )


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
