# mypy: allow-untyped-defs, allow-incomplete-defs
"""Peers of the kernels: plain PyTorch, compiled PyTorch, Liger and quack.

Each peer takes the arguments of the kernel, from kernels/cases.py, with the options of training:
attention is causal, and losses bend their logits as the leaderboard's recipe does. Liger and quack
are measured if they can be imported. Signatures are those of liger-kernel 0.8.5 and quack-kernels
0.6.5; quack's losses do not bend logits, and are left out.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from importlib import import_module
from typing import Any

import torch
from torch.nn import functional as F
from torch.optim.adamw import adamw

from fastlm import functional
from fastlm.config.recipes import load_recipe
from fastlm.ops import torch_ops
from kernels.cases import OPS, Options

Call = Callable[..., Any]

_LOSSES = ("cross_entropy", "linear_cross_entropy")


def measured_options(name: str) -> Options:
    """The options with which an operation is measured: those of training the leaderboard."""
    if name in _LOSSES:
        return {"softcap": load_recipe("leaderboard").model.logit_softcap}
    return OPS[name].options[0]


def _rms_norm(x, weight, eps=1e-5):
    return F.rms_norm(x, x.shape[-1:], None if weight is None else weight.to(x.dtype), eps)


def _add_rms_norm(x, residual, weight, eps=1e-5):
    total = x + residual
    return _rms_norm(total, weight, eps), total


def _cross_entropy(logits, targets, *, softcap):
    logits = logits.flatten(0, -2).float()
    return F.cross_entropy(softcap * torch.tanh(logits / softcap), targets.flatten())


@lru_cache
def _steps(step: int, n_params: int, device: torch.device) -> list[torch.Tensor]:
    """The step counts that torch.optim.AdamW keeps: a new copy for each call would be timed too."""
    return [torch.tensor(float(step - 1), device=device) for _ in range(n_params)]


def _foreach_adamw(
    params, grads, exp_avgs, exp_avg_sqs, *, lr, betas, eps, weight_decay, step, applies=None,
    update=adamw, counts_on_device=False,
):  # fmt: skip
    """torch.optim.AdamW without fused=True; it takes every step, whatever `applies` says."""
    device = params[0].device if counts_on_device else torch.device("cpu")
    capturable = device.type != "cpu"
    update(
        params, grads, exp_avgs, exp_avg_sqs, [], _steps(step, len(params), device),
        foreach=True, capturable=capturable, lr=lr, beta1=betas[0], beta2=betas[1], eps=eps,
        weight_decay=weight_decay, amsgrad=False, maximize=False,
    )  # fmt: skip


EAGER: dict[str, Call] = {
    "softmax": torch.softmax,
    "rms_norm": _rms_norm,
    "add_rms_norm": _add_rms_norm,
    "cross_entropy": _cross_entropy,
    "silu_mul": lambda gate, up: F.silu(gate) * up,
    "adamw": _foreach_adamw,
}
"""PyTorch's own functions where they are faster on a GPU than those of torch_ops, or are not there;
an operation that PyTorch lacks is measured by its reference."""


def _compiled(name: str, eager: Call) -> Call:
    """torch.compile of what runs eagerly: new in each call, so that shapes share no graph."""
    if name == "adamw":
        # With the step counts on the device, as PyTorch advises for a compiled optimizer.
        update = torch.compile(adamw, dynamic=False)
        return partial(_foreach_adamw, update=update, counts_on_device=True)
    return torch.compile(eager, dynamic=False)


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
        lambda logits, targets, softcap: _liger("cross_entropy", "LigerCrossEntropyFunction")(
            logits, targets, None, -100, 0.0, 0.0, "mean", softcap
        )[0]
    ),
    "linear_cross_entropy": lambda: (
        lambda hidden, weight, targets, softcap: _liger(
            "fused_linear_cross_entropy", "LigerFusedLinearCrossEntropyFunction"
        )(hidden, weight, targets, None, None, -100, 0.0, 0.0, "mean", softcap)[0]
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
}


def _fused_adamw(
    params, grads, exp_avgs, exp_avg_sqs, *, lr, betas, eps, weight_decay, step, applies=None
):
    """torch.optim.AdamW(fused=True), told by found_inf, as a GradScaler does, what not to apply."""
    adamw(
        params, grads, exp_avgs, exp_avg_sqs, [], _steps(step, len(params), params[0].device),
        fused=True, found_inf=None if applies is None else 1 - applies.float(),
        lr=lr, beta1=betas[0], beta2=betas[1], eps=eps, weight_decay=weight_decay,
        amsgrad=False, maximize=False,
    )  # fmt: skip


def _cudnn_attention() -> Call:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    def attention(q, k, v, mask=None, *, is_causal=False):
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            return F.scaled_dot_product_attention(q, k, v, is_causal=is_causal)

    return attention


OTHERS: dict[str, dict[str, Callable[[], Call]]] = {
    "adamw": {"torch fused": lambda: _fused_adamw},
    "attention": {"cuDNN": _cudnn_attention},
}


def contenders(name: str) -> dict[str, Call]:
    """The contenders that can be imported here, by name; our kernel is "fastlm"."""
    eager = EAGER.get(name, getattr(torch_ops, name, getattr(functional, name)))
    found: dict[str, Call] = {
        "eager": eager,
        "torch.compile": _compiled(name, eager),
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
