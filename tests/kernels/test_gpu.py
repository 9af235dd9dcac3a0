"""Kernels on a real GPU: large shapes, real bfloat16, the same bits twice, no waiting, memory."""

import pytest
import torch

from fastlm import functional
from fastlm.config import ModelConfig
from fastlm.model import TransformerLM, init_weights
from fastlm.ops import load_ops
from kernels.calls import copied, largest_error, results_and_gradients, results_of
from kernels.cases import OPS
from kernels.linear_cross_entropy import CHUNK_BYTES, linear_cross_entropy
from kernels.softmax import softmax

pytestmark = pytest.mark.gpu

DEVICE = torch.device("cuda")
EACH_SHAPE = [
    pytest.param(name, shape, id=f"{name}-{'x'.join(map(str, shape))}")
    for name, op in OPS.items()
    for shape in op.large[:2]
]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(name, shape, dtype, options=None):
    op = OPS[name]
    options = op.options[0] if options is None else options
    return op.make(shape, options, dtype, DEVICE, generator())


def run(function, inputs, dtype=None):
    return results_and_gradients(function, inputs, generator(1), dtype)


@pytest.mark.parametrize(
    ("name", "shape", "options", "dtype"),
    [
        pytest.param(name, shape, options, dtype, id=f"{name}-{i}-{'x'.join(map(str, shape))}-{dtype}")
        for name, op in OPS.items()
        for shape in op.small
        for i, options in enumerate(op.options)
        for dtype in op.dtypes
    ],
)  # fmt: skip
def test_small_cases_have_the_errors_of_plain_torch(name, shape, options, dtype):
    """The bounds are the interpreted tests', for the card's own bfloat16 and full float32."""
    inputs = make(name, shape, dtype, options)
    truth = run(getattr(functional, name), inputs, torch.float64)
    plain = run(getattr(functional, name), inputs)
    found = run(OPS[name].function, inputs)
    for ours, theirs, true in zip(found, plain, truth, strict=True):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        size = true.abs().max().item() if true.numel() else 0
        rounding = torch.finfo(theirs.dtype).eps * size + torch.finfo(torch.float32).eps * 4
        assert largest_error(ours, true) <= 1.5 * largest_error(theirs, true) + 4 * rounding


@pytest.mark.parametrize(("name", "shape"), EACH_SHAPE)
def test_real_shapes_in_bfloat16_equal_the_reference_in_float32(name, shape):
    dtype = torch.float32 if name == "adamw" else torch.bfloat16
    inputs = make(name, shape, dtype)
    found = run(OPS[name].function, inputs)
    truth = run(getattr(functional, name), inputs, torch.float32)
    for ours, true in zip(found, truth, strict=True):
        size = true.abs().max().item()
        assert largest_error(ours, true) <= 0.02 * max(size, 1e-6)


@pytest.mark.parametrize("name", OPS)
def test_two_runs_give_the_same_bits(name):
    inputs = make(name, OPS[name].large[0], torch.float32 if name == "adamw" else torch.bfloat16)
    for first, second in zip(
        run(OPS[name].function, inputs), run(OPS[name].function, inputs), strict=True
    ):
        assert torch.equal(first, second)


@pytest.mark.parametrize("name", OPS)
def test_nothing_waits_for_the_card(name):
    inputs = copied(make(name, OPS[name].tiny, torch.float32))
    given = [inputs.tensors[i] for i in inputs.differentiable]

    def call():
        results = results_of(OPS[name].function, inputs)
        if given:
            weights = [torch.ones_like(r) for r in results]
            torch.autograd.grad(results, given, weights)

    call()  # compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        call()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_more_than_two_billion_elements():
    x = torch.randn(43_000, 50_304, device=DEVICE, dtype=torch.bfloat16)
    assert x.numel() > 2**31
    y = softmax(x, -1)
    for row in (0, 42_689, 42_690, 42_999):  # the 2^31st element is in row 42,690
        torch.testing.assert_close(y[row], torch.softmax(x[row].float(), -1).bfloat16())


@pytest.mark.parametrize("n_rows", [16_384, 65_536])
def test_the_loss_of_a_linear_layer_needs_one_chunk_of_memory(n_rows):
    hidden = torch.randn(n_rows, 768, device=DEVICE, dtype=torch.bfloat16, requires_grad=True)
    weight = torch.randn(50_304, 768, device=DEVICE).mul_(0.02).requires_grad_()
    targets = torch.randint(0, 50_304, (n_rows,), device=DEVICE)

    def call():
        return torch.autograd.grad(linear_cross_entropy(hidden, weight, targets), (hidden, weight))

    call()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    extra = torch.cuda.max_memory_allocated() - before
    gradients = hidden.nbytes + weight.nbytes
    assert CHUNK_BYTES // 2 < extra - gradients <= 0.6 * 2**30


def test_200_steps_through_kernels_train_as_the_reference_does():
    config = ModelConfig(
        vocab_size=4096, context_length=256, n_layers=4, d_model=256, n_heads=4, d_ff=768
    )
    ids = torch.randint(0, 256, (64, 257), generator=generator()).to(DEVICE)
    losses = {}
    for name in ("none", "all"):
        model = TransformerLM(config, ops=load_ops(name, DEVICE), compute_dtype=torch.bfloat16)
        init_weights(model, 0)
        model.to(DEVICE)
        loss_of = torch.compile(model.loss, fullgraph=True)
        losses[name] = []
        optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
        for _ in range(200):
            loss = loss_of(ids[:, :-1], ids[:, 1:])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[name].append(loss.detach())
    plain, ours = (torch.stack(losses[name]).float() for name in ("none", "all"))
    assert plain[-1] < plain[0] - 1
    assert ((ours - plain).abs() / plain).max() < 0.02
