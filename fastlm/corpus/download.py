"""Fetching text over HTTP so that a broken connection costs little and a wrong file is noticed.

Standard library only.
"""

import hashlib
import http.client
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastlm.cli.progress import Progress
from fastlm.files.compression import BLOCK_BYTES, COMPRESSIONS, decompress
from fastlm.files.disk import beside, to_disk

BASE_URL = "https://huggingface.co/datasets"
DATASETS = {
    "tinystories": {
        "train.txt": "roneneldan/TinyStories/resolve/main/TinyStoriesV2-GPT4-train.txt",
        "valid.txt": "roneneldan/TinyStories/resolve/main/TinyStoriesV2-GPT4-valid.txt",
    },
    "owt": {
        "train.txt": "stanford-cs336/owt-sample/resolve/main/owt_train.txt.gz",
        "valid.txt": "stanford-cs336/owt-sample/resolve/main/owt_valid.txt.gz",
    },
}

RECORDS = "sources.json"

_LONGEST_WAIT_SECONDS = 30.0
_WORTH_RETRYING = (408, 425, 429)


class DownloadError(OSError):
    """A file could not be fetched; str() is one line that names the address."""


class _BrokenOffError(Exception):
    """An attempt ended early for a reason that another attempt may not meet."""


def fetch_dataset(
    name: str, out: Path, *, base_url: str = BASE_URL, on_progress: Progress | None = None
) -> Path:
    """Download train.txt and valid.txt of a data set of DATASETS into a folder; return the folder.

    Compressed files are unpacked and then removed. What is there already is not fetched again.

    Args:
        base_url: what to put before the paths in DATASETS, such as a mirror's address.
    Raises:
        DownloadError, ValueError: as fetch and decompress do.
    """
    out.mkdir(parents=True, exist_ok=True)
    for file_name, path in DATASETS[name].items():
        url = f"{base_url.rstrip('/')}/{path}"
        target = out / file_name
        compression = Path(path).suffix
        if compression not in COMPRESSIONS:
            fetch(url, target, on_progress=on_progress)
        elif not _is_finished(target, url, None):
            packed = fetch(url, out / (file_name + compression), on_progress=on_progress)
            source = _read_records(out)[packed.name]
            try:
                decompress(packed, target)
            except ValueError:
                # It came as the server sent it, so keeping it would only fail again.
                packed.unlink()
                raise
            _write_record(target, source | _measure(target), drop=packed.name)
            packed.unlink()
    return out


def fetch(
    url: str,
    out_path: Path,
    *,
    expected_sha256: str | None = None,
    expected_bytes: int | None = None,
    on_progress: Progress | None = None,
    retries: int = 5,
    timeout: float = 30.0,
    first_wait: float = 1.0,
) -> Path:
    """Download a file, going on where an earlier attempt or call broke off; return out_path.

    Bytes go to out_path + ".part" and become out_path only when they are complete and on disk.
    The part is continued only while the server's ETag or Last-Modified is the one it began with
    (or, where a server gives neither, while expected_sha256 will tell). sources.json beside the
    file keeps address, size, SHA-256, ETag and date; a file that agrees with it is not fetched.

    Args:
        on_progress: called with ("total", bytes of the file) where the server tells them, and then
            with ("bytes", there so far); again after an attempt that broke off.
        retries: attempts that may fail in a row without one new byte, after the first.
        timeout: seconds the server may stay silent.
        first_wait: seconds before the second attempt; doubles each time, 30 at most.
    Raises:
        DownloadError: refused, broken off too often, or not the file that was expected.
        ValueError: if url is not an http or https address.
    Source: range requests as in RFC 9110, sections 13.1.5 and 14.
    """
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"expected an http:// or https:// address, got {url!r}")
    if _is_finished(out_path, url, expected_sha256):
        return out_path
    out_path.parent.mkdir(parents=True, exist_ok=True)
    part = _Part(url, out_path, expected_sha256, expected_bytes)
    furthest, failures = part.size(), 0
    while True:
        try:
            sha256 = part.attempt(timeout, on_progress)
            break
        except _BrokenOffError as broken:
            failures = 1 if part.size() > furthest else failures + 1
            furthest = max(furthest, part.size())
            if failures > retries:
                hint = (
                    f"; run again to go on from byte {part.size()}" if part.can_continue() else ""
                )
                raise DownloadError(
                    f"{url}: {broken} after {failures} attempt(s) in a row{hint}"
                ) from broken
            time.sleep(min(first_wait * 2 ** (failures - 1), _LONGEST_WAIT_SECONDS))
    part.finish(sha256)
    return out_path


