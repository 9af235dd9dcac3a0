"""Reading .gz, .xz and .zst files in blocks, and decompressing them.

zstandard is imported only when a .zst file is read.
"""

import zlib
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any, BinaryIO

from fastlm.files.disk import whole_file
from fastlm.files.paths import StrPath, check_unchanged, identify, open_to_read

COMPRESSIONS = (".gz", ".xz", ".zst")
BLOCK_BYTES = 1 << 20

_XZ_MAGIC = b"\xfd7zXZ\0"
_XZ_READ_BYTES = 1 << 16
_ZSTD_WINDOW_BYTES = 1 << 31
_ZSTD_READ_BYTES = 1 << 14  # per read: all that it decompresses to is held in memory


def compression_of(path: StrPath) -> str | None:
    """Return .gz, .xz or .zst if a name ends so, in upper or lower case, else None."""
    suffix = PurePath(path).suffix.lower()
    return suffix if suffix in COMPRESSIONS else None


def decompress(path: Path, out_path: Path, *, replace: bool = False) -> Path:
    """Decompress a .gz, .xz or .zst file; out_path appears when it is complete and on disk.

    Args:
        replace: replace an existing out_path.
    Raises:
        ValueError: if the file is damaged, cut short, or has another suffix.
        FileExistsError: if out_path exists and replace is not given.
    """
    if compression_of(path) is None:
        raise ValueError(f"expected a file ending in {', '.join(COMPRESSIONS)}, got {path}")
    with whole_file(out_path, replace=replace) as out:
        for block in read_blocks(path):
            out.write(block)
    return out_path


def read_blocks(path: Path, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Yield a file's bytes, decompressed if its suffix is .gz, .xz or .zst.

    A compressed file may consist of several members, streams or frames. Memory does not grow with
    the size of the file.

    Raises:
        ValueError: if a compressed file is empty, damaged, cut short or followed by something else,
            or if a file changes while it is read.
    """
    import gzip  # here, as few texts are compressed, and a tokenizer reads files too

    seen = identify(path)
    packed = compression_of(path)
    if packed is not None and seen[0] == 0:
        raise _damaged(path, EOFError("it is empty"))
    if packed == ".zst":
        yield from _zstd_blocks(path, block_bytes)
    elif packed == ".xz":
        yield from _xz_blocks(path, block_bytes)
    else:
        with open_to_read(path) as raw, gzip.open(raw) if packed == ".gz" else raw as file:
            while True:
                try:
                    block = file.read(block_bytes)
                except (gzip.BadGzipFile, zlib.error, EOFError) as error:
                    raise _damaged(path, error) from error
                if not block:
                    break
                yield block
    check_unchanged(path, seen)


def _xz_blocks(path: Path, block_bytes: int) -> Iterator[bytes]:
    """Yield the content of all streams, as `xz -dc` does: lzma.open passes over damaged ones."""
    import lzma

    with open_to_read(path) as file:
        packed = file.read(_XZ_READ_BYTES)
        # Like xz, read the older .lzma format by its content; it has one stream.
        is_xz = packed.startswith(_XZ_MAGIC)
        while packed:
            unpack = lzma.LZMADecompressor(lzma.FORMAT_XZ if is_xz else lzma.FORMAT_ALONE)
            while not unpack.eof:
                try:
                    block = unpack.decompress(packed, block_bytes)
                except lzma.LZMAError as error:
                    raise _damaged(path, error) from error
                if block:
                    yield block
                packed = b""
                if unpack.needs_input and not unpack.eof:
                    packed = file.read(_XZ_READ_BYTES)
                    if not packed:
                        raise _damaged(path, EOFError("the last stream has no end"))
            packed = _after_padding(path, unpack.unused_data, file)
            if packed and not is_xz:
                raise _damaged(path, EOFError("something follows its end"))


def _after_padding(path: Path, packed: bytes, file: BinaryIO) -> bytes:
    """Read over the zeros between two streams, of which there are four, or eight, and so on."""
    n_zeros = 0
    while True:
        packed = packed or file.read(_XZ_READ_BYTES)
        rest = packed.lstrip(b"\0")
        n_zeros += len(packed) - len(rest)
        if rest or not packed:
            break
        packed = b""
    if n_zeros % 4:
        raise _damaged(path, EOFError(f"{n_zeros} zero bytes follow a stream"))
    return rest


def _zstd_blocks(path: Path, block_bytes: int) -> Iterator[bytes]:
    import zstandard

    def new() -> Any:
        # `zstd --long` uses a larger window than the decompressor allows by default.
        return zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES).decompressobj()

    unpack = new()
    inside_frame = False
    unpacked: list[bytes] = []
    n_unpacked = 0
    with open_to_read(path) as file:
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
