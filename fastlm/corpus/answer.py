"""An HTTP answer to a request for a file: the bytes it brings, and of which version of the file."""

import http.client
import re
from dataclasses import dataclass
from datetime import timedelta
from email.message import Message
from email.utils import parsedate_to_datetime

# "bytes 5-8/10", "bytes 5-8/*" or "bytes */10"; some servers write "bytes=" or leave the unit out.
_RANGE = re.compile(
    r"(?:bytes\b\s*[:=]?)?\s*(?:(\d{1,18})-(\d{1,18})|\*)\s*/\s*(\d{1,18}|\*)",
    re.ASCII | re.IGNORECASE,
)
_LENGTH = re.compile(r"\d{1,18}", re.ASCII)


class UnclearAnswerError(Exception):
    """The header of an answer does not say where its body begins or ends."""


@dataclass(frozen=True)
class Version:
    """A server's description of one version of a file; None for each thing it did not tell."""

    etag: str | None = None
    last_modified: str | None = None
    size: int | None = None

    def validator(self) -> str | None:
        """Return the value that only this version has: a strong ETag, or else Last-Modified."""
        # A weak ETag promises the same meaning, not the same bytes.
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified

    def differs(self, other: "Version") -> bool:
        """Return whether two descriptions are of two versions, whatever their sizes."""
        pairs = ((self.etag, other.etag), (self.last_modified, other.last_modified))
        return any(None not in pair and pair[0] != pair[1] for pair in pairs)

    def has_validator_of(self, other: "Version") -> bool:
        """Return whether a validator shows that this is the same version as another."""
        validator = other.validator()
        return (
            validator is not None
            and validator in (self.etag, self.last_modified)
            and not self.differs(other)
        )


@dataclass(frozen=True)
class Answer:
    """The header of an answer with status 200 or 206.

    Attributes:
        version: of the file; it has a size if the answer tells that of the whole file.
        first: offset of the body in the file.
        end: offset after the body, if the answer tells it.
        is_range: the answer tells the offsets of its body; otherwise the body should be the file.
        shows_its_end: a body that breaks off can be told from a whole one.
        fault: description of a length that cannot be read; empty if there is none.
    """

    version: Version
    first: int
    end: int | None
    is_range: bool
    shows_its_end: bool
    fault: str


def read_answer(response: http.client.HTTPResponse) -> Answer:
    """Read the header of an answer.

    Raises:
        UnclearAnswerError: if it contradicts itself, or cannot be read.
    Source: RFC 9110, sections 8.6, 8.8 and 14.4; RFC 9112, section 6.3.
    """
    headers = response.headers
    coding = ", ".join(headers.get_all("Transfer-Encoding", []))
    if coding.lower() not in (("chunked",) if response.chunked else ("", "identity")):
        raise UnclearAnswerError(f"the server sent its answer with Transfer-Encoding {coding!r}")
    length, fault = (None, "") if response.chunked else _read_length(headers)
    span = ", ".join(headers.get_all("Content-Range", []))
    first, end, size = read_range(span)
    if first is not None and end is not None:
        is_range, is_clear = True, first < end <= (size or end) and length in (None, end - first)
    else:
        is_range, is_clear = False, response.status != http.client.PARTIAL_CONTENT
        first, end, size = 0, length, length
    if not is_clear:
        raise UnclearAnswerError(
            f"the server sent HTTP {response.status} with Content-Range {span!r} and "
            f"{'no length' if length is None else f'{length} bytes'}"
        )
    return Answer(
        version=read_version(headers, size),
        first=first,
        end=end,
        is_range=is_range,
        shows_its_end=response.chunked or end is not None,
        fault=fault,
    )


def read_version(headers: Message, size: int | None) -> Version:
    """Return the version of the file that a header describes, with a size read from it."""
    etag = " ".join(headers.get("ETag", "").split())  # a header may be folded into lines
    return Version(etag or None, _last_modified(headers), size)


def read_range(header: str) -> tuple[int | None, int | None, int | None]:
    """Read "bytes 5-8/10" as (5, 9, 10), "bytes 5-8/*" as (5, 9, None), "bytes */10" likewise."""
    match = _RANGE.fullmatch(header.strip())
    if match is None:
        return None, None, None
    first, last, size = (int(n) if n and n != "*" else None for n in match.groups())
    return first, None if last is None else last + 1, size


def _read_length(headers: Message) -> tuple[int | None, str]:
    """Return Content-Length, and a description of it if it is no length."""
    values = ",".join(headers.get_all("Content-Length", [])).split(",")
    told = {value.strip() for value in values}
    if len(told) == 1 and _LENGTH.fullmatch(length := told.pop()):
        return int(length), ""
    shown = ", ".join(headers.get_all("Content-Length", []))[:80]
    return None, f"a Content-Length of {shown!r}" if "Content-Length" in headers else ""


def _last_modified(headers: Message) -> str | None:
    """Return Last-Modified, unless the file could have changed again within the same second."""
    value = " ".join(headers.get("Last-Modified", "").split())
    try:
        age = parsedate_to_datetime(headers["Date"]) - parsedate_to_datetime(value)
    except (TypeError, ValueError):  # one of them is missing or no date
        return value or None
    return None if age < timedelta(seconds=1) else value
