"""Muon and NorMuon against their formulas, matrix by matrix, and against singular values."""

import copy
import math

import pytest
import torch
from short_runs import write_checkpoint
from torch import nn

from fastlm.checkpoint import read_run_checkpoint
from fastlm.ops import load_ops
from fastlm.optim.muon import (
    POLAR_EXPRESS,
    POLAR_EXPRESS_SAFETY,
    Muon,
    NorMuon,
    normalize_neurons,
    orthogonalize,
    update_stacks,
)


@pytest.mark.parametrize("shape", [(16, 16), (5, 64), (96, 7), (3, 8, 20)])
def test_newton_schulz_brings_all_singular_values_near_one(shape):
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


def apply(polynomial: tuple[float, float, float], x: torch.Tensor) -> torch.Tensor:
    a, b, c = polynomial
    return a * x + b * x**3 + c * x**5


def test_polar_express_polynomials_are_the_nearest_to_one_on_their_intervals():
    """Chebyshev: of the odd polynomials of degree 5 the nearest to a constant is the one that is
    four times, by turns, equally far below and above it. The paper takes it on at least the part
    above 0.0241 of the upper end, then scales so that all values lie evenly around 1."""
    low, high = 1e-3, 1.0
    for a, b, c in POLAR_EXPRESS:
        s = POLAR_EXPRESS_SAFETY
        polynomial = (a * s, b * s**3, c * s**5)
        start = max(low, 0.02407327424182761 * high)
        grid = torch.linspace(start, high, 400_001, dtype=torch.float64)
        y = apply(polynomial, grid)
        turns = (y[1:-1] - y[:-2]) * (y[2:] - y[1:-1]) < 0
        extrema = [y[0].item(), *y[1:-1][turns].tolist(), y[-1].item()]
        below, above = extrema[0], extrema[-1]
        assert extrema == pytest.approx([below, above, below, above], abs=1e-8)
        low = apply(polynomial, torch.tensor(low, dtype=torch.float64)).item()
        high = above
        assert low <= below + 1e-8
        assert low + high == pytest.approx(2.0, abs=1e-8)
    assert (low, high) == pytest.approx((0.876, 1.124), abs=1e-3)


@pytest.mark.parametrize("shape", [(16, 16), (5, 64), (96, 7), (3, 8, 20)])
def test_polar_express_brings_singular_values_from_a_thousandth_up(shape):
    rng = torch.Generator().manual_seed(0)
    u, _, vh = torch.linalg.svd(
        torch.randn(*shape, generator=rng, dtype=torch.float64), full_matrices=False
    )
    values = torch.logspace(-3, 0, min(shape[-2:]), dtype=torch.float64)
    values = values / values.norm()
    values[0] = 1.02e-3
    matrices = u @ torch.diag(values) @ vh
    # The scale of the matrix makes no difference.
    result = orthogonalize((300 * matrices).float(), method="polar-express").double()
    expected = values / values.norm() / POLAR_EXPRESS_SAFETY
    for polynomial in POLAR_EXPRESS:
        expected = apply(polynomial, expected)
    assert expected.min() > 0.84
    assert expected.max() < 1.125
    torch.testing.assert_close(result, u @ torch.diag(expected) @ vh, rtol=0, atol=2e-3)


@pytest.mark.parametrize("kind", ["one direction", "random", "few directions", "all equal"])
def test_polar_express_holds_its_bounds_in_bfloat16(kind):
    rng = torch.Generator().manual_seed(0)
    matrices = {
        "one direction": torch.randn(64, 1, generator=rng) @ torch.randn(1, 160, generator=rng),
        "random": torch.randn(64, 160, generator=rng),
        "few directions": torch.randn(64, 4, generator=rng) @ torch.randn(4, 160, generator=rng),
        "all equal": torch.ones(64, 160),
    }[kind]
    result = orthogonalize(matrices, method="polar-express", dtype=torch.bfloat16)
    assert result.dtype == torch.float32
    rank = {"one direction": 1, "all equal": 1, "few directions": 4, "random": 64}[kind]
    values = torch.linalg.svdvals(result)
    assert values[0] < 1.15
    assert values[rank - 1] > 0.83


