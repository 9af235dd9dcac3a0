"""Opens the data that a run was trained with, wherever its evaluation is started."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastlm.checkpoint import read_manifest
from fastlm.data.prepared import PreparedData, open_prepared
from fastlm.pretrained import of_newest
from fastlm.runs.given import is_prepared


def open_own_data(run: Path, *, flag: str = "--data DIR") -> PreparedData:
    """Open the data of a run, which the hashes in its checkpoint identify.

    A relative path in its configuration begins where the run was started: it is looked for from the
    current folder, and then from the folders that the run lies in.

    Args:
        run: folder of a run, or of one of its checkpoints.
        flag: what gives other data, for the errors.
    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if there is one with other data.
    """
    record, about = of_newest(run, lambda record, found: (record, read_manifest(found)))
    path = str(about["config"]["data"]["path"])
    if not path:
        raise ValueError(f"{run} names no data that it was trained on: give {flag}")
    others: list[str] = []
    for folder in _places(path, record.folder):
        if not is_prepared(folder):
            continue
        try:
            data = open_prepared(folder)
        except ValueError as error:
            others.append(str(error))
            continue
        told = difference(data, about)
        if not told:
            if folder != Path(path):
                print(f"note: the data of {run} are {folder}", file=sys.stderr)
            return data
        others.append(f"{folder} holds other data than {run} was trained with: {told}")
    if others:
        raise ValueError(f"{others[0]}; give {flag}")
    raise FileNotFoundError(
        f"the data of {run} are neither in {path} nor beside the run: give {flag}"
    )


def _places(path: str, run: Path) -> list[Path]:
    if Path(path).is_absolute():
        return [Path(path)]
    return [Path(path), *(parent / path for parent in run.resolve().parents)]


def difference(data: PreparedData, about: Mapping[str, Any]) -> str:
    """Say which hash of data differs from a checkpoint's manifest; empty if none does."""
    found = {
        "tokenizer_hash": data.tokenizer_hash,
        "train_hash": data.train.hash,
        "val_hash": data.val.hash,
    }
    for name, here in found.items():
        expected = about.get(name, here)  # checkpoints of older versions have no val_hash
        if here != expected:
            return f"its {name} is {here[:12]}, expected {str(expected)[:12]}"
    return ""
