"""Which runs a sweep has, and what it refuses before the first of them."""

import pytest

from fastlm.sweep.ablations import ABLATIONS, BASE
from fastlm.sweep.plan import memory_limit, plan
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
    texts = planned(["data=data/stories,data/web"])
    assert [run.config.data.path for run in texts] == ["data/stories", "data/web"]
    assert texts[1].name == "data-data-web"


@pytest.mark.parametrize("name", list(ABLATIONS))
def test_every_ablation_changes_some_recipe(name):
    for recipe in ("tinystories-cpu", "leaderboard-tiny"):
        flags = ["--recipe", recipe]
        if configuration(flags) != configuration([*flags, *ABLATIONS[name]]):
            return
    pytest.fail(f"{name} changes neither")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vary": ["lr"]}, "expected FIELD=VALUE,VALUE as in optim.lr=1e-3,3e-3: got 'lr'"),
        ({"vary": ["optim.lrr=1"]}, "unknown field 'optim.lrr'; did you mean optim.lr"),
        ({"vary": ["lr=1e-3,x"]}, "could not convert string to float: 'x'"),
        ({"vary": ["lr=1,1"]}, "values must be there, each once"),
        ({"vary": ["lr=1,,2"]}, "values must be there, each once"),
        ({"vary": ["lr=1", "optim.lr=2"]}, "optim.lr varies twice"),
        ({"vary": ["n_layers=1..limit"]}, "limit is for batch-size"),
        ({"vary": ["batch-size=x"]}, "invalid literal for int.*'x'"),
        ({"vary": ["batch-size=0"]}, "batch_size must be at least 1: got 0"),
        ({"vary": ["batch-size=8..4"]}, "8 is above 4"),
        ({"vary": ["batch-size=a..4"]}, "FIRST..LAST are whole numbers, doubled"),
        ({"vary": ["batch-size=0..4"]}, "has no values"),
        ({"vary": ["n-heads=3"]}, "n_heads must divide d_model"),
        ({"ablate": ["no-qknorm"]}, "unknown ablation 'no-qknorm'; did you mean no-qk-norm"),
        ({"ablate": ["no-qk-norm"]}, "no-qk-norm and base are the same run"),
        ({"seeds": [1, 1]}, "seeds must be there, each once: got 1 1"),
        ({"seeds": []}, "seeds must be there"),
        ({"flags": ["--seed", "3"]}, "--seed is set by the sweep, for each run: give --seeds"),
        ({"flags": ["--out=x"]}, "--out is set by the sweep"),
        ({"flags": ["--recipe", "tinny"]}, "unknown recipe 'tinny'; did you mean tiny"),
        ({"flags": ["--varry", "x"]}, "--varry"),
    ],
)
def test_what_cannot_be_run_is_refused_at_once(change, message):
    with pytest.raises(ValueError, match=message):
        planned(**change)


def test_the_recipe_as_it_is_may_be_named():
    assert [run.ablation for run in planned(ablate=["nope", BASE])] == [BASE, "nope"]


def test_of_two_recipes_the_last_counts_with_all_its_settings():
    """As of any flag: slurm/leaderboard.sh names one before those of the sweep."""
    both = configuration(["--recipe", "leaderboard", "--recipe=tiny"])
    assert both == configuration(["--recipe", "tiny"])
