"""Files and folders are whole or absent, whatever fails and whenever writing is interrupted."""

import ast
import contextlib
import errno
import fcntl
import json
import os
import platform
import resource
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from crashing_disk import Recording, write_tree
from kill_while_making import CALLS, KINDS, NEW, OLD, content, make, prepare

from fastlm.files import destination, disk, lock, resumed, sync

ROOT = Path(__file__).resolve().parents[2]
SUPPORT = ROOT / "tests/support"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def make_file(path: Path, **options: Any) -> None:
    with disk.whole_file(path, **options) as file:
        file.write(NEW)


def make_folder(path: Path, **options: Any) -> None:
    with disk.whole_folder(path, **options) as partial:
        disk.write_new(partial / "new", NEW)


MAKERS = pytest.mark.parametrize("maker", [make_file, make_folder])


def never(manager: contextlib.AbstractContextManager[Any]) -> None:
    """Enter a block that has to be refused."""
    with manager:
        pytest.fail("work has begun")


# Whole or not at all


def test_a_file_has_its_name_when_it_is_whole(tmp_path):
    path = tmp_path / "a/b/file"
    with disk.whole_file(path) as file:
        file.write(NEW)
        file.flush()
        assert not path.exists()
        assert Path(file.name).read_bytes() == NEW
    assert path.read_bytes() == NEW
    assert names(path.parent) == ["file"]


def test_a_library_may_write_the_file_by_its_name(tmp_path):
    """The library writes another file, and renames it to the name that it was given."""
    for name in ("one", "two"):
        with disk.whole_file(tmp_path / name) as file:
            Path(f"{file.name}.new").write_bytes(NEW)
            Path(f"{file.name}.new").rename(file.name)
        assert (tmp_path / name).read_bytes() == NEW
        assert not list(tmp_path.glob(".*"))


def test_a_folder_has_its_name_when_it_is_whole(tmp_path):
    path = tmp_path / "a/b/folder"
    with disk.whole_folder(path) as partial:
        (partial / "inner").mkdir()
        disk.write_new(partial / "inner/new", NEW)
        assert not path.exists()
    assert (path / "inner/new").read_bytes() == NEW
    assert names(path.parent) == ["folder"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("replace", [False, True])
def test_a_block_that_fails_leaves_what_was_there(error, replace, tmp_path):
    if replace:
        disk.write_file(tmp_path / "file", OLD)
        make_folder(tmp_path / "folder")

    def fail(manager: contextlib.AbstractContextManager[Any]) -> None:
        with manager as made:
            if isinstance(made, Path):
                disk.write_new(made / "other", NEW)
            else:
                made.write(NEW)
            raise error

    for manager in (
        disk.whole_file(tmp_path / "file", replace=replace),
        disk.whole_folder(tmp_path / "folder", replace=replace),
    ):
        with pytest.raises(error):
            fail(manager)
    assert names(tmp_path) == (["file", "folder"] if replace else [])
    if replace:
        assert (tmp_path / "file").read_bytes() == OLD
        assert names(tmp_path / "folder") == ["new"]


def test_what_is_replaced_goes_as_a_whole(tmp_path):
    disk.write_file(tmp_path / "file", OLD)
    disk.write_file(tmp_path / "file", NEW, replace=True)
    assert (tmp_path / "file").read_bytes() == NEW
    make_folder(tmp_path / "folder")
    with disk.whole_folder(tmp_path / "folder", replace=True) as partial:
        disk.write_new(partial / "other", NEW)
        assert names(tmp_path / "folder") == ["new"]
    assert names(tmp_path / "folder") == ["other"]
    assert names(tmp_path) == ["file", "folder"]


def test_modes_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        make_file(tmp_path / "file")
        make_folder(tmp_path / "folder")
        with resumed.resumed_file(tmp_path / "resumed") as part:
            part.file.write(NEW)
            part.give_name()
        disk.append(tmp_path / "log", NEW)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"file": 0o640, "folder": 0o750, "resumed": 0o640, "log": 0o640}
    assert (tmp_path / "folder/new").stat().st_mode & 0o777 == 0o640


