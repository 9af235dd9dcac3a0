"""Checkpoints load what was saved, keep no half-written folder, and run no code."""

import errno
import hashlib
import io
import json
import os
import random

import pytest
import torch
from making import names
from short_runs import same, write_checkpoint
from torch import nn

from fastlm import checkpoint
from fastlm.checkpoint import (
    Damaged,
    load_checkpoint,
    read_manifest,
    read_model_tensors,
    read_newest,
    read_run_checkpoint,
    run_checkpoints,
    save_checkpoint,
    set_aside,
)
from fastlm.checkpoint.tree import pack, unpack
from fastlm.config import ModelConfig
from fastlm.files.sealed import seal
from fastlm.model import TransformerLM
from fastlm.optim import AdamW


def trained(seed: int = 0, make=lambda p: AdamW(p, 1e-2)):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    optimizer = make(model.parameters())
    for _ in range(3):
        model(torch.randn(6, 4)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


@pytest.mark.parametrize(
    "make",
    [
        lambda p: AdamW(p, 1e-2),
        lambda p: torch.optim.AdamW(p, 1e-2, amsgrad=True),
        lambda p: torch.optim.SGD(p, 1e-2, momentum=0.9),
        lambda p: torch.optim.LBFGS(p),
    ],
    ids=["AdamW", "torch AdamW", "torch SGD", "torch LBFGS"],
)
@pytest.mark.parametrize("where", ["path", "file"])
def test_any_module_and_optimizer_come_back(make, where, tmp_path):
    if make([nn.Parameter(torch.zeros(1))]).__class__.__name__ == "LBFGS":
        model, optimizer = trained()
        optimizer = make(model.parameters())
        optimizer.step(lambda: model(torch.ones(6, 4)).square().sum())
    else:
        model, optimizer = trained(make=make)
    out = tmp_path / "c.pt" if where == "path" else io.BytesIO()
    save_checkpoint(model, optimizer, 17, out)
    other = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    other_optimizer = make(other.parameters())
    if where == "file":
        out.seek(0)
    assert load_checkpoint(out, other, other_optimizer) == 17
    assert same(dict(model.state_dict()), dict(other.state_dict()))
    assert same(optimizer.state_dict(), other_optimizer.state_dict())
    if where == "path":
        assert [p.name for p in tmp_path.iterdir()] == ["c.pt"]


def test_tied_model_comes_back(tmp_path):
    config = ModelConfig(vocab_size=30, context_length=8, n_layers=1, d_model=8, n_heads=2)
    a, b = TransformerLM(config), TransformerLM(config)
    save_checkpoint(a, AdamW(a.parameters()), 0, tmp_path / "c")
    load_checkpoint(tmp_path / "c", b, AdamW(b.parameters()))
    assert same(dict(a.state_dict()), dict(b.state_dict()))
    assert b.output_weight is b.token_embeddings.weight


@pytest.mark.parametrize("raw", [b"", b"x" * 100, (5).to_bytes(8, "little") + b"[1,2]"])
def test_other_bytes_are_refused(raw, tmp_path):
    (tmp_path / "c").write_bytes(raw)
    model, optimizer = trained()
    with pytest.raises(ValueError, match="not a checkpoint"):
        load_checkpoint(tmp_path / "c", model, optimizer)


def test_a_pickle_is_refused_and_not_run(tmp_path):
    import pickle

    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    (tmp_path / "c").write_bytes(pickle.dumps(Trap()))
    model, optimizer = trained()
    with pytest.raises(ValueError, match="not a checkpoint"):
        load_checkpoint(tmp_path / "c", model, optimizer)
    assert not (tmp_path / "ran").exists()


def test_pack_keeps_types_and_names_what_it_cannot_save():
    tree = {1: (2.5, [True, None]), "x": {"y": torch.arange(3)}, "inf": float("inf")}
    tensors: dict[str, torch.Tensor] = {}
    packed = json.loads(json.dumps(pack(tree, tensors)))
    assert same(unpack(packed, tensors), tree)
    with pytest.raises(TypeError, match="cannot save set at /a/0"):
        pack({"a": [{1}]}, {})


def test_run_checkpoints_come_back_and_old_ones_go(tmp_path):
    for step in (5, 10, 100):
        model, optimizer = trained(step)
        write_checkpoint(tmp_path, step, model, [optimizer], {"seconds": step / 2})
    assert names(tmp_path) == ["step-000010", "step-000100"]
    saved = read_newest(tmp_path, pytest.fail)
    assert (saved.step, saved.state) == (100, {"seconds": 50.0})
    assert same(saved.model, dict(model.state_dict()))
    assert same(saved.optimizers, [optimizer.state_dict()])


@pytest.mark.parametrize("keep", [1, 2, 3, 7])
def test_as_many_checkpoints_remain_as_asked(keep, tmp_path):
    model, optimizer = trained()
    for step in range(1, 6):
        write_checkpoint(tmp_path, step, model, [optimizer], keep=keep)
        kept = range(max(1, step + 1 - keep), step + 1)
        assert names(tmp_path) == [f"step-{n:06d}" for n in kept]


def test_files_of_others_in_a_checkpoint_that_goes_are_kept(tmp_path):
    """Such as an export or an evaluation; a file with the name of a checkpoint stays too."""
    model, optimizer = trained()
    (tmp_path / "step-000000").write_text("a file")
    told: list[str] = []
    for step in (1, 2, 3, 3):
        path = write_checkpoint(tmp_path, step, model, [optimizer], keep=1, warn=told.append)
        (path / "export").mkdir()
        (path / "export/model.bin").write_text(f"of step {step}")
    kept = ["others-of-step-000001", "others-of-step-000002", "others-of-step-000003"]
    assert names(tmp_path) == [*kept, "step-000000", "step-000003"]
    for step, name in enumerate(kept, start=1):
        assert names(tmp_path / name) == ["export"]
        assert (tmp_path / name / "export/model.bin").read_text() == f"of step {step}"
    assert [line.split(" keeps what was in")[0] for line in told] == [
        str(tmp_path / name) for name in kept
    ]
    assert read_newest(tmp_path, pytest.fail).step == 3


def test_an_old_checkpoint_that_is_a_link_goes_and_its_target_stays(tmp_path):
    model, optimizer = trained()
    folder, archive = tmp_path / "checkpoints", tmp_path / "archive"
    write_checkpoint(folder, 1, model, [optimizer])
    (folder / "step-000001").rename(archive)
    (folder / "step-000001").symlink_to(archive, target_is_directory=True)
    write_checkpoint(folder, 2, model, [optimizer], keep=1, warn=pytest.fail)
    assert (names(folder), len(names(archive))) == (["step-000002"], 4)


def test_a_checkpoint_is_saved_where_an_old_one_cannot_be_removed(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    model, optimizer = trained()
    write_checkpoint(tmp_path, 1, model, [optimizer])
    monkeypatch.setattr(checkpoint.disk, "remove_folder", refuse)
    told: list[str] = []
    write_checkpoint(tmp_path, 2, model, [optimizer], keep=1, warn=told.append)
    assert names(tmp_path) == ["step-000001", "step-000002"]
    old = tmp_path / "step-000001"
    assert told == [f"{old} is an old checkpoint and cannot be removed (Permission denied)"]


def test_a_checkpoint_takes_the_place_of_one_of_the_same_step(tmp_path):
    for seed in (1, 2):
        model, optimizer = trained(seed)
        write_checkpoint(tmp_path, 7, model, [optimizer], keep=1)
    assert names(tmp_path) == ["step-000007"]
    assert same(read_model_tensors(tmp_path / "step-000007"), dict(model.state_dict()))


def test_the_manifest_tells_what_a_checkpoint_is_of(tmp_path):
    model, optimizer = trained()
    snapshot = checkpoint.take_snapshot(3, model, [optimizer], {}, {"tokenizer_hash": "abc"})
    manifest = read_manifest(checkpoint.write_snapshot(tmp_path, snapshot))
    assert (manifest["format"], manifest["step"], manifest["tokenizer_hash"]) == (2, 3, "abc")
    assert manifest["versions"]["torch"] == torch.__version__
    for name, told in manifest["files"].items():
        raw = (tmp_path / "step-000003" / name).read_bytes()
        assert told == {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}


FILES = ("model.safetensors", "optim.safetensors", "state.json", "manifest.json")


def damage(path, rng: random.Random) -> None:
    """Flip a bit of a file, cut it short, or remove it."""
    raw = bytearray(path.read_bytes())
    kind = rng.random()
    if kind < 0.6:
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        path.write_bytes(raw)
    elif kind < 0.95:
        path.write_bytes(raw[: rng.randrange(len(raw))])
    else:
        path.unlink()


def test_every_damage_is_found_and_the_checkpoint_before_is_taken(tmp_path):
    """200 random flips of a bit and cuts, in all files."""
    model, optimizer = trained()
    write_checkpoint(tmp_path, 1, model, [optimizer])
    rng = random.Random(0)
    for n in range(200):
        path = write_checkpoint(tmp_path, 2, model, [optimizer])
        name = FILES[n % 4]
        damage(path / name, rng)
        with pytest.raises(Damaged, match=f"step-000002/{name}"):
            read_run_checkpoint(path)
        with pytest.raises(Damaged, match=f"step-000002/{name}"):
            checkpoint.verify(path)
        told: list[str] = []
        assert read_newest(tmp_path, told.append).step == 1
        assert len(told) == 1
        assert f"step-000002/{name}" in told[0]
        assert "taking the checkpoint before it" in told[0]
    damage(tmp_path / "step-000001" / "state.json", rng)
    with pytest.raises(ValueError, match="all 2 checkpoints .* are damaged"):
        read_newest(tmp_path, told.append)


@pytest.mark.parametrize("name", ["model.safetensors", "optim.safetensors"])
def test_values_that_are_not_finite_are_damage(name, tmp_path):
    """Earlier versions saved them: their hashes are right."""
    model, optimizer = trained()
    write_checkpoint(tmp_path, 1, model, [optimizer])
    with torch.no_grad():
        moment = optimizer.state[model[0].weight]["exp_avg"]
        (model[0].weight if name.startswith("model") else moment)[0, 0] = float("inf")
    bad = write_checkpoint(tmp_path, 2, model, [optimizer])
    told = f"{bad / name} is damaged: it has values that are not finite"
    with pytest.raises(Damaged, match=told):
        read_run_checkpoint(bad)
    if name.startswith("model"):
        with pytest.raises(Damaged, match=told):
            read_model_tensors(bad)
    warnings: list[str] = []
    assert read_newest(tmp_path, warnings.append).step == 1
    assert warnings == [f"{told}; taking the checkpoint before it"]


def test_a_checkpoint_that_reads_back_wrong_is_no_checkpoint(tmp_path, monkeypatch):
    """A disk that returns other bytes than it was given: the older ones stay."""
    model, optimizer = trained()
    for step in (1, 2):
        write_checkpoint(tmp_path, step, model, [optimizer])
    original = checkpoint.verify

    def from_bad_disk(folder):
        file = folder / "optim.safetensors"
        file.write_bytes(file.read_bytes()[:-1] + b"?")
        original(folder)

    monkeypatch.setattr(checkpoint, "verify", from_bad_disk)
    for step in (2, 3):
        with pytest.raises(Damaged, match=f"step-00000{step}/optim.safetensors is damaged"):
            write_checkpoint(tmp_path, step, model, [optimizer])
    assert names(tmp_path) == ["step-000001", "step-000002"]
    for path in run_checkpoints(tmp_path):
        original(path)


@pytest.mark.parametrize("kind", ["link", "link to nothing", "file"])
def test_what_has_the_name_of_a_checkpoint_and_is_none_is_kept(kind, tmp_path):
    """Neither the target of a link nor what lies in it changes."""
    folder, other = tmp_path / "checkpoints", tmp_path / "other"
    model, optimizer = trained()
    write_checkpoint(other, 1, model, [optimizer])
    (other / "step-000001" / "mine").write_text("mine")
    before = {path.name: path.read_bytes() for path in (other / "step-000001").iterdir()}
    folder.mkdir()
    if kind == "file":
        (folder / "step-000001").write_text("mine")
    else:
        target = other / "step-000001" if kind == "link" else tmp_path / "nothing"
        (folder / "step-000001").symlink_to(target)
    write_checkpoint(folder, 1, model, [optimizer])
    checkpoint.verify(folder / "step-000001")
    assert os.path.lexists(folder / "others-of-step-000001")
    assert not (folder / "step-000001").is_symlink()
    assert before == {path.name: path.read_bytes() for path in (other / "step-000001").iterdir()}


def test_a_folder_without_checkpoints_has_no_newest(tmp_path):
    assert read_newest(tmp_path / "none", pytest.fail) is None


def test_formats_of_other_versions_are_refused(tmp_path):
    model, optimizer = trained()
    path = write_checkpoint(tmp_path, 1, model, [optimizer])
    (path / "manifest.json").write_bytes(seal(read_manifest(path) | {"format": 3}))
    for read in (read_run_checkpoint, read_model_tensors, checkpoint.verify):
        with pytest.raises(
            ValueError, match="has format 3, expected 2: go on with the fastlm that"
        ):
            read(path)
    with pytest.raises(ValueError, match="has format 3"):
        read_newest(tmp_path, pytest.fail)


def test_checkpoints_after_a_step_are_set_aside_and_kept(tmp_path):
    model, optimizer = trained()
    for _ in range(2):
        for step in (1, 2, 3):
            write_checkpoint(tmp_path, step, model, [optimizer], keep=3)
        set_aside(tmp_path, 1)
        assert [p.name for p in run_checkpoints(tmp_path)] == ["step-000001"]
    assert names(tmp_path) == [
        *("abandoned-step-000002", "abandoned-step-000002-2"),
        *("abandoned-step-000003", "abandoned-step-000003-2"),
        "step-000001",
    ]
