"""The training loop, from the first step until a budget or a signal ends it."""

import contextlib
import gc
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch

from fastlm.cli.console import StatusLine
from fastlm.config import TrainConfig
from fastlm.evaluate.loss import Evaluation
from fastlm.optim.muon import Muon
from fastlm.runs.record import RunRecord
from fastlm.train.budget import Budget, Clock
from fastlm.train.saving import Saving
from fastlm.train.signals import Stopped
from fastlm.train.stopping import Stopping
from fastlm.train.telling import Telling
from fastlm.train.trainer import Trainer
from fastlm.train.watch import Diverged, Watch, last_step


@dataclass
class Training:
    """A run in progress: the trainer, with its budget, stopping, telling and saving."""

    trainer: Trainer
    record: RunRecord
    clock: Clock
    budget: Budget
    stopping: Stopping
    telling: Telling
    watch: Watch
    saving: Saving
    compile_seconds: float = 0.0
    """Seconds that warm_up() took to compile."""
    start_seconds: dict[str, float] = field(default_factory=dict)
    """Seconds spent before the first step, by the name of the work."""

    @property
    def config(self) -> TrainConfig:
        """The configuration, with the current budgets."""
        return self.trainer.config

    def use_config(self, config: TrainConfig) -> None:
        """Continue with other budgets."""
        self.trainer.use_config(config)
        self.budget.use_config(config)

    def warm_up(self) -> None:
        """Compile and time forward, backward and validation, without changing any state."""
        trainer = self.trainer
        shape = (trainer.micro_batch, trainer.config.model.context_length)
        # Two tensors: with one tensor twice, the graph would hold only for aliased inputs.
        inputs, targets = (
            torch.zeros(shape, dtype=torch.int64, device=trainer.device) for _ in range(2)
        )
        times = []
        for _ in range(2):
            began = time.perf_counter()
            loss = trainer.loss(inputs, targets)
            loss.item()
            forward_seconds = time.perf_counter() - began
            loss.backward()
            loss.item()  # waits for the device
            times.append(time.perf_counter() - began)
        for p in trainer.parameters:
            p.grad = None
        began = time.perf_counter()
        for optimizer in trainer.optimizers:
            if trainer.config.compile and isinstance(optimizer, Muon):
                optimizer.warm_up()
        self.compile_seconds = max(0.0, times[0] - times[1]) + time.perf_counter() - began
        self.start_seconds["compiling"] = self.compile_seconds if trainer.config.compile else 0.0
        self.budget.window_seconds.append(times[1] / trainer.micro_batch)
        self.budget.eval_seconds_per_token.append(forward_seconds / inputs.numel())

    def read_steps(self) -> None:
        """Read and log the steps since the last call; waits for the device.

        Raises:
            Diverged: if more than max_skipped_steps steps were not finite.
        """
        for step in self.watch.read(self.trainer.guard.take_unread()):
            self.telling.step(self.trainer, step)
            if step.is_one_too_many:
                raise Diverged(step)

    def check_steps_were_applied(self) -> None:
        """Raise Diverged if all steps so far were skipped: the weights are the initial ones."""
        n_steps = self.trainer.step
        if n_steps and int(self.trainer.guard.n_bad) >= n_steps:
            raise Diverged(last_step(self.trainer), "loss or gradients of all steps are")

    def check_data(self) -> None:
        """Log changes of the data; every checkpoint is written after this found none, or told."""
        self.telling.data(self.trainer, self.saving.saver.keep_newest)

    def save(self) -> float:
        """Write a checkpoint, after reading all steps; returns seconds that training waited."""
        self.read_steps()
        self.check_data()
        return self.saving.save()

    def renew_record(self) -> None:
        """Make the folder a whole run again if it was moved, removed or replaced."""
        with contextlib.suppress(OSError):  # such as a full disk, which the summary meets too
            self.saving.saver.make_ready()

    def evaluate(self, max_tokens: int | None) -> Evaluation:
        """Validate on about max_tokens of the file, or on all of it (None), and log the result.

        Raises:
            Diverged: if the loss is not finite.
            Stopped: if the run was asked to stop before the end.
        """
        result = self.trainer.evaluate(max_tokens, self.stopping.check)
        self.budget.eval_seconds_per_token.append(result.seconds / result.n_tokens)
        self.telling.validation(self.trainer, result)
        if not math.isfinite(result.loss):
            self.saving.abandon()
            raise Diverged(last_step(self.trainer), "the validation loss is")
        return result

    def news(self) -> list[str]:
        """Status lines about events since the last call."""
        return [*self.telling.news(), *self.saving.saver.news()]