def reference_steps(params, grads, *, orthogonal, momentum, lr, weight_decay, cautious, beta2):
    """Values after steps of the formulas, one matrix at a time, in float64."""
    values = [p.detach().double().clone() for p in params]
    velocity = [torch.zeros_like(v) for v in values]
    second = [torch.zeros(v.shape[:-1], dtype=torch.float64) for v in values]
    for step_grads in grads:
        for i, g in enumerate(step_grads):
            velocity[i] = momentum * velocity[i] + g.double()
            nesterov = g.double() + momentum * velocity[i]
            flat = nesterov.reshape(-1, *nesterov.shape[-2:])
            for j, matrix in enumerate(flat):
                o = orthogonal(matrix)
                v = second[i].view(-1, o.shape[0])[j]
                if beta2 is not None:
                    norm = o.norm()
                    for row in range(o.shape[0]):
                        v[row] = beta2 * v[row] + (1 - beta2) * (o[row] ** 2).mean()
                        o[row] /= v[row].sqrt()
                    o *= norm / o.norm()
                p = values[i].view(-1, *o.shape)[j]
                decayed = (o * p >= 0).double() if cautious else 1.0
                scale = math.sqrt(max(1.0, o.shape[0] / o.shape[1]))
                p.copy_(p - lr * weight_decay * decayed * p - lr * scale * o)
    return values


@pytest.mark.parametrize("method", ["newton-schulz", "polar-express"])
@pytest.mark.parametrize("cautious", [False, True])
@pytest.mark.parametrize("make", [Muon, NorMuon])
def test_steps_equal_the_formulas_matrix_by_matrix(make, cautious, method):
    rng = torch.Generator().manual_seed(0)
    shapes = [(12, 4), (4, 12), (3, 6, 6), (12, 4), (1, 5), (2, 2, 7, 3)]
    params = [nn.Parameter(torch.randn(*s, generator=rng)) for s in shapes]
    grads = [[torch.randn(*s, generator=rng) for s in shapes] for _ in range(4)]
    rates = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.2}
    expected = reference_steps(
        params,
        grads,
        orthogonal=lambda m: orthogonalize(m, method=method, dtype=torch.float64),
        cautious=cautious,
        beta2=0.95 if make is NorMuon else None,
        **rates,
    )
    optimizer = make(params, orthogonalization=method, cautious=cautious, **rates)
    for step_grads in grads:
        for p, g in zip(params, step_grads, strict=True):
            p.grad = g.clone()
        optimizer.step()
        assert all(torch.equal(p.grad, g) for p, g in zip(params, step_grads, strict=True))
    for p, q in zip(params, expected, strict=True):
        torch.testing.assert_close(p.detach().double(), q, rtol=1e-4, atol=2e-5)


def test_cautious_decay_by_hand():
    """Only entries that the update shrinks, or leaves, decay."""
    p = nn.Parameter(torch.tensor([[2.0, -3.0, 4.0]]))
    optimizer = Muon([p], lr=0.1, weight_decay=0.5, momentum=0.0, cautious=True)
    p.grad = torch.tensor([[1.0, 1.0, 0.0]])
    o = orthogonalize(p.grad)[0, 0].item()
    assert o > 0.4
    optimizer.step()
    expected = [[2.0 - 0.05 * 2.0 - 0.1 * o, -3.0 - 0.1 * o, 4.0 - 0.05 * 4.0]]
    torch.testing.assert_close(p.detach(), torch.tensor(expected))


