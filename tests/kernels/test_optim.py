"""AdamW in one launch and half of a symmetric product, beyond what test_kernels.py checks."""

import copy
from itertools import chain

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fastlm import functional
from fastlm.config import ModelConfig, OptimConfig
from fastlm.model import TransformerLM
from fastlm.ops import reference_ops, torch_ops
from fastlm.optim import AdamW, Muon, build_optimizers
from fastlm.optim.muon import orthogonalize
from kernels import adamw as adamw_module
from kernels.adamw import CHUNK, adamw
from kernels.symmetric_product import symmetric_product

OPTIONS = {"lr": 0.01, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1, "step": 3}
TRITON_OPS = torch_ops._replace(adamw=adamw, symmetric_product=symmetric_product)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def state(shapes, dtype=torch.float32, seed: int = 0) -> list[list[torch.Tensor]]:
    """Parameters, gradients and both averages of these shapes."""
    g = generator(seed)
    lists = [[torch.randn(s, generator=g).to(dtype) for s in shapes] for _ in range(4)]
    lists[3] = [t.square() for t in lists[3]]
    return lists


def assert_lists_close(found, truth, **tolerance) -> None:
    for ours, true in zip(chain(*found), chain(*truth), strict=True):
        torch.testing.assert_close(ours, true, **tolerance)


@pytest.fixture
def launches(monkeypatch) -> list[tuple]:
    """The arguments of each launch of AdamW's kernel, which happens as usual."""
    seen = []
    launch = adamw_module.launch

    def recording(*arguments, **options):
        seen.append((arguments, options))
        launch(*arguments, **options)

    monkeypatch.setattr(adamw_module, "launch", recording)
    return seen


