"""Memory by formula against what autograd keeps, what optimizers hold and what a step peaks at."""

import dataclasses
import functools
import re
import weakref
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fastlm.accounting import (
    GPT2,
    count_parameters,
    largest_batch,
    saved_for_backward,
    step_memory,
    training_memory,
)
from fastlm.config import ModelConfig, OptimConfig
from fastlm.config.recipes import load_recipe
from fastlm.model import TransformerLM, init_weights
from fastlm.ops import Ops, load_ops, torch_ops
from fastlm.optim import build_optimizers
from fastlm.optim.averaging import WeightAverage
from fastlm.optim.rows import RowAdaGrad
from fastlm.train.row_loss import RowLoss

SMALL = ModelConfig(vocab_size=509, context_length=64, n_layers=3, d_model=96, n_heads=4)
LEADERBOARD: dict[str, Any] = {
    "ffn": "relu2", "norm_gain": False, "embedding_norm": True, "qk_norm": True,
    "zero_init": True, "residual_scalars": True, "x0_scalars": True, "value_embeddings": True,
    "attention_gate": True, "logit_softcap": 15.0, "tie_weights": False,
}  # fmt: skip
NETWORKS: dict[str, dict[str, Any]] = {"plain": {}, "leaderboard": LEADERBOARD}
BATCH = 8


def network(dtype: torch.dtype, ops: Ops = torch_ops, **change: Any) -> TransformerLM:
    model = TransformerLM(dataclasses.replace(SMALL, **change), ops=ops, compute_dtype=dtype)
    init_weights(model, 0)
    return model


def windows() -> tuple[torch.Tensor, torch.Tensor]:
    inputs = torch.randint(0, 509, (BATCH, 64), generator=torch.Generator().manual_seed(0))
    return inputs, inputs.flip(-1).clone()


def saved_bytes(model: TransformerLM, loss: Any = None) -> int:
    """Storages that autograd keeps for the backward pass, each once, without the parameters'."""
    return loss_and_saved_bytes(model, loss or model.loss)[1]


def loss_and_saved_bytes(model: TransformerLM, loss: Any) -> tuple[torch.Tensor, int]:
    owned = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    kept = {}

    def keep(t: torch.Tensor) -> torch.Tensor:
        storage = t.untyped_storage()
        if storage.data_ptr() not in owned:
            kept[storage.data_ptr()] = storage
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        value = loss(*windows())
    return value, sum(storage.nbytes() for storage in kept.values())


DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)


@DTYPES
@pytest.mark.parametrize(
    "change",
    [
        {},
        LEADERBOARD,
        LEADERBOARD | {"norm_gain": True, "unet_skip": True, "backout": True, "n_layers": 4},
        {"norm": "post", "ffn": "silu"},
        {"norm": "none", "ffn": "relu2"},
        {"norm_gain": False, "tie_weights": False},
        {"qk_norm": True, "position": "none"},
        {"value_embeddings": True, "position": "none"},
        {"value_embeddings": True, "qk_norm": True},
        {"value_embeddings": True},
        {"x0_scalars": True, "unet_skip": True},
        {"residual_scalars": True, "backout": True},
        {"unet_skip": True, "backout": True},
        {"position": "none", "attention_gate": True},
        {"position": "none"},
        {"logit_softcap": 15.0},
    ],
    ids=str,
)
def test_what_autograd_keeps_is_the_formulas_within_2_percent(change, dtype):
    model = network(dtype, **change)
    found = saved_for_backward(model.config, BATCH, bf16=dtype == torch.bfloat16)
    assert found == pytest.approx(saved_bytes(model), rel=0.02)


class Step(NamedTuple):
    """A forward and a backward pass: bytes kept between the two, loss, gradients."""

    kept: int
    loss: torch.Tensor
    gradients: list[torch.Tensor | None]


@functools.cache
def step(name: str, dtype: torch.dtype, compiler: str | None, *, checkpointed: bool) -> Step:
    """No code is generated: the graph's partitioner decides what is kept and what is recomputed."""
    torch.compiler.reset()
    backend = "aot_eager_decomp_partition"
    model = network(dtype, **NETWORKS[name])
    model.checkpoint_activations = checkpointed
    loss = model.loss
    if compiler == "step":
        loss = torch.compile(loss, fullgraph=True, dynamic=False, backend=backend)
    elif compiler == "block":
        for layer in model.layers:
            layer.compile(fullgraph=True, dynamic=False, backend=backend)
    value, kept = loss_and_saved_bytes(model, loss)
    value.backward()
    return Step(kept, value.detach(), [p.grad for p in model.parameters()])


