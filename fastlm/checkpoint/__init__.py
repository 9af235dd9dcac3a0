"""Saving and loading without pickle: tensors in safetensors, everything else in JSON.

A checkpoint of a run is a folder step-000123 with model.safetensors, optim.safetensors,
state.json and manifest.json (a description of the run, and size and hash of every file). It is
written under a temporary name and renamed, so that a folder of that name is always complete.
"""

import dataclasses
import hashlib
import json
import os
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from torch.optim import Optimizer

from fastlm.checkpoint.host_copies import HostCopies
from fastlm.checkpoint.tensor_file import pieces
from fastlm.checkpoint.tree import are_finite, pack, unpack
from fastlm.config import TrainConfig
from fastlm.config.continued import check_continues
from fastlm.config.dicts import from_dict
from fastlm.files import disk, folders
from fastlm.files.destination import OTHERS, is_leftover
from fastlm.files.paths import open_to_read, read_bytes
from fastlm.files.sealed import read_sealed, seal
from fastlm.files.step_folders import is_checkpoint as is_checkpoint
from fastlm.files.step_folders import run_checkpoints as run_checkpoints
from fastlm.files.step_folders import step_folder as step_folder
from fastlm.files.step_folders import step_of as step_of

FORMAT = 2
MANIFEST = "manifest.json"
FILES = ("model.safetensors", "optim.safetensors", "state.json")
KEPT = "kept.txt"
"""File in the folder of a checkpoint that stays when older ones are removed"""
_TOLD_OF_KEPT = b"The last checkpoint before the data of the run were written to.\n"


class Damaged(ValueError):
    """A checkpoint differs from what was written; the message names the file."""


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
        disk.write_file(out, raw, replace=True)
    else:
        out.write(raw)


def load_checkpoint(
    src: str | os.PathLike[str] | IO[bytes], model: nn.Module, optimizer: Optimizer
) -> int:
    """Load a file of save_checkpoint into model and optimizer; return the iteration.

    Raises:
        ValueError: if the bytes are not such a checkpoint.
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


class Snapshot(NamedTuple):
    """The state of a run between two steps, copied to the CPU, to be written as a checkpoint.

    The tensors are complete after copies.wait().
    """

    step: int
    model: dict[str, Tensor]
    packed: dict[str, Any]
    """Optimizers and state, as JSON."""
    tensors: dict[str, Tensor]
    """Tensors of the optimizers and of the state."""
    about: dict[str, Any]
    """The manifest's description of the run, as JSON."""
    copies: HostCopies = HostCopies()
    """The copies of a GPU's tensors, which must not change before copies.hold_back()."""


class _Dropped(dict[str, Tensor]):
    """A dict that discards every item."""

    def __setitem__(self, name: str, tensor: Tensor) -> None:
        pass


def take_snapshot(
    step: int,
    model: nn.Module,
    optimizers: Sequence[Optimizer],
    state: Mapping[str, Any],
    about: Mapping[str, Any],
    *,
    is_kept: bool = True,
) -> Snapshot:
    """Copy everything that the next step depends on.

    A GPU copies while it goes on; see Snapshot.copies.

    Args:
        state: JSON-like values and tensors beside the parameters: tokens, seconds, random states.
        about: description of the run: configuration, hashes of tokenizer and data.
        is_kept: False for a process that only sends its parts to the process that writes.
    """
    tensors: dict[str, Tensor] = {} if is_kept else _Dropped()
    copies = HostCopies()
    packed = {
        "optimizers": pack([o.state_dict() for o in optimizers], tensors, "optim", copies),
        "state": pack(dict(state), tensors, "state", copies),
    }
    # Views of one parameter (q, k, v) become copies, as safetensors allows no shared memory.
    weights: dict[str, Tensor] = {} if is_kept else _Dropped()
    for name, tensor in model.state_dict().items():
        weights[name] = copies(tensor)
    return Snapshot(step, weights, packed, tensors, dict(about), copies)


