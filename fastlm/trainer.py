"""A run in progress: model, optimizers, data and clock, and the loop over steps.

Level 4.
"""

import dataclasses
import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastlm.accounting import training_flops_per_token
from fastlm.averaging import WeightAverage
from fastlm.checkpoint import SavedRun, continued, read_run_checkpoint, write_run_checkpoint
from fastlm.clock import Clock
from fastlm.compiling import compiled_loss
from fastlm.config import TrainConfig, from_dict
from fastlm.console import StatusLine, human_bytes, human_seconds
from fastlm.data import PreparedData
from fastlm.evaluate import Evaluation, evaluate_loss
from fastlm.garbage import collected_by_hand
from fastlm.hardware import (
    chip_peak_flops,
    choose_compute_dtype,
    choose_device,
    peak_memory,
)
from fastlm.memory import plan_memory
from fastlm.model import TransformerLM, init_weights, tie
from fastlm.muon import Muon
from fastlm.ngrams import RowLoss
from fastlm.ops import load_ops, torch_ops
from fastlm.optim import build_optimizers, clip_gradients, set_schedule
from fastlm.record import RunRecord
from fastlm.row_optim import RowAdaGrad
from fastlm.windows import Batch, batches


class Diverged(RuntimeError):
    """The loss is no longer a number."""


