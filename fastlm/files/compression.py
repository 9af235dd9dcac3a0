"""Reading .gz, .xz and .zst files in blocks, and decompressing them.

zstandard is imported only when a .zst file is read.
"""

import gzip
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from fastlm.files.disk import whole_file

COMPRESSIONS = (".gz", ".xz", ".zst")
BLOCK_BYTES = 1 << 20

_ZSTD_WINDOW_BYTES = 1 << 31
_ZSTD_READ_BYTES = 1 << 14  # per read: all that it decompresses to is held in memory


def decompress(path: Path, out_path: Path, *, replace: bool = False) -> Path:
    """Decompress a .gz, .xz or .zst file; out_path appears when it is complete and on disk.

    Args:
        replace: replace an existing out_path.
    Raises:
        ValueError: if the file is damaged, cut short, or has another suffix.
        FileExistsError: if out_path exists and replace is not given.
    """
    if path.suffix not in COMPRESSIONS:
        raise ValueError(f"expected a file ending in {', '.join(COMPRESSIONS)}, got {path}")
    with whole_file(out_path, replace=replace) as out:
        for block in read_blocks(path):
            out.write(block)
    return out_path


def read_blocks(path: Path, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Yield a file's bytes, decompressed if its suffix is .gz, .xz or .zst.

    Memory does not grow with the size of the file.

    Raises:
        ValueError: if a compressed file is damaged or cut short.
    """
    if path.suffix == ".zst":
        yield from _zstd_blocks(path, block_bytes)
        return
    with _open(path) as file:
        while True:
            try:
                block = file.read(block_bytes)
            except (gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError) as error:
                raise _damaged(path, error) from error
            if not block:
                return
            yield block


def _open(path: Path) -> BinaryIO | gzip.GzipFile | lzma.LZMAFile:
    if path.suffix == ".gz":
        return gzip.open(path)
    if path.suffix == ".xz":
        return lzma.open(path)
    return open(path, "rb")


def _zstd_blocks(path: Path, block_bytes: int) -> Iterator[bytes]:
    import zstandard

    def new() -> Any:
        # `zstd --long` uses a larger window than the decompressor allows by default.
        return zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES).decompressobj()

    unpack = new()
    inside_frame = False
    unpacked: list[bytes] = []
    n_unpacked = 0
    with open(path, "rb") as file:
        while packed := file.read(min(block_bytes, _ZSTD_READ_BYTES)):
            while packed:
                inside_frame = True
                try:
                    unpacked.append(unpack.decompress(packed))
                except zstandard.ZstdError as error:
                    raise _damaged(path, error) from error
                n_unpacked += len(unpacked[-1])
                packed = b""
                if unpack.eof:
                    packed = unpack.unused_data
                    unpack = new()
                    inside_frame = False
            if n_unpacked >= block_bytes:
                yield b"".join(unpacked)
                unpacked, n_unpacked = [], 0
    if n_unpacked:
        yield b"".join(unpacked)
    if inside_frame:
        raise _damaged(path, EOFError("the last frame has no end"))


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{path}: expected a whole {path.suffix} file, but it is damaged or cut short "
        f"({error}); get it again"
    )
