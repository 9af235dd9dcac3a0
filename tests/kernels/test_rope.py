"""Rotary position embedding by kernels: its positions, and the memory that it reads."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import kernels.rope as module
from fastlm import functional
from kernels.qkv_norm_rope import qkv_norm_rope
from kernels.rope import rotate_pairs

pytestmark = pytest.mark.interpreter


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def table(positions, d_head):
    return functional.rope_table(positions, d_head)


@given(
    seq=st.integers(1, 20),
    half=st.integers(1, 20),
    heads=st.integers(1, 3),
    shift=st.integers(0, 9),
)
@settings(max_examples=15, deadline=None, derandomize=True)
def test_turning_keeps_lengths_and_products_depend_on_distance_alone(seq, half, heads, shift):
    q, k = randn(heads, seq, 2 * half), randn(heads, seq, 2 * half, seed=1)
    here = table(torch.arange(seq), 2 * half)
    there = table(torch.arange(seq) + shift, 2 * half)
    torch.testing.assert_close(rotate_pairs(q, *here).norm(dim=-1), q.norm(dim=-1))
    products = [rotate_pairs(q, *t) @ rotate_pairs(k, *t).mT for t in (here, there)]
    torch.testing.assert_close(*products, rtol=1e-4, atol=1e-4)


def test_position_zero_stays():
    x = randn(2, 1, 8)
    assert torch.equal(rotate_pairs(x, *table(torch.zeros(1).long(), 8)), x)


@pytest.mark.parametrize("shape", [(3, 1, 5), (5,), (3, 2, 5)])
def test_positions_may_differ_by_batch_and_head(shape):
    x = randn(3, 2, 5, 8).requires_grad_()
    cos, sin = table(torch.randint(0, 50, shape, generator=torch.Generator().manual_seed(0)), 8)
    found, truth = rotate_pairs(x, cos, sin), functional.rotate_pairs(x, cos, sin)
    torch.testing.assert_close(found, truth)
    weights = randn(3, 2, 5, 8, seed=2)
    torch.testing.assert_close(
        torch.autograd.grad(found, x, weights), torch.autograd.grad(truth, x, weights)
    )


def test_queries_of_a_joint_projection_are_read_where_they_lie(monkeypatch):
    given_to_kernel = []

    def launch(kernel, grid, x, *others, **options):
        given_to_kernel.append(x)
        return real(kernel, grid, x, *others, **options)

    real = module.launch
    monkeypatch.setattr(module, "launch", launch)
    projection = randn(2, 6, 3, 4, 8)  # batch, seq, which, head, d_head
    q, _, _ = projection.permute(2, 0, 3, 1, 4).unbind(0)
    rotate_pairs(q, *table(torch.arange(6), 8))
    assert [x.data_ptr() for x in given_to_kernel] == [q.data_ptr()]
    assert [x.stride() for x in given_to_kernel] == [q.stride()]


@pytest.mark.parametrize("shape", [(5,), (3, 5), (3, 1, 5), (1, 2, 5), (3, 2, 5)])
def test_positions_of_a_joint_projection_may_differ_by_batch_and_head(shape):
    qkv = randn(3, 5, 3 * 2 * 8 + 4).requires_grad_()
    positions = torch.randint(0, 50, shape, generator=torch.Generator().manual_seed(0))
    if len(shape) == 2:
        positions = positions[:, None]
    cos, sin = table(positions, 8)
    found = qkv_norm_rope(qkv, cos, sin, n_heads=2)
    truth = functional.qkv_norm_rope(qkv, cos, sin, n_heads=2)
    torch.testing.assert_close(found, truth)
    weights = [randn(*x.shape, seed=i) for i, x in enumerate(truth)]
    torch.testing.assert_close(
        torch.autograd.grad(found, qkv, weights), torch.autograd.grad(truth, qkv, weights)
    )


def test_tokens_of_a_joint_projection_more_than_two_billion_elements_apart():
    room = torch.empty(2 * (2**30 + 8) + 32)  # hardly any of it is ever touched
    qkv = room.as_strided((3, 28), (2**30 + 8, 1)).copy_(randn(3, 28)).requires_grad_()
    tables = table(torch.arange(3), 8)
    found = qkv_norm_rope(qkv, *tables, n_heads=1)
    truth = functional.qkv_norm_rope(qkv, *tables, n_heads=1)
    torch.testing.assert_close(found, truth)
    gradients = [torch.autograd.grad(x, qkv, [y + 1 for y in truth])[0] for x in (found, truth)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("shape", "strides"),
    [
        ((3, 1, 2, 8), (2**30 + 8, 64, 16, 1)),
        ((1, 3, 2, 8), (64, 2**30 + 8, 16, 1)),
        ((1, 1, 3, 8), (64, 16, 2**30 + 8, 1)),
    ],
    ids=["batches", "heads", "positions"],
)
def test_elements_more_than_two_billion_apart(shape, strides):
    """x, its gradient and the tables have them; the interpreter's int32 wraps as a GPU's."""
    # Hardly any of it is ever touched.
    room = torch.empty(1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)))
    x = room.as_strided(shape, strides).copy_(randn(*shape))
    cos, sin, dy = x[..., :4], x[..., 4:], x
    q = x.detach().requires_grad_()

    def with_gradient(turn):
        result = turn(q, cos, sin)
        return result, *torch.autograd.grad(result, q, dy)

    torch.testing.assert_close(with_gradient(rotate_pairs), with_gradient(functional.rotate_pairs))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rotate_pairs(randn(4, 7), randn(4, 3), randn(4, 3)), "d_head even: got \\(4, 7\\)"),
        (lambda: rotate_pairs(randn(4, 6), randn(3, 3), randn(3, 3)), r"cos and sin of \(\.\.\., 4, 3\)"),
        (lambda: rotate_pairs(randn(4, 6), randn(4, 3).requires_grad_(), randn(4, 3)), "no gradients to cos and sin"),
        (lambda: qkv_norm_rope(randn(4, 18), randn(4, 3), randn(4, 3), randn(5), randn(6), n_heads=1), r"got weight \(5,\)"),
        (lambda: qkv_norm_rope(randn(4, 18), randn(4, 3), randn(4, 3), randn(6), n_heads=1), "both weights or none"),
        (lambda: qkv_norm_rope(randn(4, 17), randn(4, 3), randn(4, 3), n_heads=1), r"18 columns or more\) for 1 heads of 6: got \(4, 17\)"),
        (lambda: qkv_norm_rope(randn(4, 18), randn(3, 3), randn(3, 3), n_heads=1), r"cos and sin of \(\.\.\., 4, 3\)"),
        (lambda: rotate_pairs(randn(2, 2000), randn(2, 1000), randn(2, 1000)), "at most 1,024 columns"),
    ],
)  # fmt: skip
def test_what_cannot_be_turned_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
