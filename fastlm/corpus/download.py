"""Fetching a file over HTTP: broken downloads are continued, and wrong files are detected.

This module uses only the standard library.
"""

import hashlib
import http.client
import time
import urllib.error
import urllib.parse
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastlm.cli.progress import Progress
from fastlm.corpus.sources import is_as_fetched, is_finished, is_record, write_record
from fastlm.files import resumed
from fastlm.files.compression import BLOCK_BYTES
from fastlm.files.not_text import COMPRESSED, find_no_data

LEAST_BYTES = 4096
"""Size below which an answer is no data set, but most likely a line that says why there is none"""

_CHECK_MIRROR = "check the mirror's address, and whether it needs a log-in"
_SHOWN_CHARACTERS = 80

_LONGEST_WAIT_SECONDS = 30.0
_WORTH_RETRYING = (408, 425, 429)
_NO_DATA = (
    "text/html",
    "application/xhtml+xml",
    "application/json",
    "application/xml",
    "text/xml",
)


class DownloadError(OSError):
    """A file could not be fetched; str() is one line that names the address."""

    def __init__(self, message: str) -> None:
        # Reasons come from servers and from urllib, and may have several lines.
        super().__init__(" ".join(message.split()))


class _BrokenOffError(Exception):
    """An attempt ended early for a reason that another attempt may not meet."""


def fetch(
    url: str,
    out_path: Path,
    *,
    expected_sha256: str | None = None,
    expected_bytes: int | None = None,
    is_data: bool = False,
    on_progress: Progress | None = None,
    retries: int = 5,
    timeout: float = 30.0,
    first_wait: float = 1.0,
) -> Path:
    """Download a file, continuing an interrupted attempt or call; return out_path.

    Bytes go to out_path + ".part" and become out_path only when they are complete and on disk.
    The part is continued only if the server's ETag or Last-Modified is unchanged (or, if a server
    gives neither, if expected_sha256 is given). sources.json beside the file keeps address, size,
    SHA-256, ETag and date; a file that agrees with it is not fetched.

    Args:
        is_data: refuse what is neither a text of LEAST_BYTES or more nor, if the address ends so,
            a .gz, .xz or .zst file: servers give a web page or a line in place of an error.
        on_progress: called with ("total", bytes of the file) if the server tells them, and then
            with ("bytes", bytes so far); both are repeated after an interrupted attempt.
        retries: consecutive further attempts that may fail without a new byte.
        timeout: seconds that the server may stay silent.
        first_wait: seconds before the second attempt; doubles each time, 30 at most.
    Raises:
        DownloadError: if it is refused, interrupted too often, or not the expected file.
        FileExistsError: if out_path exists and was not fetched, or was changed since.
        BlockingIOError: if another process fetches it.
        ValueError: if url is not an http or https address, or sources.json is another file.
    Source: range requests as in RFC 9110, sections 13.1.5 and 14.
    """
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"expected an http:// or https:// address, got {url!r}")
    resumed.finish_named(
        out_path, ("url", "record"), lambda note: _write_noted_record(out_path, note)
    )
    if is_finished(out_path, url, expected_sha256):
        return out_path
    replace = is_as_fetched(out_path)
    with resumed.resumed_file(out_path, made_of={"url": url}, replace=replace) as part:
        download = _Download(url, part, expected_sha256, expected_bytes, is_data=is_data)
        furthest, failures = part.n_bytes, 0
        while True:
            try:
                sha256 = download.attempt(timeout, on_progress)
                break
            except _BrokenOffError as broken:
                failures = 1 if part.n_bytes > furthest else failures + 1
                furthest = max(furthest, part.n_bytes)
                if failures > retries:
                    hint = f"; run again to go on from byte {part.n_bytes}"
                    raise DownloadError(
                        f"{url}: {broken} after {failures} attempt(s) in a row"
                        + (hint if download.can_continue() else "")
                    ) from broken
                time.sleep(min(first_wait * 2 ** (failures - 1), _LONGEST_WAIT_SECONDS))
        write_record(out_path, download.finish(sha256))
    return out_path


def describe_no_data(head: bytes) -> str:
    """Return what was expected and what came, if an answer is no data set; else an empty string.

    Args:
        head: its first LEAST_BYTES, decompressed.
    """
    what = find_no_data(head)
    if not what and len(head) < LEAST_BYTES:
        text = " ".join(head.decode("utf-8", "replace").split())
        shown = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
        what = f"{len(head)} bytes, {shown!r}" if head else "an empty one"
    return f"expected a text, got {what}; {_CHECK_MIRROR}" if what else ""


