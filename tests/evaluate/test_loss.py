"""The loss over a file counts each token once, and tells that of the first million on the way."""

import numpy as np
import pytest
import torch

from fastlm.evaluate import evaluate_loss
from fastlm.evaluate import loss as evaluate

TOKENS = np.random.default_rng(0).integers(0, 1000, 101)


def mean_target(inputs, targets):
    """The mean of the targets, which stands for a model's loss because it is known by hand."""
    assert inputs.shape == targets.shape == (3, 8)
    return targets[targets != -100].double().mean()


def measured(**options):
    settings = {"context_length": 8, "batch_size": 3, "device": torch.device("cpu")}
    return evaluate_loss(mean_target, TOKENS, **settings, **options)


@pytest.mark.parametrize("first_tokens", [40, 44, 24, 7, 100, 1_000_000])
def test_it_is_the_mean_over_all_tokens_and_over_whole_windows_of_the_first(
    first_tokens, monkeypatch
):
    monkeypatch.setattr(evaluate, "FIRST_TOKENS", first_tokens)
    found = measured()
    assert found.n_tokens == 100
    assert found.loss == pytest.approx(TOKENS[1:].mean(), rel=1e-12)
    n_first = first_tokens // 8 * 8
    if n_first in (0, 1_000_000):
        assert found.first_million is None
    else:
        assert found.first_million == pytest.approx(TOKENS[1 : n_first + 1].mean(), rel=1e-12)


def test_a_look_at_a_part_has_no_first_million(monkeypatch):
    monkeypatch.setattr(evaluate, "FIRST_TOKENS", 16)
    found = measured(max_tokens=40)
    # Five windows, of which the last one of the file has four tokens.
    assert (found.n_tokens, found.first_million) == (36, None)


@pytest.mark.parametrize("name", ["batch_size", "context_length"])
@pytest.mark.parametrize("size", [0, -1])
def test_a_size_below_one_is_refused(name, size):
    settings = {"context_length": 8, "batch_size": 3, "device": torch.device("cpu"), name: size}
    with pytest.raises(ValueError, match=f"^{name} must be at least 1: got {size}$"):
        evaluate_loss(mean_target, TOKENS, **settings)
