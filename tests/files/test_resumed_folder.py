"""A folder made over several calls is kept with a note, and gets its name when it is whole."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from making import names, resumed_file

from fastlm.files import destination, disk, resumed


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def fail(path: Path, fill: Callable[[resumed.ResumedFolder], object], error: BaseException) -> None:
    with resumed.resumed_folder(path) as part:
        fill(part)
        raise error


def begin(path: Path, *, note: dict | None) -> None:
    def fill(part: resumed.ResumedFolder) -> None:
        (part.folder / "a.bin").write_bytes(b"half")
        if note is not None:
            part.write_note(note)

    with pytest.raises(KeyboardInterrupt):
        fail(path, fill, KeyboardInterrupt())


def test_what_has_a_note_stays_for_the_next_call(tmp_path):
    begin(tmp_path / "d", note={"n": 4})
    assert names(tmp_path) == [f"{destination.NOTE}d", f"{destination.UNFINISHED}d"]
    with resumed.resumed_folder(tmp_path / "d") as part:
        assert part.read_note() == {"n": 4}
        assert (part.folder / "a.bin").read_bytes() == b"half"
        (part.folder / "a.bin").write_bytes(b"whole")
    assert names(tmp_path) == ["d"]
    assert (tmp_path / "d" / "a.bin").read_bytes() == b"whole"


def test_what_has_none_goes(tmp_path):
    begin(tmp_path / "d", note=None)
    assert names(tmp_path) == []

    def fill_and_clear(part: resumed.ResumedFolder) -> None:
        (part.folder / "deep").mkdir()
        (part.folder / "deep" / "a").touch()
        part.write_note({"n": 1})
        part.clear()
        assert names(part.folder) == []
        assert part.read_note() == {}

    with pytest.raises(ValueError, match="no use"):
        fail(tmp_path / "d", fill_and_clear, ValueError("no use"))
    assert names(tmp_path) == []


@pytest.mark.parametrize("raw", [b"{", b"[1]", b"[" * 100_000, b"\xff"])
def test_a_note_that_cannot_be_read_is_none(raw, tmp_path):
    begin(tmp_path / "d", note={"n": 4})
    (tmp_path / f"{destination.NOTE}d").write_bytes(raw)
    with resumed.resumed_folder(tmp_path / "d") as part:
        assert part.read_note() == {}


def test_sweeping_leaves_it(tmp_path):
    begin(tmp_path / "d", note={"n": 4})
    disk.sweep(tmp_path)
    with disk.whole_folder(tmp_path / "e"):
        pass
    assert names(tmp_path) == [f"{destination.NOTE}d", f"{destination.UNFINISHED}d", "e"]


def test_a_note_that_outlived_its_folder_goes(tmp_path):
    """The note was left by a process that was killed after it had given the folder its name."""
    (tmp_path / f"{destination.NOTE}d").write_text('{"n": 4}')
    with resumed.resumed_folder(tmp_path / "d") as part:
        assert part.read_note() == {}
    (tmp_path / f"{destination.NOTE}e").write_text('{"n": 4}')
    disk.sweep(tmp_path)
    assert names(tmp_path) == ["d"]


def test_one_process_at_a_time_makes_it(tmp_path):
    with (
        resumed.resumed_folder(tmp_path / "d") as part,
        pytest.raises(BlockingIOError, match=r"d is being made by process \d+"),
        resumed.resumed_folder(tmp_path / "d"),
    ):
        pass
    assert names(tmp_path) == ["d"]
    assert not part.folder.exists()


def test_it_takes_the_place_of_another_only_when_asked(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "old").touch()
    with (
        pytest.raises(FileExistsError, match="is there already"),
        resumed.resumed_folder(tmp_path / "d"),
    ):
        pass
    with resumed.resumed_folder(tmp_path / "d", replace=True) as part:
        (part.folder / "new").touch()
        part.write_note({"n": 1})
        assert names(tmp_path / "d") == ["old"]
    assert names(tmp_path / "d") == ["new"]
    assert names(tmp_path) == ["d"]


def test_a_folder_that_has_to_stay_is_filled_from_inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    begin(Path(), note={"n": 4})
    with resumed.resumed_folder(Path(), last="meta.json") as part:
        assert part.read_note() == {"n": 4}
        (part.folder / "meta.json").touch()
    assert names(tmp_path) == ["a.bin", "meta.json"]


def test_what_was_begun_inside_goes_on_by_any_name(tmp_path, monkeypatch):
    """A folder that was filled from inside cannot be renamed while unfinished work is in it."""
    folder = tmp_path / "d"
    folder.mkdir()
    with monkeypatch.context() as patch:
        patch.chdir(folder)
        begin(Path(), note={"n": 4})
    assert names(folder) == [f"{destination.NOTE}d", f"{destination.UNFINISHED}d"]
    disk.check_new_folder(folder)
    begin(folder, note={"n": 5})
    with resumed.resumed_folder(folder) as part:
        assert part.read_note() == {"n": 5}
        assert (part.folder / "a.bin").read_bytes() == b"half"
    assert names(tmp_path) == ["d"]
    assert names(folder) == ["a.bin"]


def test_another_folder_may_be_made_around_unfinished_work(tmp_path):
    begin(tmp_path / "outer/inner", note={"n": 4})
    disk.check_new_folder(tmp_path / "outer")
    with disk.whole_folder(tmp_path / "outer") as partial:
        (partial / "new").touch()
    with resumed.resumed_folder(tmp_path / "outer/inner") as part:
        assert part.read_note() == {"n": 4}
    assert names(tmp_path / "outer") == ["inner", "new"]


@pytest.mark.parametrize("make", [resumed_file, resumed.resumed_folder])
def test_sweeping_leaves_a_note_that_is_being_written(make, tmp_path, monkeypatch):
    def flush(handle: int) -> None:
        disk.sweep(tmp_path)

    with make(tmp_path / "d") as part:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", flush)
            part.write_note({"n": 1})
        assert part.read_note()["n"] == 1
        if make is resumed_file:
            part.give_name()
    assert names(tmp_path) == ["d"]


@pytest.mark.parametrize("make", [resumed_file, resumed.resumed_folder])
def test_a_kill_while_a_note_is_written_leaves_nothing_behind(make, tmp_path):
    """The next call removes the partial note, whether or not it writes one itself."""
    name = "d.part.json" if make is resumed_file else f"{destination.NOTE}d"
    (tmp_path / f"{destination.PARTIAL}{name}").write_text('{"n"')
    (tmp_path / f"{destination.LOCK}{name}").touch()
    with make(tmp_path / "d") as part:
        if make is resumed_file:
            part.give_name()
    assert [path.name for path in tmp_path.iterdir()] == ["d"]
