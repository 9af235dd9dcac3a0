"""A file made over several calls goes on where an earlier one stopped."""

import contextlib
import json
import sys

import pytest
from crashing_disk import Recording
from kill_while_making import NEW, OLD
from making import names, never

from fastlm.files import destination, resumed, sync


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


def test_an_error_after_the_name_leaves_the_note(tmp_path):
    """The work that follows the name is still to be done: finish_named does it, once."""
    path = tmp_path / "file"

    def fail() -> None:
        with resumed.resumed_file(path) as part:
            part.file.write(NEW)
            part.write_note({"of": "text"})
            part.give_name()
            raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        fail()
    assert names(tmp_path) == ["file", "file.part.json"]
    assert resumed.was_named(path)

    def fail_again(note: dict) -> None:
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        resumed.finish_named(path, fail_again)
    assert resumed.was_named(path)
    notes: list[dict] = []
    for _ in range(2):
        resumed.finish_named(path, notes.append)
    assert notes == [{"of": "text"}]
    assert names(tmp_path) == ["file"]


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
