"""FSDP2: conversions between a sharded parameter, its local shard and the full tensor.

The functions return tensors that are not sharded unchanged. A sharded tensor is a DTensor,
recognized by its method to_local: importing the class takes a second, which most runs can save.
Token shards are something else, files of token ids: see fastlm.files.tokens.
"""

from typing import Any

import torch
from torch import Tensor, nn


def is_dtensor(tensor: Tensor) -> bool:
    """Whether this process holds only a shard of a tensor."""
    return hasattr(tensor, "to_local")


def local(tensor: Tensor) -> Tensor:
    """This process's shard of a tensor; it shares memory with the tensor."""
    return tensor.to_local() if is_dtensor(tensor) else tensor  # type: ignore[attr-defined]


def whole(tensor: Tensor) -> Tensor:
    """The full tensor, by an all-gather that every process must call."""
    return tensor.full_tensor() if is_dtensor(tensor) else tensor  # type: ignore[attr-defined]


def whole_of_part(part: Tensor, like: Tensor) -> Tensor:
    """The full tensor, from this process's shard of a tensor that is sharded like another."""
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
    """Shard a tensor that all processes have, like another one of its shape."""
    if not is_dtensor(like) or is_dtensor(full):
        return full
    from torch.distributed.tensor import distribute_tensor

    parts: Any = like
    return distribute_tensor(
        full.to(like.device), parts.device_mesh, parts.placements, src_data_rank=None
    )


@torch.no_grad()
def assign(target: Tensor, full: Tensor) -> None:
    """Copy a full tensor, which all processes have, into a tensor that may be sharded."""
    local(target).copy_(local(dtensor_like(full, target)))


def reshard(model: nn.Module) -> None:
    """Free parameters that are still unsharded after a forward pass without a backward pass."""
    reshard_parts: Any = getattr(model, "reshard", None)
    if reshard_parts is not None:
        reshard_parts()


def apply_fsdp(model: nn.Module, *, layers: nn.ModuleList, device: torch.device) -> None:
    """Shard every trainable parameter over the processes (FSDP2), in place.

    A layer's parameters are gathered while the layer computes; all others during model.loss.
    """
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
    from torch.distributed.tensor import Shard

    mesh = init_device_mesh(device.type, (dist.get_world_size(),))

    def placement(p: nn.Parameter) -> Shard | None:
        # A stack of three matrices is sharded along rows, so that every process gets a shard.
        return Shard(1) if p.ndim == 3 and p.shape[1] % mesh.size() == 0 else None

    options: dict[str, Any] = {"mesh": mesh, "shard_placement_fn": placement}
    for layer in layers:
        fully_shard(layer, **options)
    frozen = {p for p in model.parameters() if not p.requires_grad}
    fully_shard(model, ignored_params=frozen, **options)
    register_fsdp_forward_method(model, "loss")