def test_neurons_get_one_size_and_the_matrix_keeps_its_norm():
    rng = torch.Generator().manual_seed(0)
    update = torch.randn(3, 9, 5, generator=rng) * torch.logspace(-3, 3, 9)[:, None]
    second_moment = torch.zeros(3, 9, 1)
    for _ in range(200):  # the same update again and again: v goes to its mean square
        found = normalize_neurons(update, second_moment, beta2=0.9, eps=1e-10)
    torch.testing.assert_close(second_moment, update.square().mean(-1, keepdim=True))
    sizes = found.square().mean(-1).sqrt()
    torch.testing.assert_close(sizes, sizes[:, :1].expand(3, 9))
    torch.testing.assert_close(found.norm(dim=(-2, -1)), update.norm(dim=(-2, -1)))
    directions = torch.nn.functional.cosine_similarity(found, update, dim=-1)
    torch.testing.assert_close(directions, torch.ones(3, 9))


@pytest.mark.parametrize("make", [Muon, NorMuon])
def test_a_gradient_of_zero_changes_nothing_but_the_decay(make):
    p = nn.Parameter(torch.randn(4, 6, generator=torch.Generator().manual_seed(0)))
    before = p.detach().clone()
    optimizer = make([p], 0.1, weight_decay=0.5, orthogonalization="polar-express")
    p.grad = torch.zeros(4, 6)
    optimizer.step()
    torch.testing.assert_close(p.detach(), before * 0.95)


@pytest.mark.parametrize("make", [Muon, NorMuon])
def test_vectors_and_unknown_iterations_are_refused(make):
    with pytest.raises(ValueError, match=rf"{make.__name__} .* shape \(3,\); give it to AdamW"):
        make([nn.Parameter(torch.zeros(3))])
    with pytest.raises(ValueError, match="expected one of newton-schulz, polar-express"):
        make([nn.Parameter(torch.zeros(3, 3))], orthogonalization="qr")
    with pytest.raises(TypeError, match="nesterov"):
        make([nn.Parameter(torch.zeros(3, 3))], nesterov=True)


def parameters_and_gradients(n_steps: int):
    rng = torch.Generator().manual_seed(0)
    shapes = [(3, 8, 8), (8, 8), (20, 8), (8, 20), (8, 8)]
    params = [nn.Parameter(torch.randn(*s, generator=rng)) for s in shapes]
    return params, [[torch.randn(*s, generator=rng) for s in shapes] for _ in range(n_steps)]


def run_steps(optimizer, params, grads, **how) -> None:
    for step_grads in grads:
        for p, g in zip(params, step_grads, strict=True):
            p.grad = g.clone()
        optimizer.step(**how)


def test_state_comes_back_from_a_checkpoint_bit_for_bit(tmp_path):
    params, grads = parameters_and_gradients(6)
    first = NorMuon(params, 0.1, cautious=True, weight_decay=0.1)
    run_steps(first, params, grads[:3])
    folder = write_checkpoint(tmp_path, 3, nn.ParameterList(params), [first])
    copies = [nn.Parameter(p.detach().clone()) for p in params]
    second = NorMuon(copies, 0.1, cautious=True, weight_decay=0.1)
    second.load_state_dict(read_run_checkpoint(folder).optimizers[0])
    saved = read_run_checkpoint(folder).optimizers[0]["state"]
    assert {tuple(state["second_moment"].shape) for state in saved.values()} == {
        (3, 8, 1), (8, 1), (20, 1),
    }  # fmt: skip
    run_steps(first, params, grads[3:])
    run_steps(second, copies, grads[3:])
    assert all(torch.equal(p, q) for p, q in zip(params, copies, strict=True))


def test_a_checkpoint_from_before_an_option_goes_on_with_its_default():
    params, grads = parameters_and_gradients(4)
    first = Muon(params, 0.1)
    run_steps(first, params, grads[:2])
    old = copy.deepcopy(first.state_dict())
    for name in ("orthogonalization", "cautious"):
        del old["param_groups"][0][name]
    copies = [nn.Parameter(p.detach().clone()) for p in params]
    second = Muon(copies, 0.3)
    second.load_state_dict(old)
    assert second.state_dict()["param_groups"] == first.state_dict()["param_groups"]
    run_steps(first, params, grads[2:])
    run_steps(second, copies, grads[2:])
    assert all(torch.equal(p, q) for p, q in zip(params, copies, strict=True))


