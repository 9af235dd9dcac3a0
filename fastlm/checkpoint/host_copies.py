"""Copies of a device's tensors in host memory, which a GPU makes while it computes on."""

import contextlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from fastlm.checkpoint.tree import host_copy
from fastlm.devices.fsdp import is_dtensor


def reserve(tensors: Iterable[Tensor]) -> None:
    """Take memory for copies of a GPU's tensors: the first time takes seconds per 10 GB."""
    with contextlib.suppress(RuntimeError):  # the system pins no more
        # PyTorch keeps for later what is freed here.
        [_pinned(tensor) for tensor in tensors if tensor.is_cuda]


def _pinned(like: Tensor) -> Tensor:
    """An empty tensor in memory that a GPU copies to while both go on with other things."""
    return torch.empty(like.shape, dtype=like.dtype, pin_memory=True)


class HostCopies:
    """Copies tensors to the CPU. Those of a GPU are complete after wait().

    The tensors must not change before they are copied: call hold_back() before anything that
    changes them.
    """

    def __init__(self) -> None:
        self._stream: Any = None
        self._copied: Any = None

    def __call__(self, tensor: Tensor) -> Tensor:
        """Return a contiguous copy on the CPU.

        Under FSDP it is the whole tensor, so every process has to call this; it is complete then.
        """
        if not tensor.is_cuda or is_dtensor(tensor):
            return host_copy(tensor)
        try:
            copy = _pinned(tensor)
        except RuntimeError:  # the system pins no more memory
            return host_copy(tensor)
        if self._stream is None:
            self._stream = torch.cuda.Stream(tensor.device)
            self._copied = torch.cuda.Event()
            self._stream.wait_stream(torch.cuda.current_stream(tensor.device))
        with torch.cuda.stream(self._stream):
            copy.copy_(tensor.detach(), non_blocking=True)
        self._copied.record(self._stream)
        return copy

    def hold_back(self) -> None:
        """Let the GPU go on with what comes after this call when all is copied; does not wait."""
        if self._copied is not None:
            torch.cuda.current_stream(self._stream.device).wait_event(self._copied)

    def wait(self) -> None:
        """Wait until all is copied."""
        if self._copied is not None:
            self._copied.synchronize()
