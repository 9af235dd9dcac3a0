"""Learning rates against hand-computed values."""

import math

import pytest

from fastlm.schedule import cosine_lr, multiplier


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
    for warmup, decay in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)):
        for i in range(-10, 111):
            value = multiplier(i / 100, kind=kind, warmup=warmup, decay=decay, final=0.0)
            assert 0 <= value <= 1


def test_unknown_schedule_names_the_known_ones():
    with pytest.raises(ValueError, match="cosine, linear, constant, wsd"):
        multiplier(0.5, kind="cosin", warmup=0, decay=0, final=0)
