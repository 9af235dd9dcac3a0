"""The textbook functions against PyTorch's own, hand arithmetic and finite differences."""

import math

import pytest
import torch
from torch.nn import functional as F

from fastlm import functional
from fastlm.ops import load_ops, reference_ops, torch_ops

SHAPES = [(1, 1), (7, 123), (2, 3, 257), (3, 1, 5, 64)]


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_softmax_equals_torch_on_every_dim(shape, scale):
    x = randn(*shape) * scale
    for dim in range(-1, len(shape) - 1):
        torch.testing.assert_close(functional.softmax(x, dim), F.softmax(x, dim))


def test_softmax_of_huge_values_stays_finite():
    x = torch.tensor([1e30, 1e30, -1e30])
    torch.testing.assert_close(functional.softmax(x, 0), torch.tensor([0.5, 0.5, 0.0]))


def test_softmax_of_bf16_is_rounded_once():
    x = randn(5, 1000).bfloat16()
    expected = F.softmax(x.float(), -1).bfloat16()
    assert torch.equal(functional.softmax(x, -1), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_rms_norm_equals_torch(shape):
    x, weight = randn(*shape), randn(shape[-1], seed=1)
    expected = F.rms_norm(x, weight.shape, weight, 1e-5)
    torch.testing.assert_close(functional.rms_norm(x, weight, 1e-5), expected)


def test_rms_norm_adds_eps_to_the_mean_square():
    x = torch.tensor([3.0, 4.0])  # mean square 12.5
    expected = x / math.sqrt(12.5 + 3.5)
    torch.testing.assert_close(functional.rms_norm(x, torch.ones(2), 3.5), expected)


def test_rms_norm_refuses_a_weight_of_another_width():
    with pytest.raises(ValueError, match=r"weight \(3,\) for x \(2, 4\)"):
        functional.rms_norm(torch.zeros(2, 4), torch.ones(3))


def test_silu_equals_torch():
    x = torch.linspace(-30, 30, 1001)
    torch.testing.assert_close(functional.silu(x), F.silu(x))


def test_swiglu_equals_its_formula_in_float64():
    x, w1, w2, w3 = (
        randn(*s, seed=i, dtype=torch.float64)
        for i, s in enumerate([(3, 5, 8), (11, 8), (8, 11), (11, 8)])
    )
    gate = x @ w1.T
    expected = (gate / (1 + torch.exp(-gate)) * (x @ w3.T)) @ w2.T
    torch.testing.assert_close(functional.swiglu(x, w1, w2, w3), expected)


def test_rope_turns_the_pairs_of_complex_numbers():
    """Pair k at position p is multiplied with exp(i p theta^(-2k/d))."""
    x = randn(2, 3, 9, 16)
    positions = torch.tensor([0, 1, 2, 3, 5, 8, 13, 100, 4097])
    rates = 10_000.0 ** (-torch.arange(0, 16, 2, dtype=torch.float64) / 16)
    turns = torch.polar(torch.ones(9, 8, dtype=torch.float64), positions[:, None] * rates)
    as_complex = torch.view_as_complex(x.double().unflatten(-1, (8, 2)))
    expected = torch.view_as_real(as_complex * turns).flatten(-2).float()
    torch.testing.assert_close(
        functional.rope(x, positions, 10_000.0), expected, atol=1e-6, rtol=1e-5
    )


def test_rope_scores_depend_on_distance_only():
    q, k = randn(1, 32), randn(1, 32, seed=1)
    scores = [
        (functional.rope(q, torch.tensor([p])) * functional.rope(k, torch.tensor([p + 7]))).sum()
        for p in (0, 5, 1000)
    ]
    torch.testing.assert_close(torch.stack(scores), scores[0].expand(3), atol=1e-4, rtol=1e-4)


def test_rope_refuses_an_odd_width():
    with pytest.raises(ValueError, match="got 7"):
        functional.rope(torch.zeros(2, 7), torch.arange(2))


@pytest.mark.parametrize("table", [reference_ops, torch_ops], ids=["reference", "torch"])
@pytest.mark.parametrize(("n_queries", "n_keys"), [(1, 1), (7, 7), (1, 9), (4, 9), (33, 33)])
def test_attention_equals_its_formula(table, n_queries, n_keys):
    q, k, v = (
        randn(2, 3, n_queries, 16),
        randn(2, 3, n_keys, 16, seed=1),
        randn(2, 3, n_keys, 16, seed=2),
    )
    allowed = torch.ones(n_queries, n_keys, dtype=torch.bool).tril(n_keys - n_queries)
    scores = (q.double() @ k.double().mT / 4).masked_fill(~allowed, -math.inf)
    expected = (scores.softmax(-1) @ v.double()).float()
    torch.testing.assert_close(
        table.attention(q, k, v, is_causal=True), expected, atol=1e-5, rtol=1e-5
    )
    torch.testing.assert_close(table.attention(q, k, v, allowed), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("table", [reference_ops, torch_ops], ids=["reference", "torch"])
def test_attention_joins_a_mask_with_causality(table):
    q, k, v = (randn(2, 5, 8, seed=i) for i in range(3))
    mask = torch.rand(5, 5, generator=torch.Generator().manual_seed(3)) < 0.5
    mask |= torch.eye(5, dtype=torch.bool)
    expected = functional.attention(q, k, v, mask.tril())
    torch.testing.assert_close(table.attention(q, k, v, mask, is_causal=True), expected)


def test_cross_entropy_of_two_tokens_by_hand():
    logits = torch.tensor([[0.0, math.log(3.0)], [math.log(4.0), 0.0]])
    # Probabilities of the targets: 3/4 and 1/5.
    expected = (math.log(4 / 3) + math.log(5.0)) / 2
    assert functional.cross_entropy(logits, torch.tensor([1, 1])).item() == pytest.approx(
        expected, abs=1e-6
    )


@pytest.mark.parametrize("table", [reference_ops, torch_ops], ids=["reference", "torch"])
def test_linear_cross_entropy_and_its_gradients_equal_torch(table):
    hidden = randn(2, 7, 12).requires_grad_()
    weight = randn(31, 12, seed=1).requires_grad_()
    targets = torch.randint(0, 31, (2, 7), generator=torch.Generator().manual_seed(2))
    targets[0, :3] = -100
    loss = table.linear_cross_entropy(hidden, weight, targets)
    expected = F.cross_entropy(
        (hidden @ weight.T).flatten(0, 1), targets.flatten(), ignore_index=-100
    )
    torch.testing.assert_close(loss, expected)
    grads = torch.autograd.grad(loss, (hidden, weight))
    torch.testing.assert_close(grads, torch.autograd.grad(expected, (hidden, weight)))
    assert grads[0][0, :3].abs().max() == 0


@pytest.mark.parametrize("table", [reference_ops, torch_ops], ids=["reference", "torch"])
def test_cross_entropy_of_ignored_targets_only_is_zero(table):
    hidden = randn(3, 4).requires_grad_()
    loss = table.linear_cross_entropy(hidden, randn(5, 4), torch.full((3,), -100))
    loss.backward()
    assert loss.item() == 0
    assert hidden.grad.abs().max() == 0


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_cross_entropy_equals_torch(reduction, label_smoothing):
    logits, targets = randn(3, 5, 11), torch.randint(0, 11, (3, 5))
    targets[1, 2] = -100
    options = {"reduction": reduction, "label_smoothing": label_smoothing}
    loss = functional.cross_entropy(logits, targets, **options)
    expected = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), **options)
    torch.testing.assert_close(loss.flatten(), expected.flatten())


