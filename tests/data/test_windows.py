"""Windows of a run: each token is seen once, starts are uniform, and a stop changes nothing."""

import itertools
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastlm.data import windows
from fastlm.data.windows import batches, get_batch, take_windows, window_starts


def starts(first, n, *, n_tokens=1000, context_length=16, sampling="shuffled", seed=0):
    return window_starts(
        first, n, n_tokens=n_tokens, context_length=context_length, sampling=sampling, seed=seed
    )


@given(
    n_tokens=st.integers(40, 400),
    context_length=st.integers(1, 13),
    sampling=st.sampled_from(["shuffled", "random"]),
    cuts=st.lists(st.integers(0, 60), max_size=6),
)
@settings(deadline=None)
def test_windows_do_not_depend_on_how_they_are_asked_for(n_tokens, context_length, sampling, cuts):
    ask = {"n_tokens": n_tokens, "context_length": context_length, "sampling": sampling}
    whole = starts(0, 60, **ask)
    edges = [0, *sorted(cuts), 60]
    parts = [starts(a, b - a, **ask) for a, b in itertools.pairwise(edges) if b > a]
    assert np.array_equal(np.concatenate(parts), whole)
    assert whole.min() >= 0
    assert whole.max() + context_length + 1 <= n_tokens


def test_an_epoch_of_shuffled_windows_covers_every_token_once():
    n_tokens, context_length = 1000, 16
    per_epoch = (n_tokens - 1) // context_length - 1
    for epoch in range(3):
        taken = np.sort(starts(epoch * per_epoch, per_epoch))
        assert (np.diff(taken) == context_length).all()
        covered = per_epoch * context_length
        assert n_tokens - covered < 3 * context_length
    assert not np.array_equal(starts(0, per_epoch), starts(per_epoch, per_epoch))


def test_the_order_of_an_epoch_is_drawn_once_and_the_same_for_ever():
    """A run that was begun by an earlier version goes on with the same windows."""
    n_tokens, context_length, seed, epoch = 5_000_017, 16, 3, 2
    per_epoch = (n_tokens - 1) // context_length - 1
    rng = np.random.Generator(np.random.Philox(key=np.array([seed, epoch], np.uint64)))
    offset = int(rng.integers(0, n_tokens - per_epoch * context_length))
    expected = offset + context_length * rng.permutation(per_epoch)
    windows._epoch_order.cache_clear()
    ask = {"n_tokens": n_tokens, "context_length": context_length, "seed": seed}
    parts = [starts(epoch * per_epoch + first, 7, **ask) for first in range(0, 700, 7)]
    assert np.array_equal(np.concatenate(parts), expected[:700])
    assert parts[0].dtype == np.int64
    across = starts((epoch + 1) * per_epoch - 3, 5, **ask)
    assert np.array_equal(across[:3], expected[-3:])
    assert windows._epoch_order.cache_info().misses == 2
    starts((epoch + 1) * per_epoch - 2, 5, **ask)
    assert windows._epoch_order.cache_info().misses == 2


def test_random_starts_are_uniform():
    """Chi-squared over all starts, at the 0.1 % level."""
    n_starts = 1000 - 16
    counts = np.bincount(starts(0, 50 * n_starts, sampling="random"), minlength=n_starts)
    assert len(counts) == n_starts
    chi_squared = ((counts - 50) ** 2 / 50).sum()
    spread = np.sqrt(2 * n_starts)
    assert abs(chi_squared - n_starts) < 3.3 * spread


def test_seeds_give_different_orders():
    for sampling in ("shuffled", "random"):
        assert not np.array_equal(
            starts(0, 50, sampling=sampling), starts(0, 50, sampling=sampling, seed=1)
        )


@pytest.mark.parametrize("sampling", ["shuffled", "random"])
def test_seeds_of_64_bits_give_an_order_each(sampling):
    """Large ones differ too, without a warning, and a negative one is the same modulo 2^64."""
    seeds = [3, 2**62, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 2, 2**64 - 1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        orders = [tuple(starts(0, 50, sampling=sampling, seed=seed)) for seed in (*seeds, -1)]
    assert len(set(orders)) == len(seeds)
    assert orders[-1] == orders[-2]
    # The order of a seed is that of all earlier versions.
    if sampling == "shuffled":
        rng = np.random.Generator(np.random.Philox(key=[3, 0]))
        offset = int(rng.integers(0, 1000 - 61 * 16))
        assert orders[0] == tuple(offset + 16 * rng.permutation(61))[:50]


def test_a_run_of_one_window_has_one_start():
    for sampling in ("shuffled", "random"):
        assert (starts(0, 5, n_tokens=17, sampling=sampling) == 0).all()


def test_data_shorter_than_a_window_is_refused():
    for sampling in ("shuffled", "random"):
        with pytest.raises(ValueError, match=r"16 tokens, needed 17"):
            starts(0, 1, n_tokens=16, sampling=sampling)
    with pytest.raises(ValueError, match="shorter than one window"):
        get_batch(np.arange(16), 1, 16)


def test_targets_are_the_tokens_that_follow():
    tokens = np.arange(100, dtype=np.uint16) * 7
    inputs, targets = take_windows(tokens, np.array([0, 50, 83]), 16)
    assert inputs.dtype == targets.dtype == torch.int64
    assert torch.equal(inputs[1], torch.arange(50, 66) * 7)
    assert torch.equal(targets, inputs + 7)


def test_get_batch_reaches_every_start_and_repeats_with_its_rng():
    tokens = np.arange(26, dtype=np.uint16)
    inputs, targets = get_batch(tokens, 2000, 16, rng=np.random.default_rng(0))
    assert inputs.shape == targets.shape == (2000, 16)
    assert set(inputs[:, 0].tolist()) == set(range(10))
    again, _ = get_batch(tokens, 2000, 16, rng=np.random.default_rng(0))
    assert torch.equal(inputs, again)


def test_batches_start_anywhere_in_the_run():
    tokens = np.random.default_rng(0).integers(0, 500, 1000).astype(np.uint16)
    options = {
        "context_length": 16,
        "sampling": "shuffled",
        "seed": 3,
        "device": torch.device("cpu"),
    }
    by_four = batches(tokens, first_window=0, micro_batch=4, **options)
    by_two = batches(tokens, first_window=4, micro_batch=2, **options)
    next(by_four)
    second = next(by_four)
    halves = [next(by_two), next(by_two)]
    for i in (0, 1):
        assert torch.equal(second[i], torch.cat([half[i] for half in halves]))


@pytest.mark.gpu
def test_batches_on_a_gpu_equal_those_on_the_cpu():
    tokens = np.random.default_rng(0).integers(0, 500, 1000).astype(np.uint16)
    options = {
        "first_window": 0,
        "micro_batch": 4,
        "context_length": 16,
        "sampling": "random",
        "seed": 0,
    }
    on_cpu = batches(tokens, device=torch.device("cpu"), **options)
    on_gpu = batches(tokens, device=torch.device("cuda"), **options)
    for _ in range(20):
        for a, b in zip(next(on_cpu), next(on_gpu), strict=True):
            assert b.is_cuda
            assert torch.equal(a, b.cpu())
