"""The record of a run stays whole when its files are replaced while it is written."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastlm.config.recipes import load_recipe
from fastlm.runs.record import RunRecord

CONFIG = load_recipe("tiny")


@pytest.fixture
def record(tmp_path) -> Iterator[RunRecord]:
    """The record of a run that has logged step 1."""
    with contextlib.closing(RunRecord(tmp_path / "run")) as record:
        record.start(CONFIG, {"python": "3.11"})
        record.log({"step": 1})
        yield record


def go_on(record: RunRecord) -> list[str]:
    """Log step 2 before and step 3 after the folder is made ready; returns what is told."""
    record.log({"step": 2})
    record.renew(CONFIG)
    record.log({"step": 3})
    return record.news()


def steps(record: RunRecord) -> list[int]:
    return [row["step"] for row in record.rows()]


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def check_goes_on_beside(record: RunRecord, folder: Path) -> None:
    (told,) = go_on(record)
    assert told.startswith(f"warning: {folder} was moved or removed while the run goes on, and ")
    assert told.endswith(f" is in the new folder {folder}-2")
    assert record.folder == Path(f"{folder}-2")
    assert RunRecord(record.folder).config() == CONFIG
    assert steps(RunRecord(record.folder)) == [2, 3]


@pytest.mark.parametrize(
    "name",
    ["config", "log", "environment", "summary", "former-summary", "failed", "curve", "sample"],
)
def test_a_new_folder_with_a_file_of_that_name_stays_as_it_is(name, record, tmp_path):
    folder, path = record.folder, getattr(record.files, name.replace("-", "_"))
    folder.rename(tmp_path / "moved")
    folder.mkdir()
    path.write_text("mine")
    check_goes_on_beside(record, folder)
    assert content(folder) == {path.name: b"mine"}


def test_another_run_in_the_place_of_the_folder_stays_as_it_is(record, tmp_path):
    folder = record.folder
    folder.rename(tmp_path / "moved")
    with contextlib.closing(RunRecord(folder)) as other:
        other.start(load_recipe("baseline"), {"python": "3.12"})
        other.log({"step": 9})
    before = content(folder)
    check_goes_on_beside(record, folder)
    assert content(folder) == before


def test_a_file_in_the_place_of_the_folder_stays_as_it_is(record):
    folder = record.folder
    shutil.rmtree(folder)
    folder.write_text("mine")
    check_goes_on_beside(record, folder)
    assert folder.read_text() == "mine"


def test_the_name_of_the_folder_beside_is_free(record, tmp_path):
    folder = record.folder
    folder.rename(tmp_path / "run-2")
    folder.mkdir()
    (folder / "log.jsonl").write_text("mine")
    go_on(record)
    assert record.folder == tmp_path / "run-3"
    assert steps(RunRecord(tmp_path / "run-2")) == [1]


def test_a_new_folder_that_is_in_no_ones_way_is_used(record, tmp_path):
    folder = record.folder
    folder.rename(tmp_path / "moved")
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    (told,) = go_on(record)
    assert told.endswith(f" is in the new folder {folder}")
    assert (steps(record), (folder / "notes.txt").read_text()) == ([2, 3], "mine")


def test_a_copy_of_the_folder_is_gone_on_with(record, tmp_path):
    """As when it was moved to another disk, with a link in its place."""
    shutil.copytree(record.folder, tmp_path / "other-disk")
    shutil.rmtree(record.folder)
    record.folder.symlink_to(tmp_path / "other-disk", target_is_directory=True)
    assert go_on(record) == []
    assert steps(record) == [1, 2, 3]


@pytest.mark.parametrize(
    "text", ["mine\n", '{"step": 1', '{"a": 1}\n', '{"step": 0}\n{"step": 1}\n']
)
def test_a_file_in_the_place_of_the_log_is_kept_apart(text, record):
    log, kept = record.files.log, record.folder / "others-of-log.jsonl"
    log.write_text(text)
    assert go_on(record) == [
        f"warning: {log} was replaced while the run goes on: what was there is {kept} now"
    ]
    assert (steps(record), kept.read_text()) == ([2, 3], text)


@pytest.mark.parametrize("text", [None, "", '{"step": 1}\n{"step": 1}\n'])
def test_a_log_that_lost_rows_is_told_and_gets_the_others(text, record):
    log = record.files.log
    log.unlink() if text is None else log.write_text(text)
    assert go_on(record) == [
        f"warning: {log} was changed while the run goes on: it may lack rows of earlier steps"
    ]
    assert steps(record) == ([1, 1, 2, 3] if text else [2, 3])


@pytest.mark.parametrize("link", ["symbolic", "hard", "device", "nothing", "itself", "pipe"])
def test_the_log_of_another_run_a_pipe_or_a_device_is_not_written_to(link, record, tmp_path):
    log, other = record.files.log, tmp_path / "other.jsonl"
    other.write_text('{"step": 8}\n')
    log.unlink()
    if link == "hard":
        os.link(other, log)
    elif link == "pipe":
        os.mkfifo(log)
    else:
        target = {"symbolic": other, "device": "/dev/null", "nothing": "nowhere", "itself": log}
        log.symlink_to(target[link])
    (told,) = go_on(record)
    assert told.startswith(f"warning: {log} was replaced while the run goes on")
    assert steps(record) == [2, 3]
    assert other.read_text() == '{"step": 8}\n'


def test_a_link_into_another_run_that_comes_meanwhile_is_renamed(record, tmp_path):
    """Also one that leads to the log of a run that has no row yet, or to what is not there yet."""
    with contextlib.closing(RunRecord(tmp_path / "other")) as other:
        other.start(CONFIG, {"python": "3.11"})
        for name in ("log.jsonl", "summary.json", "config.json"):
            (record.folder / name).unlink(missing_ok=True)
            (record.folder / name).symlink_to(other.folder / name)
        told = go_on(record)
        assert len(told) == 4  # the configuration is written again
        for name in ("log.jsonl", "summary.json", "config.json"):
            assert any(f"{record.folder / name} was replaced while" in line for line in told)
        assert not (record.folder / "summary.json").exists()
        assert steps(record) == [2, 3]
        assert other.files.log.read_bytes() == b""


def test_checkpoints_of_another_run_are_not_the_runs(record, tmp_path):
    other = tmp_path / "other"
    (other / "step-000001").mkdir(parents=True)
    assert go_on(record) == []
    record.checkpoints.rename(tmp_path / "mine")
    record.checkpoints.symlink_to(other, target_is_directory=True)
    (told,) = go_on(record)
    assert told.startswith(f"warning: {record.checkpoints} was replaced while the run goes on")
    assert record.checkpoints.is_dir()
    assert not record.checkpoints.is_symlink()
    assert list(record.checkpoints.iterdir()) == []
    assert [path.name for path in other.iterdir()] == ["step-000001"]


def test_an_earlier_run_of_the_same_settings_is_another(record, tmp_path):
    folder = record.folder
    folder.rename(tmp_path / "moved")
    with contextlib.closing(RunRecord(folder)) as earlier:
        earlier.start(CONFIG, {"python": "3.11"})
        earlier.log({"step": 1, "seconds": 5.0})
    before = content(folder)
    check_goes_on_beside(record, folder)
    assert content(folder) == before


@pytest.mark.parametrize("what", ["file", "link to nothing", "link to itself"])
def test_a_parent_that_became_no_folder_is_passed(what, tmp_path):
    """The run goes on in the nearest folder above."""
    above = tmp_path / "above"
    with contextlib.closing(RunRecord(above / "inner" / "run")) as record:
        record.start(CONFIG, {"python": "3.11"})
        record.log({"step": 1})
        (above / "inner").rename(tmp_path / "moved")
        if what == "file":
            (above / "inner").write_text("mine")
        else:
            target = "nowhere" if what == "link to nothing" else "inner"
            (above / "inner").symlink_to(target)
        (told,) = go_on(record)
        assert record.folder == above / "run-2"
        assert f"is in the new folder {above / 'run-2'}" in told
        assert steps(record) == [2, 3]


def test_a_tokenizer_that_was_removed_is_written_again(record):
    record.renew(CONFIG, record.tokenizer.mkdir)
    record.news()
    record.tokenizer.rmdir()
    record.renew(CONFIG, record.tokenizer.mkdir)
    assert record.news() == [
        f"warning: {record.tokenizer} was removed while the run goes on: it is written again"
    ]
    assert record.tokenizer.is_dir()


@pytest.mark.parametrize("name", ["config", "checkpoints"])
def test_a_file_in_the_place_of_another_part_is_kept_apart(name, record):
    path = getattr(record.files, name)
    path.write_text("mine")
    kept = path.with_name(f"others-of-{path.name}")
    assert go_on(record) == [
        f"warning: {path} was replaced while the run goes on: what was there is {kept} now"
    ]
    assert (kept.read_text(), record.config(), steps(record)) == ("mine", CONFIG, [1, 2, 3])


def test_a_configuration_that_was_removed_is_written_again(record):
    path = record.files.config
    path.unlink()
    assert go_on(record) == [
        f"warning: {path} was removed while the run goes on: it is written again"
    ]
    assert record.config() == CONFIG


def test_a_configuration_that_was_edited_stays(record):
    """Its budgets are for the next resume."""
    path = record.files.config
    path.write_text(path.read_text().replace(f'"seed": {CONFIG.seed}', '"seed": 77'))
    assert go_on(record) == []
    assert record.config().seed == 77
