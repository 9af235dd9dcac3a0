"""Benchmark saving: the time for which training waits, and the time to write a checkpoint.

A step has 4 layers, d_model 256, V 4,096, T 256 and 16 windows, with NorMuon and its state.
extra_info has the share of wall-clock time at the default interval: for the waiting alone, and
with the writing added, as if nothing else could run meanwhile.
"""

import statistics
import time
from pathlib import Path

import numpy as np
from bench_train import BATCH, CONFIG, DEVICE, synchronize

from fastlm.config import DataConfig, OptimConfig, TrainConfig
from fastlm.data import PreparedData, Split
from fastlm.runs.record import RunRecord
from fastlm.train.budget import Clock
from fastlm.train.trainer import Trainer


def new_trainer(folder: Path) -> Trainer:
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
    return Trainer(config, data, record, Clock(time.perf_counter()))


def bench_saving(benchmark, tmp_path):
    trainer = new_trainer(tmp_path)
    trainer.warm_up()
    stream = trainer.stream()
    steps, written = [], []
    for _ in range(5):
        began = time.perf_counter()
        trainer.train_step(stream)
        synchronize()
        steps.append(time.perf_counter() - began)

    def finish() -> None:
        trainer.saver.finish()
        if trainer.saver.saved_step is not None:
            written.append(trainer.saver.seconds)

    benchmark.pedantic(trainer.save, setup=finish, rounds=7, warmup_rounds=1)
    finish()
    step_seconds = statistics.median(steps)
    interval = trainer.config.checkpoint_every * step_seconds
    waited, background = benchmark.stats.stats.median, statistics.median(written)
    benchmark.extra_info |= {
        "checkpoint_bytes": trainer.checkpoint_bytes,
        "step_seconds": step_seconds,
        "written_in_seconds": background,
        "share_of_wall_time": waited / interval,
        "share_with_writing": (waited + background) / interval,
    }
