"""Training end to end on small data: learning, logging, stopping, continuing, refusing."""

import dataclasses
import gc
import itertools
import json
import math
import os
import platform
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from compiled_runs import train_compiled
from short_runs import (
    MODEL,
    assert_same_weights,
    config,
    interrupted_after,
    new_run,
    simulate_clock,
    take_step,
    train_rows,
    weights,
    why_over,
)

from fastlm.checkpoint import run_checkpoints
from fastlm.config import OptimConfig
from fastlm.config.recipes import load_recipe
from fastlm.corpus import make_stories
from fastlm.data import open_prepared, prepare
from fastlm.data.prepared import PreparedData
from fastlm.devices.ranks import Ranks
from fastlm.evaluate import evaluate_loss
from fastlm.evaluate.__main__ import main as evaluate_main
from fastlm.imports import import_tokens
from fastlm.pretrained import load_pretrained
from fastlm.runs.record import RunRecord
from fastlm.runs.state import state_of
from fastlm.tokenizer import Tokenizer
from fastlm.train import run as run_module
from fastlm.train import train
from fastlm.train.assemble import compiles_by_block
from fastlm.train.budget import Measured
from fastlm.train.command import configuration, main
from fastlm.train.loop import FROZEN_BY_PYTHON, manual_garbage_collection
from fastlm.train.trainer import Trainer


