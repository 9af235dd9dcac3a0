"""Results that a sweep reads from its runs' records: states, tables and remarks."""

import pytest
from swept_runs import planned, record

from fastlm.runs.record import write_json
from fastlm.sweep.plan import plan
from fastlm.sweep.results import (
    edge_remarks,
    numeric_field,
    read_result,
    table,
)


def test_the_best_value_at_an_edge_is_remarked(tmp_path):
    def remarks(vary, losses):
        runs = planned(vary)
        for run, loss in zip(runs, losses, strict=True):
            folder = tmp_path / vary[0] / str(losses) / run.name
            record(folder, [6.0, loss], finished=loss < 9, bad_at=None if loss < 9 else 7)
        folder = tmp_path / vary[0] / str(losses)
        return edge_remarks([read_result(run, folder / run.name) for run in runs])

    least = ["the lowest loss is at optim.lr 1e-3, the least value: try smaller ones too"]
    assert remarks(["optim.lr=1e-2,1e-3,1e-1"], [4.0, 3.0, 5.0]) == least
    assert remarks(["optim.lr=1e-2,1e-3,1e-1"], [3.0, 4.0, 5.0]) == []
    assert remarks(["optim.lr=1e-2,1e-3"], [3.0, 4.0]) == [
        "the lowest loss is at optim.lr 1e-2, the greatest value: try larger ones too"
    ]
    # A value beyond it that diverged was tried.
    assert remarks(["optim.lr=1e-3,1e-2,1e30"], [4.0, 3.0, 9.0]) == []
    assert remarks(["model.ffn=silu,relu2"], [3.0, 4.0]) == []
    both = remarks(["batch-size=2,4", "optim.lr=1e-3,1e-2,1e-1"], [6.0, 5.0, 5.5, 4.0, 3.0, 4.5])
    assert both == ["the lowest loss is at batch_size 4, the greatest value: try larger ones too"]


@pytest.mark.parametrize(
    "odd",
    [
        *("[]", "[[[", '{"val_loss": "low", "step": null}', '{"val_loss": NaN, "tokens": 1e999}'),
        *('{"finished": true, "val_loss": [3]}', "[" * 100_000, '{"finished": true}', ""),
        '{"finished": true, "step": 1' + "0" * 5000 + "}",
    ],
)
def test_a_run_with_odd_files_is_a_line_of_the_table(odd, tmp_path):
    runs = planned(["optim.lr=1,2"])
    for run in runs:
        record(tmp_path / run.name, [6.0, 5.0])
    (tmp_path / runs[0].name / "summary.json").write_text(odd)
    with open(tmp_path / runs[0].name / "log.jsonl", "a", encoding="utf-8") as log:
        log.write(f"{odd[:200_000]}\n7\n{{}}\n" + '{"kind": "eval", "step": "x"}\n' * 2)
        log.write('{"kind": "eval", "step": 3, "val_loss": "x"}\n{"kind": "train", "step": 1}\n')
    results = [read_result(run, tmp_path / run.name) for run in runs]
    text = table(results)
    assert len(text.splitlines()) == 4
    assert "**5.0000**" in text
    assert numeric_field(results) == "optim.lr"
    assert [len(result.curve) for result in results] == [2, 2]


def test_states(rates, tmp_path):
    assert [r.state for r in rates] == ["finished", "finished", "finished", "diverged"]
    assert [r.has_learned for r in rates] == [True, True, False, False]
    run = rates[0].run
    assert read_result(run, tmp_path / "nowhere").state == "waiting"
    record(tmp_path / "half", [6.0, 5.0], finished=False)
    half = read_result(run, tmp_path / "half")  # its process is over: it is not running
    assert (half.state, half.step, half.val_loss) == ("broken off", 10, None)
    end = {"step": 10, "tokens": 1000, "elapsed_seconds": 10.0, "val_loss": None}
    write_json(tmp_path / "half/summary.json", {"finished": False, "stopped_by": "SIGINT", **end})
    assert read_result(run, tmp_path / "half").state == "stopped"
    record(tmp_path / "left-out", [6.0, 5.0], bad_at=3)
    assert read_result(run, tmp_path / "left-out").state == "finished"  # a step that was skipped


