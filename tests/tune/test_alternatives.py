"""Which alternatives a machine has, and that flags of the user close dimensions."""

import dataclasses

import pytest
import torch

from fastlm.config import ModelConfig, OptimConfig, TrainConfig
from fastlm.config.recipes import load_recipe
from fastlm.tune import alternatives
from fastlm.tune.alternatives import automatic_attention, dimensions, used_ops

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """Eight cores with bfloat16."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(alternatives, "available_cores", lambda: 8)
    monkeypatch.setattr(alternatives, "cpu_has_bf16", lambda: True)


def named(config: TrainConfig) -> list[str]:
    """The Triton operations of a configuration, on a GPU where all of them work."""
    default = "qkv_norm_rope,relu2_ffn" if config.triton_ops == "auto" else config.triton_ops
    return [] if default == "none" else default.split(",")


def names(
    config: TrainConfig, device: torch.device = CPU, opened=(), largest: int = 16
) -> list[str]:
    found = dimensions(
        config, device, largest=lambda config: largest, kernels=named, n_threads=8, opened=opened
    )
    return [one.what for dimension in found for one in dimension(config)]


def test_a_cpu_tries_compilation_threads_dtypes_and_micro_batches():
    tiny = load_recipe("tiny")
    assert names(tiny, opened=("compile", "bf16")) == [
        "4 threads", "7 threads", "--compile", "--bf16", "micro-batch 8", "optimizer bfloat16",
    ]  # fmt: skip
    compiled = dataclasses.replace(tiny, compile=True)
    assert names(compiled) == [
        "4 threads", "7 threads", "micro-batch 8", "compile scope block", "optimizer bfloat16",
    ]  # fmt: skip


def test_without_bfloat16_in_hardware_a_cpu_does_not_try_it(monkeypatch):
    monkeypatch.setattr(alternatives, "cpu_has_bf16", lambda: False)
    found = names(load_recipe("tiny"), opened=("compile", "bf16"))
    assert found == ["4 threads", "7 threads", "--compile", "micro-batch 8"]


def test_what_a_flag_or_the_recipe_sets_is_not_tried(monkeypatch):
    given = dataclasses.replace(
        load_recipe("stories"), micro_batch=4, threads=3, optimizer_dtype="float32", compile=True
    )
    assert given.compile_scope == "block"  # the recipe's own
    assert names(given) == []
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert "4 threads" not in names(load_recipe("tiny"))


def test_the_search_for_a_micro_batch_goes_on_from_where_it_is():
    config = dataclasses.replace(
        load_recipe("tiny"), threads=8, optimizer_dtype="float32", compile_scope="step"
    )
    (dimension,) = dimensions(config, CPU, largest=lambda config: 8, kernels=named, n_threads=8)
    sizes = {
        size: [one.changes["micro_batch"] for one in dimension(changed)]
        for size in ("auto", 8, 4, 1)
        for changed in [dataclasses.replace(config, micro_batch=size)]
    }
    # Eight are what "auto" stands for.
    assert sizes == {"auto": [4], 8: [4], 4: [2], 1: [2]}


def test_a_gpu_tries_attention_each_operation_of_triton_and_the_unit_of_compilation():
    pytest.importorskip("triton")
    config = dataclasses.replace(load_recipe("leaderboard"), compile=True, bf16=True)
    assert names(config, CUDA, opened=("fp8",), largest=128) == [
        "attention cudnn", "attention flash",
        "Triton linear_cross_entropy", "Triton adamw", "without Triton qkv_norm_rope",
        "without Triton relu2_ffn",
        "Triton add_rms_norm", "Triton rms_norm", "Triton symmetric_product",
        "attention efficient", "attention Triton",
        "micro-batch 64", "compile scope block", "--fp8",
    ]  # fmt: skip
    given = dataclasses.replace(config, triton_ops="none", compile_scope="step")
    assert names(given, CUDA, largest=128) == ["micro-batch 64"]


def test_the_kernel_of_attention_that_is_taken_anyway_is_not_tried():
    config = dataclasses.replace(load_recipe("leaderboard"), compile=True, bf16=True)
    for automatic in ("cudnn", "flash", "efficient"):
        found = dimensions(
            config, CUDA, largest=lambda config: 1, kernels=named, n_threads=8, attention=automatic
        )
        tried = [one.what for dimension in found for one in dimension(config)]
        kernels = {"cudnn", "flash", "efficient"}
        assert {name for name in kernels if f"attention {name}" in tried} == kernels - {automatic}


def test_pytorch_says_which_kernel_it_takes():
    """On a CPU that is the one called flash."""
    assert automatic_attention(load_recipe("tiny"), CPU, torch.float32) == "flash"


def test_operations_of_triton_are_turned_on_and_off_one_by_one():
    pytest.importorskip("triton")
    config = dataclasses.replace(load_recipe("baseline"), triton_ops="auto")
    found = dimensions(config, CUDA, largest=lambda config: 1, kernels=named, n_threads=8)
    changed = dataclasses.replace(config, triton_ops="attention,swiglu")
    ways = {one.what: one.changes for dimension in found for one in dimension(changed)}
    assert ways["Triton adamw"] == {"triton_ops": "adamw,attention,swiglu"}
    assert ways["without Triton swiglu"] == {"triton_ops": "attention"}
    assert ways["attention flash"] == {"attention": "flash"}
    assert "attention Triton" not in ways


@pytest.mark.parametrize(
    ("recipe", "used", "unused"),
    [
        (
            "leaderboard",
            {"qkv_norm_rope", "relu2_ffn", "symmetric_product"},
            {"swiglu", "rotate_pairs"},
        ),
        (
            "baseline",
            {"rotate_pairs", "swiglu", "rms_norm"},
            {"qkv_norm_rope", "symmetric_product"},
        ),
    ],
)
def test_only_operations_that_the_step_uses_are_tried(recipe, used, unused):
    state = torch.get_rng_state()
    found = used_ops(load_recipe(recipe))
    assert used | {"adamw", "attention", "linear_cross_entropy", "add_rms_norm"} <= found
    assert not unused & found
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("optimizer", ["sgd", "adagrad", "muon"])
def test_a_network_of_any_kind_has_its_operations_found(optimizer):
    network = ModelConfig(
        norm="post", position="none", ffn="silu", ngram_rows=100, unet_skip=True, backout=True,
        tie_weights=False,
    )  # fmt: skip
    config = TrainConfig(model=network, optim=OptimConfig(name=optimizer), max_steps=1)
    found = used_ops(config)
    assert {"silu_ffn", "attention"} <= found
    assert ("symmetric_product" in found) == (optimizer == "muon")
