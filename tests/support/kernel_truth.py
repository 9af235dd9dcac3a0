"""Kernels compared with the truth of fastlm.functional, over shapes, options and dtypes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from kernel_graphs import calls_of

from fastlm import functional
from kernels.calls import largest_error, results_and_gradients
from kernels.cases import OPS, Inputs

CPU = torch.device("cpu")
_INCOMING = 4.0  # of random numbers none is larger than about this


def cases(wanted: Callable[[torch.dtype, int], bool]) -> list[Any]:
    """Each small shape with the options and dtypes that are wanted: a dtype, an option's number."""
    return [
        pytest.param(
            name, shape, options, dtype, id=f"{name}-{'x'.join(map(str, shape))}-{i}-{dtype}"
        )
        for name, op in OPS.items()
        for shape in op.small
        for i, options in enumerate(op.options)
        for dtype in op.dtypes
        if wanted(dtype, i)
    ]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(name, shape, options, dtype) -> Inputs:
    """Inputs of a case, from one seed."""
    return OPS[name].make(shape, options, dtype, CPU, generator())


def tiny(name, dtype, options=None) -> Inputs:
    op = OPS[name]
    return make(name, op.tiny, op.options[0] if options is None else options, dtype)


def run(function, inputs: Inputs, dtype: torch.dtype | None = None) -> list[torch.Tensor]:
    return results_and_gradients(function, inputs, generator(1), dtype)


def check_errors(name: str, shape: Any, options: Any, dtype: torch.dtype) -> None:
    """The error is at most 1.5 times that of the same formula in PyTorch, plus four roundings.

    The roundings are those of the result's dtype and of float32, in which all is computed, at the
    size of the inputs: a gradient may be the small difference of terms of that size.
    """
    inputs = make(name, shape, options, dtype)
    truth_function = getattr(functional, name)
    truth = run(truth_function, inputs, torch.float64)
    plain = run(truth_function, inputs)
    found = run(OPS[name].function, inputs)
    assert len(found) == len(truth)
    inside = 4 * torch.finfo(torch.float32).eps * _INCOMING
    for ours, theirs, true in zip(found, plain, truth, strict=True):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        rounding = torch.finfo(theirs.dtype).eps * (true.abs().max().item() if true.numel() else 0)
        assert (
            largest_error(ours, true) <= 1.5 * largest_error(theirs, true) + 4 * rounding + inside
        )


def check_promises(name: str, options: Any) -> None:
    """Check the schemas, fake results and registered gradients, forward and backward."""
    calls = calls_of(OPS[name].function, tiny(name, torch.float32, options))
    assert calls
    for call in calls:
        torch.library.opcheck(call.op, call.arguments)


def check_compiled(name: str, backend: str) -> None:
    """Compare three ways: eager, compiled, and the reference compiled, which also may be wrong.

    The reference is compiled without generated code: in that only PyTorch itself may be wrong.
    """
    inputs = tiny(name, torch.float32)
    expected = run(OPS[name].function, inputs)
    compiled = torch.compile(OPS[name].function, fullgraph=True, backend=backend)
    reference = torch.compile(getattr(functional, name), fullgraph=True, backend="aot_eager")
    for ours, before, other in zip(
        run(compiled, inputs), expected, run(reference, inputs), strict=True
    ):
        torch.testing.assert_close(ours, before, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(ours, other, rtol=1e-4, atol=1e-5)
