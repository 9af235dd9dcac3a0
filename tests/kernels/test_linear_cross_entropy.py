"""The linear layer and its loss in chunks, in cases that whole rows alone do not cover."""

import pytest
import torch

import kernels.linear_cross_entropy as module
from fastlm import functional
from kernels.linear_cross_entropy import chunk_rows, linear_cross_entropy

pytestmark = pytest.mark.interpreter

OPTIONS = [
    {},
    {"reduction": "sum"},
    {"reduction": "none"},
    {"reduction": "mean", "return_lse": True, "softcap": 5.0, "z_loss": 1e-2},
]


@pytest.fixture
def three_rows_a_chunk(monkeypatch):
    monkeypatch.setattr(module, "MIN_CHUNK_ROWS", 3)
    monkeypatch.setattr(module, "MAX_CHUNK_ROWS", 3)


def make(n_rows=10, d_model=8, vocab_size=31, dtype=torch.float32, weight_dtype=torch.float32):
    g = torch.Generator().manual_seed(0)
    hidden = torch.randn(n_rows, d_model, generator=g).to(dtype).requires_grad_()
    weight = torch.randn(vocab_size, d_model, generator=g).to(weight_dtype).requires_grad_()
    targets = torch.randint(0, vocab_size, (n_rows,), generator=g)
    targets[::4] = -100
    return hidden, weight, targets


def with_gradients(function, hidden, weight, targets, **options):
    result = function(hidden, weight, targets, **options)
    results = result if isinstance(result, tuple) else (result,)
    total = sum((r * torch.arange(1, r.numel() + 1).view(r.shape)).sum() for r in results)
    return [*results, *torch.autograd.grad(total, (hidden, weight))]


@pytest.mark.usefixtures("three_rows_a_chunk")
@pytest.mark.parametrize("options", OPTIONS)
def test_chunks_give_what_the_whole_gives(options):
    inputs = make()
    found = with_gradients(linear_cross_entropy, *inputs, **options)
    truth = with_gradients(functional.linear_cross_entropy, *inputs, **options)
    torch.testing.assert_close(found, truth)


@pytest.mark.usefixtures("three_rows_a_chunk")
def test_the_weight_gradient_is_summed_in_float32():
    """Steps of 4.5, up to 300: a sum in bfloat16 would lose the half of each above 128."""
    hidden = torch.full((200, 1), 3.0, dtype=torch.bfloat16, requires_grad=True)
    weight = torch.zeros(2, 1, requires_grad=True)
    linear_cross_entropy(hidden, weight, torch.zeros(200).long(), reduction="sum").backward()
    assert weight.grad.dtype == torch.float32
    assert weight.grad.flatten().tolist() == [-300.0, 300.0]


@pytest.mark.parametrize("wanted", [0, 1])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_gradient_of_one_side_alone(reduction, wanted):
    tensors = make()
    both = torch.autograd.grad(
        linear_cross_entropy(*tensors, reduction=reduction).sum(), tensors[:2]
    )
    tensors[1 - wanted].requires_grad_(False)
    (one,) = torch.autograd.grad(
        linear_cross_entropy(*tensors, reduction=reduction).sum(), tensors[wanted]
    )
    assert torch.equal(one, both[wanted])


def test_without_gradients_none_are_made():
    hidden, weight, targets = make()
    with torch.no_grad():
        loss = linear_cross_entropy(hidden, weight, targets)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, functional.linear_cross_entropy(hidden, weight, targets))


@pytest.mark.compiled
@pytest.mark.parametrize("is_compiled", [False, True])
def test_forward_only_makes_no_gradients_ahead(is_compiled, monkeypatch):
    made = []
    real = module._go_through
    monkeypatch.setattr(
        module, "_go_through", lambda *given: made.append(given[7:9]) or real(*given)
    )
    function = linear_cross_entropy
    if is_compiled:
        function = torch.compile(function, fullgraph=True, backend="aot_eager")
    hidden, weight, targets = make()
    loss = function(hidden, weight, targets)
    with module.forward_only():
        alone = function(hidden, weight, targets)
    assert torch.equal(alone, loss)
    assert [[g is None for g in given] for given in made] == [[False, False], [True, True]]
    assert all(g.isnan().all() for g in torch.autograd.grad(alone, (hidden, weight)))
    assert torch.autograd.grad(function(hidden, weight, targets), hidden)[0].isfinite().all()


def test_the_backward_pass_may_run_twice():
    hidden, weight, targets = make()
    loss = linear_cross_entropy(hidden, weight, targets) * 3
    first = torch.autograd.grad(loss, (hidden, weight), retain_graph=True)
    second = torch.autograd.grad(loss, (hidden, weight))
    assert all(map(torch.equal, first, second))


def test_a_small_gradient_of_the_loss_is_not_rounded_to_bfloat16():
    hidden, weight, targets = make(dtype=torch.bfloat16)
    third = torch.tensor(1 / 3)
    (scaled,) = torch.autograd.grad(linear_cross_entropy(hidden, weight, targets) * third, weight)
    (whole,) = torch.autograd.grad(linear_cross_entropy(hidden, weight, targets), weight)
    torch.testing.assert_close(scaled, whole / 3, rtol=1e-6, atol=0)


def peak_bytes(function) -> int:
    """The most memory that a call had allocated at one time, beyond what there was before."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        kept = function()
    changes = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(changes, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    del kept
    return peak


@pytest.mark.parametrize("n_rows", [64, 256])
def test_memory_beyond_the_gradients_is_one_chunk_whatever_the_rows(n_rows, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_BYTES", 32 * 4000 * 4)
    monkeypatch.setattr(module, "MIN_CHUNK_ROWS", 32)
    hidden, weight, targets = make(n_rows, 16, 4000)
    chunk = module.CHUNK_BYTES
    gradients = 2 * (hidden.nbytes + weight.nbytes)  # as made, and as scaled
    losses = 16 * n_rows * 4

    def call():
        return torch.autograd.grad(linear_cross_entropy(hidden, weight, targets), (hidden, weight))

    assert chunk <= peak_bytes(call) <= chunk + gradients + losses
    whole = n_rows * 4000 * 4

    def plain():
        loss = functional.linear_cross_entropy(hidden, weight, targets)
        return torch.autograd.grad(loss, (hidden, weight))

    assert peak_bytes(plain) > 2 * whole


def test_the_chunk_is_half_a_gigabyte_at_the_shapes_of_real_models():
    for vocab_size in (32_000, 50_304, 131_072):
        rows = chunk_rows(65_536, vocab_size, 2)
        assert rows % 256 == 0
        assert 0.45 * 2**30 <= rows * vocab_size * 2 <= 0.5 * 2**30
    assert chunk_rows(65_536, 1 << 20, 2) == 2048  # wide: at least so many rows
    assert chunk_rows(65_536, 256, 2) == 16_384
    assert chunk_rows(100, 50_304, 2) == 100


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"got \(3, 4\), \(5, 6\) and \(3,\)"):
        linear_cross_entropy(torch.zeros(3, 4), torch.zeros(5, 6), torch.zeros(3).long())
    with pytest.raises(ValueError, match='reduction must be "mean", "sum" or "none"'):
        linear_cross_entropy(
            torch.zeros(3, 4), torch.zeros(5, 4), torch.zeros(3).long(), reduction="median"
        )
