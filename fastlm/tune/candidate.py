"""A way to compute the training step, built and ready to take steps."""

import dataclasses
import gc
import math
import time
from collections.abc import Iterator
from typing import NamedTuple

import torch

from fastlm.accounting import step_memory
from fastlm.config import TrainConfig
from fastlm.data.prepared import PreparedData
from fastlm.data.windows import Batch
from fastlm.train.assemble import set_up
from fastlm.train.micro_batch import MemoryPlan, plan_memory, usable_memory
from fastlm.train.trainer import Trainer
from fastlm.tune.same_losses import N_STEPS, Step

BLOCK_SECONDS = 0.25
"""Least time of a block of steps: shorter ones would show the noise of a single step"""

_PROGRESS = 0.1
"""Share of a run after which its steps are like those that are timed: warmed up, and tied"""


class Room(NamedTuple):
    """The machine before anything is computed: later candidates share it with another one.

    Attributes:
        usable: bytes that tensors may take.
        n_threads: CPU threads that PyTorch chose.
    """

    usable: int
    n_threads: int


def look_around(config: TrainConfig) -> Room:
    """Measure memory and threads before anything is on the device."""
    return Room(usable_memory(config, set_up(config).device), torch.get_num_threads())


def planned(config: TrainConfig, room: Room, *, is_alone: bool = False) -> MemoryPlan:
    """The micro-batch of a configuration where the state of another one is in memory too.

    Args:
        is_alone: as in a run, where no other one is.
    Raises:
        ValueError: if not even one window fits.
    """
    setup = set_up(config)
    return plan_memory(
        config,
        setup.device,
        bf16=setup.compute_dtype == torch.bfloat16,
        kernels=setup.kernels,
        usable=room.usable - (0 if is_alone else _state_bytes(config)),
    )


def _state_bytes(config: TrainConfig) -> int:
    memory = step_memory(config, 1, bf16=config.bf16)
    return memory.parameters + memory.optimizer


class Candidate:
    """A trainer of its own, with the first steps from its initial weights taken.

    Args:
        config: with the vocabulary size of the data.
        room: memory and threads of the machine.
    Attributes:
        first_steps: losses of the first steps, by which it is compared with others.
    Raises:
        Exception: whatever the device, the compiler or a kernel raises.
    """

    def __init__(self, config: TrainConfig, data: PreparedData, room: Room) -> None:
        gc.collect()  # what an earlier candidate had
        setup = set_up(config)
        if setup.device.type == "cuda":
            torch.cuda.empty_cache()
        self._n_threads = room.n_threads if config.threads == "auto" else config.threads
        torch.set_num_threads(self._n_threads)
        built = dataclasses.replace(
            config,
            micro_batch=planned(config, room).micro_batch,
            compile=setup.compiles,
        )
        self._trainer = Trainer(built, data, setup, keeps_graphs=True)
        self._stream: Iterator[Batch] = self._trainer.stream()
        self.tokens_per_step = config.batch_sizes[0] * config.model.context_length
        taken = [self._step() for _ in range(N_STEPS)]
        self.first_steps = [Step(loss.item(), norm.item()) for loss, norm in taken]
        seconds = self._timed(1)
        self._n_steps = max(1, math.ceil(BLOCK_SECONDS / max(seconds, 1e-6)))
        self.block_seconds = self._n_steps * seconds
        """About how long seconds() takes."""

    @property
    def micro_batch(self) -> int:
        """Windows at once."""
        return self._trainer.micro_batch

    def seconds(self) -> float:
        """Seconds of a step, over a block of them."""
        return self._timed(self._n_steps)

    def _timed(self, n_steps: int) -> float:
        if torch.get_num_threads() != self._n_threads:
            torch.set_num_threads(self._n_threads)
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            self._wait()
            began = time.perf_counter()
            for _ in range(n_steps):
                self._step()
            self._wait()
            return (time.perf_counter() - began) / n_steps
        finally:
            if was_enabled:
                gc.enable()

    def _step(self) -> tuple[torch.Tensor, torch.Tensor]:
        result = self._trainer.train_step(self._stream, stage=0, progress=_PROGRESS)
        self._trainer.guard.take_unread()
        return result

    def _wait(self) -> None:
        if self._trainer.device.type == "cuda":
            torch.cuda.synchronize(self._trainer.device)
