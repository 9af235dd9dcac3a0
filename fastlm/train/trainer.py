"""A run in progress: model, optimizers, data and clock, and the step that changes them."""

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from fastlm.accounting import step_memory, training_flops_per_token
from fastlm.checkpoint import SavedRun, check_same_data, continued, take_snapshot
from fastlm.checkpoint.saver import SaveFailed, Saver
from fastlm.cli.console import StatusLine
from fastlm.cli.units import human_bytes, human_seconds
from fastlm.config import TrainConfig
from fastlm.data.prepared import PreparedData
from fastlm.data.windows import Batch, batches
from fastlm.devices.fsdp import assign, reshard
from fastlm.devices.hardware import chip_peak_flops, peak_memory
from fastlm.devices.ranks import Ranks
from fastlm.evaluate.loss import Evaluation, evaluate_loss
from fastlm.optim import clip_gradients, set_schedule
from fastlm.optim.muon import Muon
from fastlm.runs.record import RunRecord
from fastlm.train import budget, signals
from fastlm.train.assemble import assemble
from fastlm.train.budget import Budget, Clock
from fastlm.train.row_loss import RowLoss
from fastlm.train.signals import Stopped, StopRequest
from fastlm.train.watch import Diverged, Watch, hold_back

_REASONS = (None, *budget.REASONS, *signals.REASONS)


