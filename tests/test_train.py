"""Training end to end on small data: learning, logging, stopping, continuing, refusing."""

import dataclasses
import itertools
import json
import math
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from fastlm.checkpoint import read_model_tensors, run_checkpoints
from fastlm.config import ModelConfig, OptimConfig, TrainConfig
from fastlm.data import open_prepared, prepare
from fastlm.evaluate import evaluate_loss
from fastlm.pretrained import load_pretrained
from fastlm.record import RunRecord
from fastlm.stories import generate_stories
from fastlm.train import train

MODEL = ModelConfig(vocab_size=400, context_length=32, n_layers=2, d_model=32, n_heads=2)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    for i, name in enumerate(("train", "valid")):
        text = "<|endoftext|>".join(generate_stories(seed=i, n_bytes=60_000 // (9 * i + 1)))
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return prepare(folder, folder / "prepared", vocab_size=400)


def config(data: Path, **changes) -> TrainConfig:
    base = TrainConfig(
        recipe="test",
        model=MODEL,
        optim=OptimConfig(name="muon", lr=1e-2, warmup_fraction=0.1),
        batch_size=8,
        max_steps=20,
        eval_every=10,
        eval_tokens=512,
        checkpoint_every=5,
        log_every=5,
        device="cpu",
    )
    base = dataclasses.replace(base, data=dataclasses.replace(base.data, path=str(data)))
    return dataclasses.replace(base, **changes)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return read_model_tensors(run_checkpoints(run / "checkpoints")[-1])


def assert_same_weights(a: Path, b: Path) -> None:
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "finished"
    return run, train(config(data), run)


def test_a_run_learns_and_leaves_its_evidence(finished, data):
    run, summary = finished
    rows = RunRecord(run).rows()
    evals = [r for r in rows if r["kind"] == "eval"]
    assert [r["step"] for r in evals] == [0, 10, 20, 20]
    assert evals[0]["val_loss"] == pytest.approx(math.log(400), rel=0.12)
    assert evals[-1]["val_loss"] < evals[0]["val_loss"] - 0.5
    assert evals[-1]["whole_file"]
    assert not evals[0]["whole_file"]
    assert [r["step"] for r in rows if r["kind"] == "train"] == [1, 5, 10, 15, 20]
    for earlier, later in itertools.pairwise(rows):
        assert later["seconds"] >= earlier["seconds"]
        assert later["elapsed_seconds"] > later["seconds"]
    assert rows[-1]["tokens"] == summary.tokens == 20 * 8 * 32
    names = {p.name for p in run.iterdir()}
    assert names == {
        "checkpoints", "config.json", "curve.png", "environment.json",
        "log.jsonl", "sample.txt", "summary.json", "tokenizer",
    }  # fmt: skip
    assert json.loads((run / "summary.json").read_text()) == dataclasses.asdict(summary)
    assert (summary.finished, summary.stopped_by) == (True, "step budget")
    assert (run / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert (run / "sample.txt").read_text().strip()
    assert RunRecord(run).config() == config(data)


def test_final_loss_is_the_exact_mean_over_the_file(finished, data):
    run, summary = finished
    model = load_pretrained(run).model
    tokens = torch.from_numpy(open_prepared(data).val.tokens.astype(np.int64))
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(tokens) - 1, 32):
            window = tokens[start : start + 33]
            logits = model(window[None, :-1])[0].double()
            total += torch.nn.functional.cross_entropy(logits, window[1:], reduction="sum").item()
    assert summary.val_loss == pytest.approx(total / (len(tokens) - 1), rel=1e-5)
    assert summary.val_tokens == len(tokens) - 1
    text_bytes = open_prepared(data).val.text_bytes
    assert summary.bits_per_byte == pytest.approx(total / math.log(2) / text_bytes, rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_evaluation_does_not_depend_on_its_batch(finished, data, batch_size):
    run, summary = finished
    model = load_pretrained(run).model
    before = {name: t.clone() for name, t in model.state_dict().items()}
    result = evaluate_loss(
        model.loss,
        open_prepared(data).val.tokens,
        context_length=32,
        batch_size=batch_size,
        device=torch.device("cpu"),
    )
    assert result.loss == pytest.approx(summary.val_loss, rel=1e-5)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


def test_the_same_run_twice_gives_the_same_weights(finished, data, tmp_path):
    train(config(data), tmp_path / "again")
    assert_same_weights(finished[0], tmp_path / "again")


@pytest.mark.parametrize("stop", [1, 7, 15])
def test_resumed_run_equals_uninterrupted_run(stop, finished, data, tmp_path):
    """Stopped by a signal after some step, then resumed: the same weights, rows and curve."""
    run = tmp_path / "run"
    stopped = interrupted_after(stop, config(data), run)
    assert (stopped.finished, stopped.stopped_by, stopped.step) == (False, "SIGTERM", stop)
    summary = train(config(data), run, resume=True)
    assert summary.finished
    assert_same_weights(finished[0], run)
    assert summary.val_loss == finished[1].val_loss
    losses = {
        folder: {
            (r["step"], r["kind"]): r.get("loss", r.get("val_loss"))
            for r in RunRecord(folder).rows()
            if r["kind"] == "train" or r.get("whole_file")
        }
        for folder in (run, finished[0])
    }
    assert losses[run] == losses[finished[0]]
    rows = RunRecord(run).rows()
    assert all(
        b["seconds"] >= a["seconds"]
        for a, b in itertools.pairwise(rows)
        if "seconds" in a and "seconds" in b
    )


def interrupted_after(n_steps: int, run_config: TrainConfig, run: Path):
    """Train until the process gets SIGTERM in the middle of step n_steps."""
    from fastlm.trainer import Trainer

    original = Trainer.train_step

    def step(self, stream):
        if self.step == n_steps - 1:
            signal.raise_signal(signal.SIGTERM)
        return original(self, stream)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train_step", step)
        return train(run_config, run)


def test_signal_handlers_are_put_back(finished):
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


def test_a_run_in_another_thread_gives_the_same_weights(finished, data, tmp_path):
    thread = threading.Thread(target=train, args=(config(data), tmp_path / "run"))
    thread.start()
    thread.join()
    assert_same_weights(finished[0], tmp_path / "run")


def test_resume_from_an_older_checkpoint_forgets_the_later_rows(data, tmp_path):
    import shutil

    run = tmp_path / "run"
    train(config(data), run)
    expected = weights(run)
    newest = run_checkpoints(run / "checkpoints")[-1]
    shutil.rmtree(newest)
    train(config(data), run, resume=True)
    steps = [r["step"] for r in RunRecord(run).rows() if r["kind"] == "train"]
    assert steps == [1, 5, 10, 15, 20]
    assert all(torch.equal(t, expected[name]) for name, t in weights(run).items())


def test_accumulated_gradients_equal_those_of_the_whole_batch(data, tmp_path):
    """4 x 2 windows against 1 x 8; with SGD, since Adam and Muon magnify rounding."""
    optim = OptimConfig(name="sgd", lr=0.1, momentum=0.9)
    train(config(data, optim=optim), tmp_path / "whole")
    train(config(data, optim=optim, micro_batch=2), tmp_path / "parts")
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    for name in whole:
        torch.testing.assert_close(whole[name], parts[name], rtol=1e-4, atol=1e-5, msg=name)


def test_time_budget_ends_the_run_with_validation_and_checkpoint_inside(data, tmp_path):
    summary = train(config(data, max_steps=None, time_budget=6.0), tmp_path / "run")
    assert summary.stopped_by == "time budget"
    assert summary.finished
    # A busy machine may hold up the last validation for longer than such a short budget foresees.
    assert 3.0 < summary.elapsed_seconds < 9.0
    rows = [r for r in RunRecord(tmp_path / "run").rows() if r["kind"] == "train"]
    assert rows[-1]["lr"] < 0.25 * max(r["lr"] for r in rows)  # the schedule ran on the clock


def test_the_budgets_clock_keeps_time_for_the_last_validation(data, tmp_path):
    """100 s budget, 10 s start-up, 20 s reserved: 70 s of training, however the clock began."""
    from fastlm.clock import Clock
    from fastlm.trainer import Trainer

    clock = Clock(started=time.perf_counter())
    trainer = Trainer(
        config(data, max_steps=None, time_budget=100.0),
        open_prepared(data),
        RunRecord(tmp_path),
        clock,
    )
    n_tokens = len(open_prepared(data).val.tokens)
    trainer.eval_seconds_per_token = [15 / 1.1 / n_tokens]
    trainer.save_seconds = 3.0
    trainer.step_seconds = [1.0, 1.0, 90.0]
    assert 15 / 1.1 / n_tokens > 1.0 / trainer.config.tokens_per_step
    # A validation slower than training is a hiccup: training's own speed is the bound then.
    assert trainer.reserve == pytest.approx(1.1 * n_tokens / 256 + 3 + 2)
    trainer.eval_seconds_per_token = [1.0 / 256 / 2]
    assert trainer.reserve == pytest.approx(1.1 * n_tokens / 512 + 3 + 2)
    trainer.save_seconds += 20 - trainer.reserve
    assert trainer.reserve == pytest.approx(20.0)
    for seconds, share in ((0.0, 0.0), (35.0, 0.5), (69.5, 69.5 / 70)):
        clock.continue_from(elapsed=10.0 + seconds, seconds=seconds)
        assert trainer.progress == pytest.approx(share, abs=0.01)
        assert trainer.should_stop() is None
    clock.continue_from(elapsed=80.1, seconds=70.1)
    assert trainer.should_stop() == "time budget"
    assert trainer.progress == 1.0


AVERAGED = OptimConfig(name="muon", lr=1e-2, warmup_fraction=0.1, average_tail=0.25)


@pytest.fixture(scope="module")
def averaged(data, tmp_path_factory):
    """A run whose last quarter is averaged, and its weights after each step."""
    from fastlm.trainer import Trainer

    original, seen = Trainer.train_step, []

    def step(self, stream):
        result = original(self, stream)
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
    """Stopped before the tail, at its start and in it."""
    run, averaged_config = tmp_path / "run", config(data, optim=AVERAGED)
    assert not interrupted_after(stop, averaged_config, run).finished
    for name, t in weights(run).items():  # a checkpoint on the way holds the run's own weights
        assert torch.equal(t, averaged[2][stop - 1][name])
    summary = train(averaged_config, run, resume=True)
    assert (summary.n_averaged, summary.val_loss) == (5, averaged[1].val_loss)
    assert_same_weights(averaged[0], run)


def test_a_finished_run_goes_on_from_its_last_step_not_from_the_mean(averaged, data, tmp_path):
    import shutil

    from fastlm.clock import Clock
    from fastlm.trainer import Trainer

    run = tmp_path / "run"
    shutil.copytree(averaged[0], run)
    longer = config(data, optim=AVERAGED, max_steps=40)
    trainer = Trainer(longer, open_prepared(data), RunRecord(run), Clock(time.perf_counter()))
    trainer.resume(run_checkpoints(run / "checkpoints")[-1])
    for name, t in trainer.model.state_dict().items():
        assert torch.equal(t, averaged[2][-1][name])
    # Half of 40 steps done: the mean begins anew in the tail of the longer run.
    assert train(longer, run, resume=True).n_averaged == 10


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
    rows = [r for r in RunRecord(tmp_path / "whole").rows() if r["kind"] == "train"]
    # Steps 1, 5, 10, 15 and 20: warm-up of 4, then 1 to the half, then down to a tenth.
    assert [r["lr"] / 1e-2 for r in rows] == pytest.approx([0.25, 1, 1, 0.55, 0.1])
    evals = [r["val_loss"] for r in RunRecord(tmp_path / "whole").rows() if r["kind"] == "eval"]
    assert evals[-1] < evals[0] - 0.5


def test_a_run_with_checkpointed_activations_gives_the_same_weights(finished, data, tmp_path):
    train(config(data, checkpoint_activations=True), tmp_path / "run")
    assert_same_weights(finished[0], tmp_path / "run")


def test_token_budget_counts_whole_steps(data, tmp_path):
    summary = train(config(data, max_steps=None, max_tokens=1000), tmp_path / "run")
    assert (summary.step, summary.stopped_by) == (1000 // 256, "token budget")


@pytest.mark.compiled
@pytest.mark.slow
@pytest.mark.parametrize("scope", ["step", "block"])
def test_compiled_run_agrees_and_compiles_once(scope, finished, data, tmp_path):
    run = tmp_path / "run"
    with torch._dynamo.config.patch(error_on_recompile=True):
        summary = train(config(data, compile=True, compile_scope=scope, bf16=True), run)
    assert summary.compile_seconds > 0
    # A CPU with bfloat16 instructions rounds to 8 bits; one without computes in float32.
    assert summary.val_loss == pytest.approx(finished[1].val_loss, rel=0.01)
    eager = [r["loss"] for r in RunRecord(finished[0]).rows() if r["kind"] == "train"]
    compiled = [r["loss"] for r in RunRecord(run).rows() if r["kind"] == "train"]
    assert compiled == pytest.approx(eager, rel=0.02)


@pytest.mark.compiled
@pytest.mark.slow
def test_a_process_can_train_one_compiled_model_after_another(data, tmp_path):
    for n_layers in (1, 2):
        model = dataclasses.replace(MODEL, n_layers=n_layers, d_model=16)
        run_config = config(data, model=model, compile=True, max_steps=1, eval_tokens=64)
        with torch._dynamo.config.patch(error_on_recompile=True):
            assert train(run_config, tmp_path / str(n_layers)).finished


def test_bf16_run_agrees_with_float32(finished, data, tmp_path, monkeypatch):
    """Real bfloat16 arithmetic, also on a CPU that has to emulate it."""
    from fastlm import hardware

    monkeypatch.setattr(hardware, "cpu_has_bf16", lambda: True)
    summary = train(config(data, bf16=True), tmp_path / "run")
    assert summary.val_loss == pytest.approx(finished[1].val_loss, rel=0.01)
    assert summary.val_loss != finished[1].val_loss


def test_model_and_optimizers_compute_with_the_operations_that_were_asked_for(data, tmp_path):
    from fastlm.clock import Clock
    from fastlm.ops import torch_ops
    from fastlm.trainer import Trainer
    from kernels import OPS

    prepared = open_prepared(data)
    for asked in ("none", "adamw,rms_norm,symmetric_product"):
        run_config = config(data, triton_ops=asked)
        trainer = Trainer(run_config, prepared, RunRecord(tmp_path), Clock(time.perf_counter()))
        kernels = {} if asked == "none" else {name: OPS[name] for name in asked.split(",")}
        assert len(trainer.optimizers) == 2
        for holder in (trainer.model, *trainer.optimizers):
            assert holder.ops == torch_ops._replace(**kernels)


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_checkpoint(data, tmp_path):
    from fastlm.trainer import Diverged

    optim = OptimConfig(
        name="sgd", lr=1e30, max_grad_norm=float("inf"), warmup_fraction=0.6, schedule="constant"
    )
    with pytest.raises(Diverged, match=r"the loss is (nan|inf) at step \d+.*smaller --optim.lr"):
        train(config(data, optim=optim), tmp_path / "run")


def test_unusable_settings_are_refused_before_the_folder_is_made(data, tmp_path):
    run = tmp_path / "run"
    long = dataclasses.replace(MODEL, context_length=1_000_000)
    with pytest.raises(ValueError, match="shorter than one window"):
        train(config(data, model=long), run)
    with pytest.raises(ValueError, match="no Triton op"):
        train(config(data, triton_ops="quick"), run)
    with pytest.raises(ValueError, match="one window at a time needs"):
        train(config(data, memory=0.25), run)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device cuda is not available"):
            train(config(data, device="cuda"), run)
    assert not run.exists()


def test_a_finished_run_is_not_written_over(finished, data):
    before = (finished[0] / "log.jsonl").read_bytes()
    with pytest.raises(FileExistsError, match="--resume auto"):
        train(config(data), finished[0])
    assert (finished[0] / "log.jsonl").read_bytes() == before


def test_resume_refuses_other_data_and_batch_size(finished, data, tmp_path):
    import shutil

    run = tmp_path / "run"
    shutil.copytree(finished[0], run)
    with pytest.raises(ValueError, match="batch_size on the way.* has 8, asked for 4"):
        train(config(data, batch_size=4, max_steps=40), run, resume=True)
    text = tmp_path / "other.txt"
    text.write_text("quite another text " * 500)
    other = prepare(text, tmp_path / "other", vocab_size=400 - 100)
    with pytest.raises(ValueError, match="made with another tokenizer"):
        train(config(other, max_steps=40), run, resume=True)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["muon", "normuon"])
def test_a_training_step_on_a_gpu_does_not_wait_for_it(name, data, tmp_path):
    from fastlm.clock import Clock
    from fastlm.trainer import Trainer
    from fastlm.windows import batches

    optim = OptimConfig(name=name, cautious_weight_decay=True, average_tail=1.0)
    run_config = config(data, device="cuda", bf16=True, optim=optim)
    prepared = open_prepared(data)
    trainer = Trainer(run_config, prepared, RunRecord(tmp_path), Clock(time.perf_counter()))
    stream = batches(
        prepared.train.tokens,
        first_window=0,
        micro_batch=trainer.micro_batch,
        context_length=32,
        sampling="shuffled",
        seed=0,
        device=trainer.device,
    )
    trainer.train_step(stream)  # allocates the optimizers' state
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            loss, _ = trainer.train_step(stream)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert math.isfinite(loss.item())
