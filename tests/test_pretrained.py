"""A checkpoint is found by every name of its folder."""

import pytest

from fastlm.checkpoint import run_checkpoints
from fastlm.pretrained import load_pretrained


@pytest.fixture
def checkpoint(finished):
    run, _ = finished
    return run_checkpoints(run / "checkpoints")[-1]


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
