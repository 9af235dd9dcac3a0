"""A kill, a power cut or a full disk leaves the old content or the new."""

import contextlib
import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from crashing_disk import Recording, write_tree
from kill_while_making import CALLS, KINDS, content, make, prepare
from making import names

from fastlm.files import disk, resumed, sync

ROOT = Path(__file__).resolve().parents[2]
SUPPORT = ROOT / "tests/support"


def kill_before_each_call(kind: str, root: Path) -> list[Path]:
    """Folders in which something was made, and broken off a call later in each."""
    words = [sys.executable, str(SUPPORT / "kill_while_making.py"), kind, str(root)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) >= 6
    return [root / str(number) for number in range(1, int(done.stdout) + 1)]


@pytest.mark.parametrize("kind", KINDS)
def test_killed_before_any_call_it_leaves_the_old_or_the_new(kind, tmp_path):
    before, after = prepare(kind, tmp_path / "before")
    seen = []
    for folder in kill_before_each_call(kind, tmp_path / "killed"):
        found = content(folder / "made")
        if kind.endswith("inside"):  # readers go by the mark: with it, all is there
            assert found in (before, after) or "mark" not in found, folder
        elif kind == "replaced-folder":
            assert found in (before, after, None), folder  # None: between two renames
        else:
            assert found in (before, after), folder
        disk.sweep(folder)
        if (folder / "made").is_dir():
            disk.sweep(folder / "made")
        found = content(folder / "made")
        assert found in (before, after), folder
        seen.append(found == after)
        assert names(folder) == ([] if found is None else ["made"]), folder
        if isinstance(found, dict):
            assert names(folder / "made") == sorted(found), folder
    assert seen == sorted(seen)  # once it is there it stays
    assert (seen[0], seen[-1]) == (False, True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kill_is_in_no_ones_way(kind, tmp_path, monkeypatch):
    """The same call again makes it, or says that it exists, without a sweep before."""
    _, after = prepare(kind, tmp_path / "before")
    for folder in kill_before_each_call(kind, tmp_path / "killed"):
        with monkeypatch.context() as patched:
            patched.chdir(folder)  # make goes inside, and this goes back
            with contextlib.suppress(FileExistsError):
                make(kind, folder)
        assert content(folder / "made") == after, folder
        assert names(folder) == ["made"], folder


@pytest.mark.skipif(sys.platform != "linux", reason="crashing_disk reads /proc/self/fd")
@pytest.mark.parametrize("kind", ["file", "replaced-file", "folder", "replaced-folder"])
def test_a_power_cut_leaves_the_old_or_the_new(kind, tmp_path):
    before, after = prepare(kind, tmp_path / "disk")
    with Recording(tmp_path / "disk") as recording:
        for entry in (tmp_path / "disk").glob("made/*"):
            sync.sync_file(entry)
        for path in (*(tmp_path / "disk").glob("made"), tmp_path / "disk"):
            (sync.sync_folder if path.is_dir() else sync.sync_file)(path)
        recording.promise("old")
        make(kind, tmp_path / "disk")
        recording.promise("new")
    n_states = 0
    for promised, state in recording.moments:
        for tree in state.after_a_crash() if promised else ():
            n_states += 1
            write_tree(tree, tmp_path / "after")
            disk.sweep(tmp_path / "after")
            found = content(tmp_path / "after/made")
            assert found == after if promised == "new" else found in (before, after)
            assert names(tmp_path / "after") == ([] if found is None else ["made"])
            shutil.rmtree(tmp_path / "after")
    assert n_states > 10


def refusing(call: Callable[[], object], patch: pytest.MonkeyPatch, n_left: int) -> int:
    """Call with the n-th call to the disk refused, as a full disk does; returns how many."""
    n_calls = 0

    def counted(original):
        def refuse(*args, **kwargs):
            nonlocal n_calls
            n_calls += 1
            if n_calls == n_left:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return original(*args, **kwargs)

        return refuse

    with patch.context() as patched:
        for name in CALLS:
            if name not in ("unlink", "rmdir"):  # a full disk lets go
                patched.setattr(os, name, counted(getattr(os, name)))
        for module in (disk, resumed):
            patched.setattr(module, "open", counted(open), raising=False)
        call()
    return n_calls


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_leaves_the_old_or_the_new(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # make goes inside, and this goes back
    prepare(kind, tmp_path / "0")
    n_calls = refusing(lambda: make(kind, tmp_path / "0"), monkeypatch, 0)
    assert n_calls >= 7
    told = []
    for n_left in range(1, n_calls + 1):
        folder = tmp_path / str(n_left)
        before, after = prepare(kind, folder)
        try:
            refusing(lambda folder=folder: make(kind, folder), monkeypatch, n_left)
        except OSError as error:
            told.append(str(folder / "made") in str(error))
        disk.sweep(folder)
        if (folder / "made").is_dir():
            disk.sweep(folder / "made")
        found = content(folder / "made")
        assert found in (before, after), n_left
        assert names(folder) == ([] if found is None else ["made"]), n_left
    assert all(told)
    assert len(told) >= n_calls - 1  # without a hard link it goes on


def test_a_file_that_grows_too_large_is_named_and_removed(tmp_path):
    """A limit of the process on the size of files: the kernel cuts the writing short."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(OSError, match="File too large: .*file"):
            disk.write_file(tmp_path / "file", bytes(10**6))
        with (
            pytest.raises(OSError, match="File too large: .*folder"),
            disk.whole_folder(tmp_path / "folder") as partial,
        ):
            disk.write_new(partial / "large", bytes(10**6))
        disk.append(tmp_path / "log", bytes(1990))
        with pytest.raises(OSError, match=r"No space left on device: .*log"):
            disk.append(tmp_path / "log", bytes(20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == ["log"]
    assert (tmp_path / "log").stat().st_size == 1990
