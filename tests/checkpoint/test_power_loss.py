"""A power cut at any moment: the run goes on from the last checkpoint that was acknowledged.

All states are tried that a disk can be in after a crash (crashing_disk.py), before and after every
change to the folder of a run. Leaving out any one flush has to be noticed.
"""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from crashing_disk import Recording, Site, Tree, write_tree
from torch import nn

from fastlm.checkpoint import (
    load_checkpoint,
    read_newest,
    save_checkpoint,
    take_snapshot,
    write_snapshot,
)
from fastlm.config import TrainConfig
from fastlm.runs.record import RunRecord, write_json
from fastlm.train.resuming import reopen

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/fd")


FORMER = {"step": 4, "finished": True}
"""the summary of the first end"""


class Promised(NamedTuple):
    step: int
    """the step of an acknowledged checkpoint; 0: the run has begun"""
    value: float
    """in the file of save_checkpoint; 0: there is none"""
    ended: bool = False
    """there is a summary"""
    ended_before: bool = False
    """the summary of an earlier end is in a file or in the log"""


def model_and_optimizer(value: float):
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(value)
    return model, torch.optim.SGD(model.parameters(), lr=1.0)


def save(record: RunRecord, step: int, value: float) -> None:
    model, optimizer = model_and_optimizer(value)
    snapshot = take_snapshot(step, model, [optimizer], {"value": value}, {})
    write_snapshot(record.checkpoints, snapshot, before_rename=record.flush)


def a_run(recording: Recording, root: Path) -> None:
    """Six steps, a return to the second, four steps more, the last saved twice."""
    record = RunRecord(root / "run")
    record.start(TrainConfig(recipe="crash", max_steps=6), {"gpu": "none"})
    recording.promise(Promised(0, 0.0))
    single = 0.0
    for generation, steps in enumerate((range(1, 5), range(3, 7))):
        if generation:
            recording.promise(Promised(2, single))
            write_json(record.files.summary, FORMER)
            recording.promise(Promised(2, single, ended_before=True))
            go_back(record, 2)
        for step in steps:
            record.log({"kind": "train", "step": step})
            if step % 2 == 0:
                save(record, step, step + generation / 10)
                recording.promise(Promised(step, single, ended_before=generation > 0))
    for single in (1.0, 2.0):
        save_checkpoint(*model_and_optimizer(single), 0, root / "run" / "single")
        recording.promise(Promised(6, single, ended_before=True))
    save(record, 6, 6.5)
    write_json(record.folder / "summary.json", {"step": 6})
    recording.promise(Promised(6, single, ended=True, ended_before=True))


def go_back(record: RunRecord, step: int) -> None:
    """Make the run ready to go on after a step, to another end."""

    def log(former: dict) -> None:
        record.log({"kind": "resume", "step": step, **former})

    reopen(record, TrainConfig(recipe="crash", max_steps=9), step, log, lambda line: None)


def check(promised: Promised | None, tree: Tree, folder: Path, *, goes_on: bool) -> None:
    """Fails where something that was promised is gone after a crash.

    Args:
        goes_on: whether also to save twice more, with what the crash left in the way.
    """
    write_tree(tree, folder)
    record = RunRecord(folder / "run")
    if promised is None:
        return
    assert record.config().recipe == "crash"
    assert json.loads((record.folder / "environment.json").read_text()) == {"gpu": "none"}
    if promised.ended:
        assert record.summary() == {"step": 6}
    saved = read_newest(record.checkpoints, pytest.fail)
    step = saved.step if saved else 0
    if record.files.summary.is_file():  # it stands beside nothing that ends before it
        assert min(record.rows()[-1]["step"], step) >= record.summary()["step"]
    if promised.ended_before:
        files = (record.files.summary, record.files.former_summary)
        told = [json.loads(path.read_text()) for path in files if path.is_file()]
        assert FORMER in [*told, *(row.get("former_summary") for row in record.rows())]
    is_cut = record.rows() and record.rows()[-1]["step"] < 4
    if is_cut and list(record.checkpoints.glob("abandoned-*")):
        assert record.config().max_steps == 9  # its new end is known before rows are dropped
    assert step >= promised.step
    if saved is not None:
        assert saved.model["weight"].item() == pytest.approx(saved.state["value"])
    steps = [r["step"] for r in record.rows() if r["kind"] == "train" and r["step"] <= step]
    assert steps == list(range(1, step + 1))
    if promised.value:
        model, optimizer = model_and_optimizer(0.0)
        load_checkpoint(record.folder / "single", model, optimizer)
        assert model.weight.item() >= promised.value
    if not goes_on:
        return
    go_back(record, step)
    for more in (1, 2):  # what the crash left is not in the way
        record.log({"kind": "train", "step": step + more})
        save(record, step + more, 9.0)
    names = {path.name for path in record.checkpoints.iterdir() if path.name[0] != "a"}
    assert names == {f"step-{step + more:06d}" for more in (1, 2)}
    assert not list((folder / "run").glob(".*"))


def frozen(tree: Tree) -> tuple:
    return tuple(
        (name, content if isinstance(content, bytes) else frozen(content))
        for name, content in sorted(tree.items())
    )


def check_all(recording: Recording, folder: Path, every: int, passed: set[tuple]) -> None:
    """Check what a crash at any moment leaves, each state once.

    Args:
        every: of so many one is gone on from: that takes longest.
        passed: states that need no check; those that pass are added.
    """
    for promised, disk in recording.moments:
        for tree in disk.after_a_crash():
            state = (promised, frozen(tree))
            if state not in passed:
                check(promised, tree, folder, goes_on=(len(passed) + 1) % every == 0)
                shutil.rmtree(folder)
                passed.add(state)


def recorded(tmp_path: Path, forget=lambda site: False) -> Recording:
    root = tmp_path / "disk"
    root.mkdir()
    with Recording(root, forget) as recording:
        a_run(recording, root)
    return recording


def test_a_power_cut_at_any_moment_loses_nothing_that_was_acknowledged(tmp_path, monkeypatch):
    # The disk of the test itself does not lose power: it need not wait for it.
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    recording = recorded(tmp_path)
    passed: set[tuple] = set()
    check_all(recording, tmp_path / "after", every=10, passed=passed)
    print(f"{len(passed)} states at {len(recording.moments)} moments")
    assert len(passed) > 300


def test_leaving_out_any_flush_is_noticed(tmp_path):
    sites = recorded(tmp_path).sites
    shutil.rmtree(tmp_path / "disk")
    assert len(sites) > 8
    passed: set[tuple] = set()

    def is_noticed(site: Site) -> bool:
        recording = recorded(tmp_path, forget=site.__eq__)
        try:
            check_all(recording, tmp_path / "after", every=10**9, passed=passed)
        except (AssertionError, ValueError, OSError, pytest.fail.Exception):
            return True
        finally:
            for name in ("disk", "after"):
                shutil.rmtree(tmp_path / name, ignore_errors=True)
        return False

    unnoticed = [site for site in sorted(sites) if not is_noticed(site)]
    assert not unnoticed, unnoticed