def begin(run: Training, status: StatusLine, check_data: Callable[[], None] = lambda: None) -> None:
    """Compile and time the step, and validate the untrained model of a new run.

    Args:
        check_data: called before the first token is used; raises ValueError for damaged data.
    """
    if run.config.compile:
        status.say("compiling ...")
    run.warm_up()
    check_data()
    if run.trainer.step == 0:
        run.start_seconds["the first validation"] = _evaluate_if_due(run, status)


def loop(run: Training, status: StatusLine) -> str:
    """Train, after begin(), until a budget or a signal ends the run; returns the reason.

    Raises:
        Diverged: if more than max_skipped_steps steps were not finite.
    """
    with manual_garbage_collection():
        return _loop(run, status)


def _loop(run: Training, status: StatusLine) -> str:
    trainer, config = run.trainer, run.config
    stream = trainer.stream()
    run.clock.begin_steps()
    run.saving.saver.start_clock()
    with contextlib.suppress(Stopped):  # a resumed run repeats a validation that was cut short
        _evaluate_if_due(run, status)
    mark, n_logged = time.perf_counter(), trainer.n_windows
    side_seconds = 0.0  # validation and saving since the last log row
    while True:
        decision = run.stopping.decide(trainer.step, trainer.tokens)
        if decision.reason is not None:
            break
        loss, norm = trainer.train_step(stream, stage=decision.stage, progress=decision.progress)
        if trainer.step == 1 or trainer.step % config.log_every == 0:
            run.read_steps()
            now = time.perf_counter()
            n_windows = trainer.n_windows - n_logged
            window_seconds = max(1e-9, now - mark - side_seconds) / n_windows
            run.budget.window_seconds.append(window_seconds)
            speed = config.model.context_length / window_seconds
            status.update(run.telling.training(trainer, loss.item(), norm.item(), speed))
            mark, n_logged, side_seconds = now, trainer.n_windows, 0.0
        with contextlib.suppress(Stopped):
            side_seconds += _evaluate_if_due(run, status)
        if trainer.step % config.checkpoint_every == 0 or decision.saves:
            side_seconds += run.save()
        for line in run.news():
            status.say(line)
    run.read_steps()  # the steps since the last log row
    return decision.reason


def _evaluate_if_due(run: Training, status: StatusLine) -> float:
    """Validate if this step is due for it; returns the seconds it took."""
    trainer = run.trainer
    if trainer.step % run.config.eval_every or trainer.step == trainer.evaluated_step:
        return 0.0
    result = run.evaluate(run.config.eval_tokens)
    status.say(f"step {trainer.step:,}: validation loss {result.loss:.4f}")
    gc.collect()
    return result.seconds


FROZEN_BY_PYTHON = 10_000
"""No version of Python freezes more objects by itself; a caller who freezes has 100,000 and more.

Collections of Python 3.12 freeze its immortal objects, about 400.
"""


@contextlib.contextmanager
def manual_garbage_collection() -> Iterator[None]:
    """Disable automatic garbage collection; objects that exist on entry are frozen, never scanned.

    Python's collector starts whenever enough objects were made and pauses the host for longer the
    more objects there are; a GPU may run out of work meanwhile. Objects that the caller has frozen
    stay frozen, and those of the block with them: Python cannot thaw some of them.
    """
    was_enabled, was_frozen = gc.isenabled(), gc.get_freeze_count() > FROZEN_BY_PYTHON
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        if not was_frozen:
            gc.unfreeze()
        if was_enabled:
            gc.enable()
