"""Muon and NorMuon: steps along the semi-orthogonal matrix nearest to the momentum.

Matrices of one shape are orthogonalized as one batch. The update is a plain function of tensors
and numbers, so that it can be compiled as a whole.
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
from fastlm.optim import Stepper, check_rates

Polynomial = tuple[float, float, float]
"""Coefficients (a, b, c) of a x + b x^3 + c x^5, applied to singular values."""

NEWTON_SCHULZ: list[Polynomial] = [(3.4445, -4.7750, 2.0315)] * 5
"""One polynomial, five times. It raises small singular values fast; they end between 0.7 and 1.2.

Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/."""

POLAR_EXPRESS_SAFETY = 1.01
"""Each polynomial is evaluated at x / 1.01: bfloat16 rounding may leave its interval."""

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
"""Each polynomial is the best approximation of 1 on the interval that the previous one maps to.

Singular values in [0.001, 1] end in [0.876, 1.124] in exact arithmetic, and in [0.84, 1.125]
with both safety margins (of the polynomials and of the norm).
Source: Amsel et al. 2025, arXiv:2505.16932, theorem 4.1 and algorithm 1."""

POLYNOMIALS = {"newton-schulz": NEWTON_SCHULZ, "polar-express": POLAR_EXPRESS}


def orthogonalize(
    matrices: Float[Tensor, "... d_out d_in"],
    *,
    method: str = "newton-schulz",
    symmetric_product: Callable[..., Tensor] = torch_ops.symmetric_product,
    dtype: torch.dtype | None = None,
) -> Float[Tensor, "... d_out d_in"]:
    """Bring all singular values near 1 with five odd polynomials of degree 5.

    X <- a X + (b X X^T + c (X X^T)^2) X, starting from X / ||X||.

    Args:
        method: a key of POLYNOMIALS.
        symmetric_product: a function like fastlm.functional.symmetric_product.
        dtype: dtype of the matrix products; by default bfloat16 on a GPU, else float32.
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
        norm = norm * POLAR_EXPRESS_SAFETY  # above 1 the first polynomial rises steeply
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
    """Divide each row (neuron) by its running root mean square; keep the norm of the matrix.

    v <- beta2 v + (1 - beta2) mean(row^2), in place; o = row / (sqrt(v) + eps); the result is
    o ||update|| / ||o||. Bias correction of v would scale all rows alike, so it would cancel.

    Args:
        applies: v does not change if this is False.
    Source: Li et al. 2025, arXiv:2510.05491, algorithm 1, whose last step sets the norm to
    0.2 sqrt(d_out d_in) instead: keeping the norm of the update keeps Muon's learning rates valid.
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
    dtype: torch.dtype | None = None,
) -> list[Float[Tensor, "n d_out d_in"]]:
    """Return the parameters after a step of Muon, or of NorMuon if there are second moments.

    One call takes all shapes: they are compiled as one graph, in a time that does not depend on
    the number of layers.

    Args:
        stacks, updates: stacked matrices, one stack per shape, and their Nesterov momentum.
        second_moments: running mean squares of rows, changed in place; empty for Muon.
        lr, decay: 0-dim tensors when compiled, because a Python number would become a constant of
            the graph; decay is lr * weight_decay.
        applies: if False, values and second moments stay unchanged.
        dtype: as in orthogonalize().
    """
    new = []
    for i, (params, update) in enumerate(zip(stacks, updates, strict=True)):
        o = orthogonalize(update, method=method, symmetric_product=symmetric_product, dtype=dtype)
        if second_moments:
            o = normalize_neurons(o, second_moments[i], beta2=beta2, eps=eps, applies=applies)
        shrunk = params * (1 - (decay * (params * o >= 0) if cautious else decay))
        rate = -lr * math.sqrt(max(1.0, params.shape[-2] / params.shape[-1]))
        if isinstance(rate, Tensor):
            o = rate * o
            rate = 1.0  # alpha must be a Python number
        value = torch.add(shrunk, o, alpha=rate)
        new.append(value if applies is None else torch.where(applies, value, params))
    return new


class Muon(Stepper):
    """SGD with momentum, with each update replaced by the nearest semi-orthogonal matrix.

    u <- momentum u + g; n = g + momentum u (Nesterov); p <- p - lr weight_decay p
    - lr sqrt(max(1, d_out / d_in)) orthogonalize(n). Parameters have two dimensions, or more if
    each (..., d_out, d_in) slice is a matrix of its own.

    Args:
        orthogonalization: newton-schulz or polar-express, see POLYNOMIALS.
        cautious: decay only entries whose update has the sign of the entry or is 0 (Chen et al.
            2025, arXiv:2510.12402): p <- p - lr weight_decay [p o >= 0] p - lr ... o.
        ranks: the processes that divide the matrices among themselves: each updates its share,
            and an all-gather gives all of them to all.
        compiled: torch.compile the update; changes of lr, weight_decay and momentum do not
            recompile it.
        dtype: as in orthogonalize().

    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/.
    """

    updates_on_condition = True
    normalizes_neurons = False
    _update: Callable[..., list[Tensor]] = staticmethod(update_stacks)
    _dtype: torch.dtype | None = None

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
        ranks: Ranks | None = None,
        compiled: bool = False,
        dtype: torch.dtype | None = None,
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
        super().__init__(params, defaults, ops=ops, ranks=ranks)
        self._dtype = dtype
        if compiled:
            self._update = torch.compile(update_stacks, fullgraph=True, dynamic=False)
        for group in self.param_groups:
            for p in group["params"]:
                if p.ndim < 2:
                    raise ValueError(
                        f"{type(self).__name__} needs matrices: got a parameter of shape "
                        f"{tuple(p.shape)}; give it to AdamW"
                    )

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_dtype": self._dtype}

    def update(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        applies: Bool[Tensor, ""] | None,
    ) -> None:
        momentum = group["momentum"]
        velocity = self.buffers(params, "velocity")
        kept = momentum if applies is None else torch.where(applies, momentum, 1.0)
        torch._foreach_mul_(velocity, kept)
        torch._foreach_add_(velocity, grads)
        updates = list(torch._foreach_add(grads, velocity, alpha=momentum))
        indices = _indices_by_shape(params)
        moments = []
        if self.normalizes_neurons:
            moments = self.buffers(params, "second_moment", new=_zero_per_row)
        stacked_moments = _stack(moments, indices) if moments else []
        values = params
        if self.ranks.is_fsdp:
            values = [whole(p) for p in params]
            updates = [whole_of_part(u, p) for u, p in zip(updates, params, strict=True)]
        new = self._shared_values(
            group, _stack(values, indices), _stack(updates, indices), stacked_moments, applies
        )
        _unstack(new, values, indices)
        if self.ranks.is_fsdp:
            for p, value in zip(params, values, strict=True):
                assign(p, value)
        if moments:
            _unstack(stacked_moments, moments, indices)

    def _shared_values(
        self,
        group: dict[str, Any],
        stacks: list[Tensor],
        updates: list[Tensor],
        second_moments: list[Tensor],
        applies: Bool[Tensor, ""] | None,
    ) -> list[Tensor]:
        """New values of all matrices; each process computes its share, then gathers the rest."""
        ranks = self.ranks
        if ranks.size == 1:
            return self._new_values(group, stacks, updates, second_moments, applies)
        shares = [[ranks.share(s) for s in each] for each in (stacks, updates, second_moments)]
        new = self._new_values(group, shares[0], shares[1], shares[2], applies)
        for stack, moments in zip(second_moments, shares[2], strict=True):
            stack.copy_(ranks.whole(moments, len(stack)))
        return [ranks.whole(part, len(s)) for part, s in zip(new, stacks, strict=True)]

    def _new_values(
        self,
        group: dict[str, Any],
        stacks: list[Tensor],
        updates: list[Tensor],
        second_moments: list[Tensor],
        applies: Bool[Tensor, ""] | None,
    ) -> list[Tensor]:
        numbers = {"lr": group["lr"], "decay": group["lr"] * group["weight_decay"]}
        if self._update is not update_stacks:
            # Filled on the device: a copy from the host would make the host wait.
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
            applies=applies,
            dtype=self._dtype,
            **{name: group[name] for name in ("beta2", "eps") if name in group},
        )

    @torch.no_grad()
    def warm_up(self) -> None:
        """Compile what step() will run, by updating zeros shaped like the parameters.

        No parameter changes. `applies` is given, as in training.
        """
        device = self.param_groups[0]["params"][0].device
        applies = torch.ones((), dtype=torch.bool, device=device)
        for group in self.param_groups:
            params = [p for p in group["params"] if p.requires_grad]
            stacks = _stack([whole(p) for p in params], _indices_by_shape(params))
            zeros = [torch.zeros_like(stack) for stack in stacks]
            moments = [_zero_per_row(s) for s in stacks] if self.normalizes_neurons else []
            self._shared_values(group, stacks, zeros, moments, applies)


def _indices_by_shape(params: list[Tensor]) -> list[list[int]]:
    by_shape: dict[torch.Size, list[int]] = {}
    for i, p in enumerate(params):
        by_shape.setdefault(p.shape[-2:], []).append(i)
    return list(by_shape.values())


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
    """Muon with neuron-wise normalization: the rows of the orthogonal update get similar norms.

    It takes normalize_neurons(orthogonalize(n)) in place of Muon's orthogonalize(n).

    Args:
        beta2: decay rate of the running second moment of each row.
        eps: added to the root of the second moment.

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
