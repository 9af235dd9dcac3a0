"""Inputs of products of float8, and checks of such products that short and long tests share."""

import dataclasses

import torch

from fastlm.config import ModelConfig
from fastlm.model import TransformerLM, init_weights
from fastlm.ops import torch_ops, with_float8
from fastlm.ops.float8 import float8_linear
from fastlm.optim import AdamW

MODEL = ModelConfig(vocab_size=64, context_length=16, n_layers=2, d_model=32, n_heads=2, d_ff=64)


def inputs(rows=48, d_in=32, d_out=80, dtype=torch.bfloat16, size=1.0):
    rng = torch.Generator().manual_seed(0)
    shapes = ((rows, d_in), (d_out, d_in), (rows, d_out))
    x, weight, dy = (torch.randn(s, generator=rng).to(dtype) * size for s in shapes)
    return x.requires_grad_(), weight.requires_grad_(), dy


def check_it_is_one_graph() -> None:
    x, weight, dy = inputs()

    def run(function):
        y = function(x, weight)
        return y, *torch.autograd.grad(y, (x, weight), dy)

    compiled = torch.compile(float8_linear, fullgraph=True, dynamic=False)
    for ours, eager in zip(run(compiled), run(float8_linear), strict=True):
        torch.testing.assert_close(ours, eager, rtol=2**-7, atol=2e-2)


def check_a_model_learns_by_it_as_without(ffn: str) -> None:
    ids = torch.randint(0, 64, (4, 17), generator=torch.Generator().manual_seed(1))

    def losses(ops):
        config = dataclasses.replace(MODEL, ffn=ffn, attention_gate=True)
        model = TransformerLM(config, ops=ops, compute_dtype=torch.bfloat16)
        init_weights(model, 0)
        optimizer = AdamW(model.parameters(), lr=1e-2)
        found = []
        for _ in range(30):
            loss = model.loss(ids[:, :-1], ids[:, 1:])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            found.append(loss.item())
        return torch.tensor(found)

    plain, float8 = losses(torch_ops), losses(with_float8(torch_ops))
    assert not torch.equal(plain, float8)
    assert plain[-1] < 0.5 * plain[0]
    torch.testing.assert_close(float8, plain, rtol=0.1, atol=0.05)
