"""Launch kernels, and register them as PyTorch operations.

On a GPU, torch.compile sees the kernels inside an operation. If TRITON_INTERPRET=1 is set before
Triton is imported, its interpreter runs kernels on CPU tensors, in NumPy. torch.compile cannot
trace the interpreter, so operations are then opaque to it.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.library import custom_op, triton_op, wrap_triton
from triton import __version__ as triton_version
from triton import knobs, next_power_of_2
from triton import language as tl

INTERPRETED: bool = knobs.runtime.interpret

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def _take_arrays_of_one_as_numbers() -> None:
    """Let loops run in the interpreter of Triton 3.6 with NumPy 2.4, as they do in Triton 3.7.

    That interpreter makes a number of an array of one element with int(), which NumPy then refuses.
    """
    from triton.runtime import interpreter

    patch = interpreter._patch_lang_tensor

    def patch_and_index(tensor: Any, *scope: Any) -> None:
        patch(tensor, *scope)
        set_attribute = scope[0].set_attr if scope else setattr
        set_attribute(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._patch_lang_tensor = patch_and_index


if INTERPRETED and triton_version.startswith("3.6."):
    _take_arrays_of_one_as_numbers()

_INTERPRETED_PROGRAMS = 3  # few, since each is slow, but enough to share work among them


class Gpu(NamedTuple):
    """The properties of a GPU on which the choice of kernels and grids depends.

    Attributes:
        architecture: compute capability as one number: 90 for an H100.
        n_sms: number of streaming multiprocessors.
    """

    architecture: int
    n_sms: int


class Launch(NamedTuple):
    """A kernel, its grid, and the arguments it was given by position and by name."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: tuple[Any, ...]
    options: dict[str, Any]


class _Recording(NamedTuple):
    gpu: Gpu
    launches: list[Launch]


_recording: _Recording | None = None


@contextmanager
def recording(gpu: Gpu) -> Iterator[list[Launch]]:
    """Collect the launches that operations would make on such a GPU, instead of making them.

    Operations are then called with tensors on device "meta", which have shapes and dtypes but no
    memory, so no GPU is needed.
    """
    global _recording
    _recording = _Recording(gpu, [])
    try:
        yield _recording.launches
    finally:
        _recording = None


def gpu_of(device: torch.device) -> Gpu:
    """The GPU for which launches are chosen: that device, or the GPU of a recording."""
    if _recording is not None:
        return _recording.gpu
    properties = torch.cuda.get_device_properties(device)
    return Gpu(10 * properties.major + properties.minor, properties.multi_processor_count)


def operation(
    name: str,
    fake: Callable[..., Any],
    *,
    is_opaque: bool = False,
    changes: tuple[str, ...] = (),
    tags: tuple[torch.Tag, ...] = (),
) -> Callable[[Callable[..., Any]], Any]:
    """Register a function of tensors as torch.ops.fastlm.<name>.

    The function must not return its arguments, and may change only the arguments in `changes`.

    Args:
        fake: makes empty results of the right shapes from the same arguments.
        is_opaque: whether torch.compile must not trace the function, on a GPU either.
        changes: names of the arguments that are changed in place.
        tags: tags of an opaque operation.
    """
    assert is_opaque or not tags

    def decorate(function: Callable[..., Any]) -> Any:
        if not INTERPRETED and not is_opaque:
            return triton_op(f"fastlm::{name}", function, mutates_args=changes)
        registered = custom_op(
            f"fastlm::{name}", untraced(function), mutates_args=changes, tags=tags
        )
        # A recording needs the launches, so it calls the function itself on "meta".
        registered.register_fake(
            lambda *arguments: (fake if _recording is None else function)(*arguments)
        )
        return registered

    return decorate


_is_untraced = ContextVar("is_untraced", default=False)