# Files and folders that exist already


@MAKERS
def test_what_is_there_is_refused_before_work_begins(maker, tmp_path):
    maker(tmp_path / "there")
    check, whole = {
        make_file: (disk.check_new_file, disk.whole_file),
        make_folder: (disk.check_new_folder, disk.whole_folder),
    }[maker]
    with pytest.raises(FileExistsError, match="there is there already: give another"):
        check(tmp_path / "there")
    with pytest.raises(FileExistsError, match="there is there already: give another"):
        never(whole(tmp_path / "there"))
    check(tmp_path / "there", replace=True)
    check(tmp_path / "new")
    assert names(tmp_path) == ["there"]


def test_an_empty_folder_counts_as_none(tmp_path):
    (tmp_path / "empty").mkdir()
    # Such leftovers of a dead process are nothing either.
    (tmp_path / "empty" / f"{destination.PARTIAL}x").mkdir()
    (tmp_path / "empty" / f"{destination.LOCK}x").touch()
    make_folder(tmp_path / "empty")
    assert names(tmp_path / "empty") == ["new"]


@pytest.mark.parametrize("replace", [False, True])
def test_a_file_in_place_of_a_folder_and_the_other_way_round(replace, tmp_path):
    (tmp_path / "file").write_bytes(OLD)
    make_folder(tmp_path / "folder")
    for call in (disk.check_new_file, lambda *a, **k: never(disk.whole_file(*a, **k))):
        with pytest.raises(IsADirectoryError, match="folder is a folder: expected the name of a"):
            call(tmp_path / "folder", replace=replace)
    for call in (disk.check_new_folder, lambda *a, **k: never(disk.whole_folder(*a, **k))):
        with pytest.raises(FileExistsError, match="file is a file: expected a folder to make"):
            call(tmp_path / "file", replace=replace)
    for whole in (disk.whole_file, disk.whole_folder, resumed.resumed_file):
        with pytest.raises(NotADirectoryError):
            never(whole(tmp_path / "file/inner", replace=replace))
    assert names(tmp_path) == ["file", "folder"]


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("came", ["file", "folder"])
@MAKERS
def test_what_comes_meanwhile_is_left_as_it_is(maker, came, replace, tmp_path):
    path = tmp_path / "made"
    whole = disk.whole_file if maker is make_file else disk.whole_folder

    def come() -> None:
        with whole(path, replace=replace):
            if came == "file":
                path.write_bytes(OLD)
            else:
                path.mkdir()
                (path / "old").write_bytes(OLD)

    with pytest.raises(OSError, match=r"made (came|is)"):
        come()
    assert names(tmp_path) == ["made"]
    assert (path if came == "file" else path / "old").read_bytes() == OLD


def test_what_is_changed_meanwhile_is_not_replaced(tmp_path):
    disk.write_file(tmp_path / "file", OLD)
    make_folder(tmp_path / "folder")
    with (
        pytest.raises(FileExistsError, match="file came or changed while it was made"),
        disk.whole_file(tmp_path / "file", replace=True),
    ):
        (tmp_path / "file").write_bytes(b"mine")
    with (
        pytest.raises(FileExistsError, match="folder came or changed while it was made"),
        disk.whole_folder(tmp_path / "folder", replace=True),
    ):
        (tmp_path / "folder/mine").touch()
    assert (tmp_path / "file").read_bytes() == b"mine"
    assert names(tmp_path / "folder") == ["mine", "new"]
    assert names(tmp_path) == ["file", "folder"]


def test_what_comes_at_the_last_moment_is_left_as_it_is(tmp_path, monkeypatch):
    """Something appears between the last check and the call that gives the name."""
    link, rename = os.link, os.rename

    def comes_before(original):
        def call(source, target, *args, **kwargs):
            if Path(target).name == "file":
                Path(target).write_bytes(OLD)
            elif Path(target).name == "folder":
                Path(target).mkdir()
                (Path(target) / "old").write_bytes(OLD)
            return original(source, target, *args, **kwargs)

        return call

    monkeypatch.setattr(os, "link", comes_before(link))
    monkeypatch.setattr(os, "rename", comes_before(rename))
    with pytest.raises(FileExistsError, match="file is there already"):
        make_file(tmp_path / "file")
    with pytest.raises(FileExistsError, match="folder is there already"):
        make_folder(tmp_path / "folder")
    assert names(tmp_path) == ["file", "folder"]
    assert (tmp_path / "file").read_bytes() == (tmp_path / "folder/old").read_bytes() == OLD


