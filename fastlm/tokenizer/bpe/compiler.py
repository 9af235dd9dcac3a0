# mypy: allow-untyped-defs, allow-untyped-calls
"""Decorators that mark functions to compile: kernel, inner, shared and instruction.

Nothing is compiled here, and numba is not imported: build.py compiles everything that is marked in
this folder, once on each machine, and machine_code.py keeps the result and loads it.

A kernel takes integers, allocates nothing and returns one integer (a count, a flag or a status
code), so that its machine code depends on nothing but the processor.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastlm.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as numpy
    from llvmlite import ir as ir  # type: ignore[import-untyped]
    from numba import types as types
else:
    # Instructions generate code with them: only build.py calls instructions.
    ir, types = LazyModule("llvmlite.ir"), LazyModule("numba.types")


class Number(int):
    """An integer that compiled code takes for one of a type."""

    type: NumberType


class NumberType:
    """A type in the annotations of compiled functions: a type of numba's, or a pointer to one.

    Called, it makes a number of the type, as NumPy's types do.
    """

    def __init__(self, name: str, *, is_pointer: bool = False) -> None:
        self.name, self.is_pointer = name, is_pointer

    def __call__(self, value: int) -> Number:
        number = Number(value)
        number.type = self
        return number

    @property
    def dtype(self) -> Any:
        """NumPy's type of the same name: arrays can be made of the type itself."""
        return numpy.dtype(self.name)

    def of_numba(self) -> Any:
        """Return numba's type."""
        item = getattr(types, self.name)
        return types.CPointer(item) if self.is_pointer else item

    def of_numpy(self) -> Any:
        """Return NumPy's type."""
        return getattr(import_module("numpy"), self.name)


class _Numpy(LazyModule):
    """NumPy, not imported for the types of constants alone.

    Compiled functions have the real NumPy (build.py).
    """

    uint8, uint16, uint32, uint64, int32, int64 = map(
        NumberType, ("uint8", "uint16", "uint32", "uint64", "int32", "int64")
    )


if not TYPE_CHECKING:
    numpy = _Numpy("numpy")


class _Marked:
    """A function that is compiled."""

    def __init__(self, function: Any) -> None:
        self.function = function
        functools.update_wrapper(self, function)  # type: ignore[arg-type]


class Inner(_Marked):
    """A function that kernels call; its code becomes a part of theirs."""


class Shared(Inner):
    """A function with machine code of its own, which kernels call by its address.

    Args:
        field: field of the context that holds the address.
    """

    def __init__(self, function: Any, field: int) -> None:
        super().__init__(function)
        self.field = field

    @functools.cached_property
    def address(self) -> int:
        """Address of the machine code."""
        from fastlm.tokenizer.bpe import machine_code

        return machine_code.loaded().addresses[name_of(self.function)]


class Either:
    """One of two inner functions; build.py chooses, as only a compiler knows the processor.

    Args:
        condition: says whether it is the first.
    """

    def __init__(self, condition: Callable[[], bool], first: Any, second: Any) -> None:
        self.condition, self.first, self.second = condition, first, second

    def chosen(self) -> Any:
        """Return the function to compile."""
        return self.first if self.condition() else self.second


class Instruction(_Marked):
    """A function that generates LLVM's code of a call, as numba.extending.intrinsic takes it."""


class Kernel(_Marked):
    """A compiled function of integers that Python calls."""

    @functools.cached_property
    def compiled(self) -> Callable[..., int]:
        """The compiled function itself: calling it saves the time of calling __call__."""
        from fastlm.tokenizer.bpe import machine_code

        return machine_code.loaded().functions[name_of(self.function)]

    def __call__(self, *arguments: int) -> int:
        return self.compiled(*arguments)


KERNELS: list[Kernel] = []
"""The kernels of all imported files"""
SHARED: list[Shared] = []
"""The shared functions of all imported files"""


def name_of(function: Any) -> str:
    """Return the name under which machine code is kept: file and function."""
    return f"{function.__module__.rpartition('.')[2]}.{function.__name__}"


def kernel(function: Any) -> Any:
    """Let Python call a function of integers, which returns one; it holds no lock of Python's."""
    KERNELS.append(Kernel(function))
    return KERNELS[-1]


def inner(function: Any) -> Any:
    """Let kernels call a function; its annotations are the types of its arguments and result.

    numba.njit would optimize the function and generate machine code for it alone, and again inside
    each caller, which takes most of the time of compiling. build.py puts it into the code of the
    kernel that calls it, where it is optimized once, together with the rest.
    """
    return Inner(function)


def shared(field: int) -> Callable[[Any], Any]:
    """Let several kernels call a function that is compiled once for all of them.

    Its first argument is the context, and it returns one number. Kernels call it by its address,
    which stands in a field of the context (Context.link).
    """

    def decorate(function: Any) -> Any:
        SHARED.append(Shared(function, field))
        return SHARED[-1]

    return decorate


def either(condition: Callable[[], bool], first: Any, second: Any) -> Any:
    """Let kernels call one of two inner functions, the first if the compiler's condition holds."""
    return Either(condition, first, second)


def instruction(function: Any) -> Any:
    """Let kernels call an instruction; the function is one for numba.extending.intrinsic."""
    return Instruction(function)


