"""Claims about fetching: whatever a server does, what arrives is one whole file or an error."""

import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
from email.message import Message
from pathlib import Path

import pytest
from file_server import CONTENT, Plan, serve_datasets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastlm.corpus import download
from fastlm.corpus.datasets import fetch_dataset
from fastlm.corpus.download import DownloadError, fetch


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
        "download.write_record = lambda *args: os.kill(os.getpid(), 9)\n"
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
        patch.setattr(download, "write_record", failing)
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


@pytest.mark.parametrize("etag", ['"one"', None])
@pytest.mark.parametrize("heeds_range", [True, False])
def test_the_size_told_before_holds_for_an_answer_without_a_length(
    plan: Plan, tmp_path: Path, etag: str | None, heeds_range: bool
) -> None:
    """Such an answer may end anywhere: where the connection is closed, it seems to be complete."""
    plan.etag, plan.heeds_range, plan.has_later_length, plan.total = etag, heeds_range, False, "*"
    plan.break_after = [1000, *[500] * 9]
    if not heeds_range or etag is None:
        with pytest.raises(DownloadError, match=r"500 of 10240 after|tell the size"):
            get(plan, tmp_path / "f", retries=4)
        assert not (tmp_path / "f").exists()
        plan.break_after, plan.requests = [1000], []
    assert get(plan, tmp_path / "f", retries=4) == CONTENT


def test_a_rest_that_is_called_whole_and_has_no_length_is_not_joined(
    plan: Plan, tmp_path: Path
) -> None:
    plan.rest_status, plan.has_content_range, plan.has_later_length = 200, False, False
    plan.break_after = [1000, 500]
    assert get(plan, tmp_path / "f") == CONTENT


def test_a_rest_of_unknown_size_is_read_to_its_end(plan: Plan, tmp_path: Path) -> None:
    plan.break_after = [1000]
    with pytest.raises(DownloadError):
        get(plan, tmp_path / "f", retries=0)
    note = tmp_path / "f.part.json"
    note.write_text(json.dumps({**json.loads(note.read_text()), "bytes": None}))
    plan.total, plan.break_after = "*", [500]
    assert get(plan, tmp_path / "f") == CONTENT


def test_a_rest_without_the_etag_is_not_joined(plan: Plan, tmp_path: Path) -> None:
    plan.break_after, plan.heeds_if_range, plan.has_later_etag = [1000], False, False
    with pytest.raises(DownloadError):
        get(plan, tmp_path / "f", retries=0)
    plan.files["/file"] = CONTENT[::-1]  # of the same size
    assert get(plan, tmp_path / "f") == CONTENT[::-1]


@pytest.mark.parametrize("status", [201, 202, 203, 204])
def test_an_answer_that_is_not_the_file_is_refused(plan: Plan, tmp_path: Path, status: int) -> None:
    plan.answer = (status, "Please\x0bwait")
    with pytest.raises(DownloadError) as raised:
        get(plan, tmp_path / "f")
    assert str(raised.value) == (
        f"{plan.url}/file: HTTP {status} Please wait: expected the file with status 200"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_reason_of_several_lines_is_told_in_one(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looping(*_: object, **__: object) -> None:
        reason = "It would lead to an infinite loop.\nThe last error was:\nFound"
        raise urllib.error.HTTPError(plan.url, 302, reason, Message(), None)

    monkeypatch.setattr("urllib.request.urlopen", looping)
    with pytest.raises(DownloadError, match=r"HTTP 302 It .* loop\. The last error was: Found$"):
        get(plan, tmp_path / "f")


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


def test_416_on_a_complete_part_finishes_it(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise OSError("no more")

    with monkeypatch.context() as patch:
        patch.setattr(download._Download, "finish", failing)
        with pytest.raises(OSError, match="no more"):
            get(plan, tmp_path / "f")
    assert get(plan, tmp_path / "f") == CONTENT
    assert [sent.get("Range") for sent in plan.requests] == [None, f"bytes={len(CONTENT)}-"]


def test_416_does_not_make_a_part_that_broke_off_whole(plan: Plan, tmp_path: Path) -> None:
    """A server or a cache may name the size of the part where it was asked for the rest."""
    plan.extra_length = 10  # the answers break off at the end, 416 names what was received
    with pytest.raises(DownloadError, match="the server gave the file in two sizes"):
        get(plan, tmp_path / "f", retries=1)
    assert not (tmp_path / "f").exists()
    digest = hashlib.sha256(CONTENT).hexdigest()
    assert get(plan, tmp_path / "f", expected_sha256=digest) == CONTENT  # known from elsewhere


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
