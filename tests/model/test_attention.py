"""Attention in tiles, as a Triton kernel and in plain PyTorch: properties of attention alone."""

import pytest
import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st

from fastlm import functional
from fastlm.config import ModelConfig
from fastlm.model import TransformerLM
from fastlm.ops import load_ops
from fastlm.ops.tiled_attention import tiled_attention
from kernels import attention as kernels
from kernels.attention import attention, attention_with_lse, shape_of

CAUSAL = pytest.mark.parametrize("is_causal", [False, True], ids=["full", "causal"])


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def qkv(*batch: int, n_queries: int, n_keys: int, d_head: int, dtype=torch.float32):
    return tuple(
        randn(*batch, n, d_head, seed=i, dtype=dtype)
        for i, n in enumerate((n_queries, n_keys, n_keys))
    )


def with_gradients(function, inputs, **options) -> list[torch.Tensor]:
    """The result, and the gradients of all inputs for one random gradient of the result."""
    inputs = [x.detach().requires_grad_() for x in inputs]
    out = function(*inputs, **options)
    dout = randn(*out.shape, seed=9, dtype=out.dtype)
    return [out.detach(), *torch.autograd.grad(out, inputs, dout)]


def assert_equal_up_to(found, truth, tolerance: float) -> None:
    for ours, true in zip(found, truth, strict=True):
        torch.testing.assert_close(ours, true, rtol=tolerance, atol=tolerance, check_dtype=False)


def scores(q: torch.Tensor, k: torch.Tensor, *, is_causal: bool) -> torch.Tensor:
    s = q.double() @ k.double().mT / q.shape[-1] ** 0.5
    n_queries, n_keys = s.shape[-2:]
    seen = torch.ones(n_queries, n_keys, dtype=torch.bool).tril(n_keys - n_queries)
    return s.masked_fill(~seen, -torch.inf) if is_causal else s


class TestTiledAttention:
    @CAUSAL
    @pytest.mark.parametrize("block_size", [1, 4, 7, 64])
    @pytest.mark.parametrize(("n_queries", "n_keys"), [(1, 1), (1, 9), (8, 8), (5, 13)])
    def test_values_and_gradients_equal_the_truth(self, n_queries, n_keys, block_size, is_causal):
        q, k, _ = qkv(2, 3, n_queries=n_queries, n_keys=n_keys, d_head=6, dtype=torch.float64)
        v = randn(2, 3, n_keys, 5, seed=2, dtype=torch.float64)  # of another width
        found = with_gradients(
            tiled_attention, (q, k, v), is_causal=is_causal, block_size=block_size
        )
        truth = with_gradients(functional.attention, (q, k, v), is_causal=is_causal)
        assert_equal_up_to(found, truth, 1e-13)

    def test_its_gradients_are_finite_differences(self):
        inputs = qkv(2, n_queries=3, n_keys=5, d_head=2, dtype=torch.float64)
        inputs = [x.requires_grad_() for x in inputs]
        assert torch.autograd.gradcheck(
            lambda *x: tiled_attention(*x, is_causal=True, block_size=2), inputs
        )

    def test_bfloat16_is_rounded_once(self):
        inputs = qkv(2, n_queries=9, n_keys=9, d_head=4, dtype=torch.bfloat16)
        found = tiled_attention(*inputs, is_causal=True, block_size=4)
        truth = functional.attention(*(x.double() for x in inputs), is_causal=True)
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.double(), truth, rtol=2**-8, atol=1e-6)

    def test_no_tile_above_the_diagonal_is_computed(self, monkeypatch):
        sizes = []
        real = torch.exp

        def exp(x):
            sizes.append(x.numel())
            return real(x)

        monkeypatch.setattr(torch, "exp", exp)
        tiled_attention(*qkv(n_queries=32, n_keys=32, d_head=4), is_causal=True, block_size=8)
        assert sum(n == 64 for n in sizes) == 4 + 3 + 2 + 1


