"""Optimizers against torch's own and against their formulas done by hand."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from fastlm.config import ModelConfig, OptimConfig
from fastlm.model import TransformerLM
from fastlm.optim import (
    SGD,
    AdaGrad,
    AdamW,
    Muon,
    build_optimizers,
    clip_gradients,
    orthogonalize,
    parameter_groups,
    set_learning_rate,
)


def after_noisy_steps(make, n_steps: int, dtype: torch.dtype) -> list[torch.Tensor]:
    """Parameters after stochastic gradient steps of a regression; the same noise for every make."""
    rng = torch.Generator().manual_seed(0)
    matrix = nn.Parameter(torch.randn(7, 5, generator=rng).to(dtype))
    vector = nn.Parameter(torch.randn(11, generator=rng).to(dtype))
    optimizer = make([matrix, vector])
    for _ in range(n_steps):
        x, y = (
            torch.randn(16, 5, generator=rng).to(dtype),
            torch.randn(16, 7, generator=rng).to(dtype),
        )
        z = torch.randn(11, generator=rng).to(dtype)
        optimizer.zero_grad()
        (((x @ matrix.T - y) ** 2).mean() + ((vector - z) ** 2).mean()).backward()
        optimizer.step()
    return [matrix.detach(), vector.detach()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("lr", "weight_decay"), [(1e-3, 0.1), (1e-2, 0.0), (1e-2, 0.5)])
def test_adamw_equals_torch_over_1000_steps(dtype, lr, weight_decay):
    options = {"lr": lr, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": weight_decay}
    ours = after_noisy_steps(lambda p: AdamW(p, **options), 1000, dtype)
    theirs = after_noisy_steps(lambda p: torch.optim.AdamW(p, **options), 1000, dtype)
    for a, b in zip(ours, theirs, strict=True):
        assert (a - b).abs().max().item() < 1e-5


def test_adagrad_equals_torch():
    ours = after_noisy_steps(lambda p: AdaGrad(p, 0.1), 300, torch.float64)
    theirs = after_noisy_steps(lambda p: torch.optim.Adagrad(p, 0.1), 300, torch.float64)
    torch.testing.assert_close(ours, theirs)


def test_sgd_with_momentum_equals_torch():
    ours = after_noisy_steps(lambda p: SGD(p, 0.01, momentum=0.9), 300, torch.float64)
    theirs = after_noisy_steps(lambda p: torch.optim.SGD(p, 0.01, momentum=0.9), 300, torch.float64)
    torch.testing.assert_close(ours, theirs)


def test_sgd_with_falling_rate_divides_by_the_root_of_the_step():
    p = nn.Parameter(torch.tensor([10.0]))
    optimizer = SGD([p], lr=1.0, inverse_sqrt=True)
    expected = 10.0
    for t in range(4):
        p.grad = torch.tensor([1.0])
        optimizer.step()
        expected -= 1.0 / math.sqrt(t + 1)
        assert p.item() == pytest.approx(expected)


def test_adamw_second_step_by_hand():
    p = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    optimizer = AdamW([p], lr=0.1, betas=(0.9, 0.99), eps=1e-3, weight_decay=0.2)
    theta, m, v = 1.0, 0.0, 0.0
    for t, g in ((1, 2.0), (2, -1.0)):
        p.grad = torch.tensor([g], dtype=torch.float64)
        optimizer.step()
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
        rate = 0.1 * math.sqrt(1 - 0.99**t) / (1 - 0.9**t)
        theta = theta - 0.1 * 0.2 * theta - rate * m / (math.sqrt(v) + 1e-3)
        assert p.item() == pytest.approx(theta, abs=1e-12)


@pytest.mark.parametrize("shape", [(16, 16), (5, 64), (96, 7), (3, 8, 20)])
def test_orthogonalize_brings_all_singular_values_near_one(shape):
    matrices = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    result = orthogonalize(matrices)
    assert result.shape == matrices.shape
    values = torch.linalg.svdvals(result)
    # The smallest of a square random matrix starts near 0 and is not all the way up in 5 rounds.
    assert values.max() < 1.25
    assert values.median() > 0.65
    u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
    alignment = (result * (u @ vh)).sum((-2, -1)) / (u @ vh).square().sum((-2, -1))
    assert alignment.min() > 0.6


def test_muon_step_equals_its_formula_matrix_by_matrix():
    rng = torch.Generator().manual_seed(0)
    shapes = [(12, 4), (4, 12), (3, 6, 6), (12, 4)]
    params = [nn.Parameter(torch.randn(*s, generator=rng)) for s in shapes]
    expected = [p.detach().clone() for p in params]
    velocity = [torch.zeros_like(p) for p in expected]
    optimizer = Muon(params, lr=0.1, momentum=0.9, weight_decay=0.2)
    for _ in range(3):
        for i, p in enumerate(params):
            p.grad = torch.randn(*p.shape, generator=rng)
            velocity[i] = 0.9 * velocity[i] + p.grad
            direction = p.grad + 0.9 * velocity[i]
            matrices = direction.unbind(0) if p.ndim == 3 else [direction]
            update = torch.stack([orthogonalize(m) for m in matrices]).reshape(p.shape)
            scale = math.sqrt(max(1.0, p.shape[-2] / p.shape[-1]))
            expected[i] = expected[i] * (1 - 0.1 * 0.2) - 0.1 * scale * update
        optimizer.step()
    for p, q in zip(params, expected, strict=True):
        torch.testing.assert_close(p.detach(), q, rtol=1e-4, atol=1e-5)


def test_muon_refuses_vectors():
    with pytest.raises(ValueError, match=r"shape \(3,\); give it to AdamW"):
        Muon([nn.Parameter(torch.zeros(3))])


@pytest.mark.parametrize("make", [SGD, AdaGrad, AdamW, Muon])
def test_rates_that_are_no_rates_are_refused(make):
    for lr in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="lr must be finite"):
            make([nn.Parameter(torch.zeros(2, 2))], lr)


def test_optimizer_state_continues_where_it_was_saved():
    for make in (
        lambda p: SGD(p, 0.1, momentum=0.9, inverse_sqrt=True),
        lambda p: AdaGrad(p, 0.1),
        lambda p: AdamW(p, 0.1),
        lambda p: Muon(p, 0.1),
    ):
        a, b = nn.Parameter(torch.eye(3)), nn.Parameter(torch.eye(3))
        first, second = make([a]), make([b])
        grads = torch.randn(6, 3, 3, generator=torch.Generator().manual_seed(0))
        for g in grads[:3]:
            a.grad = g
            first.step()
        # torch's load_state_dict keeps the tensors it is given: a copy, or both would share them.
        second.load_state_dict(copy.deepcopy(first.state_dict()))
        with torch.no_grad():
            b.copy_(a)
        for g in grads[3:]:
            a.grad, b.grad = g, g.clone()
            first.step()
            second.step()
        assert torch.equal(a, b)


def test_clipping_scales_to_the_norm_by_hand():
    a, b = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))
    frozen = nn.Parameter(torch.zeros(1))
    a.grad, b.grad = torch.tensor([2.0, 3.0]), torch.tensor([6.0])  # norm 7
    norm = clip_gradients([a, b, frozen], 3.5)
    assert norm.item() == pytest.approx(7.0)
    factor = 3.5 / (7 + 1e-6)
    torch.testing.assert_close(a.grad, torch.tensor([2.0, 3.0]) * factor)
    torch.testing.assert_close(b.grad, torch.tensor([6.0]) * factor)
    assert frozen.grad is None


def test_clipping_leaves_small_gradients_bit_for_bit():
    p = nn.Parameter(torch.zeros(100))
    p.grad = torch.randn(100, generator=torch.Generator().manual_seed(0))
    before = p.grad.clone()
    clip_gradients([p], 1e3)
    assert torch.equal(p.grad, before)
    assert clip_gradients([nn.Parameter(torch.zeros(1))], 1.0).item() == 0


def test_clipping_equals_torch():
    rng = torch.Generator().manual_seed(0)
    ours = [nn.Parameter(torch.zeros(s)) for s in (3, 50, 7)]
    theirs = [nn.Parameter(torch.zeros(s)) for s in (3, 50, 7)]
    for p, q in zip(ours, theirs, strict=True):
        p.grad = torch.randn(p.shape, generator=rng)
        q.grad = p.grad.clone()
    torch.testing.assert_close(clip_gradients(ours, 0.5), nn.utils.clip_grad_norm_(theirs, 0.5))
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p.grad, q.grad)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", ["adamw", "muon", "sgd", "adagrad"])
def test_every_parameter_is_optimized_once(name, tied):
    config = ModelConfig(
        vocab_size=50, context_length=8, n_layers=2, d_model=16, n_heads=2, tie_weights=tied
    )
    model = TransformerLM(config)
    optimizers = build_optimizers(model, OptimConfig(name=name))
    held = [id(p) for o in optimizers for g in o.param_groups for p in g["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters())
    decayed = {
        id(p)
        for o in optimizers
        for g in o.param_groups
        if g["weight_decay"] > 0
        for p in g["params"]
    }
    groups = parameter_groups(model)
    assert decayed == {id(p) for p in groups["matrices"] + groups["head"]}
    if name == "muon":
        assert {id(p) for p in optimizers[1].param_groups[0]["params"]} == {
            id(p) for p in groups["matrices"]
        }


def test_learning_rates_keep_their_ratio():
    config = ModelConfig(vocab_size=50, context_length=8, n_layers=1, d_model=16, n_heads=2)
    optimizers = build_optimizers(
        TransformerLM(config), OptimConfig(name="muon", lr=1e-3, muon_lr=0.02)
    )
    set_learning_rate(optimizers, 0.25)
    set_learning_rate(optimizers, 0.5)
    assert [g["lr"] for o in optimizers for g in o.param_groups] == pytest.approx([5e-4, 0.01])


def test_an_unused_parameter_is_left_alone():
    used, unused = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer = AdamW([used, unused], lr=0.1)
    used.grad = torch.ones(3)
    optimizer.step()
    assert np.array_equal(unused.detach().numpy(), np.ones(3))
    assert not torch.equal(used, torch.ones(3))
