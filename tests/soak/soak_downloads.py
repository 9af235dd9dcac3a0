"""Downloads from servers that break off, change their files and leave out headers: minutes.

Whatever a server does, a fetch gives one whole version of the file or an error. Only a file whose
size was never told may be cut, and a warning says so. FASTLM_SOAK_SHARE=0.1 does a tenth of them.
"""

import os
import random
import threading
import warnings
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from fastlm.corpus.download import DownloadError, fetch

N_SERVERS = int(3000 * float(os.environ.get("FASTLM_SOAK_SHARE", "1")))
LENGTHS = {"a": 200, "b": 200, "c": 260}  # two versions are of one size
VERSIONS = {
    name: b"".join(b"line %04d of %s\n" % (i, name.encode()) for i in range(n_lines))
    for name, n_lines in LENGTHS.items()
}
FAULTS = [
    *["changes", "busy", "strips", "joins_versions", "ignores_range", "refuses_rest", "aligns"],
    *["cuts_into_pieces", "says_200", "no_span", "star", "first_is_range"],
    *["chunks", "no_length", "odd_length"],
]


@dataclass
class Server:
    """One server: how likely each fault is, and the version it has at the moment."""

    draw: random.Random
    faults: dict[str, float] = field(default_factory=dict)
    version: str = "a"

    def __post_init__(self) -> None:
        self.faults = {name: self.draw.choice([0, 0, 0.1, 0.4]) for name in FAULTS}
        self.faults["breaks"] = self.draw.choice([0.2, 0.5, 0.8])
        self.has_etag, self.has_date = self.draw.random() < 0.7, self.draw.random() < 0.6
        self.is_weak = self.draw.random() < 0.3

    def does(self, fault: str) -> bool:
        return self.draw.random() < self.faults[fault]

    def answer(self, wanted: str | None, if_range: str | None) -> bytes:
        if self.does("changes"):
            self.version = self.draw.choice("abc")
        if self.does("busy"):
            return head("503 Busy", ["Content-Length: 0"])
        content = VERSIONS[self.version]
        etag = 'W/"any"' if self.is_weak else f'"{self.version}"'
        date = f"Wed, 21 Oct 2015 07:28:0{'abc'.index(self.version)} GMT"
        lines = []
        if self.has_etag and not self.does("strips"):
            lines.append(f"ETag: {etag}")
        if self.has_date and not self.does("strips"):
            lines.append(f"Last-Modified: {date}")
        is_same = if_range in (None, date, None if self.is_weak else etag)
        heeds = is_same or self.does("joins_versions")
        first, end, status = 0, len(content), "200 OK"
        if wanted and heeds and not self.does("ignores_range"):
            first = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if first >= end or self.does("refuses_rest"):
                told = self.draw.choice([f"bytes */{end}", f"bytes */{first}", "nothing"])
                return head("416 No", [*lines, f"Content-Range: {told}", "Content-Length: 0"])
            first = first // 512 * 512 if self.does("aligns") else first
            end = min(end, first + 700) if self.does("cuts_into_pieces") else end
            status = "200 OK" if self.does("says_200") else "206 Part"
            is_told = not self.does("no_span")
        elif is_told := self.does("first_is_range"):
            end, status = self.draw.choice([end, 1000]), "206 Part"
        if is_told:
            size = "*" if self.does("star") else len(content)
            lines.append(f"Content-Range: bytes {first}-{end - 1}/{size}")
        body = content[first:end]
        if self.does("chunks"):
            pieces = [body[i : i + 400] for i in range(0, len(body), 400)]
            body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
            body += b"0\r\n\r\n"
            lines.append("Transfer-Encoding: chunked")
        elif self.does("odd_length"):
            lines.append(f"Content-Length: {self.draw.choice(['36kB', '-1', ''])}")
        elif not self.does("no_length"):
            lines.append(f"Content-Length: {len(body)}")
        if self.does("breaks"):
            body = body[: self.draw.randrange(len(body) + 1)]
        return head(status, lines) + body


def head(status: str, lines: list[str]) -> bytes:
    return "".join(f"{line}\r\n" for line in [f"HTTP/1.1 {status}", *lines, ""]).encode()


class Handler(BaseHTTPRequestHandler):
    current: Server

    def do_GET(self) -> None:
        self.wfile.write(self.current.answer(self.headers["Range"], self.headers["If-Range"]))

    def log_message(self, *args: object) -> None:
        pass


def test_no_server_makes_a_wrong_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    ends = Counter[str]()
    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        try:
            for seed in range(N_SERVERS):
                Handler.current = Server(random.Random(seed))
                folder = tmp_path / str(seed)
                folder.mkdir()
                for _ in range(3):  # later calls continue the part of the earlier ones
                    end = fetch_once(f"http://127.0.0.1:{http.server_port}/f", folder / "f", seed)
                    ends[end] += 1
                    if end != "error":
                        break
        finally:
            http.shutdown()
            thread.join()
    print(dict(ends))
    assert ends["wrong"] == 0
    assert ends["right"] > N_SERVERS / 2


def fetch_once(url: str, out: Path, seed: int) -> str:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            fetch(url, out, retries=[0, 2, 6][seed % 3], first_wait=0.0)
        except DownloadError:
            return "wrong" if out.exists() else "error"
    if out.read_bytes() in VERSIONS.values():
        return "right"
    return "warned" if any("did not tell the size" in str(w.message) for w in told) else "wrong"
