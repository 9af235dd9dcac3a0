"""Claims about fetching: whatever a server does, what arrives is one whole file or an error."""

import contextlib
import gzip
import hashlib
import json
import lzma
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastlm.cli import run
from fastlm.corpus import download
from fastlm.corpus.__main__ import _mirror, main
from fastlm.corpus.download import BASE_URL, DATASETS, DownloadError, fetch, fetch_dataset
from fastlm.files.compression import decompress, read_blocks

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
                span = f"{start}-{len(content) - 1}/{len(content)}"
                self.send_header("Content-Range", f"bytes {span}")
        else:
            self.send_response(200)
        if plan.etag:
            self.send_header("ETag", plan.etag)
        if plan.packing:
            self.send_header("Content-Encoding", plan.packing)
        if plan.kind:
            self.send_header("Content-Type", plan.kind)
        if plan.last_modified:
            self.send_header("Last-Modified", plan.last_modified)
        self.send_header("Content-Length", str(len(content) - start + plan.extra_length))
        self.end_headers()
        body = content[start:]
        if plan.break_after:
            body = body[: plan.break_after.pop(0)]
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *args: object) -> None:
        pass


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


def get(plan: Plan, out: Path, **options: object) -> bytes:
    return fetch(plan.url + "/file", out, **{"first_wait": 0.0, **options}).read_bytes()  # type: ignore[arg-type]


def test_fetched_file_is_what_the_server_has_and_is_recorded(plan: Plan, tmp_path: Path) -> None:
    seen: list[tuple[str, int]] = []
    out = tmp_path / "new" / "file.bin"
    assert get(plan, out, on_progress=lambda what, n: seen.append((what, n))) == CONTENT
    record = json.loads((out.parent / "sources.json").read_text())["file.bin"]
    assert record.pop("date").endswith("+00:00")
    assert record == {
        "url": plan.url + "/file",
        "bytes": len(CONTENT),
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "etag": '"one"',
    }
    assert (seen[0], seen[-1]) == (("total", len(CONTENT)), ("bytes", len(CONTENT)))
    assert sorted(path.name for path in out.parent.iterdir()) == ["file.bin", "sources.json"]


def test_empty_file_is_fetched(plan: Plan, tmp_path: Path) -> None:
    plan.files["/file"] = b""
    assert get(plan, tmp_path / "f") == b""


def test_finished_file_is_not_asked_for_again(plan: Plan, tmp_path: Path) -> None:
    get(plan, tmp_path / "f")
    get(plan, tmp_path / "f")
    assert len(plan.requests) == 1


