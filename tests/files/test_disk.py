"""Files and folders are whole or absent, and what is there is never lost."""

import contextlib
import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kill_while_making import NEW, OLD
from making import MAKERS, make_file, make_folder, names, never, resumed_file

from fastlm.files import destination, disk

ROOT = Path(__file__).resolve().parents[2]


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
        with resumed_file(tmp_path / "resumed") as part:
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


LEFTOVERS = (
    "PARTIAL",
    "LOCK",
    "SCRATCH",
    "REPLACED",
    "REMOVED",
    "CLEARING",
    "MOVING",
    "UNFINISHED",
    "NOTE",
)


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("is_inside", [False, True])
@pytest.mark.parametrize("leftover", LEFTOVERS)
def test_looking_changes_nothing(leftover, is_inside, replace, tmp_path, monkeypatch):
    prefix = getattr(destination, leftover)
    folder = tmp_path / "d" if is_inside else tmp_path
    folder.mkdir(exist_ok=True)
    if leftover in ("LOCK", "NOTE"):
        (folder / f"{prefix}d").touch()
    else:
        (folder / f"{prefix}d").mkdir()
        (folder / f"{prefix}d/file").write_bytes(OLD)
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    for here in (tmp_path, folder):
        monkeypatch.chdir(here)
        with contextlib.suppress(FileExistsError):
            disk.check_new_folder(tmp_path / "d", replace=replace)
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("leftover", ["REPLACED", "MOVING"])
def test_what_a_killed_call_would_have_put_back_is_there(leftover, tmp_path, monkeypatch):
    path = tmp_path / "d"
    if leftover == "MOVING":  # it is filled from inside
        path.mkdir()
        monkeypatch.chdir(path)
    kept = (path if leftover == "MOVING" else tmp_path) / f"{getattr(destination, leftover)}d"
    kept.mkdir()
    (kept / "old").write_bytes(OLD)
    with pytest.raises(FileExistsError, match=f"d is there already, as .*/{kept.name}: rename"):
        disk.check_new_folder(path)
    disk.check_new_folder(path, replace=True)
    with pytest.raises(FileExistsError, match="d is there already"):
        never(disk.whole_folder(path))
    assert (path / "old").read_bytes() == OLD


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
    for whole in (disk.whole_file, disk.whole_folder, resumed_file):
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


@pytest.mark.parametrize("is_current", [False, True])
@pytest.mark.parametrize("came", ["inner/mine", "inner/old", "mine", "deep/er/mine"])
def test_what_comes_into_a_folder_meanwhile_stays(came, is_current, tmp_path, monkeypatch):
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner/old").write_bytes(OLD)
    if is_current:
        monkeypatch.chdir(folder)

    def come() -> None:
        with disk.whole_folder(folder, replace=True) as partial:
            disk.write_new(partial / "new", NEW)
            (folder / came).parent.mkdir(parents=True, exist_ok=True)
            (folder / came).write_bytes(b"mine")

    with pytest.raises(FileExistsError, match="folder.* came or changed while"):
        come()
    assert (folder / came).read_bytes() == b"mine"
    assert (folder / "inner/old").exists()
    assert names(tmp_path) == ["folder"]


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
        for whole in (disk.whole_file, resumed_file):
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
    assert (tmp_path / "out").read_bytes() == b"old new"


def test_copies_are_whole(tmp_path):
    (tmp_path / "from").write_bytes(OLD)
    (tmp_path / "from").chmod(0o400)
    disk.copy_file(tmp_path / "from", tmp_path / "new/file")
    assert (tmp_path / "new/file").read_bytes() == OLD
    with pytest.raises(FileExistsError):
        disk.copy_file(tmp_path / "from", tmp_path / "new/file")
    disk.copy_file(tmp_path / "from", tmp_path / "new/file", replace=True)
    assert names(tmp_path) == ["from", "new"]


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


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_a_file_that_is_replaced_keeps_its_mode(tmp_path):
    (tmp_path / "private").write_text("before")
    (tmp_path / "private").chmod(0o600)
    disk.write_file(tmp_path / "private", b"after", replace=True)
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o600