@pytest.mark.interpreter
class TestKernel:
    @CAUSAL
    @pytest.mark.parametrize(("n_queries", "n_keys"), [(45, 70), (32, 33), (33, 64)])
    def test_it_equals_its_plain_twin(self, n_queries, n_keys, is_causal):
        inputs = qkv(1, 2, n_queries=n_queries, n_keys=n_keys, d_head=24)
        found = with_gradients(attention, inputs, is_causal=is_causal)
        twin = with_gradients(tiled_attention, inputs, is_causal=is_causal, block_size=32)
        assert_equal_up_to(found, twin, 3e-6)

    @CAUSAL
    def test_lse_and_its_gradient_equal_torch(self, is_causal):
        q, k, v = qkv(2, 2, n_queries=6, n_keys=40, d_head=8)
        q, k = q.requires_grad_(), k.requires_grad_()
        out, lse = attention_with_lse(q, k, v, is_causal=is_causal)
        truth = scores(q, k, is_causal=is_causal).logsumexp(-1)
        assert lse.dtype == torch.float32
        torch.testing.assert_close(lse.double(), truth, rtol=1e-6, atol=1e-6)
        weights, dout = randn(*lse.shape, seed=5), randn(*out.shape, seed=6)
        found = torch.autograd.grad(lse, (q, k), weights, retain_graph=True)
        assert_equal_up_to(found, torch.autograd.grad(truth, (q, k), weights.double()), 3e-6)
        both = torch.autograd.grad((out, lse), (q, k), (dout, weights), retain_graph=True)
        alone = torch.autograd.grad(out, (q, k), dout)
        assert_equal_up_to(both, [a + b for a, b in zip(found, alone, strict=True)], 3e-6)

    def test_parts_of_the_keys_are_joined_by_their_lse(self):
        q, k, v = qkv(2, n_queries=5, n_keys=30, d_head=8)
        parts = [
            attention_with_lse(q, k[:, part], v[:, part]) for part in (slice(11), slice(11, 30))
        ]
        weights = torch.stack([lse for _, lse in parts]).softmax(0)[..., None]
        joined = sum(w * out for w, (out, _) in zip(weights, parts, strict=True))
        torch.testing.assert_close(joined, functional.attention(q, k, v), rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("n_changed", [1, 29, 69])
    def test_later_keys_and_values_change_no_bit_of_earlier_rows(self, n_changed):
        q, k, v = qkv(1, n_queries=70, n_keys=70, d_head=16)
        before = attention(q, k, v, is_causal=True)
        k[:, -n_changed:], v[:, -n_changed:] = 30.0, -1e30
        after = attention(q, k, v, is_causal=True)
        assert torch.equal(after[:, :-n_changed], before[:, :-n_changed])
        assert after[:, -n_changed:].ne(before[:, -n_changed:]).any(-1).all()

    def test_earlier_queries_give_no_bit_to_later_keys(self):
        q, k, v = (x.requires_grad_() for x in qkv(1, n_queries=70, n_keys=70, d_head=16))
        out = attention(q, k, v, is_causal=True)
        dout = torch.zeros_like(out)
        dout[:, :29] = 1.0
        dq, dk, dv = torch.autograd.grad(out, (q, k, v), dout)
        assert dk[:, 29:].eq(0).all()
        assert dv[:, 29:].eq(0).all()
        assert dq[:, 29:].eq(0).all()
        assert dv[:, :29].ne(0).any(-1).all()

    def test_the_order_of_the_keys_does_not_matter(self):
        q, k, v = qkv(1, 2, n_queries=3, n_keys=83, d_head=32)
        order = torch.randperm(83, generator=torch.Generator().manual_seed(3))
        torch.testing.assert_close(
            attention(q, k[..., order, :], v[..., order, :]), attention(q, k, v)
        )

    @CAUSAL
    def test_huge_scores_stay_finite_and_right(self, is_causal):
        q, k, v = qkv(1, n_queries=40, n_keys=70, d_head=16)
        inputs = (1e4 * q, k, v)
        found = with_gradients(attention, inputs, is_causal=is_causal)
        truth = with_gradients(
            functional.attention, [x.double() for x in inputs], is_causal=is_causal
        )
        assert scores(*inputs[:2], is_causal=False).abs().max() > 1e4
        # Where two scores of 10,000 are close, their float32 rounding, 1e-3, is what differs.
        assert_equal_up_to(found, truth, 3e-2)
        assert all(x.isfinite().all() for x in found)

    @CAUSAL
    def test_equal_scores_give_the_mean_of_the_values(self, is_causal):
        _, k, v = qkv(1, n_queries=1, n_keys=70, d_head=16)
        out = attention(torch.zeros(1, 70, 16), k, v, is_causal=is_causal)
        means = v.cumsum(1) / torch.arange(1, 71)[:, None]
        torch.testing.assert_close(
            out, means if is_causal else v.mean(1, keepdim=True).expand(out.shape)
        )

    @CAUSAL
    def test_two_runs_give_the_same_bits(self, is_causal):
        inputs = qkv(2, 2, n_queries=33, n_keys=65, d_head=16, dtype=torch.bfloat16)
        first, second = (with_gradients(attention, inputs, is_causal=is_causal) for _ in range(2))
        assert all(map(torch.equal, first, second))

    @settings(max_examples=12, deadline=None, derandomize=True)
    @given(
        n_queries=st.integers(1, 70),
        n_earlier=st.integers(0, 40),
        d_head=st.integers(1, 40),
        batch=st.sampled_from([(), (2,), (1, 2), (1, 2, 1)]),
        is_causal=st.booleans(),
    )
    def test_any_lengths_and_widths_equal_the_truth(
        self, n_queries, n_earlier, d_head, batch, is_causal
    ):
        n_keys = n_queries + n_earlier
        inputs = qkv(*batch, n_queries=n_queries, n_keys=n_keys, d_head=d_head)
        found = with_gradients(attention, inputs, is_causal=is_causal)
        truth = with_gradients(
            functional.attention, [x.double() for x in inputs], is_causal=is_causal
        )
        assert_equal_up_to(found, truth, 1e-5)

    def test_more_queries_than_keys_may_all_attend(self):
        inputs = qkv(1, n_queries=70, n_keys=3, d_head=4)
        truth = with_gradients(functional.attention, [x.double() for x in inputs])
        assert_equal_up_to(with_gradients(attention, inputs), truth, 1e-5)

    def test_no_queries_give_keys_gradients_of_zero(self):
        out, dq, dk, dv = with_gradients(attention, qkv(2, n_queries=0, n_keys=5, d_head=4))
        assert (out.shape, dq.shape) == ((2, 0, 4), (2, 0, 4))
        assert torch.equal(dk, torch.zeros(2, 5, 4))
        assert torch.equal(dv, torch.zeros(2, 5, 4))


@pytest.mark.interpreter
class TestMemory:
    """Inputs are read where they lie in memory, and results have the expected layout."""

    @pytest.fixture
    def pointers(self, monkeypatch):
        """Addresses of all tensors that kernels were given, by the kernel's name."""
        seen: dict[str, list[int]] = {}
        real = kernels.launch

        def launch(kernel, grid, *arguments, **options):
            tensors = (a for a in arguments if isinstance(a, torch.Tensor))
            seen[kernel.fn.__name__] = [t.data_ptr() for t in tensors]
            real(kernel, grid, *arguments, **options)

        monkeypatch.setattr(kernels, "launch", launch)
        return seen

    def test_views_of_a_joint_projection_are_not_copied(self, pointers):
        joint = randn(2, 9, 3 * 4 * 16).requires_grad_()
        q, k, v = rearrange(joint, "b t (three h d) -> three b h t d", three=3, h=4).unbind(0)
        addresses = [x.data_ptr() for x in (q, k, v)]
        out = attention(q, k, v, is_causal=True)
        dout = torch.ones(()).expand(2, 9, 64)
        joined = rearrange(out, "b h t d -> b t (h d)")
        assert joined.data_ptr() == out.data_ptr()
        (found,) = torch.autograd.grad(joined, joint, dout)
        assert pointers["_forward"][:3] == addresses
        assert pointers["_backward_queries"][2:5] == addresses
        assert pointers["_backward_keys"][1:4] == addresses
        truth = functional.attention(q, k, v, is_causal=True)
        (expected,) = torch.autograd.grad(rearrange(truth, "b h t d -> b t (h d)"), joint, dout)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)

    def test_more_batch_dimensions_are_joined_without_a_copy(self, pointers):
        q, k, v = (x.transpose(-2, -3) for x in (randn(2, 3, 5, 2, 8, seed=i) for i in range(3)))
        out = attention(q, k, v)
        assert pointers["_forward"][:4] == [x.data_ptr() for x in (q, k, v, out)]
        torch.testing.assert_close(out, functional.attention(q, k, v))

    @pytest.mark.parametrize("shape", [(7, 8), (3, 7, 8), (2, 3, 7, 8), (2, 1, 3, 7, 8)])
    def test_joining_the_heads_of_results_and_gradients_copies_nothing(self, shape):
        out, *gradients = with_gradients(attention, [randn(*shape, seed=i) for i in range(3)])
        for x in (out, *gradients):
            joined = x if x.ndim < 3 else x.transpose(-2, -3).flatten(-2)  # a view, or a copy
            assert joined.is_contiguous()
            assert joined.data_ptr() == x.data_ptr()

    @pytest.mark.parametrize(
        ("shape", "strides"),
        [
            ((3, 1, 2, 8), (2**30 + 8, 64, 16, 1)),
            ((1, 3, 2, 8), (64, 2**30 + 8, 16, 1)),
            ((1, 1, 3, 8), (64, 16, 2**30 + 8, 1)),
            ((1, 1, 35, 8), (64, 16, 2**26 + 8, 1)),  # the second block of rows
        ],
        ids=["batches", "heads", "rows", "blocks"],
    )
    def test_elements_more_than_two_billion_apart(self, shape, strides):
        """The interpreter's int32 wraps as a GPU's: an index times such a stride must be int64."""
        # Hardly any of it is ever touched.
        room = torch.empty(1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)))
        x = room.as_strided(shape, strides)
        x.copy_(randn(*shape))
        found = with_gradients(attention, (x, x, x), is_causal=True)
        truth = with_gradients(functional.attention, (x, x, x), is_causal=True)
        assert_equal_up_to(found, truth, 1e-6)


