"""Runs whose batch grows on the way: parts, tokens and rates by hand, exact after a stop."""

import dataclasses
import itertools
import math
import time

import numpy as np
import pytest
import torch
from compiled_runs import train_compiled
from hypothesis import given
from hypothesis import strategies as st
from short_runs import (
    MODEL,
    assert_same_weights,
    config,
    interrupted_after,
    losses,
    new_run,
    simulate_clock,
    take_step,
    train_rows,
    why_over,
)

from fastlm.accounting import training_flops_per_token
from fastlm.accounting.__main__ import main as accounting
from fastlm.config import ModelConfig, OptimConfig, TrainConfig
from fastlm.config.dicts import from_dict
from fastlm.data.windows import take_windows, window_starts
from fastlm.train import train
from fastlm.train import trainer as trainer_module
from fastlm.train.budget import Measured
from fastlm.train.micro_batch import plan_memory
from fastlm.train.run import assemble_run

RAMP = {"batch_ramp": (4, 8, 12), "micro_batch": 4}
SIZES = [4] * 7 + [8] * 7 + [12] * 6
"""windows of the 20 steps of a run: 7 / 20 and 14 / 20 are the first shares of a third and two"""


@pytest.fixture(scope="module")
def ramped(data, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "ramped"
    return run, train(config(data, **RAMP, log_every=1), run)


@given(
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=6, unique=True).map(sorted),
    n_steps=st.integers(1, 200),
)
def test_parts_are_equal_and_their_tokens_are_those_of_the_steps_one_by_one(sizes, n_steps):
    ramp = TrainConfig(
        model=ModelConfig(context_length=7), batch_ramp=tuple(sizes), max_steps=n_steps
    )
    parts = [ramp.stage(step / n_steps) for step in range(n_steps)]
    counts = ramp.steps_in_stages(n_steps)
    assert counts == tuple(parts.count(i) for i in range(len(sizes)))
    assert max(counts) - min(counts) <= 1
    assert ramp.tokens_in(n_steps) == 7 * sum(sizes[part] for part in parts)