class Trainer:
    """What changes from step to step, and the step itself.

    Args:
        ranks: the processes that share out the work; each has a trainer, and calls the same methods
            in the same order.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: PreparedData,
        record: RunRecord,
        clock: Clock,
        stop: StopRequest | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.config, self.data, self.record, self.clock = config, data, record, clock
        self.ranks = ranks = ranks or Ranks()
        parts = assemble(config, ranks)
        self.device, self.notice, self.memory = parts.device, parts.notice, parts.memory
        self.micro_batch = parts.memory.micro_batch
        self.model, self.optimizers, self.tie = parts.model, parts.optimizers, parts.tie
        self.parameters, self.average = parts.parameters, parts.average
        self.loss, self.gradient_sum = parts.loss, parts.gradient_sum
        self.watch = Watch(self.device, config.max_skipped_steps)
        self._untold: list[str] = []
        self.peak_flops = chip_peak_flops(self.device)
        self.step = 0
        self.n_windows = 0
        """trained on so far: the number of the next one"""
        self.part = 0
        """of the batch ramp, that the last step was in"""
        self.evaluated_step: int | None = None
        """the last one after which there was a validation on the way"""
        self.stop = stop or StopRequest()
        self.compile_seconds = 0.0
        self.saver = Saver(
            record.checkpoints, keep=config.checkpoint_keep, before_rename=record.flush
        )
        self.budget = Budget(
            config,
            clock,
            self.saver,
            n_val_tokens=len(data.val.tokens),
            is_waited_for=self.device.type == "cpu",
        )
        self.side_seconds = 0.0
        """spent on validation and saving since the last log row"""
        self.wants_retry = False
        """whether a checkpoint that could not be written is to be tried again"""
        self._agreed_progress = 0.0

    @property
    def tokens(self) -> int:
        return self.n_windows * self.config.model.context_length

    @property
    def batch_size(self) -> int:
        """Windows of the next step."""
        return self.config.batch_sizes[self.config.part(self.progress)]

    @property
    def progress(self) -> float:
        """Share of the run that is done; of several processes, what should_stop() agreed on."""
        return self._agreed_progress if self.ranks.size > 1 else self.budget.progress(self.step)

    def stop_reason(self) -> str | None:
        """What asked any process to stop before the run's end: a signal, or the end of the job."""
        (code,) = self.ranks.largest(_REASONS.index(self._asked_to_stop()))
        return _REASONS[int(code)]

    def _asked_to_stop(self) -> str | None:
        if self.stop.reason is None:
            self.stop.ends_within(self.budget.stop_seconds)
        return self.stop.reason

    def _check_stop(self) -> None:
        if reason := self.stop_reason():
            raise Stopped(reason)

    def should_stop(self) -> str | None:
        """Why training is over, or None: any process may be asked to, the first has the clock."""
        reason, progress, wants_retry = self._asked_to_stop(), 0.0, False
        if self.ranks.is_first:
            progress, wants_retry = self.budget.progress(self.step), self.saver.wants_retry
            batch_size = self.config.batch_sizes[self.config.part(progress)]
            next_tokens = batch_size * self.config.model.context_length
            reason = reason or self.budget.is_over(self.step, self.tokens, next_tokens)
        code, self._agreed_progress, retry = self.ranks.largest(
            _REASONS.index(reason), progress, wants_retry
        )
        self.wants_retry = bool(retry)
        return _REASONS[int(code)]

    def stream(self, first_window: int | None = None, *, is_shared: bool = True) -> Iterator[Batch]:
        """Micro-batches without end, from the first window that was not trained on.

        Args:
            is_shared: whether each process gets its own; otherwise all get all.
        """
        return batches(
            self.data.train.tokens,
            first_window=self.n_windows if first_window is None else first_window,
            micro_batch=self.micro_batch,
            context_length=self.config.model.context_length,
            sampling=self.config.data.sampling,
            seed=self.config.seed,
            device=self.device,
            rank=self.ranks.rank if is_shared else 0,
            n_ranks=self.ranks.size if is_shared else 1,
        )

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
            loss.item()
            forward_seconds = time.perf_counter() - began
            loss.backward()
            loss.item()  # waits for all before it
            times.append(time.perf_counter() - began)
        for p in self.parameters:
            p.grad = None
        began = time.perf_counter()
        for optimizer in self.optimizers:
            if self.config.compile and isinstance(optimizer, Muon):
                optimizer.warm_up()
        self.compile_seconds = max(0.0, times[0] - times[1]) + time.perf_counter() - began
        self.budget.window_seconds.append(times[1] / self.micro_batch)
        self.budget.eval_seconds_per_token.append(forward_seconds / inputs.numel())

    def train_step(self, stream: Iterator[Batch]) -> tuple[Tensor, Tensor]:
        """One optimizer step; returns loss and gradient norm without waiting for the device."""
        return self.step_of_part(stream, self.config.part(self.progress))

    def step_of_part(self, stream: Iterator[Batch], part: int) -> tuple[Tensor, Tensor]:
        """The same with the batch size and learning rates of a part of the batch ramp."""
        self.part = part
        batch_size = self.config.batch_sizes[part]
        n_micro = batch_size // self.micro_batch
        n_mine = n_micro // self.ranks.size
        # FSDP averages gradients over the processes; whole ones are added up.
        factor = self.ranks.size if self.ranks.is_fsdp else 1
        total = torch.zeros((), device=self.device)
        for i in range(n_mine):
            inputs, targets = next(stream)
            loss = self.loss(inputs, targets) / n_micro
            if self.gradient_sum is not None:
                self.gradient_sum.is_last = i == n_mine - 1
            (loss * factor).backward()
            if isinstance(self.loss, RowLoss):
                self.loss.keep_gradients(factor)
            total += loss.detach()
        self.ranks.sum_(total)
        if self.gradient_sum is not None:
            self.gradient_sum.finish()
        if self.tie is not None:
            self.tie.before_step()
        norm = clip_gradients(self.parameters, self.config.optim.max_grad_norm, ranks=self.ranks)
        step = self.step + 1
        applies = self.watch.applies(step, self.n_windows, part, total, norm)
        hold_back(self.optimizers, self.parameters, applies)
        progress = self.budget.progress_with(step, self.progress)
        set_schedule(
            self.optimizers,
            self.config.optim,
            step=step,
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

    def evaluate(self, max_tokens: int | None) -> Evaluation:
        """Validation loss on the way (max_tokens) or over the whole file (None), logged.

        Raises:
            Stopped: if the run was asked to stop before the end.
        """
        # With gradients enabled, so that the graph compiled for training serves here as well.
        result = evaluate_loss(
            self.loss,
            self.data.val.tokens,
            context_length=self.config.model.context_length,
            batch_size=self.micro_batch,
            device=self.device,
            max_tokens=max_tokens,
            check=self._check_stop,
            ranks=self.ranks,
        )
        reshard(self.model)  # what changes next changes the parts
        self.budget.eval_seconds_per_token.append(result.seconds / result.n_tokens)
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
        self.budget.window_seconds.append(busy / n_windows)
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
        parts = [f"step {self.step:,}", f"loss {loss:.4f}", f"{speed:,.0f} tokens/s"]
        parts += [f"MFU {mfu:.1%}"] if mfu is not None else []
        parts += [
            human_bytes(memory),
            f"{human_seconds(self.clock.elapsed)} gone",
            f"{human_seconds(self.budget.seconds_left(self.step, self.tokens))} left",
        ]
        return " · ".join(parts)

    def read_watch(self) -> None:
        """Log spikes and steps that were left out since this was last called.

        Raises:
            Diverged: if more steps were not finite than may be left out.
        """
        for step in self.watch.read():
            if step.is_finite and step.sigmas is None:
                continue
            kind = "spike" if step.is_finite else "not finite"
            row = {"kind": kind, "step": step.number, "loss": step.loss, "sigmas": step.sigmas}
            self.record.log(self._where() | row | {"first_window": step.first_window})
            if step.is_one_too_many:
                raise Diverged(step)
            what = f"spike of {step.sigmas:.1f} sigma" if step.sigmas else "left out: not finite"
            self._untold.append(f"step {step.number:,}: {what}")

    def news(self) -> list[str]:
        """What happened since this was last asked, for people."""
        told, self._untold = self._untold, []
        return [*told, *self.saver.news()]

    def mfu(self, tokens_per_second: float) -> float | None:
        """Share of the chip's bf16 peak that the model's FLOPs use; None where it is not known."""
        if self.peak_flops is None:
            return None
        per_token = training_flops_per_token(self.config.model, self.config.model.context_length)
        return tokens_per_second * per_token / (self.peak_flops * self.ranks.size)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds beside the weights and the optimizers' state."""
        state = {
            "seconds": self.clock.seconds,
            "elapsed_seconds": self.clock.elapsed,
            "tokens": self.tokens,
            "cpu_rng": torch.get_rng_state(),
            "watch": self.watch.state_dict(),
            "evaluated_step": self.evaluated_step,
            "is_tied": self.tie is not None and self.tie.is_tied,
        }
        if self.device.type == "cuda":
            state["cuda_rng"] = torch.cuda.get_rng_state(self.device)
        if self.average is not None:
            state["average"] = self.average.state_dict()
        return state

    @property
    def checkpoint_bytes(self) -> int:
        """Of a checkpoint, by formula: optimizers have their state only after a step."""
        return step_memory(self.config, 1, bf16=False).saved

    @property
    def _data_hashes(self) -> dict[str, str]:
        return {"tokenizer_hash": self.data.tokenizer_hash, "train_hash": self.data.train.hash}

    def save(self, *, wait: bool = False) -> None:
        """Write a checkpoint of everything that the next step depends on.

        Args:
            wait: until it is on the disk; otherwise only until it is copied.
        """
        self.read_watch()  # nothing that is not finite is saved
        began = time.perf_counter()
        about = {"config": dataclasses.asdict(self.config), **self._data_hashes}
        if self.ranks.is_first or self.ranks.is_fsdp:
            snapshot = take_snapshot(
                self.step,
                self.model,
                self.optimizers,
                self.state(),
                about,
                is_kept=self.ranks.is_first,
            )
        if self.ranks.is_first:
            self.saver.save(snapshot, wait=wait)
        self.side_seconds += time.perf_counter() - began

    def save_last(self, status: StatusLine, *, renew: bool = False) -> None:
        """Have the present step on the disk, with two attempts if need be.

        Args:
            renew: write it again if it is there.
        Raises:
            SaveFailed: if the disk does not take it.
        """
        self.saver.finish()
        if renew or self.ranks.of_first(self.saver.saved_step != self.step):
            self.save(wait=True)
        if self.ranks.of_first(self.saver.failure is not None):
            self.save(wait=True)
        for line in self.news():
            status.say(line)
        if self.saver.failure is not None:
            raise SaveFailed(
                f"the last checkpoint could not be saved: {self.saver.failure}; make room and go "
                f"on with --resume {self.record.folder}"
            )

    def resume(self, saved: SavedRun) -> None:
        """Go on from a checkpoint as if never stopped.

        Raises:
            ValueError: if it is of another network, optimizer, data or batch size.
        """
        if not saved.optimizers:
            raise ValueError(
                f"{self.record.folder} has weights and no optimizer to go on with: begin a new run "
                f"with --init-from {self.record.folder}"
            )
        check_same_data(saved, self._data_hashes, str(self.data.folder))
        self.use_config(continued(self.config, saved))
        self.restore(saved)
        self.clock.continue_from(saved.state["elapsed_seconds"], saved.state["seconds"])

    def use_config(self, config: TrainConfig) -> None:
        """Go on with other budgets."""
        self.config = self.budget.config = config

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Take these in place of the present ones; every process has to call this."""
        if self.ranks.is_fsdp:
            for name, tensor in self.model.state_dict().items():
                assign(tensor, weights[name])
        else:
            self.model.load_state_dict(weights)

    def restore(self, saved: SavedRun) -> None:
        """Make all that the next step depends on, but the clock, what was saved."""
        state = saved.state
        self.step = saved.step
        self.n_windows = state["tokens"] // self.config.model.context_length
        self.load_weights(saved.model)
        for optimizer, optimizer_state in zip(self.optimizers, saved.optimizers, strict=True):
            optimizer.load_state_dict(optimizer_state)
        self.evaluated_step = state["evaluated_step"]
        self.watch.load_state_dict(state["watch"])
        if self.tie is not None:
            self.tie.is_tied = bool(state.get("is_tied", False))
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        torch.set_rng_state(state["cpu_rng"])
        if self.device.type == "cuda" and "cuda_rng" in state:
            torch.cuda.set_rng_state(state["cuda_rng"], self.device)
