"""Counts against the published GPT-2 XL figures, hand counts and PyTorch's own FLOP counter."""

import dataclasses

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from fastlm.accounting import (
    GPT2,
    adamw_flops,
    count_parameters,
    forward_flops,
    forward_flops_by_part,
    parameters_by_part,
    training_flops_per_token,
)
from fastlm.config import ModelConfig
from fastlm.devices.chips import peak_flops
from fastlm.model import TransformerLM

GPT2_XL = GPT2["gpt2-xl"]


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
        # With so many heads, the rows of the gates need no padding, which is no work of the model.
        {"ffn": "relu2", "attention_gate": True, "d_model": 128, "n_heads": 64, "qk_norm": True},
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


@pytest.mark.parametrize(("name", "context"), [*((n, 1024) for n in GPT2), ("gpt2-xl", 16_384)])
def test_gpt2_sizes_have_the_parameters_and_flops_of_the_real_modules(name, context):
    """The modules are made of fake tensors, which have shapes and no values."""
    config = dataclasses.replace(GPT2[name], context_length=context)
    with FakeTensorMode():
        model = TransformerLM(config)
        tokens = torch.zeros(1, context, dtype=torch.int64)
        with FlopCounterMode(display=False) as counter:
            model.loss(tokens, tokens)
    assert sum(p.numel() for p in model.parameters()) == count_parameters(config)
    assert counter.get_total_flops() == forward_flops(config, context)


PARTS = {
    "token_embeddings": "token embedding",
    "attn.gate": "gates",
    "value_gate": "gates",
    "norm": "norms",
    "ln": "norms",
    "attn": "attention",
    "ffn": "feed-forward",
    "value_embed": "value embeddings",
    "ngram": "n-gram tables",
    "lm_head": "output head",
}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"tie_weights": False, "qk_norm": True, "norm_gain": True, "attention_gate": True},
        {"value_embeddings": True, "ngram_rows": 50, "ngram_width": 20, "norm": "none"},
        {"residual_scalars": True, "x0_scalars": True, "unet_skip": True, "backout": True},
    ],
    ids=str,
)
def test_parameters_by_part_are_those_of_the_modules_of_that_name(change):
    config = dataclasses.replace(
        ModelConfig(vocab_size=300, context_length=64, n_layers=4, d_model=64, n_heads=4), **change
    )
    counted: dict[str, int] = {}
    for name, p in TransformerLM(config).named_parameters():
        part = next((part for word, part in PARTS.items() if word in name), "scalars")
        counted[part] = counted.get(part, 0) + p.numel()
    assert counted == parameters_by_part(config)


def test_attentions_share_grows_with_the_context():
    """The handout's question: 7 % of GPT-2 XL's FLOPs at 1,024, 55 % at 16,384."""
    shares = []
    for context in (1024, 16_384):
        parts = forward_flops_by_part(GPT2_XL, context)
        shares.append(parts["attention: scores and values"] / sum(parts.values()))
    assert shares == [pytest.approx(0.0714, abs=1e-4), pytest.approx(0.5515, abs=1e-4)]


def test_adamw_is_counted_operation_by_operation():
    """As in SPEC's formula, each operation on a tensor of the parameter's shape counts once."""
    n_operations = 0

    class Counted:
        def __add__(self, other):
            nonlocal n_operations
            n_operations += 1
            return self

        __radd__ = __mul__ = __rmul__ = __sub__ = __truediv__ = __pow__ = __add__

    beta1, beta2, rate, decay, eps = 0.9, 0.95, 0.1, 0.1, 1e-8
    theta, g, m, v = Counted(), Counted(), Counted(), Counted()
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    theta = theta - rate * m / (v**0.5 + eps)
    theta = theta - rate * decay * theta
    assert adamw_flops(GPT2_XL) == n_operations * count_parameters(GPT2_XL)


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
        ("NVIDIA A100-PCIE-40GB", 312e12),
        ("NVIDIA H100 NVL", 835.5e12),
        ("NVIDIA H200 NVL", 835.5e12),
        ("NVIDIA GH200 480GB", 989.5e12),
        ("NVIDIA B200", 2250e12),
        ("NVIDIA GB200", 2500e12),
        ("NVIDIA L40", 181e12),
        ("NVIDIA L4-24GB", 121e12),
        ("Tesla T4", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("NVIDIA A100-SXM4-80GB MIG 3g.40gb", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA GeForce RTX 3090 Ti", None),
        ("NVIDIA B300", None),
    ],
)
def test_peaks_are_found_by_the_drivers_names(name, peak):
    assert peak_flops(name) == peak
