# mypy: allow-untyped-defs, allow-untyped-calls
"""How kernels see memory: one context of numbers and addresses, and pointers made of them.

A compiled function checks and unpacks every argument it is called with, about 0.1 us for an array.
So a kernel takes one address, that of a context: int64 fields, some of them addresses of arrays
that Python keeps alive. Pointers have neither shape nor reference count, which also makes them
several times quicker to compile than arrays. No kernel allocates: what does not suffice is reported
to Python, which grows it and calls again.
"""

import functools
import gc
import inspect
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias, get_args, get_origin, get_type_hints

import numba
import numpy as np
from jaxtyping import Shaped
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import compiler, typed_passes, untyped_passes
from numba.core.compiler import CompilerBase
from numba.core.compiler_machinery import PassManager
from numba.extending import intrinsic

# Fields of a context. Walking the documents of a text (segments.py):
DOCUMENT, POSITION, SEGMENT_END, SPECIAL = range(4)
DATA, BOUNDS, N_DOCUMENTS = range(4, 7)
SPECIAL_TEXT, SPECIAL_BOUNDS, N_SPECIALS, SPECIAL_FIRSTS, N_SPECIAL_FIRSTS = range(7, 12)
# the buffers of a window (pretokenize.py) and the keys of its tokens (words.py):
CLASS_OF, TEXT, CLASSES, FLAGS, STARTS, FIRSTS, SECONDS, SLOTS = range(12, 20)
# the table of words (words.py):
TABLE, SLOT_MASK, N_WORDS, MAX_WORDS, ARENA, ARENA_SIZE, ARENA_USED, N_WORD_BYTES = range(20, 28)
# and encoding (encode.py, merge_word.py):
OUT, OUT_SIZE, N_OUT, ID_SHIFT, END_OF_TEXT, SPECIAL_IDS = range(28, 34)
BYTE_IDS, BYTE_PAIRS, PAIRS, PAIR_MASK, MERGED_IDS, TOKEN_LENGTHS = range(34, 40)
N_MERGES, VOCAB_SIZE, SCRATCH, SCRATCH_SIZE, SCRATCH_WANTED, RANK_LISTS = range(40, 46)
# Functions that several kernels share, and what they say beside what they return:
NEXT_WINDOW, PASSED, HAS_ENDED, TOKEN_END, FIND_WORD, IS_NEW = range(46, 52)
N_FIELDS = 52

# What a kernel returns beside counts, which are not negative.
DONE, TABLE_FULL, ARENA_FULL, OUT_FULL, SCRATCH_FULL, INVALID_TEXT, UNKNOWN_BYTE = range(0, -7, -1)
# What next_window returns beside a number of tokens:
AT_END, AT_BORDER, AT_LONG_TOKEN = range(-7, -10, -1)


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
    u8, i32, i64, u64, boolean = types.uint8, types.int32, types.int64, types.uint64, types.boolean
    pu8, pi32, pi64, pu64 = map(types.CPointer, (u8, i32, i64, u64))


def _call_with_room(function: Callable[[], Any]) -> Any:
    """Call a function that calls others many levels deep.

    CPython keeps frames in chunks of 16 KB and gives a chunk back as soon as it is empty: where a
    loop's calls cross the end of one, each costs two system calls, together 15 % of the time of
    compiling. The frame of this function says it needs so much that it gets a chunk of 1 MB.
    """
    return function()


_call_with_room.__code__ = _call_with_room.__code__.replace(co_stacksize=(1 << 16) + 1)


class _RememberedTypes:
    """numba's typing context that remembers what an operation on numbers returns.

    numba goes through all that "+" may mean, for each "+" twice. That is 12 % of compiling.
    """

    def __init__(self, context: Any) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def resolve_function_type(self, function: Any, arguments: Any, keywords: Any) -> Any:
        plain = (types.Number, types.Boolean, types.CPointer)
        if keywords or not all(isinstance(argument, plain) for argument in arguments):
            return self._context.resolve_function_type(function, arguments, keywords)
        key = (id(function), arguments)
        if key not in _signatures:
            found = self._context.resolve_function_type(function, arguments, keywords)
            _signatures[key] = found, function  # kept, so that its id stays its own
        return _signatures[key][0]


