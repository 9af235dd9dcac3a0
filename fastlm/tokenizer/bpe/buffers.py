"""Buffer that kernels work on, without NumPy, which takes long to import."""

from __future__ import annotations

import array
import ctypes
import mmap
from typing import TYPE_CHECKING, Any

from fastlm.tokenizer.bpe.objects import address_of

if TYPE_CHECKING:
    from fastlm.tokenizer.bpe.compiler import NumberType

_FORMATS = {"uint8": "B", "uint16": "H", "uint32": "I", "int32": "i", "int64": "q", "uint64": "Q"}
_LINE = 64  # bytes of a cache line
_LARGE = 1 << 20  # bytes from which the operating system is asked for memory, which comes as zeros


class Buffer:
    """Zeros of a type, from the begin of a cache line on.

    Attributes:
        items: the numbers, to be read and written.
        address: of the first, valid while the object lives.
    """

    def __init__(self, n: int, kind: NumberType | str) -> None:
        self.kind = kind if isinstance(kind, str) else kind.name
        form: Any = _FORMATS[self.kind]
        n_bytes = n * array.array(form).itemsize
        room: Any
        if n_bytes >= _LARGE:
            room, begin = _pages(n_bytes), 0
            if hasattr(mmap, "MADV_HUGEPAGE"):
                room.madvise(mmap.MADV_HUGEPAGE)
        else:
            room = bytearray(n_bytes + _LINE)
            begin = -_address_of_room(room) % _LINE
        self.address = _address_of_room(room) + begin
        self.items: Any = memoryview(room)[begin : begin + n_bytes].cast(form)

    def __len__(self) -> int:
        return len(self.items)

    def grown(self, n: int) -> Buffer:
        """Return a copy with room for n items."""
        other = Buffer(n, self.kind)
        other.items[: len(self)] = self.items
        return other


def _pages(n_bytes: int) -> mmap.mmap:
    """Memory of this process alone: by default a process that it forks would write to it too."""
    kind: Any = {}
    if hasattr(mmap, "MAP_PRIVATE"):
        kind = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS}
    try:
        return mmap.mmap(-1, n_bytes, **kind)
    except OSError as error:
        raise MemoryError(f"no memory for a buffer of {n_bytes:,} bytes") from error


def _address_of_room(room: Any) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(room))


def place_of(held: Any) -> int:
    """Address of the first item of a Buffer, a part of one, bytes, or an array."""
    if isinstance(held, Buffer):
        return held.address
    if isinstance(held, bytes):
        return address_of(held)
    if isinstance(held, memoryview):
        return _address_of_room(held)
    if isinstance(held, array.array):
        return held.buffer_info()[0]
    assert held.flags.c_contiguous
    return int(held.ctypes.data)


def as_numbers(given: Any, form: str) -> array.array[int]:
    """Return numbers as an array of Python of a type, of arrays with one row or more."""
    if isinstance(given, array.array) and given.typecode == form:
        return given
    flat = given.ravel().tolist() if hasattr(given, "ravel") else given
    return array.array(form, flat)
