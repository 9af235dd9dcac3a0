"""Time calls fairly: interleaved, with a cold second-level cache; medians and peak memory.

On a GPU, CUDA events measure times, and the cache is flushed before each call. On a CPU, which only
tests this program, wall-clock time is measured.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

Call = Callable[[], object]


class Timing(NamedTuple):
    """Times of one call in milliseconds, and its memory.

    Attributes:
        peak_extra_bytes: peak of allocated memory above that before the call; 0 on a CPU.
    """

    median_ms: float
    fastest_ms: float
    n_rounds: int
    peak_extra_bytes: int


def _flush(device: torch.device) -> torch.Tensor:
    """A tensor larger than any second-level cache, so that writing to it flushes the cache."""
    size = 256 << 20 if device.type == "cuda" else 1
    return torch.empty(size, dtype=torch.uint8, device=device)


def _time_once(call: Call, device: torch.device, flush: torch.Tensor) -> Callable[[], float]:
    """Start a call, and return a function that waits for it and returns milliseconds."""
    flush.zero_()
    if device.type != "cuda":
        began = time.perf_counter()
        call()
        elapsed = (time.perf_counter() - began) * 1e3
        return lambda: elapsed
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    call()
    end.record()

    def wait() -> float:
        end.synchronize()
        return begin.elapsed_time(end)

    return wait


def _peak_extra_bytes(call: Call, device: torch.device) -> int:
    if device.type != "cuda":
        call()
        return 0
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def interleaved(
    calls: Mapping[str, Call], device: torch.device, *, seconds: float = 0.3, max_rounds: int = 200
) -> dict[str, Timing]:
    """Time the calls in turn, round after round, so that all run at the same clock rates.

    Args:
        seconds: about the time to spend on each call; there are at least 5 rounds.
    """
    flush = _flush(device)
    peaks = {}
    for name, call in calls.items():
        for _ in range(2):  # compile and choose algorithms
            call()
        peaks[name] = _peak_extra_bytes(call, device)
    longest = max(sum(_time_once(c, device, flush)() for c in calls.values()) / len(calls), 1e-3)
    n_rounds = min(max(int(seconds * 1e3 / longest), 5), max_rounds)
    waits: dict[str, list[Callable[[], float]]] = {name: [] for name in calls}
    for _ in range(n_rounds):
        for name, call in calls.items():
            waits[name].append(_time_once(call, device, flush))
    times = {name: [wait() for wait in started] for name, started in waits.items()}
    return {
        name: Timing(statistics.median(of), min(of), len(of), peaks[name])
        for name, of in times.items()
    }


def copy_gb_per_second(device: torch.device, n_bytes: int = 2 << 30) -> float:
    """GB/s of a copy of n_bytes, reads and writes counted."""
    x = torch.empty(n_bytes // 2, dtype=torch.bfloat16, device=device).normal_()
    y = torch.empty_like(x)
    timing = interleaved({"copy": lambda: y.copy_(x)}, device)["copy"]
    return 2 * n_bytes / timing.median_ms / 1e6


def matrix_tflops(device: torch.device, n: int = 8192) -> float:
    """TFLOP/s of a product of two n x n matrices of random bfloat16 numbers."""
    a, b = (torch.randn(n, n, device=device).bfloat16() for _ in range(2))
    timing = interleaved({"product": lambda: a @ b}, device)["product"]
    return 2 * n**3 / timing.median_ms / 1e9