@pytest.mark.compiled
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "dtype"), [("plain", torch.float32), ("leaderboard", torch.bfloat16)], ids=str
)
def test_what_a_compiled_step_keeps_is_the_formulas_within_5_percent(name, dtype):
    config = network(dtype, **NETWORKS[name]).config
    found = saved_for_backward(config, BATCH, bf16=dtype == torch.bfloat16, compiled=True)
    assert found == pytest.approx(step(name, dtype, "step", checkpointed=False).kept, rel=0.05)


COMPILED = [pytest.mark.compiled, pytest.mark.slow]


# Compiling takes long: what is compiled and the dtype vary together.
@pytest.mark.parametrize(
    ("name", "compiler", "dtype"),
    [
        ("plain", None, torch.float32),
        ("plain", None, torch.bfloat16),
        ("leaderboard", None, torch.float32),
        ("leaderboard", None, torch.bfloat16),
        pytest.param("leaderboard", "step", torch.bfloat16, marks=COMPILED),
        pytest.param("leaderboard", "block", torch.float32, marks=COMPILED),
    ],
    ids=str,
)
def test_checkpointed_blocks_give_the_same_loss_and_gradients_from_less(name, compiler, dtype):
    """Eager ones are equal bit for bit; a compiler may fuse the second forward pass anew."""
    whole = step(name, dtype, compiler, checkpointed=False)
    part = step(name, dtype, compiler, checkpointed=True)
    assert part.kept < 0.65 * whole.kept
    if compiler is None:
        assert torch.equal(part.loss, whole.loss)
        for a, b in zip(part.gradients, whole.gradients, strict=True):
            assert torch.equal(a, b)
        config, bf16 = network(dtype, **NETWORKS[name]).config, dtype == torch.bfloat16
        formula = saved_for_backward(config, BATCH, bf16=bf16, checkpointed=True)
        assert formula == pytest.approx(part.kept, rel=0.02)
        return
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(part.loss, whole.loss, rtol=tolerance, atol=0)
    for a, b in zip(part.gradients, whole.gradients, strict=True):
        assert (a - b).norm() <= tolerance * b.norm() + 1e-12


def test_a_checkpointed_model_generates_and_evaluates_as_before():
    plain, model = network(torch.float32), network(torch.float32)
    model.checkpoint_activations = True
    inputs, targets = windows()
    with torch.no_grad():
        assert torch.equal(model.loss(inputs, targets), plain.loss(inputs, targets))
        caches = model.new_caches(BATCH, 64)
        torch.testing.assert_close(model(inputs, caches=caches), plain(inputs))


def test_the_head_in_chunks_keeps_two_gradients():
    pytest.importorskip("triton")
    model = network(torch.float32, load_ops("linear_cross_entropy", "cpu"))
    found = saved_for_backward(SMALL, BATCH, kernels=["linear_cross_entropy"])
    assert found == pytest.approx(saved_bytes(model), rel=0.02)
    assert found < saved_for_backward(SMALL, BATCH)


def test_a_chunk_of_logits_is_that_of_the_kernel():
    pytest.importorskip("triton")
    from kernels.linear_cross_entropy import chunk_rows

    for vocab_size, batch in ((32_000, 512), (509, 8), (300_000, 64), (50_000, 4)):
        config = dataclasses.replace(SMALL, vocab_size=vocab_size)
        with_head, kept = (
            training_memory(config, batch, kernels=["linear_cross_entropy"])["head"],
            64 * batch * (96 * 4 * 3 + 4) + 4 * vocab_size * 96,
        )
        chunk = chunk_rows(64 * batch, vocab_size, 4) * vocab_size * 4
        assert with_head - kept == pytest.approx(chunk, rel=1e-9)


@pytest.mark.parametrize("name", ["adamw", "muon", "normuon", "sgd", "adagrad"])
@pytest.mark.parametrize("change", [{}, LEADERBOARD], ids=["plain", "leaderboard"])
def test_optimizers_and_average_hold_the_formulas_bytes(change, name):
    model = network(torch.float32, **change)
    optim = OptimConfig(name=name, average_tail=0.1)
    model.loss(*windows()).backward()
    held = 0
    for optimizer in build_optimizers(model, optim):
        optimizer.step()
        for state in optimizer.state.values():
            held += sum(t.nbytes for t in state.values() if isinstance(t, torch.Tensor))
    memory = training_memory(model.config, BATCH, optim=optim)
    assert memory["optimizer"] == held
    assert memory["average"] == sum(m.nbytes for m in WeightAverage(model.parameters()).means)
    assert memory["parameters"] == sum(p.nbytes for p in model.parameters())
    assert memory["gradients"] == sum(p.grad.nbytes for p in model.parameters())


