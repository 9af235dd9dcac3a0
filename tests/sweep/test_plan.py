"""The runs of a sweep, and the mistakes that it refuses before the first of them."""

import dataclasses
import functools

import pytest

from fastlm.config import TrainConfig
from fastlm.config.dotted import leaves
from fastlm.config.recipes import load_recipe
from fastlm.sweep.ablations import ABLATIONS, BASE
from fastlm.sweep.plan import memory_limit, plan, running_order
from fastlm.train import micro_batch as memory
from fastlm.train.command import configuration

FLAGS = ["--recipe", "tiny", "--max-steps", "5"]


def planned(vary=(), ablate=(), seeds=(0,), flags=FLAGS):
    return plan(list(vary), list(ablate), list(seeds), list(flags))


def test_fields_make_a_grid_in_their_order():
    runs = planned(["optim.lr=1e-4,1e-3", "batch-size=2,4"])
    assert [(r.config.optim.lr, r.config.batch_size) for r in runs] == [
        (1e-4, 2), (1e-4, 4), (1e-3, 2), (1e-3, 4),
    ]  # fmt: skip
    assert runs[1].name == "lr-1e-4_batch-size-4"
    assert runs[1].label == "optim.lr 1e-4, batch_size 4"
    assert all(run.config.max_steps == 5 for run in runs)


def test_every_ablation_meets_every_value_and_seed():
    runs = planned(["optim.lr=1e-4,1e-3"], ["no-norm", "nope"], seeds=[0, 7])
    assert len(runs) == 3 * 2 * 2
    assert runs[0].name == "base_lr-1e-4_seed-0"
    assert runs[-1].name == "nope_lr-1e-3_seed-7"
    assert (runs[-1].config.model.position, runs[-1].config.seed) == ("none", 7)
    assert len({run.name for run in runs}) == len(runs)
    assert len({run.group for run in runs}) == 6


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("batch-size=1..8", [1, 2, 4, 8]),
        ("batch-size=1..12", [1, 2, 4, 8, 12]),
        ("batch-size=3..3", [3]),
        ("batch-size=1,5..20,7", [1, 5, 10, 20, 7]),
    ],
)
def test_ranges_double_up_to_their_end(text, values):
    assert [run.config.batch_size for run in planned([text])] == values


def test_batch_sizes_are_validated_and_logged_after_as_many_tokens():
    flags = [*FLAGS, "--batch-size", "16", "--eval-every", "10", "--log-every", "3"]
    runs = planned(["batch-size=4,16,64,512"], flags=flags)
    assert [run.config.eval_every for run in runs] == [40, 10, 2, 1]
    assert [run.config.log_every for run in runs] == [12, 3, 1, 1]


def test_a_range_to_the_limit_ends_with_what_fits_in_memory(monkeypatch):
    monkeypatch.setattr(memory, "usable_memory", lambda config, device: 2 << 30)
    limit = memory_limit(configuration(FLAGS))
    assert 8 < limit < 4096
    sizes = [run.config.batch_size for run in planned(["batch-size=8..limit"])]
    assert sizes[:2] == [8, 16]
    assert sizes[-1] == limit
    monkeypatch.setattr(memory, "usable_memory", lambda config, device: 1000)
    with pytest.raises(ValueError, match="not one window fits the memory of cpu"):
        planned(["batch-size=8..limit"])


def test_switches_words_and_several_numbers_vary_too():
    runs = planned(["model.qk-norm=yes,no", "ffn=silu,relu2"])
    assert [(r.config.model.qk_norm, r.config.model.ffn) for r in runs] == [
        (True, "silu"), (True, "relu2"), (False, "silu"), (False, "relu2"),
    ]  # fmt: skip
    ramps = planned(["batch-ramp=2+4+8,4+8"])
    assert [run.config.batch_ramp for run in ramps] == [(2, 4, 8), (4, 8)]
    betas = planned(["optim.betas=0.9+0.95,0.9+9.9e-1"])
    assert [run.config.optim.betas for run in betas] == [(0.9, 0.95), (0.9, 0.99)]
    assert [run.name for run in betas] == ["betas-0.9+0.95", "betas-0.9+9.9e-1"]
    tables = planned(["optim.table-betas=0.8+0.9,0.75+0.95", "optim.lr=1e-3"])
    assert [run.config.optim.table_betas for run in tables] == [(0.8, 0.9), (0.75, 0.95)]
    texts = planned(["data=a+b/stories,7+8"])  # a text of such a form is not a tuple
    assert [run.config.data.path for run in texts] == ["a+b/stories", "7+8"]
    texts = planned(["data=data/stories,data/web"])
    assert [run.config.data.path for run in texts] == ["data/stories", "data/web"]
    assert texts[1].name == "data-data-web-89e84b33"