def test_a_file_system_without_hard_links(tmp_path, monkeypatch):
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    make_file(tmp_path / "file")
    with pytest.raises(FileExistsError), disk.whole_file(tmp_path / "other"):
        (tmp_path / "other").write_bytes(OLD)
    assert names(tmp_path) == ["file", "other"]


# Links


@pytest.mark.parametrize("is_there", [False, True], ids=["dangling", "not dangling"])
@MAKERS
def test_a_link_stays_and_its_target_is_made(maker, is_there, tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "near").mkdir()
    (tmp_path / "near/link").symlink_to("../far/second")
    (tmp_path / "far/second").symlink_to("target")
    if is_there:
        maker(tmp_path / "far/target")
    maker(tmp_path / "near/link", replace=is_there)
    assert os.readlink(tmp_path / "near/link") == "../far/second"
    assert names(tmp_path / "near") == ["link"]
    assert names(tmp_path / "far") == ["second", "target"]
    made = tmp_path / "far/target"
    assert (made if maker is make_file else made / "new").read_bytes() == NEW
    with pytest.raises(FileExistsError, match="near/link is there already"):
        maker(tmp_path / "near/link")


def test_what_is_made_lies_beside_the_target_of_a_link(tmp_path):
    """The link may be on another file system."""
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to("far/target")
    with disk.whole_file(tmp_path / "link") as file:
        assert Path(file.name).parent == tmp_path / "far"
    (tmp_path / "far/target").unlink()
    with disk.whole_folder(tmp_path / "link") as partial:
        assert partial.parent == tmp_path / "far"


@pytest.mark.parametrize("check", [disk.check_new_file, disk.check_new_folder])
@MAKERS
def test_a_loop_of_links_is_an_error(maker, check, tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for call in (check, maker):
        with pytest.raises(OSError, match="symbolic links.*/a'"):
            call(tmp_path / "a", replace=True)
    assert names(tmp_path) == ["a", "b"]


# Folders that have to stay


@contextlib.contextmanager
def mounted(path: Path, what: Path) -> Iterator[None]:
    words = ["mount", "--bind", str(what), str(path)]
    if os.geteuid() != 0 or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("this user may not mount")
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)


def test_a_mount_point_is_filled_from_inside(tmp_path):
    volume, point = tmp_path / "volume", tmp_path / "a point"
    volume.mkdir()
    point.mkdir()
    with mounted(point, volume):
        with disk.whole_folder(point, last="mark") as partial:
            assert partial.parent == point
            disk.write_new(partial / "mark", NEW)
        assert names(volume) == ["mark"]
        with pytest.raises(FileExistsError, match="a point is there already"):
            never(disk.whole_folder(point))
        make_folder(point, replace=True)
        assert names(volume) == ["new"]
    assert names(tmp_path) == ["a point", "volume"]


def test_a_file_that_is_a_mount_point_is_refused(tmp_path):
    for name in ("point", "volume"):
        (tmp_path / name).write_bytes(OLD)
    with mounted(tmp_path / "point", tmp_path / "volume"):
        for call in (disk.check_new_file, lambda *a, **k: never(disk.whole_file(*a, **k))):
            with pytest.raises(OSError, match="point is a mount point"):
                call(tmp_path / "point", replace=True)
    assert names(tmp_path) == ["point", "volume"]


def test_the_current_folder_is_filled_from_inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = tmp_path.stat().st_ino
    make_folder(Path("."))
    assert names(tmp_path) == ["new"]
    with pytest.raises(FileExistsError, match=r"\. is there already"):
        never(disk.whole_folder("."))
    with disk.whole_folder(".", replace=True) as partial:
        disk.write_new(partial / "other", NEW)
        assert names(tmp_path) == [destination.LOCK + tmp_path.name, partial.name, "new"]
    assert names(tmp_path) == ["other"]
    assert tmp_path.stat().st_ino == before
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")  # a folder above it has to stay too
    make_folder(tmp_path, replace=True)
    assert names(tmp_path) == ["new"]


