"""The loop over steps, from the first to the one that a budget or a signal ends."""

import contextlib
import gc
import time
from collections.abc import Iterator
from dataclasses import dataclass

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


@dataclass
class Training:
    """A run in progress: the trainer, and what decides, tells and saves around it."""

    trainer: Trainer
    record: RunRecord
    clock: Clock
    budget: Budget
    stopping: Stopping
    telling: Telling
    saving: Saving
    compile_seconds: float = 0.0
    """that warm_up() took to compile"""

    @property
    def config(self) -> TrainConfig:
        """The configuration with the budgets of now."""
        return self.trainer.config

    def use_config(self, config: TrainConfig) -> None:
        """Go on with other budgets."""
        self.trainer.use_config(config)
        self.budget.use_config(config)

    def warm_up(self) -> None:
        """Compile, and learn how long a step takes, without changing anything."""
        trainer = self.trainer
        shape = (trainer.micro_batch, trainer.config.model.context_length)
        # Two tensors: one in both places would be compiled for that case alone.
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
            loss.item()  # waits for all before it
            times.append(time.perf_counter() - began)
        for p in trainer.parameters:
            p.grad = None
        began = time.perf_counter()
        for optimizer in trainer.optimizers:
            if trainer.config.compile and isinstance(optimizer, Muon):
                optimizer.warm_up()
        self.compile_seconds = max(0.0, times[0] - times[1]) + time.perf_counter() - began
        self.budget.window_seconds.append(times[1] / trainer.micro_batch)
        self.budget.eval_seconds_per_token.append(forward_seconds / inputs.numel())

    def read_steps(self) -> None:
        """Look at the steps since this was last called; the device is waited for.

        Raises:
            Diverged: if more of them were not finite than may be left out.
        """
        self.telling.steps(self.trainer, self.trainer.guard.take_unread())

    def save(self) -> float:
        """Write a checkpoint, of finite steps alone; returns seconds that training waited."""
        self.read_steps()
        return self.saving.save()

    def evaluate(self, max_tokens: int | None) -> Evaluation:
        """Validate over the first max_tokens of the file, or over all of it (None); logged.

        Raises:
            Stopped: if the run was asked to stop before the end.
        """
        result = self.trainer.evaluate(max_tokens, self.stopping.check)
        self.budget.eval_seconds_per_token.append(result.seconds / result.n_tokens)
        self.telling.validation(self.trainer, result)
        return result

    def news(self) -> list[str]:
        """Lines for people on what happened since this was last called."""
        return [*self.telling.news(), *self.saving.saver.news()]


def begin(run: Training, status: StatusLine) -> None:
    """Compile, learn how long things take, and validate a model that was not trained yet."""
    if run.config.compile:
        status.say("compiling ...")
    run.warm_up()
    if run.trainer.step == 0:
        _evaluate_if_due(run, status)


def loop(run: Training, status: StatusLine) -> str:
    """Train, after begin(), until a budget or a signal ends it; returns why.

    Raises:
        Diverged: if more steps were not finite than may be left out.
    """
    with collected_by_hand():
        return _loop(run, status)


def _loop(run: Training, status: StatusLine) -> str:
    trainer, config, saver = run.trainer, run.config, run.saving.saver
    stream = trainer.stream()
    run.clock.begin_steps()
    with contextlib.suppress(Stopped):  # a resumed run makes up for a validation that was cut short
        _evaluate_if_due(run, status)
    mark, n_logged = time.perf_counter(), trainer.n_windows
    side_seconds = 0.0  # validation and saving since the last log row
    while True:
        reason, wants_retry = run.stopping.reason(
            trainer.step, trainer.tokens, wants_retry=saver.wants_retry
        )
        if reason is not None:
            break
        stage, progress = run.stopping.next_step(trainer.step)
        loss, norm = trainer.train_step(stream, stage=stage, progress=progress)
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
        if trainer.step % config.checkpoint_every == 0 or wants_retry:
            side_seconds += run.save()
        for line in run.news():
            status.say(line)
    run.read_steps()  # those since the last log row
    return reason


def _evaluate_if_due(run: Training, status: StatusLine) -> float:
    """Validate on the way if it is time; returns the seconds that took."""
    trainer = run.trainer
    if trainer.step % run.config.eval_every or trainer.step == trainer.evaluated_step:
        return 0.0
    result = run.evaluate(run.config.eval_tokens)
    status.say(f"step {trainer.step:,}: validation loss {result.loss:.4f}")
    gc.collect()
    return result.seconds


@contextlib.contextmanager
def collected_by_hand() -> Iterator[None]:
    """Disable automatic collection; objects that exist on entry are frozen and never scanned.

    Python looks for cycles whenever enough objects were made: a pause of the host at a moment of
    its own choice, longer the more objects a process has, in which a GPU may run out of work.
    """
    was_enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()
