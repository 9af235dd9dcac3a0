"""A run of a sweep in a process of its own, which stops when the sweep's process is gone.

However the sweep ends, even by kill -9, its runs save and end: nobody would wait for them, and the
sweep that goes on would meet them in its folders.
"""

import os
import runpy
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

POLL_SECONDS = 0.5

_PROGRAM = "from fastlm.sweep.child import main; main()"


def command(flags: Sequence[str], out: Path) -> list[str]:
    """The command of a process that trains into a folder, or resumes the run in it."""
    # Runs that are compared are computed alike, unless a flag of the sweep says otherwise.
    words = ["--tuned", "none", *flags, "--out", str(out), "--resume", "auto"]
    return [sys.executable, "-c", _PROGRAM, str(os.getpid()), *words]


def main() -> None:
    """Train with the flags after the number of the sweep's process."""
    _, parent, *flags = sys.argv
    sys.argv[1:] = flags
    threading.Thread(target=_stop_without, args=(int(parent),), daemon=True).start()
    runpy.run_module("fastlm.train", run_name="__main__", alter_sys=True)


def _stop_without(parent: int) -> None:
    """Ask this process to stop once its parent is another process."""
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
