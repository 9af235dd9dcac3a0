"""Embedding and head as one matrix for the first part of a run, as two for the rest.

Both exist from the start and hold the same numbers while they are tied: what is compiled
stays as it is when they part.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from fastlm.model import TransformerLM


class Tie:
    """Holds two parameters equal: both gradients move the first, and the second follows.

    Args:
        head: is moved, by its optimizer and at its rate.
        embedding: is made equal to it.
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
        """Between the backward pass and the optimizer's step."""
        if self.is_tied and self.embedding.grad is not None:
            if self.head.grad is None:
                self.head.grad = self.embedding.grad
            else:
                self.head.grad.add_(self.embedding.grad)
            self.embedding.grad = None

    @torch.no_grad()
    def after_step(self) -> None:
        """After the optimizer's step, and once before the first."""
        if self.is_tied:
            self.embedding.copy_(self.head)

    def load_state(self, *, is_tied: bool) -> None:
        """Go on tied or not, as a checkpoint says."""
        self.is_tied = is_tied

    def untie(self, optimizers: Sequence[Optimizer]) -> None:
        """Let them part, each with what the optimizer knows of the head so far."""
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
    """Make embedding and head equal: the embedding's numbers at the size a tied one has."""
    head, embedding = model.lm_head.weight, model.token_embeddings.weight
    # Where the embedding is normed, its size is the head's alone: smaller, so that a network
    # that starts as nothing does not begin by predicting the token it reads.
    power = -1.0 if model.config.embedding_norm else -0.5
    with torch.no_grad():
        head.copy_(embedding * model.config.d_model**power)
    tied = Tie(head, embedding)
    tied.after_step()
    return tied