class Trainer:
    """What changes from step to step, and the step itself."""

    def __init__(
        self, config: TrainConfig, data: PreparedData, record: RunRecord, clock: Clock
    ) -> None:
        self.config, self.data, self.record, self.clock = config, data, record, clock
        self.device = choose_device(config.device)
        dtype, self.notice = choose_compute_dtype(self.device, config.bf16)
        torch.use_deterministic_algorithms(config.deterministic)
        ops = load_ops(config.triton_ops, self.device, attention=config.attention, fp8=config.fp8)
        # Before anything is on the device: free memory is then all that this run can have.
        self.memory = plan_memory(
            config,
            self.device,
            bf16=dtype == torch.bfloat16,
            keeps_logits=ops.linear_cross_entropy is torch_ops.linear_cross_entropy,
        )
        self.micro_batch = self.memory.micro_batch
        self.model = TransformerLM(
            config.model,
            ops=ops,
            compute_dtype=dtype,
            checkpoint_activations=self.memory.checkpoint_activations,
        )
        init_weights(self.model, config.seed)
        self.model.to(self.device)
        self.tie = tie(self.model) if config.optim.tie_until > 0 else None
        tables = None
        if self.model.ngrams is not None:  # first: what it takes, no other optimizer sees
            tables = RowAdaGrad(self.model.ngrams.tables.parameters(), config.optim.ngram_lr)
        self.optimizers = build_optimizers(self.model, config.optim, ops, compiled=config.compile)
        self.optimizers += [] if tables is None else [tables]
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.average = WeightAverage(self.parameters) if config.optim.average_tail > 0 else None
        self.loss: Callable[[Tensor, Tensor], Tensor] = self.model.loss
        if config.compile:
            self.loss = compiled_loss(self.model, config.compile_scope)
        if tables is not None and self.model.ngrams is not None:
            self.loss = RowLoss(self.loss, self.model.ngrams, tables)
        self.peak_flops = chip_peak_flops(self.device)
        self.step = 0
        self.n_windows = 0
        """trained on so far: the number of the next one"""
        self.part = 0
        """of the batch ramp, that the last step was in"""
        self.stop_signal: str | None = None
        self.compile_seconds = 0.0
        self.window_seconds: list[float] = []
        """of training on a window, in the warm-up and in each log interval"""
        self.eval_seconds_per_token: list[float] = []
        """in the warm-up and in each validation"""
        self.save_seconds = 1.0
        self.side_seconds = 0.0
        """spent on validation and saving since the last log row"""

    @property
    def tokens(self) -> int:
        return self.n_windows * self.config.model.context_length

    @property
    def batch_size(self) -> int:
        """Windows of the next step."""
        return self.config.batch_sizes[self.config.part(self.progress)]

    def stream(self) -> Iterator[Batch]:
        """Micro-batches without end, from the first window that was not trained on."""
        return batches(
            self.data.train.tokens,
            first_window=self.n_windows,
            micro_batch=self.micro_batch,
            context_length=self.config.model.context_length,
            sampling=self.config.data.sampling,
            seed=self.config.seed,
            device=self.device,
        )

    @property
    def progress(self) -> float:
        """Share of the run that is done: of its steps or of its time, whichever is further.

        Time counts from the first step on, so that a slow start does not cut the warm-up, and not
        at all where steps are fixed.
        """
        shares = [0.0]
        if self.config.total_steps is not None:
            shares.append(self.step / self.config.total_steps)
        if self.config.time_budget is not None and not self.config.fix_steps:
            seconds = self.clock.seconds
            start_up = self.clock.elapsed - seconds
            available = self.config.time_budget - self.reserve - start_up
            shares.append(seconds / available if available > 0 else 1.0)
        return min(1.0, max(shares))

    @property
    def reserve(self) -> float:
        """Seconds to keep for the last validation and checkpoint, from what they took so far."""
        # Medians, and never more than training takes: a hiccup must not end the run early.
        window = statistics.median(self.window_seconds)
        per_token = min(
            statistics.median(self.eval_seconds_per_token),
            window / self.config.model.context_length,
        )
        final_eval = per_token * len(self.data.val.tokens) * 1.1
        return final_eval + self.save_seconds + 2 * window * self.config.batch_sizes[-1]

    @property
    def seconds_left(self) -> float:
        """Seconds to the end of training, at the speed so far."""
        limits = []
        if self.config.total_steps is not None:
            left = self.config.tokens_in(self.config.total_steps) - self.tokens
            limits.append(left * self.clock.seconds / self.tokens)
        if self.config.time_budget is not None:
            limits.append(self.config.time_budget - self.reserve - self.clock.elapsed)
        return max(0.0, min(limits))

    def should_stop(self) -> str | None:
        """Why training is over, or None."""
        if self.stop_signal:
            return self.stop_signal
        total_steps, budget = self.config.total_steps, self.config.time_budget
        if total_steps is not None and self.step >= total_steps:
            return "step budget" if self.config.max_steps == total_steps else "token budget"
        if self.step > 0 and self.config.max_tokens is not None:
            # A clock that is ahead of the steps makes the batch grow sooner.
            next_tokens = self.batch_size * self.config.model.context_length
            if self.tokens + next_tokens > self.config.max_tokens:
                return "token budget"
        if budget is not None and self.clock.elapsed >= budget - self.reserve:
            return "time budget"
        return None

    def warm_up(self) -> None:
        """Compile, and learn how long a step takes, without changing anything."""
        shape = (self.micro_batch, self.config.model.context_length)
        # Two tensors: one in both places would be compiled for that case alone.
        inputs, targets = (
            torch.zeros(shape, dtype=torch.int64, device=self.device) for _ in range(2)
        )
        times = []
        for _ in range(2):
            began = time.perf_counter()
            loss = self.loss(inputs, targets)
            loss.backward()
            loss.item()
            times.append(time.perf_counter() - began)
        for p in self.parameters:
            p.grad = None
        self.compile_seconds = max(0.0, times[0] - times[1]) + self._compile_optimizers()
        self.window_seconds.append(times[1] / self.micro_batch)
        self.eval_seconds_per_token.append(times[1] / inputs.numel())

    def _compile_optimizers(self) -> float:
        began = time.perf_counter()
        for optimizer in self.optimizers:
            if self.config.compile and isinstance(optimizer, Muon):
                optimizer.warm_up()
        return time.perf_counter() - began

    def train_step(self, stream: Iterator[Batch]) -> tuple[Tensor, Tensor]:
        """One optimizer step; returns loss and gradient norm without waiting for the device."""
        return self.step_of_part(stream, self.config.part(self.progress))

    def step_of_part(self, stream: Iterator[Batch], part: int) -> tuple[Tensor, Tensor]:
        """The same with the batch size and learning rates of a part of the batch ramp."""
        self.part = part
        batch_size = self.config.batch_sizes[part]
        n_micro = batch_size // self.micro_batch
        total = torch.zeros((), device=self.device)
        for _ in range(n_micro):
            inputs, targets = next(stream)
            loss = self.loss(inputs, targets) / n_micro
            loss.backward()
            if isinstance(self.loss, RowLoss):
                self.loss.keep_gradients()
            total += loss.detach()
        if self.tie is not None:
            self.tie.before_step()
        norm = clip_gradients(self.parameters, self.config.optim.max_grad_norm)
        progress = self._progress_with_step()
        set_schedule(
            self.optimizers,
            self.config.optim,
            step=self.step + 1,
            progress=progress,
            lr_factor=self.config.lr_factors[part],
        )
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if self.tie is not None:
            self.tie.after_step()
            if progress >= self.config.optim.tie_until:
                self.tie.untie(self.optimizers)
        self.step += 1
        self.n_windows += batch_size
        self._count_in_average(progress)
        return total, norm

    def _count_in_average(self, progress: float) -> None:
        optim = self.config.optim
        if self.average is None:
            return
        if progress <= 1 - optim.average_tail:
            self.average.restart()  # of a run that was over, resumed with a larger budget
        elif self.step % optim.average_every == 0:
            self.average.update()

    def use_average(self) -> int:
        """Make the average over the run's tail its model; returns how many weights are in it."""
        if self.average is None:
            return 0
        if self.average.n_averaged == 0:
            self.average.update()  # a tail shorter than average_every: the last weights alone
        self.average.swap()
        return self.average.n_averaged

    def _progress_with_step(self) -> float:
        """Share of the run that is done with the step to be taken: the first is above 0."""
        if self.config.total_steps is None:
            return self.progress
        return max(self.progress, min(1.0, (self.step + 1) / self.config.total_steps))

    def evaluate(self, max_tokens: int | None) -> Evaluation:
        """Validation loss on the way (max_tokens) or over the whole file (None), logged."""
        # With gradients enabled, so that the graph compiled for training serves here as well.
        result = evaluate_loss(
            self.loss,
            self.data.val.tokens,
            context_length=self.config.model.context_length,
            batch_size=self.micro_batch,
            device=self.device,
            max_tokens=max_tokens,
        )
        self.eval_seconds_per_token.append(result.seconds / result.n_tokens)
        self.side_seconds += result.seconds
        row = {
            "kind": "eval",
            "val_loss": result.loss,
            "val_tokens": result.n_tokens,
            "whole_file": result.n_tokens == len(self.data.val.tokens) - 1,
        }
        self.record.log(self._where() | row)
        return result

    def _where(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "tokens": self.tokens,
            "seconds": round(self.clock.seconds, 3),
            "elapsed_seconds": round(self.clock.elapsed, 3),
        }

    def log(self, loss: float, norm: float, n_windows: int, interval: float) -> str:
        """Log the last steps, of n_windows and `interval` seconds; returns a line for people."""
        busy = max(1e-9, interval - self.side_seconds)
        self.side_seconds = 0.0
        self.window_seconds.append(busy / n_windows)
        speed = n_windows * self.config.model.context_length / busy
        mfu, memory = self.mfu(speed), peak_memory(self.device)
        row = {
            "kind": "train",
            "loss": loss,
            "batch_size": self.config.batch_sizes[self.part],
            "lr": self.optimizers[0].param_groups[0]["lr"],
            "grad_norm": norm,
            "tokens_per_second": round(speed, 1),
            "mfu": mfu,
            "memory_bytes": memory,
        }
        self.record.log(self._where() | row)
        parts = [
            f"step {self.step:,}",
            f"loss {loss:.4f}",
            f"{speed:,.0f} tokens/s",
            *([f"MFU {mfu:.1%}"] if mfu is not None else []),
            human_bytes(memory),
            f"{human_seconds(self.clock.elapsed)} gone",
            f"{human_seconds(self.seconds_left)} left",
        ]
        return " · ".join(parts)

    def mfu(self, tokens_per_second: float) -> float | None:
        """Share of the chip's bf16 peak that the model's FLOPs use; None where it is not known."""
        if self.peak_flops is None:
            return None
        per_token = training_flops_per_token(self.config.model, self.config.model.context_length)
        return tokens_per_second * per_token / self.peak_flops

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds beside the weights and the optimizers' state."""
        state = {
            "seconds": self.clock.seconds,
            "elapsed_seconds": self.clock.elapsed,
            "tokens": self.tokens,
            "tokenizer_hash": self.data.tokenizer_hash,
            "config": dataclasses.asdict(self.config),
            "cpu_rng": torch.get_rng_state(),
            "is_tied": self.tie is not None and self.tie.is_tied,
        }
        if self.device.type == "cuda":
            state["cuda_rng"] = torch.cuda.get_rng_state(self.device)
        if self.average is not None:
            state["average"] = self.average.state_dict()
        return state

    def save(self) -> Path:
        """Write a checkpoint of everything that the next step depends on."""
        began = time.perf_counter()
        path = write_run_checkpoint(
            self.record.checkpoints, self.step, self.model, self.optimizers, self.state()
        )
        self.save_seconds = time.perf_counter() - began
        self.side_seconds += self.save_seconds
        return path

    def resume(self, checkpoint: Path) -> None:
        """Go on from a checkpoint as if never stopped.

        Raises:
            ValueError: if it is damaged, or of another network, optimizer, data or batch size.
        """
        saved = read_run_checkpoint(checkpoint)
        if saved.state["tokenizer_hash"] != self.data.tokenizer_hash:
            raise ValueError(
                f"{self.data.folder} was made with another tokenizer than {checkpoint} was "
                "trained with: give the --data of the run"
            )
        # Through the class: fields that are newer than the checkpoint have their defaults.
        then = from_dict(TrainConfig, saved.state["config"])
        self.config = continued(self.config, then, str(checkpoint))
        self.restore(saved)
        self.clock.continue_from(saved.state["elapsed_seconds"], saved.state["seconds"])

    def restore(self, saved: SavedRun) -> None:
        """Make all that the next step depends on, but the clock, what was saved."""
        state = saved.state
        self.step = saved.step
        self.n_windows = state["tokens"] // self.config.model.context_length
        self.model.load_state_dict(saved.model)
        for optimizer, optimizer_state in zip(self.optimizers, saved.optimizers, strict=True):
            optimizer.load_state_dict(optimizer_state)
        if self.tie is not None:
            self.tie.is_tied = bool(state.get("is_tied", False))
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        torch.set_rng_state(state["cpu_rng"])
        if self.device.type == "cuda" and "cuda_rng" in state:
            torch.cuda.set_rng_state(state["cuda_rng"], self.device)

    def begin(self, status: StatusLine) -> None:
        """Compile, learn how long things take, and validate a model that was not trained yet."""
        if self.config.compile:
            status.say("compiling ...")
        self.warm_up()
        if self.step == 0:
            loss_before = self.evaluate(self.config.eval_tokens).loss
            status.say(f"step 0: validation loss {loss_before:.4f}")

    def run(self, status: StatusLine) -> str:
        """Train, after begin(), until a budget or a signal ends it; returns why."""
        with collected_by_hand():
            return self._run(status)

    def _run(self, status: StatusLine) -> str:
        config, stream = self.config, self.stream()
        self.side_seconds = 0.0
        self.clock.begin_steps()
        mark, n_logged = time.perf_counter(), self.n_windows
        while (reason := self.should_stop()) is None:
            loss, norm = self.train_step(stream)
            if self.step == 1 or self.step % config.log_every == 0:
                value = self._finite(loss)
                now = time.perf_counter()
                status.update(self.log(value, norm.item(), self.n_windows - n_logged, now - mark))
                mark, n_logged = now, self.n_windows
            if self.step % config.eval_every == 0:
                val_loss = self.evaluate(config.eval_tokens).loss
                status.say(f"step {self.step:,}: validation loss {val_loss:.4f}")
                gc.collect()
            if self.step % config.checkpoint_every == 0:
                self.save()
        return reason

    def _finite(self, loss: Tensor) -> float:
        value = loss.item()
        if not math.isfinite(value):
            raise Diverged(
                f"the loss is {value} at step {self.step}: the last checkpoint is kept; try a "
                "smaller --optim.lr (and --optim.muon-lr) or a longer warm-up"
            )
        return value