@pytest.mark.parametrize(
    ("text", "field", "values"),
    [
        ("optim.lr=1e-3, 3e-3", "optim.lr", [1e-3, 3e-3]),
        ("model.logit-softcap=none,None,15", None, "same run"),
        ("model.logit-softcap=none,15", "model.logit_softcap", [None, 15.0]),
        ("model.norm=none,post", "model.norm", ["none", "post"]),
        ("bf16=true,FALSE", "bf16", [True, False]),
        ("bf16=1,0", None, "bf16 is a switch, whose values are yes and no: got '1'"),
        ("data=../x, ../y/..", "data.path", ["../x", "../y/.."]),
        ("data=true,yes", "data.path", ["true", "yes"]),
        ("batch-ramp-lr=0.5+1,1+1.5", "batch_ramp_lr", [(0.5, 1.0), (1.0, 1.5)]),
    ],
)
def test_values_are_read_by_the_type_of_their_field(text, field, values):
    flags = [*FLAGS, "--batch-ramp", "4", "8"]
    if field is None:
        with pytest.raises(ValueError, match=values):
            planned([text], flags=flags)
        return
    assert [leaves(run.config)[field] for run in planned([text], flags=flags)] == values


@pytest.mark.parametrize(
    "words", [["lr=1e-3,", "3e-3"], ["lr=1e-3", ",3e-3"], ["lr=1e-3", ",", "3e-3"]]
)
def test_a_blank_beside_a_comma_parts_no_values(words):
    runs = planned([*words, "batch-size=2,4"])
    assert [run.config.optim.lr for run in runs] == [1e-3, 1e-3, 3e-3, 3e-3]


def test_different_values_get_different_folders_on_every_file_system():
    values = ["i/a", "i-a", "i a", "I-a", "i_a", "i--a", "ä", "o", "./i", "../i", "i/../i", "a+b"]
    values += ["x" * 300, "x" * 301]
    names = [planned([f"data={value}"])[0].name for value in values]
    assert len({name.lower() for name in names}) == len(values)
    assert all(len(name.encode()) < 200 and name.isascii() and "/" not in name for name in names)
    assert names == [planned([f"data={value}"])[0].name for value in values]
    # Names of plain values are as they ever were: the folders of earlier sweeps are found by them.
    assert planned(["lr=1e-3", "batch-size=8"])[0].name == "lr-1e-3_batch-size-8"


def test_recipes_vary_too():
    flags = ["--model.d-model", "64", "--time-budget", "2m"]
    both = planned(["recipe=baseline-tiny,leaderboard-tiny"], flags=flags)
    assert [run.name for run in both] == ["recipe-baseline-tiny", "recipe-leaderboard-tiny"]
    for run, name in zip(both, ("baseline-tiny", "leaderboard-tiny"), strict=True):
        recipe = load_recipe(name)
        assert run.config == dataclasses.replace(
            recipe, model=dataclasses.replace(recipe.model, d_model=64), time_budget=120.0
        )


def test_a_batch_size_is_validated_after_as_many_tokens_as_that_of_its_recipe():
    runs = planned(["recipe=tiny,stories", "batch-size=8"], flags=[])
    assert [run.config.eval_every for run in runs] == [
        2 * load_recipe(name).eval_every for name in ("tiny", "stories")
    ]


def test_a_budget_of_time_or_of_steps_replaces_that_of_the_recipe():
    times = planned(["time-budget=2m,90s"], flags=["--recipe", "tiny"])
    assert [(r.config.time_budget, r.config.max_steps) for r in times] == [
        (120.0, None),
        (90.0, None),
    ]
    steps = planned(["max-steps=7,400"], flags=["--recipe", "tiny"])
    assert [(r.config.time_budget, r.config.max_steps) for r in steps] == [(None, 7), (None, 400)]


def test_a_factor_multiplies_all_learning_rates_of_a_recipe():
    leader, base = planned(["recipe=leaderboard-tiny,baseline-tiny", "lr-factor=2"], flags=[])
    tuned = {"lr": 0.01, "muon_lr": 0.028, "value_embedding_lr": 0.18, "scalar_lr": 0.007}
    recipe = load_recipe("leaderboard-tiny").optim
    assert leader.config.optim == dataclasses.replace(recipe, x0_lr=0.7, **tuned)
    assert base.config.optim == dataclasses.replace(load_recipe("baseline-tiny").optim, lr=0.006)
    assert base.name == "recipe-baseline-tiny_lr-factor-2"


def test_a_factor_multiplies_the_rates_that_an_ablation_or_another_field_sets():
    _, adamw = planned(["lr-factor=2"], ["adamw"], flags=["--recipe", "leaderboard-tiny"])
    assert adamw.config.optim.lr == 0.006
    grid = planned(["lr-factor=1,2", "optim.lr=1e-3,1e-2"])
    assert [run.config.optim.lr for run in grid] == [1e-3, 1e-2, 2e-3, 2e-2]


