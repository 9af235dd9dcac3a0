"""Runs the parts of gpu_day: each a process whose output is copied, and that ends in time.

A part ends with its caller too, however that one ends.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
GRACE_SECONDS = 15.0
"""Time to end for a part that is told to"""

SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


@dataclass
class Runner:
    """Runs commands, copies what they print to a file, and ends them in time."""

    log: Path
    echo: IO[str] = field(default_factory=lambda: sys.stdout)
    grace: float = GRACE_SECONDS

    def run(
        self, words: list[str], seconds: float, folder: Path | None = None
    ) -> tuple[int | None, str]:
        """Run a command; returns its exit code, None if it was out of time, and its last line.

        In place of the last line it is the last one that begins with "error: ", if one does.

        Args:
            folder: where it runs; none: in the current folder.
        """
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        environment["PYTHONPATH"] = os.pathsep.join(
            [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        )
        process, last = None, list[str]()
        with _watcher() as watch:
            try:
                with signals_held_back():  # until it is known what is to be ended
                    process = subprocess.Popen(
                        words,
                        cwd=folder,
                        env=environment,
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.STDOUT,
                        text=True,
                        errors="replace",
                        start_new_session=True,
                    )
                    watch(process.pid)
                    reader = threading.Thread(target=self._copy, args=(process, last), daemon=True)
                    reader.start()
                process.wait(seconds)
                code: int | None = process.returncode
            except subprocess.TimeoutExpired:
                code = None
            finally:  # an interrupt ends the part too
                if process is not None:
                    self._end(process)
            reader.join(2)
        return code, last[-1] if last else ""

    def _copy(self, process: "subprocess.Popen[str]", last: list[str]) -> None:
        """Copy all that a process prints; a full pipe that nobody reads would stop it."""
        assert process.stdout is not None
        with contextlib.ExitStack() as opened:
            sinks = [self.echo]
            try:
                sinks.append(opened.enter_context(self.log.open("a", encoding="utf-8")))
            except OSError as error:
                _say_lost(self.log, error)
            for line in process.stdout:
                for sink in list(sinks):
                    try:
                        sink.write(line)
                        sink.flush()
                    except (OSError, ValueError) as error:  # ValueError: it is closed
                        sinks.remove(sink)
                        _say_lost("the output" if sink is self.echo else self.log, error)
                text, is_error = line.strip()[:200], line.startswith("error: ")
                # A line after an error, such as the path of its description, tells less.
                if text and (is_error or not any(told.startswith("error: ") for told in last)):
                    last[:] = [text]

    def _end(self, process: "subprocess.Popen[str]") -> None:
        """End a process and its children: compilers may outlive it."""
        try:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(self.grace)
        finally:  # a second interrupt does not wait
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _say_lost(what: object, error: Exception) -> None:
    with contextlib.suppress(OSError, ValueError):
        reason = getattr(error, "strerror", None) or error
        print(f"warning: {what} cannot be written ({reason})", file=sys.stderr)


@contextlib.contextmanager
def signals_held_back() -> Iterator[None]:
    """A signal that comes inside the block takes effect at its end."""
    came: list[int] = []
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, *SIGNALS)}
    handled = {n: handler for n, handler in before.items() if callable(handler)}
    for number in handled:
        signal.signal(number, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


@contextlib.contextmanager
def _watcher() -> Iterator[Callable[[int], None]]:
    """A function for a group of processes to be killed if this process dies in the block."""
    # The shell reads from a pipe that only this process holds open, so that it sees kill -9 too.
    script = 'read -r group; read -r _; [ -z "$group" ] || kill -s KILL -- "-$group"'
    with subprocess.Popen(
        ["sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as shell:
        pipe = shell.stdin
        assert pipe is not None

        def watch(group: int) -> None:
            pipe.write(b"%d\n" % group)
            pipe.flush()

        try:
            yield watch
        finally:
            shell.kill()