def test_a_folder_whose_parent_cannot_be_written_is_filled_from_inside(tmp_path, monkeypatch):
    """A volume of a container is such a folder for a user who is not root."""
    (tmp_path / "volume").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with disk.whole_folder(tmp_path / "volume") as partial:
        assert names(tmp_path) == ["volume"]
        disk.write_new(partial / "new", NEW)
    assert names(tmp_path / "volume") == ["new"]


def test_the_last_entry_is_moved_in_last(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    moved = []
    original = os.rename

    def rename(source, target, *args, **kwargs):
        moved.append(Path(target).name)
        return original(source, target, *args, **kwargs)

    monkeypatch.setattr(os, "rename", rename)
    with disk.whole_folder(tmp_path, last="b") as partial:
        for name in ("b", "a", "c"):
            disk.write_new(partial / name, NEW)
    assert moved[1:] == ["a", "c", "b"]


# Devices, pipes and sockets


def test_what_is_no_file_is_refused_before_work_begins(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "socket"))
    for path in (tmp_path / "pipe", tmp_path / "link", tmp_path / "socket", Path("/dev/null")):
        for whole in (disk.whole_file, resumed.resumed_file):
            with pytest.raises(OSError, match=f"{path.name} is no regular file"):
                never(whole(path, replace=True))
        with pytest.raises(FileExistsError, match=f"{path.name} is a file"):
            never(disk.whole_folder(path, replace=True))
    with pytest.raises(OSError, match="socket is no regular file"):
        disk.check_new_file(tmp_path / "socket", to_stream=True)
    listening.close()
    assert names(tmp_path) == ["link", "pipe", "socket"]


def test_streams_are_written_through_where_that_is_asked_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", str(tmp_path / "pipe")], stdout=subprocess.PIPE)
    disk.write_file(tmp_path / "pipe", NEW, to_stream=True)
    assert reader.communicate()[0] == NEW
    disk.write_file("/dev/null", NEW, to_stream=True)
    assert names(tmp_path) == ["pipe"]


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_is_written_through(name, tmp_path):
    """So it is even if it is a file: the shell has it open and would not see it replaced."""
    script = f"from fastlm.files import disk; disk.write_file({name!r}, b'new', to_stream=True)"
    words = [sys.executable, "-c", script]
    assert subprocess.run(words, cwd=ROOT, capture_output=True, check=True).stdout == b"new"
    with open(tmp_path / "out", "wb") as out:
        out.write(b"old ")
        out.flush()
        subprocess.run(words, cwd=ROOT, stdout=out, check=True)
        assert os.path.samestat(os.fstat(out.fileno()), (tmp_path / "out").stat())
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out").read_bytes().endswith(b"new")


# Locks


def start_holder(path: Path, *, whole: str = "locked") -> subprocess.Popen[bytes]:
    """A process that makes a path until its standard input ends."""
    script = (
        f"import sys; from fastlm.files import disk\nwith disk.{whole}(sys.argv[1]):\n"
        "    print('holds', flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", script, str(path)]
    process = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"holds\n"
    return process


@pytest.mark.parametrize("whole", ["locked", "whole_file", "whole_folder", "resumed_file"])
def test_a_second_process_is_told_who_makes_the_path(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "WAIT_SECONDS", 0.1)
    path = tmp_path / "made"
    holder = start_holder(path, whole=whole)
    told = f"{path} is being made by process {holder.pid} on {platform.node()}: wait for it"
    try:
        for call in (disk.locked, disk.whole_file, disk.whole_folder, resumed.resumed_file):
            with pytest.raises(BlockingIOError, match=told):
                never(call(path))
        with pytest.raises(BlockingIOError, match=told):
            disk.write_file(path, NEW)
        before = names(tmp_path)
        disk.sweep(tmp_path)
        assert names(tmp_path) == before  # it lives
    finally:
        holder.communicate()


