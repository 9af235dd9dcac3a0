"""The record of a run stays whole when its files are replaced while it is written."""

import contextlib
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


@pytest.mark.parametrize("text", ["mine\n", '{"step": 1', '{"a": 1}\n', "[1]\n"])
def test_a_file_in_the_place_of_the_log_is_kept_apart(text, record):
    log, kept = record.files.log, record.folder / "others-of-log.jsonl"
    log.write_text(text)
    assert go_on(record) == [
        f"warning: {log} was replaced while the run goes on: what was there is {kept} now"
    ]
    assert (steps(record), kept.read_text()) == ([2, 3], text)


@pytest.mark.parametrize("text", [None, "", '{"step": 0}\n{"step": 1}\n'])
def test_a_log_that_lost_rows_is_told_and_gets_the_others(text, record):
    log = record.files.log
    log.unlink() if text is None else log.write_text(text)
    assert go_on(record) == [
        f"warning: {log} was changed while the run goes on: it may lack rows of earlier steps"
    ]
    assert steps(record) == ([0, 1, 2, 3] if text else [2, 3])


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
