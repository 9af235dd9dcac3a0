"""Diagnosis of a step whose loss or gradients were not finite.

Such a step is not applied, so the weights are unchanged: its gradients are computed again, and a
description of the step is written to a file.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastlm.data.windows import window_starts
from fastlm.devices.fsdp import whole
from fastlm.runs.record import write_json
from fastlm.runs.run_files import RunFiles
from fastlm.train.trainer import Trainer
from fastlm.train.watch import Step


def write_nonfinite(trainer: Trainer, step: Step, files: RunFiles) -> Path:
    """Write not-finite-step-N.json of a run: windows, losses, norms of weights and gradients."""
    path = files.nonfinite_step(step.number)
    described = describe_step(trainer, step)
    if trainer.ranks.is_first:
        write_json(path, described)
    return path


def describe_step(trainer: Trainer, step: Step) -> dict[str, Any]:
    """Compute a step's gradients again with the current weights, without an update."""
    config = trainer.config
    batch_size = trainer.batch_sizes[step.stage]
    for p in trainer.parameters:
        p.grad = None
    stream = trainer.stream(step.first_window, is_shared=False)
    losses = []
    n_micro = batch_size // trainer.micro_batch
    for _ in range(n_micro):
        loss = trainer.loss(*next(stream))
        (loss / n_micro).backward()
        losses.append(loss.item())
    if trainer.tie is not None:
        trainer.tie.before_step()
    starts = window_starts(
        step.first_window,
        batch_size,
        n_tokens=len(trainer.data.train.tokens),
        context_length=config.model.context_length,
        sampling=config.data.sampling,
        seed=config.seed,
    )
    return {
        "step": step.number,
        "seed": config.seed,
        "micro_batch_losses": [str(loss) for loss in losses],
        "window_starts": starts.tolist(),
        "lr": [[group["lr"] for group in o.param_groups] for o in trainer.optimizers],
        "parameters": {
            name: {"weight": _norm(p), "gradient": None if p.grad is None else _norm(p.grad)}
            for name, p in trainer.model.named_parameters()
        },
    }


def _norm(tensor: Tensor) -> dict[str, Any]:
    """Norm of the finite values, and statistics; `largest` is str: JSON has no inf and nan."""
    values = whole(tensor.detach()).float()
    finite = values.isfinite()
    return {
        "norm": float(torch.where(finite, values, 0.0).norm()),
        "largest": str(float(values.abs().max())),
        "n_not_finite": int((~finite).sum()),
        "n": values.numel(),
    }
