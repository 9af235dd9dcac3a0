"""Checkpoints load what was saved, keep no half-written folder, and run no code."""

import io
import json

import pytest
import torch
from torch import nn

from fastlm.checkpoint import (
    load_checkpoint,
    pack,
    read_model_tensors,
    read_run_checkpoint,
    run_checkpoints,
    save_checkpoint,
    unpack,
    write_run_checkpoint,
)
from fastlm.config import ModelConfig
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


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b) and a.dtype == b.dtype
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return a == b


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
    for step in (5, 10, 100, 20):
        model, optimizer = trained(step)
        write_run_checkpoint(tmp_path, step, model, [optimizer], {"seconds": step / 2})
    assert [p.name for p in run_checkpoints(tmp_path)] == ["step-000020", "step-000100"]
    saved = read_run_checkpoint(tmp_path / "step-000020")
    assert (saved.step, saved.state) == (20, {"seconds": 10.0})
    assert same(saved.model, dict(model.state_dict()))
    assert same(saved.optimizers, [optimizer.state_dict()])
    assert {p.name for p in tmp_path.iterdir()} == {"step-000020", "step-000100"}


@pytest.mark.parametrize("name", ["model.safetensors", "optim.safetensors", "state.json"])
def test_a_flipped_bit_is_found(name, tmp_path):
    model, optimizer = trained()
    path = write_run_checkpoint(tmp_path, 1, model, [optimizer], {})
    raw = bytearray((path / name).read_bytes())
    raw[len(raw) // 2] ^= 1
    (path / name).write_bytes(raw)
    with pytest.raises(ValueError, match=f"{name} is damaged"):
        read_run_checkpoint(path)
    (path / "manifest.json").unlink()
    with pytest.raises(ValueError, match="cannot be read"):
        read_model_tensors(path)
