"""Benchmark how micro-batches are gathered, at the size of the OpenWebText sample.

It has 2.7 thousand million tokens in windows of 512. A micro-batch has 128 windows, as that of the
leaderboard recipe on an H100. extra_info has the windows a second.
"""

import numpy as np
import torch

from fastlm.data import windows

N_TOKENS, CONTEXT, WINDOWS = 2_727_000_000, 512, 128


def bench_windows(benchmark):
    tokens = np.zeros(N_TOKENS, np.uint16)  # in memory, as a file is that was read before
    stream = windows.batches(
        tokens,
        first_window=0,
        micro_batch=WINDOWS,
        context_length=CONTEXT,
        sampling="shuffled",
        seed=0,
        device=torch.device("cpu"),
    )
    next(stream)  # draws the order of the epoch
    inputs, targets = benchmark(lambda: next(stream))
    assert inputs.shape == targets.shape == (WINDOWS, CONTEXT)
    benchmark.extra_info["windows a second"] = round(WINDOWS / benchmark.stats["median"])
