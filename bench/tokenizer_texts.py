"""Texts for measuring tokenizers: generated English, repeated documents, adversarial inputs."""

import base64
import random
import string
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path

END_OF_TEXT = "<|endoftext|>"
_PIECE_BYTES = 1 << 16  # longer documents are shuffled in pieces of about this size
_READ_CHARACTERS = 1 << 20

# Inputs that reveal bad growth: no place to cut, one endless pre-token, only special tokens.
REPEATED = {
    "one letter": "a",
    "spaces": " ",
    "newlines": "\n",
    "apostrophes": "'",
    "one emoji": "😀",
    "wide spaces": "\u3000",
    "special tokens": END_OF_TEXT,
    "special token prefixes": END_OF_TEXT[:-3],
    "one character a document": f"a{END_OF_TEXT}",
}
ADVERSARIAL = [*REPEATED, "random letters", "random latin-1"]
HARD = ["one letter", "random letters", "base64", "spaces", "one emoji"]


def adversarial_text(kind: str, n_bytes: int) -> str:
    """About n_bytes of UTF-8 text of a kind in ADVERSARIAL or HARD."""
    rng = random.Random(0)
    if kind == "random letters":
        return "".join(rng.choices(string.ascii_lowercase, k=n_bytes))
    if kind == "base64":
        return base64.b64encode(rng.randbytes(n_bytes * 3 // 4)).decode()
    if kind == "random latin-1":
        # Half of the characters take two bytes.
        return rng.randbytes(n_bytes * 2 // 3).decode("latin-1")
    unit = REPEATED[kind]
    return unit * (n_bytes // len(unit.encode()))


def make_text(n_bytes: int) -> str:
    """English-like sentences of 60,000 made-up words whose frequencies follow Zipf's law."""
    rng = random.Random(0)
    onsets = ["", *"bcdfghlmnprst", "th", "w", "st", "sh"]
    codas = ["", "n", "r", "s"]
    syllables = [onset + vowel + coda for onset in onsets for vowel in "aeiou" for coda in codas]
    words = [
        "".join(rng.choices(syllables, k=rng.choice([1, 1, 2, 2, 3, 4]))) for _ in range(60_000)
    ]
    cumulative = list(accumulate(1 / (rank + 3) for rank in range(len(words))))
    ends = [". ", ". ", "? ", ", it's said. ", ".\n\n", ' "so." ', " in 1987. "]
    ends.append(f".\n{END_OF_TEXT}\n")
    pieces: list[str] = []
    n_made = 0
    while n_made < n_bytes:
        sentence = " ".join(rng.choices(words, cum_weights=cumulative, k=rng.randrange(4, 20)))
        pieces.append(sentence.capitalize() + rng.choice(ends))
        n_made += len(pieces[-1])
    return "".join(pieces)


def read_documents(path: Path) -> Iterator[str]:
    """Yield the documents of a file, which is read in pieces."""
    held: list[str] = []
    with open(path, encoding="utf-8", newline="") as file:
        # A piece ends at a line's end, so never inside a special token.
        while chunk := file.read(_READ_CHARACTERS) + file.readline():
            first, *others = chunk.split(END_OF_TEXT)
            held.append(first)
            for other in others:
                yield "".join(held)
                held = [other]
    yield "".join(held)


def write_start(path: Path, n_bytes: int, out: Path) -> None:
    """Copy the first n_bytes of a text, up to the end of the last whole line."""
    with open(path, "rb") as file:
        data = file.read(n_bytes)
    end = data.rfind(b"\n") + 1
    out.write_bytes(data[:end] if 0 < end < n_bytes else data.decode("utf-8", "ignore").encode())


def write_repeated(paths: Sequence[Path], n_bytes: int, out: Path) -> None:
    """Write the documents of texts, shuffled and repeated, until the file has n_bytes."""
    rng = random.Random(0)
    pieces = [piece for path in paths for piece in _pieces(path.read_bytes())]
    n_written = 0
    with open(out, "wb") as file:
        while n_written < n_bytes:
            rng.shuffle(pieces)
            for piece in pieces:
                n_written += file.write(piece + END_OF_TEXT.encode())
                if n_written >= n_bytes:
                    break


def _pieces(data: bytes) -> Iterator[bytes]:
    for document in data.split(END_OF_TEXT.encode()):
        begin = 0
        while begin < len(document):
            end = document.find(b"\n", begin + _PIECE_BYTES) + 1 or len(document)
            yield document[begin:end]
            begin = end
