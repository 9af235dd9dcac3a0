"""A trained model with its tokenizer, from the folder of its run.

Level 2.
"""

from pathlib import Path
from typing import NamedTuple

import torch

from fastlm.checkpoint import read_model_tensors, run_checkpoints
from fastlm.config import TrainConfig
from fastlm.model import TransformerLM
from fastlm.ops import Ops, torch_ops
from fastlm.record import RunRecord
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
    """The newest checkpoint of a run, ready to evaluate or generate with.

    Raises:
        FileNotFoundError: if there is no run or no checkpoint in the folder.
        ValueError: if a file is damaged, or the tokenizer is not of the model's size.
    """
    record = RunRecord(Path(run))
    config = record.config()
    checkpoints = run_checkpoints(record.checkpoints)
    if not checkpoints:
        raise FileNotFoundError(f"no checkpoint in {record.checkpoints}: has the run saved one?")
    tokenizer = Tokenizer.load(record.tokenizer)
    if tokenizer.vocab_size != config.model.vocab_size:
        raise ValueError(
            f"{record.tokenizer} has {tokenizer.vocab_size} entries, the model of {run} "
            f"{config.model.vocab_size}: it belongs to another run"
        )
    model = TransformerLM(config.model, ops=ops, compute_dtype=compute_dtype)
    model.load_state_dict(read_model_tensors(checkpoints[-1]))
    return Pretrained(model.to(device).eval(), tokenizer, config)
