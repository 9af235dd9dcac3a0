"""What of a model is compiled, and how, so that it is compiled once.

Level 3.
"""

from collections.abc import Callable
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor

from fastlm.model import TransformerLM


def compiled_loss(model: TransformerLM, scope: Literal["step", "block"]) -> Callable[..., Tensor]:
    """model.loss as one graph, or with its layers and its head compiled, each kind once.

    Forgets what was compiled before in this process.
    """
    # Graphs are kept per function, and only a few: those of an earlier run would be in the way.
    torch.compiler.reset()
    # einops has a table of the types it has met, and a graph holds for that table alone: it
    # would be compiled a second time when the first call has filled it.
    for x in (torch.empty(1, 1), torch.nn.Parameter(torch.empty(1, 1))):
        rearrange(x, "a b -> b a")
    if scope == "step":
        return torch.compile(model.loss, fullgraph=True, dynamic=False)
    for layer in model.layers:
        layer.compile(fullgraph=True, dynamic=False)
    head = torch.compile(model.ops.linear_cross_entropy, fullgraph=True, dynamic=False)
    model.ops = model.ops._replace(linear_cross_entropy=head)
    return model.loss