def test_cross_entropy_with_z_loss_and_softcap_by_hand():
    logits, targets = randn(4, 7) * 30, torch.tensor([0, 6, -100, 3])
    losses, lse = functional.cross_entropy(
        logits, targets, reduction="none", z_loss=0.5, softcap=15.0, return_lse=True
    )
    for row, target, loss, one_lse in zip(logits, targets, losses, lse, strict=True):
        z = [15.0 * math.tanh(x / 15.0) for x in row.tolist()]
        expected_lse = math.log(sum(map(math.exp, z)))
        assert one_lse.item() == pytest.approx(expected_lse, rel=1e-5)
        expected = 0 if target == -100 else expected_lse - z[target] + 0.5 * expected_lse**2
        assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_cross_entropy_refuses_an_unknown_reduction():
    with pytest.raises(ValueError, match='must be "mean", "sum" or "none": got \'avg\''):
        functional.cross_entropy(randn(2, 3), torch.tensor([0, 1]), reduction="avg")


def test_rms_norm_without_a_weight_has_a_weight_of_one():
    x = randn(3, 8)
    assert torch.equal(functional.rms_norm(x, None), functional.rms_norm(x, torch.ones(8)))


def test_add_rms_norm_gives_the_sum_and_its_norm():
    x, residual, weight = randn(3, 8), randn(3, 8, seed=1), randn(8, seed=2)
    normed, total = functional.add_rms_norm(x, residual, weight)
    assert torch.equal(total, x + residual)
    assert torch.equal(normed, functional.rms_norm(x + residual, weight))


