"""The calls of torch.ops.fastlm that an operation makes, and the graphs torch.compile makes of it.

Run as a program, it prints these graphs for a GPU as JSON, and needs none. It has to be without
TRITON_INTERPRET, so that operations register as they do on a GPU.
"""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from kernel_aot import Driver
from kernel_configurations import GPUS, without_memory
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.exc import BackendCompilerFailed
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from triton.runtime import driver

from kernels.cases import OPS, Inputs, Op
from kernels.launch import recording

H100 = GPUS["H100"]


class Call(NamedTuple):
    op: Any
    arguments: tuple[Any, ...]
    is_backward: bool

    @property
    def name(self) -> str:
        return self.op._schema.name.removeprefix("fastlm::")


class _Calls(TorchDispatchMode):
    """A mode that keeps the inputs of torch.ops.fastlm as they were before each call."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[Call] = []
        self.is_backward = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "fastlm":
            assert not kwargs, "all arguments by position"
            self.made.append(
                Call(func, tree_map_only(torch.Tensor, self._kept, args), self.is_backward)
            )
        return func(*args, **(kwargs or {}))

    def _kept(self, x: torch.Tensor) -> torch.Tensor:
        wants_gradient = x.requires_grad and not self.is_backward
        return x.detach().clone().requires_grad_(wants_gradient)


def calls_of(function: Callable[..., Any], inputs: Inputs) -> list[Call]:
    """Return the calls of both passes; kept inputs require gradients as the given ones do."""
    tensors = [
        x.requires_grad_() for i, x in enumerate(inputs.tensors) if i in inputs.differentiable
    ]
    with _Calls() as calls:
        returned = function(*inputs.tensors, **inputs.options)
        results = [
            r for r in tree_leaves(returned) if isinstance(r, torch.Tensor) and r.requires_grad
        ]
        calls.is_backward = True
        if results:
            torch.autograd.grad(results, tensors, [torch.ones_like(r) for r in results])
    return calls.made


_get = torch.Tensor.__getitem__


def _view(x: torch.Tensor, index: Any) -> torch.Tensor:
    """x[index], without asking for a device "cuda", which PyTorch does even for slices."""
    if x.device.type != "cuda":
        return _get(x, index)
    there = _get(torch.empty_strided(x.shape, x.stride(), device="meta"), index)
    return x.as_strided(there.shape, there.stride(), x.storage_offset() + there.storage_offset())


def _on_gpu(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="cuda")


class _Seen(Exception):
    """The graph is known; there is no GPU to run it on."""


def nodes_of(
    function: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]
) -> list[str]:
    """Names of the functions called in the one graph of a function of tensors on a GPU."""
    found: list[str] = []

    def keep(graph, inputs):
        called = [node for node in graph.graph.nodes if node.op == "call_function"]
        # An operation that changes its arguments is itself an argument of a node that does not.
        inner = [a for node in called for a in node.args if isinstance(a, torch._ops.OpOverload)]
        found.extend(str(target) for target in (*(node.target for node in called), *inner))
        raise _Seen

    torch.compiler.reset()
    with FakeTensorMode(), torch.no_grad():
        compiled = torch.compile(function, fullgraph=True, backend=aot_autograd(fw_compiler=keep))
        try:
            compiled(*tree_map_only(torch.Tensor, _on_gpu, arguments), **options)
        except BackendCompilerFailed as error:
            if not isinstance(error.inner_exception, _Seen):
                raise
    return found


def graphs_of(op: Op) -> dict[str, list[str]]:
    """Nodes for an operation itself ("all"), and for each of torch.ops.fastlm that it calls."""
    inputs = op.make(op.tiny, op.options[0], torch.float32, torch.device("cpu"), torch.Generator())
    inputs = inputs._replace(tensors=tree_map_only(torch.Tensor, without_memory, inputs.tensors))
    found = {"all": nodes_of(op.function, inputs.tensors, inputs.options)}
    with recording(H100):
        calls = calls_of(op.function, inputs)
    return found | {call.name: nodes_of(call.op, call.arguments, {}) for call in calls}


def print_graphs(ops: dict[str, Op]) -> None:
    driver.set_active(Driver(H100.architecture))
    torch.Tensor.__getitem__ = _view
    major, minor = divmod(H100.architecture, 10)
    properties = SimpleNamespace(major=major, minor=minor, multi_processor_count=H100.n_sms)
    with patch("torch.cuda.get_device_properties", lambda device=None: properties):
        print(json.dumps({name: graphs_of(op) for name, op in ops.items()}))


if __name__ == "__main__":
    print_graphs(OPS)