class _Part:
    """A download under way: out_path.part and, beside it, what the server said the file is."""

    def __init__(
        self, url: str, out_path: Path, expected_sha256: str | None, expected_bytes: int | None
    ) -> None:
        self.url = url
        self.out_path = out_path
        self.path = beside(out_path, ".part")
        self.note_path = beside(out_path, ".part.json")
        self.expected_sha256 = expected_sha256
        self.expected_bytes = expected_bytes
        self.note = _read_json(self.note_path)
        if self.note.get("url") != url:
            self.clear()

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def can_continue(self) -> bool:
        """Tell whether a glued file would be noticed: by the server, or by us at the end."""
        return self.size() > 0 and bool(self._validator() or self.expected_sha256)

    def clear(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note_path.unlink(missing_ok=True)
        self.note = {}

    def attempt(self, timeout: float, on_progress: Progress | None) -> str:
        """Ask for what is missing and write it; return the whole file's SHA-256 when complete."""
        if not self.can_continue():
            self.clear()
        start = self.size()
        request = urllib.request.Request(self.url, headers=self._headers(start))
        try:
            response = urllib.request.urlopen(request, timeout=timeout)
        except urllib.error.HTTPError as error:
            return self._refused(error, start)
        except (OSError, http.client.HTTPException) as error:
            raise _BrokenOffError(_reason(error)) from error
        with response:
            start, total = self._agree(response, start)
            return self._receive(response, start, total, on_progress)

    def finish(self, sha256: str) -> None:
        """Check the complete part and put it in its place."""
        size = self.size()
        wrong = ""
        if self.expected_bytes is not None and size != self.expected_bytes:
            wrong = f"expected {self.expected_bytes} bytes, got {size}"
        elif self.expected_sha256 is not None and sha256 != self.expected_sha256:
            wrong = f"expected SHA-256 {self.expected_sha256}, got {sha256}"
        if wrong:
            self.clear()
            raise DownloadError(f"{self.url}: {wrong}; the wrong file was removed")
        etag = self.note.get("etag")
        os.replace(self.path, self.out_path)
        self.note_path.unlink(missing_ok=True)
        _write_record(
            self.out_path,
            {
                "url": self.url,
                "bytes": size,
                "sha256": sha256,
                "etag": etag,
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
            },
        )

    def _validator(self) -> str | None:
        etag = self.note.get("etag")
        # A weak ETag promises the same meaning, not the same bytes.
        if etag and not etag.startswith("W/"):
            return str(etag)
        return self.note.get("last_modified")

    def _headers(self, start: int) -> dict[str, str]:
        headers = {"User-Agent": "fastlm", "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
            if validator := self._validator():
                headers["If-Range"] = validator
        return headers

    def _agree(self, response: Any, start: int) -> tuple[int, int | None]:
        """Find where the body belongs and how long the whole is; keep or renew the note."""
        note = {
            "url": self.url,
            "etag": response.headers.get("ETag"),
            "last_modified": response.headers.get("Last-Modified"),
        }
        total: int | None = None
        if response.status == http.client.PARTIAL_CONTENT:
            first, total = _content_range(response.headers.get("Content-Range", ""))
            # Some servers heed Range but not If-Range, and would have us glue two files.
            if first != start or _contradicts(note, self.note):
                self.clear()
                raise _BrokenOffError("the file changed on the server")
        else:
            start = 0
            length = response.headers.get("Content-Length")
            total = int(length) if length else None
            self.clear()
            self.note = note
            self.note_path.write_text(json.dumps(note))
        if None not in (total, self.expected_bytes) and total != self.expected_bytes:
            self.clear()
            raise DownloadError(
                f"{self.url}: expected {self.expected_bytes} bytes, the server has {total}"
            )
        return start, total

    def _receive(
        self, response: Any, start: int, total: int | None, on_progress: Progress | None
    ) -> str:
        digest = hashlib.sha256()
        if start:
            for block in _plain_blocks(self.path):
                digest.update(block)
        done = start
        if on_progress is not None and total is not None:
            on_progress("total", total)
        with open(self.path, "ab" if start else "wb") as out:
            while block := _read_network(response):
                out.write(block)
                digest.update(block)
                done += len(block)
                if on_progress is not None:
                    on_progress("bytes", done)
            to_disk(out)
        if total is not None and done != total:
            if done > total:
                self.clear()
            raise _BrokenOffError(f"the body ended at byte {done} of {total}")
        return digest.hexdigest()

    def _refused(self, error: urllib.error.HTTPError, start: int) -> str:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            _, total = _content_range(error.headers.get("Content-Range", ""))
            if total == start:
                return str(_measure(self.path)["sha256"])
            self.clear()
            raise _BrokenOffError("the part was longer than the file") from error
        reason = f"HTTP {error.code} {error.reason}"
        if error.code >= 500 or error.code in _WORTH_RETRYING:
            raise _BrokenOffError(reason) from error
        raise DownloadError(f"{self.url}: {reason}") from error


def _contradicts(note: dict[str, Any], earlier: dict[str, Any]) -> bool:
    return any(note[key] and earlier.get(key) not in (None, note[key]) for key in note)


def _read_network(response: Any) -> bytes:
    """Read what has arrived. Only this may count as a broken connection: a full disk may not."""
    try:
        block: bytes = response.read1(BLOCK_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenOffError(_reason(error)) from error
    return block


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "the server fell silent"
    if isinstance(error, http.client.IncompleteRead):
        return "the body broke off"
    return str(getattr(error, "reason", None) or error or type(error).__name__)


def _content_range(header: str) -> tuple[int | None, int | None]:
    """Read "bytes 5-9/10" as (5, 10) and "bytes */10" as (None, 10)."""
    span, _, total = header.removeprefix("bytes").strip().partition("/")
    first = span.partition("-")[0]
    return (
        int(first) if first.isdecimal() else None,
        int(total) if total.isdecimal() else None,
    )


def _is_finished(path: Path, url: str, expected_sha256: str | None) -> bool:
    record = _read_records(path.parent).get(path.name, {})
    return (
        path.exists()
        and record.get("url") == url
        and record.get("bytes") == path.stat().st_size
        and expected_sha256 in (None, record.get("sha256"))
    )


def _measure(path: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    for block in _plain_blocks(path):
        digest.update(block)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def _plain_blocks(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while block := file.read(BLOCK_BYTES):
            yield block


def _read_records(folder: Path) -> dict[str, dict[str, Any]]:
    return _read_json(folder / RECORDS)


def _write_record(path: Path, record: dict[str, Any], *, drop: str = "") -> None:
    records = _read_records(path.parent) | {path.name: record}
    records.pop(drop, None)
    part = beside(path.parent / RECORDS, ".part")
    part.write_text(json.dumps(records, indent=1, sort_keys=True) + "\n")
    os.replace(part, path.parent / RECORDS)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        # A note cut short by a crash says nothing: what it was about is fetched again.
        return {}
    return content if isinstance(content, dict) else {}