def relative_difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.interpreter
class TestAdamW:
    def test_100_noisy_steps_are_as_near_to_float64_as_without_the_kernel(self):
        start = state([(7, 5), (2100,), ()])[0]

        def after_100_steps(ops, dtype=torch.float32):
            g = generator(1)
            params = [nn.Parameter(t.to(dtype, copy=True)) for t in start]
            optimizer = AdamW(params, 1e-2, (0.9, 0.95), weight_decay=0.1, ops=ops)
            for _ in range(100):
                for p in params:
                    p.grad = p.detach() + torch.randn(p.shape, generator=g)
                optimizer.step()
            return torch.cat([p.detach().flatten() for p in params])

        truth = after_100_steps(reference_ops, torch.float64)
        plain, fused = after_100_steps(torch_ops), after_100_steps(TRITON_OPS)
        assert relative_difference(truth, torch.cat([t.flatten() for t in start])) > 0.1
        assert relative_difference(fused, truth) < 1e-6
        assert relative_difference(fused, truth) < 1.5 * relative_difference(plain, truth)

    def test_all_parameters_of_a_call_are_one_launch(self, launches):
        adamw(*state([(3,), (CHUNK + 1,), (0,), (4, 5)]), **OPTIONS)
        assert len(launches) == 1
        (_, grid, *_), _ = launches[0]
        assert grid == (4,)

    def test_each_combination_of_dtypes_is_one_launch(self, launches):
        given, same = state([(3,), (0,), (5,), (9,)]), state([(3,), (0,), (5,), (9,)])
        for lists in (given, same):
            lists[1][2] = lists[1][2].bfloat16()
            lists[0][3] = lists[0][3].half()
        adamw(*given, **OPTIONS)
        functional.adamw(*same, **OPTIONS)
        assert len(launches) == 3
        assert_lists_close(given, same)

    def test_nothing_to_update_is_no_launch(self, launches):
        adamw([], [], [], [], **OPTIONS)
        adamw(*state([(0,), (3, 0)]), **OPTIONS)
        assert launches == []

    def test_tables_of_sizes_are_kept_from_step_to_step(self, launches):
        shapes = [(11,), (13, 2)]
        for step in range(3):
            adamw(*state(shapes, seed=step), **OPTIONS | {"step": step + 1})
        adamw(*state([(11,), (13, 3)]), **OPTIONS)
        tables = [arguments[3:6] for arguments, _ in launches]
        for table, first in zip(zip(*tables, strict=True), tables[0], strict=True):
            assert table[1] is table[2] is first
            assert table[3] is not first

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    @pytest.mark.parametrize(("n_before", "is_aligned"), [(16, True), (1, False)])
    def test_memory_beside_a_parameter_stays(self, n_before, is_aligned, dtype, launches):
        sizes = (5, CHUNK, CHUNK + 9)
        given, same = state(sizes, dtype), state(sizes, dtype)
        rooms = []
        for tensors in given:
            for i, t in enumerate(tensors):
                room = torch.full((n_before + t.numel() + 20,), 7.0, dtype=dtype)
                rooms.append((room, t.numel()))
                tensors[i] = room[n_before : n_before + t.numel()].copy_(t)
        grads = [t.clone() for t in given[1]]
        adamw(*given, **OPTIONS)
        functional.adamw(*same, **OPTIONS)
        assert launches[0][1]["IS_ALIGNED"] == is_aligned
        assert_lists_close(given, same)
        assert_lists_close([given[1]], [grads], rtol=0, atol=0)
        for room, n in rooms:
            assert torch.all(room[:n_before] == 7)
            assert torch.all(room[n_before + n :] == 7)

    def test_a_gradient_may_have_any_strides(self):
        given, same = state([(6, 4), (5,), (3,)]), state([(6, 4), (5,), (3,)])
        grads = [same[1][0].mT.contiguous().mT, torch.zeros(5, 2)[:, 0], torch.ones(1).expand(3)]
        for lists in (given, same):
            lists[1] = grads
        before = [g.clone() for g in grads]
        adamw(*given, **OPTIONS)
        functional.adamw(*same, **OPTIONS)
        assert_lists_close(given, same)
        assert_lists_close([grads], [before], rtol=0, atol=0)

    @settings(max_examples=20, deadline=None)
    @given(
        st.lists(st.integers(0, 40) | st.integers(CHUNK - 2, 2 * CHUNK + 2), max_size=5),
        st.integers(1, 10_000),
    )
    def test_any_list_of_sizes_is_updated_as_by_the_formula(self, sizes, step):
        given, same = state(sizes), state(sizes)
        adamw(*given, **OPTIONS | {"step": step})
        functional.adamw(*same, **OPTIONS | {"step": step})
        assert_lists_close(given, same)

    def test_a_parameter_of_more_than_two_billion_elements(self, monkeypatch):
        """Only its last chunk is run, the only one that touches memory."""
        n = 2**31 + 5
        room = torch.empty(n + 64)
        ends = state([(5,)])
        lists = [[room.as_strided((n,), (1,), 16 * i)] for i in range(4)]
        for tensors, end in zip(lists, ends, strict=True):
            tensors[0][-5:] = end[0]
        launch = adamw_module.launch

        def launch_last(kernel, grid, addresses, owners, first_chunks, *rest, **options):
            launch(kernel, (1,), addresses, owners, first_chunks - (grid[0] - 1), *rest, **options)

        monkeypatch.setattr(adamw_module, "launch", launch_last)
        adamw(*lists, **OPTIONS)
        functional.adamw(*ends, **OPTIONS)
        assert_lists_close([[t[-5:] for t in tensors] for tensors in lists], ends)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda s: s[1].pop(), "got 2 params and 1 grads; give gradients and averages"),
            (lambda s: s[3].append(s[3][0]), "got 2 params and 3 exp_avg_sqs"),
            (lambda s: s[1].__setitem__(1, torch.zeros(2, 3)), r"needs grads\[1\] shaped as its parameter: got \(2, 3\) for \(3, 2\)"),
            (lambda s: s[2].__setitem__(0, torch.zeros(4, dtype=torch.int32)), "adamw takes float32.*: got torch.int32; convert it"),
            (lambda s: s[1].__setitem__(0, torch.zeros(4, device="meta")), "adamw needs tensors on cpu: got meta"),
            (lambda s: s[0].__setitem__(1, torch.zeros(2, 3).mT), r"changes params\[1\] in place .* strides \(1, 3\) .* make it contiguous"),
            (lambda s: s[3].__setitem__(0, torch.zeros(4, 2)[:, 0]), r"changes exp_avg_sqs\[0\] in place"),
        ],
    )  # fmt: skip
    def test_what_it_cannot_do_is_refused_with_a_remedy(self, change, message):
        lists = state([(4,), (3, 2)])
        change(lists)
        before = [t.clone() for t in lists[0]]
        with pytest.raises(ValueError, match=message):
            adamw(*lists, **OPTIONS)
        assert_lists_close([lists[0]], [before], rtol=0, atol=0)

    def test_it_says_truly_what_it_changes(self):
        """opcheck: changes what it declares and nothing else, and can be traced."""
        for applies in (None, torch.tensor(True), torch.tensor(False)):
            arguments = (*state([(3,), (2, 2)]), 0.01, 0.9, 0.95, 1e-8, 0.1, 2, applies)
            torch.library.opcheck(torch.ops.fastlm.adamw.default, arguments)


