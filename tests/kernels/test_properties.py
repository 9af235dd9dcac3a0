"""Properties of the kernels that hold for every size and value, tried on random ones."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from kernels.cross_entropy import cross_entropy
from kernels.linear_cross_entropy import linear_cross_entropy
from kernels.relu2_ffn import relu2_ffn
from kernels.rms_norm import add_rms_norm, rms_norm
from kernels.softmax import softmax
from kernels.swiglu import silu_mul

pytestmark = pytest.mark.interpreter

rows, columns, seeds = st.integers(1, 6), st.integers(1, 300), st.integers(0, 2**31)
scales = st.sampled_from([1e-6, 1e-2, 1.0, 30.0, 1e4])
few = settings(max_examples=20, deadline=None, derandomize=True)


def randn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(rows, columns, seeds, scales)
@few
def test_softmax_is_a_distribution_that_a_shift_does_not_change(n, m, seed, scale):
    x = randn(n, m, seed=seed) * scale
    y = softmax(x, -1)
    assert (y >= 0).all()
    torch.testing.assert_close(y.sum(-1), torch.ones(n))
    shift = randn(n, 1, seed=seed + 1).round() * 1024  # exact for these sizes, mostly
    torch.testing.assert_close(softmax(x.double() + shift, -1), softmax(x.double(), -1))
    assert torch.equal(y.argmax(-1), x.argmax(-1)) or scale < 1e-2  # there all round to one value


@given(rows, columns, seeds, scales)
@few
def test_a_normed_row_has_mean_square_one_whatever_its_scale(n, m, seed, scale):
    x = randn(n, m, seed=seed).double() + 0.1
    y = rms_norm(x, None, 0.0)
    torch.testing.assert_close(y.square().mean(-1), torch.ones(n, dtype=torch.float64))
    torch.testing.assert_close(rms_norm(x * scale, None, 0.0), y)
    normed, total = add_rms_norm(x * scale, x, None, 0.0)
    assert torch.equal(total, x * scale + x)
    torch.testing.assert_close(normed, y)


@given(rows, columns, seeds)
@few
def test_the_gradient_of_rms_norm_is_orthogonal_to_its_input(n, m, seed):
    """A longer row has the same norm, so the loss does not change along it."""
    x = randn(n, m, seed=seed).double().requires_grad_()
    rms_norm(x, None, 0.0).backward(randn(n, m, seed=seed + 1).double())
    along = (x.grad * x.detach()).sum(-1)
    torch.testing.assert_close(along, torch.zeros_like(along), rtol=0, atol=1e-9)


@given(rows, columns, seeds, scales, st.sampled_from([0.0, 0.1]))
@few
def test_the_gradient_of_a_loss_sums_to_zero_and_lowers_the_target(n, m, seed, scale, smoothing):
    logits = (randn(n, m, seed=seed) * scale).double().requires_grad_()
    targets = torch.randint(0, m, (n,), generator=torch.Generator().manual_seed(seed))
    losses = cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
    assert (losses >= -1e-12).all()
    losses.sum().backward()
    zero = torch.zeros(n, dtype=torch.float64)
    # The smoothing's shares are float32 constants in the kernel: 0.1 + 0.9 is 1 + 1.5e-9.
    torch.testing.assert_close(logits.grad.sum(-1), zero, rtol=0, atol=1e-8)
    theirs = F.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(losses, theirs.detach())
    shifted = cross_entropy(logits + 5, targets, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(shifted, losses)


@given(rows, columns, seeds, st.booleans())
@few
def test_ignored_rows_count_as_if_they_were_not_there(n, m, seed, through_a_linear_layer):
    g = torch.Generator().manual_seed(seed)
    hidden, weight = randn(2 * n, 4, seed=seed), randn(m, 4, seed=seed + 1)
    targets = torch.randint(0, m, (2 * n,), generator=g)
    kept = torch.rand(2 * n, generator=g) < 0.5
    kept[0] = True
    masked = torch.where(kept, targets, -100)
    if through_a_linear_layer:
        found = linear_cross_entropy(hidden, weight, masked)
        other = linear_cross_entropy(hidden[kept], weight, targets[kept])
    else:
        found = cross_entropy(hidden @ weight.T, masked)
        other = cross_entropy((hidden @ weight.T)[kept], targets[kept])
    torch.testing.assert_close(found, other)


@given(rows, columns, seeds)
@few
def test_the_loss_of_a_linear_layer_is_that_of_its_logits(n, m, seed):
    hidden, weight = randn(n, 8, seed=seed), randn(m, 8, seed=seed + 1)
    targets = torch.randint(0, m, (n,), generator=torch.Generator().manual_seed(seed))
    options = {"reduction": "none", "return_lse": True, "z_loss": 1e-3, "softcap": 7.0}
    found = linear_cross_entropy(hidden, weight, targets, **options)
    torch.testing.assert_close(found, cross_entropy(hidden @ weight.T, targets, **options))


@given(rows, columns, seeds, scales)
@few
def test_elementwise_products_are_those_of_torch(n, m, seed, scale):
    gate, up = randn(n, m, seed=seed) * scale, randn(n, m, seed=seed + 1)
    torch.testing.assert_close(silu_mul(gate, up), F.silu(gate) * up)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: silu_mul(x, x),
        lambda x: softmax(x, -1),
        lambda x: relu2_ffn(x, torch.eye(3), torch.eye(3)),
    ],
)
def test_what_is_no_number_stays_so(function):
    x = torch.tensor([[1.0, float("nan"), 2.0]])
    assert function(x).isnan()[0, 1]
