"""Triton kernels against the truth of fastlm.functional: values, gradients, graphs, layouts."""

import pytest
import torch
from kernel_truth import (
    cases,
    check_compiled,
    check_errors,
    check_promises,
    generator,
    make,
    run,
    tiny,
)
from torch.utils._pytree import tree_leaves

from fastlm import functional
from kernels.calls import copied, results_of
from kernels.cases import OPS

pytestmark = pytest.mark.interpreter

EACH_OPTION = [
    pytest.param(name, options, id=f"{name}-{i}")
    for name, op in OPS.items()
    for i, options in enumerate(op.options)
]
CASES = cases(lambda dtype, option: dtype != torch.float16 or option == 0)


DIFFERENTIABLE = [name for name in OPS if tiny(name, torch.float32).differentiable]


@pytest.mark.parametrize(("name", "shape", "options", "dtype"), CASES)
def test_errors_are_those_of_plain_torch(name, shape, options, dtype):
    """soak_kernels.py has the other options of float16."""
    check_errors(name, shape, options, dtype)


@pytest.mark.parametrize(
    ("name", "options"), [case for case in EACH_OPTION if case.values[0] in DIFFERENTIABLE]
)
def test_gradients_are_finite_differences(name, options):
    inputs = copied(tiny(name, torch.float64, options))
    tensors = [inputs.tensors[i] for i in inputs.differentiable]

    def call(*given):
        tensors = list(inputs.tensors)
        for i, tensor in zip(inputs.differentiable, given, strict=True):
            tensors[i] = tensor
        return OPS[name].function(*tensors, **inputs.options)

    # fast_mode: along random directions, in place of one element after the other.
    assert torch.autograd.gradcheck(call, tensors, eps=1e-5, atol=1e-7, fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", OPS)
def test_arguments_stay_as_they_are(name, dtype):
    before, inputs = tiny(name, dtype), copied(tiny(name, dtype))
    versions = [t._version for t in tree_leaves(inputs.tensors) if t is not None]
    results = results_of(OPS[name].function, inputs)
    if inputs.differentiable:
        sum(r.sum() for r in results).backward()
    for i, (tensors, copies) in enumerate(zip(inputs.tensors, before.tensors, strict=True)):
        if i not in inputs.changed:
            for tensor, copy in zip(tree_leaves(tensors), tree_leaves(copies), strict=True):
                assert copy is None or torch.equal(tensor, copy)
    if not inputs.changed:
        assert versions == [t._version for t in tree_leaves(inputs.tensors) if t is not None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", OPS)
def test_every_element_of_a_result_is_written(name, dtype, monkeypatch):
    """PyTorch fills memory that is not yet written with NaN."""
    inputs = tiny(name, dtype)
    expected = run(OPS[name].function, inputs)
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(True)
    try:
        found = run(OPS[name].function, inputs)
    finally:
        torch.use_deterministic_algorithms(False)
    for ours, before in zip(found, expected, strict=True):
        assert torch.equal(ours, before)


def strided(x: torch.Tensor, kind: str) -> torch.Tensor:
    """The same values, laid out otherwise."""
    if kind == "rows apart":
        room = torch.full((*x.shape[:-1], x.shape[-1] + 5), float("nan")).to(x.dtype)
        room[..., : x.shape[-1]] = x
        return room[..., : x.shape[-1]]
    if kind == "columns apart":
        room = torch.full((*x.shape[:-1], 2 * x.shape[-1]), float("nan")).to(x.dtype)
        room[..., ::2] = x
        return room[..., ::2]
    return x.transpose(0, -1).contiguous().transpose(0, -1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", ["rows apart", "columns apart", "transposed"])
@pytest.mark.parametrize("name", OPS)
def test_layout_does_not_matter(name, kind, dtype):
    inputs = tiny(name, dtype)
    expected = results_of(OPS[name].function, copied(inputs))
    given = copied(inputs)
    tensors = tuple(
        strided(t.detach(), kind)
        if isinstance(t, torch.Tensor) and t.is_floating_point() and t.ndim > 1
        else t
        for t in given.tensors
    )
    found = results_of(OPS[name].function, given._replace(tensors=tensors))
    for ours, before in zip(found, expected, strict=True):
        if OPS[name].flops(OPS[name].tiny, {}) == (0, 0):
            assert torch.equal(ours, before)
        else:  # a matrix product may go another way
            torch.testing.assert_close(ours, before)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_an_expanded_gradient_equals_one_written_out(name):
    inputs = copied(tiny(name, torch.float32))
    given = [inputs.tensors[i] for i in inputs.differentiable]
    results = results_of(OPS[name].function, inputs)
    expanded = torch.autograd.grad(sum(r.sum() for r in results), given, retain_graph=True)
    written = torch.autograd.grad(results, given, [torch.ones_like(r) for r in results])
    for ours, other in zip(expanded, written, strict=True):
        assert torch.equal(ours, other)


@pytest.mark.compiled
@pytest.mark.parametrize("name", OPS)
def test_operations_keep_what_they_promise_pytorch(name):
    """soak_kernels.py has the other options."""
    check_promises(name, OPS[name].options[0])


@pytest.mark.compiled
@pytest.mark.parametrize("name", OPS)
def test_compiled_in_one_graph_it_equals_itself_and_the_compiled_reference(name):
    check_compiled(name, "aot_eager")


@pytest.mark.compiled
@pytest.mark.generated
@pytest.mark.parametrize("name", ["rms_norm", "softmax", "cross_entropy"])
def test_by_generated_code_it_equals_itself_and_the_compiled_reference(name):
    """soak_kernels.py has the other operations."""
    check_compiled(name, "inductor")


class TestSoftmax:
    @pytest.mark.parametrize("n_columns", [257, 40_000])
    def test_extreme_rows_are_as_the_truth_has_them(self, n_columns):
        inf = float("inf")
        rows = torch.zeros(6, n_columns)
        rows[0] = -inf  # NaN
        rows[1, :-1] = -inf  # all weight on the last
        rows[2] = 3e38
        rows[3] = -3.4e38
        rows[4, 5] = inf  # NaN
        rows[5, : n_columns // 2] = -inf  # whole blocks of -inf before others
        found, truth = OPS["softmax"].function(rows, -1), functional.softmax(rows, -1)
        torch.testing.assert_close(found, truth, equal_nan=True)

    def test_another_dimension_is_refused(self):
        with pytest.raises(
            ValueError, match="softmax goes over the last dimension: got dim=0 of 2"
        ):
            OPS["softmax"].function(torch.zeros(2, 3), 0)


class TestCrossEntropy:
    def test_a_target_outside_the_vocabulary_gives_nan_for_its_row_alone(self):
        logits = torch.zeros(3, 5, requires_grad=True)
        losses = OPS["cross_entropy"].function(logits, torch.tensor([0, 5, -1]), reduction="none")
        assert losses.isnan().tolist() == [False, True, True]
        losses[:2].sum().backward()
        assert logits.grad.isnan().any(-1).tolist() == [False, True, True]

    def test_all_ignored_gives_zero_and_zero_gradients(self):
        logits = torch.randn(3, 5, requires_grad=True)
        loss = OPS["cross_entropy"].function(logits, torch.full((3,), -100))
        loss.backward()
        assert loss.item() == 0
        assert torch.equal(logits.grad, torch.zeros(3, 5))

    def test_huge_logits_stay_finite(self):
        logits = torch.tensor([[1e30, -1e30, 0.0], [-3e38, -3e38, -3e38]], requires_grad=True)
        targets = torch.tensor([0, 1])
        loss = OPS["cross_entropy"].function(logits, targets, reduction="none")
        truth = functional.cross_entropy(logits, targets, reduction="none")
        torch.testing.assert_close(loss, truth)
        loss.sum().backward()
        assert logits.grad.isfinite().all()

    def test_impossible_tokens_may_have_minus_infinity(self):
        logits = torch.randn(2, 9001, generator=generator())
        logits[:, :5000] = -float("inf")
        targets = torch.tensor([5000, 9000])
        found = OPS["cross_entropy"].function(logits, targets)
        torch.testing.assert_close(found, functional.cross_entropy(logits, targets))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("softmax", (torch.zeros(2, 3, dtype=torch.int64), -1), "softmax takes float32"),
        ("rms_norm", (torch.zeros(2, 3), torch.ones(2)), r"one weight per feature: got weight \(2,\)"),
        ("rms_norm", (torch.zeros(1, 70_000), None), "at most 65,536 columns: got 70,000"),
        ("add_rms_norm", (torch.zeros(2, 3), torch.zeros(3, 3), None), "needs x and residual alike"),
        ("cross_entropy", (torch.zeros(2, 3), torch.zeros(3, dtype=torch.int64)), "a target for each row"),
        ("softmax", (torch.zeros(2, 3, device="meta"), -1), "needs tensors on cpu: got meta"),
    ],
)  # fmt: skip
def test_what_no_kernel_takes_is_refused_with_a_remedy(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        OPS[name].function(*arguments)


@pytest.mark.parametrize("name", ["softmax", "cross_entropy"])
def test_rows_of_a_million_columns_are_summed_whole(name):
    """One of the 256 blocks of a row left out, or a sum that drifts, would show in each value."""
    inputs = make(name, (2, 2**20), OPS[name].options[0], torch.float32)
    found = run(OPS[name].function, inputs)
    truth = run(getattr(functional, name), inputs, torch.float64)
    for ours, true in zip(found, truth, strict=True):
        torch.testing.assert_close(ours.double(), true, rtol=1e-5, atol=1e-10)


def test_rows_more_than_two_billion_elements_apart():
    """The interpreter's int32 wraps as a GPU's: a row index times such a stride must be int64."""
    room = torch.empty(2**31 + 80, dtype=torch.float32)  # hardly any of it is ever touched
    x = room.as_strided((3, 48), (2**30 + 8, 1))
    x.copy_(torch.randn(3, 48, generator=generator()))
    targets = torch.tensor([3, 47, 0])
    torch.testing.assert_close(OPS["softmax"].function(x, -1), functional.softmax(x, -1))
    torch.testing.assert_close(
        OPS["rms_norm"].function(x, None), functional.rms_norm(x, None), rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(
        OPS["cross_entropy"].function(x, targets), functional.cross_entropy(x, targets)
    )