@pytest.mark.parametrize("whole", ["locked", "whole_file", "whole_folder", "resumed_file"])
def test_a_killed_process_frees_what_it_held(whole, tmp_path):
    path = tmp_path / "made"
    holder = start_holder(path, whole=whole)
    holder.kill()
    holder.wait()
    assert all(name.startswith(destination.OURS) or name == "made.part" for name in names(tmp_path))
    assert len(names(tmp_path)) == 1 + (whole != "locked")
    if whole == "resumed_file":
        (tmp_path / "made.part").unlink()
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
    lock, flock = tmp_path / f"{destination.LOCK}made", fcntl.flock
    with contextlib.ExitStack() as stack:

        def late(handle: int, how: int) -> None:
            monkeypatch.setattr(fcntl, "flock", flock)
            lock.unlink()
            flock(stack.enter_context(open(lock, "wb")), fcntl.LOCK_EX)
            flock(handle, how)

        monkeypatch.setattr(fcntl, "flock", late)
        with pytest.raises(BlockingIOError, match="made by another process"):
            never(disk.locked(tmp_path / "made"))


def test_many_at_once_leave_one_that_is_whole(tmp_path):
    texts = [bytes([number]) * 1000 for number in range(8)]

    def write(raw: bytes) -> None:
        for _ in range(20):
            disk.write_file(tmp_path / "file", raw, replace=True)

    threads = [threading.Thread(target=write, args=(raw,)) for raw in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "file").read_bytes() in texts
    assert names(tmp_path) == ["file"]


def test_of_many_at_once_one_makes_what_is_not_to_be_replaced(tmp_path):
    refused = []

    def write(number: int) -> None:
        try:
            disk.write_file(tmp_path / "file", bytes([number]))
        except FileExistsError:
            refused.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (written,) = (tmp_path / "file").read_bytes()
    assert sorted([written, *refused]) == list(range(8))


def test_who_holds_the_lock_makes_the_path_in_it(tmp_path):
    with disk.locked(tmp_path / "a/made"), disk.scratch_folder(tmp_path / "a/made") as scratch:
        (scratch / "spool").write_bytes(OLD)
        with disk.whole_folder(tmp_path / "a/made", is_locked=True) as partial:
            shutil.copyfile(scratch / "spool", partial / "copy")
        with disk.whole_file(tmp_path / "a/file", is_locked=True):
            pass
    assert names(tmp_path / "a") == ["file", "made"]


@pytest.mark.parametrize("kind", ["none here", "none on this file system"])
def test_without_locks_all_else_holds(kind, tmp_path, monkeypatch):
    """Windows has no fcntl, and some network file systems have no locks."""

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    if kind == "none here":
        monkeypatch.setattr(disk, "fcntl", None)
    else:
        monkeypatch.setattr(lock.fcntl, "flock", refuse)
    make_file(tmp_path / "file")
    make_folder(tmp_path / "folder")
    for maker, name in ((make_file, "file"), (make_folder, "folder")):
        with pytest.raises(FileExistsError):
            maker(tmp_path / name)
        maker(tmp_path / name, replace=True)
    (tmp_path / f"{destination.PARTIAL}x").touch()
    disk.sweep(tmp_path)
    assert names(tmp_path) == ["file", "folder"]


# Broken off


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


# Files that are made over several calls


def test_a_resumed_file_goes_on_and_gets_its_name(tmp_path):
    path = tmp_path / "file"

    def begin() -> None:
        with resumed.resumed_file(path) as part:
            assert (part.n_bytes, part.read_note()) == (0, {})
            part.file.write(b"one ")
            part.write_note({"of": "text"})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        begin()
    assert names(tmp_path) == ["file.part", "file.part.json"]
    with resumed.resumed_file(path) as part:
        assert (part.n_bytes, part.read_note()) == (4, {"of": "text"})
        assert part.file.read() == b"one "
        part.file.write(b"two")
        part.give_name()
        assert names(tmp_path) == [destination.LOCK + "file", "file", "file.part.json"]
        assert resumed.was_named(path)
    assert names(tmp_path) == ["file"]
    assert path.read_bytes() == b"one two"
    assert not resumed.was_named(path)


