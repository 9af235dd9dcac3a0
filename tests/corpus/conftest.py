"""A server of files that misbehaves as its plan says."""

import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer

import pytest
from file_server import Handler, Plan


@pytest.fixture
def plan() -> Iterator[Plan]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.plan = Plan()  # type: ignore[attr-defined]
    server.plan.url = f"http://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.plan  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()
    thread.join()
