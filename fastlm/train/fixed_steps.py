"""How many steps a time budget holds, measured before the first: a run that can be repeated.

A schedule on a clock follows the machine, and no two runs of it are alike. Here real
steps of each batch size, a validation and a checkpoint are timed, everything is put back, and the
run becomes one of so many steps: --max-steps with that number gives it again, without a clock.
"""

import bisect
import copy
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from fastlm.checkpoint import SavedRun, take_snapshot, write_snapshot
from fastlm.checkpoint.tree import host_copy
from fastlm.cli.console import StatusLine
from fastlm.config import TrainConfig
from fastlm.data.windows import Batch
from fastlm.train.trainer import Trainer

_ROUNDS, _STEPS = 3, 3
_SPARE = 0.01  # of the time: a run that is a little slower than its probe still comes to its end


def fix_steps(trainer: Trainer, status: StatusLine) -> None:
    """Give a run on a time budget, before its first step, the max_steps that the budget holds.

    The number goes into the trainer's configuration, config.json and the log. Model, optimizers and
    data are afterwards as they were, and the probe counts on the budget's clock. A signal ends it
    without a number.
    """
    assert trainer.step == 0, "the steps before would have had another schedule"
    before = copied(trainer)
    stream = trainer.stream()
    n_parts = len(trainer.config.batch_sizes)
    step_seconds = [_step_seconds(trainer, stream, part) for part in range(n_parts)]
    if trainer.stop_reason() is None:
        trainer.saver.seconds = _save_seconds(trainer)
    trainer.restore(before)
    if trainer.stop_reason() is not None:
        return
    for seconds, size in zip(step_seconds, trainer.config.batch_sizes, strict=True):
        trainer.budget.window_seconds.append(seconds / size)
    n_steps = trainer.ranks.of_first(_fitting_steps(trainer, step_seconds))
    trainer.use_config(dataclasses.replace(trainer.config, max_steps=n_steps))
    trainer.record.write_config(trainer.config)
    trainer.record.log(
        {
            "kind": "probe",
            "step": 0,
            "max_steps": n_steps,
            "step_seconds": step_seconds,
            "micro_batch": trainer.micro_batch,
            "elapsed_seconds": round(trainer.clock.elapsed, 3),
        }
    )
    status.say(f"{n_steps:,} steps fit: --max-steps {n_steps} in place of the time repeats the run")


def copied(trainer: Trainer) -> SavedRun:
    """Copies of all that Trainer.restore puts back; those of the weights are on the CPU."""
    return SavedRun(
        step=trainer.step,
        state=trainer.state(),
        model={name: host_copy(t) for name, t in trainer.model.state_dict().items()},
        optimizers=[copy.deepcopy(optimizer.state_dict()) for optimizer in trainer.optimizers],
        about={},
    )


def _step_seconds(trainer: Trainer, stream: Iterator[Batch], part: int) -> float:
    """Median over rounds of steps; a signal cuts it short."""
    loss, _ = trainer.step_of_part(stream, part)  # allocates
    loss.item()
    rounds = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        for _ in range(_STEPS):
            loss, _ = trainer.step_of_part(stream, part)
        loss.item()  # as in training, the device is waited for after several steps
        rounds.append((time.perf_counter() - began) / _STEPS)
        if trainer.stop_reason() is not None:
            break
    return statistics.median(rounds)


def _save_seconds(trainer: Trainer) -> float:
    """Of a checkpoint with the state that optimizers have only after a step."""
    began = time.perf_counter()
    snapshot = take_snapshot(trainer.step, trainer.model, trainer.optimizers, trainer.state(), {})
    if trainer.ranks.is_first:
        with tempfile.TemporaryDirectory(dir=trainer.record.folder) as folder:
            write_snapshot(Path(folder), snapshot)
    return time.perf_counter() - began


def _fitting_steps(trainer: Trainer, step_seconds: Sequence[float]) -> int:
    config = trainer.config
    assert config.time_budget is not None
    available = config.time_budget - trainer.budget.reserve - trainer.clock.elapsed
    eval_tokens = min(config.eval_tokens, len(trainer.data.val.tokens))
    n_steps = steps_within(
        (1 - _SPARE) * available,
        config,
        step_seconds=step_seconds,
        eval_seconds=statistics.median(trainer.budget.eval_seconds_per_token) * eval_tokens,
        save_seconds=trainer.saver.seconds,
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
    """The most steps that fit in the seconds, with validations and checkpoints on the way; >= 1.

    Args:
        step_seconds: of a step of each of config.batch_sizes.
    """

    def needed(n_steps: int) -> float:
        parts = zip(config.steps_in_parts(n_steps), step_seconds, strict=True)
        n_evals, n_saves = n_steps // config.eval_every, n_steps // config.checkpoint_every
        return sum(n * s for n, s in parts) + n_evals * eval_seconds + n_saves * save_seconds

    most = max(0, int(seconds / min(step_seconds)))
    return max(1, bisect.bisect_right(range(most + 1), seconds, key=needed) - 1)
