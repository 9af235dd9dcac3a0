"""An HTTP server of files that misbehaves as a test wants."""

import contextlib
import gzip
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer

from fastlm.corpus.datasets import DATASETS

CONTENT = bytes(range(256)) * 40


@dataclass
class Plan:
    """The behaviour of the server; requests collects the headers it was sent."""

    files: dict[str, bytes] = field(default_factory=lambda: {"/file": CONTENT})
    etag: str | None = '"one"'
    last_modified: str | None = None
    kind: str | None = None
    statuses: list[int] = field(default_factory=list)
    break_after: list[int] = field(default_factory=list)
    silent_seconds: list[float] = field(default_factory=list)
    heeds_range: bool = True
    heeds_if_range: bool = True
    extra_length: int = 0
    rest_status: int = 206
    has_content_range: bool = True
    total: str | None = None
    has_later_length: bool = True
    has_later_etag: bool = True
    answer: tuple[int, str] | None = None
    rest_cut: int = 0
    packing: str | None = None
    requests: list[dict[str, str]] = field(default_factory=list)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        plan: Plan = self.server.plan  # type: ignore[attr-defined]
        plan.requests.append({"path": self.path, **self.headers})
        if plan.silent_seconds:
            time.sleep(plan.silent_seconds.pop(0))
        if plan.statuses:
            self.send_error(plan.statuses.pop(0))
            return
        if self.path not in plan.files:
            self.send_error(404)
            return
        content = plan.files[self.path]
        is_later = len(plan.requests) > 1
        start, wanted = 0, self.headers.get("Range")
        if_range = self.headers.get("If-Range")
        current = if_range in (None, plan.etag, plan.last_modified) or not plan.heeds_if_range
        if wanted and plan.heeds_range and current:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content = content[: len(content) - plan.rest_cut]
            self.send_response(plan.rest_status)
            if plan.has_content_range:
                span = f"{start}-{len(content) - 1}/{plan.total or len(content)}"
                self.send_header("Content-Range", f"bytes {span}")
        else:
            self.send_response(*(plan.answer or (200,)))
        if plan.etag and (plan.has_later_etag or not is_later):
            self.send_header("ETag", plan.etag)
        if plan.packing:
            self.send_header("Content-Encoding", plan.packing)
        if plan.kind:
            self.send_header("Content-Type", plan.kind)
        if plan.last_modified:
            self.send_header("Last-Modified", plan.last_modified)
        length = str(len(content) - start + plan.extra_length)
        if plan.has_later_length or not is_later:
            self.send_header("Content-Length", length)
        self.end_headers()
        body = content[start:]
        if plan.break_after:
            body = body[: plan.break_after.pop(0)]
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *args: object) -> None:
        pass


def serve_datasets(plan: Plan) -> dict[str, bytes]:
    texts = {}
    for name, files in DATASETS.items():
        for file_name, path in files.items():
            texts[f"{name}/{file_name}"] = text = f"{name} {file_name}\n".encode() * 500
            plan.files["/" + path] = gzip.compress(text) if path.endswith(".gz") else text
    return texts


Reply = tuple[str, list[str], bytes]
"""The status, the header lines and the body of an answer; the connection is closed after it"""


@contextlib.contextmanager
def serve_replies(replies: Sequence[Reply]) -> Iterator[tuple[str, list[str]]]:
    """Answer the requests for any file one after the other, and later ones like the last.

    Yields:
        The address of the server, and the value of Range in each request so far.
    """
    asked: list[str] = []

    class Replier(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers.get("Range", ""))
            status, lines, body = replies[min(len(asked), len(replies)) - 1]
            head = "".join(f"{line}\r\n" for line in [f"HTTP/1.1 {status}", *lines, ""])
            self.wfile.write(head.encode() + body)

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Replier) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()
