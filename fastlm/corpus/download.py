"""Fetching a file over HTTP: broken downloads are continued, and wrong files are detected.

This module uses only the standard library.
"""

import hashlib
import http.client
import time
import urllib.error
import urllib.parse
import urllib.request
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastlm.cli.progress import Progress
from fastlm.corpus.answer import (
    Answer,
    UnclearAnswerError,
    Version,
    read_answer,
    read_range,
    read_version,
)
from fastlm.corpus.known_file import BrokenOffError, KnownFile
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
    gives neither, if expected_sha256 is given). A size that was told for that version holds for
    all later answers; a warning tells that none was, so that a broken connection can look like the
    end. sources.json beside the file keeps address, size, SHA-256, ETag and date; a file that
    agrees with it is not fetched.

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
        known = KnownFile(expected_sha256, expected_bytes)
        download = _Download(url, part, known, is_data=is_data)
        furthest, failures = part.n_bytes, 0
        while True:
            try:
                sha256 = download.attempt(timeout, on_progress)
                break
            except BrokenOffError as broken:
                failures = 1 if part.n_bytes > furthest else failures + 1
                furthest = max(furthest, part.n_bytes)
                if failures > retries:
                    raise DownloadError(
                        f"{url}: {broken} after {failures} attempt(s) in a row"
                        + download.give_up(broken)
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
    """A download in progress: a part, whose bytes are all of one version of the file."""

    def __init__(
        self, url: str, part: resumed.ResumedFile, known: KnownFile, *, is_data: bool
    ) -> None:
        self.url, self.part, self.known, self.is_data = url, part, known, is_data
        note = part.read_note()
        version = Version(note.get("etag"), note.get("last_modified"), note.get("bytes"))
        if note.get("url") != url or not known.begin(version, part.n_bytes):
            self.clear()

    def clear(self) -> None:
        """Empty the part, and forget what is known of it."""
        self.part.clear()
        self.known.forget()

    def attempt(self, timeout: float, on_progress: Progress | None) -> str:
        """Request and write the missing bytes; return the SHA-256 of the complete file."""
        n_bytes = self.part.n_bytes
        self.known.saw(n_bytes)
        start = n_bytes if self.known.can_continue(n_bytes) else 0
        request = urllib.request.Request(self.url, headers=self._headers(start))
        try:
            response = urllib.request.urlopen(request, timeout=timeout)
        except urllib.error.HTTPError as error:
            return self._refused(error, start)
        except (http.client.InvalidURL, ValueError) as error:
            raise DownloadError(f"{self.url}: expected a valid address: {error}") from error
        except (OSError, http.client.HTTPException) as error:
            raise BrokenOffError(_reason(error)) from error
        with response:
            self._check_is_file(response)
            try:
                answer = read_answer(response)
                self.known.accept(answer, start)
            except UnclearAnswerError as error:
                raise self.known.asking_anew(str(error)) from error
            except ValueError as error:
                raise DownloadError(f"{self.url}: {error}") from error
            if answer.first:
                self.part.file.seek(answer.first)
                self.part.file.truncate()
            else:
                self.part.clear()
            self.part.write_note(self._note())
            return self._receive(response, answer, on_progress)

    def give_up(self, broken: BrokenOffError) -> str:
        """Remove a part that no call can go on from; return advice for the user, or nothing."""
        n_bytes = self.part.n_bytes
        if broken.keeps_part and self.known.could_continue(n_bytes):
            or_anew = f", or remove {self.part.part} to begin anew" if self.known.is_anew else ""
            return f"; run again to go on from byte {n_bytes}{or_anew}"
        self.clear()
        return "; run again to fetch the file from its beginning" if n_bytes else ""

    def finish(self, sha256: str) -> dict[str, Any]:
        """Check the complete part and give it its name; return its record."""
        size = self.part.n_bytes
        wrong = ""
        expected_bytes, expected_sha256 = self.known.expected_bytes, self.known.expected_sha256
        if expected_bytes is not None and size != expected_bytes:
            wrong = f"expected {expected_bytes} bytes, got {size}"
        elif expected_sha256 is not None and sha256 != expected_sha256:
            wrong = f"expected SHA-256 {expected_sha256}, got {sha256}"
        elif self.is_data:
            wrong = self._find_no_data()
        if wrong:
            self.clear()
            raise DownloadError(f"{self.url}: {wrong}; the wrong file was removed")
        record = {
            "url": self.url,
            "bytes": size,
            "sha256": sha256,
            "etag": self.known.version.etag,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        # If this call ends before the record is written, the next one takes it from the note.
        self.part.write_note({**self._note(), "record": record})
        self.part.give_name()
        return record

    def _find_no_data(self) -> str:
        """Return what is wrong with the complete part if it is no text and no compressed one."""
        self.part.file.seek(0)
        head = self.part.file.read(LEAST_BYTES)
        packed = (begin for begin, suffix in COMPRESSED.items() if self.url.endswith(suffix))
        return "" if head.startswith(tuple(packed)) else describe_no_data(head)

    def _note(self) -> dict[str, Any]:
        version = self.known.version
        return {
            "url": self.url,
            "etag": version.etag,
            "last_modified": version.last_modified,
            "bytes": version.size,
        }

    def _headers(self, start: int) -> dict[str, str]:
        headers = {"User-Agent": "fastlm", "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
            if validator := self.known.version.validator():
                headers["If-Range"] = validator
        return headers

    def _check_is_file(self, response: Any) -> None:
        """Raise a DownloadError if an answer is none with bytes of the file."""
        if not isinstance(response, http.client.HTTPResponse):
            raise DownloadError(
                f"{self.url}: expected the file over HTTP, was redirected to {response.url}"
            )
        if response.status not in (http.client.OK, http.client.PARTIAL_CONTENT):
            raise DownloadError(
                f"{self.url}: HTTP {response.status} {response.reason}: expected the file with "
                "status 200"
            )
        kind = response.headers.get_content_type()
        if self.is_data and kind in _NO_DATA:
            raise DownloadError(f"{self.url}: expected a text, got {kind}; {_CHECK_MIRROR}")
        self._refuse_packing(", ".join(response.headers.get_all("Content-Encoding", [])))

    def _refuse_packing(self, packing: str) -> None:
        """Raise a DownloadError if the body is compressed, which was not asked for.

        Many servers say so of a file that is compressed itself, and send it as it is.
        """
        name = packing.strip().lower() or "identity"
        is_of_file = name in ("gzip", "x-gzip") and self.url.endswith(".gz")
        if name != "identity" and not is_of_file:
            raise DownloadError(
                f"{self.url}: expected the bytes of the file, got them compressed as {name}; "
                "does a proxy or a mirror do that?"
            )

    def _receive(self, response: Any, answer: Answer, on_progress: Progress | None) -> str:
        """Write the body of an accepted answer; return the SHA-256 if the file is whole then."""
        digest = self._digest()
        done, size = answer.first, self.known.size
        if on_progress is not None and size is not None:
            on_progress("total", size)
        while block := _read_network(response):
            self.part.file.write(block)
            digest.update(block)
            done += len(block)
            if on_progress is not None:
                on_progress("bytes", done)
        if not self.known.is_whole_after(answer, done):
            warnings.warn(
                f"{self.url}: the server did not tell the size of the file: compare the "
                f"{done:,} bytes that came with the size it should have",
                stacklevel=4,
            )
        return digest.hexdigest()

    def _digest(self) -> Any:
        """Return the SHA-256 of the part; the file position is then at its end."""
        digest = hashlib.sha256()
        self.part.file.seek(0)
        while block := self.part.file.read(BLOCK_BYTES):
            digest.update(block)
        return digest

    def _refused(self, error: urllib.error.HTTPError, start: int) -> str:
        """Take the refusal of a request; return the SHA-256 if it says that the part is whole."""
        if start and error.code == http.client.PRECONDITION_FAILED:
            raise self.known.asking_anew("the file changed on the server") from error
        if start and error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            *_, size = read_range(error.headers.get("Content-Range", ""))
            sha256: str = self._digest().hexdigest()
            self.known.check_ends_at(start, read_version(error.headers, size), sha256)
            return sha256
        reason = f"HTTP {error.code} {error.reason}"
        if later := error.headers.get("Retry-After"):
            reason += f" (Retry-After: {later})"
        if error.code >= 500 or error.code in _WORTH_RETRYING:
            raise BrokenOffError(reason) from error
        raise DownloadError(f"{self.url}: {reason}") from error


def _read_network(response: Any) -> bytes:
    """Read the bytes that have arrived; only errors here count as a broken connection."""
    try:
        block: bytes = response.read1(BLOCK_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise BrokenOffError(_reason(error)) from error
    return block


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "the server fell silent"
    if isinstance(error, http.client.IncompleteRead):
        return "the body broke off"
    return str(getattr(error, "reason", None) or error or type(error).__name__)


def _write_noted_record(path: Path, note: dict[str, Any]) -> None:
    """Write the record of a file that an earlier call named and could not record."""
    record = note.get("record")
    if is_record(record):
        write_record(path, record)
