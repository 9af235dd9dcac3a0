"""The command of fastlm.accounting: figures by hand, runs it projects from, and what it refuses."""

import dataclasses
import json

import pytest

from fastlm.accounting import training_flops_per_token
from fastlm.accounting_cli import main
from fastlm.recipes import load_recipe
from fastlm.record import RunRecord, write_json


def test_it_prints_speed_and_tokens_of_a_budget(capsys):
    main(["baseline", "--chip", "H100", "--mfu", "0.4", "--seconds", "100"])
    printed = capsys.readouterr().out
    config = load_recipe("baseline").model
    speed = 0.4 * 989.5e12 / training_flops_per_token(config, config.context_length)
    assert f"H100 at 40% MFU: {speed:,.0f} tokens/s" in printed
    assert f"tokens in 100 s: {100 * speed:,.0f}" in printed


def test_the_budget_is_the_recipes_own_where_none_is_given(capsys):
    main(["tinystories", "--chip", "A100"])
    assert "tokens: 327,680,000, " in capsys.readouterr().out


def record_run(folder, n_tokens, loss):
    config = load_recipe("tiny")
    folder.mkdir()
    record = RunRecord(folder)
    record.start(config, {})
    per_token = training_flops_per_token(config.model, config.model.context_length)
    write_json(folder / "summary.json", {"tokens": n_tokens, "val_loss": loss})
    return n_tokens * per_token


def test_runs_project_to_the_budget(tmp_path, capsys):
    runs = []
    for n_tokens, loss in ((1_000_000, 4.0), (2_000_000, 3.7), (4_000_000, 3.5)):
        runs.append(str(tmp_path / f"run-{n_tokens}"))
        record_run(tmp_path / f"run-{n_tokens}", n_tokens, loss)
    main(["tiny", "--mfu", "0.1", "--seconds", "10", "--runs", *runs])
    printed = capsys.readouterr().out
    assert "loss 3.7000" in printed
    assert "projected, not measured: loss " in printed.splitlines()[-1]


def test_a_run_may_stand_in_place_of_a_recipe(tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    config = dataclasses.replace(load_recipe("tiny"), max_tokens=5_000_000, time_budget=None)
    RunRecord(folder).start(config, {})
    main([str(folder)])
    assert "tokens: 5,000,000" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["leaderbord"], "did you mean leaderboard"),
        (["baseline", "--chip", "H101"], "unknown chip 'H101'; did you mean H100"),
        (["baseline", "--mfu", "45"], "mfu is a share of the peak, above 0 and at most 1: got 45"),
    ],
)
def test_what_has_no_meaning_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        main(arguments)


def test_an_unfinished_run_is_refused(tmp_path):
    record_run(tmp_path / "run", 1000, None)
    with pytest.raises(ValueError, match="has no validation loss: it did not finish"):
        main(["tiny", "--seconds", "1", "--runs", str(tmp_path / "run")])
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["val_loss"] is None
