"""Dotted names of configurations: all values, and others in their place."""

import dataclasses
import re
from pathlib import Path

import pytest

from fastlm.config import TrainConfig
from fastlm.config.dotted import MOST_LEVELS, leaves, replaced
from fastlm.config.recipes import RECIPES, load_recipe

FASTLM = Path(__file__).resolve().parents[2] / "fastlm"


@pytest.mark.parametrize("recipe", RECIPES)
def test_all_values_have_a_name_that_leads_to_them(recipe):
    config = load_recipe(recipe)
    found = leaves(config)
    n_own = len(dataclasses.fields(config)) - 3
    n_nested = sum(
        len(dataclasses.fields(part)) for part in (config.model, config.optim, config.data)
    )
    assert len(found) == n_own + n_nested
    for name, value in found.items():
        section, _, last = name.rpartition(".")
        part = getattr(config, section) if section else config
        assert getattr(part, last) is value
    assert leaves(dataclasses.asdict(config)) == found  # and so of its JSON
    assert list(found)[:2] == ["recipe", "model.vocab_size"]


def test_values_take_the_place_of_those_of_their_names_alone():
    config = load_recipe("tiny")
    changes = {
        "model.vocab_size": 7,
        "optim.lr": 0.5,
        "optim.name": "sgd",
        "seed": 9,
        "data.path": "x",
    }
    new = replaced(config, changes)
    assert leaves(new) == leaves(config) | changes
    assert leaves(config) == leaves(load_recipe("tiny"))
    assert replaced(config, {}) == config


def test_every_value_can_be_replaced_by_itself():
    config = load_recipe("leaderboard")
    assert replaced(TrainConfig(max_steps=1), leaves(config)) == config


def test_values_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="n_heads must divide d_model"):
        replaced(load_recipe("tiny"), {"model.n_heads": 7})
    for name, unknown in (("optim.rate", "rate"), ("optimizer.lr", "optimizer"), ("rate", "rate")):
        with pytest.raises((TypeError, AttributeError), match=unknown):
            replaced(load_recipe("tiny"), {name: 1})


def test_what_a_file_nests_without_end_is_a_value():
    deep: dict = {}
    for _ in range(10_000):
        deep = {"a": deep}
    (name,) = leaves(deep)
    assert name == ".".join("a" * (MOST_LEVELS + 1))
    assert leaves({"empty": {}, "list": [{"a": 1}]}) == {"list": [{"a": 1}]}


def test_configurations_are_walked_here_alone():
    """dicts.py makes them from JSON and walks them too; export/code runs without fastlm."""
    walking = {
        path.relative_to(FASTLM).as_posix()
        for path in set(FASTLM.rglob("*.py")) - set((FASTLM / "export/code").iterdir())
        if re.search(r"dataclasses\.fields\(", path.read_text(encoding="utf-8"))
    }
    assert walking == {"config/dotted.py", "config/dicts.py"}
