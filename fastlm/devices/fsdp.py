"""Parameters of which each process holds a part (FSDP2): the part, the whole, and back.

Such a tensor is a DTensor; each function leaves others as they are. It is known by its method: to
import the class takes a second, which most runs need not wait. Token shards, which are files, are
in fastlm.files.tokens.
"""

from typing import Any

import torch
from torch import Tensor, nn


def is_dtensor(tensor: Tensor) -> bool:
    """Whether this process holds only a part of a tensor."""
    return hasattr(tensor, "to_local")


def local(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor: writing to it writes to the tensor."""
    return tensor.to_local() if is_dtensor(tensor) else tensor  # type: ignore[attr-defined]


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor; every process has to ask for it."""
    return tensor.full_tensor() if is_dtensor(tensor) else tensor  # type: ignore[attr-defined]


def whole_of_part(part: Tensor, like: Tensor) -> Tensor:
    """All of a tensor that is in parts like another one, from this process's part."""
    if not is_dtensor(like):
        return part
    from torch.distributed.tensor import DTensor

    parts: Any = like
    return DTensor.from_local(
        part,
        parts.device_mesh,
        parts.placements,
        run_check=False,
        shape=parts.shape,
        stride=parts.stride(),
    ).full_tensor()


def dtensor_like(full: Tensor, like: Tensor) -> Tensor:
    """A tensor that all processes have, in parts as another one of its shape is."""
    if not is_dtensor(like) or is_dtensor(full):
        return full
    from torch.distributed.tensor import distribute_tensor

    parts: Any = like
    return distribute_tensor(
        full.to(like.device), parts.device_mesh, parts.placements, src_data_rank=None
    )


@torch.no_grad()
def assign(target: Tensor, full: Tensor) -> None:
    """Give a tensor the values of one that all processes have."""
    local(target).copy_(local(dtensor_like(full, target)))


def reshard(model: nn.Module) -> None:
    """Let go of parameters that are still whole after a forward pass without a backward pass."""
    reshard_parts: Any = getattr(model, "reshard", None)
    if reshard_parts is not None:
        reshard_parts()


def apply_fsdp(model: nn.Module, *, layers: nn.ModuleList, device: torch.device) -> None:
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
