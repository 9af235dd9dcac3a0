"""The running mean of weights against a mean of all of them at once."""

import copy
import json

import pytest
import torch
from torch import nn

from fastlm.checkpoint import pack, unpack
from fastlm.optim.averaging import WeightAverage


def parameters(dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    return [nn.Parameter(torch.zeros(shape, dtype=dtype)) for shape in ((7, 5), (3,), (1,), (0, 4))]


def wander(params: list[nn.Parameter], n_steps: int, average: WeightAverage, seed: int = 0):
    """Random values of the parameters, each counted; returns them all."""
    rng = torch.Generator().manual_seed(seed)
    seen = []
    for _ in range(n_steps):
        with torch.no_grad():
            for p in params:
                p.copy_(5 + torch.randn(p.shape, generator=rng))
        average.update()
        seen.append([p.detach().double().clone() for p in params])
    return seen


@pytest.mark.parametrize("n_steps", [1, 2, 7, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_mean_equals_that_of_all_weights_at_once(dtype, n_steps):
    params = parameters(dtype)
    average = WeightAverage(params)
    seen = wander(params, n_steps, average)
    assert average.n_averaged == n_steps
    for i, mean in enumerate(average.means):
        assert mean.dtype == torch.float32
        expected = torch.stack([weights[i] for weights in seen]).mean(0)
        torch.testing.assert_close(mean.double(), expected, rtol=3e-6, atol=0)


def test_swapping_gives_the_mean_and_twice_the_same_bits():
    params = parameters()
    average = WeightAverage(params)
    wander(params, 5, average)
    last, means = [p.detach().clone() for p in params], [m.clone() for m in average.means]
    average.swap()
    assert all(torch.equal(p, m) for p, m in zip(params, means, strict=True))
    average.swap()
    assert all(torch.equal(p, q) for p, q in zip(params, last, strict=True))
    assert all(torch.equal(m, n) for m, n in zip(average.means, means, strict=True))


def test_restarting_forgets_what_was_counted():
    params = parameters()
    average = WeightAverage(params)
    wander(params, 5, average)
    average.restart()
    seen = wander(params, 1, average, seed=1)
    assert average.n_averaged == 1
    assert all(torch.equal(m.double(), w) for m, w in zip(average.means, seen[0], strict=True))


@pytest.mark.parametrize("n_steps", [0, 4])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_saved_average_goes_on_as_if_never_stopped(n_steps, swapped):
    """Also from the end of a run, where the parameters saved are the mean."""
    params = parameters()
    average = WeightAverage(params)
    wander(params, n_steps, average)
    if swapped and n_steps == 0:
        average.update()  # as a run does whose tail is shorter than a step
    last = [p.detach().clone() for p in params]
    if swapped:
        average.swap()
    tensors: dict[str, torch.Tensor] = {}
    packed = json.loads(json.dumps(pack(average.state_dict(), tensors)))
    assert len(tensors) == (len(params) if average.n_averaged else 0)
    copies = copy.deepcopy(params)
    other = WeightAverage(copies)
    other.load_state_dict(unpack(packed, tensors))
    assert all(torch.equal(p, q) for p, q in zip(copies, last, strict=True))
    if swapped:
        average.swap()
    wander(params, 3, average, seed=1)
    wander(copies, 3, other, seed=1)
    assert other.n_averaged == average.n_averaged
    assert all(torch.equal(m, n) for m, n in zip(average.means, other.means, strict=True))
