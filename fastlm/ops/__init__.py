"""Ops: the table of functions that a model and its optimizers compute with.

No other file loads the package kernels. A model never asks what machine it runs on: it calls the
functions of the Ops it was built with.
"""

import math
import sys
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from fastlm import functional
from fastlm.cli.comma_lists import comma_separated
from fastlm.files.paths import PACKAGE
from fastlm.ops.float8 import float8_linear


class Ops(NamedTuple):
    """The operations of a network and of its optimizers; signatures as in fastlm.functional."""

    linear: Callable[..., Tensor]
    embedding: Callable[..., Tensor]
    rms_norm: Callable[..., Tensor]
    add_rms_norm: Callable[..., tuple[Tensor, Tensor]]
    rotate_pairs: Callable[..., Tensor]
    qkv_norm_rope: Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]]
    attention: Callable[..., Tensor]
    swiglu: Callable[..., Tensor]
    silu_ffn: Callable[..., Tensor]
    relu2_ffn: Callable[..., Tensor]
    linear_cross_entropy: Callable[..., Any]  # (loss, lse) with return_lse=True
    adamw: Callable[..., None]
    symmetric_product: Callable[..., Tensor]


reference_ops = Ops(
    linear=functional.linear,
    embedding=functional.embedding,
    rms_norm=functional.rms_norm,
    add_rms_norm=functional.add_rms_norm,
    rotate_pairs=functional.rotate_pairs,
    qkv_norm_rope=functional.qkv_norm_rope,
    attention=functional.attention,
    swiglu=functional.swiglu,
    silu_ffn=functional.silu_ffn,
    relu2_ffn=functional.relu2_ffn,
    linear_cross_entropy=functional.linear_cross_entropy,
    adamw=functional.adamw,
    symmetric_product=functional.symmetric_product,
)


def _rms_norm(
    x: Float[Tensor, "... d_model"], weight: Float[Tensor, " d_model"] | None, eps: float = 1e-5
) -> Float[Tensor, "... d_model"]:
    # Cast to float32 as the reference does: on a CPU, F.rms_norm would compute in bf16.
    return F.rms_norm(x.float(), x.shape[-1:], weight, eps).to(x.dtype)


def _add_rms_norm(
    x: Float[Tensor, "... d_model"],
    residual: Float[Tensor, "... d_model"],
    weight: Float[Tensor, " d_model"] | None,
    eps: float = 1e-5,
) -> tuple[Float[Tensor, "... d_model"], Float[Tensor, "... d_model"]]:
    total = x + residual
    return _rms_norm(total, weight, eps), total


def _rotate_pairs(
    x: Float[Tensor, "... seq d_head"],
    cos: Float[Tensor, "... seq half"],
    sin: Float[Tensor, "... seq half"],
) -> Float[Tensor, "... seq d_head"]:
    accurate = x if x.dtype == torch.float64 else x.float()
    even, odd = accurate.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return turned.flatten(-2).to(x.dtype)


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
        # SDPA aligns its causal mask with the first key, functional.attention with the last.
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


def _relu2_ffn(
    x: Float[Tensor, "... d_model"],
    w1: Float[Tensor, "d_ff d_model"],
    w2: Float[Tensor, "d_model d_ff"],
) -> Float[Tensor, "... d_model"]:
    return F.linear(functional.relu2(F.linear(x, w1)), w2)


def _linear_cross_entropy(
    hidden: Float[Tensor, "... d_model"],
    weight: Float[Tensor, "vocab_size d_model"],
    targets: Int[Tensor, "..."],
    *,
    ignore_index: int = functional.IGNORE_INDEX,
    softcap: float | None = None,
    **options: Any,
) -> Tensor | tuple[Tensor, Tensor]:
    logits = F.linear(hidden, weight.to(hidden.dtype))
    if options:
        options |= {"ignore_index": ignore_index, "softcap": softcap}
        return functional.cross_entropy(logits, targets, **options)
    # The compiler makes one kernel of F.cross_entropy's gradient, which it does of no scatter_add:
    # two float32 tensors as large as the logits less.
    logits = logits.flatten(0, -2).float()
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    total = F.cross_entropy(logits, targets.flatten(), ignore_index=ignore_index, reduction="sum")
    return total / (targets != ignore_index).sum().clamp(min=1)


