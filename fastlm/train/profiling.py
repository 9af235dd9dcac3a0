"""Profile of a training step: time by part, and a trace of whole steps.

Each part (attention of all layers, head with its loss ...) is timed on its own, forward and
backward, and compiled if the step is: inside a compiled step, parts are fused and cannot be told
apart. The rest of the step's time is embedding, additions, and the gain or loss by fusion. Parts
and whole steps are timed in turn, so that other work on the machine slows all of them alike.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._C._autograd import DeviceType
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from fastlm.accounting import forward_flops
from fastlm.data.windows import Batch
from fastlm.files import disk
from fastlm.model import TransformerBlock
from fastlm.optim import clip_gradients
from fastlm.train.loop import Training
from fastlm.train.trainer import Trainer

_ROUNDS = 7
_HEADER = "| part | ms | share of the step | TFLOP/s | MFU |"
_TRACE = '{\n  "schemaVersion"'
"""The beginning of the traces that torch.profiler writes"""


class Part(NamedTuple):
    """A part of a training step; flops count its matrix products, forward and backward."""

    name: str
    seconds: float
    flops: float


class _Timed(NamedTuple):
    """A call to time; `before` runs ahead of it and is not timed. A step has it n_times."""

    name: str
    call: Callable[[], Any]
    n_times: int = 1
    flops: float = 0.0
    before: Callable[[], None] = lambda: None


class StepProfile(NamedTuple):
    """The time of a training step, by part.

    Attributes:
        seconds: median time of a whole step.
        idle: share of the step in which the GPU computes and copies nothing; None on a CPU, and
            where the profiler sees no GPU.
        peak_flops: bf16 peak of the chip, FLOP/s; None if unknown.
    """

    parts: list[Part]
    seconds: float
    idle: float | None
    peak_flops: float | None

    def table(self) -> str:
        """Markdown table: milliseconds, share of the step, FLOP/s and MFU of each part."""
        rest = self.seconds - sum(part.seconds for part in self.parts)
        flops = sum(part.flops for part in self.parts)
        rows = [*self.parts, Part("rest", rest, 0.0), Part("step", self.seconds, flops)]
        lines = [
            _HEADER,
            "| --- | --- | --- | --- | --- |",
        ]
        for part in rows:
            rate = part.flops / part.seconds if part.seconds > 0 else 0.0
            mfu = f"{rate / self.peak_flops:.1%}" if self.peak_flops and part.flops else ""
            shown = f"{rate / 1e12:.3g}" if part.flops else ""
            lines.append(
                f"| {part.name} | {part.seconds * 1e3:.2f} | {part.seconds / self.seconds:.1%} | "
                f"{shown} | {mfu} |"
            )
        if self.idle is not None:
            lines.append(f"| idle | {self.idle * self.seconds * 1e3:.2f} | {self.idle:.1%} |  |  |")
        return "\n".join(lines)


def profile_step(
    run: Training, stream: Iterator[Batch], trace: Path, *, n_steps: int = 5
) -> StepProfile:
    """Time the parts of a step, then whole training steps, and write a trace of some of them.

    Args:
        trace: path of the trace, for chrome://tracing or https://ui.perfetto.dev.
    """
    trainer = run.trainer

    def step() -> None:
        decision = run.stopping.decide(trainer.step, trainer.tokens)
        trainer.train_step(stream, stage=decision.stage, progress=decision.progress)

    timed = [
        *_parts(trainer, stream),
        _Timed("step", step, before=lambda: _drop_gradients(trainer)),
    ]
    *medians, seconds = _median_seconds(timed, trainer.device)
    parts = [
        Part(part.name, median * part.n_times, part.flops)
        for part, median in zip(timed[:-1], medians, strict=True)
    ]
    on_gpu = trainer.device.type == "cuda"
    kinds = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if on_gpu else [])
    _wait(trainer.device)
    with profile(activities=kinds) as profiled:
        for _ in range(n_steps):
            step()
        _wait(trainer.device)
    with disk.whole_file(trace, replace=True) as file:
        profiled.export_chrome_trace(file.name)
    # The shares are of the step that was timed without the profiler, which slows the host down.
    busy = busy_seconds(profiled.events()) / n_steps if on_gpu else 0.0
    idle = max(0.0, 1 - busy / seconds) if busy else None
    return StepProfile(parts, seconds, idle, run.telling.peak_flops)


def device_events(events: Iterable[FunctionEvent]) -> list[FunctionEvent]:
    """Kernels, copies and fills among the events of a profile.

    An operation that launched kernels counts their time as its own, and a named range of the host
    is there once more, as long as all kernels launched in it: both are left out.
    """
    return [e for e in events if e.device_type != DeviceType.CPU and not e.is_user_annotation]


def busy_seconds(events: Iterable[FunctionEvent]) -> float:
    """Seconds in which a GPU did anything; what ran on several streams at once counts once."""
    intervals = sorted((e.time_range.start, e.time_range.end) for e in device_events(events))
    busy, until = 0.0, -math.inf
    for begin, end in intervals:
        busy += max(0.0, end - max(begin, until))
        until = max(until, end)
    return busy / 1e6


def profile_run(run: Training) -> StepProfile:
    """Profile a run that has not started; writes profile.md and trace.json into its folder.

    Raises:
        FileExistsError: if a file of somebody else has one of these names.
    """
    for path, begin in ((run.record.files.profile, _HEADER), (run.record.files.trace, _TRACE)):
        if path.is_file() and not path.read_bytes().startswith(begin.encode()):
            raise FileExistsError(f"{path} is no earlier profile: move it away")
    stream = run.trainer.stream()
    run.warm_up()
    run.clock.begin_steps()
    files = run.record.files
    found = profile_step(run, stream, files.trace)
    disk.write_file(files.profile, f"{found.table()}\n".encode(), replace=True)
    return found


def _parts(trainer: Trainer, stream: Iterator[Batch]) -> list[_Timed]:
    config, model = trainer.config.model, trainer.model
    batch_size = trainer.batch_sizes[0]
    n_micro = batch_size // trainer.micro_batch
    n_layers, t, d = config.n_layers, config.context_length, config.d_model
    block = model.layers[-1]
    assert isinstance(block, TransformerBlock)
    ids, targets = next(stream)

    def activations() -> Tensor:
        x = torch.randn(len(ids), t, d, device=trainer.device)
        return x.to(model.compute_dtype).requires_grad_()

    x, other, value = activations(), activations(), activations()
    has_value = block.attn.value_gate is not None

    def attention() -> Any:
        return block.attn(x, value_embedding=value if has_value else None)

    def feed_forward() -> Any:
        return block.ffn(x)

    def norms() -> Any:
        normed, total = model.ops.add_rms_norm(x, other, block.ln2.weight, block.ln2.eps)
        return block.ln1(x) + normed + total

    def head() -> Any:
        softcap = config.logit_softcap
        options = {} if softcap is None else {"softcap": softcap}
        return model.ops.linear_cross_entropy(x, model.output_weight, targets, **options)

    # Attention gets the total FLOPs minus those of the other parts.
    tokens = batch_size * t
    per_token = 3 * forward_flops(config, t) / t
    head_flops = 6 * d * config.vocab_size
    n_ffn_matrices = 3 if config.ffn == "swiglu" else 2
    ffn_flops = 6 * n_layers * n_ffn_matrices * d * config.ffn_width
    calls: list[tuple[str, Callable[[], Any], int, float]] = [
        ("attention", attention, n_layers, per_token - head_flops - ffn_flops),
        ("feed-forward", feed_forward, n_layers, ffn_flops),
        ("head and loss", head, 1, head_flops),
    ]
    if config.norm != "none":
        calls.insert(2, ("norms", norms, n_layers, 0.0))
    parts = []
    for name, function, times, flops in calls:
        compiled = torch.compile(function, dynamic=False) if trainer.config.compile else function
        parts.append(_Timed(name, _with_gradients(compiled), times * n_micro, flops * tokens))

    def gradients() -> None:
        _drop_gradients(trainer)
        trainer.add_gradients(stream, n_micro_batches=n_micro)

    norm = trainer.config.optim.max_grad_norm
    # As in training: with `applies`, for which a compiled optimizer has another graph, and after a
    # backward pass each time, that of the clipping: a step consumes the gradients.
    applies = torch.ones((), dtype=torch.bool, device=trainer.device)
    return [
        *parts,
        _Timed(
            "gradient clipping", lambda: clip_gradients(trainer.parameters, norm), before=gradients
        ),
        _Timed("optimizer", lambda: trainer.update(applies)),
        _Timed("data", lambda: [next(stream) for _ in range(n_micro)]),
    ]


def _with_gradients(function: Callable[[], Tensor]) -> Callable[[], None]:
    def call() -> None:
        result = function()
        result.backward(torch.ones_like(result))

    return call


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _drop_gradients(trainer: Trainer) -> None:
    for optimizer in trainer.optimizers:
        optimizer.zero_grad(set_to_none=True)


def _median_seconds(timed: Sequence[_Timed], device: torch.device) -> list[float]:
    """Median time of each call in seconds; all are timed in turn, in each round."""
    seconds: list[list[float]] = [[] for _ in timed]
    for n in range(2 + _ROUNDS):
        for one, times in zip(timed, seconds, strict=True):
            one.before()
            _wait(device)
            began = time.perf_counter()
            one.call()
            _wait(device)
            if n >= 2:  # after those that compile and warm up
                times.append(time.perf_counter() - began)
    return [statistics.median(times) for times in seconds]
