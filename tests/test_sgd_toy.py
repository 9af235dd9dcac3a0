"""The handout's toy: which learning rates converge, and how fast."""

import itertools
import math

import pytest
import torch

from fastlm.sgd_toy import losses, main


def test_losses_are_those_of_the_rule_written_out():
    """w <- w (1 - rate / sqrt(t + 1) 2 / 100): the loss falls with the square.

    At rate 100 the second step ends at zero, but for float32's rounding of weights of about 5.
    """
    for rate in (1.0, 10.0, 100.0, 1000.0):
        found = losses(rate, n_steps=10)
        for t, (before, after) in enumerate(itertools.pairwise(found)):
            factor = 1 - rate / math.sqrt(t + 1) * 2 / 100
            assert after == pytest.approx(before * factor**2, rel=1e-3, abs=1e-12)


def test_the_weights_begin_as_five_times_a_normal_draw():
    drawn = 5 * torch.randn(10, 10, generator=torch.Generator().manual_seed(3))
    assert losses(1.0, n_steps=2, seed=3)[0] == pytest.approx((drawn**2).mean().item())


def test_the_command_says_which_rates_diverge(capsys):
    main([])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["step", "rate", "1", "rate", "10", "rate", "100", "rate", "1000"]
    assert len(lines) == 1 + 10 + 4
    assert lines[-4:] == [
        "rate 1 converges", "rate 10 converges", "rate 100 converges", "rate 1000 diverges",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="steps must be at least 2"):
        main(["--steps", "1"])
    with pytest.raises(ValueError, match="seed must have at most 64 bits"):
        main(["--seed", str(2**64)])


def test_a_rate_that_float32_cannot_hold_is_refused_before_anything_is_computed(monkeypatch):
    monkeypatch.setattr("fastlm.sgd_toy.losses", lambda *_: pytest.fail("begun"))
    for rate in ("1e39", "1e-50", "3e38", "nan"):
        with pytest.raises(ValueError, match="rates must .* float32"):
            main(["--rates", "1", rate])
