# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
"""AdamW for any number of parameters in one launch.

Each program updates one chunk of one parameter. Tables hold the parameter of each chunk, the first
chunk and the size of each parameter, and the addresses of its four tensors. Only the addresses
change from step to step, since gradients are allocated anew.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import (
    accurate_dtype,
    check_tensors,
    launch,
    may_be_traced,
    operation,
    untraced,
    without_waiting,
)

CHUNK = 2048
WARPS = 8
_ALIGNMENT = 16  # bytes that a thread reads at once


@triton.jit
def _pointer(addresses_ptr, like_ptr, IS_ALIGNED: tl.constexpr):
    ptr = tl.load(addresses_ptr).to(like_ptr.dtype)
    # Triton forgets a multiple_of that is stated before the cast to a pointer.
    return tl.multiple_of(ptr, 16) if IS_ALIGNED else ptr


@triton.jit
def _update_chunk(
    param_ptr, grad_ptr, exp_avg_ptr, exp_avg_sq_ptr, n_left,
    rate, decay, beta1, rest1, beta2, rest2, eps,
    IS_WHOLE: tl.constexpr, ACCURATE: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    places = tl.arange(0, CHUNK)
    # A mask that may end anywhere splits the loads, so only a parameter's last chunk has a mask.
    is_there = tl.full((CHUNK,), True, tl.int1) if IS_WHOLE else places < n_left
    param = tl.load(param_ptr + places, is_there, 0.0).to(ACCURATE)
    grad = tl.load(grad_ptr + places, is_there, 0.0).to(ACCURATE)
    exp_avg = tl.load(exp_avg_ptr + places, is_there, 0.0).to(ACCURATE)
    exp_avg_sq = tl.load(exp_avg_sq_ptr + places, is_there, 0.0).to(ACCURATE)
    exp_avg = tl.full((), beta1, ACCURATE) * exp_avg + tl.full((), rest1, ACCURATE) * grad
    exp_avg_sq = (
        tl.full((), beta2, ACCURATE) * exp_avg_sq + tl.full((), rest2, ACCURATE) * grad * grad
    )
    change = tl.full((), rate, ACCURATE) * exp_avg
    change = change / (tl.sqrt(exp_avg_sq) + tl.full((), eps, ACCURATE))
    param = param - tl.full((), decay, ACCURATE) * param - change
    tl.store(exp_avg_ptr + places, exp_avg.to(exp_avg_ptr.dtype.element_ty), is_there)
    tl.store(exp_avg_sq_ptr + places, exp_avg_sq.to(exp_avg_sq_ptr.dtype.element_ty), is_there)
    tl.store(param_ptr + places, param.to(param_ptr.dtype.element_ty), is_there)


@triton.jit
def _update(
    addresses_ptr, owners_ptr, first_chunks_ptr, sizes_ptr,
    param_ptr, grad_ptr, exp_avg_ptr, exp_avg_sq_ptr, applies_ptr,
    n_tensors, rate, decay, beta1, rest1, beta2, rest2, eps,
    IS_HELD: tl.constexpr, IS_ALIGNED: tl.constexpr, ACCURATE: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """param_ptr, grad_ptr, exp_avg_ptr and exp_avg_sq_ptr give only the types of the tensors."""
    if IS_HELD:  # noqa: SIM102
        # Two conditions: `IS_HELD and load` would compile the load without IS_HELD too.
        if tl.load(applies_ptr) == 0:
            return
    chunk = tl.program_id(0)
    owner = tl.load(owners_ptr + chunk)
    # int64 like the tables: a parameter may have more than 2^31 elements.
    begin = (chunk - tl.load(first_chunks_ptr + owner)) * CHUNK
    n_left = tl.load(sizes_ptr + owner) - begin
    addresses_ptr += owner
    param_ptr = _pointer(addresses_ptr, param_ptr, IS_ALIGNED) + begin
    grad_ptr = _pointer(addresses_ptr + n_tensors, grad_ptr, IS_ALIGNED) + begin
    exp_avg_ptr = _pointer(addresses_ptr + 2 * n_tensors, exp_avg_ptr, IS_ALIGNED) + begin
    exp_avg_sq_ptr = _pointer(addresses_ptr + 3 * n_tensors, exp_avg_sq_ptr, IS_ALIGNED) + begin
    if n_left >= CHUNK:
        _update_chunk(
            param_ptr, grad_ptr, exp_avg_ptr, exp_avg_sq_ptr, n_left,
            rate, decay, beta1, rest1, beta2, rest2, eps, True, ACCURATE, CHUNK,
        )  # fmt: skip
    else:
        _update_chunk(
            param_ptr, grad_ptr, exp_avg_ptr, exp_avg_sq_ptr, n_left,
            rate, decay, beta1, rest1, beta2, rest2, eps, False, ACCURATE, CHUNK,
        )  # fmt: skip


@lru_cache(maxsize=32)
def _tables(
    sizes: tuple[int, ...], device: torch.device, stream: int
) -> tuple[Tensor, Tensor, Tensor]:
    """(parameter of each chunk, first chunk of each parameter, sizes), cached between steps.

    Each stream has its own tables, since only the stream that copied them is sure to read them
    after the copy.
    """
    numels = torch.tensor(sizes)
    counts = (numels + (CHUNK - 1)) // CHUNK
    owners = torch.arange(len(sizes), dtype=torch.int32).repeat_interleave(counts)
    first_chunks = counts.cumsum(0) - counts
    owners, first_chunks, numels = (
        without_waiting(table, device) for table in (owners, first_chunks, numels)
    )
    return owners, first_chunks, numels


def _fake(*arguments: list[Tensor] | float) -> None:
    """Return nothing, as the operation does."""


@untraced
def _update_all(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    step: int,
    applies: Tensor | None,
) -> None:
    groups: dict[tuple[torch.dtype, ...], list[tuple[Tensor, ...]]] = {}
    for p, grad, *averages in zip(params, grads, exp_avgs, exp_avg_sqs, strict=True):
        tensors = (p, grad.contiguous(), *averages)
        groups.setdefault(tuple(t.dtype for t in tensors), []).append(tensors)
    for group in groups.values():
        columns = [list(column) for column in zip(*group, strict=True)]
        device = columns[0][0].device
        sizes = tuple(p.numel() for p in columns[0])
        stream = torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0
        owners, first_chunks, numels = _tables(sizes, device, stream)
        if len(owners) == 0:
            continue
        likes = [column[0] for column in columns]
        launch(
            _update, (len(owners),),
            [t for column in columns for t in column], owners, first_chunks, numels, *likes,
            owners if applies is None else applies.view(torch.uint8), len(group),
            lr * math.sqrt(1 - beta2**step) / (1 - beta1**step), lr * weight_decay,
            beta1, 1 - beta1, beta2, 1 - beta2, eps,
            IS_HELD=applies is not None,
            IS_ALIGNED=all(t.data_ptr() % _ALIGNMENT == 0 for column in columns for t in column),
            ACCURATE=accurate_dtype(max(likes, key=lambda t: t.dtype.itemsize)),
            CHUNK=CHUNK,
            num_warps=WARPS,
        )  # fmt: skip


# The operation is opaque to torch.compile, since nothing can be fused with it, and is left out of
# CUDA graphs, which would replay it with the addresses and the step of one call.
_update_in_graph = operation(
    "adamw",
    _fake,
    is_opaque=True,
    changes=("params", "exp_avgs", "exp_avg_sqs"),
    tags=(torch.Tag.cudagraph_unsafe,),
)(_update_all)


@torch.no_grad()
def adamw(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    exp_avgs: Sequence[Tensor],
    exp_avg_sqs: Sequence[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    step: int,
    applies: Tensor | None = None,
) -> None:
    """Compute fastlm.functional.adamw with one launch for each combination of dtypes.

    params, exp_avgs and exp_avg_sqs are changed in place and must be contiguous; a gradient that is
    not contiguous is copied. lr and the other rates are rounded to float32, for float64 tensors
    too. The call does not wait for the device.

    Raises:
        ValueError: if the lists differ in length, the tensors of a parameter differ in shape or
            device, a changed tensor is not contiguous, or check_tensors refuses a tensor.
    """
    changed = {"params": params, "exp_avgs": exp_avgs, "exp_avg_sqs": exp_avg_sqs}
    lists = changed | {"grads": grads}
    for name, tensors in lists.items():
        if len(tensors) != len(params):
            raise ValueError(
                f"adamw needs one of each for each parameter: got {len(params)} params and "
                f"{len(tensors)} {name}; give gradients and averages of the same parameters"
            )
        for i, (p, tensor) in enumerate(zip(params, tensors, strict=True)):
            check_tensors("adamw", None, tensor)
            if tensor.shape != p.shape:
                raise ValueError(
                    f"adamw needs {name}[{i}] shaped as its parameter: got {tuple(tensor.shape)} "
                    f"for {tuple(p.shape)}"
                )
            if tensor.device != params[0].device:
                raise ValueError(
                    f"adamw needs all tensors on one device: got {name}[{i}] on {tensor.device} "
                    f"and params[0] on {params[0].device}; call it once for each device"
                )
            if name in changed and not tensor.is_contiguous():
                raise ValueError(
                    f"adamw changes {name}[{i}] in place and needs it contiguous: got strides "
                    f"{tensor.stride()} of shape {tuple(tensor.shape)}; make it contiguous(), or "
                    "use --triton-ops none"
                )
    if applies is not None and (applies.dtype, applies.numel()) != (torch.bool, 1):
        raise ValueError(
            f"adamw needs applies as one bool: got {applies.numel()} of {applies.dtype}; give "
            "a tensor of dtype bool, or None"
        )
    if len(params) > 0:
        # As an operation, a call would take the host another millisecond.
        update = _update_in_graph if may_be_traced(params[0]) else _update_all
        update(
            list(params), list(grads), list(exp_avgs), list(exp_avg_sqs),
            lr, *betas, eps, weight_decay, step, applies,
        )  # fmt: skip
        if update is _update_all:
            torch.autograd.graph.increment_version([*params, *exp_avgs, *exp_avg_sqs])
