"""A file made over several calls goes on where an earlier one stopped."""

import contextlib
import json
import sys

import pytest
from crashing_disk import Recording
from kill_while_making import NEW, OLD
from making import MADE_OF, names, never, resumed_file

from fastlm.files import destination, resumed, sync


def test_a_resumed_file_goes_on_and_gets_its_name(tmp_path):
    path = tmp_path / "file"

    def begin() -> None:
        with resumed_file(path) as part:
            assert (part.n_bytes, part.read_note()) == (0, MADE_OF)
            part.file.write(b"one ")
            part.write_note({"n": 4})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        begin()
    assert names(tmp_path) == ["file.part", "file.part.json"]
    with resumed_file(path, made_of={"of": "another"}) as part:
        assert (part.n_bytes, part.read_note()) == (4, {**MADE_OF, "n": 4})
        assert part.file.read() == b"one "
        part.file.write(b"two")
        part.give_name()
        assert names(tmp_path) == [destination.LOCK + "file", "file", "file.part.json"]
        assert resumed.was_named(path, ["n"])
        assert not resumed.was_named(path, ["m"])
    assert names(tmp_path) == ["file"]
    assert path.read_bytes() == b"one two"
    assert not resumed.was_named(path, ["n"])


@pytest.mark.parametrize("ends_well", [False, True])
def test_a_resumed_file_without_a_byte_leaves_nothing(ends_well, tmp_path):
    path = tmp_path / "file"
    with contextlib.suppress(KeyError), resumed_file(path) as part:
        part.file.write(NEW)
        part.write_note({"n": 300})
        part.clear()
        assert (part.n_bytes, part.read_note(), part.file.tell()) == (0, MADE_OF, 0)
        if not ends_well:
            raise KeyError
    assert names(tmp_path) == []


def test_an_error_after_the_name_leaves_the_note(tmp_path):
    """The work that follows the name is still to be done: finish_named does it, once."""
    path = tmp_path / "file"

    def fail() -> None:
        with resumed_file(path) as part:
            part.file.write(NEW)
            part.give_name()
            raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        fail()
    assert names(tmp_path) == ["file", "file.part.json"]
    assert resumed.was_named(path, MADE_OF)

    def fail_again(note: dict) -> None:
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        resumed.finish_named(path, MADE_OF, fail_again)
    assert resumed.was_named(path, MADE_OF)
    notes: list[dict] = []
    for _ in range(2):
        resumed.finish_named(path, MADE_OF, notes.append)
    assert notes == [MADE_OF]
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("ending", [".part", ".part.json"])
@pytest.mark.parametrize("mine", [b"mine", b"", b"[1]", b"\xff", b"[" * 100_000, b'{"by": "me"}'])
def test_a_part_or_note_of_others_stays_as_it_is(ending, mine, tmp_path):
    """A note that cannot be read, or has other names, does not say that its part is ours."""
    (tmp_path / f"file{ending}").write_bytes(mine)
    message = f"file{ending} is there and is not the unfinished part of .*file: move it away"
    with pytest.raises(FileExistsError, match=message):
        never(resumed_file(tmp_path / "file"))
    with pytest.raises(FileExistsError, match=message):
        resumed.check_resumed_file(tmp_path / "file", made_of=MADE_OF)
    assert not resumed.was_named(tmp_path / "file", MADE_OF)
    assert names(tmp_path) == [f"file{ending}"]
    assert (tmp_path / f"file{ending}").read_bytes() == mine


def test_a_part_that_is_a_link_is_not_written_through(tmp_path):
    (tmp_path / "mine").write_bytes(OLD)
    (tmp_path / "file.part").symlink_to("mine")
    (tmp_path / "file.part.json").write_text('{"of": "text"}')
    with pytest.raises(FileExistsError, match=r"file\.part is there"):
        never(resumed_file(tmp_path / "file"))
    assert (tmp_path / "mine").read_bytes() == OLD


def test_a_resumed_file_replaces_only_what_it_saw(tmp_path):
    path = tmp_path / "file"
    with resumed_file(path) as part:
        part.file.write(NEW)
        path.write_bytes(OLD)
        with pytest.raises(FileExistsError):
            part.give_name()
    assert path.read_bytes() == OLD
    assert (tmp_path / "file.part").read_bytes() == NEW  # nothing is lost
    with resumed_file(path, replace=True) as part:
        part.give_name()
    assert path.read_bytes() == NEW
    with pytest.raises(FileExistsError, match="file is there already"):
        never(resumed_file(path))


@pytest.mark.skipif(sys.platform != "linux", reason="crashing_disk reads /proc/self/fd")
def test_after_a_power_cut_a_note_promises_no_more_than_there_is(tmp_path):
    (tmp_path / "disk").mkdir()
    with Recording(tmp_path / "disk") as recording:
        sync.sync_folder(tmp_path / "disk")
        with resumed_file(tmp_path / "disk/file") as part:
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
                n = json.loads(tree["file.part.json"]).get("n", 0)
                assert tree["file.part"][:n].strip(b"x") == b""
                assert len(tree["file.part"]) >= n
            if promised or "file" in tree:
                assert tree["file"] == b"x" * 200
    assert n_notes > 10
