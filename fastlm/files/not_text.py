"""Content that is plainly no text in UTF-8, recognised by its first bytes.

All readers of texts, token files and downloads ask here. The content of a compressed file is judged
when it is decompressed.
"""

import codecs
import os
import unicodedata
from collections.abc import Iterable, Iterator

from fastlm.files.paths import StrPath, open_to_read

HEAD_BYTES = 512
"""Bytes at the beginning of a content that tell what it is"""

COMPRESSED = {b"\x1f\x8b": ".gz", b"\xfd7zXZ\x00": ".xz", b"\x28\xb5\x2f\xfd": ".zst"}
"""Beginnings of compressed files, which no UTF-8 text has, and the suffixes of such files"""

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_POINTER = "the pointer of Git LFS"
_POINTER_BYTES = 1024
_FORMATS = {
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    **{b"BZh%d1AY&SY" % level: "bzip2" for level in range(1, 10)},
    b"PK\x03\x04": "a zip archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"PAR1\x15": "Parquet",
    b"\x93NUMPY": "a NumPy array",
    _LFS_POINTER: _POINTER,
}
_REMEDIES = {
    "gzip": "unpack it, or end its name in .gz",
    "xz": "unpack it, or end its name in .xz",
    "zstd": "unpack it, or end its name in .zst",
    "a NumPy array": "give the text that it was made of",
    "Parquet": "end its name in .parquet",
}
_PAGES = {
    b"<!doctype html": "a web page",
    b"<html": "a web page",
    b"<head": "a web page",
    b"<body": "a web page",
    b"<!--": "a web page",
    b"<?xml": "a page of XML",
}
_MARKS = {  # that of UTF-32 begins with that of UTF-16
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
_SPACES = "\t\n\f\r"
_LEAST_WIDE_BYTES = 8
_LEAST_ZEROS = 4


def find_format(head: bytes) -> str:
    """Return which other format the first bytes of a file show, an empty string if none."""
    return next((name for begin, name in _FORMATS.items() if head.startswith(begin)), "")


def find_encoding(head: bytes) -> str:
    """Return the UTF-16 or UTF-32 that the first bytes of a text show, as iconv names it.

    >>> find_encoding("Once upon".encode("utf-16")), find_encoding("Once upon".encode("utf-16-be"))
    ('UTF-16', 'UTF-16BE')
    """
    marked = (encoding for mark, encoding in _MARKS.items() if head.startswith(mark))
    if encoding := next(marked, ""):
        return encoding
    if len(head) < _LEAST_WIDE_BYTES:
        return ""
    # Bytes of another kind are no UTF-32, but nearly all are some characters of UTF-16.
    for encoding in ("UTF-32LE", "UTF-32BE"):
        if are_characters(head, encoding):
            return encoding
    for first, encoding in ((1, "UTF-16LE"), (0, "UTF-16BE")):
        if _are_high_bytes(head[first::2]) and are_characters(head, encoding):
            return encoding
    return ""


def refuse_no_text(path: StrPath, head: bytes) -> None:
    """Raise a ValueError if the first HEAD_BYTES of a text show that it is none in UTF-8."""
    head = head[:HEAD_BYTES]
    what = find_format(head)
    if what == _POINTER:
        raise _is_pointer(path)
    if what:
        remedy = _REMEDIES.get(what, "unpack it")
    elif encoding := find_encoding(head):
        what = encoding.removesuffix("LE").removesuffix("BE")
        remedy = f"convert it, such as with iconv -f {encoding} -t UTF-8"
    elif _has_zeros(head):
        what, remedy = "bytes of 0", "it is damaged or no text; get it again"
    else:
        return
    raise ValueError(f"{path}: expected UTF-8, got {what}: {remedy}")


def find_no_data(head: bytes) -> str:
    """Return what a server has sent in the place of a text, an empty string if it may be a text.

    Args:
        head: first HEAD_BYTES of its answer, or more.
    """
    head = head[:HEAD_BYTES]
    begin = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    page = next((page for mark, page in _PAGES.items() if begin.startswith(mark)), "")
    if what := page or find_format(head) or find_encoding(head):
        return what
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # the last character may be cut
    except UnicodeDecodeError:
        return "bytes that are not UTF-8"
    return "bytes of 0" if _has_zeros(head) else ""


def checked_blocks(path: StrPath, blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the blocks of a whole text; raise what refuse_no_text raises before the first."""
    left = iter(blocks)
    first: list[bytes] = []
    n_bytes = 0
    for block in left:
        first.append(block)
        n_bytes += len(block)
        if n_bytes >= HEAD_BYTES:
            break
    refuse_no_text(path, b"".join(block[:HEAD_BYTES] for block in first))
    yield from first
    yield from left


def check_no_pointer(path: StrPath) -> None:
    """Raise a ValueError if a file is what Git LFS puts in the place of one that it did not fetch.

    Raises:
        OSError: as open_to_read does.
    """
    if os.stat(path).st_size >= _POINTER_BYTES:
        return
    with open_to_read(path) as file:
        if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise _is_pointer(path)


def are_characters(head: bytes, encoding: str) -> bool:
    """Return whether the first bytes of a content are nearly all characters of a text.

    The last character may be cut.
    """
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError:
        return False
    n_others = sum(
        not (character.isprintable() or character in _SPACES)
        and unicodedata.category(character) in ("Cc", "Cn", "Co", "Cs")
        for character in text
    )
    return len(text) > 0 and n_others * 32 <= len(text)


def _are_high_bytes(half: bytes) -> bool:
    """Return whether every second byte of a text may be the high one of a letter in UTF-16.

    That of an alphabet is below a blank: 0 in English, 4 in Russian. No text in UTF-8 has only
    white space there, and other control characters among it.
    """
    n_low = sum(byte <= 0x20 for byte in half)
    return n_low * 8 >= len(half) * 7 and any(b < 0x20 and b not in b"\t\n\f\r" for b in half)


def _has_zeros(head: bytes) -> bool:
    """Return whether more bytes are 0 than in any text that holds a few."""
    return head.count(0) >= max(_LEAST_ZEROS, len(head) / 8)


def _is_pointer(path: StrPath) -> ValueError:
    return ValueError(
        f"{path} is the pointer of Git LFS, not the file itself: fetch it with git lfs pull"
    )
