"""A trained model with its tokenizer, from the folder of its run.

Level 2.
"""

from pathlib import Path
from typing import NamedTuple

import torch

from fastlm.checkpoint import is_checkpoint, read_manifest, read_model_tensors, run_checkpoints
from fastlm.config import TrainConfig
from fastlm.model import TransformerLM
from fastlm.ops import Ops, torch_ops
from fastlm.record import RunRecord
from fastlm.sealed import from_dict
from fastlm.tokenizer import Tokenizer


class Pretrained(NamedTuple):
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
    """The newest checkpoint of a run, or a named one, ready to evaluate or generate with.

    Args:
        run: folder of a run, or of one of its checkpoints.
    Raises:
        FileNotFoundError: if there is no run or no checkpoint in the folder.
        ValueError: if a file is damaged, or the tokenizer is not the model's.
    """
    run = Path(run)
    record = RunRecord(run.parent.parent if is_checkpoint(run) else run)
    if not record.exists:
        raise FileNotFoundError(f"no run in {record.folder}: expected {record.folder}/config.json")
    checkpoints = [run] if is_checkpoint(run) else run_checkpoints(record.checkpoints)
    if not checkpoints:
        raise FileNotFoundError(f"no checkpoint in {record.checkpoints}: has the run saved one?")
    checkpoint = checkpoints[-1]
    about = read_manifest(checkpoint)
    config = from_dict(TrainConfig, about["config"])
    tokenizer = Tokenizer.load(record.tokenizer)
    expected = about["tokenizer_hash"]
    if tokenizer.hash != expected:
        raise ValueError(
            f"{record.tokenizer} is not the tokenizer {checkpoint} was trained with: its hash is "
            f"{tokenizer.hash[:12]}, expected {expected[:12]}; put the run's own tokenizer there"
        )
    model = TransformerLM(config.model, ops=ops, compute_dtype=compute_dtype)
    model.load_state_dict(read_model_tensors(checkpoint))
    return Pretrained(model.to(device).eval(), tokenizer, config)
