"""Compressed texts in the forms that compressors write them: many frames, long windows, no text."""

import gzip
import lzma
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import zstandard

from fastlm.corpus.documents import iter_documents
from fastlm.files.compression import decompress, read_blocks

SEPARATOR = "<|endoftext|>"
TEXT = "".join(f"document {i}, né {i * i}{SEPARATOR}" for i in range(3000)).encode()
# A skippable frame, as `zstd --long`, seekable formats and parallel compressors put between others.
SKIPPABLE = (0x184D2A50).to_bytes(4, "little") + (5).to_bytes(4, "little") + b"12345"


def zst(data: bytes, **options: object) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(data)  # type: ignore[arg-type]


def xz(data: bytes) -> bytes:
    """Pack with a small dictionary: the one of the usual preset takes 50 ms to set up."""
    return lzma.compress(data, preset=0)


def in_parts(pack, n_parts: int) -> bytes:  # type: ignore[no-untyped-def]
    step = -(-len(TEXT) // n_parts)
    return b"".join(pack(TEXT[i : i + step]) for i in range(0, len(TEXT), step))


@pytest.mark.parametrize(
    ("suffix", "packed"),
    [
        (".zst", in_parts(zst, 7)),
        (".zst", in_parts(lambda part: zst(part) + SKIPPABLE, 3)),
        (".zst", SKIPPABLE + zst(TEXT) + zst(b"")),
        (".zst", zst(TEXT, write_checksum=True, write_content_size=False)),
        (".gz", in_parts(gzip.compress, 7)),
        (".gz", in_parts(gzip.compress, 2) + bytes(500)),
        (".xz", in_parts(xz, 7)),
        (".xz", in_parts(lambda part: xz(part) + bytes(4), 3) + bytes(80_000)),
        (".xz", in_parts(lambda part: xz(part) + xz(b""), 2)),
        (".xz", lzma.compress(TEXT, lzma.FORMAT_ALONE, preset=0)),
        (".XZ", xz(TEXT)),
        (".Gz", gzip.compress(TEXT)),
        (".ZST", zst(TEXT)),
    ],
    ids=[
        *("frames", "skippable frames", "empty frames", "unsized", "members", "padded members"),
        *("streams", "padded streams", "empty streams", "lzma", "XZ", "Gz", "ZST"),
    ],
)
@pytest.mark.parametrize("block_bytes", [1, 1000, 1 << 20])
def test_files_of_several_parts_are_read_to_their_end(
    tmp_path: Path, suffix: str, packed: bytes, block_bytes: int
) -> None:
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(packed)
    assert b"".join(read_blocks(path, block_bytes)) == TEXT


def test_zst_that_looks_back_far_is_read(tmp_path: Path) -> None:
    """zstd --long=28: beyond the 128 MiB that a decompressor allows by itself."""
    parameters = zstandard.ZstdCompressionParameters.from_level(
        1, window_log=28, write_content_size=False
    )
    pack = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    path = tmp_path / "a.txt.zst"
    path.write_bytes(pack.compress(TEXT) + pack.flush())
    with open(path, "rb") as file:
        assert zstandard.get_frame_parameters(file.read(18)).window_size == 1 << 28
    assert b"".join(read_blocks(path)) == TEXT


def test_much_text_of_few_bytes_comes_in_blocks(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.zst"
    path.write_bytes(zst(b"a" * 100_000_000))
    assert path.stat().st_size < 20_000
    sizes = [len(block) for block in read_blocks(path, 1000)]
    assert sum(sizes) == 100_000_000
    assert max(sizes) < 40_000_000


@pytest.mark.parametrize("kept", [1, 10, -30, -1])
def test_cut_frames_are_one_line_that_names_the_file(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "a.txt.zst"
    last = zst(TEXT)
    path.write_bytes(zst(TEXT) + last[:kept])
    with pytest.raises(ValueError, match=r"a\.txt\.zst: expected a whole \.zst file, but it is"):
        list(iter_documents(path))


@pytest.mark.parametrize("name", ["a.txt.zst", "a.jsonl.zst"])
def test_zst_that_is_none_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(TEXT)
    with pytest.raises(ValueError, match=rf"{name}: expected a whole \.zst file"):
        list(iter_documents(tmp_path / name))


def damaged(pack, at: int) -> bytes:  # type: ignore[no-untyped-def]
    """Two packed texts, with a changed byte at a position of the second."""
    second = bytearray(pack(TEXT))
    second[at] ^= 0xFF
    return bytes(pack(TEXT) + second)


DAMAGED = {
    "empty.gz": b"",
    "empty.xz": b"",
    "empty.zst": b"",
    "header.xz": damaged(xz, 0),
    "flags.xz": damaged(xz, 7),
    "block.xz": damaged(xz, 40),
    "end.xz": damaged(xz, -1),
    "padding.xz": xz(TEXT) + bytes(3),
    "between.xz": xz(TEXT) + bytes(5) + xz(TEXT),
    "cut.xz": xz(TEXT) + xz(TEXT)[:-5],
    "short.xz": xz(TEXT)[:9],
    "rest.xz": xz(TEXT) + b"rest",
    "header.gz": damaged(gzip.compress, 0),
    "block.gz": damaged(gzip.compress, 400),
    "end.gz": damaged(gzip.compress, -5),
    "cut.gz": gzip.compress(TEXT) + gzip.compress(TEXT)[:-5],
    "rest.gz": gzip.compress(TEXT) + b"rest",
    "header.zst": damaged(zst, 0),
    "cut.zst": zst(TEXT) + zst(TEXT)[:-5],
    "padding.zst": zst(TEXT) + bytes(4),
    "rest.zst": zst(TEXT) + b"rest",
    "checksum.zst": zst(TEXT) + zst(TEXT, write_checksum=True)[:-1] + b"x",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_the_usual_programs_refuse_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(DAMAGED[name])
    with pytest.raises(ValueError, match=rf"{name}: expected a whole {path.suffix} file, but"):
        list(read_blocks(path, 1000))
    program = {".gz": "gzip", ".xz": "xz", ".zst": "zstd"}[path.suffix]
    if shutil.which(program):
        done = subprocess.run([program, "-t", path], capture_output=True, check=False)
        assert done.returncode != 0


def test_lzma_has_nothing_after_its_end(tmp_path: Path) -> None:
    packed = lzma.compress(TEXT, lzma.FORMAT_ALONE, preset=0)
    (tmp_path / "a.xz").write_bytes(packed + packed)
    with pytest.raises(ValueError, match=r"a\.xz: expected a whole \.xz file"):
        list(read_blocks(tmp_path / "a.xz"))


@pytest.mark.parametrize("suffix", [".txt", ".gz", ".xz", ".zst"])
def test_a_file_that_changes_while_it_is_read_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    pack = {".gz": gzip.compress, ".xz": xz, ".zst": zst}.get(suffix, bytes)
    path.write_bytes(pack(TEXT))
    changes = [
        lambda: os.utime(path, ns=(0, 0)),
        lambda: shutil.copy2(path, tmp_path / "new") and (tmp_path / "new").replace(path),
    ]
    if suffix == ".txt":  # all changes of size end a compressed file otherwise
        changes += [lambda: path.open("ab").write(b"more"), lambda: os.truncate(path, 2000)]
    for change in changes:
        blocks = read_blocks(path, 1000)
        next(blocks)
        change()
        with pytest.raises(ValueError, match=rf"a{suffix} must stay as it is while it is read"):
            list(blocks)


CONTENT = bytes(range(256)) * 40
PACK = {
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": zst,
}


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("block_bytes", [1, 7, 1 << 20])
@pytest.mark.parametrize("data", [b"", b"x", CONTENT])
def test_compressed_blocks_join_to_the_original(
    suffix: str, block_bytes: int, data: bytes, tmp_path: Path
) -> None:
    path = tmp_path / ("text" + suffix)
    # Members written one after the other are one file to all three programs.
    path.write_bytes(PACK[suffix](data) + PACK[suffix](b"end"))
    assert b"".join(read_blocks(path, block_bytes)) == data + b"end"
    assert decompress(path, tmp_path / "text").read_bytes() == data + b"end"


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("damage", ["cut", "garbage"])
def test_damaged_compressed_files_are_errors(suffix: str, damage: str, tmp_path: Path) -> None:
    path = tmp_path / ("text" + suffix)
    packed = PACK[suffix](CONTENT)
    path.write_bytes(packed[: len(packed) // 2] if damage == "cut" else b"no such format at all")
    with pytest.raises(ValueError, match=f"text{suffix}: expected a whole {suffix} file"):
        decompress(path, tmp_path / "text")
    assert not (tmp_path / "text").exists()


def test_decompressing_another_suffix_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a file ending in .gz, .xz, .zst, got .*a.zip"):
        decompress(tmp_path / "a.zip", tmp_path / "a")
