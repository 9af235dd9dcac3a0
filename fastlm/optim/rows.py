"""Row-wise AdaGrad for large embedding tables of which a step touches few rows.

Autograd does not track the tables: rows are looked up before the step, and their gradients are
passed to add(). Neither step() nor add() waits for the device.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fastlm.devices.ranks import Ranks
from fastlm.optim.light import LightOptimizer


class RowAdaGrad(LightOptimizer):
    """v_r <- v_r + mean(g^2); row r <- row r - lr g / (sqrt(v_r) + eps), for rows with gradients.

    v holds one number per row. A row that was looked up several times gets the sum of its
    gradients, and v_r the sum of their mean squares.

    Args:
        tables: replicated on every process, never sharded.
        ranks: the processes whose gradients are combined.

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
        """Keep row gradients for the next step: one tensor per table, in the tables' order."""
        tables = [table for group in self.param_groups for table in group["params"]]
        for table, index, gradient in zip(tables, indices, gradients, strict=True):
            self.pending.setdefault(table, []).append((index.flatten(), gradient.flatten(0, -2)))

    @torch.no_grad()
    def step(  # type: ignore[override]
        self, closure: Any = None, *, applies: Bool[Tensor, ""] | None = None
    ) -> None:
        """Update the rows that have gradients, then drop the gradients.

        Args:
            applies: a flag on the device; nothing changes if it is False.
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
        """Drop gradients that no step has used."""
        self.pending.clear()


@contextlib.contextmanager
def _in_fixed_order(*, needed: bool) -> Iterator[None]:
    """Use deterministic sums, so that the replicas of a table stay equal on all processes."""
    if not needed or torch.are_deterministic_algorithms_enabled():
        yield
        return
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
