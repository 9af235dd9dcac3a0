"""Which function computes what: the table of operations a model is given.

Level 1; the only file that imports kernels. A model never asks what machine it runs on: it calls
the functions of the Ops it was built with.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from fastlm import functional


class Ops(NamedTuple):
    """The operations of the network; signatures are those of fastlm.functional."""

    linear: Callable[..., Tensor]
    embedding: Callable[..., Tensor]
    rms_norm: Callable[..., Tensor]
    rotate_pairs: Callable[..., Tensor]
    attention: Callable[..., Tensor]
    swiglu: Callable[..., Tensor]
    silu_ffn: Callable[..., Tensor]
    linear_cross_entropy: Callable[..., Any]  # (loss, lse) where lse is asked for


reference_ops = Ops(
    linear=functional.linear,
    embedding=functional.embedding,
    rms_norm=functional.rms_norm,
    rotate_pairs=functional.rotate_pairs,
    attention=functional.attention,
    swiglu=functional.swiglu,
    silu_ffn=functional.silu_ffn,
    linear_cross_entropy=functional.linear_cross_entropy,
)


def _rms_norm(
    x: Float[Tensor, "... d_model"], weight: Float[Tensor, " d_model"], eps: float = 1e-5
) -> Float[Tensor, "... d_model"]:
    # float32 inside as the truth has it: F.rms_norm alone would take bf16's own precision on CPU.
    return F.rms_norm(x.float(), weight.shape, weight, eps).to(x.dtype)


def _attention(
    q: Float[Tensor, "... q d_head"],
    k: Float[Tensor, "... k d_head"],
    v: Float[Tensor, "... k d_value"],
    mask: Bool[Tensor, "... q k"] | None = None,
    *,
    is_causal: bool = False,
) -> Float[Tensor, "... q d_value"]:
    n_queries, n_keys = q.shape[-2], k.shape[-2]
    if is_causal and (mask is not None or n_queries != n_keys):
        # SDPA aligns its causal mask with the first key; ours with the last.
        causal = functional.causal_mask(n_queries, n_keys, q.device)
        mask, is_causal = (causal if mask is None else mask & causal), False
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=is_causal)


def _swiglu(
    x: Float[Tensor, "... d_model"],
    w1: Float[Tensor, "d_ff d_model"],
    w2: Float[Tensor, "d_model d_ff"],
    w3: Float[Tensor, "d_ff d_model"],
) -> Float[Tensor, "... d_model"]:
    return F.linear(F.silu(F.linear(x, w1)) * F.linear(x, w3), w2)


def _silu_ffn(
    x: Float[Tensor, "... d_model"],
    w1: Float[Tensor, "d_ff d_model"],
    w2: Float[Tensor, "d_model d_ff"],
) -> Float[Tensor, "... d_model"]:
    return F.linear(F.silu(F.linear(x, w1)), w2)


def _linear_cross_entropy(
    hidden: Float[Tensor, "... d_model"],
    weight: Float[Tensor, "vocab_size d_model"],
    targets: Int[Tensor, "..."],
    *,
    ignore_index: int = functional.IGNORE_INDEX,
) -> Float[Tensor, ""]:
    logits = F.linear(hidden, weight).flatten(0, -2).float()
    total = F.cross_entropy(logits, targets.flatten(), ignore_index=ignore_index, reduction="sum")
    return total / (targets != ignore_index).sum().clamp(min=1)


torch_ops = Ops(
    linear=F.linear,
    embedding=F.embedding,
    rms_norm=_rms_norm,
    rotate_pairs=functional.rotate_pairs,
    attention=_attention,
    swiglu=_swiglu,
    silu_ffn=_silu_ffn,
    linear_cross_entropy=_linear_cross_entropy,
)


def load_ops(triton_ops: str = "auto") -> Ops:
    """The table of operations to run a model with.

    Args:
        triton_ops: "none": PyTorch's own operations. "auto": Triton kernels where recorded
            measurements show that they win the training step. Names, comma-separated: those.
    Raises:
        ValueError: for a name that no kernel has.
    """
    if triton_ops in ("auto", "none"):
        return torch_ops
    from kernels import OPS

    table = torch_ops
    for name in triton_ops.split(","):
        if name not in OPS:
            known = ", ".join(sorted(OPS)) or "none in this version"
            raise ValueError(
                f"no Triton op is called {name!r}: expected auto, none, or of: {known}"
            )
        table = table._replace(**{name: OPS[name]})
    return table
