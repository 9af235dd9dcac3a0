# mypy: allow-untyped-defs, allow-untyped-calls
"""Compile every function of this folder that is marked (compiler.py) to one object file.

pipeline.py makes compiling three times as fast, with names that numba does not promise to keep.
Where one of them is missing, numba compiles the same functions without it, and a warning says so.

The object file has, for each kernel, a function that CPython calls like those of its extensions,
and for each shared one a function of integers. It needs nothing of numba: what it calls besides is
a few functions of CPython and of the C library.
"""

import functools
import importlib
import inspect
import pkgutil
import types as python_types
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin

import llvmlite.binding as llvm  # type: ignore[import-untyped]
import numba
from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target
from numba.extending import intrinsic, overload

from fastlm.lazy import LazyModule
from fastlm.tokenizer.bpe import compiler
from fastlm.tokenizer.bpe.compiler import Either, Inner, Instruction, Number, NumberType, Shared
from fastlm.tokenizer.bpe.machine_code import CALLED, SHARED

NUMBA_VERSIONS = "numba>=0.61,<0.69"  # as in pyproject.toml: pipeline.py works with them

_options: dict[str, Any] = {}
try:
    from fastlm.tokenizer.bpe import pipeline
except (ImportError, AttributeError, TypeError) as _error:
    _has_pipeline = False
    warnings.warn(
        f"numba {numba.__version__} lacks what the tokenizer's compiler pipeline expects of it "
        f"({_error}): results are the same, but compiling the tokenizer's kernels takes three "
        f"times as long; install {NUMBA_VERSIONS}",
        stacklevel=2,
    )
else:
    _has_pipeline = True
    _options["pipeline_class"] = pipeline.ShortCompiler


class Built(NamedTuple):
    """An object file, and the prefixed names of the functions in it."""

    code: bytes
    names: list[str]


def build() -> Built:
    """Compile all marked functions of this folder for this processor."""
    import_all()
    llvm.initialize_native_asmprinter()
    parts: list[str] = []
    names = []
    for kernel in compiler.KERNELS:
        parts += _with_entry(kernel.function, CALLED, _integers(kernel.function), _add_call)
        names.append(CALLED + compiler.name_of(kernel.function))
    for shared in compiler.SHARED:
        parts += _with_entry(shared.function, SHARED, _signature(shared.function), _add_shared)
        names.append(SHARED + compiler.name_of(shared.function))
    whole, *others = map(llvm.parse_assembly, parts)
    for part in others:
        whole.link_in(part)
    for function in whole.functions:
        if not function.is_declaration and function.name not in names:
            function.linkage = "internal"
    for variable in whole.global_variables:
        if not variable.is_declaration:
            variable.linkage = "internal"
    target = llvm.Target.from_triple(whole.triple).create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=3,
        reloc="pic",
        codemodel="small",
    )
    _remove_unused(whole, target)
    return Built(target.emit_object(whole), names)


def import_all() -> None:
    """Import all files of this folder, so that all kernels are known."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)], f"{__package__}."):
        if not module.name.endswith((".build", ".pipeline")):
            importlib.import_module(module.name)


def _remove_unused(module: Any, target: Any) -> None:
    """Remove the functions that nothing calls: numba's own entries, which need numba."""
    if hasattr(llvm, "create_module_pass_manager"):  # llvmlite 0.44
        old_passes = llvm.create_module_pass_manager()
        old_passes.add_global_dce_pass()
        old_passes.run(module)
        return
    passes = llvm.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    builder = llvm.create_pass_builder(target, llvm.create_pipeline_tuning_options())
    passes.run(module, builder)


def _integers(kernel: Any) -> Any:
    """Return numba's signature of a kernel: int64 of as many int64 as it has parameters."""
    return types.int64(*[types.int64] * len(inspect.signature(kernel).parameters))