def untraced(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which launches its kernels itself.

    Launches that torch.compile could trace take a millisecond of the host each, and PyTorch keeps
    their arguments for ever.
    """

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        before = _is_untraced.set(True)
        try:
            return function(*arguments)
        finally:
            _is_untraced.reset(before)

    return call


def may_be_traced(x: Tensor) -> bool:
    """Whether something looks at the operations on a tensor: a compiler, a mode or a subclass."""
    return (
        torch.compiler.is_compiling()
        or type(x) not in (Tensor, torch.nn.Parameter)
        or torch._C._len_torch_dispatch_stack() > 0
    )


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
    """Run a kernel on a grid of programs; a list of tensors is passed as their int64 addresses.

    The interpreter treats the bits of a bfloat16 number as an integer. It therefore gets bfloat16
    tensors as float32, and its results are rounded to bfloat16 as PyTorch rounds.
    """
    if _recording is not None:
        _recording.launches.append(Launch(kernel, grid, arguments, options))
        return
    if not INTERPRETED:
        given = [_addresses(a) if isinstance(a, list) else a for a in arguments]
        kernel = kernel if _is_untraced.get() else wrap_triton(kernel)
        kernel[grid](*given, **options)
        return
    copies: dict[tuple[Any, ...], tuple[Tensor, Tensor]] = {}

    def as_computed(argument: Any) -> Any:
        if isinstance(argument, list):
            return _addresses([as_computed(a) for a in argument])
        return _as_float32(argument, copies) if _is_bfloat16(argument) else argument

    given = [as_computed(a) for a in arguments]
    # The interpreter takes no num_warps and num_stages.
    options = {name: value for name, value in options.items() if not name.startswith("num_")}
    kernel[grid](*given, **options)
    for original, copy in copies.values():
        rounded = copy.to(original.dtype)
        # copy_ counts as a change for autograd: tensors that the kernel only read are left alone.
        if not torch.equal(rounded.view(torch.int16), original.view(torch.int16)):
            original.copy_(rounded)


def _addresses(tensors: list[Tensor]) -> Tensor:
    return without_waiting(torch.tensor([t.data_ptr() for t in tensors]), tensors[0].device)


def without_waiting(table: Tensor, device: torch.device) -> Tensor:
    """Copy a table from the CPU to a device without waiting for the device."""
    # A copy from pageable memory would wait for all work of the device.
    pinned = table.pin_memory() if device.type == "cuda" else table
    return pinned.to(device, non_blocking=True)


def _is_bfloat16(argument: Any) -> bool:
    return isinstance(argument, Tensor) and argument.dtype == torch.bfloat16


def _as_float32(x: Tensor, copies: dict[tuple[Any, ...], tuple[Tensor, Tensor]]) -> Tensor:
    """A float32 copy of x with the strides of x; the same memory has one copy."""
    key = (x.data_ptr(), x.shape, x.stride())
    if key not in copies:
        span = 1 + sum((n - 1) * s for n, s in zip(x.shape, x.stride(), strict=True))
        flat = x.as_strided((span if x.numel() > 0 else 0,), (1,)).float()
        copies[key] = (x, flat.as_strided(x.shape, x.stride()))
    return copies[key][1]


def as_rows(x: Tensor) -> Tensor:
    """x as (n_rows, n_columns) with contiguous columns: a view if possible, else a copy."""
    rows = x.reshape(-1, x.shape[-1])
    return rows if rows.stride(-1) == 1 or rows.shape[-1] == 1 else rows.contiguous()


def check_tensors(name: str, max_columns: int | None, x: Tensor, *others: Tensor) -> None:
    """Refuse tensors that no kernel takes.

    Args:
        max_columns: the most columns of x that the kernel takes; None for any number.
    Raises:
        ValueError: for tensors on another device, x of another dtype, or too many columns, with
            what to do.
    """
    device = "meta" if _recording is not None else "cpu" if INTERPRETED else "cuda"
    for tensor in (x, *others):
        if tensor.device.type != device:
            hint = (
                "TRITON_INTERPRET=1 is set: unset it to run on a GPU"
                if INTERPRETED
                else "use --triton-ops none, or set TRITON_INTERPRET=1 before triton is imported "
                "to try it slowly"
            )
            raise ValueError(f"{name} needs tensors on {device}: got {tensor.device}; {hint}")
    if x.dtype not in FLOATS:
        names = ", ".join(str(dtype).removeprefix("torch.") for dtype in FLOATS)
        raise ValueError(
            f"{name} takes {names}: got {x.dtype}; convert it, or use --triton-ops none"
        )
    if max_columns is not None and x.shape[-1] > max_columns:
        raise ValueError(
            f"{name} takes at most {max_columns:,} columns: got {x.shape[-1]:,}; use "
            "--triton-ops none"
        )


def accurate_dtype(x: Tensor) -> tl.dtype:
    """The dtype in which a kernel computes: float64 for a float64 tensor, else float32."""
    return tl.float64 if x.dtype == torch.float64 else tl.float32


def sum_dtype(x: Tensor) -> torch.dtype:
    """accurate_dtype as a torch.dtype."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def lowest_number(x: Tensor) -> float:
    """The lowest finite number of sum_dtype(x)."""
    return torch.finfo(sum_dtype(x)).min


def block_of(n_columns: int) -> int:
    """The smallest power of two that holds a row."""
    return max(next_power_of_2(n_columns), 1)


def tile_of(n_columns: int, n_values: int) -> tuple[int, int, int]:
    """(rows, columns, warps) of a tile of whole rows with n_values values per thread.

    A tile has 4 to 16 warps and at most 16 rows, so wide rows give a thread more values and short
    rows fewer.
    """
    block = block_of(n_columns)
    n_warps = min(max(block // (32 * n_values), 4), 16)
    return max(min(32 * n_values * n_warps // block, 16), 1), block, n_warps


def n_programs(device: torch.device, n_tasks: int, programs_per_sm: int) -> int:
    """Number of programs that share the tasks: at most as many as run at once."""
    if INTERPRETED:
        return max(min(n_tasks, _INTERPRETED_PROGRAMS), 1)
    return max(min(n_tasks, gpu_of(device).n_sms * programs_per_sm), 1)