class _Download:
    """A download in progress: a part and a note of the server's description of the file."""

    def __init__(
        self,
        url: str,
        part: resumed.ResumedFile,
        expected_sha256: str | None,
        expected_bytes: int | None,
        *,
        is_data: bool,
    ) -> None:
        self.url = url
        self.is_data = is_data
        self.part = part
        self.expected_sha256 = expected_sha256
        self.expected_bytes = expected_bytes
        self.note = part.read_note()
        if self.note.get("url") != url or not self.can_continue():
            self.clear()

    def can_continue(self) -> bool:
        """Return whether the server or the final hash would detect parts of different files."""
        return self.part.n_bytes > 0 and bool(self._validator() or self.expected_sha256)

    def clear(self) -> None:
        self.part.clear()
        self.note = {}

    def attempt(self, timeout: float, on_progress: Progress | None) -> str:
        """Request and write the missing bytes; return the SHA-256 of the complete file."""
        if not self.can_continue():
            self.part.clear()  # the note in memory still has the size that the server told
        start = self.part.n_bytes
        request = urllib.request.Request(self.url, headers=self._headers(start))
        try:
            response = urllib.request.urlopen(request, timeout=timeout)
        except urllib.error.HTTPError as error:
            return self._refused(error, start)
        except (OSError, http.client.HTTPException) as error:
            raise _BrokenOffError(_reason(error)) from error
        with response:
            if response.status not in (http.client.OK, http.client.PARTIAL_CONTENT):
                raise DownloadError(
                    f"{self.url}: HTTP {response.status} {response.reason}: expected the file with "
                    "status 200"
                )
            start, total = self._agree(response, start)
            return self._receive(response, start, total, on_progress)

    def finish(self, sha256: str) -> dict[str, Any]:
        """Check the complete part and give it its name; return its record."""
        size = self.part.n_bytes
        wrong = ""
        if self.expected_bytes is not None and size != self.expected_bytes:
            wrong = f"expected {self.expected_bytes} bytes, got {size}"
        elif self.expected_sha256 is not None and sha256 != self.expected_sha256:
            wrong = f"expected SHA-256 {self.expected_sha256}, got {sha256}"
        elif self.is_data:
            wrong = self._find_no_data()
        if wrong:
            self.clear()
            raise DownloadError(f"{self.url}: {wrong}; the wrong file was removed")
        record = {
            "url": self.url,
            "bytes": size,
            "sha256": sha256,
            "etag": self.note.get("etag"),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        # If this call ends before the record is written, the next one takes it from the note.
        self.part.write_note({**self.note, "record": record})
        self.part.give_name()
        return record

    def _find_no_data(self) -> str:
        """Return what is wrong with the complete part if it is no text and no compressed one."""
        self.part.file.seek(0)
        head = self.part.file.read(LEAST_BYTES)
        packed = (begin for begin, suffix in COMPRESSED.items() if self.url.endswith(suffix))
        return "" if head.startswith(tuple(packed)) else describe_no_data(head)

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
        """Return the offset of the body and the size of the file; keep or renew the note."""
        kind = response.headers.get_content_type()
        if self.is_data and kind in _NO_DATA:
            raise DownloadError(f"{self.url}: expected a text, got {kind}; {_CHECK_MIRROR}")
        self._refuse_packing(response.headers.get("Content-Encoding"))
        span = response.headers.get("Content-Range", "")
        length = response.headers.get("Content-Length")
        # Some servers send the bytes asked for as if they were the whole file.
        is_rest = response.status == http.client.PARTIAL_CONTENT or (start > 0 and bool(span))
        first, end, total = (
            _content_range(span)
            if is_rest
            else (0, None, int(length) if length and length.isdecimal() else None)
        )
        note = {
            "url": self.url,
            "etag": response.headers.get("ETag"),
            "last_modified": response.headers.get("Last-Modified"),
            "bytes": total,
        }
        is_other_file = _contradicts({**note, "bytes": None}, self.note)
        is_other_size = _contradicts({"bytes": total}, self.note)
        if is_rest:
            # Some servers heed Range but not If-Range, which would join parts of two files. An
            # answer of the same file has its ETag.
            has_no_etag = bool(self.note.get("etag")) and note["etag"] is None
            if first != start or is_other_file or is_other_size or has_no_etag:
                self.clear()
                raise _BrokenOffError("the file changed on the server")
        elif start > 0 and total is None:
            # Without a length nobody can tell whether this is the rest or the whole file.
            self.part.clear()
            raise _BrokenOffError("the server did not tell the size of its answer")
        elif start > 0 and is_other_size and not is_other_file:
            # An answer with the same ETag and another size is not the whole file.
            self.clear()
            raise _BrokenOffError("the server gave the file in two sizes")
        if total is None and not is_other_file:
            total = self.note.get("bytes")
        if total is None:
            total = end  # all bytes to the end of the file were asked for
        if not is_rest:
            self.clear()
            start = 0
            self.note = {**note, "bytes": total}
            self.part.write_note(self.note)
        if None not in (total, self.expected_bytes) and total != self.expected_bytes:
            self.clear()
            raise DownloadError(
                f"{self.url}: expected {self.expected_bytes} bytes, the server has {total}"
            )
        return start, total

    def _refuse_packing(self, packing: str | None) -> None:
        """Raise a DownloadError if the body is compressed, which was not asked for.

        Many servers say so of a file that is compressed itself, and send it as it is.
        """
        name = (packing or "identity").strip().lower()
        is_of_file = name in ("gzip", "x-gzip") and self.url.endswith(".gz")
        if name != "identity" and not is_of_file:
            raise DownloadError(
                f"{self.url}: expected the bytes of the file, got them compressed as {name}; "
                "does a proxy or a mirror do that?"
            )

    def _receive(
        self, response: Any, start: int, total: int | None, on_progress: Progress | None
    ) -> str:
        digest = self._digest()
        done = start
        if on_progress is not None and total is not None:
            on_progress("total", total)
        while block := _read_network(response):
            self.part.file.write(block)
            digest.update(block)
            done += len(block)
            if on_progress is not None:
                on_progress("bytes", done)
        if total is not None and done != total:
            if done > total:
                self.part.clear()
            raise _BrokenOffError(f"the body ended at byte {done} of {total}")
        return digest.hexdigest()

    def _digest(self) -> Any:
        """Return the SHA-256 of the part; the file position is then at its end."""
        digest = hashlib.sha256()
        self.part.file.seek(0)
        while block := self.part.file.read(BLOCK_BYTES):
            digest.update(block)
        return digest

    def _refused(self, error: urllib.error.HTTPError, start: int) -> str:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            *_, total = _content_range(error.headers.get("Content-Range", ""))
            # A part that broke off is not whole because the server, or a cache that kept no more
            # of it, now says so: the size must be known from elsewhere, too.
            known = (self.note.get("bytes"), self.expected_bytes)
            if total == start and (start in known or self.expected_sha256 is not None):
                return str(self._digest().hexdigest())
            self.clear()
            raise _BrokenOffError(
                "the server gave the file in two sizes"
                if total == start
                else "the part was longer than the file"
            ) from error
        reason = f"HTTP {error.code} {error.reason}"
        if error.code >= 500 or error.code in _WORTH_RETRYING:
            raise _BrokenOffError(reason) from error
        raise DownloadError(f"{self.url}: {reason}") from error


def _contradicts(note: dict[str, Any], earlier: dict[str, Any]) -> bool:
    return any(note[key] and earlier.get(key) not in (None, note[key]) for key in note)


def _read_network(response: Any) -> bytes:
    """Read the bytes that have arrived; only errors here count as a broken connection."""
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


def _content_range(header: str) -> tuple[int | None, int | None, int | None]:
    """Read "bytes 5-8/10" as (5, 9, 10), "bytes 5-8/*" as (5, 9, None), "bytes */10" likewise."""
    span, _, total = header.removeprefix("bytes").strip().partition("/")
    first, _, last = span.partition("-")
    return (
        int(first) if first.isdecimal() else None,
        int(last) + 1 if last.isdecimal() else None,
        int(total) if total.isdecimal() else None,
    )


def _write_noted_record(path: Path, note: dict[str, Any]) -> None:
    """Write the record of a file that an earlier call named and could not record."""
    record = note.get("record")
    if is_record(record):
        write_record(path, record)