def test_a_fetched_file_that_was_changed_is_kept(plan: Plan, tmp_path: Path) -> None:
    get(plan, tmp_path / "f")
    (tmp_path / "f").write_bytes(b"cut")
    with pytest.raises(FileExistsError, match="f was changed since it was fetched: move it away"):
        get(plan, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == b"cut"
    (tmp_path / "f").unlink()
    assert get(plan, tmp_path / "f") == CONTENT


@pytest.mark.parametrize("ending", [".part", ".part.json"])
def test_a_part_that_is_of_no_download_is_kept(plan: Plan, tmp_path: Path, ending: str) -> None:
    (tmp_path / f"f{ending}").write_bytes(b"{}")
    with pytest.raises(FileExistsError, match=f"f{ending} is there and is not the unfinished part"):
        get(plan, tmp_path / "f")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [
        (f"f{ending}", b"{}")
    ]


def test_a_file_that_was_not_fetched_is_kept(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="f is there already"):
        get(plan, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == b"mine"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert plan.requests == []


def test_a_kill_before_the_record_is_in_no_ones_way(plan: Plan, tmp_path: Path) -> None:
    """The file has its name and is not in sources.json."""
    script = (
        "import os, sys, pathlib; from fastlm.corpus import download\n"
        "download._write_record = lambda *args: os.kill(os.getpid(), 9)\n"
        "download.fetch(sys.argv[1], pathlib.Path(sys.argv[2]))"
    )
    words = [sys.executable, "-c", script, plan.url + "/file", str(tmp_path / "f")]
    assert subprocess.run(words).returncode == -signal.SIGKILL
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert not (tmp_path / "sources.json").exists()
    assert get(plan, tmp_path / "f") == CONTENT
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f", "sources.json"]
    assert len(plan.requests) == 1  # the next call only records it


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_error_before_the_record_is_in_no_ones_way(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """The file is recorded by the next call, which does not fetch it again."""

    def failing(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(download, "_write_record", failing)
        for _ in range(2):
            with pytest.raises(type(error)):
                get(plan, tmp_path / "f")
    assert get(plan, tmp_path / "f") == CONTENT
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f", "sources.json"]
    assert len(plan.requests) == 1
    record = json.loads((tmp_path / "sources.json").read_text())["f"]
    assert record["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert (record["url"], record["etag"]) == (plan.url + "/file", '"one"')


def test_break_is_resumed_within_the_call(plan: Plan, tmp_path: Path) -> None:
    plan.break_after = [1000, 500]
    assert get(plan, tmp_path / "f") == CONTENT
    assert [request.get("Range") for request in plan.requests] == [
        None,
        "bytes=1000-",
        "bytes=1500-",
    ]
    assert plan.requests[1]["If-Range"] == '"one"'


def test_part_of_an_earlier_call_is_continued(plan: Plan, tmp_path: Path) -> None:
    plan.break_after = [777]
    with pytest.raises(
        DownloadError,
        match=r"777 of 10240 after 1 attempt.s. in a row; run again to go on from byte 777$",
    ):
        get(plan, tmp_path / "f", retries=0)
    assert not (tmp_path / "f").exists()
    assert get(plan, tmp_path / "f") == CONTENT
    assert plan.requests[-1]["Range"] == "bytes=777-"


def test_part_of_another_address_is_not_continued(plan: Plan, tmp_path: Path) -> None:
    plan.files["/other"] = CONTENT[::-1]
    plan.break_after = [777]
    with pytest.raises(DownloadError):
        fetch(plan.url + "/other", tmp_path / "f", retries=0)
    assert get(plan, tmp_path / "f", retries=0) == CONTENT


@pytest.mark.parametrize("heeds_if_range", [True, False])
def test_changed_file_is_never_glued(plan: Plan, tmp_path: Path, heeds_if_range: bool) -> None:
    plan.break_after = [1000]
    plan.heeds_if_range = heeds_if_range
    with pytest.raises(DownloadError):
        get(plan, tmp_path / "f", retries=0)
    plan.files["/file"] = CONTENT[::-1] + b"more"
    plan.etag = '"two"'
    assert get(plan, tmp_path / "f") == CONTENT[::-1] + b"more"


@pytest.mark.parametrize("validator", ["etag", "last_modified"])
@pytest.mark.parametrize("has_content_range", [True, False])
def test_a_rest_that_is_called_whole_is_not_taken_for_the_file(
    plan: Plan, tmp_path: Path, validator: str, has_content_range: bool
) -> None:
    plan.etag = None
    setattr(plan, validator, "Wed, 21 Oct 2015 07:28:00 GMT")
    plan.break_after = [1000]
    plan.rest_status, plan.has_content_range = 200, has_content_range
    assert get(plan, tmp_path / "f") == CONTENT


@pytest.mark.parametrize("rest_status", [200, 206])
def test_a_rest_of_a_file_of_another_size_is_not_joined(
    plan: Plan, tmp_path: Path, rest_status: int
) -> None:
    plan.break_after, plan.rest_cut, plan.rest_status = [1000], 50, rest_status
    assert get(plan, tmp_path / "f") == CONTENT


@pytest.mark.parametrize("break_after", [[], [1000]])
def test_a_body_that_is_compressed_unasked_is_refused(
    plan: Plan, tmp_path: Path, break_after: list[int]
) -> None:
    plan.break_after, plan.heeds_range = break_after, False
    if break_after:
        with pytest.raises(DownloadError, match=r"go on from byte 1000"):
            get(plan, tmp_path / "f", retries=0)
    plan.files["/file"], plan.packing = gzip.compress(CONTENT), "gzip"
    with pytest.raises(DownloadError, match=r"expected the bytes .* compressed as gzip"):
        get(plan, tmp_path / "f")
    plan.files["/file"], plan.packing = CONTENT, "identity"
    assert get(plan, tmp_path / "f") == CONTENT


def test_last_modified_serves_where_the_etag_is_weak(plan: Plan, tmp_path: Path) -> None:
    plan.etag, plan.last_modified = 'W/"weak"', "Wed, 21 Oct 2015 07:28:00 GMT"
    plan.break_after = [1000]
    assert get(plan, tmp_path / "f") == CONTENT
    assert plan.requests[1]["If-Range"] == plan.last_modified


def test_without_a_validator_a_part_is_continued_only_under_a_known_hash(
    plan: Plan, tmp_path: Path
) -> None:
    plan.etag = None
    plan.break_after = [1000]
    assert get(plan, tmp_path / "f") == CONTENT
    assert "Range" not in plan.requests[1]
    plan.break_after = [1000]
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    assert get(plan, tmp_path / "g", expected_sha256=sha256) == CONTENT
    assert plan.requests[3]["Range"] == "bytes=1000-"


def test_server_that_ignores_ranges_gets_one_whole_answer(plan: Plan, tmp_path: Path) -> None:
    plan.heeds_range = False
    plan.break_after = [5000, 3000]
    assert get(plan, tmp_path / "f") == CONTENT


def test_server_that_ignores_ranges_and_always_breaks_is_given_up(
    plan: Plan, tmp_path: Path
) -> None:
    plan.heeds_range = False
    plan.break_after = [5000] * 50
    with pytest.raises(DownloadError, match=r"5000 of 10240 after 4 attempt"):
        get(plan, tmp_path / "f", retries=3)


def test_416_on_a_complete_part_finishes_it(plan: Plan, tmp_path: Path) -> None:
    plan.extra_length = 10
    assert get(plan, tmp_path / "f") == CONTENT
    assert plan.requests[-1]["Range"] == f"bytes={len(CONTENT)}-"


def test_part_longer_than_the_file_is_thrown_away(plan: Plan, tmp_path: Path) -> None:
    plan.break_after = [1000]
    with pytest.raises(DownloadError):
        get(plan, tmp_path / "f", retries=0)
    (tmp_path / "f.part").write_bytes(bytes(len(CONTENT) + 1))
    assert get(plan, tmp_path / "f") == CONTENT


def test_length_that_never_comes_true_is_an_error(plan: Plan, tmp_path: Path) -> None:
    plan.extra_length = 10
    plan.heeds_range = False
    with pytest.raises(DownloadError, match="ended at byte 10240 of 10250"):
        get(plan, tmp_path / "f", retries=2)
    assert len(plan.requests) == 3
    assert not (tmp_path / "f").exists()


def test_404_is_not_tried_again_and_names_the_address(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(DownloadError) as raised:
        fetch(plan.url + "/nothing", tmp_path / "f")
    assert str(raised.value) == f"{plan.url}/nothing: HTTP 404 Not Found"
    assert len(plan.requests) == 1


def test_server_errors_that_pass_are_outlived(plan: Plan, tmp_path: Path) -> None:
    plan.statuses = [500, 503, 429]
    assert get(plan, tmp_path / "f") == CONTENT
    assert len(plan.requests) == 4


def test_server_errors_that_stay_are_told(plan: Plan, tmp_path: Path) -> None:
    plan.statuses = [500] * 9
    with pytest.raises(
        DownloadError, match=r"HTTP 500 Internal Server Error after 3 attempt.s. in a row$"
    ):
        get(plan, tmp_path / "f", retries=2)


def test_silent_server_is_asked_again(plan: Plan, tmp_path: Path) -> None:
    plan.silent_seconds = [0.6]
    assert get(plan, tmp_path / "f", timeout=0.2) == CONTENT
    plan.silent_seconds = [0.6]
    with pytest.raises(DownloadError, match="fell silent"):
        get(plan, tmp_path / "g", timeout=0.2, retries=0)


def test_server_that_is_not_there_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"http://127.0.0.1:9/f: .*refused.* after 1 attempt"):
        fetch("http://127.0.0.1:9/f", tmp_path / "f", retries=0)


def test_wrong_hash_is_an_error_and_leaves_nothing(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"expected SHA-256 00, got .*removed"):
        get(plan, tmp_path / "f", expected_sha256="00")
    assert list(tmp_path.iterdir()) == []


def test_wrong_size_is_an_error_before_the_body(plan: Plan, tmp_path: Path) -> None:
    seen: list[int] = []
    with pytest.raises(DownloadError, match="expected 5 bytes, the server has 10240"):
        get(plan, tmp_path / "f", expected_bytes=5, on_progress=lambda what, n: seen.append(n))
    assert seen == []


def test_right_expectations_are_met(plan: Plan, tmp_path: Path) -> None:
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    assert get(plan, tmp_path / "f", expected_sha256=sha256, expected_bytes=10240) == CONTENT


def test_full_disk_is_not_mistaken_for_a_broken_connection(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def full(descriptor: int) -> None:
        if plan.requests:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        get(plan, tmp_path / "f")
    assert len(plan.requests) == 1
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://x/y", "no address"])
def test_other_schemes_are_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected an http"):
        fetch(url, tmp_path / "f")


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    breaks=st.lists(st.integers(0, 4000), max_size=8),
    statuses=st.lists(st.sampled_from([500, 503]), max_size=2),
    heeds_range=st.booleans(),
)
def test_any_row_of_breaks_gives_the_file(
    plan: Plan,
    tmp_path_factory: pytest.TempPathFactory,
    breaks: list[int],
    statuses: list[int],
    heeds_range: bool,
) -> None:
    plan.break_after, plan.statuses, plan.heeds_range = breaks, statuses, heeds_range
    assert get(plan, tmp_path_factory.mktemp("any") / "f", retries=12) == CONTENT


PACK = {
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: zstandard.ZstdCompressor().compress(data),
}


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("block_bytes", [1, 7, 1 << 20])
@pytest.mark.parametrize("data", [b"", b"x", CONTENT])
def test_compressed_blocks_join_to_the_original(
    suffix: str, block_bytes: int, data: bytes, tmp_path: Path
) -> None:
    path = tmp_path / ("text" + suffix)
    # Members written one after the other are one file to all three programs.
    path.write_bytes(PACK[suffix](data) + PACK[suffix](b"end"))
    assert b"".join(read_blocks(path, block_bytes)) == data + b"end"
    assert decompress(path, tmp_path / "text").read_bytes() == data + b"end"


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("damage", ["cut", "garbage"])
def test_damaged_compressed_files_are_errors(suffix: str, damage: str, tmp_path: Path) -> None:
    path = tmp_path / ("text" + suffix)
    packed = PACK[suffix](CONTENT)
    path.write_bytes(packed[: len(packed) // 2] if damage == "cut" else b"no such format at all")
    with pytest.raises(ValueError, match=f"text{suffix}: expected a whole {suffix} file"):
        decompress(path, tmp_path / "text")
    assert not (tmp_path / "text").exists()


def test_decompressing_another_suffix_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a file ending in .gz, .xz, .zst, got .*a.zip"):
        decompress(tmp_path / "a.zip", tmp_path / "a")


def serve_datasets(plan: Plan) -> dict[str, bytes]:
    texts = {}
    for name, files in DATASETS.items():
        for file_name, path in files.items():
            texts[f"{name}/{file_name}"] = text = f"{name} {file_name}\n".encode() * 500
            plan.files["/" + path] = gzip.compress(text) if path.endswith(".gz") else text
    return texts


@pytest.mark.parametrize("name", ["tinystories", "owt"])
def test_dataset_arrives_unpacked_and_once(plan: Plan, tmp_path: Path, name: str) -> None:
    texts = serve_datasets(plan)
    plan.break_after = [20]
    for _ in range(2):
        main([name, "--out", str(tmp_path / "d"), "--base-url", plan.url + "/"])
        names = sorted(path.name for path in (tmp_path / "d").iterdir())
        assert names == ["sources.json", "train.txt", "valid.txt"]
        for file_name in ("train.txt", "valid.txt"):
            assert (tmp_path / "d" / file_name).read_bytes() == texts[f"{name}/{file_name}"]
    assert len(plan.requests) == 3
    records = json.loads((tmp_path / "d" / "sources.json").read_text())
    assert sorted(records) == ["train.txt", "valid.txt"]
    text = texts[f"{name}/train.txt"]
    assert records["train.txt"]["sha256"] == hashlib.sha256(text).hexdigest()
    assert records["train.txt"]["url"] == f"{plan.url}/{DATASETS[name]['train.txt']}"


@pytest.mark.parametrize("stopped_by", ["_write_record", "decompress", "_forget"])
@pytest.mark.parametrize("n_before", [0, 1, 2, 3])
def test_wherever_unpacking_stops_the_same_call_ends_it(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped_by: str, n_before: int
) -> None:
    texts = serve_datasets(plan)
    original = getattr(download, stopped_by)
    n_calls = 0

    def stopping(*arguments: object, **options: object) -> object:
        nonlocal n_calls
        n_calls += 1
        if n_calls > n_before:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(download, stopped_by, stopping)
        fetch_dataset("owt", tmp_path, base_url=plan.url)
    fetch_dataset("owt", tmp_path, base_url=plan.url)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "sources.json", "train.txt", "valid.txt",
    ]  # fmt: skip
    assert sorted(json.loads((tmp_path / "sources.json").read_text())) == ["train.txt", "valid.txt"]
    for name in ("train.txt", "valid.txt"):
        assert (tmp_path / name).read_bytes() == texts[f"owt/{name}"]
    assert len(plan.requests) == 2


OTHER_SOURCES = [
    b'["my notes"]',
    b'{"train.txt": "from a friend"}',
    b'{"train.txt": {"by": "a friend"}}',
    b'{"train.txt": {"url": 3}}',
    b"my notes",
    b'{"a": "\xff"}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("raw", OTHER_SOURCES)
def test_sources_of_another_shape_are_refused_before_the_download(
    plan: Plan, tmp_path: Path, raw: bytes
) -> None:
    serve_datasets(plan)
    (tmp_path / "sources.json").write_bytes(raw)
    for call in (
        lambda: fetch(plan.url + "/file", tmp_path / "f"),
        lambda: fetch_dataset("tinystories", tmp_path, base_url=plan.url),
        lambda: fetch_dataset("owt", tmp_path, base_url=plan.url),
    ):
        with pytest.raises(ValueError, match=r"sources\.json: expected .*; move it, or ") as raised:
            call()
        assert "\n" not in str(raised.value)
    assert plan.requests == []
    assert (tmp_path / "sources.json").read_bytes() == raw
    assert [path.name for path in tmp_path.iterdir()] == ["sources.json"]


@pytest.mark.parametrize(("first", "second"), [("owt", "tinystories"), ("tinystories", "owt")])
def test_a_data_set_does_not_replace_another(
    plan: Plan, tmp_path: Path, first: str, second: str
) -> None:
    texts = serve_datasets(plan)
    fetch_dataset(first, tmp_path, base_url=plan.url)
    records = json.loads((tmp_path / "sources.json").read_text())
    with pytest.raises(FileExistsError, match=r"train\.txt is of http://.*; give another --out"):
        fetch_dataset(second, tmp_path, base_url=plan.url)
    assert (tmp_path / "train.txt").read_bytes() == texts[f"{first}/train.txt"]
    assert len(plan.requests) == 2
    plan.files |= {f"/mirror{path}": content for path, content in plan.files.items()}
    fetch_dataset(first, tmp_path, base_url=plan.url + "/mirror")
    assert len(plan.requests) == 4
    other = tmp_path / "other"  # a call was killed while it unpacked the file
    other.mkdir()
    (other / "sources.json").write_text(json.dumps({"valid.txt.gz": records["valid.txt"]}))
    with pytest.raises(
        FileExistsError, match=r"valid\.txt\.gz is of http://.*; give another --out"
    ):
        fetch_dataset(second, other, base_url=plan.url)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
PAGE = b"\xef\xbb\xbf\n<!DOCTYPE html><title>Log in</title>"


@pytest.mark.parametrize("name", ["tinystories", "owt"])
@pytest.mark.parametrize("answer", ["empty", "page", "kind", "xml", "pointer"])
def test_what_a_mirror_answers_in_place_of_a_text_is_no_data_set(
    plan: Plan, tmp_path: Path, name: str, answer: str
) -> None:
    texts = serve_datasets(plan)
    path = "/" + DATASETS[name]["train.txt"]
    whole = plan.files[path]
    answers = {"empty": b"", "page": PAGE, "kind": b"<p>", "xml": b"<?xml?>", "pointer": POINTER}
    plan.files[path] = answers[answer]
    plan.kind = "text/html; charset=utf-8" if answer == "kind" else None
    with pytest.raises((ValueError, DownloadError), match=r"train\.txt.* expected a "):
        fetch_dataset(name, tmp_path, base_url=plan.url)
    assert not (tmp_path / "train.txt").exists()
    plan.files[path], plan.kind = whole, None
    fetch_dataset(name, tmp_path, base_url=plan.url)  # the wrong answer is in no one's way
    assert (tmp_path / "train.txt").read_bytes() == texts[f"{name}/train.txt"]


@pytest.mark.parametrize("name", ["tinystories", "owt"])
@pytest.mark.parametrize("kind", ["file", "folder", "part", "link"])
def test_what_is_in_the_way_of_the_last_file_is_told_before_the_first_is_fetched(
    plan: Plan, tmp_path: Path, name: str, kind: str
) -> None:
    serve_datasets(plan)
    mine = tmp_path / ("valid.txt.part" if kind == "part" else "valid.txt")
    if (name, kind) == ("owt", "part"):
        mine = tmp_path / "valid.txt.gz.part"
    if kind == "folder":
        mine.mkdir()
    elif kind == "link":
        mine.symlink_to(mine)
    else:
        mine.write_text("mine")
    with pytest.raises(OSError, match=r"valid\.txt"):
        fetch_dataset(name, tmp_path, base_url=plan.url)
    assert plan.requests == []
    assert [path.name for path in tmp_path.iterdir()] == [mine.name]


def test_an_empty_text_that_was_packed_is_no_data_set(plan: Plan, tmp_path: Path) -> None:
    serve_datasets(plan)
    plan.files["/" + DATASETS["owt"]["train.txt"]] = gzip.compress(b"")
    with pytest.raises(ValueError, match=r"owt_train\.txt\.gz: expected a text, got an empty one"):
        fetch_dataset("owt", tmp_path, base_url=plan.url)
    assert not list(tmp_path.glob("*.txt*"))


def test_a_text_of_others_is_not_taken_for_what_a_killed_call_unpacked(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_datasets(plan)

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(download, "decompress", stop)
        fetch_dataset("owt", tmp_path, base_url=plan.url)
    (tmp_path / "train.txt").write_text("mine")
    with pytest.raises(
        FileExistsError, match=r"train\.txt is there already and is not .* unpacked"
    ):
        fetch_dataset("owt", tmp_path, base_url=plan.url)
    assert (tmp_path / "train.txt").read_text() == "mine"


def test_damaged_archive_is_fetched_again_by_the_next_call(plan: Plan, tmp_path: Path) -> None:
    texts = serve_datasets(plan)
    path = "/" + DATASETS["owt"]["train.txt"]
    whole, plan.files[path] = plan.files[path], plan.files[path][:-9]
    with pytest.raises(ValueError, match="damaged or cut short"):
        fetch_dataset("owt", tmp_path, base_url=plan.url)
    plan.files[path] = whole
    fetch_dataset("owt", tmp_path, base_url=plan.url)
    assert (tmp_path / "train.txt").read_bytes() == texts["owt/train.txt"]


def test_missing_dataset_is_one_line_and_exit_2(
    plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["owt", "--out", str(tmp_path), "--base-url", plan.url]
    with pytest.raises(SystemExit) as stop:
        run(lambda: main(arguments))
    assert stop.value.code == 2
    path = DATASETS["owt"]["train.txt"]
    assert capsys.readouterr().err == f"error: {plan.url}/{path}: HTTP 404 Not Found\n"


@pytest.mark.parametrize(
    ("flag", "mirror", "endpoint", "prefix"),
    [
        (None, None, "", "/datasets"),
        (None, None, "/", "/datasets"),
        (None, "/texts/", "/other", "/texts"),
        (None, "/texts", None, "/texts"),
        ("/mine", "/texts", "/other", "/mine"),
    ],
)
def test_mirrors_of_the_environment_are_used_in_their_order(
    plan: Plan,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flag: str | None,
    mirror: str | None,
    endpoint: str | None,
    prefix: str,
) -> None:
    texts = serve_datasets(plan)
    plan.files = {prefix + path: content for path, content in plan.files.items()}
    for name, path in (("FASTLM_MIRROR", mirror), ("HF_ENDPOINT", endpoint)):
        monkeypatch.delenv(name, raising=False)
        if path is not None:
            monkeypatch.setenv(name, plan.url + path)
    flags = [] if flag is None else ["--base-url", plan.url + flag]
    main(["owt", "--out", str(tmp_path), *flags])
    assert (tmp_path / "train.txt").read_bytes() == texts["owt/train.txt"]
    assert [r["path"].startswith(prefix + "/") for r in plan.requests] == [True, True]
    told = capsys.readouterr().err
    if flag is None:
        name = "HF_ENDPOINT" if mirror is None else "FASTLM_MIRROR"
        assert f"as {name} says" in told
    else:
        assert "says" not in told
    # The written files are checked as ever: one that is missing is fetched again.
    records = json.loads((tmp_path / "sources.json").read_text())
    sha256 = hashlib.sha256(texts["owt/train.txt"]).hexdigest()
    assert records["train.txt"]["sha256"] == sha256
    (tmp_path / "train.txt").unlink()
    main(["owt", "--out", str(tmp_path), *flags])
    assert (tmp_path / "train.txt").read_bytes() == texts["owt/train.txt"]
    assert len(plan.requests) == 3


@pytest.mark.parametrize("name", ["FASTLM_MIRROR", "HF_ENDPOINT", "--base-url"])
def test_a_mirror_that_is_no_address_is_one_line_and_nothing_is_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    for variable in ("FASTLM_MIRROR", "HF_ENDPOINT"):
        monkeypatch.delenv(variable, raising=False)
    flags = ["--base-url", "hf-mirror.com"] if name == "--base-url" else []
    if not flags:
        monkeypatch.setenv(name, "hf-mirror.com")
    with pytest.raises(SystemExit) as stop:
        run(lambda: main(["owt", "--out", str(tmp_path / "d"), *flags]))
    assert stop.value.code == 2
    line = capsys.readouterr().err
    assert line.startswith(f"error: {name} must be the http:// or https:// address of a mirror: ")
    assert line.count("\n") == 1
    assert not (tmp_path / "d").exists()


def test_without_mirrors_data_sets_come_from_their_home() -> None:
    assert _mirror(None, {}) == _mirror(None, {"FASTLM_MIRROR": "", "HF_ENDPOINT": ""}) == BASE_URL