@pytest.mark.interpreter
@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        ([(2, 3)] * 3, {"mask": torch.ones(2, 2, dtype=torch.bool)}, r"no mask but is_causal: got one of \(2, 2\); use --triton-ops none"),
        ([(4, 3), (5, 3), (6, 3)], {}, r"got q \(4, 3\), k \(5, 3\) and v \(6, 3\); expand"),
        ([(4, 3), (5, 3), (5, 2)], {}, r"and v \(5, 2\).*--triton-ops none"),
        ([(4, 3), (5, 2), (5, 2)], {}, "alike but for the rows"),
        ([(2, 4, 3), (5, 3), (5, 3)], {}, "alike but for the rows"),
        ([(3,)] * 3, {}, r"needs q \(..., n_queries, d_head\)"),
        ([(4, 129)] * 3, {}, "at most 128 columns: got 129; use --triton-ops none"),
        ([(4, 3), (0, 3), (0, 3)], {}, "at least one key"),
        ([(4, 0)] * 3, {}, "one column"),
        ([(5, 3), (3, 3), (3, 3)], {"is_causal": True}, "got n_queries=5, n_keys=3; drop the first 2"),
    ],
)  # fmt: skip
def test_what_the_kernel_cannot_do_is_refused_with_a_remedy(shapes, options, message):
    with pytest.raises(ValueError, match=message):
        attention(*(torch.zeros(shape) for shape in shapes), **options)


