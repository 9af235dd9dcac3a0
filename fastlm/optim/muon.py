"""Muon and NorMuon: steps along the semi-orthogonal matrix nearest to the momentum.

Matrices of one shape go through the iteration together, as one batch of products. An
update is one plain function of tensors and numbers, so that it can be compiled as it stands.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fastlm.devices.fsdp import assign, whole, whole_of_part
from fastlm.devices.ranks import Ranks
from fastlm.ops import Ops, torch_ops
from fastlm.optim.stepper import Stepper, check_rates

Polynomial = tuple[float, float, float]
"""a, b, c of a x + b x^3 + c x^5, applied to singular values"""

NEWTON_SCHULZ: list[Polynomial] = [(3.4445, -4.7750, 2.0315)] * 5
"""One polynomial, chosen for speed from small values rather than for its limit: 0.7 to 1.2.

Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/."""

POLAR_EXPRESS_SAFETY = 1.01
"""Polynomial k at x / 1.01: room for the rounding of bfloat16 beyond the intervals' ends."""

POLAR_EXPRESS: list[Polynomial] = [
    (a / POLAR_EXPRESS_SAFETY, b / POLAR_EXPRESS_SAFETY**3, c / POLAR_EXPRESS_SAFETY**5)
    for a, b, c in (
        (8.28721201814563, -23.595886519098837, 17.300387312530933),
        (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
        (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
        (3.3184196573706015, -2.488488024314874, 0.51004894012372),
        (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    )
]
"""Each polynomial is the one nearest to 1 on the interval that the one before maps to.

From singular values in [0.001, 1] the five end in [0.876, 1.124] exactly computed, and in
[0.84, 1.125] with both safety margins (here and of the norm).
Source: Amsel et al. 2025, arXiv:2505.16932, theorem 4.1 and algorithm 1."""

POLYNOMIALS = {"newton-schulz": NEWTON_SCHULZ, "polar-express": POLAR_EXPRESS}


def orthogonalize(
    matrices: Float[Tensor, "... d_out d_in"],
    *,
    method: str = "newton-schulz",
    symmetric_product: Callable[..., Tensor] = torch_ops.symmetric_product,
    dtype: torch.dtype | None = None,
) -> Float[Tensor, "... d_out d_in"]:
    """Bring all singular values near 1, by five odd polynomials of degree 5.

    X <- a X + (b X X^T + c (X X^T)^2) X from X / ||X||.

    Args:
        method: of POLYNOMIALS.
        symmetric_product: as fastlm.functional.symmetric_product.
        dtype: of the products; bfloat16 on a GPU and float32 elsewhere when not given.
    """
    if dtype is None:
        dtype = torch.bfloat16 if matrices.is_cuda else torch.float32
    x = matrices.to(dtype)
    x = x.reshape(math.prod(x.shape[:-2]), *x.shape[-2:])
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    norm = x.norm(dim=(-2, -1), keepdim=True)
    if method == "polar-express":
        norm = norm * POLAR_EXPRESS_SAFETY  # beyond 1 the first polynomial rises steeply
    x = x / (norm + 1e-7)
    for a, b, c in POLYNOMIALS[method]:
        gram = symmetric_product(x)
        polynomial = symmetric_product(gram, gram, alpha=c, beta=b)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return (x.mT if tall else x).reshape(matrices.shape).to(matrices.dtype)


def normalize_neurons(
    update: Float[Tensor, "... d_out d_in"],
    second_moment: Float[Tensor, "... d_out 1"],
    *,
    beta2: float,
    eps: float,
    applies: Bool[Tensor, ""] | None = None,
) -> Float[Tensor, "... d_out d_in"]:
    """Divide each row (neuron) by its running root mean square; keep the matrix's norm.

    v <- beta2 v + (1 - beta2) mean(row^2), changed in place; o = row / (sqrt(v) + eps); the
    result is o ||update|| / ||o||. A correction of v for its start at 0 would be the same for all
    rows and so leave the result as it is.

    Args:
        applies: where False, v stays as it is.
    Source: Li et al. 2025, arXiv:2510.05491, algorithm 1, whose last step sets the norm to
    0.2 sqrt(d_out d_in) instead: with the update's own, Muon's learning rates keep their meaning.
    """
    weight = 1 - beta2 if applies is None else (1 - beta2) * applies
    second_moment.lerp_(update.square().mean(dim=-1, keepdim=True), weight)
    normalized = update / (second_moment.sqrt() + eps)
    before, after = (x.norm(dim=(-2, -1), keepdim=True) for x in (update, normalized))
    return normalized * (before / (after + eps))


def update_stacks(
    stacks: list[Float[Tensor, "n d_out d_in"]],
    updates: list[Float[Tensor, "n d_out d_in"]],
    second_moments: list[Float[Tensor, "n d_out 1"]],
    *,
    lr: float | Tensor,
    decay: float | Tensor,
    cautious: bool,
    method: str,
    symmetric_product: Callable[..., Tensor],
    beta2: float = 0.0,
    eps: float = 0.0,
    applies: Bool[Tensor, ""] | None = None,
) -> list[Float[Tensor, "n d_out d_in"]]:
    """New values of parameters after a step of Muon, or of NorMuon if there are second moments.

    All shapes in one call: as one graph they are compiled once, and how long that takes does not
    depend on the number of layers.

    Args:
        stacks, updates: matrices of one shape each, and their Nesterov momentum.
        second_moments: of rows, changed in place; none for Muon.
        lr, decay: tensors without dimensions when compiled, where a number would become a
            constant of the graph; decay is lr * weight_decay.
        applies: where False, the values and second moments there are.
    """
    new = []
    for i, (params, update) in enumerate(zip(stacks, updates, strict=True)):
        o = orthogonalize(update, method=method, symmetric_product=symmetric_product)
        if second_moments:
            o = normalize_neurons(o, second_moments[i], beta2=beta2, eps=eps, applies=applies)
        shrunk = params * (1 - (decay * (params * o >= 0) if cautious else decay))
        rate = -lr * math.sqrt(max(1.0, params.shape[-2] / params.shape[-1]))
        if isinstance(rate, Tensor):
            o = rate * o
            rate = 1.0  # alpha takes numbers only
        value = torch.add(shrunk, o, alpha=rate)
        new.append(value if applies is None else torch.where(applies, value, params))
    return new


class Muon(Stepper):
    """Momentum whose update is replaced by the nearest semi-orthogonal matrix.

    u <- momentum u + g; n = g + momentum u (Nesterov); p <- p - lr weight_decay p
    - lr sqrt(max(1, d_out / d_in)) orthogonalize(n). For parameters of two dimensions, or more
    when each (..., d_out, d_in) slice is a matrix of its own.

    Args:
        orthogonalization: newton-schulz or polar-express, see POLYNOMIALS.
        cautious: decay only those entries whose update has the sign of the entry, or is 0 (Chen
            et al. 2025, arXiv:2510.12402): p <- p - lr weight_decay [p o >= 0] p - lr ... o.
        compiled: torch.compile the update; later changes of lr, weight_decay and momentum do not
            compile it anew.

    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/.
    """

    holds_back_on_device = True
    normalizes_neurons = False
    ranks = Ranks()
    """processes among which the matrices are shared out: each updates its own, all get all"""
    _update: Callable[..., list[Tensor]] = staticmethod(update_stacks)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.02,
        *,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        orthogonalization: str = "newton-schulz",
        cautious: bool = False,
        ops: Ops = torch_ops,
        compiled: bool = False,
    ) -> None:
        check_rates(lr, momentum=momentum, weight_decay=weight_decay)
        if orthogonalization not in POLYNOMIALS:
            raise ValueError(
                f"unknown orthogonalization {orthogonalization!r}: expected one of "
                f"{', '.join(POLYNOMIALS)}"
            )
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "orthogonalization": orthogonalization,
            "cautious": cautious,
        }
        super().__init__(params, defaults)
        self.ops = ops
        if compiled:
            self._update = torch.compile(update_stacks, fullgraph=True, dynamic=False)
        for group in self.param_groups:
            for p in group["params"]:
                if p.ndim < 2:
                    raise ValueError(
                        f"{type(self).__name__} needs matrices: got a parameter of shape "
                        f"{tuple(p.shape)}; give it to AdamW"
                    )

    def update(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> None:
        momentum = group["momentum"]
        velocity = self.buffers(params, "velocity")
        kept = momentum if self.applies is None else torch.where(self.applies, momentum, 1.0)
        torch._foreach_mul_(velocity, kept)
        torch._foreach_add_(velocity, grads)
        updates = list(torch._foreach_add(grads, velocity, alpha=momentum))
        indices = _indices_by_shape(params)
        moments = []
        if self.normalizes_neurons:
            moments = self.buffers(params, "second_moment", new=_zero_per_row)
        stacked_moments = _stack(moments, indices) if moments else []
        values = [whole(p) for p in params]
        updates = [whole_of_part(u, p) for u, p in zip(updates, params, strict=True)]
        new = self._shared_values(
            group, _stack(values, indices), _stack(updates, indices), stacked_moments
        )
        _unstack(new, values, indices)
        for p, value in zip(params, values, strict=True):
            if value is not p:  # under FSDP this was a copy
                assign(p, value)
        if moments:
            _unstack(stacked_moments, moments, indices)

    def _shared_values(
        self,
        group: dict[str, Any],
        stacks: list[Tensor],
        updates: list[Tensor],
        second_moments: list[Tensor],
    ) -> list[Tensor]:
        """New values of all matrices, of which each process computes its share."""
        ranks = self.ranks
        shares = [[ranks.share(s) for s in each] for each in (stacks, updates, second_moments)]
        new = self._new_values(group, *shares)
        for stack, moments in zip(second_moments, shares[2], strict=True):
            if ranks.size > 1:
                stack.copy_(ranks.whole(moments, len(stack)))
        return [ranks.whole(part, len(s)) for part, s in zip(new, stacks, strict=True)]

    def _new_values(
        self,
        group: dict[str, Any],
        stacks: list[Tensor],
        updates: list[Tensor],
        second_moments: list[Tensor],
    ) -> list[Tensor]:
        numbers = {"lr": group["lr"], "decay": group["lr"] * group["weight_decay"]}
        if self._update is not update_stacks:
            # Filled on the device: a copy from the host would make it wait.
            device = stacks[0].device
            numbers = {k: torch.full((), v, device=device) for k, v in numbers.items()}
        return self._update(
            stacks,
            updates,
            second_moments,
            **numbers,
            cautious=group["cautious"],
            method=group["orthogonalization"],
            symmetric_product=self.ops.symmetric_product,
            applies=self.applies,
            **{name: group[name] for name in ("beta2", "eps") if name in group},
        )

    @torch.no_grad()
    def warm_up(self) -> None:
        """Update zeros like the parameters: compiles what step() will run, changing nothing.

        With what is held back (see Stepper.applies), as in training.
        """
        device = self.param_groups[0]["params"][0].device
        self.applies = torch.ones((), dtype=torch.bool, device=device)
        for group in self.param_groups:
            params = [p for p in group["params"] if p.requires_grad]
            stacks = _stack([whole(p) for p in params], _indices_by_shape(params))
            zeros = [torch.zeros_like(stack) for stack in stacks]
            moments = [_zero_per_row(s) for s in stacks] if self.normalizes_neurons else []
            self._shared_values(group, stacks, zeros, moments)


def _indices_by_shape(params: list[Tensor]) -> list[list[int]]:
    by_shape: dict[torch.Size, list[int]] = {}
    for i, p in enumerate(params):
        by_shape.setdefault(p.shape[-2:], []).append(i)
    return list(by_shape.values())


# Matrices of one shape go through the iteration together, as one batch of products.
def _stack(
    tensors: list[Tensor], indices: list[list[int]]
) -> list[Float[Tensor, "n rows columns"]]:
    return [
        torch.cat([tensors[i].reshape(-1, *tensors[i].shape[-2:]) for i in chosen])
        for chosen in indices
    ]


def _unstack(stacks: list[Tensor], tensors: list[Tensor], indices: list[list[int]]) -> None:
    for stack, chosen in zip(stacks, indices, strict=True):
        targets = [tensors[i] for i in chosen]
        parts = stack.split([math.prod(t.shape[:-2]) for t in targets])
        values = [part.reshape(t.shape) for part, t in zip(parts, targets, strict=True)]
        torch._foreach_copy_(targets, values)


class NorMuon(Muon):
    """Muon whose orthogonal update has its neurons (rows) brought to one size.

    As Muon, with normalize_neurons(orthogonalize(n)) for orthogonalize(n).

    Args:
        beta2: share of the running second moment of each row that stays in a step.
        eps: added to its root.

    Source: Li et al. 2025, arXiv:2510.05491.
    """

    normalizes_neurons = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.02,
        *,
        beta2: float = 0.95,
        eps: float = 1e-10,
        **options: Any,
    ) -> None:
        super().__init__(params, lr, **options)
        check_rates(lr, beta2=beta2, eps=eps)
        self.defaults |= {"beta2": beta2, "eps": eps}
        for group in self.param_groups:
            group |= {"beta2": beta2, "eps": eps} | group


def _zero_per_row(matrices: Float[Tensor, "... d_out d_in"]) -> Float[Tensor, "... d_out 1"]:
    return torch.zeros(*matrices.shape[:-1], 1, dtype=matrices.dtype, device=matrices.device)