_signatures: dict[Any, Any] = {}


class _ShortCompiler(CompilerBase):
    """numba's pipeline without the passes that plain loops over numbers have no use for."""

    def __init__(self, typing_context: Any, *arguments: Any) -> None:
        super().__init__(_RememberedTypes(typing_context), *arguments)

    def compile_extra(self, function: Any) -> Any:
        if not gc.isenabled():
            return super().compile_extra(function)
        # A compiler makes many objects and no garbage: looking for some takes 6 % of its time.
        gc.disable()
        try:
            return _call_with_room(functools.partial(super().compile_extra, function))
        finally:
            gc.enable()

    def define_pipelines(self) -> list[PassManager]:
        manager = PassManager("kernels")
        for step in (
            untyped_passes.TranslateByteCode,
            untyped_passes.FixupArgs,
            untyped_passes.IRProcessing,
            untyped_passes.ReconstructSSA,
            typed_passes.NopythonTypeInference,
            typed_passes.AnnotateTypes,
            typed_passes.PreLowerStripPhis,
            typed_passes.IRLegalization,
            typed_passes.NativeLowering,
            typed_passes.NoPythonBackend,
        ):
            manager.add_pass(step, step.__name__)
        manager.finalize()
        return [manager]


# A kernel is what Python calls. It is compiled when first called and kept on disk.
kernel: Any = numba.njit(cache=True, nogil=True, pipeline_class=_ShortCompiler)


def _signature(function: Any) -> Any:
    """The types that a function's annotations say."""
    hints = get_type_hints(function)
    returned = _numba_type(hints.pop("return"))
    return returned(*map(_numba_type, hints.values()))


def _numba_type(hint: Any) -> Any:
    if get_origin(hint) is tuple:
        return types.Tuple([_numba_type(part) for part in get_args(hint)])
    return types.void if hint is type(None) else hint


