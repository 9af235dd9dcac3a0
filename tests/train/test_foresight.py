"""A run that is meant for a GPU is warned of on a CPU, with its time and memory, before it starts."""

import dataclasses

import pytest
import torch

from fastlm.accounting import forward_flops
from fastlm.cli.units import human_seconds
from fastlm.config.recipes import load_recipe
from fastlm.train import command, foresight

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["stories", "tiny", "leaderboard-tiny", "baseline-tiny"])
def test_small_recipes_are_not_warned_of(name, monkeypatch):
    monkeypatch.setattr(foresight, "_matrix_flops", lambda: pytest.fail("measured"))
    assert foresight.warn_of_cpu(load_recipe(name), CPU, vocab_size=4096) == ""


def test_a_large_recipe_is_warned_of_with_its_time_and_memory(monkeypatch):
    monkeypatch.setattr(foresight, "_matrix_flops", lambda: 1e11)
    config = load_recipe("leaderboard")
    told = foresight.warn_of_cpu(config, CPU, vocab_size=32_000)
    flops = 512 * 3 * forward_flops(config.model, 512)  # at half of 1e11 FLOP/s
    assert "for a step of 262,144 tokens, 0 of them in the time budget of 1:25:00, and " in told
    assert f"471,189,276 parameters on a CPU: about {human_seconds(flops / 5e10)} for" in told
    assert told.endswith("--recipe tiny and --recipe stories are for a CPU")
    assert foresight.warn_of_cpu(config, torch.device("cuda"), vocab_size=32_000) == ""
    monkeypatch.setattr(foresight, "_matrix_flops", lambda: 1e16)
    assert foresight.warn_of_cpu(config, CPU, vocab_size=32_000) == ""


def test_a_network_that_cannot_fit_is_warned_of_too(monkeypatch):
    monkeypatch.setattr(foresight, "_matrix_flops", lambda: 1e11)
    config = load_recipe("leaderboard")
    config = dataclasses.replace(config, memory=0.5)
    told = foresight.warn_of_cpu(config, CPU, vocab_size=32_000)
    assert "more memory than there is" in told


def test_the_warning_comes_before_stories_are_made(monkeypatch, tmp_path, capfd):
    class Made(Exception):
        """Stories would be made now."""

    def make(config):
        raise Made

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "_story_data", make)
    monkeypatch.setattr(foresight, "_matrix_flops", lambda: 1e11)
    with pytest.raises(Made):
        command.main(["--recipe", "leaderboard", "--device", "cpu", "--out", "x"])
    assert capfd.readouterr().err.startswith("warning: ")
    assert list(tmp_path.iterdir()) == []
