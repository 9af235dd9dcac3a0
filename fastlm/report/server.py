"""The report page of runs that are still going on: served to this machine, asking for new rows.

Nothing is kept between two requests: a page says up to which byte of each log it has
rows, and gets what came after.
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
"""of a request"""


def news(paths: Sequence[Path], known: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """What a page does not have yet.

    Args:
        paths: folders of runs, or folders with such in them.
        known: of each run that the page has, by its id: the byte of its log up to which it has
            rows, the check of that place, and the version it was given.
    Returns:
        Descriptions of runs that are new or changed; of a known one only the new rows.
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
        """Answer with what is new to a page that says what it has."""
        if not self._is_local():
            return
        try:
            length = min(int(self.headers.get("Content-Length", "0")), MOST_KNOWN_BYTES)
            text = embedded(news(self.server.paths, json.loads(self.rfile.read(max(0, length)))))
        except (ValueError, TypeError, AttributeError, RecursionError):
            self._answer(400, "text/plain", "expected what the page was told of each run\n")
            return
        self._answer(200, "application/json", text)

    def _is_local(self) -> bool:
        # Another site's page could reach this port by a name of its own for 127.0.0.1.
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
        """Say nothing of a request that was answered."""


class ReportServer(ThreadingHTTPServer):
    """Serves the page of runs on this machine alone.

    Args:
        paths: folders of runs, or folders with such in them; runs may begin later.
        port: 0 takes one that is free; server_port says which.
    Raises:
        OSError: if the port cannot be had, with what to do.
    """

    daemon_threads = True
    allow_reuse_address = sys.platform != "win32"  # there it would share a port that is in use

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
        """What to open in a browser."""
        return f"{HOST}:{self.server_port}"

    def page(self) -> str:
        """The page of the runs that there are now."""
        return report_page(find_runs_to_come(self.paths), poll_seconds=self.poll_seconds)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is no error; anything else is told."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)
