"""Reports of a run in progress: log rows and status lines."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fastlm.accounting import training_flops_per_token
from fastlm.cli.units import human_bytes, human_seconds
from fastlm.config import ModelConfig
from fastlm.devices.hardware import chip_peak_flops, peak_memory
from fastlm.evaluate.loss import Evaluation
from fastlm.runs.record import RunRecord
from fastlm.train.budget import Budget, Clock
from fastlm.train.trainer import Trainer
from fastlm.train.watch import Step


class Telling:
    """Writes the rows of a run's log, and formats them as status lines.

    Args:
        device: device of this process.
        n_devices: number of such devices that train the model.
    """

    def __init__(
        self,
        record: RunRecord,
        clock: Clock,
        budget: Budget,
        *,
        model: ModelConfig,
        device: torch.device,
        n_devices: int,
    ) -> None:
        self.record, self.clock, self.budget = record, clock, budget
        self.device = device
        self.peak_flops = chip_peak_flops(device)
        """bf16 peak of one device, FLOP/s; None if unknown."""
        self._flops_per_token = training_flops_per_token(model, model.context_length)
        self._n_devices = n_devices
        self._untold: list[str] = []
        self._changes: set[str] = set()
        self._has_kept = False

    def mfu(self, tokens_per_second: float) -> float | None:
        """Model FLOPs utilization: share of the devices' bf16 peak; None if the peak is unknown."""
        if self.peak_flops is None:
            return None
        return tokens_per_second * self._flops_per_token / (self.peak_flops * self._n_devices)

    def training(self, trainer: Trainer, loss: float, norm: float, tokens_per_second: float) -> str:
        """Log the last step; returns a status line."""
        mfu, memory = self.mfu(tokens_per_second), peak_memory(self.device)
        self.log(
            trainer,
            "train",
            loss=loss,
            batch_size=trainer.batch_sizes[trainer.stage],
            lr=trainer.optimizers[0].param_groups[0]["lr"],
            grad_norm=norm,
            tokens_per_second=round(tokens_per_second, 1),
            mfu=mfu,
            memory_bytes=memory,
        )
        speed = f"{tokens_per_second:,.0f} tokens/s"
        parts = [f"step {trainer.step:,}", f"loss {loss:.4f}", speed]
        parts += [f"MFU {mfu:.1%}"] if mfu is not None else []
        parts += [
            human_bytes(memory),
            f"{human_seconds(self.clock.elapsed)} elapsed",
            f"{human_seconds(self.budget.seconds_left(trainer.step, trainer.tokens))} left",
        ]
        return " · ".join(parts)

    def validation(self, trainer: Trainer, result: Evaluation) -> None:
        """Log a validation, but not the one that a resumed run repeats with the same result."""
        values = {
            "val_loss": result.loss,
            "val_tokens": result.n_tokens,
            "whole_file": result.n_tokens == len(trainer.data.val.tokens) - 1,
        }
        if not ({"step": trainer.step} | values).items() <= self.record.last_validation.items():
            self.log(trainer, "eval", **values)

    def step(self, trainer: Trainer, step: Step) -> None:
        """Log a step if it is a spike or was not finite."""
        if step.is_finite and step.sigmas is None:
            return
        kind = "spike" if step.is_finite else "not finite"
        self.log(
            trainer,
            kind,
            step=step.number,
            loss=step.loss,
            sigmas=step.sigmas,
            first_window=step.first_window,
        )
        if not step.is_one_too_many:
            told = f"spike of {step.sigmas:.1f} sigma" if step.sigmas else "skipped: not finite"
            self._untold.append(f"step {step.number:,}: {told}")

    def data(self, trainer: Trainer, keep: Callable[[], Path | None]) -> None:
        """Log token files that were changed since the run began; each change is told once.

        Args:
            keep: called at the first change of what is read; keeps the last checkpoint before it.
        """
        if not self.record.is_written:
            return
        for file in (*trainer.data.train.files, *trainer.data.val.files):
            change = file.change()
            if change is None or change.told in self._changes:
                continue
            self._changes.add(change.told)
            kept = None
            if change.is_read and not self._has_kept:
                self._has_kept, kept = True, keep()
            of_kept = {} if kept is None else {"kept": kept.name}
            self.log(trainer, "data changed", change=change.told, **of_kept)
            before = "" if kept is None else f"; {kept}, from before that, is kept"
            self._untold.append(
                f"warning: {change.told}{before}; the run can be resumed, evaluated and repeated "
                "only with the data that it began with"
            )

    def news(self) -> list[str]:
        """Status lines about what happened since the last call."""
        told, self._untold = self._untold, []
        return [*self.record.news(), *told]

    def log(self, trainer: Trainer, kind: str, **values: Any) -> None:
        """Log a row of any kind: step, tokens and clocks, which every row has, and values."""
        row = {
            "step": trainer.step,
            "tokens": trainer.tokens,
            "seconds": round(self.clock.seconds, 3),
            "elapsed_seconds": round(self.clock.elapsed, 3),
            "kind": kind,
        }
        self.record.log(row | values)