def _adamw(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    step: int,
    applies: Bool[Tensor, ""] | None = None,
) -> None:
    options: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay}
    alike = []
    for one in zip(params, grads, exp_avgs, exp_avg_sqs, strict=True):
        if _are_alike(one):
            alike.append(one)
        else:  # PyTorch's would go by the order in memory
            functional.adamw(
                *([t] for t in one), betas=betas, eps=eps, step=step, applies=applies, **options
            )
    if not alike:
        return
    params, grads, exp_avgs, exp_avg_sqs = (list(tensors) for tensors in zip(*alike, strict=True))
    torch._fused_adamw_(
        params,
        grads,
        exp_avgs,
        exp_avg_sqs,
        [],
        [torch.full((), float(step), device=params[0].device)] * len(params),
        beta1=betas[0],
        beta2=betas[1],
        # It adds eps to the corrected root, functional.adamw to the uncorrected one.
        eps=eps / math.sqrt(1 - betas[1] ** step),
        amsgrad=False,
        maximize=False,
        grad_scale=None,
        found_inf=None if applies is None else (~applies).float(),  # not 0: nothing changes
        **options,
    )


def _are_alike(tensors: tuple[Tensor, ...]) -> bool:
    """Whether tensors have one dtype and one order in memory, without gaps."""
    first = tensors[0]
    return all(
        t.dtype == first.dtype and t.device == first.device and t.is_contiguous() for t in tensors
    )


def _symmetric_product(
    x: Float[Tensor, "... rows columns"],
    added: Float[Tensor, "... rows rows"] | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 0.0,
) -> Float[Tensor, "... rows rows"]:
    if added is None:
        product = x @ x.mT
        return product if alpha == 1.0 else alpha * product
    n_matrices = math.prod(x.shape[:-2])
    x, c = (t.reshape(n_matrices, *t.shape[-2:]) for t in (x, added))
    return torch.baddbmm(c, x, x.mT, beta=beta, alpha=alpha).reshape(added.shape)


torch_ops = Ops(
    linear=F.linear,
    embedding=F.embedding,
    rms_norm=_rms_norm,
    add_rms_norm=_add_rms_norm,
    rotate_pairs=_rotate_pairs,
    qkv_norm_rope=functional.qkv_norm_rope,
    attention=_attention,
    swiglu=_swiglu,
    silu_ffn=_silu_ffn,
    relu2_ffn=_relu2_ffn,
    linear_cross_entropy=_linear_cross_entropy,
    adamw=_adamw,
    symmetric_product=_symmetric_product,
)


def with_float8(table: Ops) -> Ops:
    """The table with the blocks' matrix products in float8; the loss keeps its precision."""

    def swiglu(x: Tensor, w1: Tensor, w2: Tensor, w3: Tensor) -> Tensor:
        return float8_linear(F.silu(float8_linear(x, w1)) * float8_linear(x, w3), w2)

    def silu_ffn(x: Tensor, w1: Tensor, w2: Tensor) -> Tensor:
        return float8_linear(F.silu(float8_linear(x, w1)), w2)

    def relu2_ffn(x: Tensor, w1: Tensor, w2: Tensor) -> Tensor:
        return float8_linear(functional.relu2(float8_linear(x, w1)), w2)

    return table._replace(
        linear=float8_linear, swiglu=swiglu, silu_ffn=silu_ffn, relu2_ffn=relu2_ffn
    )


def _check_float8(device: torch.device | str | None) -> None:
    device = torch.device("cuda" if device is None else device)
    here = "cpu" if device.type != "cuda" or not torch.cuda.is_available() else ""
    if not here and torch.cuda.get_device_capability(device) < (8, 9):
        here = torch.cuda.get_device_name(device)
    if here:
        raise ValueError(
            f"--fp8 needs a GPU of compute capability 8.9 or newer: got {here}; leave it out"
        )


_SDPA_BACKENDS = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}


