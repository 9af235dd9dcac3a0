# mypy: allow-untyped-defs, allow-incomplete-defs
"""The kernels that the operations launch on a GPU, and all that Triton compiles them for.

No GPU is needed: each operation runs forward and backward on tensors without memory, of the shapes
of real models, and its launches for such a GPU are recorded. A configuration keeps from a launch
what Triton specializes on: constants, dtypes, and whether an address or a number is a multiple of
16.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves, tree_map_only

from kernels.cases import Inputs, Op, Options, Shape
from kernels.launch import Gpu, Launch, recording

GPUS = {"A100": Gpu(80, 108), "H100": Gpu(90, 132), "B200": Gpu(100, 148)}
SHARED_BYTES = {80: 163 << 10, 90: 227 << 10, 100: 227 << 10}
"""the most shared memory that a program can have, by architecture"""


@dataclass(frozen=True)
class Pointer:
    """A pointer as Triton specializes on it: its dtype, and the address modulo 16."""

    dtype: torch.dtype
    address: int

    def data_ptr(self) -> int:
        return self.address


@dataclass(frozen=True)
class Configuration:
    """Everything that a kernel is compiled for, except the architecture.

    Attributes:
        arguments: by name; a number stands for all numbers that Triton compiles alike.
        options: num_warps, num_stages and the like, if they are given.
    """

    module: str
    kernel: str
    constants: tuple[tuple[str, Any], ...]
    arguments: tuple[tuple[str, Any], ...]
    options: tuple[tuple[str, Any], ...]

    @property
    def name(self) -> str:
        return f"{self.module.rpartition('.')[2]}.{self.kernel}"


@dataclass
class Use:
    """The operations that launch a configuration, and the widths (last axes) of their shapes."""

    ops: list[str] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)


def record(op: Op, shape: Shape, options: Options, dtype: torch.dtype, gpu: Gpu) -> list[Launch]:
    """The launches of a forward and a backward pass on such a GPU."""
    inputs = _inputs(op, shape, options, dtype)
    tensors, given_options = tree_map_only(
        Tensor, without_memory, (inputs.tensors, dict(inputs.options))
    )
    given = [tensors[i].requires_grad_() for i in inputs.differentiable]
    with recording(gpu) as launches:
        returned = op.function(*tensors, **given_options)
        results = [r for r in tree_leaves(returned) if isinstance(r, Tensor) and r.requires_grad]
        if results:
            gradients = [torch.empty_like(r) for r in results]
            torch.autograd.grad(results, given, gradients)
    return launches


def without_memory(x: Tensor) -> Tensor:
    """A tensor of the same dtype, shape and strides."""
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")


def _inputs(op: Op, shape: Shape, options: Options, dtype: torch.dtype) -> Inputs:
    """The same inputs as in tests, but without memory: the shapes are those of real models."""
    with FakeTensorMode():
        return op.make(shape, options, dtype, torch.device("cpu"), torch.Generator())


def configuration_of(launch: Launch) -> Configuration:
    """The configuration that a launch asks the compiler for."""
    kernel = launch.kernel
    names = {parameter.name for parameter in kernel.params}
    given = {name: value for name, value in launch.options.items() if name in names}
    bound = kernel.signature.bind(*launch.arguments, **given)
    bound.apply_defaults()
    constant = {parameter.name for parameter in kernel.params if parameter.is_constexpr}
    return Configuration(
        kernel.fn.__module__,
        kernel.fn.__name__,
        tuple((n, value) for n, value in bound.arguments.items() if n in constant),
        tuple((n, _alike(value)) for n, value in bound.arguments.items() if n not in constant),
        tuple((n, value) for n, value in sorted(launch.options.items()) if n not in names),
    )


def _alike(argument: Any) -> Any:
    """One argument in place of all that Triton compiles alike.

    Triton distinguishes 1, numbers of 32 and of 64 bits, and multiples of 16.
    """
    if isinstance(argument, Tensor):
        return Pointer(argument.dtype, argument.data_ptr() % 16)
    if isinstance(argument, list):  # of tensors: launch gives their addresses
        return Pointer(torch.int64, 0)
    if isinstance(argument, float):
        return 0.5
    if isinstance(argument, bool) or not isinstance(argument, int) or argument == 1:
        return argument
    is_short = -(2**31) <= argument < 2**31
    return (16 if argument % 16 == 0 else 17) + (0 if is_short else 2**32)


def dtypes_of(op: Op) -> list[torch.dtype]:
    """bfloat16; also float32 if state is changed in place, and only float32 without bfloat16."""
    has_state = bool(_inputs(op, op.tiny, op.options[0], torch.float32).changed)
    halves = [dtype for dtype in op.dtypes if dtype == torch.bfloat16]
    return [*halves, torch.float32] if has_state or not halves else halves


def launched(
    ops: dict[str, Op], gpus: list[Gpu], *, one_shape: bool = False
) -> dict[tuple[Configuration, int], Use]:
    """The operations that launch each configuration on each architecture.

    All shapes of real models are run with each option, and op.borders with the first option; with
    one_shape only the first shape of a real model is run, with each option.
    """
    uses: dict[tuple[Configuration, int], Use] = {}
    for name, op in ops.items():
        shapes = op.large[:1] if one_shape else op.large
        cases = [(shape, options) for options in op.options for shape in shapes]
        cases += [(shape, op.options[0]) for shape in op.borders if not one_shape]
        for shape, options in cases:
            for dtype in dtypes_of(op):
                for gpu in gpus:
                    for launch in record(op, shape, options, dtype, gpu):
                        key = configuration_of(launch), gpu.architecture
                        use = uses.setdefault(key, Use())
                        use.ops = sorted({*use.ops, name})
                        use.widths = sorted({*use.widths, shape[-1]})
    return uses