@pytest.mark.parametrize("make", [Muon, NorMuon])
def test_warming_up_changes_neither_parameters_nor_state(make):
    params, grads = parameters_and_gradients(2)
    optimizer = make(params, 0.1, weight_decay=0.1)
    run_steps(optimizer, params, grads)
    before, state = [p.detach().clone() for p in params], copy.deepcopy(optimizer.state_dict())
    optimizer.warm_up()
    assert all(torch.equal(p, q) for p, q in zip(params, before, strict=True))
    for p, saved in zip(params, state["state"].values(), strict=True):
        assert all(torch.equal(optimizer.state[p][name], saved[name]) for name in saved)


def test_numbers_as_tensors_give_the_same_step():
    params, grads = parameters_and_gradients(1)
    stacks, updates = [p.detach()[None] for p in params[1:]], [g[None] for g in grads[0][1:]]
    options = {
        "cautious": True,
        "method": "polar-express",
        "symmetric_product": lambda x, c=None, alpha=1.0, beta=0.0: (
            alpha * x @ x.mT + (0 if c is None else beta * c)
        ),
    }
    plain = update_stacks(stacks, updates, [], lr=0.1, decay=0.02, **options)
    numbers = {"lr": torch.tensor(0.1), "decay": torch.tensor(0.02)}
    for p, q in zip(plain, update_stacks(stacks, updates, [], **numbers, **options), strict=True):
        torch.testing.assert_close(p, q)


@pytest.mark.parametrize("make", [Muon, NorMuon])
def test_the_dtype_of_its_products_is_that_of_orthogonalize(make):
    params, grads = parameters_and_gradients(1)
    steps = {}
    for dtype in (None, torch.float32, torch.bfloat16):
        p = nn.Parameter(params[1].detach().clone())
        p.grad = grads[0][1].clone()
        optimizer = make([p], 0.1, momentum=0.0, dtype=dtype)
        copy.deepcopy(optimizer).step()
        assert torch.equal(p, params[1])
        optimizer.step()
        steps[dtype] = p.detach() - params[1]
    assert torch.equal(steps[None], steps[torch.float32])
    assert not torch.equal(steps[None], steps[torch.bfloat16])
    torch.testing.assert_close(steps[torch.bfloat16], steps[None], atol=3e-3, rtol=0.05)


@pytest.mark.compiled
@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "kernels"),
    [
        (Muon, "none"),
        (NorMuon, "none"),
        pytest.param(NorMuon, "symmetric_product", marks=pytest.mark.interpreter),
    ],
)
@pytest.mark.usefixtures("without_code_generation")
def test_compiled_steps_agree_and_other_rates_compile_nothing(make, kernels):
    torch.compiler.reset()
    params, grads = parameters_and_gradients(6)
    copies = [nn.Parameter(p.detach().clone()) for p in params]
    options = {"cautious": True, "orthogonalization": "polar-express"}
    ops = load_ops(kernels, "cpu")
    eager, compiled = make(params, **options), make(copies, compiled=True, ops=ops, **options)
    compiled.warm_up()
    counters = torch._dynamo.utils.counters
    n_graphs = counters["stats"]["unique_graphs"]
    assert n_graphs > 0
    with torch._dynamo.config.patch(error_on_recompile=True):
        for step, step_grads in enumerate(grads):
            for optimizer, tensors in ((eager, params), (compiled, copies)):
                optimizer.param_groups[0] |= {
                    "lr": 0.1 / (step + 1),
                    "weight_decay": 0.3 - 0.05 * step,
                    "momentum": 0.85 + 0.02 * step,
                }
                run_steps(optimizer, tensors, [step_grads], applies=torch.tensor(True))
    assert counters["stats"]["unique_graphs"] == n_graphs
    for p, q in zip(params, copies, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)