@pytest.mark.parametrize("ends_well", [False, True])
def test_a_resumed_file_without_a_byte_leaves_nothing(ends_well, tmp_path):
    with contextlib.suppress(KeyError), resumed.resumed_file(tmp_path / "file") as part:
        part.file.write(NEW)
        part.write_note({"of": "text"})
        part.clear()
        assert (part.n_bytes, part.read_note(), part.file.tell()) == (0, {}, 0)
        if not ends_well:
            raise KeyError
    assert names(tmp_path) == []


@pytest.mark.parametrize("note", [b"{", b"[1]", b"\xff", b"[" * 100_000, b""])
def test_a_note_that_cannot_be_read_says_nothing(note, tmp_path):
    (tmp_path / "file.part.json").write_bytes(note)
    with resumed.resumed_file(tmp_path / "file") as part:
        assert part.read_note() == {}


def test_a_resumed_file_replaces_only_what_it_saw(tmp_path):
    path = tmp_path / "file"
    with resumed.resumed_file(path) as part:
        part.file.write(NEW)
        path.write_bytes(OLD)
        with pytest.raises(FileExistsError):
            part.give_name()
    assert path.read_bytes() == OLD
    assert (tmp_path / "file.part").read_bytes() == NEW  # nothing is lost
    with resumed.resumed_file(path, replace=True) as part:
        part.give_name()
    assert path.read_bytes() == NEW
    with pytest.raises(FileExistsError, match="file is there already"):
        never(resumed.resumed_file(path))


@pytest.mark.skipif(sys.platform != "linux", reason="crashing_disk reads /proc/self/fd")
def test_after_a_power_cut_a_note_promises_no_more_than_there_is(tmp_path):
    (tmp_path / "disk").mkdir()
    with Recording(tmp_path / "disk") as recording:
        sync.sync_folder(tmp_path / "disk")
        with resumed.resumed_file(tmp_path / "disk/file") as part:
            for n in (100, 200):
                part.file.write(b"x" * 100)
                part.write_note({"n": n})
            part.give_name()
            recording.promise("named")
    n_notes = 0
    for promised, state in recording.moments:
        for tree in state.after_a_crash():
            if "file.part.json" in tree and "file.part" in tree:
                n_notes += 1
                assert (
                    tree["file.part"][: json.loads(tree["file.part.json"])["n"]].strip(b"x") == b""
                )
                assert len(tree["file.part"]) >= json.loads(tree["file.part.json"])["n"]
            if promised or "file" in tree:
                assert tree["file"] == b"x" * 200
    assert n_notes > 10


# The rest


def test_copies_are_whole(tmp_path):
    (tmp_path / "from/inner").mkdir(parents=True)
    (tmp_path / "from/inner/file").write_bytes(OLD)
    (tmp_path / "from/inner/file").chmod(0o400)
    disk.copy_folder(tmp_path / "from", tmp_path / "to")
    assert content(tmp_path / "to") == content(tmp_path / "from")
    disk.copy_file(tmp_path / "from/inner/file", tmp_path / "new/file")
    assert (tmp_path / "new/file").read_bytes() == OLD
    for copy, name in ((disk.copy_folder, "to"), (disk.copy_file, "new/file")):
        source = tmp_path / ("from" if copy is disk.copy_folder else "from/inner/file")
        with pytest.raises(FileExistsError):
            copy(source, tmp_path / name)
        copy(source, tmp_path / name, replace=True)
    assert names(tmp_path) == ["from", "new", "to"]


def test_a_name_that_is_taken_is_not_given(tmp_path):
    for name in ("a", "b"):
        disk.write_file(tmp_path / name, name.encode())
    (tmp_path / "dangling").symlink_to("nothing")
    for name in ("b", "dangling"):
        with pytest.raises(FileExistsError):
            disk.rename(tmp_path / "a", tmp_path / name)
    assert disk.rename(tmp_path / "a", tmp_path / "c") == tmp_path / "c"
    assert names(tmp_path) == ["b", "c", "dangling"]
    with pytest.raises(FileExistsError):
        disk.write_new(tmp_path / "b", NEW)