@pytest.mark.interpreter
class TestSymmetricProduct:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    def test_result_is_exactly_symmetric_and_only_the_lower_half_of_added_counts(self, dtype):
        g = generator()
        x = torch.randn(2, 131, 40, generator=g).to(dtype)
        half = torch.randn(2, 131, 131, generator=g).to(dtype).tril()
        added = half + half.tril(-1).mT
        above = torch.ones_like(half).triu(1).bool()
        found = symmetric_product(x, half.masked_fill(above, float("nan")), alpha=2.0, beta=-0.5)
        assert torch.equal(found, found.mT)
        truth = functional.symmetric_product(x.double(), added.double(), alpha=2.0, beta=-0.5)
        rounding = torch.finfo(dtype).eps
        torch.testing.assert_close(found.double(), truth, rtol=4 * rounding, atol=1e-5)

    def test_a_batch_may_be_transposed_or_repeated(self):
        x = torch.randn(2, 3, 70, 9, generator=generator())
        expected = symmetric_product(x.mT.contiguous())
        assert torch.equal(symmetric_product(x.mT), expected)
        one = x[:1, :1].expand(2, 3, 70, 9)
        assert torch.equal(symmetric_product(one), symmetric_product(one.contiguous()))

    def test_no_columns_leave_what_is_added(self):
        added = torch.randn(4, 4, generator=generator())
        added = added + added.mT
        assert torch.equal(symmetric_product(torch.zeros(4, 0), added, beta=2.0), 2 * added)

    @pytest.mark.parametrize(
        ("shape", "strides"), [((3, 48), (2**30 + 8, 1)), ((48, 3), (1, 2**30 + 8))]
    )
    def test_elements_more_than_two_billion_apart(self, shape, strides):
        x = torch.empty(2**31 + 80).as_strided(shape, strides)
        x.copy_(torch.randn(shape, generator=generator()))
        torch.testing.assert_close(symmetric_product(x), functional.symmetric_product(x))

    @pytest.mark.parametrize("has_added", [False, True])
    def test_it_says_truly_that_it_changes_nothing(self, has_added):
        x = torch.randn(2, 3, 5, generator=generator())
        added = torch.ones(2, 3, 3) if has_added else None
        operation = torch.ops.fastlm.symmetric_product.default
        torch.library.opcheck(operation, (x, added, 2.0, 0.5))

    def test_a_gradient_is_refused_where_one_is_wanted(self):
        ones = torch.ones(2, 3)
        wanting = torch.ones(2, 3, requires_grad=True)
        for x, added in ((wanting, None), (ones, torch.ones(2, 2, requires_grad=True))):
            with pytest.raises(ValueError, match="has no gradient: call it under torch.no_grad"):
                symmetric_product(x, added)
            with torch.no_grad():
                assert symmetric_product(x, added).tolist() == [[3.0, 3.0], [3.0, 3.0]]

    @pytest.mark.parametrize(
        ("x", "added", "message"),
        [
            (torch.zeros(3), None, r"needs matrices \(..., rows, columns\): got shape \(3,\)"),
            (torch.zeros(2, 3), torch.zeros(3, 3), r"needs added torch.float32 \(2, 2\) for x \(2, 3\): got torch.float32 \(3, 3\)"),
            (torch.zeros(2, 3), torch.zeros(2, 2).half(), r"got torch.float16 \(2, 2\)"),
            (torch.zeros(2, 3, dtype=torch.int64), None, "symmetric_product takes float32"),
            (torch.zeros(2, 3), torch.zeros(2, 2, device="meta"), "needs tensors on cpu: got meta"),
        ],
    )  # fmt: skip
    def test_what_it_cannot_do_is_refused_with_a_remedy(self, x, added, message):
        with pytest.raises(ValueError, match=message):
            symmetric_product(x, added)


