"""Data parallel processes, one per device: collectives and the all-reduce of gradients.

torchrun starts them. A single process is a group of one, for which nothing is sent.
"""

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fastlm.devices.torchrun import check_started, world_size

Parallel = Literal["auto", "ddp", "fsdp"]
T = TypeVar("T")

BUCKET_BYTES = 25 << 20
"""Size of a gradient bucket: large enough for the full bandwidth, small enough that the first
all-reduce overlaps with the backward pass."""


class LostProcess(RuntimeError):
    """The other processes of the run have died or cannot be reached."""


class Ranks:
    """The process group of a run, seen from one process.

    The methods are collectives: all processes must call them in the same order.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
        is_fsdp: whether each process holds only a shard of every parameter (FSDP).
    """

    def __init__(self, rank: int = 0, size: int = 1, *, is_fsdp: bool = False) -> None:
        self.rank, self.size = rank, size
        self.is_fsdp = is_fsdp and size > 1

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which writes the run's files and messages."""
        return self.rank == 0

    def of_first(self, value: T) -> T:
        """Broadcast rank 0's value, a small picklable object."""
        if self.size == 1:
            return value
        values: list[Any] = [value if self.is_first else None]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def largest(self, *values: float) -> list[float]:
        """All-reduce (max) of each value, through the CPU."""
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return tensor.tolist()

    def wait(self) -> None:
        """Barrier: return when all processes have called it."""
        self.largest(0.0)

    def sum_(self, tensor: Tensor) -> Tensor:
        """All-reduce (sum) a tensor in place; on a GPU the host does not wait."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def concatenate(self, tensor: Tensor) -> Tensor:
        """All-gather tensors of one shape, concatenated along the first dimension."""
        if self.size == 1:
            return tensor
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    def share(self, stack: Tensor) -> Tensor:
        """This process's share of n matrices: ceil(n / size) of them, padded with zeros."""
        if self.size == 1:
            return stack
        n_each = -(-len(stack) // self.size)
        part = stack[self.rank * n_each : (self.rank + 1) * n_each]
        missing = n_each - len(part)
        return torch.cat([part, part.new_zeros(missing, *part.shape[1:])]) if missing else part

    def whole(self, part: Tensor, n: int) -> Tensor:
        """All-gather the n matrices that share() divided, each from its owner."""
        return self.concatenate(part)[:n]


@contextlib.contextmanager
def joined(parallel: Parallel, device: torch.device) -> Iterator[Ranks]:
    """Join the process group of torchrun inside `with`; without torchrun, a group of one.

    Raises:
        ValueError: if torchrun did not start this process, or there is no device for it.
        LostProcess: if the others cannot be reached, at the start or later.
    """
    if world_size() == 1:
        yield Ranks()
        return
    check_started(has_gpu=device.type == "cuda")
    backend = "gloo"
    if device.type == "cuda":
        local, n_gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= n_gpus:
            raise ValueError(
                f"torchrun started process {local + 1} on a machine with {n_gpus} GPUs: give "
                f"torchrun --nproc-per-node {n_gpus}, or fastlm --device cpu"
            )
        torch.cuda.set_device(local)
        backend = "cpu:gloo,cuda:nccl"
    elif device.type != "cpu":
        raise ValueError(f"several processes need CUDA or --device cpu: this is {device}")
    try:
        _meet(backend)
        yield Ranks(dist.get_rank(), dist.get_world_size(), is_fsdp=parallel == "fsdp")
    except RuntimeError as error:
        # gloo has no error class of its own.
        if not isinstance(error, dist.DistError) and "gloo" not in str(error).lower():
            raise
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise LostProcess(
            f"the other processes of this run cannot be reached ({why}): "
            "if none of them says why, this is the reason; the last checkpoint is kept"
        ) from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _meet(backend: str) -> None:
    """Initialise the process group, which may wait for the others for ten minutes.

    It waits in C++, where no signal is handled: a thread does it, and this one takes signals.
    """
    failed: list[BaseException] = []
    is_over = threading.Event()

    def meet() -> None:
        try:
            dist.init_process_group(backend)
        except BaseException as error:
            failed.append(error)
        is_over.set()

    threading.Thread(target=meet, daemon=True).start()
    is_over.wait()
    if failed:
        raise failed[0]


class GradientSum:
    """All-reduces gradients in buckets, overlapped with the backward pass (DDP).

    Args:
        parameters: replicated on every process, which all compute their gradients in one order.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], ranks: Ranks) -> None:
        self.ranks = ranks
        self.is_last = False
        """Whether the next backward pass is the last before the optimizer step."""
        self.ready: list[nn.Parameter] = []
        self.n_bytes = 0
        self.sent: list[tuple[Any, Tensor, list[nn.Parameter]]] = []
        for p in parameters:
            p.register_post_accumulate_grad_hook(self._take)

    def expect_backward(self, *, is_last: bool) -> None:
        """Announce a backward pass; gradients are sent during the last one before a step."""
        self.is_last = is_last

    def _take(self, p: Tensor) -> None:
        if not self.is_last:
            return
        assert isinstance(p, nn.Parameter)
        assert p.grad is not None
        self.ready.append(p)
        self.n_bytes += p.grad.nbytes
        if self.n_bytes >= BUCKET_BYTES:
            self._send()

    def _send(self) -> None:
        if self.ready:
            flat = torch.cat([p.grad.flatten() for p in self.ready if p.grad is not None])
            self.sent.append((dist.all_reduce(flat, async_op=True), flat, self.ready))
        self.ready, self.n_bytes = [], 0

    def finish(self) -> None:
        """Send the last bucket, wait, and replace the gradients by their sums."""
        self._send()
        for work, flat, parameters in self.sent:
            work.wait()
            grads = [p.grad for p in parameters if p.grad is not None]
            parts = flat.split([grad.numel() for grad in grads])
            torch._foreach_copy_(grads, [x.view_as(g) for x, g in zip(parts, grads, strict=True)])
        self.sent, self.is_last = [], False
