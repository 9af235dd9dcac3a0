"""JSON files: an object is read strictly or tolerantly, and values are written in one way."""

import json
from pathlib import Path
from typing import Any

from fastlm.files.paths import read_bytes


def read_json(path: Path) -> Any:
    """Read a JSON value.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is no JSON or too deep; the message does not name the file.
    """
    raw = read_bytes(path)
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON ({error})") from None


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it holds no JSON object; the message names the file.
    """
    try:
        values = read_json(path)
    except ValueError as error:
        raise ValueError(f"{path}: expected a JSON object, got {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected a JSON object, got a {type(values).__name__}")
    return values


def read_object_or_empty(path: Path) -> dict[str, Any]:
    """Read a JSON object that a caller can do without; {} if it is missing or damaged.

    Raises:
        OSError: if the file exists and cannot be read.
    """
    try:
        return read_object(path)
    except (FileNotFoundError, ValueError):
        return {}


def check_path(text: str, name: str, path: Path) -> None:
    """Check that a text that a file holds can be a path.

    Args:
        name: name of the value in the file, for the message.
    Raises:
        ValueError: if it cannot be one; the message names the file.
    """
    if "\0" in text:
        raise ValueError(f"{path}: expected a path as {name}, got {text!r}")


def to_json(
    values: Any, *, indent: int = 2, is_ascii: bool = True, sort_keys: bool = False
) -> bytes:
    """Return values as the content of a JSON file, with a line feed at its end.

    Args:
        is_ascii: escape other characters. The name of a file has to be escaped, as it may hold
            bytes that are not UTF-8.
    """
    text = json.dumps(values, indent=indent, ensure_ascii=is_ascii, sort_keys=sort_keys)
    return (text + "\n").encode()
