"""Optimizers from their formulas, gradient clipping, and who optimizes what.

Level 1. Of torch.optim only the Optimizer base class. Updates run over lists of tensors
(torch._foreach_*, or the Ops an optimizer is given), which on a GPU is one kernel for many
parameters.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from fastlm.config import OptimConfig
from fastlm.ops import Ops, torch_ops

Closure = Callable[[], float] | None


def _check_rates(lr: float, **others: float) -> None:
    if not (math.isfinite(lr) and lr >= 0):
        raise ValueError(f"lr must be finite and not negative: got {lr}")
    for name, value in others.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be finite and not negative: got {value}")


class _Stepper(Optimizer):
    """Gathers each group's parameters and gradients and hands them to update()."""

    ops: Ops = torch_ops

    def __getstate__(self) -> dict[str, Any]:
        # A copy of an optimizer: torch knows nothing of its operations.
        return super().__getstate__() | {"ops": self.ops}

    @torch.no_grad()
    def step(  # type: ignore[override]
        self, closure: Closure = None
    ) -> float | None:
        """Update every parameter that has a gradient; returns the closure's loss, if any."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self.update(group, params, [p.grad for p in params])
        return loss

    def update(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> None:
        raise NotImplementedError("each optimizer defines its own update")

    def buffers(self, params: list[Tensor], name: str) -> list[Tensor]:
        """State tensors of that name, one a parameter, zero when first asked for."""
        for p in params:
            if name not in self.state[p]:
                self.state[p][name] = torch.zeros_like(p, memory_format=torch.preserve_format)
        return [self.state[p][name] for p in params]

    def count_step(self, params: list[Tensor]) -> int:
        """Steps taken, this one included; kept per parameter so that it is saved with the state."""
        for p in params:
            self.state[p]["step"] = self.state[p].get("step", 0) + 1
        return int(self.state[params[0]]["step"])


class SGD(_Stepper):
    """Gradient descent: p <- p - lr_t u with u = g, or u = momentum u + g.

    lr_t = lr / sqrt(t + 1) for t = 0, 1 ... when inverse_sqrt is set, else lr.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        *,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        inverse_sqrt: bool = False,
    ) -> None:
        _check_rates(lr, momentum=momentum, weight_decay=weight_decay)
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "inverse_sqrt": inverse_sqrt,
        }
        super().__init__(params, defaults)

    def update(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> None:
        step = self.count_step(params)
        lr = group["lr"] / math.sqrt(step) if group["inverse_sqrt"] else group["lr"]
        if group["momentum"]:
            velocity = self.buffers(params, "velocity")
            torch._foreach_mul_(velocity, group["momentum"])
            torch._foreach_add_(velocity, grads)
            grads = velocity
        torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
        torch._foreach_add_(params, grads, alpha=-lr)


class AdaGrad(_Stepper):
    """v <- v + g^2; p <- p - lr g / (sqrt(v) + eps). Source: Duchi et al. 2011."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        *,
        eps: float = 1e-10,
        weight_decay: float = 0.0,
    ) -> None:
        _check_rates(lr, eps=eps, weight_decay=weight_decay)
        super().__init__(params, {"lr": lr, "eps": eps, "weight_decay": weight_decay})

    def update(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> None:
        squares = self.buffers(params, "square_sum")
        torch._foreach_addcmul_(squares, grads, grads)
        scale = torch._foreach_sqrt(squares)
        torch._foreach_add_(scale, group["eps"])
        torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_addcdiv_(params, grads, scale, value=-group["lr"])


class AdamW(_Stepper):
    """Adam with decoupled weight decay.

    m <- b1 m + (1 - b1) g; v <- b2 v + (1 - b2) g^2; lr_t = lr sqrt(1 - b2^t) / (1 - b1^t);
    p <- p - lr weight_decay p - lr_t m / (sqrt(v) + eps), both terms taken at the old p.

    Source: Kingma and Ba 2015, arXiv:1412.6980, end of section 2 (the form that applies eps to
    the uncorrected root); Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        ops: Ops = torch_ops,
    ) -> None:
        _check_rates(lr, eps=eps, weight_decay=weight_decay)
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas must lie in [0, 1): got {betas}")
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)
        self.ops = ops

    def update(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> None:
        step = self.count_step(params)
        self.ops.adamw(
            params,
            grads,
            self.buffers(params, "exp_avg"),
            self.buffers(params, "exp_avg_sq"),
            lr=group["lr"],
            betas=group["betas"],
            eps=group["eps"],
            weight_decay=group["weight_decay"],
            step=step,
        )


class Muon(_Stepper):
    """Momentum whose update is replaced by the nearest semi-orthogonal matrix.

    u <- momentum u + g; n = g + momentum u (Nesterov); p <- p - lr weight_decay p
    - lr sqrt(max(1, d_out / d_in)) orthogonalize(n). For parameters of two dimensions, or more
    when each (..., d_out, d_in) slice is a matrix of its own.

    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.02,
        *,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        n_iterations: int = 5,
        ops: Ops = torch_ops,
    ) -> None:
        _check_rates(lr, momentum=momentum, weight_decay=weight_decay)
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "n_iterations": n_iterations,
        }
        super().__init__(params, defaults)
        self.ops = ops
        for group in self.param_groups:
            for p in group["params"]:
                if p.ndim < 2:
                    raise ValueError(
                        f"Muon needs matrices: got a parameter of shape {tuple(p.shape)}; "
                        "give it to AdamW"
                    )

    def update(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> None:
        momentum, lr = group["momentum"], group["lr"]
        velocity = self.buffers(params, "velocity")
        torch._foreach_mul_(velocity, momentum)
        torch._foreach_add_(velocity, grads)
        updates = torch._foreach_add(grads, velocity, alpha=momentum)
        torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
        # Matrices of one shape go through the iteration together, as one batch of products.
        by_shape: dict[torch.Size, list[int]] = {}
        for i, p in enumerate(params):
            by_shape.setdefault(p.shape[-2:], []).append(i)
        for (d_out, d_in), indices in by_shape.items():
            stacked = torch.cat([updates[i].reshape(-1, d_out, d_in) for i in indices])
            stacked = orthogonalize(
                stacked,
                n_iterations=group["n_iterations"],
                symmetric_product=self.ops.symmetric_product,
            )
            counts = [params[i].numel() // (d_out * d_in) for i in indices]
            for i, part in zip(indices, stacked.split(counts), strict=True):
                scale = math.sqrt(max(1.0, d_out / d_in))
                params[i].add_(part.reshape(params[i].shape), alpha=-lr * scale)


def orthogonalize(
    matrices: Float[Tensor, "... d_out d_in"],
    *,
    n_iterations: int = 5,
    symmetric_product: Callable[..., Tensor] = torch_ops.symmetric_product,
) -> Float[Tensor, "... d_out d_in"]:
    """Bring all singular values near 1 (0.7 to 1.2) by a quintic Newton-Schulz iteration.

    X <- a X + (b X X^T + c (X X^T)^2) X from X / ||X||, with a, b, c chosen for speed of
    convergence from small values rather than for the limit. In bfloat16 on a GPU, else float32.

    Args:
        symmetric_product: as fastlm.functional.symmetric_product.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.bfloat16() if matrices.is_cuda else matrices.float()
    x = x.reshape(math.prod(x.shape[:-2]), *x.shape[-2:])
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(n_iterations):
        gram = symmetric_product(x)
        polynomial = symmetric_product(gram, gram, alpha=c, beta=b)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return (x.mT if tall else x).reshape(matrices.shape).to(matrices.dtype)


@torch.no_grad()
def clip_gradients(
    parameters: Iterable[nn.Parameter], max_l2_norm: float, eps: float = 1e-6
) -> Float[Tensor, ""]:
    """Scale all gradients by max_l2_norm / (norm + eps) when their global l2 norm is above it.

    Changes the gradients in place; parameters without one are left alone. Does not wait for the
    device.

    Returns:
        The norm before clipping, float32; 0 when nothing has a gradient.
    """
    grads = [p.grad for p in parameters if p.grad is not None]
    if not grads:
        return torch.zeros(())
    norm = torch.stack(torch._foreach_norm([g.float() for g in grads])).norm()
    if math.isfinite(max_l2_norm):
        factor = torch.where(norm > max_l2_norm, max_l2_norm / (norm + eps), torch.ones_like(norm))
        torch._foreach_mul_(grads, factor)
    return norm


def parameter_groups(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Every trainable parameter in one of: matrices (of the blocks), head, embedding, norms.

    Raises:
        ValueError: if a parameter fits nowhere.
    """
    groups: dict[str, list[nn.Parameter]] = {
        "matrices": [],
        "head": [],
        "embedding": [],
        "norms": [],
    }
    for name, p in model.named_parameters():
        if not p.requires_grad:
            continue
        if name.startswith("layers.") and p.ndim >= 2:
            groups["matrices"].append(p)
        elif name == "lm_head.weight":
            groups["head"].append(p)
        elif name == "token_embeddings.weight":
            groups["embedding"].append(p)
        elif p.ndim == 1:
            groups["norms"].append(p)
        else:
            raise ValueError(f"no optimizer group for parameter {name} of shape {tuple(p.shape)}")
    return groups


def build_optimizers(
    model: nn.Module, config: OptimConfig, ops: Ops = torch_ops
) -> list[Optimizer]:
    """The optimizers of a run; each group carries its peak learning rate as "peak_lr"."""
    groups = parameter_groups(model)
    decayed = groups["matrices"] + groups["head"]
    undecayed = groups["embedding"] + groups["norms"]
    if config.name == "muon":
        decayed = groups["head"]
    rest = [
        {"params": params, "weight_decay": decay}
        for params, decay in ((decayed, config.weight_decay), (undecayed, 0.0))
        if params
    ]
    optimizers: list[Optimizer]
    if config.name == "sgd":
        optimizers = [SGD(rest, config.lr, momentum=config.momentum)]
    elif config.name == "adagrad":
        optimizers = [AdaGrad(rest, config.lr, eps=config.eps)]
    else:
        optimizers = [AdamW(rest, config.lr, config.betas, config.eps, ops=ops)]
    if config.name == "muon":
        optimizers.append(
            Muon(
                groups["matrices"],
                config.muon_lr,
                momentum=config.momentum,
                weight_decay=config.weight_decay,
                ops=ops,
            )
        )
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def set_learning_rate(optimizers: Iterable[Optimizer], multiplier: float) -> None:
    """Set each group's learning rate to its peak times the multiplier."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * multiplier