def _with_entry(function: Any, prefix: str, signature: Any, add_body: Any) -> Iterable[str]:
    """Return the code of a function, and of an entry that calls it."""
    compiled = numba.cfunc(signature, **_options)(compiled_form(function))
    convention = cpu_target.target_context.call_conv
    module = ir.Module("entry")
    module.triple = llvm.get_process_triple()
    native = ir.Function(
        module,
        convention.get_function_type(signature.return_type, signature.args),
        compiled.native_name.removeprefix("cfunc."),
    )
    add_body(module, prefix + compiler.name_of(function), native, signature)
    return compiled.inspect_llvm(), str(module)


_BYTES = ir.IntType(8).as_pointer()
_I64, _I32 = ir.IntType(64), ir.IntType(32)


def _call_native(builder: Any, native: Any, arguments: Any, signature: Any) -> tuple[Any, Any]:
    """Call a function as numba's functions are called; returns (its result, has it failed)."""
    result_at, error_at, *_ = native.function_type.args
    result = builder.alloca(result_at.pointee)
    error = builder.alloca(error_at.pointee)
    status = builder.call(native, [result, error, *arguments])
    return builder.load(result), builder.icmp_signed("!=", status, ir.Constant(_I32, 0))


def _add_shared(module: Any, name: str, native: Any, signature: Any) -> None:
    """Add a function with plain arguments and result. Nothing in it can fail, so it checks that."""
    context = cpu_target.target_context
    returned, *given = map(context.get_value_type, (signature.return_type, *signature.args))
    entry = ir.Function(module, ir.FunctionType(returned, given), name)
    builder = ir.IRBuilder(entry.append_basic_block())
    result, has_failed = _call_native(builder, native, entry.args, signature)
    with builder.if_then(has_failed, likely=False):
        trap = module.declare_intrinsic("llvm.trap", (), ir.FunctionType(ir.VoidType(), ()))
        builder.call(trap, ())
        builder.unreachable()
    builder.ret(result)


def _add_call(module: Any, name: str, native: Any, signature: Any) -> None:
    """Add a function that CPython calls with METH_FASTCALL: (self, arguments, their number)."""

    def of_python(function: str, returned: Any, *arguments: Any) -> Any:
        return ir.Function(module, ir.FunctionType(returned, arguments), function)

    n_arguments = len(signature.args)
    entry_type = ir.FunctionType(_BYTES, (_BYTES, _BYTES.as_pointer(), _I64))
    entry = ir.Function(module, entry_type, name)
    _, given, n_given = entry.args
    nothing = ir.Constant(_BYTES, None)
    builder = ir.IRBuilder(entry.append_basic_block())
    wrong_number = builder.icmp_signed("!=", n_given, ir.Constant(_I64, n_arguments))
    with builder.if_then(wrong_number, likely=False):
        builder.call(of_python("PyErr_BadArgument", _I32), ())
        builder.ret(nothing)
    as_integer = of_python("PyLong_AsLongLong", _I64, _BYTES)
    arguments = []
    may_be_error: Any = ir.Constant(ir.IntType(1), 0)
    for index in range(n_arguments):
        place = builder.gep(given, [ir.Constant(_I64, index)])
        arguments.append(builder.call(as_integer, [builder.load(place)]))
        is_minus_1 = builder.icmp_signed("==", arguments[-1], ir.Constant(_I64, -1))
        may_be_error = builder.or_(may_be_error, is_minus_1)
    with builder.if_then(may_be_error, likely=False):
        error = builder.call(of_python("PyErr_Occurred", _BYTES), ())
        with builder.if_then(builder.icmp_unsigned("!=", error, nothing)):
            builder.ret(nothing)
    state = builder.call(of_python("PyEval_SaveThread", _BYTES), ())
    result, has_failed = _call_native(builder, native, arguments, signature)
    builder.call(of_python("PyEval_RestoreThread", ir.VoidType(), _BYTES), [state])
    with builder.if_then(has_failed, likely=False):
        builder.call(of_python("PyErr_BadInternalCall", ir.VoidType()), ())
        builder.ret(nothing)
    builder.ret(builder.call(of_python("PyLong_FromLongLong", _BYTES, _I64), [result]))