@DTYPES
def test_tables_of_ngrams_have_a_number_a_row_and_no_dense_gradient(dtype):
    change = {"ngram_rows": 5000, "ngram_width": 32}
    model = network(dtype, **change)
    assert model.ngrams is not None
    optimizer = RowAdaGrad(model.ngrams.tables.parameters())
    rest = build_optimizers(model, OptimConfig())
    loss = RowLoss(model.loss, model.ngrams, optimizer)
    bf16 = dtype == torch.bfloat16
    found = saved_for_backward(model.config, BATCH, bf16=bf16)
    assert found == pytest.approx(saved_bytes(model, loss), rel=0.02)
    loss(*windows()).backward()
    rows = loss.rows
    in_rows = sum(t.nbytes for t in (*rows, *(r.grad for r in rows), *loss.indices))
    loss.keep_gradients()
    rest[0].step()
    tensors = [t for o in (optimizer, *rest) for state in o.state.values() for t in state.values()]
    memory = training_memory(model.config, BATCH, bf16=bf16)
    assert memory["optimizer"] == sum(t.nbytes for t in tensors if isinstance(t, torch.Tensor))
    dense = sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
    assert memory["gradients"] == dense + in_rows


class LiveBytes(TorchDispatchMode):
    """Bytes of storages that operations have made and that are still there; their peak."""

    def __init__(self, known: list[torch.Tensor]) -> None:
        super().__init__()
        self.known = {t.untyped_storage()._cdata for t in known}
        self.live = self.peak = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for t in tree_leaves(result):
            if isinstance(t, torch.Tensor) and t.untyped_storage()._cdata not in self.known:
                self._count(t.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, n_bytes = storage._cdata, storage.nbytes()
        self.known.add(key)
        self.live += n_bytes
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, key, n_bytes)

    def _forget(self, key: int, n_bytes: int) -> None:
        self.known.discard(key)
        self.live -= n_bytes


@DTYPES
@pytest.mark.parametrize("change", [{}, LEADERBOARD], ids=["plain", "leaderboard"])
@pytest.mark.parametrize("checkpointed", [False, True], ids=["whole", "checkpointed"])
def test_forward_and_backward_peak_at_the_formulas_bytes(checkpointed, change, dtype):
    # A vocabulary so small that a block, made again, takes more than the head.
    model = network(dtype, **change | ({"vocab_size": 61} if checkpointed else {}))
    model.checkpoint_activations = checkpointed
    inputs, targets = (ids % model.config.vocab_size for ids in windows())
    model.loss(inputs, targets).backward()  # gradients are there, as in the middle of a step
    with LiveBytes([*model.parameters(), *model.buffers(), inputs, targets]) as counted:
        model.loss(inputs, targets).backward()
    bf16 = dtype == torch.bfloat16
    memory = training_memory(model.config, BATCH, bf16=bf16, checkpointed=checkpointed)
    formula = memory["activations"] + memory["head"]
    assert formula == pytest.approx(counted.peak, rel=0.06 if checkpointed else 0.03)


@pytest.mark.parametrize("name", ["muon", "normuon"])
@pytest.mark.parametrize("change", [{}, LEADERBOARD], ids=["plain", "leaderboard"])
def test_a_step_of_muon_peaks_near_the_formulas_bytes(change, name):
    model = network(torch.float32, **change)
    optim = OptimConfig(name=name)
    model.loss(*windows()).backward()
    peak = 0
    for optimizer in build_optimizers(model, optim):
        optimizer.step()
        with LiveBytes(list(model.parameters())) as counted:
            optimizer.step()
        peak = max(peak, counted.peak)
    memory = training_memory(model.config, 1, optim=optim)
    step = memory["step"] + memory["activations"] + memory["head"]
    assert peak == pytest.approx(step, rel=0.08)


def test_the_peak_is_that_of_the_larger_of_the_two_halves_of_a_step():
    optim = OptimConfig(name="muon")
    small, large = (training_memory(SMALL, n, optim=optim) for n in (1, 1000))
    assert small["step"] > 0 == large["step"]


# Each row describes a run: recipe, windows, checkpointed, bf16, compiled, kernels, processes under fsdp, bytes.
RUNS = [
    ("stories", 1, True, False, True, (), 1, 34_031_616),
    ("baseline", 1, False, False, False, (), 2, 1_962_732_544),
    ("small-gpu", 4, False, True, False, ("linear_cross_entropy",), 4, 1_524_246_688),
    ("leaderboard", 4, False, True, True, (), 1, 10_710_438_336),
    ("leaderboard", 4, True, True, True, ("linear_cross_entropy",), 4, 8_411_397_912),
]


