"""Progress of a long command on standard error: a bar on a terminal, otherwise occasional lines."""

import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from fastlm.cli.progress import Progress as OnProgress
from fastlm.cli.units import human_seconds

LINE_SECONDS = 10.0  # between two lines without a terminal
_BAR_SECONDS = 0.1  # between two updates of a bar


class Meter:
    """Shows the progress of one task after another.

    >>> with Meter() as meter:
    ...     for n_bytes in reader:
    ...         meter.update("reading", n_bytes, total, unit="bytes")
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
        self._bars: Progress | None = None
        self._bar: TaskID | None = None
        self._label = ""
        self._began = self._shown = clock()
        self._first = 0

    def __enter__(self) -> "Meter":
        # A dumb terminal cannot redraw a bar.
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._bars = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[state]}"),
                console=self._console,
                auto_refresh=False,
                transient=True,
            )
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def in_bytes(self, label: str) -> OnProgress:
        """Return a callback that shows the bytes of one file after another under a label.

        A file begins with its "total", or with fewer bytes than before if its size is not known.
        """
        total: int | None = None
        latest = 0

        def show(what: str, n: int) -> None:
            nonlocal total, latest
            if what == "total":
                self._label, total, latest = "", n, 0
                return
            if n < latest:
                self._label, total = "", None
            latest = n
            self.update(label, n, total, unit="bytes")

        return show

    def update(self, label: str, done: int, total: int | None, *, unit: str) -> None:
        """Show how much of a task is done; a new label starts a new task.

        Args:
            total: None if it is not known.
            unit: "bytes", shown as MB, or the name of the counted things.
        """
        now = self._clock()
        if label != self._label:
            # Work done before the first call took no time here, so no rate includes it.
            self._label, self._began, self._first = label, now, done
            if self._bars is not None:
                if self._bar is not None:
                    self._bars.remove_task(self._bar)
                self._bar = self._bars.add_task(label, total=total, state="")
        interval = LINE_SECONDS if self._bars is None else _BAR_SECONDS
        is_done = self._bars is not None and total is not None and done >= total
        if now - self._shown < interval and not is_done:
            return
        self._shown = now
        state = describe(done, total, done - self._first, now - self._began, unit)
        if self._bars is None or self._bar is None:
            self._console.print(f"{label}: {state}", markup=False)
        else:
            self._bars.update(self._bar, completed=done, state=state, refresh=True)


def describe(done: int, total: int | None, n_new: int, elapsed_seconds: float, unit: str) -> str:
    """(50e6, 200e6, 50e6, 10, "bytes") -> "50.0 of 200.0 MB, 5.0 MB/s, 0:30 left"."""
    if unit == "bytes":
        of = "" if total is None else f" of {total / 1e6:,.1f}"
        counts = f"{done / 1e6:,.1f}{of} MB"
    else:
        of = "" if total is None else f" of {total:,}"
        counts = f"{done:,}{of} {unit}"
    if n_new <= 0 or elapsed_seconds <= 0:
        return counts
    rate = n_new / elapsed_seconds
    speed = f"{rate / 1e6:,.1f} MB/s" if unit == "bytes" else f"{rate:,.0f} {unit}/s"
    if total is None:
        return f"{counts}, {speed}"
    return f"{counts}, {speed}, {human_seconds((total - done) / rate)} left"
