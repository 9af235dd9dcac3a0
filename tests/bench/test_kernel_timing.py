"""Times of short kernels are the GPU's, not those of the host that launches them."""

import itertools

import pytest
import torch
from kernel_timing import GpuStopwatch, Once, interleaved, lead_for


def host_of(needs_ms):
    """A stopwatch of a call that the host launches in so many milliseconds."""

    def watch(call, lead_ms):
        return lambda: Once(0.01, lead_ms < needs_ms)

    return watch


@pytest.mark.parametrize("needs_ms", [0.05, 0.5, 3.0])
def test_the_stream_sleeps_for_longer_than_the_host_needs_to_launch(needs_ms):
    assert 2 * needs_ms <= lead_for(lambda: None, host_of(needs_ms)) <= max(0.4, 4 * needs_ms)


def test_a_call_that_waits_for_the_gpu_itself_is_timed_without_a_sleep():
    assert lead_for(lambda: None, host_of(float("inf"))) == 0


class Stream:
    """Events and a sleep that work on a made-up stream, which a call's launches follow on."""

    def __init__(self, monkeypatch, *, is_begun):
        self.done, self.times = [], itertools.count()
        stream = self

        class Event:
            def __init__(self, enable_timing):
                assert enable_timing

            def record(self):
                stream.done.append("event")
                self.time = float(next(stream.times))

            def query(self):
                return is_begun

            def synchronize(self):
                stream.done.append("wait")

            def elapsed_time(self, end):
                return end.time - self.time

        class Flush:
            def zero_(self):
                stream.done.append("flush")

        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: self.done.append("sleep"))
        monkeypatch.setattr(torch, "empty", lambda *size, **options: Flush())
        self.watch = GpuStopwatch(torch.device("cuda:7"))


@pytest.mark.parametrize("is_begun", [True, False])
def test_a_call_follows_on_a_sleep_and_a_flush_and_is_late_if_the_gpu_came_to_it(
    is_begun, monkeypatch
):
    stream = Stream(monkeypatch, is_begun=is_begun)
    stream.watch(lambda: None, 0.1)()  # measures the cycles of a sleep too
    stream.done.clear()
    wait = stream.watch(lambda: stream.done.append("call"), 0.1)
    assert stream.done == ["sleep", "flush", "event", "call", "event"]
    assert wait() == Once(1.0, is_begun)


def test_calls_are_timed_in_turn_and_as_often():
    done = []
    calls = {name: lambda name=name: done.append(name) for name in ("a", "b")}
    found = interleaved(calls, torch.device("cpu"), seconds=0.001, max_rounds=9)
    n = found["a"].n_rounds
    assert done[-2 * n :] == ["a", "b"] * n
    assert 5 <= n == found["b"].n_rounds <= 9
    assert found["a"].n_host_bound == 0
