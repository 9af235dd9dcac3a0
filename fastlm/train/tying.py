"""Tied embeddings for the first part of a run only (optim.tie_until).

Embedding and head are two parameters from the start, and equal while they are tied, so that
untying needs no recompilation.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from fastlm.model import TransformerLM


class Tie:
    """Keeps two parameters equal: the head is updated with both gradients, the embedding copies it.

    Args:
        head: parameter that is updated, by its own optimizer and learning rate.
        embedding: parameter that is set equal to the head after each step.
    """

    def __init__(self, head: Tensor, embedding: Tensor) -> None:
        if head.shape != embedding.shape:
            raise ValueError(
                f"only matrices of one shape can be tied: got {tuple(head.shape)} and "
                f"{tuple(embedding.shape)}"
            )
        self.head, self.embedding = head, embedding
        self.is_tied = True

    @torch.no_grad()
    def before_step(self) -> None:
        """Add the embedding's gradient to the head's; call it between backward pass and step."""
        if self.is_tied and self.embedding.grad is not None:
            if self.head.grad is None:
                self.head.grad = self.embedding.grad
            else:
                self.head.grad.add_(self.embedding.grad)
            self.embedding.grad = None

    @torch.no_grad()
    def after_step(self) -> None:
        """Copy the head to the embedding; call it at the start and after each optimizer step."""
        if self.is_tied:
            self.embedding.copy_(self.head)

    def load_state(self, *, is_tied: bool) -> None:
        """Restore whether the parameters are tied, from a checkpoint."""
        self.is_tied = is_tied

    def untie(self, optimizers: Sequence[Optimizer]) -> None:
        """Untie them; the embedding starts with a copy of the head's optimizer state."""
        if not self.is_tied:
            return
        self.is_tied = False
        states = [o.state[self.head] for o in optimizers if self.head in o.state]
        for optimizer in optimizers:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            if any(p is self.embedding for p in parameters) and states:
                optimizer.state[self.embedding] = {
                    name: value.clone() if isinstance(value, Tensor) else value
                    for name, value in states[0].items()
                }


def tie(model: TransformerLM) -> Tie:
    """Set embedding and head to the embedding's values, scaled as for tied weights."""
    head, embedding = model.lm_head.weight, model.token_embeddings.weight
    # With embedding_norm the scale matters only for the head. It is smaller then, so that a
    # zero-initialised network does not start by predicting its input token.
    power = -1.0 if model.config.embedding_norm else -0.5
    with torch.no_grad():
        head.copy_(embedding * model.config.d_model**power)
    tied = Tie(head, embedding)
    tied.after_step()
    return tied
