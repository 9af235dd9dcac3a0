"""Settings that a run keeps when it is resumed are told from those that may change."""

import dataclasses

import pytest

from fastlm.config import DataConfig, ModelConfig, OptimConfig, TrainConfig
from fastlm.config.continued import FIXED, check_continues
from fastlm.config.dotted import leaves

THEN = TrainConfig(max_steps=9, data=DataConfig(path="data/mine"))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"optim": OptimConfig(lr=0.01)}, "its optim.lr on the way: STEP has 0.003, asked for 0.01"),
        ({"model": ModelConfig(n_layers=2)}, "its model.n_layers on the way: STEP has 4, asked for 2"),
        ({"data": DataConfig(sampling="random")}, "its data.sampling on the way: STEP has shuffled"),
        ({"seed": 3, "batch_size": 8}, "its batch_size and seed on the way: STEP has 16 and 0, asked for 8 and 3"),
        ({"batch_ramp": (4, 8)}, r"its batch_ramp on the way: STEP has \(\), asked for \(4, 8\)"),
        ({"init_from": "out/a"}, "its init_from on the way: STEP has '', asked for out/a"),
    ],
    ids=str,
)  # fmt: skip
def test_a_setting_that_a_run_keeps_is_refused_by_its_name(changes, told):
    with pytest.raises(ValueError, match=told) as error:
        check_continues(THEN, dataclasses.replace(THEN, **changes), "STEP")
    assert "Config" not in str(error.value)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    "changes",
    [
        {"max_steps": 99, "max_tokens": 10**6, "time_budget": 60.0},
        {"data": DataConfig(path="elsewhere")},
        {"eval_every": 7, "eval_tokens": 7, "checkpoint_every": 7, "checkpoint_minutes": None},
        {"micro_batch": 4, "memory": 8.0, "checkpoint_activations": True, "compile": True},
        {"log_every": 1, "logger": "wandb", "device": "cpu", "max_skipped_steps": 3},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_all_else_may_change(changes):
    check_continues(THEN, dataclasses.replace(THEN, **changes), "STEP")


def test_each_name_of_the_list_is_a_setting():
    names = leaves(THEN)
    for fixed in FIXED:
        assert any(f"{name}.".startswith(f"{fixed}.") for name in names), fixed


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1, 10**30])
def test_a_seed_has_64_bits(seed):
    with pytest.raises(ValueError, match="seed must be a number of 64 bits"):
        dataclasses.replace(THEN, seed=seed)


@pytest.mark.parametrize("minutes", [0.0, -1.0, float("inf"), float("nan")])
def test_minutes_between_checkpoints_are_a_number_or_none(minutes):
    with pytest.raises(ValueError, match="checkpoint_minutes must be a number of minutes"):
        dataclasses.replace(THEN, checkpoint_minutes=minutes)