def _instruction_like(function: Any, signature: Any, generate: Any) -> Any:
    """An intrinsic that is called as a function is."""

    def call(_typing_context: Any, *_arguments: Any) -> Any:
        return signature, generate

    # intrinsic takes the names of the arguments from here.
    parameters = [inspect.Parameter("_typing_context", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    parameters += inspect.signature(function).parameters.values()
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return functools.update_wrapper(intrinsic(call), function)


def inner(function: Any) -> Any:
    """A function that kernels call, of the types that its annotations say.

    numba.njit would optimize it and make machine code of it by itself, and again inside each
    caller, which is most of the time that compiling takes. This puts it into the code of the
    kernel it is called from, to be optimized once, together with the rest.
    """
    signature = _signature(function)

    def generate(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        library = context.active_code_library
        if not hasattr(library, "inner_functions"):
            library.inner_functions = {}
        compiled = library.inner_functions.get(function)
        if compiled is None:
            flags: Any = compiler.Flags()
            flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
            compiled = _ShortCompiler(
                context.typing_context,
                context,
                library,
                signature.args,
                signature.return_type,
                flags,
                {},
            ).compile_extra(function)
            library.inner_functions[function] = compiled
        return context.call_internal(builder, compiled.fndesc, signature, values)

    return _instruction_like(function, signature, generate)


class _Shared:
    """A function with machine code of its own, which kernels call by its address."""

    def __init__(self, field: int, function: Any) -> None:
        self.field = field
        self.function = function

    @functools.cached_property
    def address(self) -> int:
        """Compiles the function when it is first asked for."""
        compiled = numba.cfunc(
            _signature(self.function), cache=True, pipeline_class=_ShortCompiler
        )(self.function)
        assert compiled.address is not None
        return compiled.address


_shared: dict[Any, _Shared] = {}


def shared(field: int) -> Callable[[Any], Any]:
    """A function that several kernels call, compiled once for all: through a field of the context.

    Its first argument is the context; it returns one number. Context.link fills the field.
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


class Context:
    """The fields that one thread's kernels read, and the arrays whose addresses are among them."""

    def __init__(self) -> None:
        self.fields = np.zeros(N_FIELDS, np.int64)
        self.address = self.fields.ctypes.data
        self._arrays: dict[int, np.ndarray] = {}

    def link(self, function: Any) -> None:
        """Let kernels that are given this context call a shared function."""
        self.fields[_shared[function].field] = _shared[function].address

    def array(self, field: int) -> np.ndarray:
        """The array held in a field."""
        return self._arrays[field]

    def copy(self) -> "Context":
        """A context of its own with the same arrays."""
        other = Context()
        other.fields[:] = self.fields
        other._arrays = self._arrays.copy()
        return other

    def hold(self, field: int, array: Shaped[np.ndarray, "..."]) -> None:
        """Put the address of an array into a field and keep the array alive."""
        assert array.flags.c_contiguous
        self._arrays[field] = array
        self.fields[field] = array.ctypes.data


instruction: Any = intrinsic


def _pointer_type(item: Any) -> Any:
    @instruction
    def cast(_typing_context, address):
        def generate(context, builder, signature, arguments):
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(item)(types.int64), generate

    return cast


# Pointers to items of a type, from an address.
uint8_at = _pointer_type(types.uint8)
int32_at = _pointer_type(types.int32)
uint32_at = _pointer_type(types.uint32)
int64_at = _pointer_type(types.int64)
uint64_at = _pointer_type(types.uint64)


@instruction
def load_word(_typing_context, pointer, index):
    """Eight bytes of a uint8 pointer from an index on, wherever they lie, little-endian."""

    def generate(_context, builder, _signature, arguments):
        place = builder.gep(arguments[0], [arguments[1]])
        return builder.load(builder.bitcast(place, ir.IntType(64).as_pointer()), align=1)

    return types.uint64(types.CPointer(types.uint8), types.int64), generate


@instruction
def store_word(_typing_context, pointer, index, word):
    """The inverse of load_word."""

    def generate(context, builder, _signature, arguments):
        place = builder.gep(arguments[0], [arguments[1]])
        builder.store(arguments[2], builder.bitcast(place, ir.IntType(64).as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(types.CPointer(types.uint8), types.int64, types.uint64), generate


@instruction
def prefetch(_typing_context, pointer, index):
    """Ask for the cache line of an item that will be read soon."""

    def generate(context, builder, _signature, arguments):
        place = builder.gep(arguments[0], [arguments[1]])
        byte_pointer, int32 = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = builder.module.declare_intrinsic(
            "llvm.prefetch",
            [byte_pointer],
            ir.FunctionType(ir.VoidType(), [byte_pointer, int32, int32, int32]),
        )
        read, into_first_level, data = (ir.Constant(int32, n) for n in (0, 3, 1))
        builder.call(function, [builder.bitcast(place, byte_pointer), read, into_first_level, data])
        return context.get_dummy_value()

    return types.void(types.CPointer(types.uint64), types.int64), generate


@instruction
def count_trailing_zeros(_typing_context, value):
    """Index of the lowest bit set in a uint64 that is not 0."""

    def generate(_context, builder, _signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


BYTES_HEADER = bytes.__basicsize__ - 1  # of a bytes object, before its bytes
ASCII_HEADER = sys.getsizeof("") - 1  # of a str that holds nothing but ASCII


def address_of(text: bytes | str) -> int:
    """Address of the bytes of a bytes object or of an ASCII str, valid while the object lives."""
    return id(text) + (BYTES_HEADER if isinstance(text, bytes) else ASCII_HEADER)


def _check_layout() -> None:
    import ctypes

    text = "where do the bytes begin?"
    for given in (text, text.encode()):
        if ctypes.string_at(address_of(given), len(given)) != text.encode():
            raise ImportError("fastlm.bpe needs CPython: this Python lays out strings otherwise")


_check_layout()
