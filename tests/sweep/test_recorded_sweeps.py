"""The commands beside the records in runs/ plan the recorded runs."""

import dataclasses
import json
import re
import shlex
from pathlib import Path

import pytest

from fastlm.config import TrainConfig
from fastlm.runs.record import RunRecord
from fastlm.sweep.arguments import parse_words, plan_runs
from fastlm.sweep.earlier import placed
from fastlm.sweep.plan import Run

RUNS = Path(__file__).resolve().parents[2] / "runs"


def shown_commands() -> dict[str, list[str]]:
    """Arguments of each sweep in runs/README.md by the name of its folder."""
    text = (RUNS / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    words = [shlex.split(line.removeprefix("python -m fastlm.sweep ")) for line in lines]
    return {Path(arguments[0]).name: arguments for arguments in words}


COMMANDS = shown_commands()


def planned(words: list[str]) -> list[Run]:
    arguments, flags = parse_words(words)
    return plan_runs(arguments, flags)


def same_run(config: TrainConfig) -> str:
    """Everything that decides a run's loss, with "auto" replaced by its value.

    The records are older than sweeps of recipes: they were validated after equal steps, not tokens,
    AdamW's runs differ in the rate of Muon, which they do not use, and the unit of compilation is
    given, which "auto" now chooses.
    """
    network = config.model
    auto = {"d_ff": network.ffn_width, "ngram_width": network.ngram_row_width}
    auto |= {"vocab_size": 1}  # that of the data
    unused = {"muon_lr": 1.0} if config.optim.name == "adamw" else {}
    return repr(
        dataclasses.replace(
            config,
            model=dataclasses.replace(network, **auto),
            optim=dataclasses.replace(config.optim, **unused),
            compile_scope="step",
            eval_every=1,
            log_every=1,
        )
    )


def recorded(folder: str) -> dict[str, TrainConfig]:
    """Configurations by the names of the runs' folders."""
    return {
        path.parent.name: RunRecord(path.parent).config()
        for path in (RUNS / folder).glob("*/config.json")
    }


@pytest.mark.parametrize(
    ("records", "n_records", "command", "n_runs"),
    [
        ("toy-budgets", 12, "budgets", 12),
        ("toy-rates", 12, "rates", 18),  # some cells of the grid were not run
        ("toy-changes", 30, "changes", 30),
    ],
)
def test_the_command_for_a_comparison_of_recipes_makes_its_records(
    records, n_records, command, n_runs
):
    runs = {same_run(run.config) for run in planned(COMMANDS[command])}
    configs = recorded(records)
    assert (len(configs), len(runs)) == (n_records, n_runs)
    assert [name for name, config in configs.items() if same_run(config) not in runs] == []


def test_the_command_before_them_compiles_the_networks_of_the_second():
    first, second = (
        {dataclasses.astuple(run.config.model) for run in planned(COMMANDS[name])}
        for name in ("compiled", "budgets")
    )
    assert first == second
    assert len(first) == 2


@pytest.mark.parametrize("sweep", sorted(path.parent.name for path in RUNS.glob("*/sweep.json")))
def test_a_recorded_sweep_names_its_runs(sweep):
    words = json.loads((RUNS / sweep / "sweep.json").read_text(encoding="utf-8"))["arguments"]
    found = placed(planned(words), RUNS / sweep)
    runs = {run.name: same_run(run.config) for run in found}
    assert runs == {name: same_run(config) for name, config in recorded(sweep).items()}


def test_the_command_for_learning_rates_names_the_runs_of_its_record():
    assert set(recorded("learning-rate")) == {
        run.name for run in planned(COMMANDS["learning-rate"])
    }
