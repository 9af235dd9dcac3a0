"""Keep standard input on disk while it is needed, so that it can be read more than once."""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

from fastlm.files import disk
from fastlm.files.not_text import COMPRESSED

STANDARD_INPUT = Path("-")

Format = Literal["txt", "jsonl", "parquet"]

_BLOCK_BYTES = 1 << 20


class Spool(NamedTuple):
    """The content of a stream, kept in a file."""

    path: Path
    n_bytes: int
    sha256: str

    @property
    def identity(self) -> list[Any]:
        """Return values that identify the stream by its whole content."""
        return ["standard input", self.n_bytes, self.sha256]


@contextlib.contextmanager
def spooled(stream: BinaryIO, out: Path, kind: Format) -> Iterator[Spool]:
    """Write a stream to a file beside out, and remove the file at the end of the with block.

    The file's suffix gives its format and its compression, which is detected from the first bytes.
    If a ValueError of the with block names the file, it is raised with "standard input" instead.
    The caller holds disk.locked(out).

    Raises:
        OSError: if the disk is full; the partial file is removed.
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
    packed = next((suffix for begin, suffix in COMPRESSED.items() if block.startswith(begin)), "")
    path = folder / f"stdin.{kind}{packed}"
    digest, n_bytes = hashlib.sha256(), 0
    try:
        with disk.open_new(path) as out:
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
