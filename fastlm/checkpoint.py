"""Saving and loading, without pickle: tensors in safetensors, all else in JSON.

Level 1. A checkpoint of a run is a folder step-000123 with model.safetensors, optim.safetensors,
state.json and manifest.json (sizes and hashes). It is written beside its place and renamed into
it, so that a folder of that name is always whole.
"""

import dataclasses
import hashlib
import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from torch.optim import Optimizer

from fastlm.config import TrainConfig

FORMAT = 1
_STEP_FOLDER = re.compile(r"step-(\d+)")


def pack(tree: Any, tensors: dict[str, Tensor], path: str = "") -> Any:
    """Turn nested dicts, lists, tuples, numbers and tensors into JSON; tensors go to the side.

    Raises:
        TypeError: for any other object, with the path to it.
    """
    if isinstance(tree, Tensor):
        tensors[path] = tree.detach().cpu().contiguous().clone()
        return {"tensor": path}
    if isinstance(tree, dict):
        return {"dict": [[k, pack(v, tensors, f"{path}/{k}")] for k, v in tree.items()]}
    if isinstance(tree, list | tuple):
        kind = "list" if isinstance(tree, list) else "tuple"
        return {kind: [pack(v, tensors, f"{path}/{i}") for i, v in enumerate(tree)]}
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    raise TypeError(f"cannot save {type(tree).__name__} at {path or 'the root'} without pickle")


def unpack(packed: Any, tensors: dict[str, Tensor]) -> Any:
    """The inverse of pack."""
    if not isinstance(packed, dict):
        return packed
    ((kind, content),) = packed.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: unpack(value, tensors) for key, value in content}
    values = [unpack(value, tensors) for value in content]
    return values if kind == "list" else tuple(values)


def save_checkpoint(
    model: nn.Module, optimizer: Optimizer, iteration: int, out: str | os.PathLike[str] | IO[bytes]
) -> None:
    """Write model, optimizer and iteration into one file (a path, or a file open for writing)."""
    tensors: dict[str, Tensor] = {}
    state = {
        "model": pack(dict(model.state_dict()), tensors, "model"),
        "optimizer": pack(optimizer.state_dict(), tensors, "optimizer"),
        "iteration": iteration,
    }
    raw = save_tensors(tensors, metadata={"fastlm": json.dumps(state)})
    if isinstance(out, str | os.PathLike):
        target = Path(out)
        beside = target.with_name(target.name + ".part")
        _write(beside, raw)
        beside.replace(target)
    else:
        out.write(raw)


def load_checkpoint(
    src: str | os.PathLike[str] | IO[bytes], model: nn.Module, optimizer: Optimizer
) -> int:
    """Load what save_checkpoint wrote into model and optimizer; returns the iteration.

    Raises:
        ValueError: if the bytes are no such checkpoint.
    """
    raw = Path(src).read_bytes() if isinstance(src, str | os.PathLike) else src.read()
    try:
        header_size = int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8 : 8 + header_size])
        state = json.loads(header["__metadata__"]["fastlm"])
        tensors = load_tensors(raw)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"not a checkpoint of save_checkpoint: {error}") from error
    model.load_state_dict(unpack(state["model"], tensors))
    optimizer.load_state_dict(unpack(state["optimizer"], tensors))
    return int(state["iteration"])


def _write(path: Path, raw: bytes) -> None:
    with open(path, "wb") as out:
        out.write(raw)
        out.flush()
        os.fsync(out.fileno())