def test_what_is_removed_is_gone_at_once(tmp_path):
    make_folder(tmp_path / "folder")
    (tmp_path / f"{destination.REMOVED}folder").mkdir()  # of an earlier one
    disk.remove_folder(tmp_path / "folder")
    disk.write_file(tmp_path / "file", NEW)
    for _ in range(2):
        disk.remove_file(tmp_path / "file")
    assert names(tmp_path) == []


def test_sweep_leaves_what_is_not_of_this_program(tmp_path):
    kept = [".tmp-mine", ".fastlm", "file.part", "file.part.json", ".fastlm-part-x"]
    for name in kept:
        (tmp_path / name).touch()
    for prefix in (destination.PARTIAL, destination.LOCK, destination.SCRATCH, destination.REMOVED):
        (tmp_path / f"{prefix}x").touch()
        (tmp_path / f"{prefix}y").mkdir() if prefix != destination.LOCK else None
    disk.sweep(tmp_path)
    assert names(tmp_path) == sorted(kept)


# All others use it


MAKES_FILES = {
    "os": {"replace", "rename", "renames", "link", "mkdir", "makedirs", "rmdir", "removedirs"},
    "shutil": {"move", "rmtree", "copy", "copy2", "copyfile", "copytree", "copyfileobj"},
}
MAKES_FILES_OF_A_PATH = {"rename", "write_text", "write_bytes", "mkdir", "rmdir", "hardlink_to"}


def makes_a_file(call: ast.Call) -> bool:
    """Whether a call writes, renames or removes past files/disk."""
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    owner = ast.unparse(function.value) if isinstance(function, ast.Attribute) else ""
    if owner in MAKES_FILES and name in MAKES_FILES[owner]:
        return True
    if owner == "disk":
        return False
    if name in MAKES_FILES_OF_A_PATH:
        return True
    if name == "replace":  # Path's takes one argument, that of str two; dataclasses' takes names
        return len(call.args) == 1 and owner != "dataclasses" and not call.keywords
    if owner == "os" and name == "open":
        return any(flag in ast.unparse(call) for flag in ("O_WRONLY", "O_RDWR", "O_CREAT"))
    if name == "open":
        modes = [a.value for a in (*call.args, *(k.value for k in call.keywords))
                 if isinstance(a, ast.Constant) and isinstance(a.value, str)]  # fmt: skip
        return any(set(mode) & set("wax+") and set(mode) <= set("rwaxbt+") for mode in modes)
    return False


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("os.replace(a, b)", True),
        ("path.replace(new)", True),
        ("text.replace('a', 'b')", False),
        ("dataclasses.replace(config)", False),
        ("path.rename(new)", True),
        ("disk.rename(path, new)", False),
        ("path.write_text(text)", True),
        ("(a / b).write_bytes(raw)", True),
        ("open(path, 'wb')", True),
        ("open(path, mode='a')", True),
        ("path.open('r+b')", True),
        ("open(path)", False),
        ("open(path, 'rb')", False),
        ("gzip.open(path)", False),
        ("os.open(path, os.O_RDWR)", True),
        ("os.open(path, os.O_RDONLY)", False),
        ("shutil.rmtree(path)", True),
        ("shutil.which(name)", False),
        ("path.mkdir()", True),
    ],
)
def test_calls_that_make_files_are_seen(code, expected):
    call = ast.parse(code, mode="eval").body
    assert isinstance(call, ast.Call)
    assert makes_a_file(call) == expected


def test_no_other_file_of_fastlm_makes_files_itself():
    """tempfile may, whose files are nobody's: doctor and completion try things in them."""
    found = []
    for path in sorted((ROOT / "fastlm").rglob("*.py")):
        name = path.relative_to(ROOT / "fastlm").as_posix()
        if name.startswith("files/"):
            continue
        calls = (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call))
        found += [f"{name}:{n.lineno} {ast.unparse(n)}" for n in calls if makes_a_file(n)]
    assert not found
