# mypy: allow-untyped-defs, allow-untyped-calls
"""Decorators that compile functions with numba: kernel, inner, shared and instruction.

pipeline.py makes compiling three times as fast, with names that numba does not promise to keep.
Where one of them is missing, numba.njit compiles the same functions without it, and a warning says
so.
"""

import contextlib
import functools
import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import Any, get_args, get_origin, get_type_hints

import numba
from llvmlite import ir  # type: ignore[import-untyped]
from llvmlite.binding import get_host_cpu_features, llvm_version_info  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from fastlm.tokenizer.bpe.cache import keep, made_kept, notice_changes

_NUMBA_VERSIONS = "numba>=0.61,<0.69"  # as in pyproject.toml: pipeline.py works with them

_options: dict[str, Any] = {}
try:
    from fastlm.tokenizer.bpe import pipeline
except (ImportError, AttributeError, TypeError) as _error:
    _has_pipeline = False
    warnings.warn(
        f"numba {numba.__version__} lacks what the tokenizer's compiler pipeline expects of it "
        f"({_error}): results are the same, but the first use of the tokenizer's kernels, which "
        f"compiles them, takes about 15 s in place of 5 s; install {_NUMBA_VERSIONS}",
        stacklevel=2,
    )
else:
    _has_pipeline = True
    _options["pipeline_class"] = pipeline.ShortCompiler

# Without it, numba's cache notices a change only in the file that defines a kernel.
with contextlib.suppress(ImportError, AttributeError):
    notice_changes()

instruction: Any = intrinsic


def kernel(function: Any) -> Any:
    """Let Python call a function, which is compiled when first called and kept on disk."""
    return keep(numba.njit(nogil=True, **_options)(function))


def _signature(function: Any) -> Any:
    """numba's signature of a function, from its annotations."""
    hints = get_type_hints(function)
    returned = _numba_type(hints.pop("return"))
    return returned(*map(_numba_type, hints.values()))


def _numba_type(hint: Any) -> Any:
    if get_origin(hint) is tuple:
        return types.Tuple([_numba_type(part) for part in get_args(hint)])
    return types.void if hint is type(None) else hint


def _instruction_like(function: Any, signature: Any, generate: Any) -> Any:
    """Make an intrinsic with the parameters and the docstring of a function."""

    def call(_typing_context: Any, *_arguments: Any) -> Any:
        return signature, generate

    # intrinsic takes the names of the arguments from here.
    parameters = [inspect.Parameter("_typing_context", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    parameters += inspect.signature(function).parameters.values()
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return functools.update_wrapper(intrinsic(call), function)


def inner(function: Any) -> Any:
    """Let kernels call a function; its annotations are the types of its arguments and result.

    numba.njit would optimize the function and generate machine code for it alone, and again inside
    each caller, which takes most of the time of compiling. The pipeline puts it into the code of
    the kernel that calls it, where it is optimized once, together with the rest.
    """
    signature = _signature(function)
    if _has_pipeline:
        return _instruction_like(function, signature, pipeline.call_inside(function, signature))
    return _compiled_when_called(function, signature)


def _compiled_when_called(function: Any, signature: Any) -> Any:
    """Delay numba.njit(signature)(function) until a function that calls it is compiled.

    Compiling at once is too early: a function may call others that its file defines further down.
    """

    def called(*arguments: Any) -> Any:
        raise NotImplementedError  # compiled code calls what overload returns in place of this

    compile_once = functools.cache(lambda: numba.njit(signature)(function))

    @overload(called)
    def choose(*arguments: Any) -> Any:
        compiled = compile_once()

        def call(*arguments: Any) -> Any:
            return compiled(*arguments)

        return call

    return functools.update_wrapper(called, function)


class _Shared:
    """A function with machine code of its own, which kernels call by its address."""

    def __init__(self, field: int, function: Any) -> None:
        self.field = field
        self.function = function

    @functools.cached_property
    def address(self) -> int:
        """Address of the machine code; the function is compiled when it is first needed."""
        signature = _signature(self.function)

        def make(function: Any, *, cache: bool) -> Any:
            return numba.cfunc(signature, cache=cache, **_options)(function)

        compiled = made_kept(make, self.function)
        assert compiled.address is not None
        return compiled.address


_shared: dict[Any, _Shared] = {}


def shared(field: int) -> Callable[[Any], Any]:
    """Let several kernels call a function that is compiled once for all of them.

    Its first argument is the context, and it returns one number. Kernels call it by its address,
    which stands in a field of the context (Context.link).
    """

    def decorate(function: Any) -> Any:
        signature = _signature(function)

        def generate(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
            returned, *arguments = map(
                context.get_value_type, (signature.return_type, *signature.args)
            )
            place = builder.gep(values[0], [ir.Constant(ir.IntType(64), field)])
            pointer = ir.FunctionType(returned, arguments).as_pointer()
            return builder.call(builder.inttoptr(builder.load(place), pointer), values)

        called = _instruction_like(function, signature, generate)
        _shared[called] = _Shared(field, function)
        return called

    return decorate


def shared_address(function: Any) -> tuple[int, int]:
    """Return the field of a shared function and the address of its machine code."""
    return _shared[function].field, _shared[function].address


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


CAN_COMPRESS = llvm_version_info >= (19,) and bool(get_host_cpu_features().get("avx512vbmi2"))
"""Whether LLVM and the processor know store_places; without its instruction it would be slow"""


@instruction
def store_places(_typing_context, target, index, bits, begin):
    """Store begin + the places of the lowest 32 bits set, at target[index] and after it.

    Where fewer are set, what follows them is overwritten too.
    """
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
    vector = ir.VectorType(ir.IntType(8), 64)

    def constant(byte: int) -> Any:
        return ir.Constant(vector, [byte] * 64)

    @instruction
    def bits_at(_typing_context, pointer, index):
        def generate(_context, builder, _signature, arguments):
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
