"""The end of a run on a time budget, on clocks that jump, slow down and speed up."""

import dataclasses
import statistics

import pytest

from fastlm.checkpoint.saver import Saver
from fastlm.config import TrainConfig
from fastlm.devices.ranks import Ranks
from fastlm.train.budget import N_RECENT, Budget, Measured
from fastlm.train.signals import StopRequest
from fastlm.train.stopping import Stopping

WINDOWS = 8


class FakeClock:
    """Start-up took 20 s; time goes on only when a test says so."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @property
    def elapsed(self) -> float:
        return 20.0 + self.seconds


def on_a_clock(tmp_path, time_budget: float | None, **changes) -> Budget:
    config = TrainConfig(recipe="test", batch_size=WINDOWS, time_budget=60.0)
    saver = Saver(tmp_path, keep=2)
    saver.seconds = 2.0
    config = dataclasses.replace(config, time_budget=time_budget, **changes)
    return Budget(config, FakeClock(), saver, n_val_tokens=10_000, is_waited_for=True)


def run_at(budget: Budget, step_seconds) -> list[float]:
    """Take steps to the end, of seconds by the share done; return the share before each."""
    budget.window_seconds = Measured(step_seconds(0.0) / WINDOWS)
    budget.eval_seconds_per_token = Measured(1e-4)
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
    budget.window_seconds, budget.eval_seconds_per_token = Measured(0.1), Measured(1e-4)
    budget.clock.seconds = 4000.0
    assert budget.progress(10) == 0.1
    assert budget.progress_after(11) == pytest.approx(0.11)
    assert budget.is_over(99, 0, 0) is None
    assert budget.is_over(100, 0, 0) == "step budget"


def test_the_first_step_of_a_run_is_not_at_its_very_beginning(tmp_path):
    budget = on_a_clock(tmp_path, 5400.0, max_steps=100)
    budget.window_seconds, budget.eval_seconds_per_token = Measured(0.1), Measured(1e-4)
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
        budget.window_seconds, budget.eval_seconds_per_token = Measured(0.1), Measured(1e-4)
    assert on_gpu.reserve - on_cpu.reserve == pytest.approx(0.1 * WINDOWS)


def test_half_a_second_is_kept_for_a_machine_that_hesitates(tmp_path):
    budget = on_a_clock(tmp_path, 60.0)
    budget.saver.seconds, budget.window_seconds = 0.1, Measured(0.01)
    budget.eval_seconds_per_token = Measured(1e-6)
    assert budget.reserve == pytest.approx(0.01 * WINDOWS + 0.01 + 0.1 + 0.5)


def test_medians_are_of_recent_measurements_and_computed_when_one_comes(tmp_path, monkeypatch):
    """50,000 log rows cost a step no more than ten do."""
    budget = on_a_clock(tmp_path, 60.0)
    seconds = [0.1] * 50_000 + [0.2] * (N_RECENT // 2)
    budget.window_seconds, budget.eval_seconds_per_token = Measured(*seconds), Measured(1e-4)
    assert budget.window_seconds.median == 0.1  # so many may be a hiccup
    budget.window_seconds.append(0.2)
    assert budget.window_seconds.median == 0.2  # the machine is slower
    assert budget.window_seconds.all == [*seconds, 0.2]
    computed = []
    monkeypatch.setattr(statistics, "median", computed.append)
    assert budget.stop_seconds == pytest.approx(2 * 0.2 * WINDOWS + 2 * 2.0 + 10.0)
    assert budget.reserve == pytest.approx(0.2 * WINDOWS + 1.0 + 2.0 + 0.5)
    assert budget.is_over(1, 1, 1) is None
    assert budget.progress(1) == 0.0
    assert computed == []


def test_what_a_stop_takes_is_asked_only_where_a_job_ends(tmp_path):
    budget = on_a_clock(tmp_path, None, max_steps=9, checkpoint_minutes=None)
    budget.window_seconds = budget.eval_seconds_per_token = None
    decision = Stopping(budget, StopRequest(), Ranks()).decide(0, 0)
    assert (decision.reason, decision.stage, decision.progress) == (None, 0, 1 / 9)
