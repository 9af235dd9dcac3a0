"""How kernels are launched, and when an operation is left out."""

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import kernels.launch as module
from kernels.adamw import adamw

pytestmark = pytest.mark.interpreter


class Kernel(dict[Any, Any]):
    """Stands for a kernel that was compiled: it notes each launch."""

    def __init__(self, name: str, launched: list[str]) -> None:
        self.name, self.launched = name, launched

    def __getitem__(self, grid: Any) -> Any:
        return lambda *arguments, **options: self.launched.append(self.name)


def test_an_opaque_operation_launches_its_kernels_itself(monkeypatch):
    """PyTorch keeps the arguments of each launch that a compiler could have traced."""
    launched: list[str] = []
    monkeypatch.setattr(module, "INTERPRETED", False)
    monkeypatch.setattr(module, "wrap_triton", lambda kernel: Kernel("wrapped", launched))
    kernel = Kernel("itself", launched)
    module.untraced(lambda: module.launch(kernel, (1,)))()
    module.launch(kernel, (1,))
    assert launched == ["itself", "wrapped"]


class Names(TorchDispatchMode):
    """Notes the operations of fastlm."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "fastlm":
            self.seen.append(func.__name__)
        return func(*args, **(kwargs or {}))


def test_adamw_is_an_operation_only_where_something_looks(monkeypatch):
    def tensors() -> list[list[torch.Tensor]]:
        return [[torch.ones(5)] for _ in range(4)]

    options = {"lr": 0.1, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1, "step": 3}
    plain, seen = tensors(), tensors()
    versions = [each[0]._version for each in plain]
    adamw(*plain, **options)
    assert [each[0]._version > v for each, v in zip(plain, versions, strict=True)] == [
        True, False, True, True
    ]  # fmt: skip
    with Names() as names:
        adamw(*seen, **options)
    assert names.seen == ["adamw.default"]
    for one, other in zip(plain, seen, strict=True):
        assert torch.equal(one[0], other[0])
