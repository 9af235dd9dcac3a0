"""The records of fetched files in sources.json: address, size, hash, ETag and date."""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

from fastlm.files import disk
from fastlm.files.json_files import read_json, to_json
from fastlm.files.paths import open_to_read

RECORDS = "sources.json"


def is_finished(path: Path, url: str, expected_sha256: str | None) -> bool:
    """Return whether a file was fetched from an address and still has its recorded size."""
    record = read_records(path.parent).get(path.name, {})
    return (
        path.exists()
        and record.get("url") == url
        and record.get("bytes") == path.stat().st_size
        and expected_sha256 in (None, record.get("sha256"))
    )


def is_as_fetched(path: Path) -> bool:
    """Return whether the file at a path was fetched, so that a new download may replace it.

    Raises:
        FileExistsError: if it was changed since.
    """
    record = read_records(path.parent).get(path.name)
    if record is None or not path.is_file():
        return False
    if measure(path) != {key: record.get(key) for key in ("bytes", "sha256")}:
        raise FileExistsError(
            f"{path} was changed since it was fetched: move it away to have it fetched again, or "
            "give another --out"
        )
    return True


def measure(path: Path) -> dict[str, Any]:
    """Return the size and the hash of a file, as its record has them."""
    with open_to_read(path) as file:
        digest = hashlib.file_digest(file, "sha256")
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def read_records(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the records by the names of the files; none if there is no sources.json.

    Raises:
        ValueError: if it is another file.
    """
    path = folder / RECORDS
    try:
        records = read_json(path)
    except FileNotFoundError:
        return {}
    except ValueError:
        records = None
    if isinstance(records, dict) and all(map(is_record, records.values())):
        return records
    raise ValueError(
        f"{path}: expected the address of each file that was fetched, as a download writes it, got "
        "another file of this name; move it, or give another --out"
    )


def is_record(values: Any) -> TypeGuard[dict[str, Any]]:
    """Return whether a value read from JSON is the record of a file."""
    return isinstance(values, dict) and isinstance(values.get("url"), str)


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write the record of a file into the sources.json beside it."""
    with changing_records(path.parent) as records:
        records[path.name] = record


@contextlib.contextmanager
def changing_records(folder: Path) -> Iterator[dict[str, dict[str, Any]]]:
    """Yield the records, and write them when the block ends."""
    wait = disk.WAIT_SECONDS
    with disk.whole_file(folder / RECORDS, replace=True, wait_seconds=wait) as file:
        records = read_records(folder)  # while the file is locked
        yield records
        file.write(to_json(records, indent=1, sort_keys=True))
