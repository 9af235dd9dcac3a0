"""A loss that looks up n-gram tables before the compiled step, for row-wise updates."""

from collections.abc import Callable

from jaxtyping import Float, Int
from torch import Tensor

from fastlm.model.ngrams import NgramEmbedding
from fastlm.optim.rows import RowAdaGrad


class RowLoss:
    """Wraps the loss: looks up n-gram rows outside the compiled graph and keeps their gradients.

    Args:
        loss: TransformerLM.loss, compiled or not.
        optimizer: optimizer of the tables; keep_gradients() gives it the row gradients.
    """

    def __init__(
        self, loss: Callable[..., Tensor], ngrams: NgramEmbedding, optimizer: RowAdaGrad
    ) -> None:
        self.loss, self.ngrams, self.optimizer = loss, ngrams, optimizer
        self.indices: list[Tensor] = []
        self.rows: list[Tensor] = []

    def __call__(
        self, token_ids: Int[Tensor, "batch seq"], targets: Int[Tensor, "batch seq"]
    ) -> Float[Tensor, ""]:
        self.indices = self.ngrams.indices(token_ids)
        self.rows = [rows.detach().requires_grad_() for rows in self.ngrams.rows(self.indices)]
        return self.loss(token_ids, targets, self.rows)

    def keep_gradients(self, factor: float = 1.0) -> None:
        """Give the optimizer the row gradients of the last call, after the backward pass.

        Args:
            factor: factor that the loss was multiplied by before the backward pass.
        """
        gradients = [rows.grad / factor for rows in self.rows if rows.grad is not None]
        self.optimizer.add(self.indices, gradients)
        self.indices, self.rows = [], []