def compiled_form(function: Any) -> Any:
    """Return a function as numba compiles it: with what numba knows in the place of our marks."""
    form = python_types.FunctionType(
        function.__code__,
        _names_of(function.__module__),
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    form.__module__, form.__qualname__ = function.__module__, function.__qualname__
    return form


_names: dict[str, dict[str, Any]] = {}


def _names_of(module: str) -> dict[str, Any]:
    """Return the global names of a file, with what numba knows in the place of our marks."""
    if module not in _names:
        names = _names[module] = dict(vars(importlib.import_module(module)))
        names.update({name: _known_to_numba(value) for name, value in names.items()})
    return _names[module]


_known: dict[int, tuple[Any, Any]] = {}


def _known_to_numba(value: Any) -> Any:
    if isinstance(value, LazyModule):
        return importlib.import_module(value.module_name)
    if isinstance(value, NumberType):
        return value.of_numba()
    if isinstance(value, Either):
        return _known_to_numba(value.chosen())
    if isinstance(value, Number):
        return value.type.of_numpy()(value)
    if not isinstance(value, (Inner, Instruction)):
        return value
    if id(value) not in _known:
        _known[id(value)] = _made_known(value), value  # kept alive, so that no other gets its id
    return _known[id(value)][0]


def _made_known(mark: Any) -> Any:
    if isinstance(mark, Instruction):
        return intrinsic(compiled_form(mark.function))
    signature = _signature(mark.function)
    if isinstance(mark, Shared):
        return _instruction_like(mark.function, signature, _call_by_address(mark.field, signature))
    if _has_pipeline:
        generate = pipeline.call_inside(compiled_form(mark.function), signature)
        return _instruction_like(mark.function, signature, generate)
    return _compiled_when_called(mark.function, signature)


def _signature(function: Any) -> Any:
    """numba's signature of a function, from its annotations."""
    hints = inspect.get_annotations(function, eval_str=True)
    returned = _numba_type(hints.pop("return"))
    return returned(*map(_numba_type, hints.values()))


def _numba_type(hint: Any) -> Any:
    if get_origin(hint) is tuple:
        return types.Tuple([_numba_type(part) for part in get_args(hint)])
    return types.void if hint is None else hint.of_numba()


def _instruction_like(function: Any, signature: Any, generate: Any) -> Any:
    """Make an intrinsic with the parameters and the docstring of a function."""

    def call(_typing_context: Any, *_arguments: Any) -> Any:
        return signature, generate

    # intrinsic takes the names of the arguments from here.
    parameters = [inspect.Parameter("_typing_context", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    parameters += inspect.signature(function).parameters.values()
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return functools.update_wrapper(intrinsic(call), function)


def _call_by_address(field: int, signature: Any) -> Any:
    """Code generator of a call by the address in a field of the context."""

    def generate(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        returned, *arguments = map(context.get_value_type, (signature.return_type, *signature.args))
        place = builder.gep(values[0], [ir.Constant(_I64, field)])
        pointer = ir.FunctionType(returned, arguments).as_pointer()
        return builder.call(builder.inttoptr(builder.load(place), pointer), values)

    return generate


def _compiled_when_called(function: Any, signature: Any) -> Any:
    """Delay numba.njit(signature)(function) until a function that calls it is compiled.

    Compiling at once is too early: a function may call others that its file defines further down.
    """

    def called(*arguments: Any) -> Any:
        raise NotImplementedError  # compiled code calls what overload returns in place of this

    compile_once = functools.cache(lambda: numba.njit(signature)(compiled_form(function)))

    @overload(called)
    def choose(*arguments: Any) -> Any:
        compiled = compile_once()

        def call(*arguments: Any) -> Any:
            return compiled(*arguments)

        return call

    return functools.update_wrapper(called, function)
