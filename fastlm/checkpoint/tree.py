"""Nested dicts, lists, numbers and tensors as JSON plus a dict of tensors, without pickle."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from fastlm.devices.fsdp import whole


def host_copy(tensor: Tensor) -> Tensor:
    """Return a contiguous copy on the CPU, after waiting for the device.

    Under FSDP it is the whole tensor, so every process has to call this.
    """
    return whole(tensor.detach()).to("cpu", copy=True).contiguous()


def are_finite(tensors: Iterable[Tensor]) -> bool:
    """Return whether no value of the floating-point tensors is NaN or infinite.

    Waits for their device once.
    """
    # A norm needs no copy of a tensor, unlike isfinite, and is not finite if any value is not.
    norms = [
        torch.linalg.vector_norm(t, math.inf).float()
        for t in tensors
        if t.is_floating_point() and t.numel()
    ]
    return not norms or bool(torch.stack(norms).isfinite().all())


def pack(
    tree: Any,
    tensors: dict[str, Tensor],
    path: str = "",
    copy: Callable[[Tensor], Tensor] = host_copy,
) -> Any:
    """Convert nested dicts, lists, tuples, numbers and tensors to JSON; collect the tensors.

    Args:
        copy: makes the copy of a tensor that is collected.
    Raises:
        TypeError: for any other object; the message gives the path to it.
    """
    if isinstance(tree, Tensor):
        tensors[path] = copy(tree)
        return {"tensor": path}
    if isinstance(tree, dict):
        return {"dict": [[k, pack(v, tensors, f"{path}/{k}", copy)] for k, v in tree.items()]}
    if isinstance(tree, list | tuple):
        kind = "list" if isinstance(tree, list) else "tuple"
        return {kind: [pack(v, tensors, f"{path}/{i}", copy) for i, v in enumerate(tree)]}
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    raise TypeError(f"cannot save {type(tree).__name__} at {path or 'the root'} without pickle")


def unpack(packed: Any, tensors: dict[str, Tensor]) -> Any:
    """Invert pack."""
    if not isinstance(packed, dict):
        return packed
    ((kind, content),) = packed.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: unpack(value, tensors) for key, value in content}
    values = [unpack(value, tensors) for value in content]
    return values if kind == "list" else tuple(values)