def test_the_table_says_it_in_a_line_a_run(rates):
    lines = table(rates).splitlines()
    assert lines[0] == (
        "| optim.lr | validation loss | steps | tokens | seconds | tokens/s | state |"
    )
    assert lines[2:] == [
        "| 1 | 4.5000 | 20 | 2,000 | 20 | 100 | finished |",
        "| 10 | **3.0000** | 20 | 2,000 | 20 | 100 | finished |",
        "| 100 | 6.5000 | 20 | 2,000 | 20 | 100 | finished above its first loss |",
        "| 1000 | - | 7 | 5 | 0 | 0 | diverged after step 7 |",
    ]


def test_ablations_stand_beside_the_recipe_with_both_seeds(tmp_path):
    runs = planned([], ["nope"], seeds=[0, 1])
    for run, loss in zip(runs, [3.0, 3.2, 3.5, 3.9], strict=True):
        record(tmp_path / run.name, [6.0, loss])
    lines = table([read_result(run, tmp_path / run.name) for run in runs]).splitlines()
    assert lines[0].startswith("| change | validation loss | difference | steps |")
    assert lines[2].startswith("| base | **3.1000 (3.0000, 3.2000)** |  | 10 |")
    assert lines[3].startswith("| nope | 3.7000 (3.5000, 3.9000) | +0.6000 | 10 |")


def test_ablations_have_a_difference_beside_a_field_with_one_value(tmp_path):
    runs = planned(["lr-factor=2"], ["nope"])
    for run, loss in zip(runs, [3.0, 3.5], strict=True):
        record(tmp_path / run.name, [6.0, loss])
    lines = table([read_result(run, tmp_path / run.name) for run in runs]).splitlines()
    assert lines[0].startswith("| change | lr_factor | validation loss | difference | steps |")
    assert lines[3].startswith("| nope | 2 | 3.5000 | +0.5000 | 10 |")
    grid = planned(["lr-factor=1,2"], ["nope"])
    assert "difference" not in table([read_result(run, tmp_path / run.name) for run in grid])


def test_recipes_stand_side_by_side_with_both_seeds(tmp_path):
    runs = plan(["time-budget=1m", "recipe=baseline-tiny,leaderboard-tiny"], [], [0, 1], [])
    for run, loss in zip(runs, [3.5, 3.75, 3.0, 3.5], strict=True):
        record(tmp_path / run.name, [6.0, loss])
    lines = table([read_result(run, tmp_path / run.name) for run in runs]).splitlines()
    assert lines[2].startswith("| 1m | baseline-tiny | 3.6250 (3.5000, 3.7500) | 10 | 1,000 |")
    assert lines[3].startswith("| 1m | leaderboard-tiny | **3.2500 (3.0000, 3.5000)** | 10 |")


def test_a_curve_is_of_validations_on_the_same_tokens(tmp_path):
    (run,) = planned(["optim.lr=1"])
    record(tmp_path / "run", [6.0, 5.0, 4.0], whole=4.4)
    result = read_result(run, tmp_path / "run")
    assert [row["val_loss"] for row in result.curve] == [6.0, 5.0, 4.0]
    assert result.val_loss == 4.4
    record(tmp_path / "short", [6.0], whole=5.5)
    assert len(read_result(run, tmp_path / "short").curve) == 2


def test_one_field_in_numbers_is_drawn_against(rates, tmp_path):
    assert numeric_field(rates) == "optim.lr"
    expected = {
        "ffn=silu,relu2": None,
        "lr=1,2 n-layers=1,2": "optim.lr",
        "lr=1,2 batch-size=1,2": "batch_size",
        "lr=1 n-layers=1,2": "model.n_layers",
    }
    for vary, field in expected.items():
        runs = planned(vary.split())
        assert numeric_field([read_result(run, tmp_path) for run in runs]) == field, vary
