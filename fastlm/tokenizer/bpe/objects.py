"""Where CPython keeps the content of bytes, str and list objects.

Kernels read and write this memory directly. Every assumption about it is tried when this file is
imported: where the layout of a str that is not ASCII, or of lists and integers, is another, this
file says so, and callers go the ordinary way.
"""

import ctypes
import sys
import sysconfig
from typing import Any

BYTES_HEADER = bytes.__basicsize__ - 1  # bytes of a bytes object before its content
ASCII_HEADER = sys.getsizeof("") - 1  # bytes of an ASCII str before its content
_WIDE_HEADER = sys.getsizeof("\u0100") - 4  # bytes of another str before its characters
_STATE = 2 * ctypes.sizeof(ctypes.c_void_p) + 16  # offset of a str's state: kind, is it compact
ITEMS = 3 * ctypes.sizeof(ctypes.c_void_p)  # offset of the address of a list's items

_REFERENCES = 1 << 60  # more than any program drops
_IMMORTAL = 3 << 30  # from Python 3.12 on: a count that stays
_LISTED = 256  # from so many ids on, CPython is asked for a list without items


def address_of(text: bytes | str) -> int:
    """Address of the content of a bytes object or an ASCII str, valid while the object lives."""
    return id(text) + (BYTES_HEADER if isinstance(text, bytes) else ASCII_HEADER)


def _check_layout() -> None:
    text = "where does the content begin?"
    for given in (text, text.encode()):
        if ctypes.string_at(address_of(given), len(given)) != text.encode():
            raise ImportError(
                "the tokenizer's kernels need CPython: this Python lays out strings differently"
            )


_check_layout()


def _read(text: str, shift: int) -> tuple[int, int] | None:
    """Address and width of a str's characters, if its kind stands at a shift of its state."""
    state = ctypes.c_uint32.from_address(id(text) + _STATE).value >> shift
    width, is_compact = state & 7, state >> 3 & 1
    return (id(text) + _WIDE_HEADER, width) if is_compact and width in (1, 2, 4) else None


def _find_shift() -> int | None:
    probes = {"\xe9t\xe9": "latin-1", "\u0100 a\u0101": "utf-16-le", "\U0001f600 \xe9": "utf-32-le"}
    for shift in (2, 8, 16):
        for width, (probe, encoding) in zip((1, 2, 4), probes.items(), strict=True):
            found = _read(probe, shift)
            if found is None or found[1] != width:
                break
            if ctypes.string_at(found[0], width * len(probe)) != probe.encode(encoding):
                break
        else:
            return shift
    return None


_shift = _find_shift() if sys.byteorder == "little" else None


def wide_characters(text: str) -> tuple[int, int] | None:
    """Address and width in bytes of the characters of a str that is not ASCII.

    None where this Python keeps them in another way.
    """
    return None if _shift is None else _read(text, _shift)


def new_list(n: int) -> list[Any]:
    """Return a list of n items, to be written by a kernel before anything else looks at it."""
    return [0] * n if n < _LISTED else _new_list(n)


def items_of(made: list[Any]) -> int:
    """Address of the items of a list, valid until its length changes."""
    return ctypes.c_uint64.from_address(id(made) + ITEMS).value


def lasting_references(count: int) -> int:
    """Count of references for an object that shall never be freed, given its present count."""
    if sys.version_info >= (3, 12):
        is_lasting = count & 0x80000000
        return count if is_lasting else count & ~0xFFFFFFFF | _IMMORTAL
    return count if count > _REFERENCES // 2 else count + _REFERENCES


def _lists_can_be_written() -> bool:
    """Try, with an integer that nothing else uses, whether lists can be made from addresses."""
    if (
        sys.implementation.name != "cpython"
        or ctypes.sizeof(ctypes.c_void_p) != 8
        or sys.byteorder != "little"
        or sysconfig.get_config_var("Py_GIL_DISABLED")
        or hasattr(sys, "gettotalrefcount")
    ):
        return False
    number = int("123456789")
    count = ctypes.c_int64.from_address(id(number))
    if not 0 < count.value < 8:
        return False
    count.value = lasting_references(count.value)
    before = count.value
    n = 2 * _LISTED
    made = new_list(n)
    (ctypes.c_uint64 * n).from_address(items_of(made))[:] = [id(number)] * n
    if made != [123456789] * n:
        return False
    del made
    dropped = 0 if sys.version_info >= (3, 12) else n
    return before - dropped == count.value


_new_list: Any = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_ssize_t)(
    ("PyList_New", ctypes.pythonapi)
)
CAN_WRITE_LISTS = _lists_can_be_written()
"""Whether new_list, items_of and lasting_references do in this Python as they say"""
