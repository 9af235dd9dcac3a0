"""Time the training step with each kernel in turn, which decides the kernels that auto selects.

A kernel may be faster alone and make the step slower, because torch.compile can no longer fuse the
operation with its neighbours. So each kernel is timed in the steps of two recipes, which together
use every operation that has a kernel.
"""

import dataclasses
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from kernel_timing import interleaved

import kernels
from fastlm.config import TrainConfig
from fastlm.config.recipes import load_recipe
from fastlm.data.prepared import PreparedData, Split
from fastlm.ops import Ops, torch_ops
from fastlm.train.assemble import Setup
from fastlm.train.trainer import Trainer

RECIPES = ("leaderboard", "baseline")
BATCH_SIZE = 64
MARGIN = 0.995  # share of the time without the kernel; a smaller gain is noise
PROGRESS = 0.5  # share of the run before the step: past the warm-up, weights still tied
CPU = torch.device("cpu")


class StepRow(NamedTuple):
    """Median milliseconds of a recipe's step with a kernel, or with "all", and without kernels."""

    recipe: str
    kernel: str
    ms: float
    ms_without: float


def _small(config: TrainConfig) -> TrainConfig:
    """The same recipe with sizes for a CPU."""
    model = dataclasses.replace(
        config.model, vocab_size=64, context_length=8, n_layers=1, d_model=16, n_heads=2, d_ff=32
    )
    return dataclasses.replace(config, model=model, batch_size=2)


def random_data(config: TrainConfig) -> PreparedData:
    """Random token ids, enough for one batch."""
    vocab_size = config.model.vocab_size
    n_tokens = (config.batch_size + 2) * config.model.context_length
    ids = np.random.default_rng(0).integers(vocab_size, size=n_tokens, dtype=np.uint16)
    split = Split(ids, 0, (), "")
    return PreparedData(Path(), vocab_size, "", train=split, val=split)


def _step(
    config: TrainConfig, ops: Ops, device: torch.device, *, compiled: bool = True
) -> Callable[[], None]:
    """A call that takes a training run's step, on the same batch each time."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    config = dataclasses.replace(config, compile=compiled, bf16=dtype == torch.bfloat16)
    trainer = Trainer(config, random_data(config), Setup(device, dtype, config.compile, (), ops))
    # One batch that stays on the device: the time to load windows is no kernel's.
    stream = itertools.repeat(next(trainer.stream()))

    def step() -> None:
        trainer.train_step(stream, stage=0, progress=PROGRESS)
        trainer.guard.take_unread()  # else the records of all steps would stay in memory

    return step


def small_step(recipe: str, ops: Ops) -> Callable[[], None]:
    """A call that takes a recipe's step on a CPU, at sizes for a CPU and not compiled."""
    return _step(_small(load_recipe(recipe)), ops, CPU, compiled=False)


def kernels_of(recipe: str) -> list[str]:
    """Names of the kernels whose operation a step of the recipe calls."""
    called: set[str] = set()

    def watched(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            called.add(name)
            return getattr(torch_ops, name)(*arguments, **options)

        return call

    ops = torch_ops._replace(**{name: watched(name) for name in kernels.OPS})
    small_step(recipe, ops)()
    return [name for name in kernels.OPS if name in called]


def steps_to_time(names: list[str]) -> list[tuple[str, str]]:
    """(recipe, kernel) for each name in each recipe that uses it, and "all" for those recipes."""
    found = []
    for recipe in RECIPES:
        used = [name for name in kernels_of(recipe) if name in names]
        found += [(recipe, name) for name in (*used, *(["all"] if used else []))]
    return found


def time_step(recipe: str, kernel: str, device: torch.device) -> StepRow:
    """Time a step with and without a kernel, alternating because the GPU's clock changes."""
    config = dataclasses.replace(load_recipe(recipe), batch_size=BATCH_SIZE)
    if device.type != "cuda":
        config = _small(config)
    names = kernels.OPS if kernel == "all" else [kernel]
    ops = torch_ops._replace(**{name: kernels.OPS[name] for name in names})
    calls = {"without": _step(config, torch_ops, device), "with": _step(config, ops, device)}
    times = interleaved(calls, device, seconds=2.0, max_rounds=40, has_lead=False)
    torch.compiler.reset()
    return StepRow(recipe, kernel, times["with"].median_ms, times["without"].median_ms)


def winners(folder: Path, unmeasured: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the kernels that make every step of every record in the folder faster.

    Args:
        unmeasured: the names if there is no record.
    """
    records: list[list[StepRow]] = []
    for path in sorted(folder.glob("*.json")):
        record = json.loads(path.read_text())
        if isinstance(record, dict) and record.get("training_steps"):
            records.append([StepRow(**row) for row in record["training_steps"]])
    if not records:
        return unmeasured
    slower = {r.kernel for rows in records for r in rows if r.ms >= MARGIN * r.ms_without}
    timed = set.intersection(*({r.kernel for r in rows} for rows in records))
    return tuple(sorted(timed.intersection(kernels.OPS) - slower))
