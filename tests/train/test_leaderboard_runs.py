"""Runs of the leaderboard's network: it learns, continues exactly, generates, and parts its tie."""

import dataclasses
import math
import shutil
from pathlib import Path

import pytest
import torch
from compiled_runs import train_compiled
from leaderboard_runs import MODEL, config
from short_runs import assert_same_weights, losses, weights

from fastlm.checkpoint import run_checkpoints
from fastlm.generate import generate_text
from fastlm.pretrained import load_pretrained
from fastlm.runs.record import RunRecord
from fastlm.train import train


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> Path:
    """A run whose checkpoints are all kept: each sixth of its 24 steps."""
    run = tmp_path_factory.mktemp("runs") / "trained"
    train(config(data, checkpoint_keep=10), run)
    return run


def test_it_learns_and_generates(trained):
    first, *_, last = losses(trained)
    assert last < first - 1
    tables = [name for name in weights(trained) if name.startswith("ngrams.tables")]
    assert len(tables) == 2
    assert all(weights(trained)[name].abs().sum() > 0 for name in tables)
    loaded = load_pretrained(trained)
    text = "".join(generate_text(loaded.model, loaded.tokenizer, "Once", max_tokens=40))
    assert len(text) > 10


@pytest.mark.parametrize("step", [6, 18], ids=["tied", "apart"])
def test_resumed_while_tied_or_after_it_ends_as_if_never_stopped(step, trained, data, tmp_path):
    """The tie ends with step 12."""
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    for later in run_checkpoints(run / "checkpoints")[step // 6 :]:
        shutil.rmtree(later)
    assert len(run_checkpoints(run / "checkpoints")) == step // 6
    train(config(data, checkpoint_keep=10), run, resume=True)
    assert_same_weights(trained, run)


def test_it_starts_as_a_uniform_guess(trained):
    first = next(row for row in RunRecord(trained).rows() if row["kind"] == "eval")
    assert first["val_loss"] == pytest.approx(math.log(400), abs=0.2)


@pytest.mark.parametrize(("step", "are_equal"), [(6, True), (18, False), (24, False)])
def test_embedding_and_head_are_equal_until_they_part(step, are_equal, trained):
    held = weights(trained, step)
    assert torch.equal(held["lm_head.weight"], held["token_embeddings.weight"]) == are_equal


@pytest.mark.compiled
@pytest.mark.slow
@pytest.mark.usefixtures("without_code_generation")
def test_compiled_nothing_is_compiled_anew_after_the_warm_up(data, tmp_path):
    summary = train_compiled(
        config(data, max_steps=12), tmp_path / "compiled", eager=tmp_path / "eager", rel=1e-3
    )
    assert summary.step == 12


def test_holding_one_matrix_equal_to_itself_is_refused(data):
    with pytest.raises(ValueError, match="holds two matrices equal, but the model has one"):
        config(data, model=dataclasses.replace(MODEL, tie_weights=True))