def _load_sdpa(name: str, device: torch.device | str | None) -> Callable[..., Tensor]:
    """One of PyTorch's attention kernels for causal attention without a mask, else any of them."""
    if name not in _SDPA_BACKENDS:
        raise ValueError(
            f"no attention is called {name!r}: expected auto, fa3, {', '.join(_SDPA_BACKENDS)}"
        )
    device = torch.device("cuda" if device is None else device)
    if device.type != "cuda" or not torch.cuda.is_available():
        raise ValueError(f"--attention {name} needs a GPU: got cpu; use --attention auto")
    backend = _SDPA_BACKENDS[name]

    def attention(
        q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, is_causal: bool = False
    ) -> Tensor:
        if mask is not None or not is_causal or q.shape[-2] != k.shape[-2]:
            return _attention(q, k, v, mask, is_causal=is_causal)
        with sdpa_kernel(backend):
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    return attention


def _load_fa3(device: torch.device | str | None, other: Callable[..., Tensor]) -> Any:
    """FlashAttention-3 for causal bfloat16 attention without a mask, otherwise `other`.

    Source: Shah et al. 2024, arXiv:2407.08608.
    """
    device = torch.device("cuda" if device is None else device)
    here = "cpu" if device.type != "cuda" or not torch.cuda.is_available() else ""
    if not here and (major := torch.cuda.get_device_capability(device)[0]) != 9:
        here = f"{torch.cuda.get_device_name(device)}, of compute capability {major}.x"
    if here:
        raise ValueError(
            f"--attention fa3 needs a Hopper GPU (compute capability 9.0): got {here}; use "
            "--attention auto"
        )
    try:
        from flash_attn_interface import flash_attn_func
    except ImportError as error:
        raise ValueError(
            f"--attention fa3 needs the package flash_attn_interface: {error}; build it from "
            "hopper/ of github.com/Dao-AILab/flash-attention, or use --attention auto"
        ) from None

    def attention(
        q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, is_causal: bool = False
    ) -> Tensor:
        fits = q.ndim == 4 and q.shape == k.shape == v.shape and q.dtype == torch.bfloat16
        if not fits or mask is not None or not is_causal:
            return other(q, k, v, mask, is_causal=is_causal)
        # Its layout is (batch, seq, head, d_head); some releases return (out, lse).
        out = flash_attn_func(*(x.transpose(1, 2) for x in (q, k, v)), causal=True)
        mixed: Tensor = out[0] if isinstance(out, tuple) else out
        return mixed.transpose(1, 2)

    return attention


def without_faults(
    table: Ops, device: torch.device, dtype: torch.dtype
) -> tuple[Ops, tuple[str, ...]]:
    """The table with PyTorch's operation in place of each kernel that does not work on the device.

    Each kernel of AUTO in the table computes a small case forward and backward, beside PyTorch's:
    seconds, for the kernels are compiled.

    Returns:
        (the table, a line for each kernel that was left out).
    """
    names = kernels_in(table)
    if not names:
        return table, ()
    check = import_module(f"{load_kernels().__name__}.check")
    plain = {name: getattr(torch_ops, name) for name in names}
    faults = {name: check.fault_of(name, plain[name], device, dtype) for name in names}
    failed = {name: fault for name, fault in faults.items() if fault is not None}
    return table._replace(**{name: plain[name] for name in failed}), tuple(
        f"the Triton kernel {name} does not work here ({fault}): PyTorch computes it"
        for name, fault in failed.items()
    )


def forward_only() -> AbstractContextManager[None]:
    """Compute no gradients ahead in a loss that is called with gradients enabled.

    The Triton linear_cross_entropy computes gradients together with the loss. A validation calls
    the graph that was compiled for training, and needs none.
    """
    for package in ("kernels", "fastlm.kernels"):
        if module := sys.modules.get(f"{package}.linear_cross_entropy"):
            without: AbstractContextManager[None] = module.forward_only()
            return without
    return nullcontext()


def kernels_in(table: Ops) -> list[str]:
    """Names of the operations that a table takes from the package kernels."""
    module = "kernels."
    return [name for name, op in table._asdict().items() if module in op.__module__]


