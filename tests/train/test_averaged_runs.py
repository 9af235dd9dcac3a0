"""Runs whose final model is the mean of their last weights: the weights in it, and resuming."""

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
from short_runs import (
    assert_same_weights,
    config,
    interrupted_after,
    new_run,
    train_rows,
    weights,
)

from fastlm.checkpoint import read_run_checkpoint, run_checkpoints
from fastlm.config import OptimConfig
from fastlm.data import open_prepared
from fastlm.evaluate import evaluate_loss
from fastlm.pretrained import load_pretrained
from fastlm.runs.record import RunRecord
from fastlm.train import train
from fastlm.train.trainer import Trainer

AVERAGED = OptimConfig(name="muon", lr=1e-2, warmup_fraction=0.1, average_tail=0.25)


@pytest.fixture(scope="module")
def averaged(data, tmp_path_factory):
    """A run whose last quarter is averaged, and its weights after each step."""
    original, seen = Trainer.train_step, []

    def step(self, stream, **place):
        result = original(self, stream, **place)
        seen.append({name: t.clone() for name, t in self.model.state_dict().items()})
        return result

    run = tmp_path_factory.mktemp("runs") / "averaged"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train_step", step)
        summary = train(config(data, optim=AVERAGED), run)
    return run, summary, seen


def test_the_final_model_is_the_mean_over_the_tail(averaged, finished):
    run, summary, seen = averaged
    assert (len(seen), summary.n_averaged, finished[1].n_averaged) == (20, 5, 0)
    final, last = weights(run), weights(finished[0])
    for name, t in final.items():
        # Averaging leaves the steps as they are.
        assert torch.equal(seen[-1][name], last[name])
        mean = torch.stack([w[name].double() for w in seen[-5:]]).mean(0)
        torch.testing.assert_close(t.double(), mean, rtol=1e-5, atol=1e-7)


def test_the_final_loss_is_that_of_the_model_that_is_left(averaged, finished, data):
    run, summary, _ = averaged
    result = evaluate_loss(
        load_pretrained(run).model.loss,
        open_prepared(data).val.tokens,
        context_length=32,
        batch_size=8,
        device=torch.device("cpu"),
    )
    assert summary.val_loss == pytest.approx(result.loss, rel=1e-5)
    assert summary.val_loss != pytest.approx(finished[1].val_loss, rel=1e-4)


@pytest.mark.parametrize("stop", [7, 15, 17])
def test_resumed_run_has_the_average_of_an_uninterrupted_one(stop, averaged, data, tmp_path):
    """The run is stopped before the tail, at its start and within it."""
    run, averaged_config = tmp_path / "run", config(data, optim=AVERAGED)
    assert not interrupted_after(stop, averaged_config, run).finished
    for name, t in weights(run).items():  # a checkpoint on the way holds the run's own weights
        assert torch.equal(t, averaged[2][stop - 1][name])
    summary = train(averaged_config, run, resume=True)
    assert (summary.n_averaged, summary.val_loss) == (5, averaged[1].val_loss)
    assert_same_weights(averaged[0], run)


def test_a_finished_run_goes_on_from_its_last_step_not_from_the_mean(averaged, data, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(averaged[0], run)
    longer = config(data, optim=AVERAGED, max_steps=40)
    resumed = new_run(longer, run)
    resumed.saving.resume(read_run_checkpoint(run_checkpoints(run / "checkpoints")[-1]))
    for name, t in resumed.trainer.model.state_dict().items():
        assert torch.equal(t, averaged[2][-1][name])
    # Half of 40 steps done: the mean begins anew in the tail of the longer run.
    assert train(longer, run, resume=True).n_averaged == 10


@pytest.mark.parametrize(("max_steps", "n_averaged"), [(21, 6), (22, 2), (20, 5)])
def test_the_mean_of_a_run_with_a_later_end_has_no_weights_before_its_tail(
    max_steps, n_averaged, averaged, data, tmp_path
):
    """The mean began with step 16, which is in the last quarter of 21 steps and not of 22."""
    run = Path(shutil.copytree(averaged[0], tmp_path / "run"))
    summary = train(config(data, optim=AVERAGED, max_steps=max_steps), run, resume=True)
    assert summary.n_averaged == n_averaged


@pytest.mark.parametrize(
    ("tail", "every", "n_averaged"), [(0.25, 2, 3), (1.0, 1, 20), (0.01, 1, 1), (0.1, 7, 1)]
)
def test_every_kth_step_of_the_tail_counts(tail, every, n_averaged, data, tmp_path, finished):
    optim = dataclasses.replace(AVERAGED, average_tail=tail, average_every=every)
    assert train(config(data, optim=optim), tmp_path / "run").n_averaged == n_averaged
    if n_averaged == 1:  # the last weights alone
        assert_same_weights(finished[0], tmp_path / "run")


def test_a_run_with_every_setting_resumes_exactly(data, tmp_path):
    optim = OptimConfig(
        name="normuon", lr=1e-2, embedding_lr=0.02, table_betas=(0.8, 0.995), momentum_start=0.85,
        momentum_warmup_steps=10, momentum_end=0.9, weight_decay_schedule="linear",
        cautious_weight_decay=True, orthogonalization="polar-express", schedule="wsd",
        warmup_steps=4, decay_fraction=0.5, average_tail=0.5, average_every=2,
    )  # fmt: skip
    run_config = config(data, optim=optim)
    whole = train(run_config, tmp_path / "whole")
    interrupted_after(13, run_config, tmp_path / "parts")
    parts = train(run_config, tmp_path / "parts", resume=True)
    assert_same_weights(tmp_path / "whole", tmp_path / "parts")
    assert (parts.val_loss, parts.n_averaged) == (whole.val_loss, 5)
    # Steps 1, 5, 10, 15 and 20: warm-up of 4, then 1 to the half, then down to a tenth.
    assert [r["lr"] / 1e-2 for r in train_rows(tmp_path / "whole")] == pytest.approx(
        [0.25, 1, 1, 0.55, 0.1]
    )
    evals = [r["val_loss"] for r in RunRecord(tmp_path / "whole").rows() if r["kind"] == "eval"]
    assert evals[-1] < evals[0] - 0.5
