"""A checkpoint is found by every name of its folder."""

import shutil
from pathlib import Path

import pytest

from fastlm import pretrained
from fastlm.checkpoint import Damaged, run_checkpoints
from fastlm.pretrained import load_pretrained


@pytest.fixture
def checkpoint(finished):
    run, _ = finished
    return run_checkpoints(run / "checkpoints")[-1]


@pytest.mark.parametrize("name", ["manifest.json", "model.safetensors"])
def test_where_a_run_in_progress_removes_it_while_it_is_read(name, finished, tmp_path, monkeypatch):
    """The next newest is read; one that is damaged, or named, is an error."""
    run = Path(shutil.copytree(finished[0], tmp_path / "run"))
    newest = run_checkpoints(run / "checkpoints")[-1]
    renamed = newest.with_name("step-000099")
    original = pretrained.read_manifest

    def read(folder):
        if folder == newest and name == "manifest.json":
            newest.rename(renamed)
        manifest = original(folder)
        if folder == newest:
            newest.rename(renamed)
        return manifest

    with monkeypatch.context() as patch:
        patch.setattr(pretrained, "read_manifest", read)
        assert load_pretrained(run).tokenizer.hash == load_pretrained(renamed).tokenizer.hash
    with pytest.raises(FileNotFoundError, match=newest.name):
        load_pretrained(newest)
    (renamed / name).unlink()
    with pytest.raises(Damaged, match=name):
        load_pretrained(run)


def test_from_within_its_folder(checkpoint, monkeypatch):
    expected = load_pretrained(checkpoint).tokenizer.hash
    monkeypatch.chdir(checkpoint.parent)
    assert load_pretrained(checkpoint.name).tokenizer.hash == expected
    monkeypatch.chdir(checkpoint)
    for name in (".", f"../{checkpoint.name}"):
        assert load_pretrained(name).tokenizer.hash == expected


def test_where_it_is_a_link_to_another_disk(checkpoint, finished, tmp_path):
    """The run is that of the folder which has the link."""
    run, moved = tmp_path / "run", tmp_path / "disk" / "moved"
    (run / "checkpoints").mkdir(parents=True)
    moved.parent.mkdir()
    for name in ("config.json", "tokenizer"):
        (run / name).symlink_to(finished[0] / name)
    moved.symlink_to(checkpoint)
    (run / "checkpoints" / checkpoint.name).symlink_to(moved)
    assert load_pretrained(run / "checkpoints" / checkpoint.name).model is not None
