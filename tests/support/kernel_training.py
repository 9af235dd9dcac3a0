"""A model and its optimizers, trained through kernels on sequences that can be learned."""

import dataclasses

import torch

from fastlm.config import ModelConfig, OptimConfig
from fastlm.model import TransformerLM, init_weights
from fastlm.ops import load_ops
from fastlm.optim import build_optimizers

CONFIG = ModelConfig(
    vocab_size=40, context_length=8, d_model=16, n_layers=2, n_heads=2, d_ff=24, tie_weights=True
)
# Interpreted, 200 steps of two layers take two minutes; the steps of Muon below have both.
OF_ONE_LAYER = dataclasses.replace(CONFIG, n_layers=1)
OF_OTHER_PARTS = dataclasses.replace(CONFIG, ffn="relu2", qk_norm=True)


def losses_of_training(
    triton_ops: str, n_steps: int, optimizer: str, lr: float, config: ModelConfig = CONFIG
) -> list[float]:
    ops = load_ops(triton_ops, "cpu")
    model = TransformerLM(config, ops=ops)
    init_weights(model, 0)
    optimizers = build_optimizers(model, OptimConfig(name=optimizer, lr=lr), ops)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(n_steps):
        # Each token follows from the one before, with some noise: there is something to learn.
        first = torch.randint(0, config.vocab_size, (1, 1), generator=generator)
        steps = torch.randint(3, 5, (1, config.context_length), generator=generator)
        ids = torch.cat([first, first + steps.cumsum(1)], dim=1) % config.vocab_size
        loss = model.loss(ids[:, :-1], ids[:, 1:])
        loss.backward()
        for each in optimizers:
            each.step()
            each.zero_grad()
        losses.append(loss.item())
    return losses
