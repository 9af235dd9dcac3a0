"""A run or a sweep writes to files of its own, or through a link to a place in no other."""

import shutil
from pathlib import Path

import pytest
from short_runs import config

from fastlm.config import TrainConfig
from fastlm.files import disk
from fastlm.runs.given import check_new_run, check_place_of_run
from fastlm.runs.links import check_own_files
from fastlm.runs.record import RunRecord
from fastlm.runs.run_files import RunFiles, SweepFiles
from fastlm.train import train

RUN_NAMES = [path.name for path in RunFiles(Path()).written()]
SWEEP_NAMES = [path.name for path in SweepFiles(Path()).written()]


@pytest.fixture
def runs(tmp_path) -> tuple[Path, Path]:
    """Two runs that have begun."""
    a, b = tmp_path / "a", tmp_path / "b"
    for run in (a, b):
        record = RunRecord(run)
        record.start(TrainConfig(max_steps=1), {"python": "3.11"})
        record.close()
        record.checkpoints.mkdir()
    return a, b


def link(path: Path, to: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(to)


@pytest.mark.parametrize("is_relative", [True, False])
@pytest.mark.parametrize("name", RUN_NAMES)
def test_a_link_into_another_run_is_refused_by_both_names(name, is_relative, runs):
    """Also one that leads to nothing yet, which writing would make."""
    a, b = runs
    link(b / name, Path("../a" if is_relative else a) / name)
    with pytest.raises(FileExistsError, match=f"{b / name} is a link into the run {a}, which"):
        check_place_of_run(b)


def test_a_link_to_the_folder_of_another_run_is_refused(runs):
    a, b = runs
    link(b / "checkpoints", a)
    with pytest.raises(FileExistsError, match=f"checkpoints is a link into the run {a}"):
        check_place_of_run(b)


def test_no_run_begins_among_links_into_another_one(runs, tmp_path):
    new = tmp_path / "new"
    new.mkdir()
    link(new / "tensorboard", runs[0])
    with pytest.raises(FileExistsError, match=f"link into the run {runs[0]}.*give another --out"):
        check_new_run(new)


def test_links_to_places_in_no_other_run_are_the_users_own(runs, tmp_path):
    a, b = runs
    outside = tmp_path / "disk"
    for folder in (outside, b / "deep"):
        folder.mkdir()
    link(tmp_path / "c", b)
    for place in (outside, b / "deep", Path("../c/deep")):
        for name in RUN_NAMES:
            if name not in ("config.json", "environment.json"):
                link(b / name, place / name)
        link(b / "notes.txt", a / "log.jsonl")  # the run writes to no such file
        for run in (b, tmp_path / "c"):
            check_place_of_run(run)


@pytest.mark.parametrize("name", SWEEP_NAMES)
def test_a_file_of_a_sweep_that_is_a_link_into_another_one_is_refused(name, runs, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for sweep in (first, second):
        sweep.mkdir()
        disk.write_file(SweepFiles(sweep).plan, b"{}")
    link(second / name, first / name)
    with pytest.raises(FileExistsError, match=f"{second / name} is a link into the run {first}"):
        check_own_files(second, instead="give another")
    link(second / name, runs[0] / name)
    SweepFiles(second).plan.touch()
    with pytest.raises(FileExistsError, match=f"{second / name} is a link into the run {runs[0]}"):
        check_own_files(second, instead="give another")


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["checkpoints", "log.jsonl"])
def test_a_resumed_run_leaves_another_one_that_it_links_to(name, finished, data, tmp_path):
    """In a copy made of hard links, all that the run changes becomes a file of its own."""
    whole, linked = tmp_path / "whole", tmp_path / "linked"
    shutil.copytree(finished[0], whole)
    before = content(whole)
    shutil.copytree(whole, linked)
    link(linked / name, whole / name)
    with pytest.raises(FileExistsError, match=f"{name} is a link into the run {whole}"):
        train(config(data, max_steps=21), linked, resume=True)
    assert content(whole) == before


def test_a_resumed_copy_of_hard_links_leaves_the_run_as_it_was(finished, data, tmp_path):
    """Also rows that are appended after the copy was made stay apart."""
    whole, copy = tmp_path / "whole", tmp_path / "copy"
    shutil.copytree(finished[0], whole)
    before = content(whole)
    shutil.copytree(whole, copy, copy_function=lambda a, b: Path(b).hardlink_to(a))
    assert train(config(data, max_steps=21), copy, resume=True).step == 21
    assert content(whole) == before
    later = RunRecord(copy)
    (tmp_path / "archive.jsonl").hardlink_to(later.files.log)
    then = later.files.log.read_bytes()
    later.log({"kind": "train", "step": 22})
    assert (tmp_path / "archive.jsonl").read_bytes() == then
    assert later.rows()[-1] == {"kind": "train", "step": 22}


def test_checkpoints_on_another_disk_go_on(finished, data, tmp_path):
    run, elsewhere = tmp_path / "run", tmp_path / "disk" / "checkpoints"
    shutil.copytree(finished[0], run)
    shutil.move(run / "checkpoints", elsewhere)
    link(run / "checkpoints", elsewhere)
    link(tmp_path / "link", run)
    assert train(config(data, max_steps=21), tmp_path / "link", resume=True).step == 21
    assert (run / "checkpoints").is_symlink()
    there = content(elsewhere)
    assert sorted({path.parent.name for path in there}) == [
        "checkpoints",
        "step-000020",
        "step-000021",
    ]
    copy = shutil.copytree(run, tmp_path / "copy", symlinks=True)
    with pytest.raises(FileExistsError, match=f"copy/checkpoints is .* where the run {run} has"):
        train(config(data, max_steps=22), copy, resume=True)
    assert content(elsewhere) == there
    run.rename(tmp_path / "moved")
    assert train(config(data, max_steps=22), tmp_path / "moved", resume=True).step == 22


def test_a_tokenizer_that_is_linked_is_not_replaced(finished, data, tmp_path):
    run, other = (shutil.copytree(finished[0], tmp_path / name) for name in ("run", "other"))
    (other / "tokenizer/vocab.json").write_text("{}")
    before = content(other)
    for part in ("tokenizer/vocab.json", "tokenizer"):
        link(run / part, other / part)
        with pytest.raises(FileExistsError, match="run/tokenizer holds another tokenizer than"):
            train(config(data, max_steps=21), run, resume=True)
    assert content(other) == before
    link(run / "tokenizer", data / "tokenizer")
    assert train(config(data, max_steps=21), run, resume=True).step == 21
