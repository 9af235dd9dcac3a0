"""Benchmark the training step, eager, compiled and in bfloat16, beside a GPT-2-shaped network.

A step has 4 layers, d_model 256, V 4,096, T 256 and 16 windows: 4,096 tokens. extra_info has tokens
per second of the median step, FLOPs per token, and their share of the rate that plain matrix
products of these shapes reach on this machine.
"""

import statistics
import time
from collections.abc import Callable

import pytest
import torch
from gpt2_shape import GPT2Shape

from fastlm.accounting import training_flops_per_token
from fastlm.config import ModelConfig
from fastlm.devices.hardware import choose_device, cpu_has_bf16, identity
from fastlm.model import TransformerLM, init_weights
from fastlm.ops import reference_ops, torch_ops
from fastlm.optim import AdamW, clip_gradients

CONFIG = ModelConfig(vocab_size=4096, context_length=256, n_layers=4, d_model=256, n_heads=4)
BATCH = 16
DEVICE = choose_device()


def matrix_rate(dtype: torch.dtype) -> float:
    """FLOP/s of the products that dominate the step, feed-forward and head: a median of 9."""
    tokens = BATCH * CONFIG.context_length
    flops, seconds = 0.0, 0.0
    for d_out in (CONFIG.ffn_width, CONFIG.vocab_size):
        x = torch.randn(tokens, CONFIG.d_model, device=DEVICE).to(dtype)
        w = torch.randn(d_out, CONFIG.d_model, device=DEVICE).to(dtype)
        times = []
        for _ in range(12):
            began = time.perf_counter()
            torch.nn.functional.linear(x, w)
            synchronize()
            times.append(time.perf_counter() - began)
        flops += 2 * tokens * CONFIG.d_model * d_out
        seconds += statistics.median(times[3:])
    return flops / seconds


def synchronize() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    shape = (BATCH, CONFIG.context_length + 1)
    ids = torch.randint(0, CONFIG.vocab_size, shape, generator=rng).to(DEVICE)
    return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()


def measure(
    benchmark,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    optimizer: torch.optim.Optimizer,
    flops_per_token: float,
    dtype: torch.dtype,
) -> None:
    inputs, targets = batch()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def step() -> None:
        loss(inputs, targets).backward()
        clip_gradients(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        synchronize()

    benchmark.pedantic(step, rounds=7, warmup_rounds=2)
    tokens_per_second = BATCH * CONFIG.context_length / benchmark.stats.stats.median
    rate = matrix_rate(dtype)
    benchmark.extra_info |= {
        "tokens_per_second": round(tokens_per_second),
        "flops_per_token": flops_per_token,
        "matrix_gflops_per_second": round(rate / 1e9, 1),
        "share_of_matrix_rate": round(tokens_per_second * flops_per_token / rate, 3),
        "device": identity(DEVICE)["name"],
        "threads": torch.get_num_threads(),
    }


def ours(benchmark, *, compiled: bool, dtype: torch.dtype, ops=torch_ops) -> None:
    model = TransformerLM(CONFIG, ops=ops, compute_dtype=dtype)
    init_weights(model, 0)
    model.to(DEVICE)
    loss = torch.compile(model.loss, fullgraph=True, dynamic=False) if compiled else model.loss
    flops = training_flops_per_token(CONFIG, CONFIG.context_length)
    measure(benchmark, loss, AdamW(model.parameters()), flops, dtype)


def bench_train_step_reference(benchmark):
    ours(benchmark, compiled=False, dtype=torch.float32, ops=reference_ops)


def bench_train_step_eager(benchmark):
    ours(benchmark, compiled=False, dtype=torch.float32)


def bench_train_step_compiled(benchmark):
    ours(benchmark, compiled=True, dtype=torch.float32)


@pytest.mark.skipif(
    DEVICE.type == "cpu" and not cpu_has_bf16(),
    reason="this CPU emulates bfloat16: a step takes half a minute and shows nothing",
)
def bench_train_step_compiled_bf16(benchmark):
    ours(benchmark, compiled=True, dtype=torch.bfloat16)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def bench_train_step_gpt2_shape(benchmark, compiled):
    torch.manual_seed(0)
    config = (
        CONFIG.vocab_size,
        CONFIG.context_length,
        CONFIG.n_layers,
        CONFIG.d_model,
        CONFIG.n_heads,
    )
    model = GPT2Shape(*config).to(DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    loss = torch.compile(model, fullgraph=True, dynamic=False) if compiled else model
    measure(benchmark, loss, optimizer, model.flops_per_token(CONFIG.context_length), torch.float32)
