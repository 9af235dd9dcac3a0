"""Time training steps of recipes on a GPU: tokens per second, MFU, memory, kernels, a trace.

    python bench/gpu_day_steps.py leaderboard baseline --out steps.json [flags of fastlm.train]

The step is compiled and in bfloat16. The tokens are made up: they are as fast as a text's.
"""

import argparse
import gc
import itertools
import math
import statistics
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

import torch  # noqa: E402
from day_rows import Rows, exit_by_signal, one_line  # noqa: E402
from torch._dynamo.utils import counters  # noqa: E402
from torch.profiler import ProfilerActivity, profile  # noqa: E402

from fastlm.accounting import training_flops_per_token  # noqa: E402
from fastlm.config import TrainConfig  # noqa: E402
from fastlm.data.windows import Batch  # noqa: E402
from fastlm.devices.hardware import (  # noqa: E402
    chip_peak_flops,
    choose_device,
    configure_cuda,
    describe,
    peak_memory,
)
from fastlm.train.assemble import set_up  # noqa: E402
from fastlm.train.command import configuration  # noqa: E402
from fastlm.train.loop import manual_garbage_collection  # noqa: E402
from fastlm.train.profiling import busy_seconds, device_events  # noqa: E402
from fastlm.train.trainer import Trainer  # noqa: E402
from fastlm.tune.made_tokens import made_data  # noqa: E402

PROGRESS = 0.1
"""Share of a run after which its steps are like most: warmed up"""
_MOST_KERNELS = 40
_SHARE = 0.65
"""Share of the time that is left, for a recipe that others follow: most of it compiles"""