@pytest.mark.parametrize("ramp", [(), (1, 2, 3), (2, 9), (5,)], ids=str)
@pytest.mark.parametrize("max_tokens", [1, 7, 100, 1001, 5000])
def test_a_token_budget_allows_as_many_steps_as_fit(ramp, max_tokens):
    base = TrainConfig(
        model=ModelConfig(context_length=7), batch_size=4, batch_ramp=ramp, max_tokens=max_tokens
    )
    fitting = [n for n in range(1, 800) if base.tokens_in(n) <= max_tokens]
    assert base.total_steps == max(fitting, default=1)
    if not ramp:
        assert base.total_steps == max(1, max_tokens // 28)


def test_learning_rates_follow_the_root_of_the_batch_or_the_given_factors():
    base = TrainConfig(max_steps=3, batch_size=512, batch_ramp=(256, 512, 768))
    assert base.lr_factors == pytest.approx((math.sqrt(0.5), 1.0, math.sqrt(1.5)))
    given_factors = dataclasses.replace(base, batch_ramp_lr=(0.66, 1.0, 1.14))
    assert given_factors.lr_factors == (0.66, 1.0, 1.14)
    assert TrainConfig(max_steps=3, batch_size=77).lr_factors == (1.0,)


def test_the_log_has_each_steps_batch_tokens_and_rate(ramped, data):
    run, summary = ramped
    rows = train_rows(run)
    assert [r["batch_size"] for r in rows] == SIZES
    assert [r["tokens"] for r in rows] == [32 * n for n in itertools.accumulate(SIZES)]
    assert summary.tokens == 32 * sum(SIZES) == config(data, **RAMP).tokens_in(20)
    # The peak rate is 0.01; after a warm-up of a tenth it falls along a cosine to a tenth.
    for step, root in ((4, 0.5), (10, 1.0), (18, 1.5)):
        cosine = 0.1 + 0.45 * (1 + math.cos(math.pi * (step / 20 - 0.1) / 0.9))
        root = math.sqrt(root)
        assert rows[step - 1]["lr"] == pytest.approx(0.01 * root * cosine)


def test_all_groups_have_the_factor(data, tmp_path):
    optim = OptimConfig(name="muon", embedding_lr=0.3, schedule="constant", warmup_steps=0)
    model = dataclasses.replace(MODEL, tie_weights=False, ngram_rows=100)
    ramp = RAMP | {"batch_ramp_lr": (0.25, 1.0, 3.0)}
    run = new_run(config(data, **ramp, optim=optim, model=model), tmp_path)
    trainer, stream = run.trainer, run.trainer.stream()
    for step, factor in ((0, 0.25), (7, 1.0), (14, 3.0)):
        trainer.step = step
        take_step(run, stream)
        groups = [g for o in trainer.optimizers for g in o.param_groups]
        assert len(groups) == 5  # embedding, head, norms; matrices; tables
        for group in groups:
            assert group["lr"] == pytest.approx(factor * group["peak_lr"])


def test_every_window_is_seen_once_and_in_its_order(data, tmp_path, monkeypatch):
    """This holds for an uninterrupted run, and for one that is stopped where the batch changes."""
    seen = []
    original = trainer_module.batches

    def watched(*args, **options):
        for inputs, targets in original(*args, **options):
            seen.append(inputs)
            yield inputs, targets

    monkeypatch.setattr(trainer_module, "batches", watched)
    tokens = new_run(config(data), tmp_path).trainer.data.train.tokens
    starts = window_starts(
        0, sum(SIZES), n_tokens=len(tokens), context_length=32, sampling="shuffled", seed=0
    )
    expected = take_windows(np.asarray(tokens), starts, 32)[0]
    train(config(data, **RAMP), tmp_path / "whole")
    assert torch.equal(torch.cat(seen), expected)
    seen.clear()
    interrupted_after(7, config(data, **RAMP), tmp_path / "parts")
    train(config(data, **RAMP), tmp_path / "parts", resume=True)
    assert torch.equal(torch.cat(seen), expected)


@pytest.mark.parametrize("stop", [3, 6, 7, 8, 14])
def test_resumed_before_at_or_after_a_change_it_ends_as_if_never_stopped(
    stop, ramped, data, tmp_path
):
    run_config = config(data, **RAMP, log_every=1)
    stopped = interrupted_after(stop, run_config, tmp_path)
    assert (stopped.step, stopped.tokens) == (stop, 32 * sum(SIZES[:stop]))
    summary = train(run_config, tmp_path, resume=True)
    assert_same_weights(ramped[0], tmp_path)
    assert (summary.val_loss, summary.tokens) == (ramped[1].val_loss, ramped[1].tokens)
    assert losses(tmp_path) == losses(ramped[0])


@pytest.mark.parametrize("step", [0, 7, 14])
def test_gradients_are_the_mean_over_the_windows_of_the_step(step, data, tmp_path):
    """One step of SGD at rate 1 against the gradient of the whole batch at once."""
    optim = OptimConfig(
        name="sgd", lr=1.0, momentum=0.0, weight_decay=0.0, schedule="constant", warmup_steps=0,
        max_grad_norm=float("inf"),
    )  # fmt: skip
    run_config = config(data, **RAMP, batch_ramp_lr=(1.0, 1.0, 1.0), optim=optim)
    run = new_run(run_config, tmp_path)
    trainer = run.trainer
    trainer.step = step
    plain = {"batch_ramp": (), "batch_ramp_lr": (), "batch_size": SIZES[step]}
    whole = dataclasses.replace(run_config, **plain, micro_batch=SIZES[step])
    twin = new_run(whole, tmp_path).trainer
    twin.model.loss(*next(twin.stream())).backward()
    take_step(run, trainer.stream())
    for p, q in zip(trainer.parameters, twin.parameters, strict=True):
        torch.testing.assert_close(p.detach(), (q - q.grad).detach(), rtol=1e-4, atol=1e-6)


def test_on_a_clock_the_parts_are_equal_in_time(data, tmp_path, monkeypatch):
    """100 s, of which 10 s are start-up and 20 s reserved: a third is done after 23.3 s."""
    run = new_run(config(data, **RAMP, max_steps=None, time_budget=100.0), tmp_path)
    run.budget.window_seconds = run.budget.eval_seconds_per_token = Measured(0.0)
    run.saving.saver.expect(20.0 / 1.1)
    monkeypatch.setattr(time, "perf_counter", lambda: run.clock.started)
    trainer, n_windows = run.trainer, 0
    stream = trainer.stream()
    for seconds, size in ((0.0, 4), (22.0, 4), (24.5, 8), (45.0, 8), (48.0, 12), (69.0, 12)):
        run.clock.continue_from(elapsed=10.0 + seconds, seconds=seconds)
        take_step(run, stream)
        n_windows += size
        assert trainer.tokens == 32 * n_windows


def test_a_token_budget_is_kept_when_the_clock_is_ahead_of_the_steps(data, tmp_path):
    """The run has 16 steps of 4 to 12 windows, but the time of the smaller ones is already used."""
    limits = {"max_steps": None, "max_tokens": 32 * 128, "time_budget": 100.0}
    run = new_run(config(data, **RAMP, **limits), tmp_path)
    assert run.config.total_steps == 16
    run.budget.window_seconds = run.budget.eval_seconds_per_token = Measured(0.0)
    run.clock.continue_from(elapsed=80.0, seconds=80.0)
    stream = run.trainer.stream()
    while why_over(run) is None:
        take_step(run, stream)
    assert why_over(run) == "token budget"
    assert run.trainer.tokens == 32 * 120


def test_the_step_that_is_taken_is_the_one_that_was_checked(data, tmp_path, monkeypatch):
    """A third of the run's time ends between two looks at the clock; 6 windows are left."""
    limits = {"max_steps": None, "max_tokens": 32 * 6, "time_budget": 100.0}
    run = new_run(config(data, **RAMP, **limits), tmp_path)
    run.trainer.step = 1
    shares = itertools.chain([0.33], itertools.repeat(0.34))
    monkeypatch.setattr(run.budget, "progress", lambda step: next(shares))
    take_step(run, run.trainer.stream())
    assert run.trainer.tokens == 32 * 4 <= run.config.max_tokens


def test_the_reserve_is_for_steps_of_the_largest_batch(data, tmp_path):
    run = new_run(config(data, **RAMP, max_steps=None, time_budget=100.0), tmp_path)
    run.budget.window_seconds, run.budget.eval_seconds_per_token = Measured(0.5), Measured(1e-3)
    n_tokens = len(run.trainer.data.val.tokens)
    assert run.budget.reserve == pytest.approx(1.1 * (1e-3 * n_tokens + 12 * 0.5 + 1.0))


def test_speed_counts_the_windows_of_each_interval(data, tmp_path, monkeypatch):
    simulate_clock(monkeypatch, window_seconds=0.5)
    runs = []

    def keep(*args, **kwargs):
        runs.append(assemble_run(*args, **kwargs))
        return runs[-1]

    monkeypatch.setattr("fastlm.train.run.assemble_run", keep)
    train(config(data, **RAMP, log_every=3), tmp_path / "run")
    rows = train_rows(tmp_path / "run")
    assert len({row["batch_size"] for row in rows}) == 3
    assert {row["tokens_per_second"] for row in rows} == {32 / 0.5}
    # The warm-up, in which nothing trained, comes before the intervals.
    assert runs[0].budget.window_seconds.all == [0.0] + [0.5] * len(rows)


@pytest.mark.parametrize("ramp", [(), (8, 12, 20), (6, 9)], ids=str)
def test_a_micro_batch_of_auto_divides_every_size(ramp, monkeypatch):
    base = TrainConfig(model=MODEL, batch_size=24, batch_ramp=ramp, max_steps=1)
    sizes = ramp or (24,)
    cpu = torch.device("cpu")
    least = plan_memory(dataclasses.replace(base, micro_batch=1), cpu, bf16=False).needed
    found = []
    for room in (1 << 40, 2 * least, least):
        monkeypatch.setattr(
            "fastlm.train.micro_batch.usable_memory", lambda config, device, room=room: room
        )
        found.append(plan_memory(base, cpu, bf16=False).micro_batch)
    assert found[0] == math.gcd(*sizes)
    assert found[-1] == 1
    assert all(size % micro_batch == 0 for size in sizes for micro_batch in found)


@pytest.mark.compiled
@pytest.mark.slow
@pytest.mark.usefixtures("without_code_generation")
def test_compiled_nothing_is_compiled_anew_where_the_batch_changes(ramped, data, tmp_path):
    train_compiled(config(data, **RAMP, log_every=1), tmp_path, eager=ramped[0], rel=0.02)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_ramp": (8, 4)}, r"batch_ramp must rise, from at least 1: got \(8, 4\)"),
        ({"batch_ramp": (4, 4)}, r"batch_ramp must rise"),
        ({"batch_ramp": (0, 4)}, r"batch_ramp must rise, from at least 1"),
        ({"batch_ramp_lr": (1.0,)}, r"a number for each of batch_ramp, or none: got \(1.0,\) for"),
        ({"batch_ramp": (4, 8), "batch_ramp_lr": (1.0,)}, r"a number for each of batch_ramp"),
        ({"batch_ramp": (4, 8), "batch_ramp_lr": (0.0, 1)}, r"batch_ramp_lr must be above 0"),
        ({"batch_ramp": (4, 8), "batch_ramp_lr": (1, math.inf)}, r"above 0 and finite"),
        (
            {"batch_ramp": (4, 6), "micro_batch": 4},
            r"divide all of batch_ramp: got micro_batch=4, batch_ramp=\(4, 6\)",
        ),
        (
            {"batch_size": 6, "micro_batch": 4},
            r"divide batch_size: got micro_batch=4, batch_size=6",
        ),
    ],
)
def test_ramps_without_meaning_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(max_steps=1, **settings)


