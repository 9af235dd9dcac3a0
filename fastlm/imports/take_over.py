"""Import models of transformers.

python -m fastlm.imports model FOLDER --out RUN
"""

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fastlm.accounting import count_parameters
from fastlm.checkpoint import take_snapshot, write_snapshot
from fastlm.config import ModelConfig, TrainConfig
from fastlm.devices.hardware import describe
from fastlm.export import architectures
from fastlm.files import disk
from fastlm.files.not_text import check_no_pointer
from fastlm.files.paths import read_bytes
from fastlm.model import TransformerLM
from fastlm.model.layers import undrawn
from fastlm.runs.record import RunRecord
from fastlm.runs.state import IMPORTED
from fastlm.tokenizer.tokenizer import Tokenizer


def import_model(folder: Path, out: Path, *, tokenizer: Path | None = None) -> list[str]:
    """Make a run from a folder of transformers, with a checkpoint to generate or train from.

    Rows of the embedding beyond the tokenizer's vocabulary are left out.

    Args:
        folder: folder with config.json and safetensors, in one file or in several with an index.
        tokenizer: the model's tokenizer, if the folder has none that Tokenizer.load reads.
    Returns:
        Lines of notes for the user.
    Raises:
        FileNotFoundError, ValueError: if the model cannot be imported; the message names the file
            and the entries that do not fit.
        FileExistsError: if out is not empty.
    """
    disk.check_new_folder(out)
    path = folder / "config.json"
    values = _read_json(path)
    try:
        config = architectures.model_config(values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    read = Tokenizer.load(tokenizer or folder)
    if tokenizer is not None:
        _check_is_own(read, tokenizer, folder)
    tensors = _read_tensors(folder)
    try:
        state = architectures.model_tensors(config, values["model_type"], tensors)
        padded = config.vocab_size
        config, state = architectures.without_padding(config, state, read.vocab_size)
        _check_size(config, state)  # before memory is taken for the sizes in config.json
        with undrawn():
            model = TransformerLM(config)
        model.load_state_dict(state)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{folder}: {error}") from None
    run = TrainConfig(recipe=IMPORTED, model=config, max_steps=1)
    about = {
        "config": dataclasses.asdict(run),
        "tokenizer_hash": read.hash,
        "train_hash": "",
    }
    with (
        disk.whole_folder(out, last="config.json") as partial,
        contextlib.closing(RunRecord(partial)) as record,
    ):
        read.save(record.tokenizer)
        record.start(run, describe(torch.device("cpu")))
        write_snapshot(record.checkpoints, take_snapshot(0, model, [], {}, about))
    lines = []
    if padded > config.vocab_size:
        lines.append(f"rows {config.vocab_size:,} to {padded - 1:,} stand for no token: left out")
    return lines


def _check_size(config: ModelConfig, state: dict[str, Tensor]) -> None:
    """Raise a ValueError unless the tensors have as many values as the network has parameters."""
    expected, found = count_parameters(config), sum(tensor.numel() for tensor in state.values())
    if found != expected:
        raise ValueError(
            f"config.json is of a network with {expected:,} parameters, and the tensors have "
            f"{found:,} values: they do not belong together"
        )


def _check_is_own(given: Tokenizer, path: Path, folder: Path) -> None:
    """Raise a ValueError if the folder of a model has another tokenizer than the given one."""
    try:
        own = Tokenizer.load(folder)
    except (FileNotFoundError, ValueError):
        return  # it has none that can be read
    if own.hash != given.hash:
        raise ValueError(
            f"{path} is not the tokenizer in {folder}: leave --tokenizer out; if that in the "
            "folder is wrong, remove its files"
        )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(read_bytes(path))  # with or without a byte order mark
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"expected a folder of transformers: no {path}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path} must be a JSON object")
    return values


def _read_tensors(folder: Path) -> dict[str, Any]:
    """Return all tensors of the safetensors files in a folder, on the CPU."""
    index = folder / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.is_file():
        weight_map = _read_json(index).get("weight_map")
        if not (isinstance(weight_map, dict) and weight_map):
            raise ValueError(f"{index} must have a weight_map of tensors and files")
        for tensor, name in weight_map.items():
            if not (isinstance(name, str) and Path(name).name):
                raise ValueError(
                    f"{index} must have a weight_map to names of files: got {name!r} for {tensor}"
                )
        names = sorted(set(weight_map.values()))
    tensors: dict[str, Any] = {}
    for name in names:
        path = folder / Path(name).name
        if not path.is_file():
            found = sorted(p.name for p in folder.glob("*.bin")) + sorted(
                p.name for p in folder.glob("*.pt*")
            )
            other = f"; {found[0]} is not read, as reading it may run code" if found else ""
            raise FileNotFoundError(f"expected {path}: there is none{other}")
        check_no_pointer(path)
        try:
            tensors |= load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged: {error}; get it again") from None
    return tensors
