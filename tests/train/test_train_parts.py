"""Runs of the leaderboard's network: it learns, continues exactly, generates, and parts its tie."""

import dataclasses
import math
import shutil
from pathlib import Path

import pytest
import short_runs
import torch
from short_runs import losses, weights

from fastlm.checkpoint import run_checkpoints
from fastlm.config import ModelConfig, OptimConfig, TrainConfig
from fastlm.generate import generate_text
from fastlm.pretrained import load_pretrained
from fastlm.runs.record import RunRecord
from fastlm.train import train

MODEL = ModelConfig(
    vocab_size=400,
    context_length=32,
    n_layers=3,
    d_model=32,
    n_heads=2,
    tie_weights=False,
    ffn="relu2",
    norm_gain=False,
    embedding_norm=True,
    qk_norm=True,
    zero_init=True,
    residual_scalars=True,
    x0_scalars=True,
    value_embeddings=True,
    attention_gate=True,
    unet_skip=True,
    backout=True,
    logit_softcap=15.0,
    ngram_rows=1000,
    ngram_width=16,
)
OPTIM = OptimConfig(
    name="normuon",
    lr=1e-2,
    muon_lr=0.02,
    orthogonalization="polar-express",
    cautious_weight_decay=True,
    tie_until=0.5,
    schedule="wsd",
    max_grad_norm=float("inf"),
)


def config(data: Path, **changes) -> TrainConfig:
    settings = {"model": MODEL, "optim": OPTIM, "micro_batch": 4, "max_steps": 24}
    settings |= {"eval_every": 12, "checkpoint_every": 6, "log_every": 6}
    return short_runs.config(data, **(settings | changes))


def test_it_learns_and_generates(data, tmp_path):
    train(config(data), tmp_path)
    first, *_, last = losses(tmp_path)
    assert last < first - 1
    tables = [name for name in weights(tmp_path) if name.startswith("ngrams.tables")]
    assert len(tables) == 2
    assert all(weights(tmp_path)[name].abs().sum() > 0 for name in tables)
    loaded = load_pretrained(tmp_path)
    text = "".join(generate_text(loaded.model, loaded.tokenizer, "Once", max_tokens=40))
    assert len(text) > 10


def test_resumed_while_tied_or_after_it_ends_as_if_never_stopped(data, tmp_path):
    run_config = config(data, checkpoint_keep=10)
    train(run_config, tmp_path)
    expected = weights(tmp_path)
    for step in (6, 18):  # the tie ends with step 12
        for later in run_checkpoints(tmp_path / "checkpoints")[step // 6 :]:
            shutil.rmtree(later)
        assert len(run_checkpoints(tmp_path / "checkpoints")) == step // 6
        train(run_config, tmp_path, resume=True)
        found = weights(tmp_path)
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            assert torch.equal(tensor, found[name]), (step, name)


def test_it_starts_as_a_uniform_guess(data, tmp_path):
    train(config(data, max_steps=1), tmp_path)
    first = next(row for row in RunRecord(tmp_path).rows() if row["kind"] == "eval")
    assert first["val_loss"] == pytest.approx(math.log(400), abs=0.2)


def test_embedding_and_head_are_equal_until_they_part(data, tmp_path):
    train(config(data, max_steps=12, checkpoint_every=1), tmp_path / "run")
    # Two checkpoints are kept: of steps 11 and 12. The tie ends with step 6.
    end = weights(tmp_path / "run")
    assert not torch.equal(end["lm_head.weight"], end["token_embeddings.weight"])
    tied = dataclasses.replace(OPTIM, tie_until=1.0)
    train(config(data, optim=tied, max_steps=12), tmp_path / "tied")
    end = weights(tmp_path / "tied", 6)
    assert torch.equal(end["lm_head.weight"], end["token_embeddings.weight"])


@pytest.mark.compiled
@pytest.mark.slow
def test_compiled_nothing_is_compiled_anew_after_the_warm_up(data, tmp_path, monkeypatch):
    monkeypatch.setattr(torch._dynamo.config, "error_on_recompile", True)
    compiled = config(data, compile=True, max_steps=12)
    summary = train(compiled, tmp_path / "compiled")
    assert summary.step == 12
    train(dataclasses.replace(compiled, compile=False), tmp_path / "eager")
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "eager"), rel=1e-3)


def test_holding_one_matrix_equal_to_itself_is_refused(data):
    with pytest.raises(ValueError, match="holds two matrices equal, but the model has one"):
        config(data, model=dataclasses.replace(MODEL, tie_weights=True))
