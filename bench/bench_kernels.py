"""Benchmark kernels beside eager and compiled PyTorch, Liger and quack, at one shape each.

On a GPU, extra_info has the median of CUDA events with a cold cache, bytes and FLOPs per second,
and their share of the rate that a copy or a matrix product reaches in the same run.
bench/gpu_kernels.py measures all shapes, interleaved. Without a GPU, the benchmark times
compilation for A100, H100 and B200 instead, and extra_info has the registers and shared memory of
the kernels and the bytes and FLOPs of their shapes.
"""

import json
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

from gpu_kernels import Refused, directions, dtype_of, figures, first_call
from kernel_peers import OTHERS, contenders, measured_options
from kernel_timing import copy_gb_per_second, interleaved, matrix_tflops

from kernels.cases import OPS

ROOT = Path(__file__).resolve().parent.parent
HAS_GPU = torch.cuda.is_available()
CASES = [
    pytest.param(name, who, id=f"{name}-{who}")
    for name in OPS
    for who in ("eager", "torch.compile", "fastlm", "Liger", "quack", *OTHERS.get(name, {}))
]


@lru_cache
def limits() -> tuple[float, float]:
    """(GB/s of a copy, TFLOP/s of a matrix product) on this GPU."""
    device = torch.device("cuda")
    return copy_gb_per_second(device), matrix_tflops(device)


@pytest.mark.gpu
@pytest.mark.parametrize(("name", "who"), CASES)
def bench_kernel(benchmark, name, who):
    function = contenders(name).get(who)
    if function is None:
        pytest.skip(f"{who} is not installed, or has no such operation")
    op, device = OPS[name], torch.device("cuda")
    shape, dtype, options = op.large[0], dtype_of(name), measured_options(name)
    inputs = op.make(shape, options, dtype, device, torch.Generator().manual_seed(0))
    moved, flops = op.bytes_moved(shape, dtype.itemsize), op.flops(shape, options)
    gb_per_second, tflops = limits()
    calls = {}
    for direction in directions(name, inputs):
        try:
            calls[direction] = first_call(who, function, inputs, direction)
        except Refused as refused:
            pytest.skip(f"{who} refuses this case: {refused}")
    for direction, call in calls.items():
        which = 1 if direction == "backward" else 0
        found = figures(interleaved({who: call}, device)[who], moved[which], flops[which])
        found["share_of_copy"] = found["gb_per_second"] / gb_per_second
        if "tflops" in found:
            found["share_of_matrix_product"] = found["tflops"] / tflops
        benchmark.extra_info[direction] = found
    call = next(iter(calls.values()))

    def synchronised() -> None:
        call()
        torch.cuda.synchronize()

    benchmark.pedantic(synchronised, rounds=20, warmup_rounds=3)


@pytest.mark.skipif(HAS_GPU, reason="this GPU measures times instead")
@pytest.mark.parametrize("name", OPS)
def bench_compiling_for_gpus(benchmark, name, tmp_path):
    """Compile all configurations of an operation for sm_80, sm_90 and sm_100."""
    path = tmp_path / "report.json"

    def compile_all() -> None:
        # A new process compiles kernels; this one interprets them.
        environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
        command = [sys.executable, "bench/kernel_aot.py", "--ops", name, "--json", str(path)]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)

    benchmark.pedantic(compile_all, rounds=1)
    op, itemsize = OPS[name], dtype_of(name).itemsize
    benchmark.extra_info |= {
        "cases": [
            {
                "shape": list(shape),
                "bytes_moved": op.bytes_moved(shape, itemsize),
                "flops": op.flops(shape, measured_options(name)),
            }
            for shape in op.large
        ],
        "resources": json.loads(path.read_text())["rows"],
    }
