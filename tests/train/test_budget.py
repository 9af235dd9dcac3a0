"""The end of a run on a time budget, on clocks that jump, slow down and speed up."""

import dataclasses

import pytest

from fastlm.checkpoint.saver import Saver
from fastlm.config import TrainConfig
from fastlm.train.budget import Budget

WINDOWS = 8


class FakeClock:
    """Start-up took 20 s; time goes on only when a test says so."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @property
    def elapsed(self) -> float:
        return 20.0 + self.seconds


def on_a_clock(tmp_path, time_budget: float, **changes) -> Budget:
    config = TrainConfig(recipe="test", batch_size=WINDOWS, time_budget=time_budget)
    saver = Saver(tmp_path, keep=2)
    saver.seconds = 2.0
    config = dataclasses.replace(config, **changes)
    return Budget(config, FakeClock(), saver, n_val_tokens=10_000, is_waited_for=True)


def run_at(budget: Budget, step_seconds) -> list[float]:
    """Take steps to the end, of seconds by the share done; return the share before each."""
    budget.window_seconds = [step_seconds(0.0) / WINDOWS]
    budget.eval_seconds_per_token = [1e-4]
    shares = []
    while budget.is_over(len(shares), 0, 0) is None:
        shares.append(budget.progress(len(shares)))
        seconds = step_seconds(shares[-1])
        budget.clock.seconds += seconds
        if len(shares) % 10 == 0:
            budget.window_seconds.append(seconds / WINDOWS)
    return shares


@pytest.mark.parametrize(
    "step_seconds",
    [
        lambda share: 1.0,
        lambda share: 1.0 if share < 0.5 else 2.0,
        lambda share: 2.0 if share < 0.5 else 1.0,
        lambda share: 1.0 if share < 0.9 else 2.0,
        lambda share: 1.0 + share,
        lambda share: 2.0 - share,
    ],
    ids=[
        "even",
        "half as fast",
        "twice as fast",
        "slower at the end",
        "ever slower",
        "ever faster",
    ],
)
def test_the_schedule_ends_with_the_time_whatever_the_speed(step_seconds, tmp_path):
    """An hour and a half is used to within a hundredth, and the last validation fits."""
    budget = on_a_clock(tmp_path, 5400.0)
    shares = run_at(budget, step_seconds)
    assert shares == sorted(shares)
    assert 0.99 <= shares[-1] <= 1.0
    left = 5400.0 - budget.clock.elapsed
    print(f"the last step began at {shares[-1]:.2%}, {left:.1f} s were left after it")
    assert left >= 1e-4 * 10_000 + 2.0  # the last validation and checkpoint
    assert left <= 0.01 * 5400.0


def test_a_hiccup_does_not_end_a_run_early(tmp_path):
    budget = on_a_clock(tmp_path, 5400.0)
    shares = run_at(budget, lambda share: 60.0 if 0.5 < share < 0.52 else 1.0)
    assert shares[-1] >= 0.99


def test_steps_that_are_fixed_do_not_follow_the_clock(tmp_path):
    budget = on_a_clock(tmp_path, 5400.0, fix_steps=True, max_steps=100)
    budget.window_seconds, budget.eval_seconds_per_token = [0.1], [1e-4]
    budget.clock.seconds = 4000.0
    assert budget.progress(10) == 0.1
    assert budget.progress_after(11) == pytest.approx(0.11)
    assert budget.is_over(99, 0, 0) is None
    assert budget.is_over(100, 0, 0) == "step budget"


def test_the_first_step_of_a_run_is_not_at_its_very_beginning(tmp_path):
    budget = on_a_clock(tmp_path, 5400.0, max_steps=100)
    budget.window_seconds, budget.eval_seconds_per_token = [0.1], [1e-4]
    assert budget.progress(0) == 0.0
    assert budget.progress_after(1) == pytest.approx(0.01)


@pytest.mark.parametrize("step_seconds", [0.4, 0.6])
def test_a_minute_is_used_to_98_hundredths(step_seconds, tmp_path):
    """Steps take up to a hundredth of it; the last validation and checkpoint fit, and no more."""
    budget = on_a_clock(tmp_path, 60.0)
    run_at(budget, lambda _: step_seconds)
    elapsed = budget.clock.elapsed + 1e-4 * 10_000 + budget.saver.seconds
    print(f"{elapsed / 60.0:.2%} of a minute")
    assert 0.98 * 60.0 <= elapsed <= 60.0


def test_a_device_that_is_not_waited_for_gets_time_for_the_step_it_is_at(tmp_path):
    on_cpu = on_a_clock(tmp_path, 60.0)
    on_gpu = Budget(
        on_cpu.config, on_cpu.clock, on_cpu.saver, n_val_tokens=10_000, is_waited_for=False
    )
    for budget in (on_cpu, on_gpu):
        budget.window_seconds, budget.eval_seconds_per_token = [0.1], [1e-4]
    assert on_gpu.reserve - on_cpu.reserve == pytest.approx(0.1 * WINDOWS)


def test_half_a_second_is_kept_for_a_machine_that_hesitates(tmp_path):
    budget = on_a_clock(tmp_path, 60.0)
    budget.saver.seconds, budget.window_seconds = 0.1, [0.01]
    budget.eval_seconds_per_token = [1e-6]
    assert budget.reserve == pytest.approx(0.01 * WINDOWS + 0.01 + 0.1 + 0.5)
