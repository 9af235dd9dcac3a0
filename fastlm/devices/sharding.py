"""Parameters of which each process holds a part (FSDP2): the part, the whole, and back.

Each function leaves tensors that are not sharded as they are. A sharded one is a DTensor,
known by its method: to import that class takes a second, which most runs need not wait.
"""

from typing import Any

import torch
from torch import Tensor, nn


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process holds only a part of a tensor."""
    return hasattr(tensor, "to_local")


def local(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor: writing to it writes to the tensor."""
    return tensor.to_local() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor; every process has to ask for it."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def whole_of_part(part: Tensor, like: Tensor) -> Tensor:
    """All of a tensor that is sharded like another one, from this process's part."""
    if not is_sharded(like):
        return part
    from torch.distributed.tensor import DTensor

    sharded: Any = like
    return DTensor.from_local(
        part,
        sharded.device_mesh,
        sharded.placements,
        run_check=False,
        shape=sharded.shape,
        stride=sharded.stride(),
    ).full_tensor()


def sharded_like(full: Tensor, like: Tensor) -> Tensor:
    """A tensor that all processes have, sharded as another one of its shape is."""
    if not is_sharded(like) or is_sharded(full):
        return full
    from torch.distributed.tensor import distribute_tensor

    sharded: Any = like
    return distribute_tensor(
        full.to(like.device), sharded.device_mesh, sharded.placements, src_data_rank=None
    )


@torch.no_grad()
def assign(target: Tensor, full: Tensor) -> None:
    """Give a tensor the values of one that all processes have."""
    local(target).copy_(local(sharded_like(full, target)))


def reshard(model: nn.Module) -> None:
    """Let go of parameters that are still whole after a forward pass without a backward pass."""
    reshard_parts: Any = getattr(model, "reshard", None)
    if reshard_parts is not None:
        reshard_parts()


def shard_model(model: nn.Module, *, layers: nn.ModuleList, device: torch.device) -> None:
    """Leave each process its part of every parameter that is trained.

    A layer's parameters are whole while the layer computes; those outside of layers throughout
    model.loss.
    """
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
    from torch.distributed.tensor import Shard

    mesh = init_device_mesh(device.type, (dist.get_world_size(),))

    def placement(p: nn.Parameter) -> Shard | None:
        # Three matrices as one parameter: along rows, so that no process is left without.
        return Shard(1) if p.ndim == 3 and p.shape[1] % mesh.size() == 0 else None

    options: dict[str, Any] = {"mesh": mesh, "shard_placement_fn": placement}
    for layer in layers:
        fully_shard(layer, **options)
    frozen = {p for p in model.parameters() if not p.requires_grad}
    fully_shard(model, ignored_params=frozen, **options)
    register_fsdp_forward_method(model, "loss")
