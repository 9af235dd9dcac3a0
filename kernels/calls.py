"""Call an operation on a case: copies of its inputs, its results, and its gradients."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from .cases import Inputs


def copied(inputs: Inputs, dtype: torch.dtype | None = None) -> Inputs:
    """The same values in new memory of the same strides, or in another dtype.

    Differentiable inputs require gradients.
    """

    def copy(tensor: Tensor) -> Tensor:
        to = dtype if tensor.is_floating_point() and dtype is not None else tensor.dtype
        return torch.empty_like(tensor, dtype=to).copy_(tensor)

    tensors = tree_map_only(Tensor, copy, inputs.tensors)
    for i in inputs.differentiable:
        tensors[i].requires_grad_()
    return inputs._replace(tensors=tensors)


def results_of(function: Callable[..., Any], inputs: Inputs) -> list[Tensor]:
    """The results of a call: the arguments that it changes in place, else what it returns."""
    returned = function(*inputs.tensors, **inputs.options)
    return tree_leaves([inputs.tensors[i] for i in inputs.changed] or returned)


def results_and_gradients(
    function: Callable[..., Any],
    inputs: Inputs,
    generator: torch.Generator,
    dtype: torch.dtype | None = None,
) -> list[Tensor]:
    """Results, then the gradients of all inputs, on a copy of the inputs.

    The incoming gradients are drawn from the generator, so that functions to compare get the same.
    """
    inputs = copied(inputs, dtype)
    results = results_of(function, inputs)
    if not inputs.differentiable:
        return [r.detach() for r in results]
    weights = [
        torch.randn(r.shape, generator=generator).to(device=r.device, dtype=r.dtype)
        for r in results
    ]
    given = [inputs.tensors[i] for i in inputs.differentiable]
    gradients = torch.autograd.grad(results, given, weights)
    return [r.detach() for r in (*results, *gradients)]


def largest_error(found: Tensor, truth: Tensor) -> float:
    """The largest absolute difference; NaN if only one of the two has NaN at some place."""
    if found.numel() == 0:
        return 0.0
    difference = (found.double() - truth).abs()
    return float(torch.where(found.isnan() & truth.isnan(), 0, difference).max())
