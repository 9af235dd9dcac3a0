"""The comparison of recipes: what it runs, in which order, and what its table says."""

import dataclasses
import json
import sys
from pathlib import Path

import pytest

from fastlm.config.recipes import load_recipe
from fastlm.train.command import TrainArguments, _starting_point

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))

import compare_recipes  # noqa: E402
from compare_recipes import ARMS, BOTH, Arguments, Arm, Run, command, rates, runs_of, table  # noqa: E402

from fastlm import cli  # noqa: E402


def config_of(arm: Arm):
    words = command(arm, Arguments("changes"), Path("out"))
    argv = [*words[words.index("fastlm.train") + 1 :], "--time-budget", "60s"]
    return cli.parse(TrainArguments, argv, default=_starting_point(argv)).config


@pytest.mark.parametrize("plan", ARMS)
def test_each_arm_is_another_run(plan):
    configs = [config_of(arm) for arm in ARMS[plan]()]
    assert len({repr(config) for config in configs}) == len(configs) > 1


def test_a_change_changes_one_part_of_the_recipe():
    arms = {arm.name: config_of(arm) for arm in ARMS["changes"]()}
    base = arms.pop("as-it-is")
    toy = {"d_model": 128, "n_heads": 2, "d_ff": 512}
    assert base.model == dataclasses.replace(load_recipe("leaderboard-tiny").model, **toy)
    tuned = {"lr": 0.01, "muon_lr": 0.028, "value_embedding_lr": 0.18, "scalar_lr": 0.007}
    optim = dataclasses.replace(load_recipe("leaderboard-tiny").optim, x0_lr=0.7, **tuned)
    assert (base.optim, base.batch_size) == (optim, 4)
    for name, config in arms.items():
        parts = ("model", "optim", "data")
        changed = [part for part in parts if getattr(config, part) != getattr(base, part)]
        assert changed == (["model", "optim"] if name == "always-tied" else changed[:1]), name
        assert (config.batch_size, config.seed) == (base.batch_size, base.seed)


def test_all_rates_of_a_recipe_are_multiplied():
    base = load_recipe("leaderboard-tiny").optim
    flags = rates(base, 2.0)
    optim = config_of(Arm("doubled", "leaderboard-tiny", flags)).optim
    assert (optim.lr, optim.muon_lr, optim.value_embedding_lr, optim.scalar_lr, optim.x0_lr) == (
        *(2 * base.lr, 2 * base.muon_lr, 2 * base.value_embedding_lr),
        *(2 * base.scalar_lr, 2 * base.x0_lr),
    )
    assert "--optim.muon-lr" not in rates(load_recipe("baseline-tiny").optim, 2.0)


def test_what_is_compared_runs_side_by_side_in_both_orders():
    order = [
        (r.arm.name, r.budget, r.seed) for r in runs_of(ARMS["budgets"](), ["1m", "5m"], [3, 4])
    ]
    leader, base = BOTH
    assert order == [
        *((leader, "60s", 3), (base, "60s", 3), (base, "60s", 4), (leader, "60s", 4)),
        *((leader, "300s", 3), (base, "300s", 3), (base, "300s", 4), (leader, "300s", 4)),
    ]


def test_a_budget_is_of_time_or_of_steps():
    runs = list(runs_of([Arm("one", "tiny")], ["2m", "400steps"], [7]))
    assert [run.flags for run in runs] == [("--time-budget", "120s"), ("--max-steps", "400")]
    assert [run.folder for run in runs] == ["one-120s-seed7", "one-400steps-seed7"]


def test_the_table_has_mean_and_spread(tmp_path):
    arm = Arm("one", "tiny")
    runs = [Run(arm, "60s", 0), Run(arm, "60s", 1)]
    for run, loss, step in zip(runs, (3.5, 3.75), (10, 13), strict=True):
        (tmp_path / run.folder).mkdir()
        summary = {"val_loss": loss, "step": step, "tokens": 1000 * step}
        (tmp_path / run.folder / "summary.json").write_text(json.dumps(summary))
    assert table(runs, tmp_path).splitlines()[-1] == (
        "| one | 60s | 2 | 3.6250 | 0.2500 | 12 | 11,500 |"
    )


def test_a_run_that_fails_ends_the_comparison_and_says_why(tmp_path, monkeypatch):
    def fail(words, slot):
        raise RuntimeError("no such data")

    monkeypatch.setattr(compare_recipes, "call", fail)
    arguments = Arguments("budgets", out=tmp_path, at_once=1)
    with pytest.raises(RuntimeError, match="no such data"):
        compare_recipes.run_all(arguments, ARMS["budgets"]())


def test_what_a_user_can_mend_is_said_in_one_line(tmp_path):
    arguments = Arguments("budgets", data=tmp_path / "none", out=tmp_path, at_once=1)
    with pytest.raises(ValueError, match=r"none.*fastlm\.data prepare") as error:
        compare_recipes.run_all(arguments, ARMS["budgets"]()[:1])
    assert "\n" not in str(error.value)
    assert not str(error.value).startswith("error")