def _sync_folder(path: Path) -> None:
    if os.name == "nt":  # folders cannot be opened there
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_run_checkpoint(
    folder: Path,
    step: int,
    model: nn.Module,
    optimizers: Sequence[Optimizer],
    state: dict[str, Any],
    *,
    keep: int = 2,
) -> Path:
    """Write folder/step-NNNNNN atomically and remove all but the newest `keep` ones.

    Args:
        state: JSON-like values and tensors beside the parameters: tokens, seconds, random states.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{step:06d}"
    partial = folder / f".tmp-step-{step:06d}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    model_tensors = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    optim_tensors: dict[str, Tensor] = {}
    packed = {
        "format": FORMAT,
        "step": step,
        "optimizers": pack([o.state_dict() for o in optimizers], optim_tensors, "optim"),
        "state": pack(state, optim_tensors, "state"),
    }
    files = {
        # Views of one parameter (q, k, v) are cloned: safetensors wants tensors of their own.
        "model.safetensors": save_tensors({n: t.clone() for n, t in model_tensors.items()}),
        "optim.safetensors": save_tensors(optim_tensors),
        "state.json": json.dumps(packed).encode(),
    }
    for name, raw in files.items():
        _write(partial / name, raw)
    manifest = {
        name: {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
        for name, raw in files.items()
    }
    _write(partial / "manifest.json", json.dumps(manifest, indent=2).encode())
    _sync_folder(partial)
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    _sync_folder(folder)
    for old in run_checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return final


def run_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints in a folder, oldest first."""
    if not folder.is_dir():
        return []
    found = [p for p in folder.iterdir() if _STEP_FOLDER.fullmatch(p.name)]
    return sorted(found, key=lambda p: int(p.name.split("-")[1]))


def _verified(folder: Path, name: str) -> bytes:
    """The bytes of a file of a checkpoint, if they are those its manifest tells."""
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        raw = (folder / name).read_bytes()
        expected = manifest[name]["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"checkpoint {folder} cannot be read: {error!r}") from error
    if hashlib.sha256(raw).hexdigest() != expected:
        raise ValueError(f"{folder / name} is damaged: its hash is not the one in manifest.json")
    return raw


def read_model_tensors(folder: Path) -> dict[str, Tensor]:
    """The model's state dict in a checkpoint, on the CPU.

    Raises:
        ValueError: if the file is missing or damaged.
    """
    return load_tensors(_verified(folder, "model.safetensors"))


def continued(now: TrainConfig, then: TrainConfig, checkpoint: str) -> TrainConfig:
    """The configuration a run goes on with: now, with the number of steps that was fixed then.

    Raises:
        ValueError: if the two do not belong to one run.
    """
    for name in ("model", "optim", "batch_size", "batch_ramp", "batch_ramp_lr", "seed"):
        before, asked = getattr(then, name), getattr(now, name)
        if asked != before:
            raise ValueError(
                f"a run cannot change its {name} on the way: {checkpoint} has {before}, "
                f"asked for {asked}; start a new run with another --out"
            )
    if not now.fix_steps or now.max_steps is not None:
        return now
    if (then.fix_steps, then.time_budget) != (True, now.time_budget):
        raise ValueError(
            f"the steps of a run are fixed before its first: {checkpoint} has "
            f"fix_steps={then.fix_steps}, max_steps={then.max_steps} and "
            f"time_budget={then.time_budget}; give --max-steps beside --time-budget "
            f"{now.time_budget}"
        )
    return dataclasses.replace(now, max_steps=then.max_steps)


class SavedRun(NamedTuple):
    """A checkpoint of a run, on the CPU."""

    step: int
    state: dict[str, Any]
    model: dict[str, Tensor]
    optimizers: list[dict[str, Any]]


def read_run_checkpoint(folder: Path) -> SavedRun:
    """Everything write_run_checkpoint was given.

    Raises:
        ValueError: if a file is missing or damaged, or of another format.
    """
    packed = json.loads(_verified(folder, "state.json"))
    if packed["format"] != FORMAT:
        raise ValueError(f"checkpoint {folder} has format {packed['format']}, expected {FORMAT}")
    tensors = load_tensors(_verified(folder, "optim.safetensors"))
    return SavedRun(
        step=int(packed["step"]),
        state=unpack(packed["state"], tensors),
        model=read_model_tensors(folder),
        optimizers=unpack(packed["optimizers"], tensors),
    )