@instruction
def count_trailing_zeros(_typing_context, value):
    """Index of the lowest bit set in a uint64; 64 when none is."""

    def generate(_context, builder, _signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


@instruction
def count_leading_zeros(_typing_context, value):
    """Number of bits above the highest one set in a uint64; 64 when none is."""

    def generate(_context, builder, _signature, arguments):
        return builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


@instruction
def count_ones(_typing_context, value):
    """Number of bits set in a uint64."""

    def generate(_context, builder, _signature, arguments):
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


@instruction
def multiply_fold(_typing_context, left, right):
    """Exclusive or of the upper and the lower half of the 128-bit product of two uint64."""

    def generate(_context, builder, _signature, arguments):
        wide, narrow = ir.IntType(128), ir.IntType(64)
        product = builder.mul(*(builder.zext(argument, wide) for argument in arguments))
        upper = builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), narrow)
        return builder.xor(upper, builder.trunc(product, narrow))

    return types.uint64(types.uint64, types.uint64), generate


def can_compress() -> bool:
    """Whether LLVM and the processor know store_places; else it would be slow."""
    binding = import_module("llvmlite.binding")
    features = binding.get_host_cpu_features()
    return binding.llvm_version_info >= (19,) and bool(features.get("avx512vbmi2"))


@instruction
def store_places(_typing_context, target, index, bits, begin):
    """Store begin + the places of the lowest 32 bits set, at target[index] and after it.

    Where fewer are set, what follows them is overwritten too.
    """
    cgutils = import_module("numba.core.cgutils")
    byte, number = ir.IntType(8), ir.IntType(32)
    bytes_64, flags = ir.VectorType(byte, 64), ir.VectorType(ir.IntType(1), 64)
    numbers_32 = ir.VectorType(number, 32)

    def generate(context, builder, _signature, arguments):
        target, index, bits, begin = arguments
        compress = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(bytes_64, [bytes_64, flags, bytes_64]),
            "llvm.experimental.vector.compress.v64i8",
        )
        every = ir.Constant(bytes_64, list(range(64)))
        places = builder.call(compress, [every, builder.bitcast(bits, flags), every])
        lowest = ir.Constant(numbers_32, list(range(32)))
        places = builder.zext(builder.shuffle_vector(places, places, lowest), numbers_32)
        from_begin = builder.insert_element(
            ir.Constant(numbers_32, ir.Undefined),
            builder.trunc(begin, number),
            ir.Constant(number, 0),
        )
        from_begin = builder.shuffle_vector(from_begin, from_begin, ir.Constant(numbers_32, None))
        place = builder.bitcast(builder.gep(target, [index]), numbers_32.as_pointer())
        builder.store(builder.add(places, from_begin), place, align=4)
        return context.get_dummy_value()

    signature = types.void(types.CPointer(types.int32), types.int64, types.uint64, types.int64)
    return signature, generate


def byte_bits(ranges: Sequence[tuple[int, int]], ignored_bits: int = 0) -> Any:
    """Make an instruction (pointer, index): which of 64 bytes lie in a range, as bits of a uint64.

    The 64 bytes begin at an index of a uint8 pointer; the lowest bit is that of the first byte.
    LLVM makes the widest comparisons of it that the processor has.

    Args:
        ranges: first and last byte of each range.
        ignored_bits: bits that are set in each byte before it is compared.
    """

    @instruction
    def bits_at(_typing_context, pointer, index):
        def constant(byte):
            return ir.Constant(ir.VectorType(ir.IntType(8), 64), [byte] * 64)

        def generate(_context, builder, _signature, arguments):
            vector = constant(0).type
            place = builder.gep(arguments[0], [arguments[1]])
            block = builder.load(builder.bitcast(place, vector.as_pointer()), align=1)
            block = builder.or_(block, constant(ignored_bits))
            found = None
            for first, last in ranges:
                if first == last:
                    here = builder.icmp_unsigned("==", block, constant(first))
                else:
                    above = builder.sub(block, constant(first))
                    here = builder.icmp_unsigned("<=", above, constant(last - first))
                found = here if found is None else builder.or_(found, here)
            return builder.bitcast(found, ir.IntType(64))

        return types.uint64(types.CPointer(types.uint8), types.int64), generate

    return bits_at


def _prefetch(level: int) -> Any:
    @instruction
    def prefetch_item(_typing_context, pointer, index):
        def generate(context, builder, _signature, arguments):
            place = builder.gep(arguments[0], [arguments[1]])
            byte_pointer, int32 = ir.IntType(8).as_pointer(), ir.IntType(32)
            function = builder.module.declare_intrinsic(
                "llvm.prefetch",
                [byte_pointer],
                ir.FunctionType(ir.VoidType(), [byte_pointer, int32, int32, int32]),
            )
            read, into_level, data = (ir.Constant(int32, n) for n in (0, 4 - level, 1))
            builder.call(function, [builder.bitcast(place, byte_pointer), read, into_level, data])
            return context.get_dummy_value()

        return types.void(types.CPointer(types.uint64), types.int64), generate

    return prefetch_item


# (pointer, index): fetch the cache line of an item that will be read, soon or somewhat later, into
# the first or the second level of the caches.
prefetch_soon, prefetch_later = _prefetch(1), _prefetch(2)
