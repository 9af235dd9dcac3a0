"""Claims about what a server answers: no two versions are joined, and no part is called whole."""

import io
import warnings
from email.message import Message
from pathlib import Path
from urllib.response import addinfourl

import pytest
from file_server import Reply, serve_replies

from fastlm.cli import run
from fastlm.corpus.__main__ import main
from fastlm.corpus.answer import read_range
from fastlm.corpus.download import DownloadError, fetch

A, B = (b"".join(b"line %04d of %s\n" % (i, name) for i in range(40)) for name in (b"A", b"B"))
N, CUT = len(A), 200
ONE, TWO, WEAK = 'ETag: "one"', 'ETag: "two"', 'ETag: W/"one"'
MODIFIED = "Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT"
CHUNKED = "Transfer-Encoding: chunked"


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dozens of small files take longest to be flushed, and no test here needs that."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


def whole(content: bytes, *lines: str) -> Reply:
    return "200 OK", [f"Content-Length: {len(content)}", *lines], content


def broken(*lines: str) -> Reply:
    """The first CUT bytes of A, after the size of all of it."""
    return "200 OK", [f"Content-Length: {N}", *lines], A[:CUT]


def open_ended(content: bytes, *lines: str) -> Reply:
    """An answer whose end is that of the connection."""
    return "200 OK", list(lines), content


def part(content: bytes, first: int, end: int, *lines: str, size: object = N) -> Reply:
    span = f"Content-Range: bytes {first}-{end - 1}/{size}"
    return "206 Partial Content", [span, *lines], content[first:end]


def no_range(*lines: str) -> Reply:
    return "416 Range Not Satisfiable", ["Content-Length: 0", *lines], b""


def chunks(content: bytes, *lines: str, is_whole: bool = True) -> Reply:
    pieces = [content[i : i + 50] for i in range(0, len(content), 50)]
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return "200 OK", [CHUNKED, *lines], body + b"0\r\n\r\n" * is_whole


def get(replies: list[Reply], out: Path, **options: object) -> tuple[bytes, list[str]]:
    """Fetch what a server answers; return it with the ranges that were asked for."""
    with serve_replies(replies) as (url, asked):
        options = {"retries": 3, "first_wait": 0.0, **options}
        content = fetch(f"{url}/f", out / "f", **options).read_bytes()  # type: ignore[arg-type]
    assert sorted(path.name for path in out.iterdir()) == ["f", "sources.json"]
    return content, asked


def refusal(replies: list[Reply], out: Path, **options: object) -> str:
    """Return the error of a fetch, which has left no file."""
    with pytest.raises(DownloadError) as raised:
        get(replies, out, **options)
    assert not (out / "f").exists()
    assert "\n" not in str(raised.value)
    return str(raised.value).split("/f: ", 1)[1]


RESTS = {
    "without Last-Modified": ([MODIFIED], part(B, CUT, N)),
    "without both": ([ONE, MODIFIED], part(B, CUT, N)),
    "without the ETag": ([ONE, MODIFIED], part(B, CUT, N, MODIFIED)),
    "with a weak ETag only": ([WEAK, MODIFIED], part(B, CUT, N, WEAK)),
    "with another ETag": ([ONE], part(B, CUT, N, TWO)),
    "with another Last-Modified": ([MODIFIED], part(B, CUT, N, MODIFIED.replace("21", "22"))),
    "of another size": ([ONE], part(B, CUT, N, ONE, size=N + 1)),
    "from a later byte": ([ONE], part(B, CUT + 1, N, ONE)),
    "without its range": ([ONE], ("206 Partial Content", [ONE], B[CUT:])),
    "with two ranges": ([ONE], part(B, CUT, N, ONE, f"Content-Range: bytes {CUT}-{N - 1}/{N}")),
    "in lines": ([ONE], ("206 X", [f"Content-Range: lines {CUT}-{N - 1}/{N}", ONE], B[CUT:])),
    "of another length": ([ONE], part(B, CUT, N, ONE, f"Content-Length: {N}")),
    "past its size": ([ONE], part(B, CUT, N, ONE, size=N - 1)),
    "longer than its range": ([ONE], ("206 X", [*part(B, CUT, N - 9, ONE)[1]], B[CUT:])),
    "as a whole file": ([ONE], whole(B[CUT:], ONE)),
    "as a whole file without a length": ([ONE], open_ended(B[CUT:], ONE)),
    "of another version as a whole file": ([ONE], whole((B + B)[CUT : CUT + N], TWO)),
    "in several parts": ([ONE], ("206 X", ["Content-Type: multipart/byteranges"], B[CUT:])),
    "refused by 412": ([ONE], ("412 Precondition Failed", [], b"")),
    "refused by 416": ([ONE], no_range()),
    "refused by 416 with its size": ([ONE], no_range(f"Content-Range: bytes */{N}")),
    "refused by 416 with that of the part": ([ONE], no_range(f"Content-Range: bytes */{CUT}")),
}


