"""Serve the report page of unfinished runs to this machine; the page asks for new rows.

The server keeps nothing between two requests: a page says up to which byte of each log it has
rows, and gets the rows after it.
"""

import errno
import json
import sys
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from fastlm.report.page import report_page
from fastlm.report.run_json import describe_run, embedded, rows_per_run, run_id, version_of
from fastlm.runs.found import Position, find_runs_to_come

HOST = "127.0.0.1"
POLL_SECONDS = 3.0
MOST_KNOWN_BYTES = 10_000_000
"""Greatest size of a request, in bytes"""


def news(paths: Sequence[Path], known: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Return the descriptions and rows that a page does not have yet.

    Args:
        paths: folders of runs, or folders that contain them.
        known: for each run of the page, by its id: the byte of its log up to which the page has
            rows, the check of that place, and the version the page was given.
    Returns:
        Descriptions of new and changed runs; a known run has only its new rows.
    """
    runs = find_runs_to_come(paths)
    limit = rows_per_run(len(runs))
    changed = []
    for folder, name in runs.items():
        offset, check, version = (*known.get(run_id(folder), ()), 0, 0, "")[:3]
        if version != version_of(folder):
            start = Position(int(offset), int(check))
            changed.append(describe_run(folder, name, limit=limit, start=start))
    return {"runs": changed}


class _Handler(BaseHTTPRequestHandler):
    server: "ReportServer"

    def do_GET(self) -> None:
        """Answer with the page."""
        if self._is_local():
            if self.path == "/":
                self._answer(200, "text/html", self.server.page())
            else:
                self._answer(404, "text/plain", "there is only the page: /\n")

    def do_POST(self) -> None:
        """Answer with what the requesting page does not have yet."""
        if not self._is_local():
            return
        try:
            length = min(int(self.headers.get("Content-Length", "0")), MOST_KNOWN_BYTES)
            text = embedded(news(self.server.paths, json.loads(self.rfile.read(max(0, length)))))
        except (ValueError, TypeError, AttributeError, RecursionError, OverflowError):
            self._answer(400, "text/plain", "expected what the page was told of each run\n")
            return
        self._answer(200, "application/json", text)

    def _is_local(self) -> bool:
        # Another site's page could reach this port through its own host name for 127.0.0.1.
        if self.headers.get("Host", "").rsplit(":", 1)[0] in (HOST, "localhost"):
            return True
        self._answer(403, "text/plain", "asked for by another name than localhost\n")
        return False

    def _answer(self, code: int, kind: str, text: str) -> None:
        raw = text.encode("utf-8")
        self.send_response(code)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(raw)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing for a request that was answered."""


class ReportServer(ThreadingHTTPServer):
    """A server that shows the page of runs on this machine alone.

    Args:
        paths: folders of runs, or folders that contain them; runs may begin later.
        port: port to listen on; 0 takes a free one, which server_port then gives.
    Raises:
        OSError: if the port is not available; the message says what to do.
    """

    daemon_threads = True
    allow_reuse_address = sys.platform != "win32"  # on Windows it would share a port in use

    def __init__(
        self, paths: Sequence[Path], port: int, *, poll_seconds: float = POLL_SECONDS
    ) -> None:
        self.paths, self.poll_seconds = list(paths), poll_seconds
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            what = "is in use" if error.errno == errno.EADDRINUSE else "is not ours to use"
            other = port % 65535 + 1
            raise OSError(f"port {port} {what}: give another --port, such as {other}") from None

    @property
    def address(self) -> str:
        """Return the address to open in a browser."""
        return f"{HOST}:{self.server_port}"

    def page(self) -> str:
        """Return the page of the runs that exist now."""
        return report_page(find_runs_to_come(self.paths), poll_seconds=self.poll_seconds)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report any error except that a browser closed the connection."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)
