"""Compare compiled runs with eager ones."""

import dataclasses
from pathlib import Path

import pytest
import torch
from short_runs import losses

from fastlm.config import TrainConfig
from fastlm.train import Summary, train


def train_compiled(run_config: TrainConfig, run: Path, *, eager: Path, rel: float) -> Summary:
    """Train, compiled, into a folder: after the warm-up nothing is compiled anew.

    Args:
        run_config: of the run that is not compiled.
        eager: that run, whose losses these have to be; trained here if it is not there.
        rel: how far losses may be apart, as a share.
    """
    with torch._dynamo.config.patch(error_on_recompile=True):
        summary = train(dataclasses.replace(run_config, compile=True), run)
    assert summary.compile_seconds > 0
    if not eager.exists():
        train(run_config, eager)
    assert losses(run) == pytest.approx(losses(eager), rel=rel)
    return summary
