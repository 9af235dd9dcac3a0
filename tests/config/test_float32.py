"""Numbers that float32 cannot hold are refused by name where configurations are checked."""

import math

import pytest
import torch
from torch import nn

from fastlm.config import RATES, ModelConfig, OptimConfig, TrainConfig, float32
from fastlm.optim import SGD, AdaGrad, AdamW
from fastlm.optim.muon import Muon, NorMuon

POSITIVE = (*RATES, "eps", "weight_decay", "max_grad_norm")


@pytest.mark.parametrize(
    "value",
    [0.1, 1e-50, 1.5e-45, 0.7e-45, 3.4028235e38, 3.4028236e38, 1e39, 1e308, 1 - 1e-9, -1e39],
)
def test_numbers_are_rounded_as_torch_rounds_them(value):
    assert float32.rounded(value) == torch.tensor(value, dtype=torch.float32).item()


@pytest.mark.parametrize("name", POSITIVE)
def test_an_optimizers_number_beyond_float32_is_refused(name):
    for value in (1e39, 1e308, 1e-50):
        with pytest.raises(ValueError, match=rf"optim\.{name} must lie in the range of float32"):
            OptimConfig(**{name: value})
    for value in (1e30, 1e-38):
        assert getattr(OptimConfig(**{name: value}), name) == value


@pytest.mark.parametrize("name", RATES)
def test_a_rate_that_formulas_would_multiply_beyond_float32_is_refused(name):
    with pytest.raises(ValueError, match=rf"optim\.{name} must be at most 1e\+30"):
        OptimConfig(**{name: 3e38})


@pytest.mark.parametrize("make", [SGD, AdaGrad, AdamW, Muon, NorMuon])
def test_a_step_at_the_greatest_rate_is_computed(make):
    """torch raises RuntimeError for a number that float32 cannot hold."""
    weight = nn.Parameter(torch.full((4096, 1), 0.5))
    optimizer = make([weight], float32.MOST_RATE, weight_decay=0.1)
    for _ in range(2):
        weight.grad = torch.ones_like(weight)
        optimizer.step()
    assert not torch.equal(weight, torch.full((4096, 1), 0.5))


@pytest.mark.parametrize(
    "changes",
    [
        {"betas": (0.9, 1 - 1e-9)}, {"table_betas": (1 - 1e-9, 0.9)}, {"momentum": 1 - 1e-9},
        {"momentum_end": 1 - 1e-9},
    ],
)  # fmt: skip
def test_a_share_that_is_1_in_float32_is_refused(changes):
    with pytest.raises(ValueError, match="must be below 1 in float32"):
        OptimConfig(**changes)
    OptimConfig(**{name: (0.9, 1 - 1e-7) if "betas" in name else 1 - 1e-7 for name in changes})


def test_no_clipping_and_no_decay_are_settings():
    config = OptimConfig(max_grad_norm=math.inf, weight_decay=0.0)
    assert (config.max_grad_norm, config.weight_decay) == (math.inf, 0.0)


@pytest.mark.parametrize("name", ["norm_eps", "logit_softcap"])
def test_a_networks_number_beyond_float32_is_refused(name):
    for value in (1e39, 1e-50):
        with pytest.raises(ValueError, match=f"{name} must lie in the range of float32"):
            ModelConfig(**{name: value})


def test_the_factors_of_a_ramp_count():
    ramp = {"batch_ramp": (1, 2), "max_steps": 3}
    for factor in (1e45, 1e36):
        with pytest.raises(ValueError, match=r"optim\.lr times .* of the ramp must"):
            TrainConfig(**ramp, batch_ramp_lr=(1.0, factor))
    TrainConfig(**ramp, batch_ramp_lr=(1.0, 1e9))
