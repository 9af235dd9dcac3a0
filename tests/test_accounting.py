"""Counts against the published GPT-2 XL figures, hand counts and PyTorch's own FLOP counter."""

import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from fastlm.accounting import (
    count_parameters,
    forward_flops,
    peak_flops,
    training_flops_per_token,
    training_memory,
)
from fastlm.config import ModelConfig
from fastlm.model import TransformerLM

GPT2_XL = ModelConfig(
    vocab_size=50_257,
    context_length=1024,
    n_layers=48,
    d_model=1600,
    n_heads=25,
    d_ff=6400,
    tie_weights=False,
)


def test_gpt2_xl_has_the_published_size():
    assert count_parameters(GPT2_XL) == 2_127_057_600
    assert forward_flops(GPT2_XL, 1024) / 1e12 == pytest.approx(4.5133, abs=5e-5)
    assert forward_flops(GPT2_XL, 16_384) / 1e12 == pytest.approx(149.52, abs=5e-3)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"ffn": "silu"},
        {"tie_weights": False, "norm": "post"},
        {"ffn": "relu2", "attention_gate": True, "qk_norm": True, "n_layers": 3},
        {"value_embeddings": True, "ngram_rows": 50, "ngram_width": 20, "zero_init": True},
    ],
    ids=str,
)
def test_flops_equal_those_that_torch_counts(change):
    config = dataclasses.replace(
        ModelConfig(vocab_size=300, context_length=64, n_layers=2, d_model=64, n_heads=4), **change
    )
    model = TransformerLM(config)
    with FlopCounterMode(display=False) as counter:
        model.loss(torch.zeros(3, 64, dtype=torch.int64), torch.zeros(3, 64, dtype=torch.int64))
    assert counter.get_total_flops() == 3 * forward_flops(config, 64)
    with FlopCounterMode(display=False) as counter:
        model.loss(
            torch.zeros(1, 64, dtype=torch.int64), torch.zeros(1, 64, dtype=torch.int64)
        ).backward()
    assert counter.get_total_flops() == 64 * training_flops_per_token(config, 64)


def test_memory_of_weights_gradients_and_adamw_is_16_bytes_a_parameter():
    memory = training_memory(GPT2_XL, 1)
    fixed = memory["parameters"] + memory["gradients"] + memory["optimizer"]
    assert fixed == 16 * count_parameters(GPT2_XL)
    assert training_memory(GPT2_XL, 4)["activations"] == 4 * memory["activations"]


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989.5e12),
        ("NVIDIA H100 PCIe", 756.5e12),
        ("NVIDIA H200", 989.5e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA GeForce RTX 4090", 165.2e12),
        ("Tesla T4", None),
    ],
)
def test_peaks_are_found_by_the_drivers_names(name, peak):
    assert peak_flops(name) == peak
