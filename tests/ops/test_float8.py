"""Products of float8: the arithmetic, its error, its gradients, and that a model learns by it."""

import pytest
import torch
from float8_cases import check_a_model_learns_by_it_as_without, check_it_is_one_graph, inputs
from torch.nn import functional as F

from fastlm.model.attention import MultiHeadSelfAttention
from fastlm.ops import load_ops, torch_ops, with_float8
from fastlm.ops.float8 import GRADIENTS, VALUES, float8_linear, rounded


def cast(t: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Rounded to float8 and back, in float64."""
    scale = t.abs().max().double() / torch.finfo(dtype).max
    return (t.double() / scale).to(dtype).double() * scale


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_it_is_the_product_of_what_was_rounded(dtype):
    x, weight, dy = inputs(dtype=dtype)
    y = float8_linear(x, weight)
    y.backward(dy)
    x8, w8, dy8 = cast(x.detach(), VALUES), cast(weight.detach(), VALUES), cast(dy, GRADIENTS)
    tolerance = (
        {"rtol": 2**-8, "atol": 2e-2} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-4}
    )
    for ours, truth in ((y, x8 @ w8.T), (x.grad, dy8 @ w8), (weight.grad, dy8.T @ x8)):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours.detach().double(), truth, **tolerance)


@pytest.mark.parametrize("size", [1e-20, 1.0, 1e20])
def test_its_error_is_a_few_percent_whatever_the_size(size):
    x, weight, dy = inputs(rows=256, d_in=128, d_out=256, size=size**0.5)
    y, exact = float8_linear(x, weight), F.linear(x.double(), weight.double())
    grads = torch.autograd.grad(y, (x, weight), dy)
    exact_grads = torch.autograd.grad(exact, (x, weight), dy.double())
    # e4m3 rounds by 2^-4 at most, 2.6 % in the mean square; e5m2 by 2^-3.
    for ours, truth, most in zip(
        (y, *grads), (exact, *exact_grads), (0.05, 0.08, 0.08), strict=True
    ):
        error = (ours.double() - truth.double()).norm() / truth.double().norm()
        assert 0.01 < error < most


def test_nothing_gives_nothing():
    x = torch.zeros(16, 32, requires_grad=True)
    y = float8_linear(x, torch.randn(16, 32))
    y.backward(torch.zeros_like(y))
    assert not y.any()
    assert not x.grad.any()


@pytest.mark.parametrize(("rows", "d_in", "d_out"), [(17, 32, 16), (16, 33, 16), (16, 32, 2)])
def test_sizes_the_hardware_does_not_take_are_multiplied_as_they_come(rows, d_in, d_out):
    x, weight, _ = inputs(rows, d_in, d_out)
    assert torch.equal(float8_linear(x, weight), F.linear(x, weight))


def test_gates_are_not_rounded():
    attention = MultiHeadSelfAttention(64, 4, has_gate=True, ops=with_float8(torch_ops))
    assert attention.gate is not None
    torch.nn.init.normal_(attention.gate.weight)
    x = torch.randn(2, 16, 64)
    projected = attention._projected(x, joins_gates=attention.joins_gates)
    assert projected.shape[-1] == 3 * 64  # without the gates, which have a product of their own


def test_half_as_much_is_kept():
    x, weight, _ = inputs()
    kept: dict[int, int] = {}

    def keep(t: torch.Tensor) -> torch.Tensor:
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        float8_linear(x, weight)
    assert sum(kept.values()) == x.numel() + weight.numel() + 8


def test_rounding_reaches_the_largest_number_of_the_format_and_not_beyond():
    for dtype in (VALUES, GRADIENTS):
        values, scale = rounded(torch.tensor([3.0, -7.0, 1e-30]), dtype)
        assert values.float().tolist()[1] == -torch.finfo(dtype).max
        assert scale.dtype == torch.float32
        assert values.float().isfinite().all()


def test_a_model_learns_by_it_as_without():
    """soak_compiled.py has the other feed-forward layers."""
    check_a_model_learns_by_it_as_without("relu2")


@pytest.mark.compiled
@pytest.mark.usefixtures("without_code_generation")
def test_it_is_part_of_one_graph():
    """soak_compiled.py runs the code that Inductor makes of it."""
    check_it_is_one_graph()


def test_a_machine_without_it_is_told():
    with pytest.raises(ValueError, match=r"--fp8 needs .* 8\.9 or newer: got cpu; leave it out"):
        load_ops("none", "cpu", fp8=True)