def test_cross_entropy_of_huge_logits_is_finite():
    logits = torch.tensor([[1e4, 0.0], [0.0, 1e4]])
    assert functional.cross_entropy(logits, torch.tensor([0, 0])).item() == pytest.approx(5e3)


def test_gradients_of_the_truth_equal_finite_differences():
    def network(x, w1, w2, w3, gain):
        y = functional.rms_norm(x, gain, 1e-5)
        y = functional.rope(functional.swiglu(y, w1, w2, w3), torch.arange(5))
        y = functional.attention(y, y, y, is_causal=True)
        return functional.linear_cross_entropy(y, w1, torch.tensor([0, 1, -100, 2, 3]))

    shapes = [(5, 6), (9, 6), (6, 9), (9, 6), (6,)]
    inputs = [randn(*s, seed=i, dtype=torch.float64).requires_grad_() for i, s in enumerate(shapes)]
    # RoPE's table is float32, so its angles differ from float64's but not between evaluations.
    assert torch.autograd.gradcheck(network, inputs, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_torch_ops_equal_the_truth(dtype):
    x = randn(2, 9, 32).to(dtype)
    w1, w2, w3 = (
        randn(*s, seed=i).to(dtype) * 0.2 for i, s in enumerate([(48, 32), (32, 48), (48, 32)])
    )
    gain = randn(32, seed=5)
    cos, sin = functional.rope_table(torch.arange(9), 32)
    pairs = [
        (torch_ops.linear(x, w1), reference_ops.linear(x, w1)),
        (
            torch_ops.embedding(torch.tensor([[1, 3]]), w1),
            reference_ops.embedding(torch.tensor([[1, 3]]), w1),
        ),
        (torch_ops.rms_norm(x, gain, 1e-5), reference_ops.rms_norm(x, gain, 1e-5)),
        (torch_ops.rotate_pairs(x, cos, sin), reference_ops.rotate_pairs(x, cos, sin)),
        (torch_ops.swiglu(x, w1, w2, w3), reference_ops.swiglu(x, w1, w2, w3)),
        (torch_ops.silu_ffn(x, w1, w2), reference_ops.silu_ffn(x, w1, w2)),
    ]
    # In bf16 two ways of rounding the products between may differ by a few units of 2^-8.
    tolerance = (
        {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 3e-2, "rtol": 2e-2}
    )
    for fast, truth in pairs:
        assert fast.dtype == truth.dtype == dtype
        torch.testing.assert_close(fast, truth, **tolerance)


def test_load_ops_names_what_it_does_not_know():
    assert load_ops("none") is torch_ops
    pytest.importorskip("triton")
    with pytest.raises(ValueError, match="--triton-ops rms_nrom: 'rms_nrom' is no Triton op"):
        load_ops("rms_nrom")