def write_snapshot(
    folder: Path,
    snapshot: Snapshot,
    *,
    keep: int = 2,
    before_rename: Callable[[], None] | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> Path:
    """Write folder/step-NNNNNN, read it back, name it, then remove all but the newest `keep`.

    Those that keep_for_good was called with stay too.

    When this returns, the checkpoint survives a power cut. When it raises, earlier checkpoints are
    untouched, and nothing half-written is left. Files that somebody put into the folder of a
    checkpoint that goes are kept beside it.

    Args:
        before_rename: called after all files are written and before the rename, to flush what
            has to be on disk with the checkpoint.
        warn: called with a message on such files.
    Raises:
        OSError: if the disk is full, read-only or gone.
        Damaged: if the bytes read back differ from those written.
    """
    snapshot.copies.wait()
    folders.make_folder(folder)
    disk.sweep(folder)
    final = folder / step_folder(snapshot.step)
    if final.is_symlink() or (os.path.lexists(final) and not final.is_dir()):
        warn(f"{final} was no folder of a checkpoint: it is {disk.set_aside(final, OTHERS)} now")
    with disk.whole_folder(final, replace=True) as partial:
        _write_files(partial, snapshot)
        verify(partial)
        if is_kept(final):
            disk.write_new(partial / KEPT, _TOLD_OF_KEPT)
        if before_rename is not None:
            before_rename()
        replaced = disk.set_aside(final, OTHERS) if _has_others(final) else None
    if replaced is not None:
        _keep_others(replaced, warn)
    older = [path for path in run_checkpoints(folder) if path != final and path.is_dir()]
    older = [path for path in older if not is_kept(path)]
    for path in older[: max(0, len(older) + 1 - keep)]:
        try:
            _remove(path, warn)
        except OSError as error:  # the new one is saved all the same
            warn(f"{path} is an old checkpoint and cannot be removed ({error.strerror or error})")
    return final


def keep_for_good(folder: Path) -> None:
    """Keep a checkpoint until the run goes on from it, or somebody removes it.

    Raises:
        OSError: if that cannot be noted in its folder.
    """
    disk.write_file(folder / KEPT, _TOLD_OF_KEPT, replace=True)


def is_kept(folder: Path) -> bool:
    """Return whether keep_for_good was called with a checkpoint."""
    return not folder.is_symlink() and (folder / KEPT).is_file()


def keep_no_longer(folder: Path) -> None:
    """Let a checkpoint be removed once it is an older one."""
    if is_kept(folder):
        disk.remove_file(folder / KEPT)


def _remove(path: Path, warn: Callable[[str], None]) -> None:
    """Remove a checkpoint, but nothing that somebody put into its folder; of a link, the link."""
    if not path.is_symlink() and _has_others(path):
        _keep_others(disk.set_aside(path, OTHERS), warn)
    else:
        disk.remove_folder(path)


def _keep_others(path: Path, warn: Callable[[str], None]) -> None:
    """Remove the files of a checkpoint from a folder that also has others."""
    for name in (*FILES, MANIFEST, KEPT):
        disk.remove_file(path / name)
    warn(f"{path} keeps what was in the folder of a checkpoint and is no part of it")


def _has_others(folder: Path) -> bool:
    """Return whether a folder has anything that is no part of a checkpoint."""
    own = (*FILES, MANIFEST, KEPT)
    return folder.is_dir() and any(
        path.name not in own and not is_leftover(path.name) for path in folder.iterdir()
    )


def _write_files(partial: Path, snapshot: Snapshot) -> None:
    files = {}
    for name in FILES:
        n_bytes, digest = 0, hashlib.sha256()
        with disk.open_new(partial / name) as file:
            for piece in _content(name, snapshot):
                file.write(piece)
                digest.update(piece)
                n_bytes += len(piece)
        files[name] = {"bytes": n_bytes, "sha256": digest.hexdigest()}
    manifest = {
        "format": FORMAT,
        "step": snapshot.step,
        "files": files,
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        **snapshot.about,
    }
    disk.write_new(partial / MANIFEST, seal(manifest))


def _content(name: str, snapshot: Snapshot) -> Iterable[bytes | memoryview]:
    if name == "model.safetensors":
        return pieces(snapshot.model)
    if name == "optim.safetensors":
        return pieces(snapshot.tensors)
    return [json.dumps(snapshot.packed).encode()]


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a checkpoint.

    Raises:
        FileNotFoundError: if there is no such checkpoint; the message names the existing ones.
        Damaged: if it cannot be read, or was changed.
        ValueError: if the checkpoint has another format.
    """
    if not os.path.lexists(folder):
        others = [path.name for path in run_checkpoints(folder.parent)]
        there = f"{folder.parent} has {', '.join(others)}" if others else "there is none beside it"
        raise FileNotFoundError(f"no checkpoint {folder}: {there}")
    path = folder / MANIFEST
    try:
        manifest = read_sealed(path)
        found, files = manifest["format"], manifest["files"]
        is_known = found == FORMAT and all(isinstance(files[n]["sha256"], str) for n in FILES)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{path} is damaged: {error}") from error
    if not is_known:
        raise ValueError(
            f"checkpoint {folder} has format {found}, expected {FORMAT}: "
            "go on with the fastlm that wrote it, or train anew"
        )
    return manifest


def verify(folder: Path) -> None:
    """Read all files of a checkpoint and compare them with its manifest.

    Raises:
        Damaged: if a file is missing or changed; the message names it.
        ValueError: if the checkpoint has another format.
    """
    expected = read_manifest(folder)["files"]
    for name in FILES:
        try:
            with open_to_read(folder / name) as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise Damaged(f"{folder / name} cannot be read: {error!r}") from error
        _compare(folder / name, found, expected)


def _compare(path: Path, found: str, expected: dict[str, dict[str, str]]) -> None:
    if found != expected[path.name]["sha256"]:
        raise Damaged(f"{path} is damaged: its hash is not the one in {MANIFEST}")


def _verified(folder: Path, name: str, manifest: dict[str, Any]) -> bytes:
    """Read a file of a checkpoint and check it against the manifest."""
    try:
        raw = read_bytes(folder / name)
    except OSError as error:
        raise Damaged(f"{folder / name} cannot be read: {error!r}") from error
    _compare(folder / name, hashlib.sha256(raw).hexdigest(), manifest["files"])
    return raw


def _tensors(folder: Path, name: str, manifest: dict[str, Any]) -> dict[str, Tensor]:
    """Read the tensors of a file of a checkpoint, and check the file and its values."""
    tensors = load_tensors(_verified(folder, name, manifest))
    if not are_finite(tensors.values()):  # earlier versions saved such states
        raise Damaged(f"{folder / name} is damaged: it has values that are not finite")
    return tensors


def read_model_tensors(folder: Path) -> dict[str, Tensor]:
    """Read the model's state dict from a checkpoint, to the CPU.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        Damaged: if a file is missing or changed, or a value is NaN or infinite.
        ValueError: if the checkpoint has another format.
    """
    return _tensors(folder, "model.safetensors", read_manifest(folder))


def set_aside(folder: Path, step: int) -> list[Path]:
    """Rename the checkpoints after the step a run goes back to; return their new paths."""
    later = [path for path in run_checkpoints(folder) if step_of(path) > step]
    # Each name is flushed before the log drops the rows after it.
    return [disk.set_aside(path, "abandoned") for path in later]


class SavedRun(NamedTuple):
    """A checkpoint of a run, read to the CPU."""

    step: int
    state: dict[str, Any]
    model: dict[str, Tensor]
    optimizers: list[dict[str, Any]]
    manifest: dict[str, Any]


def read_run_checkpoint(folder: Path) -> SavedRun:
    """Read everything that the snapshot held.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        Damaged: if a file is missing or changed, or a value is NaN or infinite.
        ValueError: if the checkpoint has another format.
    """
    manifest = read_manifest(folder)
    packed = json.loads(_verified(folder, "state.json", manifest))
    tensors = _tensors(folder, "optim.safetensors", manifest)
    return SavedRun(
        step=int(manifest["step"]),
        state=unpack(packed["state"], tensors),
        model=_tensors(folder, "model.safetensors", manifest),
        optimizers=unpack(packed["optimizers"], tensors),
        manifest=manifest,
    )


def read_newest(folder: Path, warn: Callable[[str], None]) -> SavedRun | None:
    """Read the newest undamaged checkpoint in a folder; return None if there is no checkpoint.

    Args:
        warn: called with a message on each damaged checkpoint that is skipped.
    Raises:
        ValueError: if all are damaged, or the newest undamaged one has another format.
    """
    disk.put_back(folder)
    found = run_checkpoints(folder)
    for path in reversed(found):
        try:
            return read_run_checkpoint(path)
        except Damaged as error:
            warn(f"{error}; taking the checkpoint before it")
    if found:
        raise ValueError(
            f"all {len(found)} checkpoints in {folder} are damaged: start a new run with another "
            "--out"
        )
    return None


def check_same_data(saved: SavedRun, hashes: Mapping[str, str], folder: str) -> None:
    """Refuse to resume with data or a tokenizer other than those of the checkpoint.

    Args:
        hashes: hashes of the current data, by their names in the manifest.
    Raises:
        ValueError: if one differs; the message says which.
    """
    for name, found in hashes.items():
        expected = saved.manifest.get(name, found)  # older checkpoints have no val_hash
        if found != expected:
            raise ValueError(
                f"{folder} is not what the checkpoint of step {saved.step} was trained on: its "
                f"{name} is {found[:12]}, expected {expected[:12]}; give the --data of the run"
            )


def continued(now: TrainConfig, saved: SavedRun) -> TrainConfig:
    """Return the configuration to resume with: `now` with the number of steps of the checkpoint.

    Raises:
        ValueError: if the two do not belong to one run.
    """
    # from_dict gives fields that are newer than the checkpoint their defaults.
    then = from_dict(TrainConfig, saved.manifest["config"])
    checkpoint = f"the checkpoint of step {saved.step}"
    check_continues(then, now, checkpoint)
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
