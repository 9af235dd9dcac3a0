"""Alternatives that are as fast are not taken for faster ones in noise, and faster ones are found."""

import random
from collections.abc import Callable

import pytest

from fastlm.tune.paired import MARGIN, STAGES, compare


def timers(gain: float, noise: str, sigma: float, seed: int) -> list[Callable[[], float]]:
    """Two timers of a machine with noise, the second one faster by a relative gain."""
    rng = random.Random(seed)
    speed = 1.0

    def timer(seconds: float) -> Callable[[], float]:
        def time() -> float:
            nonlocal speed
            measured = seconds * rng.lognormvariate(0, sigma)
            if noise == "spikes" and rng.random() < 0.15:
                measured *= rng.uniform(1, 3)
            if noise == "drift":
                speed *= rng.lognormvariate(0, 0.02)
                measured *= speed
            return measured

        return time

    return [timer(1.0), timer(1.0 / (1 + gain))]


def n_changes(gain: float, noise: str, sigma: float, n: int = 1000) -> int:
    return sum(compare(*timers(gain, noise, sigma, seed)).is_faster for seed in range(n))


@pytest.mark.parametrize("sigma", [0.003, 0.03, 0.3])
@pytest.mark.parametrize("noise", ["plain", "spikes", "drift"])
def test_of_a_thousand_equal_alternatives_at_most_eight_are_taken_for_faster(noise, sigma):
    """By the sign test 0.45 % of them, or fewer, pass in any noise."""
    assert n_changes(0.0, noise, sigma) <= 8
    assert n_changes(-0.05, noise, sigma) <= 6


def test_a_gain_of_a_few_times_the_noise_is_found():
    assert n_changes(0.03, "plain", 0.003, 100) == 100
    assert n_changes(0.05, "plain", 0.01, 100) == 100
    assert n_changes(0.3, "plain", 0.03, 100) == 100
    assert n_changes(0.3, "spikes", 0.01, 100) >= 70
    assert n_changes(0.3, "drift", 0.01, 100) == 100


def test_a_gain_below_the_margin_changes_nothing():
    assert n_changes(MARGIN / 2, "plain", 0.001, 100) == 0


def test_pairs_are_timed_in_alternating_order_and_no_longer_than_needed():
    order = []

    def timer(name: str, seconds: float) -> Callable[[], float]:
        return lambda: order.append(name) or seconds

    slower = compare(timer("a", 1.0), timer("b", 2.0))
    assert not slower.is_faster
    assert slower.gain == -0.5
    assert "".join(order) == "abbaabba"  # four of four against it: it can no longer pass
    order.clear()
    assert compare(timer("a", 1.0), timer("b", 0.5)).is_faster
    assert len(order) == 2 * STAGES[0][0]


def test_a_disturbance_of_either_choice_in_a_few_pairs_decides_nothing():
    for n_disturbed, is_faster in ((1, True), (3, True), (4, False)):
        times = iter([9.0] * n_disturbed + [0.9] * 99)
        compared = compare(lambda: 1.0, lambda times=times: next(times))
        assert compared.is_faster == is_faster
        assert compared.spread >= 0
