"""Loading a trained model and its tokenizer from the folder of a run."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from fastlm.checkpoint import (
    Damaged,
    is_checkpoint,
    read_manifest,
    read_model_tensors,
    run_checkpoints,
)
from fastlm.cli import pasted
from fastlm.config import TrainConfig
from fastlm.config.dicts import from_dict
from fastlm.model import TransformerLM
from fastlm.model.layers import undrawn
from fastlm.ops import Ops, torch_ops
from fastlm.runs.given import check_run
from fastlm.runs.record import RunRecord
from fastlm.runs.run_files import RunFiles
from fastlm.tokenizer.tokenizer import Tokenizer

T = TypeVar("T")


class Pretrained(NamedTuple):
    """A trained model, its tokenizer, and the configuration it was trained with."""

    model: TransformerLM
    tokenizer: Tokenizer
    config: TrainConfig


def load_pretrained(
    run: Path | str,
    *,
    device: torch.device | str = "cpu",
    ops: Ops = torch_ops,
    compute_dtype: torch.dtype = torch.float32,
) -> Pretrained:
    """Load the newest checkpoint of a run, or a given one, for evaluation and generation.

    Args:
        run: folder of a run, or of one of its checkpoints.
    Raises:
        FileNotFoundError: if the folder has no run or no checkpoint.
        ValueError: if a file is damaged, or the tokenizer is not the model's.
    """

    def read(record: RunRecord, checkpoint: Path) -> Pretrained:
        return _load(record, checkpoint, ops, compute_dtype)

    pretrained = of_newest(Path(run), read)
    return pretrained._replace(model=pretrained.model.to(device).eval())


def _load(record: RunRecord, checkpoint: Path, ops: Ops, compute_dtype: torch.dtype) -> Pretrained:
    about = read_manifest(checkpoint)
    config = from_dict(TrainConfig, about["config"])
    tokenizer = Tokenizer.load(record.tokenizer)
    expected = about["tokenizer_hash"]
    if tokenizer.hash != expected:
        raise ValueError(
            f"{record.tokenizer} is not the tokenizer {checkpoint} was trained with: its hash is "
            f"{tokenizer.hash[:12]}, expected {expected[:12]}; put the run's own tokenizer there"
        )
    with undrawn():
        model = TransformerLM(config.model, ops=ops, compute_dtype=compute_dtype)
    model.load_state_dict(read_model_tensors(checkpoint))
    return Pretrained(model, tokenizer, config)


def read_start(config: TrainConfig, tokenizer_hash: str) -> dict[str, Tensor]:
    """Read the initial weights from the run or checkpoint config.init_from.

    Raises:
        FileNotFoundError: if there is no run or no checkpoint.
        ValueError: if tokenizer or network differ; the context length may.
    """

    def read(record: RunRecord, checkpoint: Path) -> dict[str, Tensor]:
        return _read_start(checkpoint, config, tokenizer_hash)

    return of_newest(Path(config.init_from), read)


def _read_start(checkpoint: Path, config: TrainConfig, tokenizer_hash: str) -> dict[str, Tensor]:
    about = read_manifest(checkpoint)
    found = dataclasses.asdict(from_dict(TrainConfig, about["config"]).model)
    wanted = dataclasses.asdict(config.model)
    for name in ("context_length", "zero_init"):  # no tensor depends on them
        found[name] = wanted[name]
    if about["tokenizer_hash"] != tokenizer_hash:
        raise ValueError(
            f"{checkpoint} was trained with another tokenizer than these data: its hash is "
            f"{about['tokenizer_hash'][:12]}, that of the data {tokenizer_hash[:12]}; prepare the "
            f"text with {pasted('--tokenizer', RunFiles(checkpoint.parent.parent).tokenizer)}"
        )
    others = [f"{n} {found[n]} (asked for {wanted[n]})" for n in wanted if found[n] != wanted[n]]
    if others:
        raise ValueError(f"{checkpoint} is of a network with {', '.join(others)}")
    return read_model_tensors(checkpoint)


def of_newest(run: Path, read: Callable[[RunRecord, Path], T]) -> T:
    """Read from the newest checkpoint of a run, or the given one.

    A run that trains may remove the newest one while it is read: then the next is read.

    Args:
        read: called with the record of the run and the checkpoint; raises OSError or Damaged.
    Raises:
        FileNotFoundError: if the folder has no run or no checkpoint.
    """
    while True:
        record, checkpoint = newest_checkpoint(run)
        try:
            return read(record, checkpoint)
        except (OSError, Damaged):
            if checkpoint.is_dir() or is_checkpoint(Path(os.path.abspath(run))):
                raise


def newest_checkpoint(run: Path) -> tuple[RunRecord, Path]:
    """The record of a run, and its newest checkpoint, or the checkpoint given as `run`.

    Raises:
        FileNotFoundError: if the folder has no run or no checkpoint.
    """
    # "." has the name of a checkpoint too, in its folder; a link keeps its name.
    whole = Path(os.path.abspath(run))
    check_run(whole if is_checkpoint(whole) else run)
    record = RunRecord(whole.parent.parent if is_checkpoint(whole) else run)
    checkpoints = [whole] if is_checkpoint(whole) else run_checkpoints(record.checkpoints)
    return record, checkpoints[-1]