def test_a_run_learns_and_leaves_its_evidence(finished, data):
    run, summary = finished
    rows = RunRecord(run).rows()
    evals = [r for r in rows if r["kind"] == "eval"]
    assert [r["step"] for r in evals] == [0, 10, 20, 20]
    assert evals[0]["val_loss"] == pytest.approx(math.log(400), rel=0.12)
    assert evals[-1]["val_loss"] < evals[0]["val_loss"] - 0.5
    assert evals[-1]["whole_file"]
    assert not evals[0]["whole_file"]
    assert [r["step"] for r in train_rows(run)] == [1, 5, 10, 15, 20]
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
    picture = (run / "curve.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 1000
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
    logged = {
        folder: {
            (r["step"], r["kind"]): r.get("loss", r.get("val_loss"))
            for r in RunRecord(folder).rows()
            if r["kind"] == "train" or r.get("whole_file")
        }
        for folder in (run, finished[0])
    }
    assert logged[run] == logged[finished[0]]
    rows = RunRecord(run).rows()
    assert all(
        b["seconds"] >= a["seconds"]
        for a, b in itertools.pairwise(rows)
        if "seconds" in a and "seconds" in b
    )


def test_signal_handlers_are_put_back(finished):
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


def test_a_run_in_another_thread_gives_the_same_weights(finished, data, tmp_path):
    thread = threading.Thread(target=train, args=(config(data), tmp_path / "run"))
    thread.start()
    thread.join()
    assert_same_weights(finished[0], tmp_path / "run")


def test_resume_from_an_older_checkpoint_forgets_the_later_rows(data, tmp_path):
    run = tmp_path / "run"
    train(config(data), run)
    expected = weights(run)
    newest = run_checkpoints(run / "checkpoints")[-1]
    shutil.rmtree(newest)
    train(config(data), run, resume=True)
    assert [r["step"] for r in train_rows(run)] == [1, 5, 10, 15, 20]
    assert all(torch.equal(t, expected[name]) for name, t in weights(run).items())


def test_a_finished_run_that_goes_back_and_is_killed_is_not_finished(data, tmp_path, monkeypatch):
    """Its former result is kept in the log, and is not taken for that of the steps to come."""
    run = tmp_path / "run"
    summary = train(config(data, checkpoint_keep=9), run)
    original = Trainer.train_step

    def step(self, stream, **place):
        if self.step == 12:
            raise RuntimeError("killed")
        return original(self, stream, **place)

    (run / "tokenizer/notes.md").write_text("mine")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", step)
        with pytest.raises(RuntimeError, match="killed"):
            train(config(data, checkpoint_keep=9), run, resume=run / "checkpoints/step-000010")
    assert (run / "tokenizer/notes.md").read_text() == "mine"
    assert state_of(run, is_over=True).name == "broken off"
    with pytest.raises(FileNotFoundError, match="not at its end"):
        RunRecord(run).summary()
    (resumed,) = [row for row in RunRecord(run).rows() if row["kind"] == "resume"]
    assert resumed["former_summary"] == dataclasses.asdict(summary)
    assert train(config(data), run, resume=True).val_loss == summary.val_loss
    assert state_of(run).name == "finished"


@pytest.mark.parametrize("ends", [{}, {"time_budget": 60.0, "fix_steps": True}], ids=str)
def test_every_row_of_a_log_has_step_tokens_and_clocks(ends, data, tmp_path, monkeypatch):
    monkeypatch.setattr("fastlm.train.fixed_steps._fitting_steps", lambda run, seconds: 6)
    run, limits = tmp_path / "run", {"max_steps": None if ends else 6, "checkpoint_every": 2} | ends
    interrupted_after(3, config(data, **limits), run)
    train(config(data, **limits), run, resume=True)
    rows = RunRecord(run).rows()
    assert {row["kind"] for row in rows} >= {
        "train",
        "eval",
        "resume",
        *(["probe"] if ends else []),
    }
    for row in rows:
        assert list(row)[:5] == ["step", "tokens", "seconds", "elapsed_seconds", "kind"], row
        assert row["tokens"] == row["step"] * 8 * 32
    clocks = [(row["seconds"], row["elapsed_seconds"]) for row in rows]
    assert clocks == sorted(clocks)


def test_accumulated_gradients_equal_those_of_the_whole_batch(data, tmp_path):
    """4 x 2 windows against 1 x 8; with SGD, since Adam and Muon magnify rounding."""
    optim = OptimConfig(name="sgd", lr=0.1, momentum=0.9)
    train(config(data, optim=optim), tmp_path / "whole")
    train(config(data, optim=optim, micro_batch=2), tmp_path / "parts")
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    for name in whole:
        torch.testing.assert_close(whole[name], parts[name], rtol=1e-4, atol=1e-5, msg=name)


def test_time_budget_ends_the_run_with_validation_and_checkpoint_inside(
    data, tmp_path, monkeypatch
):
    """A step takes 0.2 s, the last validation 0.8 s: 1.5 s are reserved, and one may be begun."""
    n_tokens = len(open_prepared(data).val.tokens)
    simulate_clock(monkeypatch, window_seconds=0.2 / 8, eval_seconds_per_token=0.8 / n_tokens)
    run_config = config(data, max_steps=None, time_budget=6.0, log_every=1)
    summary = train(run_config, tmp_path / "run", clock_started=0.0)
    assert summary.stopped_by == "time budget"
    assert summary.finished
    assert 6.0 - 1.5 + 0.8 <= summary.elapsed_seconds <= 6.0
    rows = train_rows(tmp_path / "run")
    assert rows[-1]["lr"] < 0.25 * max(r["lr"] for r in rows)  # the schedule ran on the clock


def test_the_budgets_clock_keeps_time_for_the_last_validation(data, tmp_path, monkeypatch):
    """100 s budget, 10 s start-up, 20 s reserved: 70 s of training, however the clock began."""
    run = new_run(config(data, max_steps=None, time_budget=100.0), tmp_path)
    clock, saver = run.clock, run.saving.saver
    monkeypatch.setattr(time, "perf_counter", lambda: clock.started)
    n_tokens = len(open_prepared(data).val.tokens)
    run.budget.eval_seconds_per_token = Measured(15 / 1.1 / n_tokens)
    saver.expect(3.0)
    run.budget.window_seconds = Measured(1 / 8, 1 / 8, 90 / 8)  # of a step: 1, 1 and 90 s
    assert 15 / 1.1 / n_tokens > 1 / 8 / 32
    # A validation slower than training is a hiccup: training's own speed is the bound then.
    assert run.budget.reserve == pytest.approx(1.1 * (n_tokens / 256 + 1 + 3))
    run.budget.eval_seconds_per_token = Measured(1.0 / 256 / 2)
    assert run.budget.reserve == pytest.approx(1.1 * (n_tokens / 512 + 1 + 3))
    saver.expect(saver.seconds + (20 - run.budget.reserve) / 1.1)
    assert run.budget.reserve == pytest.approx(20.0)
    for seconds, share in ((0.0, 0.0), (35.0, 0.5), (69.5, 69.5 / 70)):
        clock.continue_from(elapsed=10.0 + seconds, seconds=seconds)
        assert run.budget.progress(0) == pytest.approx(share, abs=0.01)
        assert why_over(run) is None
    clock.continue_from(elapsed=80.1, seconds=70.1)
    assert why_over(run) == "time budget"
    assert run.budget.progress(0) == 1.0


def test_a_run_with_checkpointed_activations_gives_the_same_weights(finished, data, tmp_path):
    train(config(data, checkpoint_activations=True), tmp_path / "run")
    assert_same_weights(finished[0], tmp_path / "run")


def test_token_budget_counts_whole_steps(data, tmp_path):
    summary = train(config(data, max_steps=None, max_tokens=1000), tmp_path / "run")
    assert (summary.step, summary.stopped_by) == (1000 // 256, "token budget")


@pytest.mark.compiled
@pytest.mark.slow
@pytest.mark.parametrize("scope", ["step", "block"])
@pytest.mark.usefixtures("without_code_generation")
def test_compiled_run_agrees_and_compiles_once(scope, finished, data, tmp_path):
    # A CPU with bfloat16 instructions rounds to 8 bits; one without computes in float32.
    run_config = config(data, compile_scope=scope, bf16=True)
    summary = train_compiled(run_config, tmp_path / "run", eager=finished[0], rel=0.02)
    assert summary.val_loss == pytest.approx(finished[1].val_loss, rel=0.01)


@pytest.mark.compiled
@pytest.mark.generated
@pytest.mark.slow
def test_a_run_by_generated_code_agrees(data, tmp_path):
    """The network has one layer; soak_compiled.py has longer and wider runs."""
    model = dataclasses.replace(MODEL, n_layers=1)
    run_config = config(data, model=model, max_steps=4, log_every=1, eval_tokens=64, bf16=True)
    train_compiled(run_config, tmp_path / "run", eager=tmp_path / "eager", rel=0.02)


@pytest.mark.compiled
@pytest.mark.slow
@pytest.mark.usefixtures("without_code_generation")
def test_a_process_can_train_one_compiled_model_after_another(data, tmp_path):
    for n_layers in (1, 2):
        model = dataclasses.replace(MODEL, n_layers=n_layers, d_model=16)
        run_config = config(data, model=model, compile=True, max_steps=1, eval_tokens=64)
        with torch._dynamo.config.patch(error_on_recompile=True):
            assert train(run_config, tmp_path / str(n_layers)).finished


def test_bf16_run_agrees_with_float32(finished, data, tmp_path, monkeypatch):
    """Real bfloat16 arithmetic, also on a CPU that has to emulate it."""
    from fastlm.devices import hardware

    monkeypatch.setattr(hardware, "cpu_has_bf16", lambda: True)
    summary = train(config(data, bf16=True), tmp_path / "run")
    assert summary.val_loss == pytest.approx(finished[1].val_loss, rel=0.01)
    assert summary.val_loss != finished[1].val_loss


@pytest.mark.interpreter
def test_model_and_optimizers_compute_with_the_operations_that_were_asked_for(data, tmp_path):
    from fastlm.ops import torch_ops
    from kernels import OPS

    for asked in ("none", "adamw,rms_norm,symmetric_product"):
        trainer = new_run(config(data, triton_ops=asked), tmp_path).trainer
        kernels = {} if asked == "none" else {name: OPS[name] for name in asked.split(",")}
        assert len(trainer.optimizers) == 2
        for holder in (trainer.model, *trainer.optimizers):
            assert holder.ops == torch_ops._replace(**kernels)


@pytest.mark.parametrize(
    ("compiler", "lacks"),
    [
        ("no-such-compiler", "looked for no-such-compiler"),
        ("/bin/false", "/bin/false --version fails"),
        ("", "the variable CXX is empty"),
    ],
)
def test_without_a_compiler_a_run_on_a_cpu_is_not_compiled(
    compiler, lacks, data, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("CXX", compiler)
    summary = train(config(data, compile=True, max_steps=1), tmp_path / "run")
    assert summary.finished
    assert RunRecord(tmp_path / "run").config().compile is False
    told = capsys.readouterr().err.splitlines()[0]
    assert told == (
        f"note: --compile needs a C++ compiler ({lacks}): it is left out; "
        "apt-get install g++ python3-dev"
    )


def test_unusable_settings_are_refused_before_the_folder_is_made(data, tmp_path):
    run = tmp_path / "run"
    long = dataclasses.replace(MODEL, context_length=1_000_000)
    with pytest.raises(ValueError, match="shorter than one window"):
        train(config(data, model=long), run)
    with pytest.raises(ValueError, match="is no Triton op|needs .* Triton"):
        train(config(data, triton_ops="quick"), run)
    with pytest.raises(ValueError, match="one window at a time needs"):
        train(config(data, memory=0.25), run)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device cuda is not available"):
            train(config(data, device="cuda"), run)
    assert not run.exists()


def test_a_finished_run_is_not_written_over(finished, data):
    before = (finished[0] / "log.jsonl").read_bytes()
    with pytest.raises(FileExistsError, match="a run, which is finished: .*--resume auto"):
        train(config(data), finished[0])
    assert (finished[0] / "log.jsonl").read_bytes() == before


def test_stories_that_were_edited_are_not_made_anew_by_training(tmp_path, monkeypatch):
    """Training without --data makes stories; what somebody changed of them stays."""
    monkeypatch.chdir(tmp_path)
    edited = make_stories(Path("data/stories"), n_bytes=5000, valid_bytes=2000) / "train.txt"
    edited.write_text("my own stories\n")
    with pytest.raises(
        FileExistsError, match=r"train\.txt was changed since the stories were made"
    ):
        main(["--recipe", "tiny", "--max-steps", "1", "--device", "cpu", "--out", "run"])
    assert edited.read_text() == "my own stories\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_a_run_is_not_resumed_as_one_of_another_recipe(tmp_path):
    """A configuration that is resumed is the run's: another name would be all that changes."""
    run = tmp_path / "run"
    RunRecord(run).start(load_recipe("tiny"), {})
    for words in (["auto", "--out", str(run)], [str(run)]):
        again = ["--resume", *words, "--max-steps", "9"]
        assert configuration([*again, "--recipe", "tiny"]) == configuration(again)
        with pytest.raises(ValueError, match=r"recipe tiny, not baseline: leave out") as error:
            configuration([*again, "--recipe", "baseline"])
        assert "\n" not in str(error.value)
    assert configuration(["--resume", "auto", "--out", str(tmp_path / "new"), "--recipe", "owt"])


def test_resume_refuses_other_data_and_batch_size(finished, data, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished[0], run)
    with pytest.raises(ValueError, match="batch_size on the way.* has 8, asked for 4"):
        train(config(data, batch_size=4, max_steps=40), run, resume=True)
    text = tmp_path / "other.txt"
    text.write_text("quite another text " * 500)
    other = prepare(text, tmp_path / "other", vocab_size=400 - 100)
    with pytest.raises(ValueError, match="its tokenizer_hash is .* give the --data of the run"):
        train(config(other, max_steps=40), run, resume=True)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["muon", "normuon"])
def test_a_training_step_on_a_gpu_does_not_wait_for_it(name, data, tmp_path):
    optim = OptimConfig(name=name, cautious_weight_decay=True, average_tail=1.0)
    run_config = config(data, device="cuda", bf16=True, optim=optim)
    run = new_run(run_config, tmp_path)
    stream = run.trainer.stream()
    take_step(run, stream)  # allocates the optimizers' state
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            loss, _ = take_step(run, stream)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert math.isfinite(loss.item())


def test_garbage_is_collected_between_steps_alone(data, tmp_path, monkeypatch):
    enabled, frozen = [], []
    original = Trainer.train_step

    def step(self, stream, **place):
        enabled.append(gc.isenabled())
        frozen.append(gc.get_freeze_count() > 0)
        if self.step == 3:
            raise RuntimeError("in the middle of a run")
        return original(self, stream, **place)

    monkeypatch.setattr(Trainer, "train_step", step)
    gc.unfreeze()  # what the fixture of every test froze: the run itself is to freeze it
    with pytest.raises(RuntimeError, match="in the middle"):
        train(config(data), tmp_path / "run")
    assert (enabled, frozen) == ([False] * 4, [True] * 4)
    assert gc.isenabled()
    assert gc.get_freeze_count() < FROZEN_BY_PYTHON


def test_objects_that_a_caller_has_frozen_stay_frozen():
    gc.freeze()
    n_before = gc.get_freeze_count()
    with manual_garbage_collection():
        pass
    assert gc.get_freeze_count() >= n_before > 0
    gc.unfreeze()
    with manual_garbage_collection():
        assert gc.get_freeze_count() > FROZEN_BY_PYTHON
    assert gc.get_freeze_count() < FROZEN_BY_PYTHON


def test_objects_that_python_itself_has_frozen_are_not_taken_for_the_callers(monkeypatch):
    """Otherwise all objects of a run would stay frozen, and the garbage among them in memory."""
    gc.unfreeze()
    with monkeypatch.context() as patch:
        patch.setattr(gc, "get_freeze_count", lambda: 375)
        with manual_garbage_collection():
            pass
    assert gc.get_freeze_count() < FROZEN_BY_PYTHON


def test_two_processes_cannot_train_into_one_folder(data, tmp_path, monkeypatch):
    """The second is refused by one line, and writes nothing, while the first goes on."""
    run, refused = tmp_path / "run", []
    original = Trainer.train_step

    def step(self, stream, **place):
        if self.step in (1, 12):
            # The thread that saves may still be at a checkpoint of the first: its parts come and go.
            there = [path for path in run.rglob("*") if ".fastlm-" not in str(path)]
            before = {path: path.read_bytes() for path in there if path.is_file()}
            for options in ({"resume": True}, {}):
                with pytest.raises(BlockingIOError) as error:
                    train(config(data), run, **options)
                refused.append(str(error.value))
            assert {path: path.read_bytes() for path in before} == before
        return original(self, stream, **place)

    monkeypatch.setattr(Trainer, "train_step", step)
    summary = train(config(data), run)
    assert len(refused) == 4
    told = f"{run} is being made by process {os.getpid()} on {platform.node()}"
    assert all(line.startswith(told) for line in refused)
    assert (summary.step, [row["step"] for row in train_rows(run)]) == (20, [1, 5, 10, 15, 20])
    assert [path.name for path in tmp_path.iterdir()] == ["run"]  # the lock is gone
    assert train(config(data, max_steps=21), run, resume=True).step == 21


def test_no_process_of_a_refused_run_waits_for_another(data, tmp_path):
    class Second(Ranks):
        def of_first(self, value):
            return BlockingIOError("the folder is being made by process 1 on node")

    record = RunRecord(tmp_path / "run", is_written=False)
    own = run_module._own_folder(record, Second(1, 2), tokenizer=data, resume=True)
    with pytest.raises(BlockingIOError, match="process 1 on node"), own:
        pytest.fail("it went on")
    assert not list(tmp_path.iterdir())


def test_starts_at_once_get_folders_of_their_own(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = []

    def start(config, run_dir, **options):
        assert run_dir.is_dir()  # it is this start's before anything is written to it
        names.append(run_dir.name)
        if len(names) < 3:
            main(words)
        if len(names) == 3:
            (run_dir / "log.jsonl").write_text("")
        raise ValueError("no")

    monkeypatch.setattr(run_module, "train", start)
    words = ["--recipe", "tiny", "--data", str(data), "--device", "cpu"]
    with pytest.raises(ValueError, match="no"):
        main(words)
    assert names == ["tiny-1", "tiny-2", "tiny-3"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["tiny-3"]  # others were empty
    (tmp_path / "out/tiny-3/log.jsonl").unlink()
    (tmp_path / "out/tiny-3").rmdir()
    (tmp_path / "out").rmdir()
    names[:] = ["a", "b", "c"]
    with pytest.raises(ValueError, match="no"):
        main(words)
    assert names[3:] == ["tiny-1"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("flags", [["--profile"], []], ids=str)
def test_a_start_that_is_stopped_leaves_no_folder_and_names_none(
    flags, data, tmp_path, monkeypatch, capsys
):
    def stopped(*_, **__):
        assert list((tmp_path / "out").iterdir())
        signal.raise_signal(signal.SIGTERM)
        pytest.fail("it went on")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fastlm.train.profiling.profile_run", stopped)
    monkeypatch.setattr(run_module, "_open_record", stopped)
    with pytest.raises(SystemExit) as left:
        main(["--recipe", "tiny", "--data", str(data), "--device", "cpu", *flags])
    assert left.value.code == 75
    told = capsys.readouterr().err
    assert "stopped by SIGTERM before" in told
    assert "--out" not in told
    assert [path.name for path in tmp_path.iterdir()] == []


def test_a_run_that_is_stopped_before_its_first_step_names_its_folder(
    data, tmp_path, monkeypatch, capsys
):
    def stopped(*_):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(run_module, "begin", stopped)
    run = tmp_path / "my run"
    with pytest.raises(SystemExit) as left:
        main(["--recipe", "tiny", "--data", str(data), "--device", "cpu", "--out", str(run)])
    assert left.value.code == 75
    told = capsys.readouterr().err
    assert f"by SIGINT before the first step; go on with --resume auto --out '{run}'" in told
    assert (run / "config.json").exists()


@pytest.mark.parametrize("is_small", [True, False])
def test_only_small_token_files_are_read_before_the_run_begins(
    is_small, data, tmp_path, monkeypatch
):
    """No second of the budget is spent on waiting for large ones."""
    n_bytes = sum((data / name).stat().st_size for name in ("train.bin", "val.bin"))
    monkeypatch.setattr(run_module, "_SMALL_BYTES", n_bytes if is_small else n_bytes - 1)
    is_begun, was_begun = threading.Event(), []

    def verify(self):
        was_begun.append(is_begun.wait(0.2 if is_small else 60))

    original = run_module._open_record
    monkeypatch.setattr(PreparedData, "verify", verify)
    monkeypatch.setattr(
        run_module, "_open_record", lambda *args: (is_begun.set(), original(*args))[1]
    )
    train(config(data, max_steps=1), tmp_path / "run")
    assert was_begun == [not is_small]


def test_another_tokenizer_in_the_folder_of_a_run_is_not_replaced(data, tmp_path):
    run, other = tmp_path / "run", tmp_path / "other"
    shutil.copytree(data / "tokenizer", run / "tokenizer")
    assert train(config(data, max_steps=1), run).finished  # the same one
    shutil.copytree(data / "tokenizer", other / "tokenizer")
    (other / "tokenizer/merges.txt").write_text("not these\n")
    for resume in (False, True):
        with pytest.raises(FileExistsError, match="tokenizer holds another tokenizer than"):
            train(config(data, max_steps=1), other, resume=resume)
    assert (other / "tokenizer/merges.txt").read_text() == "not these\n"
    assert [path.name for path in other.iterdir()] == ["tokenizer"]


def test_a_call_leaves_the_settings_of_its_caller(data, tmp_path):
    """Its folder and the checkpoint that it resumes from may be given as text."""
    state = torch.get_rng_state()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with torch.no_grad():
            train(config(data, max_steps=4, checkpoint_every=2), str(tmp_path / "run"))
            assert not torch.is_grad_enabled()
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(torch.get_rng_state(), state)
    second = str(tmp_path / "run/checkpoints/step-000002")
    assert train(config(data, max_steps=3), str(tmp_path / "run"), resume=second).step == 3
    assert [row["step"] for row in train_rows(tmp_path / "run")] == [1]


def test_a_validation_on_the_training_data_is_warned_of(data, tmp_path, capsys):
    text = (data.parent / "valid.txt").read_bytes()
    for name in ("train.txt", "valid.txt"):
        (tmp_path / name).write_bytes(text)
    prepare(tmp_path, tmp_path / "same", tokenizer=data / "tokenizer")
    train(config(tmp_path / "same", max_steps=1), tmp_path / "run")
    line = "warning: the text to validate on is the one to train on, token for token, so its loss "
    assert capsys.readouterr().err.count(line) == 1


def test_validation_data_without_text_have_a_loss_and_no_bits_per_byte(data, tmp_path, capsys):
    """Token files of other tools may hold separators alone, or a single token."""
    end = Tokenizer.load(data / "tokenizer").special_tokens["<|endoftext|>"]
    ids = open_prepared(data).train.tokens[:2000]
    for name, values in (("train", ids), ("ends", np.full(9, end)), ("one", np.array([5]))):
        (tmp_path / f"{name}.bin").write_bytes(values.astype("<u2").tobytes())
    for name in ("ends", "one"):
        val = [tmp_path / f"{name}.bin"]
        import_tokens(
            [tmp_path / "train.bin"], val, data / "tokenizer", tmp_path / name, dtype="uint16"
        )
    run = tmp_path / "run"
    assert train(config(tmp_path / "ends", max_steps=1), run).val_loss > 0
    assert RunRecord(run).summary()["bits_per_byte"] is None
    capsys.readouterr()
    evaluate_main([str(run), "--device", "cpu"])
    assert json.loads(capsys.readouterr().out)["bits_per_byte"] is None
    with pytest.raises(ValueError, match="a validation loss needs at least 2 tokens: got 1"):
        train(config(tmp_path / "one", max_steps=1), tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("scope", "n_ranks", "is_fsdp", "by_block"),
    [
        ("auto", 1, False, False),
        ("auto", 2, False, True),
        ("step", 2, False, False),
        ("block", 1, False, True),
        ("step", 2, True, True),
    ],
)
def test_blocks_are_compiled_where_gradients_are_sent_between_them(
    scope, n_ranks, is_fsdp, by_block, data
):
    ranks = Ranks(0, n_ranks, is_fsdp=is_fsdp)
    assert compiles_by_block(config(data, compile_scope=scope), ranks) == by_block
