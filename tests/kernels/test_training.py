"""A model and its optimizers, trained through all kernels as through plain PyTorch."""

import dataclasses

import pytest
import torch

import kernels
from fastlm.config import ModelConfig, OptimConfig
from fastlm.model import TransformerLM, init_weights
from fastlm.ops import load_ops
from fastlm.optim import build_optimizers

pytestmark = pytest.mark.interpreter

CONFIG = ModelConfig(
    vocab_size=40, context_length=8, d_model=16, n_layers=2, n_heads=2, d_ff=24, tie_weights=True
)
# Interpreted, 200 steps of two layers take two minutes; the steps of Muon below have both.
OF_ONE_LAYER = dataclasses.replace(CONFIG, n_layers=1)
OF_OTHER_PARTS = dataclasses.replace(CONFIG, ffn="relu2", qk_norm=True)
NETWORK_OF = {"relu2": OF_OTHER_PARTS, "qk_norm_rope": OF_OTHER_PARTS}  # of the others: CONFIG


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


@pytest.mark.slow
def test_200_steps_through_all_kernels_equal_the_reference():
    # At three times this rate two ways of plain PyTorch end 3e-4 apart: training makes roundings
    # grow.
    plain = losses_of_training("none", 200, "adamw", 3e-3, OF_ONE_LAYER)
    ours = losses_of_training("all", 200, "adamw", 3e-3, OF_ONE_LAYER)
    assert sum(plain[-10:]) / 10 < plain[0] - 1
    assert ours == pytest.approx(plain, rel=1e-4)


@pytest.mark.parametrize("config", [CONFIG, OF_OTHER_PARTS], ids=["swiglu", "relu2"])
def test_muon_steps_through_all_kernels_equal_the_reference(config):
    plain = losses_of_training("none", 2, "muon", 1e-2, config)
    assert losses_of_training("all", 2, "muon", 1e-2, config) == pytest.approx(plain, rel=1e-4)


@pytest.mark.parametrize("name", sorted(kernels.OPS))
def test_a_kernel_that_is_asked_for_is_run(name, monkeypatch):
    called = []

    def watched(*arguments, **options):
        called.append(name)
        return real(*arguments, **options)

    real = kernels.OPS[name]
    monkeypatch.setitem(kernels.OPS, name, watched)
    losses_of_training(name, 1, "muon", 1e-2, NETWORK_OF.get(name, CONFIG))
    assert called