@pytest.mark.parametrize(("recipe", "n", "checkpointed", "bf16", "compiled", "kernels", "n_parts", "expected"), RUNS)  # fmt: skip
def test_the_memory_of_a_step_of_a_run(
    recipe, n, checkpointed, bf16, compiled, kernels, n_parts, expected
):
    """The total is what it was when each caller added up the parts itself."""
    config = dataclasses.replace(
        load_recipe(recipe), compile=compiled, checkpoint_activations=checkpointed
    )
    found = step_memory(config, n, bf16=bf16, kernels=kernels, n_parts=n_parts)
    assert found.total == expected
    whole = training_memory(
        config.model, n, bf16=bf16, optim=config.optim, compiled=compiled,
        checkpointed=checkpointed, kernels=kernels,
    )  # fmt: skip
    shared = {"optimizer", "average"}
    assert found._asdict() == {
        part: size // n_parts if part in shared else size for part, size in whole.items()
    }


# Peaks of PyTorch 2.11's CUDA allocator in compiled bf16 steps, recorded with kernels that compute
# nothing: recipe, vocabulary, windows at once, peak bytes, and Triton kernels.
BY_DEFAULT = ("qkv_norm_rope", "relu2_ffn")
PEAKS = [
    ("leaderboard", 32_000, 128, 51_165_542_400, ()),
    ("leaderboard", 32_000, 256, 95_207_307_264, ()),
    ("leaderboard", 32_000, 32, 18_134_218_752, ()),
    ("small-gpu", 32_000, 16, 3_882_494_464, ()),
    ("small-gpu", 16_000, 32, 4_559_546_880, ()),
    ("small-gpu", 32_000, 64, 9_747_507_712, ()),
    ("baseline", 32_000, 256, 56_434_214_400, ()),
    ("baseline", 32_000, 16, 5_511_934_464, ()),
    ("leaderboard", 32_000, 128, 44_649_199_616, BY_DEFAULT),
    ("leaderboard", 32_000, 256, 82_173_016_064, BY_DEFAULT),
    ("leaderboard", 32_000, 32, 16_506_337_280, BY_DEFAULT),
    ("small-gpu", 32_000, 16, 3_654_396_416, BY_DEFAULT),
    ("small-gpu", 32_000, 64, 8_833_640_960, BY_DEFAULT),
]


@pytest.mark.parametrize(("recipe", "vocab_size", "micro_batch", "peak", "kernels"), PEAKS)
def test_the_formula_is_a_little_above_recorded_peaks(
    recipe, vocab_size, micro_batch, peak, kernels
):
    config = load_recipe(recipe)
    model = dataclasses.replace(config.model, vocab_size=vocab_size)
    config = dataclasses.replace(config, model=model, compile=True)
    found = step_memory(config, micro_batch, bf16=True, kernels=kernels).total
    assert 0.99 * peak < found < 1.05 * peak


def test_what_a_checkpoint_holds():
    """It holds the weights and AdamW's two moments; a mean of the tail is a further copy."""
    config = load_recipe("baseline")
    n_parameters = count_parameters(config.model)
    assert step_memory(config, 1, bf16=True).saved == 3 * 4 * n_parameters == 1_314_358_272
    optim = dataclasses.replace(config.optim, average_tail=0.1)
    with_mean = step_memory(dataclasses.replace(config, optim=optim), 1, bf16=True)
    assert with_mean.saved == 4 * 4 * n_parameters


def test_all_ask_for_the_memory_of_a_step_in_one_place():
    root = Path(__file__).resolve().parents[2] / "fastlm"
    asking = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if re.search(r"\btraining_memory\(", path.read_text(encoding="utf-8"))
    }
    assert asking == {"accounting/memory.py"}


@pytest.mark.parametrize("room", [0, 9, 10, 11, 29, 1000, 12_345])
def test_the_largest_batch_is_the_last_that_fits(room):
    def needed(n_windows: int) -> int:
        return 7 + 3 * n_windows

    assert largest_batch(needed, room) == max(
        (n for n in range(5000) if n and needed(n) <= room), default=0
    )


def test_memory_of_weights_gradients_and_adamw_is_16_bytes_a_parameter():
    memory = training_memory(GPT2["gpt2-xl"], 1)
    fixed = memory["parameters"] + memory["gradients"] + memory["optimizer"]
    assert fixed == 16 * count_parameters(GPT2["gpt2-xl"])
    assert training_memory(GPT2["gpt2-xl"], 4)["activations"] == 4 * memory["activations"]
