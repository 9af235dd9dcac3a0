"""A loss whose n-gram tables are looked up before the compiled step, and updated by rows."""

from collections.abc import Callable

from jaxtyping import Float, Int
from torch import Tensor

from fastlm.model.ngrams import NgramEmbedding
from fastlm.optim.rows import RowAdaGrad


class RowLoss:
    """A loss whose tables are updated by rows: looked up before the step that is compiled.

    Args:
        loss: TransformerLM.loss, or that compiled.
        optimizer: of the tables; gets the gradients of the last call's rows by keep_gradients().
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
        """After the backward pass of a loss times a factor: these gradients count next."""
        gradients = [rows.grad / factor for rows in self.rows if rows.grad is not None]
        self.optimizer.add(self.indices, gradients)
        self.indices, self.rows = [], []
