"""Time calls fairly: interleaved, with a cold second-level cache; medians and peak memory.

On a GPU, CUDA events measure times. The stream sleeps before each call for longer than the host
needs to launch it, then flushes the cache: the GPU never waits for the host in the middle of a
call, which would be the time of a kernel below 0.2 ms. On a CPU, which only tests this program,
wall-clock time is measured.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple, Protocol

import torch

Call = Callable[[], object]

_FIRST_LEAD_MS = 0.2
_LONGEST_LEAD_MS = 50.0
"""A call that needs the host for longer waits for the GPU itself, or fills the queue of launches"""


class Timing(NamedTuple):
    """Times of one call in milliseconds, and its memory.

    Attributes:
        n_host_bound: rounds, of n_rounds, in which the GPU may have waited for the host.
        peak_extra_bytes: peak of allocated memory above that before the call; 0 on a CPU.
    """

    median_ms: float
    fastest_ms: float
    n_rounds: int
    n_host_bound: int
    peak_extra_bytes: int


class Once(NamedTuple):
    """One call: its time, and whether the GPU may have waited for the host in it."""

    ms: float
    is_host_bound: bool


class Stopwatch(Protocol):
    """Starts a call, and returns a function that waits for its end."""

    def __call__(self, call: Call, lead_ms: float) -> Callable[[], Once]: ...


class GpuStopwatch:
    """Times of calls on a GPU by events; each has a sleep of the stream and a flush before it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # Larger than any second-level cache.
        self._flush = torch.empty(256 << 20, dtype=torch.uint8, device=device)

    def __call__(self, call: Call, lead_ms: float) -> Callable[[], Once]:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        if lead_ms > 0:
            torch.cuda._sleep(int(lead_ms * cycles_per_ms(self._device)))
        self._flush.zero_()
        begin.record()
        call()
        end.record()
        # Everything is launched: if the GPU has not yet begun, it will not wait for the host.
        is_late = begin.query()

        def wait() -> Once:
            end.synchronize()
            return Once(begin.elapsed_time(end), is_late)

        return wait


def _wall_clock(call: Call, lead_ms: float) -> Callable[[], Once]:
    began = time.perf_counter()
    call()
    once = Once((time.perf_counter() - began) * 1e3, False)
    return lambda: once


@lru_cache
def cycles_per_ms(device: torch.device, n: int = 20_000_000) -> float:
    """Cycles of torch.cuda._sleep in a millisecond, at the clock rate of a GPU at work."""
    for _ in range(2):  # the first call wakes the GPU up
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        torch.cuda._sleep(n)
        end.record()
        end.synchronize()
    return n / begin.elapsed_time(end)


def lead_for(call: Call, watch: Stopwatch) -> float:
    """Milliseconds for which the stream sleeps while the host launches a call: twice its need.

    0 for a call in which the host waits for the GPU, and for one with more launches than a stream
    queues: there the GPU waits for the host however long it sleeps.
    """
    lead_ms = _FIRST_LEAD_MS
    while lead_ms <= _LONGEST_LEAD_MS:
        if not watch(call, lead_ms)().is_host_bound:
            return 2 * lead_ms
        lead_ms *= 2
    return 0.0


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
    calls: Mapping[str, Call],
    device: torch.device,
    *,
    seconds: float = 0.3,
    max_rounds: int = 200,
    has_lead: bool = True,
) -> dict[str, Timing]:
    """Time the calls in turn, round after round, so that all run at the same clock rates.

    Args:
        seconds: about the time to spend on each call; there are at least 5 rounds.
        has_lead: whether a GPU sleeps before each call, so that the time is that of its kernels.
            Without, the time is that of a call among others, to which the host may belong: right
            for a training step, whose launches are more than a stream queues.
    """
    watch: Stopwatch = GpuStopwatch(device) if device.type == "cuda" else _wall_clock
    peaks, leads = {}, {}
    for name, call in calls.items():
        for _ in range(2):  # compile and choose algorithms
            call()
        peaks[name] = _peak_extra_bytes(call, device)
        leads[name] = lead_for(call, watch) if has_lead else 0.0
    began = time.perf_counter()
    for name, call in calls.items():
        watch(call, leads[name])()
    longest = (time.perf_counter() - began) / len(calls)
    n_rounds = min(max(int(seconds / max(longest, 1e-6)), 5), max_rounds)
    waits: dict[str, list[Callable[[], Once]]] = {name: [] for name in calls}
    for _ in range(n_rounds):
        for name, call in calls.items():
            waits[name].append(watch(call, leads[name]))
    return {
        name: _timing([wait() for wait in started], peaks[name]) for name, started in waits.items()
    }


def _timing(times: list[Once], peak: int) -> Timing:
    ms = [once.ms for once in times]
    n_late = sum(once.is_host_bound for once in times)
    return Timing(statistics.median(ms), min(ms), len(ms), n_late, peak)


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