class Stepping:
    """A recipe's training, and what its steps are measured by."""

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self.setup = set_up(config)
        self.trainer = Trainer(config, made_data(config), self.setup)
        self._stream: Iterator[Batch] = self.trainer.stream()

    def step(self) -> torch.Tensor:
        """Take a step, without waiting for it."""
        loss, _ = self.trainer.train_step(self._stream, stage=0, progress=PROGRESS)
        self.trainer.guard.take_unread()
        return loss

    def wait(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds_of_steps(
        self, seconds: float, most: int = 200
    ) -> tuple[list[float], list[float], float]:
        """Seconds of each step, seconds of the host in it, and mean seconds by the wall clock.

        On a GPU the first are those between events after the steps: the host goes on meanwhile.

        Args:
            seconds: about the time to spend.
        """
        self.step()
        self.wait()
        began = time.perf_counter()
        self.step()
        self.wait()
        n = min(max(5, math.ceil(seconds / (time.perf_counter() - began))), most)
        marks, host, first = [self._mark()], [], time.perf_counter()
        for _ in range(n):
            began = time.perf_counter()
            self.step()
            host.append(time.perf_counter() - began)
            marks.append(self._mark())
        self.wait()
        wall = (time.perf_counter() - first) / n
        return [_between(a, b) for a, b in itertools.pairwise(marks)], host, wall

    def _mark(self) -> Any:
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def waits(self) -> dict[str, int]:
        """Where the host waits for the GPU in a step, and how often."""
        if self.device.type != "cuda":
            return {}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                self.step()
            finally:
                torch.cuda.set_sync_debug_mode("default")
        found = (f"{w.filename}:{w.lineno}" for w in caught if "called a sync" in str(w.message))
        return dict(Counter(place.removeprefix(f"{ROOT}/") for place in found))

    def profile(self, step_seconds: float, trace: Path | None) -> dict[str, Any]:
        """Kernels of a step with their times, and the share in which the GPU is idle."""
        kinds = [ProfilerActivity.CPU]
        kinds += [ProfilerActivity.CUDA] if self.device.type == "cuda" else []
        self.wait()
        with profile(activities=kinds) as profiled:
            self.step()
            self.wait()
        events = device_events(profiled.events())
        times: Counter[str] = Counter()
        for event in events:
            times[event.name] += event.time_range.elapsed_us() / 1e3
        calls = Counter(event.name for event in events)
        if trace is not None:
            profiled.export_chrome_trace(str(trace))  # compressed, as its name ends with .gz
        if not events:
            return {"kernels": "the profiler saw no GPU"}
        busy = busy_seconds(events)
        return {
            "n_kernels": len(events),
            "busy_ms": busy * 1e3,
            "idle": max(0.0, 1 - busy / step_seconds),
            "kernels": [
                {"name": name[:160], "ms": ms, "n": calls[name]}
                for name, ms in times.most_common(_MOST_KERNELS)
            ],
        }


def _between(a: Any, b: Any) -> float:
    return b - a if isinstance(a, float) else a.elapsed_time(b) / 1e3


def measure(
    recipe: str, flags: list[str], rows: Rows, seconds: float, trace: Path | None
) -> dict[str, Any]:
    """Take steps of a recipe for about so many seconds; figures go to its row as they come."""
    config = configuration(["--recipe", recipe, "--compile", "--bf16", *flags])
    device = choose_device(config.device)
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    stepping = Stepping(config, device)
    trainer, found = stepping.trainer, {"machine": describe(device)}

    def tell(**figures: Any) -> None:
        found.update(figures)
        rows.add(recipe, **found)

    tell(flags=flags, notices=list(stepping.setup.notices), kernels=stepping.setup.kernels)
    began = time.perf_counter()
    losses = [stepping.step().item() for _ in range(3)]
    tell(compile_seconds=time.perf_counter() - began, first_losses=losses)
    n_graphs = counters["stats"]["unique_graphs"]
    with manual_garbage_collection():
        times, host, wall = stepping.seconds_of_steps(seconds)
    median = statistics.median(times)
    n_tokens = config.batch_sizes[0] * config.model.context_length
    per_token = training_flops_per_token(config.model, config.model.context_length)
    peak = chip_peak_flops(device)
    tell(
        tokens_per_second=n_tokens / median,
        mfu=None if peak is None else per_token * n_tokens / median / peak,
        step_ms=median * 1e3,
        fastest_ms=min(times) * 1e3,
        slowest_ms=max(times) * 1e3,
        host_ms=statistics.median(host) * 1e3,
        wall_ms=wall * 1e3,
        n_steps=len(times),
        tokens_per_step=n_tokens,
        flops_per_token=per_token,
        micro_batch=trainer.micro_batch,
        planned_bytes=trainer.memory.needed,
        peak_bytes=peak_memory(device),
        graphs_compiled_while_timed=counters["stats"]["unique_graphs"] - n_graphs,
    )
    tell(waits_of_the_host=stepping.waits())
    try:
        tell(profile=stepping.profile(median, trace))
    except Exception as error:  # the profiler's: the times above are as good without it
        tell(profile={"error": one_line(error)})
    return found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--trace", type=Path, help="NAME.json.gz: a trace of the first recipe")
    parser.add_argument("--seconds", type=float, default=10.0, help="timed steps of each recipe")
    parser.add_argument("--bound", type=float, default=600.0, help="seconds for all recipes")
    arguments, flags = parser.parse_known_args(argv)
    configure_cuda(bf16=True)
    try:
        rows = Rows(arguments.out)
    except ValueError as error:
        parser.error(str(error))
    deadline = time.perf_counter() + arguments.bound
    for recipe in arguments.recipes:
        is_last = recipe == arguments.recipes[-1]
        bound = (1.0 if is_last else _SHARE) * (deadline - time.perf_counter())
        trace = arguments.trace if recipe == arguments.recipes[0] else None
        do = partial(measure, recipe, flags, rows, arguments.seconds, trace)
        rows.work(recipe, do, seconds=bound)
        torch.compiler.reset()
    return rows.exit_code()


if __name__ == "__main__":
    import signal

    signal.signal(signal.SIGTERM, exit_by_signal)
    sys.exit(main())
