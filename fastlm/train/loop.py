"""The loop over steps, from the first to the one that a budget or a signal ends."""

import contextlib
import gc
import time
from collections.abc import Iterator

from fastlm.cli.console import StatusLine
from fastlm.train.signals import Stopped
from fastlm.train.trainer import Trainer


def begin(trainer: Trainer, status: StatusLine) -> None:
    """Compile, learn how long things take, and validate a model that was not trained yet."""
    if trainer.config.compile:
        status.say("compiling ...")
    trainer.warm_up()
    if trainer.step == 0:
        _evaluate_if_due(trainer, status)


def run(trainer: Trainer, status: StatusLine) -> str:
    """Train, after begin(), until a budget or a signal ends it; returns why.

    Raises:
        Diverged: if more steps were not finite than may be left out.
    """
    with collected_by_hand():
        return _run(trainer, status)


def _run(trainer: Trainer, status: StatusLine) -> str:
    config, stream = trainer.config, trainer.stream()
    trainer.clock.begin_steps()
    with contextlib.suppress(Stopped):  # a resumed run makes up for one that was cut short
        _evaluate_if_due(trainer, status)
    mark, n_logged = time.perf_counter(), trainer.n_windows
    trainer.side_seconds = 0.0
    while (reason := trainer.should_stop()) is None:
        loss, norm = trainer.train_step(stream)
        if trainer.step == 1 or trainer.step % config.log_every == 0:
            trainer.read_watch()
            now = time.perf_counter()
            n_windows = trainer.n_windows - n_logged
            status.update(trainer.log(loss.item(), norm.item(), n_windows, now - mark))
            mark, n_logged = now, trainer.n_windows
        with contextlib.suppress(Stopped):
            _evaluate_if_due(trainer, status)
        if trainer.step % config.checkpoint_every == 0 or trainer.wants_retry:
            trainer.save()
        for line in trainer.news():
            status.say(line)
    trainer.read_watch()  # of the steps since the last log row
    return reason


def _evaluate_if_due(trainer: Trainer, status: StatusLine) -> None:
    if trainer.step % trainer.config.eval_every or trainer.step == trainer.evaluated_step:
        return
    val_loss = trainer.evaluate(trainer.config.eval_tokens).loss
    trainer.evaluated_step = trainer.step
    status.say(f"step {trainer.step:,}: validation loss {val_loss:.4f}")
    gc.collect()


@contextlib.contextmanager
def collected_by_hand() -> Iterator[None]:
    """Collect nothing inside but where gc.collect() is called, and never what is there before."""
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
