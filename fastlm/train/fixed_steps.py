"""fix_steps: measure before step 1 how many steps fit a time budget, for a reproducible schedule.

A schedule that follows the clock depends on the machine, so no two runs are alike. The probe times
real steps of each batch size and a checkpoint, restores everything, and sets max_steps:
--max-steps with that number repeats the run without a clock.
"""

import bisect
import copy
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from fastlm.checkpoint import SavedRun, take_snapshot, write_snapshot
from fastlm.checkpoint.tree import host_copy
from fastlm.cli.console import StatusLine
from fastlm.config import TrainConfig
from fastlm.data.windows import Batch
from fastlm.train.loop import Training

_ROUNDS, _STEPS = 3, 3
_SPARE = 0.01  # share of the time kept free, so that a run slower than its probe still finishes


def fix_steps(run: Training, status: StatusLine) -> None:
    """Set max_steps of a run, before its first step, to as many as fit its time budget.

    The number is written to the run's configuration, config.json and the log. Model, optimizers
    and data are restored afterwards; the probe's time counts on the budget. A signal ends the
    probe without a number.
    """
    trainer, saver = run.trainer, run.saving.saver
    assert trainer.step == 0, "earlier steps had another schedule"
    before = copied(run)
    stream = trainer.stream()
    stages = range(len(trainer.batch_sizes))
    began = time.perf_counter()
    step_seconds = [_step_seconds(run, stream, stage) for stage in stages]
    if run.stopping.asked() is None:
        saver.expect(_save_seconds(run))
    run.saving.restore(before)
    run.start_seconds["the probe"] = time.perf_counter() - began
    if run.stopping.asked() is not None:
        return
    for seconds, size in zip(step_seconds, trainer.batch_sizes, strict=True):
        run.budget.window_seconds.append(seconds / size)
    n_steps = trainer.ranks.of_first(_fitting_steps(run, step_seconds))
    run.use_config(dataclasses.replace(run.config, max_steps=n_steps))
    run.record.write_config(run.config)
    run.telling.log(
        trainer,
        "probe",
        max_steps=n_steps,
        step_seconds=step_seconds,
        micro_batch=trainer.micro_batch,
    )
    status.say(
        f"{n_steps:,} steps fit: --max-steps {n_steps} in place of --time-budget repeats the run"
    )


def copied(run: Training) -> SavedRun:
    """Copy everything that Saving.restore restores, with the weights on the CPU."""
    trainer = run.trainer
    return SavedRun(
        step=trainer.step,
        state=run.saving.state(),
        model={name: host_copy(t) for name, t in trainer.model.state_dict().items()},
        optimizers=[copy.deepcopy(optimizer.state_dict()) for optimizer in trainer.optimizers],
        manifest={},
    )


def _step_seconds(run: Training, stream: Iterator[Batch], stage: int) -> float:
    """Seconds per step of a stage, median over rounds of steps; a signal cuts it short."""

    def step() -> Tensor:
        progress = run.stopping.decide(run.trainer.step, run.trainer.tokens).progress
        return run.trainer.train_step(stream, stage=stage, progress=progress)[0]

    step().item()  # the first step allocates memory
    rounds = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        for _ in range(_STEPS):
            loss = step()
        loss.item()  # as in training, wait for the device only after several steps
        rounds.append((time.perf_counter() - began) / _STEPS)
        if run.stopping.asked() is not None:
            break
    return statistics.median(rounds)


def _save_seconds(run: Training) -> float:
    """Seconds of writing a checkpoint with optimizer state, which exists only after a step."""
    trainer, began = run.trainer, time.perf_counter()
    snapshot = take_snapshot(
        trainer.step, trainer.model, trainer.optimizers, run.saving.state(), {}
    )
    if trainer.ranks.is_first:
        with tempfile.TemporaryDirectory(dir=run.record.folder) as folder:
            write_snapshot(Path(folder), snapshot)
    return time.perf_counter() - began


def _fitting_steps(run: Training, step_seconds: Sequence[float]) -> int:
    config = run.config
    assert config.time_budget is not None
    available = config.time_budget - run.budget.reserve - run.clock.elapsed
    eval_tokens = min(config.eval_tokens, len(run.trainer.data.val.tokens))
    n_steps = steps_within(
        (1 - _SPARE) * available,
        config,
        step_seconds=step_seconds,
        eval_seconds=run.budget.eval_seconds_per_token.median * eval_tokens,
        save_seconds=run.saving.saver.seconds,
    )
    return n_steps if config.total_steps is None else min(n_steps, config.total_steps)


def steps_within(
    seconds: float,
    config: TrainConfig,
    *,
    step_seconds: Sequence[float],
    eval_seconds: float,
    save_seconds: float,
) -> int:
    """The most steps that fit in the seconds together with validations and checkpoints; >= 1.

    Args:
        step_seconds: seconds per step for each of config.batch_sizes.
    """

    def needed(n_steps: int) -> float:
        stages = zip(config.steps_in_stages(n_steps), step_seconds, strict=True)
        n_evals, n_saves = n_steps // config.eval_every, n_steps // config.checkpoint_every
        training = sum(n * s for n, s in stages) + n_evals * eval_seconds
        if config.checkpoint_minutes is not None:
            n_saves = max(n_saves, int(training / (60.0 * config.checkpoint_minutes)))
        return training + n_saves * save_seconds

    most = max(0, int(seconds / min(step_seconds)))
    return max(1, bisect.bisect_right(range(most + 1), seconds, key=needed) - 1)
