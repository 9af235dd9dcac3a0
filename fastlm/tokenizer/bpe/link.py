"""Link an object file to an image: bytes that run at any address, once its slots are filled.

Loading an image takes well under a millisecond, where LLVM's loader takes 70 ms of imports. The
linker knows the object files that build.py makes for Linux on x86-64, and refuses all others.
"""

import struct
from typing import NamedTuple

_ALLOCATED, _EXECUTED = 2, 4  # flags of a section
_PROGRAM, _SYMBOLS, _RELOCATIONS, _UNWINDING = 1, 2, 4, 0x70000001  # types of a section
_UNDEFINED, _RESERVED = 0, 0xFF00  # section numbers of symbols
_ABSOLUTE, _RELATIVE, _GOT, _CALL = 1, 2, (9, 41, 42), 4  # types of a relocation
_JUMP = b"\xff\x25"  # to the address in memory at a distance of 4 bytes
_SLOT_BYTES = 8


class LinkError(ValueError):
    """An object file holds something that the linker does not know."""


class Image(NamedTuple):
    """Machine code that runs at any address, which must be a multiple of 64.

    Attributes:
        names: offset of each function.
        slots: where to write the address of each function outside, 8 bytes each.
        absolute: where to add the address of the image to 8 bytes.
    """

    code: bytes
    names: dict[str, int]
    slots: dict[str, int]
    absolute: list[int]


class _Section(NamedTuple):
    name: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entry_size: int


class _Symbol(NamedTuple):
    name: int
    info: int
    other: int
    section: int
    value: int
    size: int


def link(elf: bytes, names: list[str]) -> Image:
    """Link an ELF object file for x86-64.

    Args:
        names: the functions to be called from outside.
    Raises:
        LinkError: if it is another file, or holds what is not known here.
    """
    try:
        return _link(elf, names)
    except (struct.error, IndexError) as error:
        raise LinkError(f"the object file is damaged: {error}") from None


def _link(elf: bytes, names: list[str]) -> Image:
    if elf[:6] != b"\x7fELF\x02\x01" or struct.unpack_from("<HH", elf, 16) != (1, 62):
        raise LinkError("expected an ELF object file for x86-64")
    (begin,) = struct.unpack_from("<Q", elf, 40)
    size, n_sections = struct.unpack_from("<HH", elf, 58)
    sections = [
        _Section(*struct.unpack_from("<IIQQQQIIQQ", elf, begin + size * i))
        for i in range(n_sections)
    ]
    code = bytearray()
    places: dict[int, int] = {}
    for number, section in enumerate(sections):
        if section.flags & _ALLOCATED and section.type != _UNWINDING and section.size > 0:
            if section.type != _PROGRAM or section.align > 64:
                raise LinkError(f"section {number} is of an unknown kind")
            code += bytes(-len(code) % max(section.align, 1))
            places[number] = len(code)
            code += elf[section.offset : section.offset + section.size]
    symbols, spelled = _read_symbols(elf, sections)
    slots: dict[str, int] = {}
    stubs: dict[str, int] = {}
    absolute: list[int] = []
    for section in sections:
        if section.type != _RELOCATIONS or section.info not in places:
            continue
        for at in range(section.offset, section.offset + section.size, 24):
            offset, information, addend = struct.unpack_from("<QQq", elf, at)
            number, kind = information >> 32, information & 0xFFFFFFFF
            symbol, name = symbols[number], spelled[number]
            place = places[section.info] + offset
            is_outside = symbol.section == _UNDEFINED
            if not is_outside and symbol.section not in places:
                raise LinkError(f"{name!r} lies in no known section")
            if kind == _ABSOLUTE and not is_outside:
                target = places[symbol.section] + symbol.value + addend
                struct.pack_into("<Q", code, place, target)
                absolute.append(place)
            elif kind in (_RELATIVE, _CALL) and not is_outside:
                target = places[symbol.section] + symbol.value + addend
                struct.pack_into("<i", code, place, target - place)
            elif kind == _CALL:
                target = _stub_of(name, code, slots, stubs) + addend
                struct.pack_into("<i", code, place, target - place)
            elif kind in _GOT and is_outside:
                target = _slot_of(name, code, slots) + addend
                struct.pack_into("<i", code, place, target - place)
            else:
                raise LinkError(f"relocation {kind} of {name!r} is not known")
    found = {
        name: places[symbol.section] + symbol.value
        for symbol, name in zip(symbols, spelled, strict=True)
        if name in names and symbol.section in places
    }
    if missing := set(names) - set(found):
        raise LinkError(f"no function {missing.pop()!r}")
    return Image(bytes(code), found, slots, absolute)


def _read_symbols(elf: bytes, sections: list[_Section]) -> tuple[list[_Symbol], list[str]]:
    """Return the symbols of a file and their names."""
    for table in sections:
        if table.type == _SYMBOLS:
            entries = struct.iter_unpack("<IBBHQQ", elf[table.offset : table.offset + table.size])
            symbols = [_Symbol(*entry) for entry in entries]
            begin = sections[table.link].offset
            starts = [begin + symbol.name for symbol in symbols]
            return symbols, [elf[s : elf.index(b"\0", s)].decode() for s in starts]
    raise LinkError("expected a table of symbols")


def _slot_of(name: str, code: bytearray, slots: dict[str, int]) -> int:
    """Return the place of the address of a function outside."""
    if name not in slots:
        code += bytes(-len(code) % _SLOT_BYTES)
        slots[name] = len(code)
        code += bytes(_SLOT_BYTES)
    return slots[name]


def _stub_of(name: str, code: bytearray, slots: dict[str, int], stubs: dict[str, int]) -> int:
    """Return the place of a jump to a function outside, which may be too far away for a call."""
    if name not in stubs:
        slot = _slot_of(name, code, slots)
        code += bytes(-len(code) % _SLOT_BYTES)
        stubs[name] = len(code)
        code += _JUMP + struct.pack("<i", slot - len(code) - 6)
    return stubs[name]
