"""The profile of a step: its parts add up, its FLOPs are the model's, and traces are whole."""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from short_runs import new_run
from torch._C._autograd import DeviceType
from torch.autograd.profiler_util import EventList, FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function

from fastlm.accounting import training_flops_per_token
from fastlm.config import DataConfig, ModelConfig, OptimConfig, TrainConfig
from fastlm.train.command import main
from fastlm.train.profiling import (
    Part,
    StepProfile,
    _median_seconds,
    _Timed,
    busy_seconds,
    device_events,
    profile_run,
    profile_step,
)

MODEL = ModelConfig(
    vocab_size=400,
    context_length=64,
    n_layers=3,
    d_model=64,
    n_heads=2,
    qk_norm=True,
    attention_gate=True,
    value_embeddings=True,
    logit_softcap=15.0,
)


def config_of(data: Path, **change: Any) -> TrainConfig:
    """Two micro-batches a step, of a network with changes."""
    return TrainConfig(
        model=dataclasses.replace(MODEL, **change),
        optim=OptimConfig(name="muon"),
        data=DataConfig(path=str(data)),
        batch_size=8,
        micro_batch=4,
        max_steps=100,
        device="cpu",
    )


@pytest.mark.parametrize("change", [{}, {"ffn": "relu2", "norm": "none"}], ids=str)
def test_parts_are_timed_and_their_flops_are_those_of_the_model(
    data, tmp_path, change, monkeypatch
):
    # Seconds that processors worked for this process: what others do meanwhile does not count.
    monkeypatch.setattr(time, "perf_counter", time.process_time)
    config = config_of(data, **change)
    run = new_run(config, tmp_path / "run")
    trainer = run.trainer
    run.warm_up()
    run.clock.begin_steps()
    found = profile_step(run, trainer.stream(), tmp_path / "trace.json", n_steps=3)
    names = ["attention", "feed-forward", "head and loss", "gradient clipping", "optimizer", "data"]
    assert [part.name for part in found.parts if part.name != "norms"] == names
    assert ("norms" in [part.name for part in found.parts]) == ("norm" not in change)
    assert all(part.seconds > 0 for part in found.parts)
    per_token = training_flops_per_token(config.model, 64)
    assert sum(part.flops for part in found.parts) == pytest.approx(per_token * 8 * 64)
    # Nothing is timed twice and nothing large is left out.
    assert 0.3 < sum(part.seconds for part in found.parts) / found.seconds < 3
    assert trainer.step == 2 + 7 + 3
    assert all(p.grad is None for p in trainer.parameters)
    assert len(json.loads((tmp_path / "trace.json").read_text())["traceEvents"]) > 100


def test_the_step_of_the_optimizers_is_timed_as_training_takes_it(data, tmp_path, monkeypatch):
    """Each step has the flag that training gives it, and the rows of all micro-batches."""
    config = config_of(data, n_layers=1, ngram_rows=64)
    run = new_run(config, tmp_path / "run")
    given: dict[str, set] = {}
    for optimizer in run.trainer.optimizers:
        name, original = type(optimizer).__name__, optimizer.step

        def step(closure=None, *, applies=None, o=optimizer, name=name, original=original):
            n_parts = [len(parts) for parts in o.pending.values()] if name == "RowAdaGrad" else []
            n_gradients = sum(p.grad is not None for g in o.param_groups for p in g["params"])
            given.setdefault(name, set()).add((applies is not None, n_gradients, *n_parts))
            original(applies=applies)

        monkeypatch.setattr(optimizer, "step", step)
    run.warm_up()
    run.clock.begin_steps()
    profile_step(run, run.trainer.stream(), tmp_path / "trace.json", n_steps=1)
    assert set(given) == {"Muon", "AdamW", "RowAdaGrad"}
    for seen in given.values():
        assert len(seen) == 1  # the parts and the whole steps that follow them
        (is_flagged, n_gradients, *n_parts), *_ = seen
        assert is_flagged
        assert n_gradients or n_parts
        assert set(n_parts) <= {2}


