"""AdaGrad for large tables of which a step touches few rows.

A table is a parameter that autograd does not see: rows are looked up before the step, and
the gradient of what was looked up is given to add(). Neither a step nor add() waits for the device.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.optim import Optimizer

from fastlm.devices.ranks import Ranks


class RowAdaGrad(Optimizer):
    """v_r <- v_r + mean(g^2); row r <- row r - lr g / (sqrt(v_r) + eps), for rows with gradients.

    v is one number a row. A row that was looked up several times gets the sum of these gradients,
    and v the sum of their squares.

    Args:
        tables: whole on every process.
        ranks: the processes whose gradients count.

    Source: Duchi et al. 2011, with one rate a row as in Gupta et al. 2014.
    """

    def __init__(
        self,
        tables: Iterable[Tensor],
        lr: float = 0.05,
        *,
        eps: float = 1e-10,
        ranks: Ranks | None = None,
    ) -> None:
        super().__init__(list(tables), {"lr": lr, "eps": eps})
        self.ranks = ranks or Ranks()
        self.pending: dict[Tensor, list[tuple[Tensor, Tensor]]] = {}
        for group in self.param_groups:
            for table in group["params"]:
                table.requires_grad_(False)
                self.state[table]["square_sum"] = torch.zeros(len(table), device=table.device)

    def add(
        self,
        indices: Sequence[Int[Tensor, "..."]],
        gradients: Sequence[Float[Tensor, "... width"]],
    ) -> None:
        """Keep gradients of rows for the next step: a tensor for each table, in their order."""
        tables = [table for group in self.param_groups for table in group["params"]]
        for table, index, gradient in zip(tables, indices, gradients, strict=True):
            self.pending.setdefault(table, []).append((index.flatten(), gradient.flatten(0, -2)))

    @torch.no_grad()
    def step(  # type: ignore[override]
        self, closure: Any = None, *, applies: Bool[Tensor, ""] | None = None
    ) -> None:
        """Update the rows that have gradients, and forget these.

        Args:
            applies: on the device; where it is False nothing changes.
        """
        for group in self.param_groups:
            for table in group["params"]:
                parts = self.pending.pop(table, [])
                if not parts:
                    continue
                index = self.ranks.concatenate(torch.cat([i for i, _ in parts]))
                gradient = torch.cat([g for _, g in parts]).to(table.dtype)
                gradient = self.ranks.concatenate(gradient)
                if applies is not None:
                    gradient = torch.where(applies, gradient, 0.0)
                squares = self.state[table]["square_sum"]
                with _in_fixed_order(needed=self.ranks.size > 1):
                    squares.index_add_(0, index, gradient.float().square().mean(-1))
                    scale = group["lr"] / (squares[index].sqrt() + group["eps"])
                    table.index_add_(0, index, -(gradient * scale[:, None]).to(table.dtype))

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget gradients that no step has used."""
        self.pending.clear()


@contextlib.contextmanager
def _in_fixed_order(*, needed: bool) -> Iterator[None]:
    """Sums that come out the same on every GPU: tables that all processes have stay equal."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(before or needed)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