@pytest.mark.parametrize("name", RESTS)
def test_a_rest_that_is_not_shown_to_be_of_the_file_is_not_joined(
    tmp_path: Path, name: str
) -> None:
    lines, rest = RESTS[name]
    content, asked = get([broken(*lines), rest, whole(B, TWO)], tmp_path)
    assert content == B
    assert asked == ["", f"bytes={CUT}-", ""]


JOINED = {
    "with its ETag": ([ONE, MODIFIED], [part(A, CUT, N, ONE)]),
    "with its Last-Modified": ([MODIFIED], [part(A, CUT, N, MODIFIED)]),
    "with both, of which one is weak": ([WEAK, MODIFIED], [part(A, CUT, N, WEAK, MODIFIED)]),
    "from an earlier byte": ([ONE], [part(A, CUT - 50, N, ONE)]),
    "in pieces": ([ONE], [part(A, CUT, 300, ONE), part(A, 300, N, ONE)]),
    "with status 200": ([ONE], [("200 OK", part(A, CUT, N, ONE)[1], A[CUT:])]),
    "without the unit": ([ONE], [("206 X", [ONE, f"Content-Range: {CUT}-{N - 1}/{N}"], A[CUT:])]),
    "as the whole range": ([ONE], [part(A, 0, N, ONE)]),
}


@pytest.mark.parametrize("name", JOINED)
def test_a_rest_of_the_same_version_is_joined(tmp_path: Path, name: str) -> None:
    lines, rests = JOINED[name]
    content, asked = get([broken(*lines), *rests], tmp_path)
    assert content == A
    assert len(asked) == 1 + len(rests)


CUT_SHORT = {
    "after another range": [part(A, CUT + 1, N, ONE), open_ended(A[:CUT], ONE)],
    "after a rest without the ETag": [part(A, CUT, N), open_ended(A[:CUT], ONE)],
    "after 416": [no_range(), open_ended(A[:CUT], ONE)],
    "after 416 with another size": [no_range("Content-Range: bytes */9"), open_ended(A[:CUT])],
    "after 416 with the part's": [no_range(f"Content-Range: bytes */{CUT}"), open_ended(A[:CUT])],
    "with another ETag": [open_ended(A[:CUT], TWO)],
    "with the same ETag and a size": [whole(A[:300], ONE)],
    "with a size and no ETag": [whole(A[:300])],
    "in chunks": [chunks(A[:300], ONE)],
}


@pytest.mark.parametrize("name", CUT_SHORT)
def test_a_size_that_was_told_holds_for_the_whole_call(tmp_path: Path, name: str) -> None:
    error = refusal([broken(ONE), *CUT_SHORT[name]], tmp_path)
    assert error.partition(" after ")[0] in (
        "the server did not tell the size of its answer",
        f"the server gave the file in two sizes, {N} and 300 bytes",
        f"the body ended at byte {CUT} of {N}",
        f"the body ended at byte 300 of {N}",
    )
    assert "; run again to " in error


@pytest.mark.parametrize("changed", [whole(B + B, TWO), chunks(B + B, TWO), whole(B[:90], TWO)])
def test_a_file_that_changed_is_fetched_anew(tmp_path: Path, changed: Reply) -> None:
    content, asked = get([broken(ONE), changed], tmp_path)
    assert content in (B + B, B[:90])
    assert asked == ["", f"bytes={CUT}-", ""]