def load_kernels() -> ModuleType:
    """Import fastlm's Triton kernels, never Hugging Face's package `kernels` from PyPI.

    In a checkout they are the folder kernels beside fastlm. A wheel has them as fastlm.kernels, so
    that neither package overwrites files of the other; an editable install has both names, of
    which the second works from any working directory.

    Raises:
        ImportError: if Triton or the kernels are missing.
    """
    ours, found = PACKAGE.parent / "kernels" / "__init__.py", None
    if not (PACKAGE / "kernels").is_dir():
        found = find_spec("kernels")
        if found is not None and found.origin is not None and Path(found.origin).resolve() == ours:
            return import_module("kernels")
    try:
        return import_module("fastlm.kernels")
    except ModuleNotFoundError as error:
        if error.name != "fastlm.kernels":
            raise
        other = "none" if found is None else f"another one, {found.origin}"
        raise ImportError(f"expected {ours.parent} to be importable, got {other}") from None


def load_ops(
    triton_ops: str = "auto",
    device: torch.device | str | None = None,
    *,
    attention: str = "auto",
    fp8: bool = False,
) -> Ops:
    """Choose the table of operations to run a model with.

    Args:
        triton_ops: "none": PyTorch's own operations. "auto": on a GPU, the Triton kernels named in
            kernels.AUTO. "all" or comma-separated names: those kernels.
        device: device of the model; by default the first GPU if there is one.
        attention: "auto": by triton_ops. "cudnn", "flash", "efficient": that kernel of PyTorch for
            causal attention without a mask. "fa3": FlashAttention-3 for such attention in bfloat16.
        fp8: compute the blocks' matrix products in float8.
    Raises:
        ValueError: for an unknown kernel name, or an operation that the device cannot run.
    """
    table = _load_table(triton_ops, device)
    if attention == "fa3":
        table = table._replace(attention=_load_fa3(device, table.attention))
    elif attention != "auto":
        table = table._replace(attention=_load_sdpa(attention, device))
    if fp8:
        _check_float8(device)
        table = with_float8(table)
    return table


def names_of_ops(triton_ops: str, known: Collection[str]) -> tuple[str, ...]:
    """The operations that a value of --triton-ops names, by their present names.

    Args:
        triton_ops: comma-separated names, not auto, none or all.
        known: names of all Triton kernels.
    Raises:
        ValueError: for an unknown or empty name.
    """
    expected = f"auto, none, all, or some of {', '.join(sorted(known))}"
    given = comma_separated("--triton-ops", triton_ops, expected)
    names = tuple(_RENAMED.get(name, name) for name in given)
    for name in names:
        if name not in known:
            alone = "stands alone" if name in ("auto", "none", "all") else "is no Triton op"
            raise ValueError(f"--triton-ops {triton_ops}: {name!r} {alone}: expected {expected}")
    return names


_RENAMED = {"relu2": "relu2_ffn", "qk_norm_rope": "qkv_norm_rope"}
"""Names that runs of earlier versions have in their configurations"""


def _load_table(triton_ops: str, device: torch.device | str | None) -> Ops:
    on_gpu = torch.cuda.is_available() if device is None else torch.device(device).type == "cuda"
    if triton_ops == "none" or (triton_ops == "auto" and not on_gpu):
        return torch_ops
    try:
        kernels = load_kernels()
    except ImportError as error:
        if triton_ops == "auto":
            return torch_ops
        raise ValueError(
            f"--triton-ops {triton_ops} needs fastlm's own package kernels, and Triton: {error}; "
            "run from fastlm's folder, install triton (on Linux), or use --triton-ops none"
        ) from None
    OPS, INTERPRETED = kernels.OPS, kernels.launch.INTERPRETED
    chosen = {"auto": kernels.AUTO, "all": tuple(OPS)}
    names = chosen[triton_ops] if triton_ops in chosen else names_of_ops(triton_ops, OPS)
    if triton_ops != "auto" and on_gpu == INTERPRETED:
        raise ValueError(
            f"--triton-ops {triton_ops} needs a CUDA device: got "
            f"{'TRITON_INTERPRET=1, which runs kernels on the CPU: unset it' if on_gpu else 'cpu'};"
            " use --triton-ops none"
            f"{'' if on_gpu else ', or set TRITON_INTERPRET=1 to try them, slowly'}"
        )
    return torch_ops._replace(**{name: OPS[name] for name in names})