def test_a_machine_that_gets_faster_meanwhile_changes_no_share(monkeypatch):
    """Other work slows the first half of all calls to half the speed."""
    now, calls = [0.0], []

    def work(seconds: float) -> None:
        calls.append(seconds)
        now[0] += seconds * (2 if len(calls) <= 9 else 1)

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    timed = [_Timed("part", lambda: work(1.0)), _Timed("step", lambda: work(2.0))]
    assert _median_seconds(timed, torch.device("cpu")) == [1.0, 2.0]
    assert len(calls) == 18


def test_the_table_has_shares_rates_and_the_rest():
    parts = [Part("attention", 0.006, 3e12), Part("data", 0.001, 0.0)]
    table = StepProfile(parts, seconds=0.010, idle=0.02, peak_flops=1e15).table()
    assert table.splitlines()[2:] == [
        "| attention | 6.00 | 60.0% | 500 | 50.0% |",
        "| data | 1.00 | 10.0% |  |  |",
        "| rest | 3.00 | 30.0% |  |  |",
        "| step | 10.00 | 100.0% | 300 | 30.0% |",
        "| idle | 0.20 | 2.0% |  |  |",
    ]


def event(name: str, start: float, end: float, **given: Any) -> FunctionEvent:
    """An event of a profile with a GPU, of a kernel unless another device_type is given."""
    kind = {"device_type": DeviceType.CUDA, **given}
    return FunctionEvent(len(name), name, 0, start, end, use_device="cuda", **kind)


def test_each_kernel_is_counted_once_and_streams_side_by_side_are_no_more_than_the_time():
    """As torch.profiler lists them: a launching operation has its kernels' time as its own."""
    launches = event("aten::mm", 0, 5, device_type=DeviceType.CPU)
    launches.append_kernel("gemm", 0, 100)
    events = EventList(
        [
            launches,
            event("gemm", 10, 110),
            event("Memcpy HtoD", 60, 130, device_resource_id=2),  # beside it, on another stream
            event("all", 20, 30),  # inside it
            event("step", 5, 500, is_user_annotation=True),  # a range of the host, on the GPU
            event("relu", 400, 450),
        ],
        use_device="cuda",
    )
    assert sum(e.self_device_time_total for e in events) > 700
    assert busy_seconds(events) == pytest.approx((120 + 50) / 1e6)
    assert [e.name for e in device_events(events)] == ["gemm", "Memcpy HtoD", "all", "relu"]


def test_named_ranges_of_a_real_profile_are_no_kernels():
    with profile(activities=[ProfilerActivity.CPU]) as profiled, record_function("step"):
        torch.ones(3).add_(1)
    assert any(e.is_user_annotation for e in profiled.events())
    assert device_events(profiled.events()) == []
    assert busy_seconds(profiled.events()) == 0


@pytest.mark.parametrize("name", ["profile.md", "trace.json"])
def test_files_of_others_are_not_replaced(name, data, tmp_path):
    run = new_run(config_of(data), tmp_path)
    (tmp_path / name).write_text("mine")
    with pytest.raises(FileExistsError, match=f"{name} is no earlier profile: move it away"):
        profile_run(run)
    assert (tmp_path / name).read_text() == "mine"


def test_the_flag_profiles_and_trains_no_run(data, tmp_path, capsys):
    out = tmp_path / "run"
    small = "--batch-size 2 --model.n-layers 1 --model.d-model 32 --model.context-length 32"
    main(["--data", str(data), "--out", str(out), "--recipe", "tiny", "--profile", *small.split()])
    printed = capsys.readouterr().out
    assert "| head and loss |" in printed
    assert (out / "profile.md").read_text() == printed
    assert sorted(p.name for p in out.iterdir()) == ["profile.md", "trace.json"]
