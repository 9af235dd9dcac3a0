# mypy: allow-untyped-defs, allow-incomplete-defs
"""What the operations launch on a GPU: which kernels, compiled for what. Known without one.

Each operation runs forward and backward on tensors without memory, of the shapes of real models,
while PyTorch says that the device is such a GPU. Of its launches is kept all that Triton compiles
for: constants, dtypes, whether an address or a number is a multiple of 16.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves, tree_map_only

from .cases import Inputs, Op, Options, Shape
from .launch import Launch, recording


class Gpu(NamedTuple):
    """What an operation may ask a device for; shared_bytes is the most that a program can have."""

    architecture: int
    n_sms: int
    shared_bytes: int


GPUS = {
    "A100": Gpu(80, 108, 163 << 10),
    "H100": Gpu(90, 132, 227 << 10),
    "B200": Gpu(100, 148, 227 << 10),
}


@dataclass(frozen=True)
class Pointer:
    """What Triton compiles for: a dtype, and whether the address is a multiple of 16."""

    dtype: torch.dtype
    address: int

    def data_ptr(self) -> int:
        return self.address


@dataclass(frozen=True)
class Configuration:
    """All that a kernel is compiled for, but the architecture.

    Attributes:
        arguments: by name; a number stands for all that Triton compiles alike.
        options: num_warps and the like, as far as they are given.
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
    with pretended(gpu), recording() as launches:
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
    """As for tests, but without memory: the shapes are those of real models."""
    with FakeTensorMode():
        return op.make(shape, options, dtype, torch.device("cpu"), torch.Generator())


@contextmanager
def pretended(gpu: Gpu) -> Iterator[None]:
    """PyTorch says of any device that it is such a GPU."""
    major, minor = divmod(gpu.architecture, 10)
    properties = SimpleNamespace(
        multi_processor_count=gpu.n_sms,
        major=major,
        minor=minor,
        shared_memory_per_block_optin=gpu.shared_bytes,
    )
    with (
        patch("torch.cuda.get_device_properties", lambda device=None: properties),
        patch("torch.cuda.get_device_capability", lambda device=None: (major, minor)),
    ):
        yield


def configuration_of(launch: Launch) -> Configuration:
    """What a launch asks the compiler for."""
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
    """One argument for all that Triton compiles alike: it tells 1, 32 bits and multiples of 16."""
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
    """bfloat16; float32 too where state is changed in place, and where nothing else is taken."""
    has_state = bool(_inputs(op, op.tiny, op.options[0], torch.float32).changed)
    halves = [dtype for dtype in op.dtypes if dtype == torch.bfloat16]
    return [*halves, torch.float32] if has_state or not halves else halves


def launched(ops: dict[str, Op], gpus: list[Gpu]) -> dict[tuple[Configuration, int], Use]:
    """By configuration and architecture, who launches it: for the shapes of real models with each
    option, and for op.borders with the first."""
    uses: dict[tuple[Configuration, int], Use] = {}
    for name, op in ops.items():
        cases = [(shape, options) for options in op.options for shape in op.large]
        cases += [(shape, op.options[0]) for shape in op.borders]
        for shape, options in cases:
            for dtype in dtypes_of(op):
                for gpu in gpus:
                    for launch in record(op, shape, options, dtype, gpu):
                        key = configuration_of(launch), gpu.architecture
                        use = uses.setdefault(key, Use())
                        use.ops = sorted({*use.ops, name})
                        use.widths = sorted({*use.widths, shape[-1]})
    return uses