# Field in which leaderboard-tiny differs from baseline-tiny: the ablation that puts this part into
# the baseline, and the one that takes it out of the leaderboard's recipe.
PARTS = {
    "ffn": ("relu2-ffn", "swiglu-ffn"),
    "norm_gain": ("no-norm-gain", "norm-gain"),
    "embedding_norm": ("embedding-norm", "no-embedding-norm"),
    "qk_norm": ("qk-norm", "no-qk-norm"),
    "zero_init": ("zero-init", "no-zero-init"),
    "residual_scalars": ("residual-scalars", "no-residual-scalars"),
    "x0_scalars": ("x0-scalars", "no-x0-scalars"),
    "value_embeddings": ("value-embeddings", "no-value-embeddings"),
    "attention_gate": ("attention-gate", "no-attention-gate"),
    "logit_softcap": ("softcap", "no-softcap"),
    "tie_weights": ("tied-at-first", "tied"),
}


def settings(config) -> dict[str, object]:
    """All fields of the network and of the optimizer, with the width of its feed-forward part."""
    model = dataclasses.asdict(config.model) | {"d_ff": config.model.ffn_width}
    return model | dataclasses.asdict(config.optim)


def test_every_part_of_the_leaderboards_network_can_be_put_in_or_taken_out():
    leader, base = (load_recipe(name).model for name in ("leaderboard-tiny", "baseline-tiny"))
    different = {
        field.name
        for field in dataclasses.fields(leader)
        if getattr(leader, field.name) != getattr(base, field.name)
    }
    assert different - {"d_ff"} == set(PARTS)


@pytest.mark.parametrize("field", PARTS)
def test_an_ablation_changes_one_part_of_the_network(field):
    leader, base = (load_recipe(name) for name in ("leaderboard-tiny", "baseline-tiny"))
    with_part, without_part = (
        configuration(["--recipe", recipe.recipe, *ABLATIONS[name]])
        for recipe, name in zip((base, leader), PARTS[field], strict=True)
    )
    for recipe, other, changed in ((base, leader, with_part), (leader, base, without_part)):
        assert getattr(changed.model, field) == getattr(other.model, field)
        before, after = settings(recipe), settings(changed)
        # Tying has two fields, and a gated feed-forward part of as many parameters is narrower.
        together = {"tie_weights": {"tie_until"}, "ffn": {"d_ff"}}.get(field, set())
        assert {name for name in after if after[name] != before[name]} - together == {field}
        assert dataclasses.replace(changed, model=recipe.model, optim=recipe.optim) == recipe


def test_the_optimizer_of_the_leaderboard_can_be_put_in_or_replaced():
    leader, tiny = load_recipe("leaderboard-tiny").optim, load_recipe("tiny").optim
    into, decay = (
        configuration(["--recipe", "tiny", *ABLATIONS[n]]).optim
        for n in ("normuon", "cautious-decay")
    )
    same = ("name", "orthogonalization", "muon_lr")
    assert into == dataclasses.replace(tiny, **{name: getattr(leader, name) for name in same})
    same = ("cautious_weight_decay", "weight_decay_schedule")
    assert decay == dataclasses.replace(tiny, **{name: getattr(leader, name) for name in same})
    changes = {
        "muon": {"name": "muon"},
        "adamw": {
            "name": "adamw",
            "cautious_weight_decay": False,
            "lr": load_recipe("baseline-tiny").optim.lr,
        },
        "no-cautious-decay": {"cautious_weight_decay": False, "weight_decay_schedule": "constant"},
        "tail-averaging": {"average_tail": 0.15},
        "untied": {"tie_until": 0.0},
    }
    for name, change in changes.items():
        (_, run) = planned(ablate=[name], flags=["--recipe", "leaderboard-tiny"])
        assert run.config.optim == dataclasses.replace(leader, **change), name


@functools.cache
def of_recipe(recipe: str) -> TrainConfig:
    return configuration(["--recipe", recipe])


@pytest.mark.parametrize("name", list(ABLATIONS))
def test_every_ablation_changes_some_recipe(name):
    def changes(recipe: str) -> bool:
        try:
            return configuration(["--recipe", recipe, *ABLATIONS[name]]) != of_recipe(recipe)
        except ValueError:  # a part that another optimizer does not have
            return False

    assert any(map(changes, ("leaderboard-tiny", "tiny", "tinystories-cpu")))


