# mypy: allow-untyped-defs, allow-untyped-calls
"""The memory that kernels work on: a context of numbers and addresses, and pointers made of them.

A compiled function checks and unpacks every argument it is called with, which takes about 0.1 us
for an array. So a kernel takes one address, that of a context: int64 fields, some of them addresses
of arrays that Python keeps alive (fields.py). Pointers have neither shape nor reference count,
which also makes them several times quicker to compile than arrays. No kernel allocates: it reports
what is too small to Python, which grows it and calls again (status_codes.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from fastlm.tokenizer.bpe.buffers import Buffer, place_of
from fastlm.tokenizer.bpe.compiler import NumberType, Shared, inner, instruction, ir, types
from fastlm.tokenizer.bpe.compiler import numpy as np

if TYPE_CHECKING:
    u8: TypeAlias = Any
    i32: TypeAlias = Any
    i64: TypeAlias = Any
    u64: TypeAlias = Any
    boolean: TypeAlias = Any
    pu8: TypeAlias = Any
    pi32: TypeAlias = Any
    pi64: TypeAlias = Any
    pu64: TypeAlias = Any
else:
    u8, i32, i64, u64, boolean = map(NumberType, ("uint8", "int32", "int64", "uint64", "boolean"))
    pu8, pi32, pi64, pu64 = (NumberType(t.name, is_pointer=True) for t in (u8, i32, i64, u64))


class Context:
    """The fields that one thread's kernels read, and the arrays whose addresses are among them."""

    def __init__(self, n_fields: int) -> None:
        self._memory = Buffer(n_fields, i64)
        self.fields = self._memory.items
        self.address = self._memory.address
        self._arrays: dict[int, Any] = {}

    def link(self, function: Shared) -> None:
        """Let kernels that are given this context call a shared function."""
        self.fields[function.field] = function.address

    def array(self, field: int) -> Any:
        """Return the array whose address is in a field."""
        return self._arrays[field]

    def copy(self) -> "Context":
        """Return a context with fields of its own and the same arrays."""
        other = Context(len(self.fields))
        other.fields[:] = self.fields
        other._arrays = self._arrays.copy()
        return other

    def hold(self, field: int, array: Any) -> None:
        """Put the address of an array (buffers.place_of) into a field and keep the array alive."""
        self._arrays[field] = array
        self.fields[field] = place_of(array)


def _pointer_to(name: str) -> Any:
    """Make an instruction that casts an address to a pointer to items of a type."""

    @instruction
    def cast(_typing_context, address):
        def generate(context, builder, signature, arguments):
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(getattr(types, name))(types.int64), generate

    return cast


uint8_at = _pointer_to("uint8")
uint16_at = _pointer_to("uint16")
int32_at = _pointer_to("int32")
int64_at = _pointer_to("int64")
uint64_at = _pointer_to("uint64")


@instruction
def load_word(_typing_context, pointer, index):
    """Load 8 bytes, little-endian and unaligned, from an index of a uint8 pointer on."""

    def generate(_context, builder, _signature, arguments):
        place = builder.gep(arguments[0], [arguments[1]])
        return builder.load(builder.bitcast(place, ir.IntType(64).as_pointer()), align=1)

    return types.uint64(types.CPointer(types.uint8), types.int64), generate


@inner
def load_tail(text: pu8, index: i64, end: i64) -> u64:
    """Load 8 bytes, little-endian, with zeros from end on, where nothing is read."""
    if index + 8 <= end:
        return load_word(text, index)
    word = np.uint64(0)
    for k in range(end - index):
        word |= np.uint64(text[index + k]) << np.uint64(8 * k)
    return word


@instruction
def store_word(_typing_context, pointer, index, word):
    """Store 8 bytes, little-endian and unaligned, from an index of a uint8 pointer on."""

    def generate(context, builder, _signature, arguments):
        place = builder.gep(arguments[0], [arguments[1]])
        builder.store(arguments[2], builder.bitcast(place, ir.IntType(64).as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(types.CPointer(types.uint8), types.int64, types.uint64), generate
