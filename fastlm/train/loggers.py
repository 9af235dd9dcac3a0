"""Log rows forwarded to TensorBoard or Weights & Biases, without ever blocking a run.

log.jsonl is the record; the forwarded rows are a copy that may have gaps.
"""

import contextlib
import json
import math
import queue
import secrets
import sys
import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from fastlm.cli import unknown
from fastlm.files import disk
from fastlm.runs.run_files import RunFiles

MOST_QUEUED = 1_000
"""Length of the queue of unsent rows; rows beyond it are dropped."""
CLOSE_SECONDS = 5.0
"""Time that the end of a run waits for unsent rows."""

_PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb"}
_PLACES = ("step", "kind")


class Target(Protocol):
    """A receiver of log rows; every method may be slow or fail."""

    def send(self, step: int, values: dict[str, float]) -> None:
        """Take the numbers of one row."""

    def close(self) -> None:
        """Flush and close."""


class Logger:
    """Queues rows for a thread, which opens the target and sends them.

    Rows are dropped when the queue is full. The first error is reported, later ones are counted.

    Args:
        name: name of the target in messages.
        open_target: called in the thread, because it may wait for a network.
        say: prints a line.
    """

    def __init__(
        self, name: str, open_target: Callable[[], Target], say: Callable[[str], None]
    ) -> None:
        self.name, self.say = name, say
        self.n_lost = 0
        """Number of rows that were dropped, or that the target did not take."""
        self._rows: queue.Queue[dict[str, Any] | None] = queue.Queue(MOST_QUEUED)
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._send_all, args=(open_target,), daemon=True)
        self._thread.start()

    def log(self, row: dict[str, Any]) -> None:
        """Queue a log row; returns at once."""
        try:
            self._rows.put_nowait(row)
        except queue.Full:
            self.n_lost += 1

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Wait a little for unsent rows, and report how many were not sent."""
        self._is_closing.set()
        with contextlib.suppress(queue.Full):
            self._rows.put_nowait(None)  # wakes a thread that waits for rows
        self._thread.join(seconds)
        n_left = sum(row is not None for row in list(self._rows.queue))
        if self._thread.is_alive():
            self.say(
                f"warning: {self.name} has not finished after {seconds:g} s and is left: "
                f"{n_left + self.n_lost:,} rows were not sent; the log has them all"
            )
        elif self.n_lost:
            self.say(
                f"warning: {self.n_lost:,} rows were not sent to {self.name}; the log has them"
            )

    def _send_all(self, open_target: Callable[[], Target]) -> None:
        target: Target | None = None
        is_told = False
        while (row := self._next()) is not None:
            try:
                target = target or open_target()
                values = numbers(row)
                if values:
                    target.send(int(row.get("step", 0)), values)
            except (Exception, SystemExit) as error:  # a foreign package may raise anything
                self.n_lost += 1
                if not is_told:
                    is_told = True
                    self.say(f"warning: {self.name} does not take a row: {_one_line(error)}")
                if target is None:
                    break  # trying to open it again would take time for every row
        try:
            if target is not None:
                target.close()
        except (Exception, SystemExit) as error:
            self.say(f"warning: {self.name} was not closed: {_one_line(error)}")
        while target is None and self._next() is not None:
            self.n_lost += 1

    def _next(self) -> dict[str, Any] | None:
        """The next row; None when the run is over and no row is left."""
        while True:
            try:
                row = self._rows.get(block=not self._is_closing.is_set())
            except queue.Empty:
                return None
            if row is not None:
                return row


def numbers(row: dict[str, Any]) -> dict[str, float]:
    """The finite numbers of a log row, with names that loggers group: "train/loss"."""
    kind = str(row.get("kind")).replace(" ", "_")
    return {
        f"{kind}/{name}": value
        for name, value in row.items()
        if name not in _PLACES
        and isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
    }


def check_logger(name: str) -> None:
    """Check that a logger's package is installed, before the run starts.

    Raises:
        ValueError: for an unknown logger or a missing package.
    """
    if name == "none":
        return
    if name not in _PACKAGES:
        raise ValueError(unknown("logger", name, ("none", *_PACKAGES)))
    package = _PACKAGES[name]
    if package not in sys.modules and find_spec(package) is None:
        raise ValueError(
            f"--logger {name} needs a package that is not installed: pip install {package}, or "
            "leave the flag out"
        )


def open_logger(
    name: str,
    folder: Path,
    config: dict[str, Any],
    *,
    first_step: int,
    say: Callable[[str], None],
) -> Logger | None:
    """Open a logger for the run in a folder; None for "none".

    Args:
        name: none, tensorboard or wandb, checked by check_logger.
        config: the run's configuration, as plain values.
        first_step: step that a run resumes from; rows sent after it are hidden or overwritten.
        say: prints a line.
    """
    if name == "none":
        return None
    kind = TensorBoard if name == "tensorboard" else WandB
    return Logger(name, lambda: kind(folder, config, first_step), say)


class TensorBoard:
    """Event files in RUN/tensorboard: `tensorboard --logdir RUN` shows them."""

    def __init__(self, folder: Path, config: dict[str, Any], first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # Rows after the step that a run is resumed from are hidden.
        purge = first_step + 1 if first_step else None
        self.writer: Any = SummaryWriter(str(RunFiles(folder).tensorboard), purge_step=purge)
        self.writer.add_text("config", f"```\n{json.dumps(config, indent=2)}\n```")

    def send(self, step: int, values: dict[str, float]) -> None:
        """Write one row's numbers."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close the event file."""
        self.writer.close()


class WandB:
    """A run of Weights & Biases; a resumed run keeps its id there.

    Project, entity and offline mode are W&B's own settings (WANDB_PROJECT, WANDB_MODE ...).
    """

    def __init__(self, folder: Path, config: dict[str, Any], first_step: int) -> None:
        import wandb

        path = RunFiles(folder).wandb_id
        if not (first_step and path.is_file()):
            disk.write_file(path, f"{secrets.token_hex(4)}\n".encode(), replace=True)
        self.run: Any = wandb.init(
            id=path.read_text(encoding="utf-8").strip(),
            resume="allow",
            name=folder.name,
            dir=str(folder),
            config=config,
        )
        # An own step axis: W&B's steps can only increase, and a resumed run goes back.
        self.run.define_metric("step")
        self.run.define_metric("*", step_metric="step")

    def send(self, step: int, values: dict[str, float]) -> None:
        """Log one row's numbers."""
        self.run.log({"step": step, **values})

    def close(self) -> None:
        """Finish the W&B run, which sends the remaining rows."""
        self.run.finish()


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
