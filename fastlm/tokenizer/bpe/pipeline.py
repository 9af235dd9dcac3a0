# mypy: allow-untyped-defs, allow-untyped-calls
"""numba's compiler without the passes that loops over numbers and pointers do not need.

It is made of names that numba documents for its own developers or not at all. Where this numba
lacks one of them, importing this file raises an ImportError, an AttributeError or a TypeError, and
compiler.py goes on without it.
"""

import functools
import gc
import inspect
from collections.abc import Callable
from typing import Any

from numba import types
from numba.core import base, compiler, typed_passes, untyped_passes
from numba.core.compiler_machinery import PassManager

_PASSES = (
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
)
_FLAGS = ("no_compile", "no_cpython_wrapper", "no_cfunc_wrapper")

# Names that are used only while a function compiles: looked up now, so that none is missing then.
for _owner, _names in (
    (base.BaseContext, ("active_code_library", "call_internal")),
    (compiler.CompilerBase, ("compile_extra",)),
    (compiler.Flags, _FLAGS),
    (PassManager, ("add_pass", "finalize")),
):
    for _name in _names:
        getattr(_owner, _name)
inspect.signature(compiler.CompilerBase).bind(*range(7))  # call_inside gives it 7 arguments


def _call_with_room(function: Callable[[], Any]) -> Any:
    """Call a function that calls others many levels deep.

    CPython keeps frames in chunks of 16 KB and frees a chunk as soon as it is empty. Where a loop's
    calls cross the end of a chunk, each call costs two system calls, which together take 15 % of
    the time of compiling. The frame of this function claims a stack so large that CPython gives it
    a chunk of 1 MB.
    """
    return function()


_call_with_room.__code__ = _call_with_room.__code__.replace(co_stacksize=(1 << 16) + 1)


class _RememberedTypes:
    """numba's typing context with a memory of what operations on numbers return.

    numba tries every meaning of "+" for each "+", twice, which takes 12 % of the time of compiling.
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
            _signatures[key] = found, function  # kept alive, so that no other gets its id
        return _signatures[key][0]


_signatures: dict[Any, Any] = {}


class ShortCompiler(compiler.CompilerBase):
    """The pipeline_class of functions that loop over numbers and pointers."""

    def __init__(self, typing_context: Any, *arguments: Any) -> None:
        super().__init__(_RememberedTypes(typing_context), *arguments)

    def compile_extra(self, function: Any) -> Any:
        if not gc.isenabled():
            return super().compile_extra(function)
        # A compiler makes many objects and no garbage: collecting takes 6 % of its time.
        gc.disable()
        try:
            return _call_with_room(functools.partial(super().compile_extra, function))
        finally:
            gc.enable()

    def define_pipelines(self) -> list[PassManager]:
        manager = PassManager("kernels")
        for compiler_pass in _PASSES:
            manager.add_pass(compiler_pass, compiler_pass.__name__)
        manager.finalize()
        return [manager]


def call_inside(function: Any, signature: Any) -> Callable[..., Any]:
    """Code generator of a call that puts the function into the LLVM module of its caller."""

    def generate(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        library = context.active_code_library
        if not hasattr(library, "inner_functions"):
            library.inner_functions = {}
        compiled = library.inner_functions.get(function)
        if compiled is None:
            flags: Any = compiler.Flags()
            for name in _FLAGS:
                setattr(flags, name, True)
            compiled = ShortCompiler(
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

    return generate
