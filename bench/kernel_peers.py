# mypy: allow-untyped-defs, allow-incomplete-defs
"""Peers of the kernels: plain PyTorch, compiled PyTorch, Liger and quack.

Each peer takes the arguments of the kernel, from kernels/cases.py. Liger and quack are measured if
they can be imported. Signatures are those of liger-kernel 0.8.5 and quack-kernels 0.6.5.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from importlib import import_module
from typing import Any

import torch
from torch.nn import functional as F

from fastlm import functional
from fastlm.ops import torch_ops
from kernels.cases import OPS

Call = Callable[..., Any]


def _rms_norm(x, weight, eps=1e-5):
    return F.rms_norm(x, x.shape[-1:], None if weight is None else weight.to(x.dtype), eps)


def _add_rms_norm(x, residual, weight, eps=1e-5):
    total = x + residual
    return _rms_norm(total, weight, eps), total


def _symmetric_product(x, added=None, *, alpha=1.0, beta=0.0):
    if added is None:
        return x @ x.mT if alpha == 1.0 else alpha * (x @ x.mT)
    return torch.baddbmm(added, x, x.mT, beta=beta, alpha=alpha)


EAGER: dict[str, Call] = {
    "softmax": torch.softmax,
    "rms_norm": _rms_norm,
    "add_rms_norm": _add_rms_norm,
    "cross_entropy": lambda logits, targets: F.cross_entropy(logits.float(), targets),
    "linear_cross_entropy": torch_ops.linear_cross_entropy,
    "silu_mul": lambda gate, up: F.silu(gate) * up,
    "swiglu": torch_ops.swiglu,
    "attention": torch_ops.attention,
    "symmetric_product": _symmetric_product,
}
"""PyTorch's own operations; an operation that it lacks is measured by its reference."""


def _liger(module: str, function: str) -> Call:
    return getattr(import_module(f"liger_kernel.ops.{module}"), function).apply


def _liger_rope(x, cos, sin):
    # Liger rotates the halves of a head, takes each angle twice, and queries and keys at once.
    angles = (t.repeat(1, 2)[None] for t in (cos, sin))
    return _liger("rope", "LigerRopeFunction")(x, x[:, :1], *angles)[0]


LIGER: dict[str, Callable[[], Call]] = {
    "softmax": lambda: lambda x, dim: _liger("softmax", "LigerSoftmaxFunction")(x),
    "rms_norm": lambda: (
        lambda x, weight, eps=1e-5: _liger("rms_norm", "LigerRMSNormFunction")(
            x, weight, eps, 0.0, "llama", False
        )
    ),
    "add_rms_norm": lambda: (
        lambda x, residual, weight, eps=1e-5: _liger(
            "fused_add_rms_norm", "LigerFusedAddRMSNormFunction"
        )(x, residual, weight, eps, 0.0, "llama", False)
    ),
    "cross_entropy": lambda: (
        lambda logits, targets: _liger("cross_entropy", "LigerCrossEntropyFunction")(
            logits, targets, None
        )[0]
    ),
    "linear_cross_entropy": lambda: (
        lambda hidden, weight, targets: _liger(
            "fused_linear_cross_entropy", "LigerFusedLinearCrossEntropyFunction"
        )(hidden, weight, targets)[0]
    ),
    "silu_mul": lambda: _liger("swiglu", "LigerSiLUMulFunction"),
    "relu2_ffn": lambda: (
        lambda x, w1, w2: F.linear(
            _liger("relu_squared", "LigerReLUSquaredFunction")(F.linear(x, w1)), w2
        )
    ),
    "rotate_pairs": lambda: _liger_rope,
}


def _quack(module: str, function: str) -> Call:
    return getattr(import_module(f"quack.{module}"), function)


QUACK: dict[str, Callable[[], Call]] = {
    "softmax": lambda: lambda x, dim: _quack("softmax", "softmax")(x),
    "rms_norm": lambda: (
        lambda x, weight, eps=1e-5: _quack("rmsnorm", "rmsnorm")(x, weight, eps=eps)
    ),
    "add_rms_norm": lambda: (
        lambda x, residual, weight, eps=1e-5: _quack("rmsnorm", "rmsnorm")(
            x, weight, residual=residual, eps=eps, prenorm=True
        )
    ),
    "cross_entropy": lambda: partial(_quack("cross_entropy", "cross_entropy"), reduction="mean"),
    "linear_cross_entropy": lambda: (
        lambda hidden, weight, targets: _quack(
            "linear_cross_entropy", "chunked_linear_cross_entropy"
        )(hidden, weight, targets)
    ),
}


def _torch_fused_adamw() -> Call:
    @lru_cache
    def counts(step, n_params, device):
        # torch.optim.AdamW keeps these on the device: a copy in every call would be timed too.
        return [torch.tensor(float(step), device=device) for _ in range(n_params)]

    def update(
        params, grads, exp_avgs, exp_avg_sqs, *, lr, betas, eps, weight_decay, step, applies=None
    ):
        torch._fused_adamw_(
            params, grads, exp_avgs, exp_avg_sqs, [], counts(step, len(params), params[0].device),
            lr=lr, beta1=betas[0], beta2=betas[1], weight_decay=weight_decay, eps=eps,
            amsgrad=False, maximize=False,
            found_inf=None if applies is None else 1 - applies.float(),
        )  # fmt: skip

    return update


def _cudnn_attention() -> Call:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    def attention(q, k, v, mask=None, *, is_causal=False):
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            return F.scaled_dot_product_attention(q, k, v, is_causal=is_causal)

    return attention


OTHERS: dict[str, dict[str, Callable[[], Call]]] = {
    "adamw": {"torch fused": _torch_fused_adamw},
    "attention": {"cuDNN": _cudnn_attention},
}


def contenders(name: str) -> dict[str, Call]:
    """The contenders that can be imported here, by name; our kernel is "fastlm"."""
    reference = getattr(functional, name)
    # A new torch.compile for each call, so that shapes do not share a compiled graph.
    found: dict[str, Call] = {
        "eager": EAGER.get(name, getattr(torch_ops, name, reference)),
        "torch.compile": torch.compile(reference, dynamic=False),
        "fastlm": OPS[name].function,
    }
    makers = {**OTHERS.get(name, {})}
    for peer, table in (("Liger", LIGER), ("quack", QUACK)):
        if name in table:
            makers[peer] = table[name]
    for peer, make in makers.items():
        try:
            if peer in ("Liger", "quack"):
                import_module({"Liger": "liger_kernel", "quack": "quack"}[peer])
            found[peer] = make()
        except ImportError:
            continue
    return found