@pytest.mark.parametrize("shape", [(6, 9), (2, 9, 6), (1, 2, 3, 3), (0, 2, 2)])
@pytest.mark.parametrize("has_added", [False, True])
def test_the_plain_product_is_the_formula(shape, has_added):
    x = torch.randn(shape, generator=generator())
    added = functional.symmetric_product(x) if has_added else None
    for alpha in (1.0, 2.5):
        torch.testing.assert_close(
            torch_ops.symmetric_product(x, added, alpha=alpha, beta=-0.5),
            functional.symmetric_product(x, added, alpha=alpha, beta=-0.5),
        )


@pytest.mark.interpreter
@pytest.mark.parametrize("shape", [(7, 5), (2, 5, 70), (70, 6)])
def test_orthogonalize_is_the_same_with_every_symmetric_product(shape):
    matrices = torch.randn(shape, generator=generator())
    expected = orthogonalize(matrices)
    for ops in (TRITON_OPS, reference_ops):
        found = orthogonalize(matrices, symmetric_product=ops.symmetric_product)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_optimizers_compute_with_the_operations_they_are_given(name):
    """Also a copy of an optimizer does."""
    config = ModelConfig(vocab_size=50, context_length=8, n_layers=1, d_model=16, n_heads=2)
    model = TransformerLM(config)
    called = set()

    def counting(op):
        def call(*arguments, **options):
            called.add(op)
            return getattr(torch_ops, op)(*arguments, **options)

        return call

    names = {"adamw", "symmetric_product"} if name == "muon" else {"adamw"}
    ops = torch_ops._replace(**{op: counting(op) for op in ("adamw", "symmetric_product")})
    optimizers = build_optimizers(model, OptimConfig(name=name), ops)
    for each in (optimizers, copy.deepcopy(optimizers)):
        called.clear()
        for optimizer in each:
            for p in optimizer.param_groups[0]["params"]:
                p.grad = torch.ones_like(p)
            optimizer.step()
        assert called == names


@pytest.mark.interpreter
def test_muon_with_the_kernel_takes_the_same_steps():
    starts = [torch.randn(s, generator=generator()) for s in ((5, 9), (9, 5), (5, 9))]
    results = []
    for ops in (torch_ops, TRITON_OPS):
        params = [nn.Parameter(t.clone()) for t in starts]
        optimizer = Muon(params, 0.1, weight_decay=0.1, ops=ops)
        g = generator(1)
        for _ in range(3):
            for p in params:
                p.grad = torch.randn(p.shape, generator=g)
            optimizer.step()
        results.append([p.detach() for p in params])
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-5)
