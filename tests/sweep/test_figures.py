"""Figures of a sweep show the points of its runs, the edge of divergence and failures."""

import itertools
import json
import math

import pytest
from matplotlib.figure import Figure
from swept_runs import planned, record

from fastlm.sweep.figures import draw_curves, draw_equal, draw_field, first_diverged, loss_at
from fastlm.sweep.results import read_result, table


def test_the_edge_of_divergence_lies_between_learning_and_not(rates):
    assert first_diverged(rates, "optim.lr") == (10.0, 100.0)
    assert first_diverged(rates[:2], "optim.lr") is None
    assert first_diverged(rates[2:], "optim.lr") == (None, 100.0)


def test_losses_between_two_validations_lie_on_the_line():
    curve = [
        {"tokens": 0, "val_loss": 6.0},
        {"tokens": 1000, "val_loss": 4.0},
        {"tokens": 1000, "val_loss": 4.0},
        {"tokens": 3000, "val_loss": 3.0},
    ]
    assert loss_at(curve, "tokens", 250) == 5.5
    assert loss_at(curve, "tokens", 2000) == 3.5
    assert loss_at(curve, "tokens", 1000) == 4.0
    assert loss_at(curve, "tokens", 3001) is None


def test_a_second_field_is_a_line_of_its_own(tmp_path, monkeypatch):
    runs = planned(["batch-size=1,2", "optim.lr=1,2"])
    for i, run in enumerate(runs):
        record(tmp_path / run.name, [6.0, 5.0 - i])
    results = [read_result(run, tmp_path / run.name) for run in runs]
    (lines,) = points_of(monkeypatch, draw_field, results, "batch_size", tmp_path / "out.png")
    assert lines == [([1.0, 2.0], [5.0, 3.0]), ([1.0, 2.0], [4.0, 2.0])]


def points_of(monkeypatch, draw, *arguments):
    """x and y of every line, for each panel of the figure."""
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda self, out, **_: drawn.append(self))
    draw(*arguments)
    return [
        [(list(line.get_xdata()), list(line.get_ydata())) for line in panel.get_lines()]
        for panel in drawn[0].axes
    ]


def test_all_curves_are_in_one_figure(rates, tmp_path, monkeypatch):
    def draw():
        draw_curves(rates, tmp_path / "out.png", title="rates")

    steps, tokens, seconds = points_of(monkeypatch, draw)
    assert steps[:3] == [
        ([0, 10, 20], [6.0, 5.0, 4.5]), ([0, 10, 20], [6.0, 4.0, 3.0]), ([0, 10, 20], [6.0, 9.0, 6.5]),
    ]  # fmt: skip
    assert tokens[0][0] == [0, 1000, 2000]
    assert seconds[0][0] == [0.0, 10.0, 20.0]


def test_final_losses_and_the_edge_are_drawn(rates, tmp_path, monkeypatch):
    (lines,) = points_of(monkeypatch, draw_field, rates, "optim.lr", tmp_path / "out.png")
    assert lines[0] == ([1.0, 10.0, 100.0], [4.5, 3.0, 6.5])
    assert lines[1] == ([1000.0], [6.5])  # diverged
    assert lines[2][0] == pytest.approx([math.sqrt(1000)] * 2)


@pytest.mark.parametrize(
    ("values", "scale"), [("0,0.01,0.1", "symlog"), ("0.01,0.1", "log"), ("0", "linear")]
)
def test_a_value_of_zero_has_a_place_on_the_axis(values, scale, tmp_path, monkeypatch):
    runs = planned([f"optim.weight-decay={values}"])
    for run in runs:
        record(tmp_path / run.name, [6.0, 5.0])
    results = [read_result(run, tmp_path / run.name) for run in runs]
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda self, out, **_: drawn.append(self))
    draw_field(results, "optim.weight_decay", tmp_path / "out.png")
    (axes,) = drawn[0].axes
    assert axes.get_xscale() == scale
    x = axes.transData.transform([(float(value), 5.0) for value in values.split(",")])[:, 0]
    widths = [b - a for a, b in itertools.pairwise(x)]
    assert all(math.isfinite(place) for place in x)
    assert all(width > 20 for width in widths)  # pixels


def test_batch_sizes_are_compared_at_equal_tokens_and_equal_seconds(tmp_path, monkeypatch):
    runs = planned(["batch-size=1,2"])
    record(tmp_path / runs[0].name, [6.0, 5.0, 4.0], speed=100)
    record(tmp_path / runs[1].name, [6.0, 5.6, 5.2, 4.8], speed=300)
    results = [read_result(run, tmp_path / run.name) for run in runs]
    tokens, seconds = points_of(
        monkeypatch, draw_equal, results, "batch_size", tmp_path / "out.png"
    )
    assert tokens[0] == ([1.0, 2.0], [4.0, 5.2])  # after 2,000 tokens
    assert seconds[0] == ([1.0, 2.0], [5.0, 4.8])  # after 10 s


def test_figures_of_nothing_but_failures_are_still_drawn(tmp_path):
    runs = planned(["batch-size=1,2"])
    results = [read_result(run, tmp_path / "none") for run in runs]
    draw_curves(results, tmp_path / "curves.png", title="none")
    draw_field(results, "batch_size", tmp_path / "loss.png")
    draw_equal(results, "batch_size", tmp_path / "equal.png")
    assert {p.name for p in tmp_path.glob("*.png")} == {"curves.png", "loss.png", "equal.png"}
    assert json.dumps(table(results))
