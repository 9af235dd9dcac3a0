"""Standard input kept on disk while it is needed, so that it can be read more than once."""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

from fastlm.files import disk

STANDARD_INPUT = Path("-")

Format = Literal["txt", "jsonl", "parquet"]

_BLOCK_BYTES = 1 << 20
# None of them can begin a text in UTF-8.
_PACKED = {b"\x1f\x8b": ".gz", b"\xfd7zXZ\x00": ".xz", b"\x28\xb5\x2f\xfd": ".zst"}


class Spool(NamedTuple):
    """What a stream gave, as a file."""

    path: Path
    n_bytes: int
    sha256: str

    @property
    def identity(self) -> list[Any]:
        """What tells it from another stream: all of its content."""
        return ["standard input", self.n_bytes, self.sha256]


@contextlib.contextmanager
def spooled(stream: BinaryIO, out: Path, kind: Format) -> Iterator[Spool]:
    """Write a stream to a file beside out, which is removed at the end of the with block.

    The file's suffix says of which kind it is, and how it is compressed: that is seen in its first
    bytes. A ValueError of the with block that names the file names standard input in its place.
    The caller holds disk.locked(out).

    Raises:
        OSError: if the disk takes no more; what it took is removed.
    """
    spool = None
    with disk.scratch_folder(out) as folder:
        try:
            spool = _write(stream, folder, kind)
            yield spool
        except ValueError as error:
            if spool is None or str(spool.path) not in str(error):
                raise
            raise ValueError(str(error).replace(str(spool.path), "standard input")) from error


def _write(stream: BinaryIO, folder: Path, kind: Format) -> Spool:
    block = stream.read(_BLOCK_BYTES)
    packed = next((suffix for magic, suffix in _PACKED.items() if block.startswith(magic)), "")
    path = folder / f"stdin.{kind}{packed}"
    digest, n_bytes = hashlib.sha256(), 0
    try:
        with open(path, "wb") as out:
            while block:
                out.write(block)
                digest.update(block)
                n_bytes += len(block)
                block = stream.read(_BLOCK_BYTES)
    except OSError as error:
        raise OSError(
            f"{folder.parent}: standard input is kept there while it is read, and after "
            f"{n_bytes:,} bytes the disk took no more ({error.strerror}); make room, or give an "
            "--out on a larger disk"
        ) from error
    return Spool(path, n_bytes, digest.hexdigest())
