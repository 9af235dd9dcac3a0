"""Inputs of products of float8, and the comparison of a compiled product with itself uncompiled."""

import torch

from fastlm.ops.float8 import float8_linear


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
