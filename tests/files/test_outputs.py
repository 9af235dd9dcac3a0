"""Outputs of commands: none is an input, and what cannot be made is refused before the work."""

import errno
import os
from pathlib import Path

import pytest
from kill_while_making import NEW, OLD
from making import MAKERS, make_file, make_folder, names, never, resumed_file

from fastlm.files import destination, disk, resumed
from fastlm.files.outputs import check_new_files, check_not_read, is_standard_output


@pytest.mark.parametrize("name", ["text", "link", "hard link", "x/../text", "in/a", "in"])
def test_an_output_that_is_read_is_refused_by_whatever_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("text").write_bytes(OLD)
    Path("link").symlink_to("text")
    os.link("text", "hard link")
    Path("in/inner").mkdir(parents=True)
    Path("in/a").write_bytes(OLD)
    with pytest.raises(ValueError, match=f"{name} (is read and would be written|holds in/inner)"):
        check_not_read([name], ["text", tmp_path / "in", "in/inner"])
    check_not_read(["in/new", "other"], ["text", "in", "nothing"])


def test_two_outputs_are_two_files(tmp_path):
    (tmp_path / "link").symlink_to("a")
    for other in ("a", "link", "x/../a"):
        with pytest.raises(ValueError, match="--json and --md must be two files"):
            check_new_files({"--json": tmp_path / "a", "--md": tmp_path / other})
    check_new_files({"--json": "/dev/null", "--md": "/dev/null"}, to_stream=True)
    with pytest.raises(ValueError, match="must be two files: got - for both"):
        check_new_files({"--json": "-", "--md": "-"}, to_stream=True)


def test_the_flags_are_named(tmp_path):
    (tmp_path / "a").write_bytes(OLD)
    with pytest.raises(FileExistsError, match="give another --json, or --overwrite to replace it"):
        check_new_files({"--json": tmp_path / "a"})
    check_new_files({"--json": tmp_path / "a"}, replace=True)


WHOLE = {
    "whole_file": (disk.whole_file, disk.check_new_file),
    "whole_folder": (disk.whole_folder, disk.check_new_folder),
    "resumed_file": (resumed_file, lambda path: resumed.check_resumed_file(path, made_of=["of"])),
    "resumed_folder": (resumed.resumed_folder, disk.check_new_folder),
    "locked": (disk.locked, disk.check_folder),
}


@pytest.mark.parametrize("whole", WHOLE)
@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_place_that_cannot_be_written_is_told_by_the_path_that_was_given(
    number, whole, tmp_path, monkeypatch
):
    """Nothing is made on the way: neither a lock nor the folders above."""
    flag = os.ST_RDONLY if number == errno.EROFS else 0
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result((0,) * 8 + (flag, 0)))
    make, check = WHOLE[whole]
    for path in (tmp_path / "made", tmp_path / "new/folder/made"):
        for call in (check, lambda path: never(make(path))):
            with pytest.raises(OSError, match=f"'{path}'") as raised:
                call(path)
            assert raised.value.errno == number
    assert names(tmp_path) == []


@pytest.mark.parametrize("whole", WHOLE)
@pytest.mark.parametrize("name", ["n" * 250, f"{'n' * 300}/a", f"new/{'n' * 250}"])
def test_a_name_that_is_too_long_is_told_before_the_work(name, whole, tmp_path):
    """The names beside the path are longer than its own."""
    make, check = WHOLE[whole]
    for call in (check, lambda path: never(make(path))):
        with pytest.raises(OSError, match=f"'{tmp_path / name}'") as raised:
            call(tmp_path / name)
        assert raised.value.errno == errno.ENAMETOOLONG
    assert names(tmp_path) == []


def test_another_users_file_in_a_shared_folder_is_told_before_the_work(tmp_path, monkeypatch):
    make_file(tmp_path / "theirs")
    disk.check_new_file(tmp_path / "theirs", replace=True)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    disk.check_new_file(tmp_path / "theirs", replace=True)
    tmp_path.chmod(0o1777)
    for make in (disk.check_new_file, lambda *a, **k: never(disk.whole_file(*a, **k))):
        with pytest.raises(PermissionError, match=f"Operation not permitted: '{tmp_path}/theirs'"):
            make(tmp_path / "theirs", replace=True)
    disk.check_new_file(tmp_path / "mine")


@pytest.mark.parametrize("whole", WHOLE)
def test_folders_made_for_work_that_fails_do_not_stay(whole, tmp_path):
    (tmp_path / "there").mkdir()

    def fail() -> None:
        with WHOLE[whole][0](tmp_path / "there/new/folder/made"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert names(tmp_path / "there") == []


def test_an_error_beside_a_path_is_told_by_the_path_that_was_given(tmp_path, monkeypatch):
    def refuse(path, *_, **__):
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr(os, "open", refuse)
    for make in (disk.whole_file, disk.whole_folder, disk.locked):
        with pytest.raises(OSError, match=f"{tmp_path}/made'") as raised:
            never(make(tmp_path / "made"))
        assert raised.value.filename == str(tmp_path / "made")
    assert names(tmp_path) == []


@MAKERS
def test_standard_output_is_no_name_of_a_file(maker, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="standard output cannot be written to here"):
        maker(Path("-"))
    assert names(tmp_path) == []


def test_a_dash_is_standard_output_where_streams_are_written_to(
    tmp_path, monkeypatch, capsysbinary
):
    monkeypatch.chdir(tmp_path)
    disk.check_new_file("-", to_stream=True)
    disk.write_file("-", NEW, to_stream=True)
    assert capsysbinary.readouterr().out == NEW
    assert is_standard_output("-")
    assert not is_standard_output(tmp_path)
    assert names(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_device_is_named():
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        disk.write_file("/dev/full", NEW, to_stream=True)


def test_a_folder_to_fill_may_exist(tmp_path):
    make_folder(tmp_path / "there")
    disk.check_folder(tmp_path / "there")
    disk.check_folder(tmp_path / "new/folder")
    make_file(tmp_path / "file")
    with pytest.raises(FileExistsError, match="file is a file: expected a folder"):
        disk.check_folder(tmp_path / "file")
    with pytest.raises(NotADirectoryError):
        disk.check_folder(tmp_path / "file/inner")
    assert names(tmp_path) == ["file", "there"]
    assert destination.OURS not in "".join(names(tmp_path / "there"))
