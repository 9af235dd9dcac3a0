"""Benchmark saving: the time for which training waits, and the time to write a checkpoint.

While a checkpoint is written, another thread may have to wait for Python's interpreter lock: its
longest pause is measured with 1 GB.

A step has 4 layers, d_model 256, V 4,096, T 256 and 16 windows, with NorMuon and its state.
extra_info has the share of wall-clock time at the default interval: for the waiting alone, and
with the writing added, as if nothing else could run meanwhile.
"""

import statistics
import threading
import time
from pathlib import Path

import numpy as np
import torch
from bench_train import BATCH, CONFIG, DEVICE, synchronize

from fastlm.checkpoint import Snapshot, write_snapshot
from fastlm.config import DataConfig, OptimConfig, TrainConfig
from fastlm.data import PreparedData, Split
from fastlm.runs.record import RunRecord
from fastlm.train.assemble import set_up
from fastlm.train.budget import Clock
from fastlm.train.loop import Training
from fastlm.train.run import assemble_run


def new_run(folder: Path) -> Training:
    tokens = np.random.default_rng(0).integers(0, CONFIG.vocab_size, 100_000, dtype=np.uint16)
    split = Split(tokens, len(tokens), folder, "")
    config = TrainConfig(
        model=CONFIG,
        optim=OptimConfig(name="normuon"),
        data=DataConfig(path=str(folder)),
        batch_size=BATCH,
        max_steps=10_000,
        device=DEVICE.type,
    )
    record = RunRecord(folder / "run")
    record.start(config, {})
    data = PreparedData(folder, CONFIG.vocab_size, "", split, split)
    clock = Clock(time.perf_counter())
    return assemble_run(config, data, record, clock, setup=set_up(config))


def bench_saving(benchmark, tmp_path):
    run = new_run(tmp_path)
    trainer, saver = run.trainer, run.saving.saver
    run.warm_up()
    stream = trainer.stream()
    steps, written = [], []
    for _ in range(5):
        began = time.perf_counter()
        decision = run.stopping.decide(trainer.step, trainer.tokens)
        trainer.train_step(stream, stage=decision.stage, progress=decision.progress)
        synchronize()
        steps.append(time.perf_counter() - began)

    def finish() -> None:
        saver.finish()
        if saver.saved_step is not None:
            written.append(saver.seconds)

    benchmark.pedantic(run.save, setup=finish, rounds=7, warmup_rounds=1)
    finish()
    step_seconds = statistics.median(steps)
    config = trainer.config
    assert config.checkpoint_minutes is not None
    interval = min(config.checkpoint_every * step_seconds, 60.0 * config.checkpoint_minutes)
    waited, background = benchmark.stats.stats.median, statistics.median(written)
    benchmark.extra_info |= {
        "checkpoint_bytes": run.saving.checkpoint_bytes,
        "step_seconds": step_seconds,
        "written_in_seconds": background,
        "share_of_wall_time": waited / interval,
        "share_with_writing": (waited + background) / interval,
    }


def bench_pauses_while_writing(benchmark, tmp_path):
    """Time the writing; extra_info has the longest pause of a thread that asks for little."""
    model = {str(i): torch.randn(1 << 22) for i in range(20)}
    moments = {str(i): torch.randn(1 << 23) for i in range(20)}
    snapshot = Snapshot(1, model, {}, moments, {})
    pauses = []

    def write() -> None:
        writer = threading.Thread(target=write_snapshot, args=(tmp_path, snapshot))
        writer.start()
        last = time.perf_counter()
        while writer.is_alive():
            time.sleep(0.0005)
            now = time.perf_counter()
            pauses.append(now - last)
            last = now

    benchmark.pedantic(write, rounds=3)
    benchmark.extra_info["longest_pause_seconds"] = max(pauses)
