"""Projections find known laws again, give honest ranges, and refuse what cannot be projected."""

import numpy as np
import pytest

from fastlm.accounting.projection import Law, Point, fit_law, project

LAW = Law(floor=2.6, scale=1.4, exponent=0.15)
BUDGETS = (1e15, 2e15, 4e15, 8e15)


def test_a_law_is_found_again():
    points = [Point(c, LAW.loss(c)) for c in BUDGETS]
    found = fit_law(points)
    for flops in (*BUDGETS, 1e17):
        assert found.loss(flops) == pytest.approx(LAW.loss(flops), abs=2e-3)


def test_nothing_below_zero_is_projected():
    points = [Point(c, (c / 1e15) ** -0.5) for c in BUDGETS]
    found = fit_law(points)
    assert found.floor >= 0
    assert found.loss(1e21) >= 0
    rising = [Point(c, 3 + i) for i, c in enumerate(BUDGETS)]
    assert fit_law(rising).scale == 0


def test_the_range_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    inside = 0
    for trial in range(40):
        points = [Point(c, LAW.loss(c) + rng.normal(0, 0.005)) for c in BUDGETS]
        found = project(points, 3e16, run_deviation=0.005, seed=trial)
        assert found.low <= found.high
        inside += found.low <= LAW.loss(3e16) <= found.high
    assert inside >= 28  # 36 expected of 40


def test_more_noise_and_a_longer_way_make_it_wider():
    points = [Point(c, LAW.loss(c)) for c in BUDGETS]
    widths = [
        project(points, flops, run_deviation=deviation).high
        - project(points, flops, run_deviation=deviation).low
        for flops, deviation in ((2e16, 0.001), (2e16, 0.01), (2e18, 0.01))
    ]
    assert widths[0] < widths[1] < widths[2]


def test_it_says_that_it_is_no_measurement():
    points = [Point(c, LAW.loss(c)) for c in BUDGETS]
    assert str(project(points, 1e17)).startswith("projected, not measured: loss 3.")


def test_two_budgets_are_too_few_however_many_runs():
    points = [Point(c, LAW.loss(c)) for c in BUDGETS[:2] for _ in range(5)]
    with pytest.raises(ValueError, match="at least three budgets: got 2; train shorter ones"):
        fit_law(points)
