"""Learning rates against hand-computed values."""

import math

import pytest

from fastlm.schedule import cosine_lr, momentum, multiplier, warmup, weight_decay_multiplier


def test_cosine_with_warmup_at_points_computed_by_hand():
    def rate(it):
        return cosine_lr(it, max_lr=1.0, min_lr=0.1, warmup_iters=7, cosine_iters=21)

    assert rate(0) == 0
    assert rate(3) == pytest.approx(3 / 7)
    assert rate(7) == 1.0
    # A quarter, a half and the whole of the way from 7 to 21.
    assert rate(10.5) == pytest.approx(0.1 + 0.45 * (1 + math.sqrt(0.5)))
    assert rate(14) == pytest.approx(0.55)
    assert rate(21) == pytest.approx(0.1)
    assert rate(22) == rate(10_000) == 0.1


def test_cosine_without_warmup_and_without_length():
    assert cosine_lr(0, 2.0, 1.0, 0, 10) == 2.0
    assert cosine_lr(5, 2.0, 1.0, 5, 5) == 1.0


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("cosine", {0.05: 0.5, 0.1: 1.0, 0.55: 0.6, 1.0: 0.2}),
        ("linear", {0.05: 0.5, 0.1: 1.0, 0.55: 0.6, 0.775: 0.4, 1.0: 0.2}),
        ("constant", {0.05: 0.5, 0.1: 1.0, 0.55: 1.0, 1.0: 1.0}),
        ("wsd", {0.05: 0.5, 0.1: 1.0, 0.55: 1.0, 0.6: 1.0, 0.8: 0.6, 1.0: 0.2}),
    ],
)
def test_multipliers_at_points_computed_by_hand(kind, expected):
    for progress, value in expected.items():
        result = multiplier(progress, kind=kind, warmup=0.1, decay=0.4, final=0.2)
        assert result == pytest.approx(value), progress


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant", "wsd"])
def test_multipliers_stay_in_range_without_warmup_or_decay(kind):
    for rising, decay in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)):
        for i in range(-10, 111):
            value = multiplier(i / 100, kind=kind, warmup=rising, decay=decay, final=0.0)
            assert 0 <= value <= 1


def test_unknown_schedule_names_the_known_ones():
    with pytest.raises(ValueError, match="cosine, linear, constant, wsd"):
        multiplier(0.5, kind="cosin", warmup=0, decay=0, final=0)


def test_warmup_in_steps_is_whole_at_its_last_step():
    assert [warmup(step, 4) for step in (1, 2, 3, 4, 5, 400)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert warmup(1, 0) == 1.0
    assert warmup(1, 1) == 1.0


@pytest.mark.parametrize(
    ("step", "progress", "expected"),
    [
        (1, 0.0, 0.851),
        (50, 0.1, 0.9),
        (100, 0.2, 0.95),
        (500, 0.6, 0.95),
        (700, 0.8, 0.925),
        (900, 1.0, 0.9),
        (900, 1.7, 0.9),
    ],
)
def test_momentum_rises_holds_and_falls(step, progress, expected):
    value = momentum(step, progress, peak=0.95, start=0.85, warmup_steps=100, end=0.9, decay=0.4)
    assert value == pytest.approx(expected)


def test_momentum_of_one_value_is_that_value_exactly():
    for step, progress in ((1, 0.01), (7, 0.333), (10, 1.0)):
        for warmup_steps, decay in ((0, 0.0), (3, 0.7), (50, 1.0)):
            options = {"warmup_steps": warmup_steps, "decay": decay}
            assert momentum(step, progress, peak=0.937, start=0.937, end=0.937, **options) == 0.937


def test_momentum_falls_from_where_it_is_when_the_run_ends_in_the_warmup():
    # Risen by half, and half of the way down to 0.9 from there.
    value = momentum(50, 0.75, peak=0.95, start=0.85, warmup_steps=100, end=0.8, decay=0.5)
    assert value == pytest.approx((0.9 + 0.8) / 2)


def test_weight_decay_stays_or_falls_to_zero():
    shares = (-1.0, 0.0, 0.25, 1.0, 2.0)
    assert [weight_decay_multiplier(p, "constant") for p in shares] == [1.0] * 5
    assert [weight_decay_multiplier(p, "linear") for p in shares] == [1.0, 1.0, 0.75, 0.0, 0.0]
    with pytest.raises(ValueError, match="expected constant or linear"):
        weight_decay_multiplier(0.5, "cosine")
