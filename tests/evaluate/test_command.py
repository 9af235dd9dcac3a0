"""The command evaluate: which data it takes, and what it refuses."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from short_runs import config

from fastlm.data import prepare
from fastlm.evaluate import __main__ as command
from fastlm.evaluate import on_gpu
from fastlm.evaluate.batches import fitting_batch, forward_memory
from fastlm.evaluate.own_data import open_own_data
from fastlm.train import train


@pytest.mark.parametrize(
    ("flag", "size", "message"),
    [
        ("--batch-size", "-1", "batch_size must be at least 1: got -1"),
        ("--batch-size", "0", "batch_size must be at least 1: got 0"),
        ("--context-length", "0", "context_length must be at least 1: got 0"),
        ("--context-length", "33", r"context_length must lie in \[1, 32\]: got 33"),
    ],
)
def test_a_size_out_of_range_is_refused(finished, flag, size, message):
    run, _ = finished
    with pytest.raises(ValueError, match=f"^{message}$"):
        command.main([str(run), flag, size])


def told(capsys) -> dict[str, float]:
    return json.loads(capsys.readouterr().out)


def test_more_windows_than_fit_are_divided_and_the_loss_is_the_same(finished, capsys, monkeypatch):
    run, summary = finished
    command.main([str(run), "--batch-size", "100000"])
    assert told(capsys)["loss"] == pytest.approx(summary.val_loss, rel=1e-5)
    monkeypatch.setattr("fastlm.evaluate.batches.free_memory", lambda device: 3 << 20)
    command.main([str(run), "--batch-size", "100000"])
    printed = capsys.readouterr()
    assert json.loads(printed.out)["loss"] == pytest.approx(summary.val_loss, rel=1e-5)
    assert printed.err.startswith("note: batches of ")
    assert "do not fit the memory" in printed.err


def test_the_batch_is_the_largest_that_fits(finished, monkeypatch):
    run, _ = finished
    model = config(run).model

    def needed(n: int) -> int:
        return forward_memory(model, n, context_length=32)

    room = needed(5) / 0.8 + 1
    monkeypatch.setattr("fastlm.evaluate.batches.free_memory", lambda device: room)
    where = {"context_length": 32, "bf16": False, "device": torch.device("cpu")}
    assert [fitting_batch(model, n, **where) for n in (1, 5, 6, 10**12)] == [1, 5, 5, 5]
    monkeypatch.setattr("fastlm.evaluate.batches.free_memory", lambda device: 0)
    assert fitting_batch(model, 7, **where) == 1


@pytest.fixture(scope="module")
def two_places(data, tmp_path_factory) -> Path:
    """A and B with other data of one name; A has a run, begun with a relative --data."""
    folder = tmp_path_factory.mktemp("places")
    text = "a cat sat there and looked at the mat. <|endoftext|>" * 400
    for name, changed in (("A", text), ("B", text.replace("cat", "dog"))):
        (folder / name).mkdir()
        (folder / name / "text.txt").write_text(changed)
        prepare(
            folder / name / "text.txt", folder / name / "data/mine",
            vocab_size=400, tokenizer=data / "tokenizer",
        )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder / "A")
        train(config(Path("data/mine"), max_steps=1), Path("out/run"))
    return folder


def test_a_run_finds_its_own_data_wherever_it_is_evaluated(two_places, monkeypatch, capsys):
    losses = []
    for place, run in (("A", "out/run"), ("B", "../A/out/run"), (".", "A/out/run"), ("/", None)):
        monkeypatch.chdir(two_places / place)
        command.main([str(run or two_places / "A/out/run")])
        losses.append(told(capsys)["loss"])
    assert len(set(losses)) == 1
    monkeypatch.chdir(two_places / "B")
    command.main(["../A/out/run", "--data", "data/mine"])  # other data, by request
    assert told(capsys)["loss"] != losses[0]


def test_other_data_of_that_name_are_refused(two_places, tmp_path, monkeypatch):
    shutil.copytree(two_places / "A/out/run", tmp_path / "run")
    monkeypatch.chdir(two_places / "B")
    with pytest.raises(
        ValueError, match=r"data/mine holds other data than .*: its train_hash is .*; give --data"
    ):
        open_own_data(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"neither in data/mine nor beside .*: give --data"):
        open_own_data(tmp_path / "run")


def test_other_validation_data_beside_the_same_training_data_are_refused(two_places, monkeypatch):
    monkeypatch.chdir(two_places / "A")
    from fastlm.evaluate import own_data

    def changed(folder):
        found = opened(folder)
        return dataclasses.replace(found, val=found.val._replace(hash="0" * 64))

    opened = own_data.open_prepared
    monkeypatch.setattr(own_data, "open_prepared", changed)
    with pytest.raises(ValueError, match="its val_hash is 000000000000, expected"):
        open_own_data(Path("out/run"))


def test_a_gpu_computes_in_bfloat16_and_a_cpu_as_asked(finished, capsys, monkeypatch):
    run, _ = finished
    asked = []
    monkeypatch.setattr(
        "fastlm.devices.hardware.choose_compute_dtype",
        lambda device, bf16: asked.append(bf16) or (torch.float32, ""),
    )
    for has_bf16 in (False, True):
        monkeypatch.setattr("fastlm.evaluate.on_gpu.has_bf16", lambda device, has=has_bf16: has)
        for flags in ([], ["--float32"], ["--bf16"]):
            command.main([str(run), *flags])
            assert told(capsys)["dtype"] == "float32"
    assert asked == [False, False, True, True, False, True]
    with pytest.raises(ValueError, match="--bf16 and --float32 exclude each other"):
        command.main([str(run), "--bf16", "--float32"])


@pytest.mark.compiled
def test_compiled_blocks_give_the_same_loss(finished, capsys, monkeypatch, without_code_generation):
    run, summary = finished
    compiled = []
    monkeypatch.setattr(
        "fastlm.evaluate.on_gpu.compiles_for", lambda device, n: compiled.append(n) or True
    )
    command.main([str(run), "--eager"])
    assert compiled == []
    command.main([str(run)])
    assert json.loads("[" + capsys.readouterr().out.replace("}\n{", "},{") + "]")[1]["loss"] == (
        pytest.approx(summary.val_loss, rel=1e-5)
    )
    assert len(compiled) == 1


def test_only_a_gpu_and_a_long_text_are_compiled_for(monkeypatch):
    monkeypatch.setattr(on_gpu, "lacks_for_gpu", lambda: "")
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    assert on_gpu.compiles_for(cuda, on_gpu.COMPILED_FROM)
    assert not on_gpu.compiles_for(cuda, on_gpu.COMPILED_FROM - 1)
    assert not on_gpu.compiles_for(cpu, 10**12)
    monkeypatch.setattr(on_gpu, "lacks_for_gpu", lambda: "Triton")
    assert not on_gpu.compiles_for(cuda, 10**12)
