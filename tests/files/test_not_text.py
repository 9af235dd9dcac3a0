"""Every reader of texts refuses content that is plainly no UTF-8, packed or not."""

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zstandard

from fastlm.cli import run
from fastlm.corpus.documents import iter_documents
from fastlm.data import prepare
from fastlm.files.not_text import checked_blocks, refuse_no_text, refuse_zeros
from fastlm.tokenizer import Tokenizer, train_bpe
from fastlm.tokenizer.__main__ import main
from fastlm.tokenizer.measures import utf8_blocks

ENGLISH = "Once upon a time there was a cat.\n" * 99
RUSSIAN = "\u0416\u0438\u043b-\u0431\u044b\u043b \u043a\u043e\u0442.\n" * 99
HINDI = "\u090f\u0915 \u092c\u093f\u0932\u094d\u0932\u0940 \u0925\u0940\u0964\n" * 99
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def zipped(raw: bytes) -> bytes:
    with zipfile.ZipFile(file := io.BytesIO(), "w") as archive:
        archive.writestr("a.txt", raw)
    return file.getvalue()


def an_array() -> bytes:
    np.save(file := io.BytesIO(), np.arange(99))
    return file.getvalue()


ICONV = {
    "utf-16": "UTF-16",
    "utf-16-le": "UTF-16LE",
    "utf-16-be": "UTF-16BE",
    "utf-32": "UTF-32",
    "utf-32-le": "UTF-32LE",
    "utf-32-be": "UTF-32BE",
}
CONTENTS = {
    **{
        f"{encoding} {name}": (
            text.encode(encoding),
            # Without a mark, iconv has to be told the order of bytes.
            f"{encoding[:6].upper()}: convert it, such as with iconv -f {ICONV[encoding]} -t",
        )
        for encoding in ICONV
        for name, text in {
            "English": ENGLISH, "Russian": RUSSIAN, "Hindi": HINDI, "short": "a cat"
        }.items()
    },
    "gzip": (gzip.compress(ENGLISH.encode()), r"gzip: unpack it, or end its name in \.gz"),
    "xz": (lzma.compress(ENGLISH.encode()), "xz: unpack it"),
    "zstd": (zstandard.compress(ENGLISH.encode()), "zstd: unpack it"),
    "bzip2": (bz2.compress(ENGLISH.encode()), "bzip2: unpack it"),
    "zip": (zipped(ENGLISH.encode()), "a zip archive: unpack it"),
    "Parquet": (b"PAR1\x15\x04\x15\x10" + b"abc" * 99, r"Parquet: end its name in \.parquet"),
    "NumPy": (an_array(), "a NumPy array: give the text"),
    "zeros": (bytes(9999), "bytes of 0: it is damaged or no text"),
    "holes": (b"\0\0\0ab\0" * 99, "bytes of 0: it is damaged or no text"),
    "pairs": (np.arange(999, dtype="<u2").tobytes(), "bytes of 0: it is damaged or no text"),
    "rar": (b"Rar!\x1a\x07\1\0" + b"abc" * 99, "a RAR archive: unpack it"),
    "lz4": (b"\x04\x22\x4d\x18" + b"abc" * 99, "LZ4: unpack it"),
    "PDF": (b"%PDF-1.7\n" + b"abc" * 99, "PDF: extract its text"),
    "Arrow": (b"ARROW1\0\0" + b"abc" * 99, "Arrow: write its texts"),
    "weights": (b"\x28\1\0\0\0\0\0\0" + b'{"a": 1}' * 99, "safetensors: give a text"),
    "pointer": (POINTER, "the pointer of Git LFS, not the file itself: fetch it with git lfs"),
    "annex": (
        b"/annex/objects/SHA256E-s9--4d7a.txt\n",
        "the pointer of git-annex, not the file itself: fetch it with git annex get",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    vocab = {i: bytes([i]) for i in range(256)}
    return Tokenizer(vocab, [], ["<|endoftext|>"])


Reader = Callable[[Path, str, Tokenizer], object]
READERS: dict[str, Reader] = {
    "documents": lambda path, errors, _: list(iter_documents(path, errors=errors)),  # type: ignore[arg-type]
    "documents in small reads": lambda path, errors, _: list(
        iter_documents(path, errors=errors, block_bytes=7)  # type: ignore[arg-type]
    ),
    "training": lambda path, errors, _: train_bpe(path, 300, [], errors=errors),  # type: ignore[arg-type]
    "sample": lambda path, errors, _: train_bpe(path, 300, [], errors=errors, sample_bytes=1),  # type: ignore[arg-type]
    "measures": lambda path, errors, _: list(utf8_blocks(path, [], errors)),  # type: ignore[arg-type]
    "blocks": lambda path, errors, t: list(t.encode_file_blocks(path, errors=errors)),
    "token file": lambda path, errors, t: t.encode_file(path, path.parent / "o", errors=errors),
    "data": lambda path, errors, _: prepare(
        path, path.parent / "d", vocab_size=300, errors=errors  # type: ignore[arg-type]
    ),
}  # fmt: skip
OF_PACKED = ("documents", "training", "measures", "data")
OF_JSON = (*OF_PACKED, "blocks", "token file")


def check_refusal(reader, path, raw, tokenizer, number, message):
    """The reader refuses the content and leaves nothing; every second one is read by "replace"."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=message):
        READERS[reader](path, ("strict", "replace")[number % 2], tokenizer)
    path.unlink()
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_of_texts_refuses_what_is_none(reader, tokenizer, tmp_path):
    for number, (content, told) in enumerate(CONTENTS.values()):
        files = {"a.txt": content}
        if reader in OF_PACKED:
            files["b.txt.gz"] = gzip.compress(content)
        if reader in OF_JSON:
            files["c.jsonl"] = content
        for name, raw in files.items():
            message = rf"{name}(: expected UTF-8, got| is) {told}"
            check_refusal(reader, tmp_path / str(number) / name, raw, tokenizer, number, message)


LATE = {
    "English": ("Once upon a time, once more.\r\n".encode("utf-16-le"), "UTF-16 at byte 5,545"),
    "Russian": ((RUSSIAN[:98] + "\r\n").encode("utf-16-le"), "UTF-16 at byte 5,[0-9]+"),
    "big": (ENGLISH.encode("utf-16-be"), "UTF-16 at byte 5,544"),
    "UTF-32": (ENGLISH.encode("utf-32-le"), "UTF-32 at byte 5,545"),
    "unwritten": (bytes(1 << 13), "bytes of 0 at byte 5,544"),
    "hole": (bytes(1 << 13) + ENGLISH.encode(), "bytes of 0 at byte 5,544"),
    "short": (bytes(300), "bytes of 0 at byte 5,544"),
}


@pytest.mark.parametrize("reader", sorted(READERS.keys() - {"documents in small reads", "sample"}))
def test_what_is_no_text_later_is_refused(reader, tokenizer, tmp_path):
    begin = (ENGLISH + RUSSIAN).encode()
    assert len(begin) == 5544
    for number, (content, told) in enumerate(LATE.values()):
        files = {"a.txt": begin + content}
        if reader in OF_PACKED:
            files["b.txt.gz"] = gzip.compress(begin + content)
        for name, raw in files.items():
            message = rf"{name}: expected UTF-8, got {told}: "
            check_refusal(reader, tmp_path / str(number) / name, raw, tokenizer, number, message)


def test_what_is_no_text_later_is_refused_in_a_sample(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(ENGLISH.encode() * 8 + ENGLISH.encode("utf-16-le") * 2)
    with pytest.raises(ValueError, match="expected UTF-8, got UTF-16 at byte 26,929"):
        train_bpe(path, 300, [], sample_bytes=30_000)


def test_a_command_refuses_it_in_one_line(tmp_path, capsys):
    text = tmp_path / "a.txt.gz"
    text.write_bytes(gzip.compress(POINTER))
    out = tmp_path / "tok"
    with pytest.raises(SystemExit) as stop:
        run(lambda: main(["train", str(text), "--vocab-size", "300", "--out", str(out)]))
    assert stop.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"error: {text} is the pointer of Git LFS, not the file itself: fetch it with git lfs pull"
    )
    assert not out.exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a\0b",
        "\0\0",
        "\ufeffOnce",
        ENGLISH,
        RUSSIAN,
        HINDI,
        "\u732b\u304c\u3044\u307e\u3057\u305f\u3002" * 99,
        "1\t2\t3\t4\n" * 99,
        " a" * 300,
        "a\n" * 300,
        "one\0two three four\0" * 40,
        "the\0cat\0is\0\0red\0" * 900,
        "to\0be\0or\0it\0" * 900,
        "1\x012\x013\x014\n" * 900,
        "a\x1fb\x1fc\x1e" * 900,
        ENGLISH * 9 + "\0" * 99 + ENGLISH * 9,
        "%PDF is a format",
        '(1234567{"',
        "\x1b[31mred\x1b[0m " * 99,
        "PAR1 is the first part.",
        "BZh9 and PK are names",
        "version 2 of https://git-lfs.github.com/spec/v1\n",
        "<!doctype html><p>A page is a text that somebody may want to read.",
        "\ud7a4\ue000\U0010ffff" * 50,
    ],
)
def test_what_may_be_text_is_read(text):
    raw = text.encode("utf-8", "surrogatepass")
    refuse_no_text("a.txt", raw)
    refuse_zeros("a.txt", raw, 0)
    for n in (1, 600, 10_000):
        blocks = [raw[i : i + n] for i in range(0, len(raw), n)]
        assert list(checked_blocks("a.txt", blocks)) == blocks
