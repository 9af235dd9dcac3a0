"""A path that one process makes is refused to others, and freed when it dies."""

import contextlib
import errno
import fcntl
import os
import platform
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from kill_while_making import NEW, OLD
from making import make_file, make_folder, names, never, resumed_file

from fastlm.files import destination, disk, lock, resumed

ROOT = Path(__file__).resolve().parents[2]
MODULES = {
    "locked": "disk",
    "whole_file": "disk",
    "whole_folder": "disk",
    "resumed_file": "resumed",
}
OPTIONS = {"resumed_file": ", made_of={'of': 'text'}"}


def start_holder(path: Path, *, whole: str = "locked") -> subprocess.Popen[bytes]:
    """A process that makes a path until its standard input ends."""
    script = (
        f"import sys; from fastlm.files.{MODULES[whole]} import {whole}\n"
        f"with {whole}(sys.argv[1]{OPTIONS.get(whole, '')}):\n"
        "    print('holds', flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", script, str(path)]
    process = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"holds\n"
    return process


@pytest.mark.parametrize("whole", MODULES)
def test_a_second_process_is_told_who_makes_the_path(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "WAIT_SECONDS", 0.1)
    path = tmp_path / "made"
    holder = start_holder(path, whole=whole)
    told = f"{path} is being made by process {holder.pid} on {platform.node()}: wait for it"
    try:
        for call in (disk.locked, disk.whole_file, disk.whole_folder, resumed_file):
            with pytest.raises(BlockingIOError, match=told):
                never(call(path))
        with pytest.raises(BlockingIOError, match=told):
            disk.write_file(path, NEW)
        before = names(tmp_path)
        disk.sweep(tmp_path)
        assert names(tmp_path) == before  # it lives
    finally:
        holder.communicate()


@pytest.mark.parametrize("whole", MODULES)
def test_a_killed_process_frees_what_it_held(whole, tmp_path):
    path = tmp_path / "made"
    holder = start_holder(path, whole=whole)
    holder.kill()
    holder.wait()
    others = [name for name in names(tmp_path) if not name.startswith(destination.OURS)]
    assert others == (["made.part", "made.part.json"] if whole == "resumed_file" else [])
    assert len(names(tmp_path)) == 1 + (whole != "locked") + (whole == "resumed_file")
    if whole == "resumed_file":
        with resumed_file(path):  # it is empty, and is removed
            pass
    else:
        disk.sweep(tmp_path)
    make_folder(path)  # with what is left, or without
    assert names(tmp_path) == ["made"]


def test_a_lock_that_is_freed_is_waited_for(tmp_path):
    holder = start_holder(tmp_path / "made")
    threading.Timer(0.3, lambda: holder.stdin and holder.stdin.close()).start()
    disk.write_file(tmp_path / "made", NEW)
    assert (tmp_path / "made").read_bytes() == NEW
    holder.wait()


def test_a_lock_whose_name_is_gone_is_not_taken_for_the_lock(tmp_path, monkeypatch):
    """Its holder removed it, and another process made a new one, between open and flock."""
    path, flock = tmp_path / f"{destination.LOCK}made", fcntl.flock
    with contextlib.ExitStack() as stack:

        def late(handle: int, how: int) -> None:
            monkeypatch.setattr(fcntl, "flock", flock)
            path.unlink()
            flock(stack.enter_context(open(path, "wb")), fcntl.LOCK_EX)
            flock(handle, how)

        monkeypatch.setattr(fcntl, "flock", late)
        with pytest.raises(BlockingIOError, match="made by another process"):
            never(disk.locked(tmp_path / "made"))


def at_once(call: Callable[[Any], None], arguments: Collection[Any]) -> None:
    """Call with each of the arguments, each in a thread of its own; an error of one is raised."""
    with ThreadPoolExecutor(len(arguments)) as threads:
        for _ in threads.map(call, arguments):
            pass


def test_many_at_once_leave_one_that_is_whole(tmp_path):
    texts = [bytes([number]) * 1000 for number in range(8)]

    def write(raw: bytes) -> None:
        for _ in range(20):
            disk.write_file(tmp_path / "file", raw, replace=True)

    at_once(write, texts)
    assert (tmp_path / "file").read_bytes() in texts
    assert names(tmp_path) == ["file"]


def test_of_many_at_once_one_makes_what_is_not_to_be_replaced(tmp_path):
    refused = []

    def write(number: int) -> None:
        try:
            disk.write_file(tmp_path / "file", bytes([number]))
        except FileExistsError:
            refused.append(number)

    at_once(write, range(8))
    (written,) = (tmp_path / "file").read_bytes()
    assert sorted([written, *refused]) == list(range(8))


def test_who_holds_the_lock_makes_the_path_in_it(tmp_path):
    with disk.locked(tmp_path / "a/made"), disk.scratch_folder(tmp_path / "a/made") as scratch:
        (scratch / "spool").write_bytes(OLD)
        with resumed.resumed_folder(tmp_path / "a/made", is_locked=True) as part:
            shutil.copyfile(scratch / "spool", part.folder / "copy")
    assert names(tmp_path / "a") == ["made"]


@pytest.mark.parametrize("kind", ["none here", "none on this file system"])
def test_without_locks_all_else_holds(kind, tmp_path, monkeypatch):
    """Windows has no fcntl, and some network file systems have no locks."""

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    if kind == "none here":
        monkeypatch.setattr(lock, "fcntl", None)
    else:
        monkeypatch.setattr(fcntl, "flock", refuse)
    make_file(tmp_path / "file")
    make_folder(tmp_path / "folder")
    for maker, name in ((make_file, "file"), (make_folder, "folder")):
        with pytest.raises(FileExistsError):
            maker(tmp_path / name)
        maker(tmp_path / name, replace=True)
    (tmp_path / f"{destination.PARTIAL}x").touch()
    disk.sweep(tmp_path)
    assert names(tmp_path) == ["file", "folder"]


@pytest.mark.parametrize("inside_first", [False, True])
@pytest.mark.parametrize("whole", ["locked", "whole_folder"])
def test_one_lock_holds_from_inside_the_folder_and_from_outside(
    whole, inside_first, tmp_path, monkeypatch
):
    """The current folder is filled from inside; what is made there is locked for all the same."""
    folder = tmp_path / "made"
    folder.mkdir()
    first, second = (folder, tmp_path) if inside_first else (tmp_path, folder)
    monkeypatch.chdir(first)
    with getattr(disk, whole)("." if inside_first else "made"):
        monkeypatch.chdir(second)
        for call in (disk.locked, disk.whole_folder, resumed.resumed_folder):
            with pytest.raises(BlockingIOError, match="is being made by process"):
                never(call("made" if inside_first else "."))
        disk.sweep(folder)  # leaves what is being made inside
        monkeypatch.chdir(first)
    assert names(tmp_path) == ["made"]


def test_a_link_in_place_of_a_lock_is_not_written_through(tmp_path):
    (tmp_path / "mine").write_bytes(OLD)
    (tmp_path / f"{destination.LOCK}made").symlink_to("mine")
    with pytest.raises(OSError, match=f"{destination.LOCK}made"):
        never(disk.locked(tmp_path / "made"))
    assert (tmp_path / "mine").read_bytes() == OLD
