"""python tests/support/kill_while_saving.py FOLDER N SEED: a process that saves is killed, N times.

Each time the newest checkpoint has to be whole and newer than the one before. Prints how many kills
met a checkpoint half written. A process of its own, since it forks.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import nn

from fastlm.checkpoint import Snapshot, read_newest, take_snapshot, write_snapshot

ROOT = Path(__file__).resolve().parents[2]


def kill_while_saving(folder: Path, n_kills: int, seed: int = 0) -> int:
    """Kill a process that saves, n_kills times; returns how many kills met half a checkpoint."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, __file__, str(folder), str(n_kills), str(seed)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def snapshot(step: int, n: int = 16) -> Snapshot:
    """Return a snapshot of a model whose weights all equal the step's number."""
    model = nn.Linear(n, n, bias=False)
    with torch.no_grad():
        model.weight.fill_(step)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    return take_snapshot(step, model, [optimizer], {"step": step}, {})


def damaged(text: str) -> None:
    raise AssertionError(text)


def assert_whole(folder: Path) -> int:
    """The newest checkpoint is whole and what was saved; returns its step."""
    saved = read_newest(folder, damaged)
    assert saved is not None
    assert saved.state == {"step": saved.step}
    assert (saved.model["weight"] == saved.step).all()
    return saved.step


def save_for_ever(folder: Path, first: int, ready: int) -> None:
    for step in range(first, first + 10**6):
        write_snapshot(folder, snapshot(step, n=64))
        if step == first:
            os.write(ready, b".")


def main() -> None:
    folder, n_kills, rng = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
    torch.set_num_threads(1)
    newest, n_halves = 0, 0
    snapshot(0)  # what torch imports at first use, before the children
    for _ in range(n_kills):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            save_for_ever(folder, newest + 1, writing)
        os.read(reading, 1)
        time.sleep(rng.random() * 0.02)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)
        n_halves += any(path.name.startswith(".") for path in folder.iterdir())
        step = assert_whole(folder)
        assert step > newest
        newest = step
    print(n_halves)


if __name__ == "__main__":
    main()
