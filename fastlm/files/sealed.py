"""JSON files that carry the hash of their own content, and dataclasses read back from JSON.

A sealed file is written by a program for a program: an edit by hand is detected.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastlm.files.json_files import read_json, to_json

_SEAL = "sha256"


def seal(values: Mapping[str, Any]) -> bytes:
    """Return values as a JSON object that holds the hash of its own content."""
    sealed = {**values, _SEAL: _hash(values)}
    return to_json(sealed)


def read_sealed(path: Path) -> dict[str, Any]:
    """Read the object that seal() wrote.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is no sealed object, or was changed; the message does not name the file.
    """
    try:
        values = read_json(path)
    except ValueError as error:
        raise ValueError(f"it is {error}") from None
    if not isinstance(values, dict) or _SEAL not in values:
        raise ValueError("it has no hash of its content")
    found = values.pop(_SEAL)
    if found != _hash(values):
        raise ValueError("its hash is not that of its content")
    return values


def _hash(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
