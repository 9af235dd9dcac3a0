"""Content that is plainly no text in UTF-8, recognised by its first bytes and by its zeros.

All readers of texts, token files and downloads ask here. The content of a compressed file is judged
when it is decompressed.
"""

import codecs
import itertools
import os
import unicodedata
from collections.abc import Iterable, Iterator

from fastlm.files.paths import StrPath, open_to_read

HEAD_BYTES = 512
"""Bytes at the beginning of a content that tell what it is"""

COMPRESSED = {b"\x1f\x8b": ".gz", b"\xfd7zXZ\x00": ".xz", b"\x28\xb5\x2f\xfd": ".zst"}
"""Beginnings of compressed files, which no UTF-8 text has, and the suffixes of such files"""

_POINTERS = {
    b"version https://git-lfs.github.com/spec/": "the pointer of Git LFS",
    b"/annex/objects/": "the pointer of git-annex",
}
_FETCH = {
    "the pointer of Git LFS": "git lfs pull",
    "the pointer of git-annex": "git annex get",
}
_POINTER_BYTES = 1024
_FORMATS = {
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    **{b"BZh%d1AY&SY" % level: "bzip2" for level in range(1, 10)},
    b"PK\x03\x04": "a zip archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a RAR archive",
    b"\x04\x22\x4d\x18": "LZ4",
    b"%PDF-": "PDF",
    b"ARROW1\0\0": "Arrow",
    b"PAR1\x15": "Parquet",
    b"\x93NUMPY": "a NumPy array",
    **_POINTERS,
}
_REMEDIES = {
    "gzip": "unpack it, or end its name in .gz",
    "xz": "unpack it, or end its name in .xz",
    "zstd": "unpack it, or end its name in .zst",
    "a NumPy array": "give the text that it was made of",
    "safetensors": "give a text, not the weights of a model",
    "PDF": "extract its text, such as with pdftotext",
    "Arrow": "write its texts to a .jsonl or .parquet file",
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
_TO_BLANK = bytes(range(0x21))
_SEPARATORS = b"\1\2\3\x1c\x1d\x1e\x1f"
_OTHERS_THAN_HIGH = _SEPARATORS + b"\t\n\f\r" + bytes(range(0x20, 0x100))
_STRETCH_BYTES = 2048
_LEAST_INNER_BYTES = 32
_MANY_ZEROS = 256
_SAFETENSORS_BEGIN = b'\0\0\0\0{"'
"""Bytes 4 to 9: the high half of the size of its description, and the beginning of that"""


def find_format(head: bytes) -> str:
    """Return which other format the first bytes of a file show, an empty string if none."""
    if head[4:10] == _SAFETENSORS_BEGIN:
        return "safetensors"
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
    if head.count(0) >= len(head) // 4:  # every character has one
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
    if what in _FETCH:
        raise _is_pointer(path, what)
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


def refuse_zeros(path: StrPath, block: bytes, offset: int) -> None:
    """Raise a ValueError if a part of a text is UTF-16, UTF-32 or zeros.

    Such a part was written in another encoding, or a download left it unwritten. Texts have few
    zeros, if any, and a block without them costs one search.

    Args:
        block: all of the text from byte offset on, or some of it.
    """
    begin = block.find(0)
    while begin >= 0:
        stretch = block[max(begin - 1, 0) : begin + _STRETCH_BYTES]
        at = f"at byte {offset + begin:,}"
        n_zeros = stretch.count(0)
        inner = stretch[: stretch.rindex(0) + 1]
        # The blanks of a text in UTF-16 have a zero each, and its letters too where they are Latin.
        is_wide = n_zeros >= _LEAST_ZEROS and _LEAST_INNER_BYTES <= len(inner) <= n_zeros * 32
        if is_wide and (encoding := find_encoding(inner)):
            raise ValueError(
                f"{path}: expected UTF-8, got {encoding[:6]} {at}: convert the part that begins "
                "there"
            )
        if n_zeros >= _MANY_ZEROS and _has_zeros(stretch):
            raise ValueError(
                f"{path}: expected UTF-8, got bytes of 0 {at}: it is damaged; get it again"
            )
        begin = block.find(0, begin + _STRETCH_BYTES)


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


def checked_blocks(path: StrPath, blocks: Iterable[bytes], *, offset: int = 0) -> Iterator[bytes]:
    """Yield the blocks of a text; raise what refuse_no_text and refuse_zeros raise.

    Args:
        offset: bytes of the text before the given blocks, which were checked before.
    """
    left = iter(blocks)
    first: list[bytes] = []
    n_bytes = 0
    for block in left if offset == 0 else ():
        first.append(block)
        n_bytes += len(block)
        if n_bytes >= HEAD_BYTES:
            break
    refuse_no_text(path, b"".join(block[:HEAD_BYTES] for block in first))
    for block in itertools.chain(first, left):
        refuse_zeros(path, block, offset)
        offset += len(block)
        yield block


def check_no_pointer(path: StrPath) -> None:
    """Raise a ValueError if a file is what stands for one that Git LFS or git-annex left away.

    Raises:
        OSError: as open_to_read does.
    """
    if os.stat(path).st_size >= _POINTER_BYTES:
        return
    with open_to_read(path) as file:
        what = find_format(file.read(_POINTER_BYTES))
    if what in _FETCH:
        raise _is_pointer(path, what)


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
    white space and separators there, and other control characters among it.
    """
    n_others = len(half.translate(None, _TO_BLANK))
    return n_others * 8 <= len(half) and len(half.translate(None, _OTHERS_THAN_HIGH)) > 0


def _has_zeros(head: bytes) -> bool:
    """Return whether more bytes are 0 than in any text, also in one of words between zeros."""
    n_zeros, n_in_pairs = head.count(0), 2 * head.count(b"\0\0")
    return n_zeros >= _LEAST_ZEROS and max(n_zeros / 3, n_in_pairs / 2) * 8 >= len(head)


def _is_pointer(path: StrPath, what: str) -> ValueError:
    return ValueError(f"{path} is {what}, not the file itself: fetch it with {_FETCH[what]}")