def test_runs_to_compare_are_neighbours_in_both_orders():
    runs = planned(
        ["time-budget=1m,5m", "recipe=leaderboard-tiny,baseline-tiny"], seeds=[3, 4], flags=[]
    )
    order = [
        (run.values["recipe"].split("-")[0], run.values["time_budget"], run.seed)
        for run in running_order(runs)
    ]
    assert order == [
        *(
            ("leaderboard", "1m", 3),
            ("baseline", "1m", 3),
            ("baseline", "1m", 4),
            ("leaderboard", "1m", 4),
        ),
        *(
            ("leaderboard", "5m", 3),
            ("baseline", "5m", 3),
            ("baseline", "5m", 4),
            ("leaderboard", "5m", 4),
        ),
    ]


def test_ablations_are_neighbours_of_their_recipe():
    runs = planned(ablate=["nope", "no-norm"], seeds=[0, 1, 2])
    order = [(run.ablation, run.seed) for run in running_order(runs)]
    names = ["base", "nope", "no-norm"]
    assert order == [(n, 0) for n in names] + [(n, 1) for n in names[::-1]] + [
        (n, 2) for n in names
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vary": ["lr"]}, "expected FIELD=VALUE,VALUE as in optim.lr=1e-3,3e-3: got 'lr'"),
        ({"vary": ["optim.lrr=1"]}, "unknown field 'optim.lrr'; did you mean optim.lr"),
        ({"vary": ["lr=1e-3,x"]}, "could not convert string to float: 'x'"),
        ({"vary": ["lr=1,1"]}, "--vary takes each value once: got 'lr=1,1'"),
        (
            {"vary": ["lr=1,", "batch-size=2"]},
            "--vary takes values, with a comma between two: got '1,'",
        ),
        ({"vary": ["lr=1,,2"]}, "--vary takes values, with a comma between two: got '1,,2'"),
        ({"vary": ["lr=1", "optim.lr=2"]}, "optim.lr varies twice"),
        ({"vary": ["n_layers=1..limit"]}, "limit is for batch-size"),
        ({"vary": ["batch-size=x"]}, "invalid literal for int.*'x'"),
        ({"vary": ["batch-size=0"]}, "batch_size must be at least 1: got 0"),
        ({"vary": ["batch-size=8..4"]}, "8 is above 4"),
        ({"vary": ["batch-size=a..4"]}, "FIRST..LAST are whole numbers, doubled"),
        ({"vary": ["batch-size=0..4"]}, "has no values"),
        ({"vary": ["lr-factor=1,x"]}, "lr-factor must be a number above 0: got 'x'"),
        ({"vary": ["lr-factor=1,1e45"]}, "lr-factor 1e45 times optim.lr must lie in the range of"),
        ({"vary": ["optim.lr=1e-3,1e39"]}, "optim.lr must lie in the range of float32"),
        ({"vary": ["lr-factor=0"]}, "lr-factor must be a number above 0: got '0'"),
        ({"vary": ["recipe=tiny,tinny"]}, "unknown recipe 'tinny'; did you mean tiny"),
        ({"vary": ["n-heads=3"]}, "n_heads must divide d_model"),
        ({"ablate": ["no-qknorm"]}, "unknown ablation 'no-qknorm'; did you mean no-qk-norm"),
        ({"ablate": ["no-qk-norm"]}, "no-qk-norm and base are the same run"),
        ({"seeds": [1, 1]}, "seeds must be there, each once: got 1 1"),
        ({"seeds": []}, "seeds must be there"),
        ({"flags": ["--seed", "3"]}, "--seed is set by the sweep, for each run: give --seeds"),
        ({"vary": ["seed=1,2"]}, "--seed is set by the sweep, for each run: give --seeds"),
        ({"vary": ["max-steps=1..1" + "0" * 400]}, "max_steps must be at most 2.63 - 1"),
        ({"vary": ["max-steps=1" + "0" * 400]}, "max_steps must be at most 2.63 - 1"),
        ({"vary": ["data=none,x"], "flags": ["--data", "y"]}, "data=none is a run without --data"),
        ({"flags": ["--out=x"]}, "--out is set by the sweep"),
        ({"flags": ["--recipe", "tinny"]}, "unknown recipe 'tinny'; did you mean tiny"),
        ({"flags": ["--varry", "x"]}, "--varry"),
    ],
)
def test_what_cannot_be_run_is_refused_at_once(change, message):
    with pytest.raises(ValueError, match=message):
        planned(**change)


def test_none_is_no_path():
    runs = planned(vary=["data=none,x", "init-from=none"])
    assert [(run.config.data.path, run.config.init_from) for run in runs] == [("", ""), ("x", "")]


def test_the_recipe_as_it_is_may_be_named():
    assert [run.ablation for run in planned(ablate=["nope", BASE])] == [BASE, "nope"]


def test_of_two_recipes_the_last_counts_with_all_its_settings():
    """slurm/leaderboard.sh names a recipe before the flags of the sweep."""
    both = configuration(["--recipe", "leaderboard", "--recipe=tiny"])
    assert both == configuration(["--recipe", "tiny"])
