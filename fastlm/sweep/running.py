"""Run the processes that train the runs of a sweep, and stop them together."""

import contextlib
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fastlm import cli
from fastlm.files import disk, folders
from fastlm.runs.record import write_json
from fastlm.runs.run_files import RunFiles
from fastlm.sweep.child import command
from fastlm.sweep.plan import Run, running_order
from fastlm.sweep.results import read_result
from fastlm.train.signals import SAVED, handled

WAIT_SECONDS = 10.0
"""Seconds to wait for another process that trains a run"""

_LEFT_BY_USERS = (SAVED, -signal.SIGINT, -signal.SIGTERM, cli.INTERRUPTED)
_STATUS = re.compile(r"step [\d,]+\b")


class Stopped(Exception):
    """The sweep was asked to stop; str() names the command that goes on with it."""


def run_all(runs: Sequence[Run], out: Path, *, at_once: int) -> set[str]:
    """Train runs in folders below out; return the names of those that other processes train.

    Raises:
        ValueError: if no run can use a flag.
        FileNotFoundError: if out was moved or removed meanwhile.
        Stopped: on Ctrl-C or SIGTERM, after the current runs have saved.
    """
    stop = threading.Event()
    children: set[subprocess.Popen[bytes]] = set()
    busy: set[str] = set()

    def train(run: Run) -> None:
        try:
            if not stop.is_set():
                with _in_place(known, out):
                    _train(run, out / run.name, at_once, children, stop)
        except BlockingIOError as error:
            busy.add(run.name)
            print(f"{run.name}: left out: {error}", flush=True)
        except BaseException:
            stop.set()  # a flag that no run can use ends the sweep
            raise

    with (
        contextlib.closing(folders.KnownFolder(out)) as known,
        _stopping(stop, children),
        ThreadPoolExecutor(at_once) as pool,
    ):
        list(pool.map(train, running_order(runs)))
    if stop.is_set():
        raise Stopped(f"stopped; {cli.command_line('sweep', out)} goes on")
    return busy


@contextlib.contextmanager
def _in_place(known: folders.KnownFolder, out: Path) -> Iterator[None]:
    """After the block, refuse to go on in another folder than the sweep's."""
    error: OSError | None = None
    try:
        yield
    except BlockingIOError:
        raise
    except OSError as raised:  # such as of a file that moved with the folder
        error = raised
    if not known.is_at(out):
        again = cli.command_line("sweep", "NEW-PLACE")
        raise FileNotFoundError(
            f"{out} was moved or removed while the sweep goes on: {again} goes on where it is "
            f"now; what its runs have made since then is in {out}"
        ) from error
    if error is not None:
        raise error


@contextlib.contextmanager
def _stopping(stop: threading.Event, children: set[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Inside `with`, the signals that stop a run ask all to save, and no new run starts."""

    def ask(number: int, frame: object) -> None:
        stop.set()
        for child in tuple(children):
            child.send_signal(signal.SIGTERM)

    previous = {number: signal.signal(number, ask) for number in handled()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _train(
    run: Run,
    folder: Path,
    at_once: int,
    children: set[subprocess.Popen[bytes]],
    stop: threading.Event,
) -> None:
    """Train one run to its end, with its output in output.txt.

    Raises:
        BlockingIOError: if another process trains it.
        ValueError: if its flags cannot be used.
    """
    # Wait: a run whose sweep was killed saves and ends soon.
    with disk.locked(folder, wait_seconds=WAIT_SECONDS):
        folders.make_folder(folder)
    files = RunFiles(folder)
    environment = dict(os.environ)
    if at_once > 1:
        environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // at_once)))
    n_before = files.output.stat().st_size if files.output.is_file() else 0
    with disk.open_to_append(files.output) as output:
        child = subprocess.Popen(
            command(run.flags, folder),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the sweep alone, which asks the runs to save
        )
        children.add(child)
        print(f"{run.name}: training; its output: {cli.pasted(files.output)}", flush=True)
        if stop.is_set():  # the signal came after the caller looked
            child.send_signal(signal.SIGTERM)
        code = child.wait()
        children.discard(child)
    last = _reason(files.output.read_bytes()[n_before:].decode(errors="replace"), code)
    if code == cli.BAD_INPUT:
        raise ValueError(f"{run.name}: {last.removeprefix('error: ')}")
    if code and code not in _LEFT_BY_USERS:
        write_json(files.failed, {"exit_code": code, "last": last})
        result = read_result(run, folder)
        print(f"{run.name}: {result.state} after step {result.step:,}: {last}", flush=True)
    elif not code:
        result = read_result(run, folder)
        loss = "no validation loss" if result.val_loss is None else f"{result.val_loss:.4f}"
        print(f"{run.name}: {loss}", flush=True)


def _reason(output: str, code: int) -> str:
    """Why a process ended with an exit code: its error, else its signal or its last line."""
    lines = output.strip().splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    if errors:
        return errors[-1]
    if code < 0:
        names = {number.value: number.name for number in signal.Signals}
        return f"killed by {names.get(-code, f'signal {-code}')}"
    if not lines or _STATUS.match(lines[-1]):
        return f"exit code {code}"
    return lines[-1]