def test_a_run_cannot_change_its_ramp_on_the_way(ramped, data):
    with pytest.raises(ValueError, match=r"cannot change its batch_ramp on the way.*\(4, 8, 12\)"):
        train(config(data, max_steps=40), ramped[0], resume=True)


def test_a_ramp_comes_back_from_json(data):
    ramp = config(data, **RAMP, batch_ramp_lr=(0.5, 1.0, 2.0))
    values = dataclasses.asdict(ramp) | {"batch_ramp": [4, 8, 12], "batch_ramp_lr": [0.5, 1.0, 2.0]}
    assert from_dict(TrainConfig, values) == ramp


def test_a_run_is_a_point_of_a_projection_with_the_tokens_it_had(ramped, data, tmp_path, capsys):
    run, summary = ramped
    n_tokens = 32 * sum(SIZES)
    runs = [run]
    for n_steps in (3, 6):
        runs.append(tmp_path / str(n_steps))
        train(config(data, **RAMP, max_steps=n_steps), runs[-1])
    accounting([str(run), "--runs", *map(str, runs)])
    flops = n_tokens * training_flops_per_token(MODEL, 32)
    printed = capsys.readouterr().out
    assert f"{n_tokens:.4g}  {flops:.3g}" in printed
    assert f"{run}: {flops:.3g} FLOPs, loss {summary.val_loss:.4f}" in printed
    for n_steps, n_windows in ((3, 4 + 8 + 12), (6, 2 * (4 + 8 + 12))):
        flops = 32 * n_windows * training_flops_per_token(MODEL, 32)
        assert f"{tmp_path / str(n_steps)}: {flops:.3g} FLOPs" in printed
    assert "projected, not measured" in printed
