"""Compressed texts in the forms that compressors write them: many frames, long windows, no text."""

import gzip
import lzma
from pathlib import Path

import pytest
import zstandard

from fastlm.corpus.documents import iter_documents
from fastlm.files.compression import read_blocks

SEPARATOR = "<|endoftext|>"
TEXT = "".join(f"document {i}, né {i * i}{SEPARATOR}" for i in range(3000)).encode()
# A skippable frame, as `zstd --long`, seekable formats and parallel compressors put between others.
SKIPPABLE = (0x184D2A50).to_bytes(4, "little") + (5).to_bytes(4, "little") + b"12345"


def zst(data: bytes, **options: object) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(data)  # type: ignore[arg-type]


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
        (".xz", in_parts(lzma.compress, 7)),
    ],
    ids=["frames", "skippable frames", "empty frames", "unsized", "members", "streams"],
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