def test_a_server_that_changed_its_mind_is_believed_by_the_next_call(tmp_path: Path) -> None:
    """The same ETag with another size is an error once, and not for ever."""
    replies = [broken(ONE), whole(B[:300], ONE)]
    assert "two sizes" in refusal(replies, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert get(replies[1:], tmp_path)[0] == B[:300]


def test_a_part_outlives_answers_that_are_of_no_version(tmp_path: Path) -> None:
    """A log-in page with status 200 has another size, and no ETag."""
    with serve_replies([broken(ONE), *[whole(b"log in")] * 3, part(A, CUT, N, ONE)]) as (url, _):
        with pytest.raises(DownloadError, match=r"go on from byte 200, or remove .*f\.part to beg"):
            fetch(f"{url}/f", tmp_path / "f", retries=3, first_wait=0.0)
        assert fetch(f"{url}/f", tmp_path / "f", retries=0).read_bytes() == A


def test_a_size_that_a_rest_told_holds_for_the_next_call(tmp_path: Path) -> None:
    first = [chunks(A[:CUT], ONE, is_whole=False), part(A, CUT, 300, ONE), part(A, CUT, 300)]
    later = [no_range("Content-Range: bytes */300"), open_ended(A[:300], ONE)]
    with serve_replies([*first, *later]) as (url, _):
        with pytest.raises(DownloadError, match=r"not show that .* go on from byte 300, or remove"):
            fetch(f"{url}/f", tmp_path / "f", retries=1, first_wait=0.0)
        with pytest.raises(DownloadError, match=f"the body ended at byte 300 of {N} after"):
            fetch(f"{url}/f", tmp_path / "f", retries=1, first_wait=0.0)


UNTOLD = {
    "a first range": [part(A, 0, CUT, ONE, size="*")],
    "ranges": [chunks(A[:CUT], ONE, is_whole=False), part(A, CUT, 300, ONE, size="*")],
    "chunks and 416": [
        chunks(A[:CUT], ONE, is_whole=False),
        no_range(f"Content-Range: bytes */{CUT}"),
    ],
    "chunks and less": [chunks(A[:CUT], is_whole=False), chunks(A[:90])],
    "chunks and a smaller size": [chunks(A[:CUT], is_whole=False), whole(A[:90])],
    "chunks and no size": [chunks(A[:CUT], is_whole=False), open_ended(A[:300])],
    "nothing": [open_ended(b"")],
}


@pytest.mark.parametrize("name", UNTOLD)
def test_bytes_of_a_file_of_unknown_size_are_not_called_whole(tmp_path: Path, name: str) -> None:
    assert refusal(UNTOLD[name], tmp_path)


def test_the_end_of_ranges_without_a_size_is_confirmed(tmp_path: Path) -> None:
    ranges = [part(A, 0, 300, ONE, size="*"), part(A, 300, N, ONE, size="*")]
    content, asked = get([*ranges, no_range(f"Content-Range: bytes */{N}")], tmp_path)
    assert content == A
    assert asked == ["", "bytes=300-", f"bytes={N}-"]


LENGTHS = ["36kB", "-1", "", "+600", "6_00", "10,240", "\u00b2", "9" * 5000]


@pytest.mark.parametrize("length", [*LENGTHS, "5\r\nContent-Length: 600"])
def test_a_length_that_is_none_is_refused(tmp_path: Path, length: str) -> None:
    reply = ("200 OK", [f"Content-Length: {length}"], A[:300])
    error = refusal([reply], tmp_path)
    assert error.startswith("expected the number of bytes of the file, got a Content-Length of ")
    assert error.endswith("; try another mirror, or without a proxy")
    assert list(tmp_path.iterdir()) == []


def test_a_size_known_from_elsewhere_stands_for_a_length_that_is_none(tmp_path: Path) -> None:
    reply, short = (("200 OK", ["Content-Length: 36kB"], body) for body in (A, A[:300]))
    assert get([short, reply], tmp_path, expected_bytes=N)[0] == A


@pytest.mark.parametrize("coding", ["gzip, chunked", "chunked ", "chunked\r\nTransfer-Encoding: x"])
def test_chunks_that_would_not_be_taken_apart_are_refused(tmp_path: Path, coding: str) -> None:
    reply = ("200 OK", [f"Transfer-Encoding: {coding}"], chunks(A)[2])
    assert "with Transfer-Encoding" in refusal([reply], tmp_path, retries=0)


def test_a_length_beside_chunks_is_passed_over(tmp_path: Path) -> None:
    assert get([chunks(A, "Content-Length: 12")], tmp_path)[0] == A


def test_an_answer_that_tells_no_size_at_all_is_taken_with_a_warning(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"did not tell the size .* compare the 600 bytes"):
        assert get([open_ended(A)], tmp_path)[0] == A
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (tmp_path / "g").mkdir()
        assert get([open_ended(A[:300]), open_ended(A)], tmp_path / "g", expected_bytes=N)[0] == A


def test_a_header_that_broke_off_is_asked_for_again(tmp_path: Path) -> None:
    assert get([("200 OK", [], b""), whole(A)], tmp_path)[0] == A


def test_last_modified_of_the_very_second_joins_nothing(tmp_path: Path) -> None:
    """The file may have changed again in that second."""
    date = MODIFIED.replace("Last-Modified", "Date")
    replies = [broken(MODIFIED, date), part(B, CUT, N, MODIFIED), whole(B, MODIFIED)]
    assert get(replies, tmp_path) == (B, ["", "", ""])


@pytest.mark.parametrize("target", ["http://[x/", "http://x:y/", "http://a b/", "ftp://x:y/"])
def test_a_redirect_to_nowhere_is_told_in_one_line(tmp_path: Path, target: str) -> None:
    assert refusal([("302 Found", [f"Location: {target}"], b"")], tmp_path, retries=0)


def test_a_redirect_to_another_protocol_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """urllib follows redirects to FTP, whose answers have no status and no length to rely on."""

    def redirected(*_: object, **__: object) -> object:
        return addinfourl(io.BytesIO(A), Message(), "ftp://example.org/f")

    monkeypatch.setattr("urllib.request.urlopen", redirected)
    assert refusal([], tmp_path) == (
        "expected the file over HTTP, was redirected to ftp://example.org/f"
    )


def test_the_command_tells_it_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serve_replies([("200 OK", ["Content-Length: 36kB"], A)]) as (url, _):
        with pytest.raises(SystemExit) as stop:
            run(lambda: main(["tinystories", "--out", str(tmp_path / "d"), "--base-url", url]))
        line = capsys.readouterr().err
    assert stop.value.code == 2
    assert line.startswith(f"error: {url}/")
    assert line.count("\n") == 1
    assert not (tmp_path / "d" / "train.txt").exists()


def test_the_wait_that_a_server_asks_for_is_told(tmp_path: Path) -> None:
    busy = ("503 Busy", ["Retry-After: 120", "Content-Length: 0"], b"")
    assert refusal([busy], tmp_path, retries=0) == (
        "HTTP 503 Busy (Retry-After: 120) after 1 attempt(s) in a row"
    )


def test_ranges_are_read_in_the_forms_that_servers_write() -> None:
    read = {
        "bytes 5-8/10": (5, 9, 10),
        "Bytes=5-8/*": (5, 9, None),
        "bytes: 5-8/10": (5, 9, 10),
        " 5-8/10 ": (5, 9, 10),
        "bytes */10": (None, None, 10),
        "lines 5-8/10": (None, None, None),
        "bytesx 5-8/10": (None, None, None),
        "bytes 5-/10": (None, None, None),
        "bytes 5-8": (None, None, None),
        "bytes 5-\u0664/10": (None, None, None),
        "bytes 5-8/10, bytes 5-8/10": (None, None, None),
        "bytes 5-8/" + "9" * 5000: (None, None, None),
    }
    assert {header: read_range(header) for header in read} == read