@pytest.mark.interpreter
def test_other_dtypes_and_devices_are_refused_with_a_remedy():
    x = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"one dtype: got torch.float32, torch.float16.*convert"):
        attention(x, x.half(), x)
    with pytest.raises(ValueError, match="attention takes float32.*got torch.int64"):
        attention(x.long(), x.long(), x.long())
    with pytest.raises(ValueError, match="needs tensors on cpu: got meta"):
        attention(x, x.to("meta"), x)


@pytest.mark.parametrize("itemsize", [2, 4, 8])
@pytest.mark.parametrize("architecture", [80, 90, 100])
def test_every_width_has_blocks_that_triton_takes(itemsize, architecture):
    for kernel in ("forward", "queries", "keys"):
        for d_head in range(1, kernels.MAX_D_HEAD + 1):
            kept, streamed, n_warps, n_stages = shape_of(
                kernel, d_head, itemsize, architecture=architecture
            )
            assert all(n >= 16 and n & (n - 1) == 0 for n in (kept, streamed))
            assert n_warps in (4, 8)
            # Two tiles kept and two a stage at most, of 163 KB of shared memory.
            width = max(d_head, 16)
            assert itemsize * width * (2 * kept + 2 * n_stages * streamed) <= 163 * 1024


@pytest.mark.interpreter
def test_a_model_trains_through_it_as_through_the_reference():
    losses = {}
    for name in ("none", "attention"):
        torch.manual_seed(0)
        config = ModelConfig(vocab_size=64, context_length=8, d_model=16, n_layers=1, n_heads=2)
        model = TransformerLM(config, ops=load_ops(name, "cpu"))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        ids = torch.randint(0, 64, (1, 9), generator=torch.Generator().manual_seed(0))
        losses[name] = []
        for _ in range(4):
            loss = model.loss(ids[:, :-1], ids[:, 1:])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[name].append(loss.item())
    assert losses["none"][-1] < losses["none"][0] - 0.2
    assert losses["attention"] == pytest.approx(losses["none"], rel=1e-5)
