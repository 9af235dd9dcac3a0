"""Interrupted preparing is resumed to the same files, wherever and however it stopped."""

import contextlib
import gzip
import io
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crashed_preparing import counted_writes
from kill_while_preparing import STORIES, content, small_notes
from making import names

from fastlm.cli import run
from fastlm.corpus import documents
from fastlm.data import open_prepared, prepare, preparing
from fastlm.data.__main__ import main
from fastlm.files import destination, resumed
from fastlm.files.tokens import TokenWriter
from fastlm.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
END = "<|endoftext|>"
GOING_ON = "going on where an earlier call stopped: "
BEGUN_ANEW = "begun anew: what an earlier call left in "


@pytest.fixture(autouse=True)
def often(monkeypatch) -> None:
    """Blocks and notes of few bytes, so that a small text has many; no disk is waited for."""
    small_notes(monkeypatch.setattr)
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def text_file(folder: Path) -> list[Path]:
    (folder / "a.txt").write_text(END.join(STORIES[:12]))
    return [folder / "a.txt"]


def short_documents(folder: Path) -> list[Path]:
    """Write documents so short that blocks end both with a text and with the end of a document."""
    words = " ".join(STORIES[:12]).split()
    (folder / "a.txt").write_text(END.join(words))
    return [folder / "a.txt"]


def json_lines(folder: Path, stories: list[str] = STORIES[:12]) -> list[Path]:
    (folder / "a.jsonl").write_text("\n".join(json.dumps({"text": story}) for story in stories))
    return [folder / "a.jsonl"]


def packed_json_lines(folder: Path) -> list[Path]:
    (path,) = json_lines(folder)
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    return [folder / "a.jsonl.gz"]


def parquet(folder: Path) -> list[Path]:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"text": STORIES[:12]}), folder / "a.parquet")
    return [folder / "a.parquet"]


def several(folder: Path) -> list[Path]:
    """Write files with many documents, with none, with one, and with a blank last document."""
    (folder / "0.txt").write_text(END.join(STORIES[:5]))
    (folder / "1.txt").write_text(f" \n{END} ")
    json_lines(folder, STORIES[5:6])[0].rename(folder / "2.jsonl")
    (folder / "3.txt").write_text(END.join(STORIES[6:12]) + f"{END}\n")
    return [folder / name for name in ("0.txt", "1.txt", "2.jsonl", "3.txt")]


def folder_of_files(folder: Path) -> list[Path]:
    several(folder)
    return [folder]


def one_document(folder: Path) -> list[Path]:
    """Write one document with characters of several bytes, and with blank lines where cuts fall."""
    (folder / "a.txt").write_text(" 中文 🦊 \n\n".join(STORIES[:9]))
    return [folder / "a.txt"]


def long_documents(folder: Path) -> list[Path]:
    """Write two documents of unequal length, the second of which is cut into the two splits."""
    (folder / "a.txt").write_text(
        END.join("\n".join(part) for part in (STORIES[:2], STORIES[2:12]))
    )
    return [folder / "a.txt"]


def named_splits(folder: Path) -> list[Path]:
    (folder / "train.txt").write_text(END.join(STORIES[:8]))
    (folder / "valid.txt").write_text(END.join(STORIES[8:12]))
    return [folder]


def several_of_each_split(folder: Path) -> list[Path]:
    for i, name in enumerate(("train-0", "train-1", "valid-0", "valid-1")):
        (folder / f"{name}.txt").write_text(END.join(STORIES[3 * i : 3 * i + 3]))
    return sorted(folder.iterdir())


TEXTS = [
    text_file,
    short_documents,
    json_lines,
    packed_json_lines,
    parquet,
    several,
    folder_of_files,
    one_document,
    long_documents,
    named_splits,
    several_of_each_split,
]


@contextlib.contextmanager
def snapshots(folder: Path, moments: Path) -> Iterator[list[tuple[Path, bool]]]:
    """Copies of what a kill would leave: after each array of ids, after each note (True)."""
    taken: list[tuple[Path, bool]] = []

    def snapped(function: Callable, is_note: bool) -> Callable:
        def call(*args):
            result = function(*args)
            taken.append((moments / str(len(taken)), is_note))
            shutil.copytree(folder, taken[-1][0])
            return result

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TokenWriter, "write", snapped(TokenWriter.write, False))
        patch.setattr(
            resumed.ResumedFolder, "write_note", snapped(resumed.ResumedFolder.write_note, True)
        )
        yield taken


@pytest.mark.parametrize(
    ("make", "shard_tokens"),
    [*((make, None) for make in TEXTS), (several, 700), (one_document, 700), (named_splits, 40)],
)
def test_killed_at_any_moment_it_ends_as_if_never_interrupted(
    make, shard_tokens, tmp_path, monkeypatch
):
    (tmp_path / "text").mkdir()
    (tmp_path / "run").mkdir()
    corpus = make(tmp_path / "text")
    options = {"vocab_size": 300, "val_fraction": 0.25, "shard_tokens": shard_tokens}
    with snapshots(tmp_path / "run", tmp_path / "moments") as moments:
        prepare(corpus, tmp_path / "run" / "d", **options)
    whole = content(tmp_path / "run" / "d")
    assert sum(is_note for _, is_note in moments) > 8
    assert not all(is_note for _, is_note in moments)

    n_trained = []
    train = preparing.train_bpe_from_documents
    monkeypatch.setattr(
        preparing,
        "train_bpe_from_documents",
        lambda *a, **k: (n_trained.append(1), train(*a, **k))[1],
    )
    n_encoded = []
    for moment, _ in moments:
        said: list[str] = []
        is_noted = (moment / f"{destination.NOTE}d").exists()
        with counted_writes() as n_written:
            prepare(corpus, moment / "d", say=said.append, **options)
        first = next(line for line in said if not line.startswith("note: "))
        assert first.startswith(GOING_ON if is_noted else BEGUN_ANEW)
        assert content(moment / "d") == whole
        assert [path.name for path in moment.iterdir()] == ["d"]
        n_encoded.append(sum(n_written))
        assert len(n_trained) == n_encoded.count(n_encoded[0])
    data = open_prepared(tmp_path / "run" / "d")
    assert n_encoded[0] == len(data.train.tokens) + len(data.val.tokens)
    assert n_encoded == sorted(n_encoded, reverse=True)
    assert n_encoded[-1] < n_encoded[0] / 4
    assert len(n_trained) < len(moments) / 2


def test_files_that_are_done_are_not_read_again(tmp_path, monkeypatch):
    """Reading takes as long as encoding where there are many cores."""
    (tmp_path / "text").mkdir()
    (tmp_path / "run").mkdir()
    corpus = several_of_each_split(tmp_path / "text")
    with snapshots(tmp_path / "run", tmp_path / "moments") as moments:
        prepare(corpus, tmp_path / "run" / "d", vocab_size=300)
    opened: list[str] = []
    read_blocks = documents.read_blocks

    def reading(path, *args):
        opened.append(path.name)
        return read_blocks(path, *args)

    monkeypatch.setattr(documents, "read_blocks", reading)
    prepare(corpus, moments[-1][0] / "d", vocab_size=300)
    # The first file of each split is opened to see whether there is any text.
    assert opened == ["train-0.txt", "valid-0.txt", "valid-1.txt"]
    opened.clear()
    notes = [path / f"{destination.NOTE}d" for path, is_note in moments if is_note]
    moment = next(note.parent for note in notes if '"place": [\n1,' in note.read_text())
    prepare(corpus, moment / "d", vocab_size=300)
    assert opened == ["train-0.txt", "valid-0.txt", "train-1.txt", "valid-0.txt", "valid-1.txt"]


class Interrupted(BaseException):
    """A BaseException, like KeyboardInterrupt."""


def interrupt(corpus: list[Path], out: Path, after: int = 5, **options) -> list[str]:
    """Prepare until so many arrays are written; returns what was reported."""
    said: list[str] = []
    write = TokenWriter.write
    n = 0

    def failing(self, ids):
        nonlocal n
        n += 1
        if n > after:
            raise Interrupted
        return write(self, ids)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TokenWriter, "write", failing)
        with pytest.raises(Interrupted):
            prepare(corpus, out, say=said.append, **({"vocab_size": 300} | options))
    return said


def test_what_an_error_leaves_is_said_and_gone_on_with(tmp_path):
    (tmp_path / "text").mkdir()
    corpus = text_file(tmp_path / "text")
    out = tmp_path / "d"
    said = interrupt(corpus, out)
    kept = f"what is done is kept beside {out}: the same command goes on from there"
    assert said[-1] == kept
    assert names(tmp_path) == [f"{destination.NOTE}d", f"{destination.UNFINISHED}d", "text"]
    with counted_writes() as n_written:
        said = interrupt(corpus, out, after=3)
    assert said[0].startswith(GOING_ON)
    assert len(n_written) == 3  # those of the first call were kept to the last array
    prepare(corpus, out, vocab_size=300)
    prepare(corpus, tmp_path / "whole", vocab_size=300)
    assert content(out) == content(tmp_path / "whole")
    assert names(tmp_path) == ["d", "text", "whole"]


def test_ctrl_c_is_two_lines_and_the_same_command_goes_on(tmp_path, monkeypatch, capsys):
    (tmp_path / "text").mkdir()
    words = ["prepare", *map(str, text_file(tmp_path / "text")), "--vocab-size", "300"]
    words += ["--out", str(tmp_path / "d")]
    write = TokenWriter.write
    n_written = []

    def interrupted(self, ids):
        n_written.append(len(ids))
        if len(n_written) == 6:
            os.kill(os.getpid(), signal.SIGINT)
        return write(self, ids)

    monkeypatch.setattr(TokenWriter, "write", interrupted)
    with pytest.raises(SystemExit) as stop:
        run(lambda: main(words))
    assert stop.value.code == 130
    assert capsys.readouterr().err.splitlines()[-2:] == [
        f"what is done is kept beside {tmp_path}/d: the same command goes on from there",
        "interrupted",
    ]
    main(words)
    assert capsys.readouterr().err.startswith(GOING_ON)
    data = open_prepared(tmp_path / "d")
    n_tokens = len(data.train.tokens) + len(data.val.tokens)
    assert sum(n_written) - n_written[5] == n_tokens  # it had not begun to be written


def test_a_folder_may_be_prepared_into_itself(tmp_path):
    """The unfinished folder inside it has a merges.txt, which must not be read as a text."""
    for name in ("text", "whole"):
        (tmp_path / name).mkdir()
        several(tmp_path / name)
    prepare(tmp_path / "whole", tmp_path / "d", vocab_size=300)
    interrupt([tmp_path / "text"], tmp_path / "text" / "d")
    said: list[str] = []
    prepare(tmp_path / "text", tmp_path / "text" / "d", vocab_size=300, say=said.append)
    assert said[0].startswith(GOING_ON)
    for name in ("train.bin", "val.bin"):
        assert (tmp_path / "text" / "d" / name).read_bytes() == (tmp_path / "d" / name).read_bytes()


def test_what_was_begun_in_the_current_folder_goes_on_from_another(tmp_path, monkeypatch):
    (tmp_path / "text").mkdir()
    (tmp_path / "d").mkdir()
    corpus = text_file(tmp_path / "text")
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path / "d")
        said = interrupt(corpus, Path())
    assert said[-1] == "what is done is kept in .: the same command goes on from there"
    said = interrupt(corpus, tmp_path / "d", after=1)
    assert said[0].startswith(GOING_ON)
    assert said[-1].startswith(f"what is done is kept in {tmp_path}/d: ")
    prepare(corpus, tmp_path / "d", vocab_size=300)
    assert names(tmp_path / "d") == ["meta.json", "tokenizer", "train.bin", "val.bin"]
    assert names(tmp_path) == ["d", "text"]


def test_interrupted_before_there_is_a_tokenizer_nothing_stays(tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("fastlm.data.preparing.train_bpe_from_documents", interrupted)
    (tmp_path / "text").mkdir()
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        prepare(text_file(tmp_path / "text"), tmp_path / "d", vocab_size=300, say=said.append)
    assert said[1:] == ["training a tokenizer of 300 entries"]
    assert names(tmp_path) == ["text"]


def touch(path: Path) -> None:
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))


def put_another_in_place(path: Path) -> None:
    stat = path.stat()
    shutil.copy(path, path.with_suffix(".new"))
    os.utime(path.with_suffix(".new"), ns=(stat.st_atime_ns, stat.st_mtime_ns))
    path.with_suffix(".new").replace(path)


def edit_in_place(path: Path) -> None:
    """Exchange two letters, and set the time back, as cp -p does."""
    stat = path.stat()
    path.write_text(path.read_text().translate(str.maketrans("st", "ts")))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def note_path(text: Path) -> Path:
    return text.parents[1] / f"{destination.NOTE}d"


def tokens_path(text: Path) -> Path:
    return text.parents[1] / f"{destination.UNFINISHED}d" / "train.bin"


def change_note(text: Path, **values: object) -> None:
    note_path(text).write_text(json.dumps(json.loads(note_path(text).read_text()) | values))


CHANGES: dict[str, tuple[Callable[[Path], object], dict, str]] = {
    "time": (touch, {}, "is of another text, or the text has changed"),
    "inode": (put_another_in_place, {}, "is of another text, or the text has changed"),
    "edited in place": (edit_in_place, {}, "is of another text, or the text has changed"),
    "text": (
        lambda path: path.write_text(path.read_text() + "more"),
        {},
        "is of another text, or the text has changed",
    ),
    "options": (
        lambda path: None,
        {"vocab_size": 310, "val_fraction": 0.5},
        "was begun with another vocab_size, val_fraction",
    ),
    "shards": (lambda path: None, {"shard_tokens": 99}, "was begun with another shard_tokens"),
    "no note": (lambda path: note_path(path).unlink(), {}, "has no note that can be read"),
    "broken note": (lambda path: note_path(path).write_text("{"), {}, "has no note that can be"),
    "odd note": (lambda path: change_note(path, splits=[]), {}, "has no note that can be read"),
    "version": (lambda path: change_note(path, format=0), {}, "is of another version of fastlm"),
    "ids changed": (
        lambda path: tokens_path(path).write_bytes(b"xyz" + tokens_path(path).read_bytes()[3:]),
        {},
        r"train\.bin does not hold the ids that were noted",
    ),
    "ids gone": (lambda path: tokens_path(path).unlink(), {}, "does not hold the ids that were"),
    "tokenizer": (
        lambda path: change_note(path, tokenizer_hash="ab"),
        {},
        "has another tokenizer than its note says",
    ),
    "no tokenizer": (
        lambda path: shutil.rmtree(tokens_path(path).parent / "tokenizer"),
        {},
        "expected a tokenizer in",
    ),
}


@pytest.mark.parametrize(("change", "options", "message"), CHANGES.values(), ids=CHANGES)
def test_what_does_not_match_is_begun_anew_and_said(change, options, message, tmp_path):
    (tmp_path / "text").mkdir()
    corpus = text_file(tmp_path / "text")
    interrupt(corpus, tmp_path / "d")
    change(corpus[0])
    said: list[str] = []
    options = {"vocab_size": 300} | options
    prepare(corpus, tmp_path / "d", say=said.append, **options)
    assert said[0].startswith(f"{BEGUN_ANEW}{tmp_path}/{destination.UNFINISHED}d ")
    assert re.search(message, said[0])
    assert sum(line.startswith(BEGUN_ANEW) for line in said) == 1
    prepare(corpus, tmp_path / "whole", **options)
    assert content(tmp_path / "d") == content(tmp_path / "whole")
    assert names(tmp_path) == ["d", "text", "whole"]


def test_a_text_that_changes_meanwhile_is_refused_and_nothing_stays(tmp_path):
    (tmp_path / "text").mkdir()
    corpus = text_file(tmp_path / "text")

    def report(line: str) -> None:
        if line == "encoding val.bin":
            touch(corpus[0])

    with pytest.raises(ValueError, match="must stay as they are while they are prepared"):
        prepare(corpus, tmp_path / "d", vocab_size=300, say=report)
    assert names(tmp_path) == ["text"]


def test_a_validation_text_without_documents_is_refused_before_the_work(tmp_path):
    named_splits(tmp_path)
    (tmp_path / "valid.txt").write_text(" \n")
    said: list[str] = []
    with pytest.raises(ValueError, match=r"valid\.txt holds no documents"):
        prepare(tmp_path, tmp_path / "d", vocab_size=300, say=said.append)
    assert said == []


def test_bad_text_met_late_leaves_nothing(tmp_path):
    (tmp_path / "a.txt").write_bytes(END.join(STORIES[:9]).encode() + b"\xff")
    with pytest.raises(ValueError, match="got an invalid byte at offset"):
        prepare(tmp_path / "a.txt", tmp_path / "d", vocab_size=300)
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_threads": 0}, "n_threads must be at least 1: got 0"),
        ({"val_fraction": 0.7}, r"val_fraction must lie in \(0, 0.5\]: got 0.7"),
        ({"shard_tokens": 0}, "shard_tokens must be at least 1: got 0"),
        ({"text_field": "body"}, "expected a JSON object with a field 'body'"),
    ],
)
def test_a_wrong_argument_costs_nothing_of_what_was_done(wrong, message, tmp_path):
    (tmp_path / "text").mkdir()
    corpus = json_lines(tmp_path / "text")
    interrupt(corpus, tmp_path / "d")
    kept = names(tmp_path)
    with pytest.raises(ValueError, match=message):
        prepare(corpus, tmp_path / "d", **({"vocab_size": 300} | wrong))
    assert names(tmp_path) == kept
    said: list[str] = []
    prepare(corpus, tmp_path / "d", vocab_size=300, say=said.append)
    assert said[0].startswith(GOING_ON)


def test_a_tokenizer_that_cannot_be_used_costs_nothing_of_what_was_done(tmp_path):
    (tmp_path / "text").mkdir()
    corpus = text_file(tmp_path / "text")
    Tokenizer({i: bytes([i]) for i in range(256)}, []).save(tmp_path / "t")
    interrupt(corpus, tmp_path / "d")
    kept = names(tmp_path)
    with pytest.raises(ValueError, match=r"the tokenizer in .*t has no <\|endoftext\|> token"):
        prepare(corpus, tmp_path / "d", vocab_size=300, tokenizer=tmp_path / "t")
    assert names(tmp_path) == kept


def test_an_error_that_is_not_of_the_texts_leaves_the_work(tmp_path, monkeypatch):
    (tmp_path / "text").mkdir()
    corpus = text_file(tmp_path / "text")
    interrupt(corpus, tmp_path / "d")

    def failing(self, ids):
        raise ValueError("something else")

    with monkeypatch.context() as patch:
        patch.setattr(TokenWriter, "write", failing)
        with pytest.raises(ValueError, match="something else"):
            prepare(corpus, tmp_path / "d", vocab_size=300)
    assert names(tmp_path) == [f"{destination.NOTE}d", f"{destination.UNFINISHED}d", "text"]


def test_a_name_that_is_not_utf8_is_no_hindrance(tmp_path):
    (tmp_path / "text").mkdir()
    corpus = text_file(tmp_path / "text")
    path = corpus[0].rename(tmp_path / "text" / os.fsdecode(b"caf\xe9.txt"))
    interrupt([path], tmp_path / "d")
    said: list[str] = []
    prepare([path], tmp_path / "d", vocab_size=300, say=said.append)
    assert said[0].startswith(GOING_ON)
    prepare([path], tmp_path / "d", vocab_size=300, say=said.append)
    assert said[-1] == f"data in {tmp_path}/d is up to date"


def test_a_full_disk_is_gone_on_with_when_there_is_room(tmp_path):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text(END.join(STORIES * 4))
    corpus = [tmp_path / "text" / "a.txt"]
    prepare(corpus, tmp_path / "whole", vocab_size=300)
    n_bytes = (tmp_path / "whole" / "train.bin").stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    said: list[str] = []
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes - 1, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            prepare(corpus, tmp_path / "d", vocab_size=300, say=said.append)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "the same command goes on from there" in said[-1]
    with counted_writes() as n_written:
        prepare(corpus, tmp_path / "d", vocab_size=300)
    assert content(tmp_path / "d") == content(tmp_path / "whole")
    assert sum(n_written) < n_bytes / 4


def command(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fastlm.data", "prepare", *map(str, words), "--vocab-size", "300"],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_second_process_is_refused_and_harms_nothing(tmp_path):
    (tmp_path / "text").mkdir()
    corpus = text_file(tmp_path / "text")
    answers = []

    def report(line: str) -> None:
        if line == "encoding val.bin":
            answers.append(command(*corpus, "--out", tmp_path / "d"))
            answers.append(command("-", "--out", tmp_path / "d"))

    prepare(corpus, tmp_path / "d", vocab_size=300, say=report)
    for done in answers:
        assert done.returncode == 2
        line = done.stderr
        assert f"error: {tmp_path}/d is being made by process {os.getpid()} " in line
        assert line.count("\n") == 1
    assert len(answers) == 2
    prepare(corpus, tmp_path / "whole", vocab_size=300)
    assert content(tmp_path / "d") == content(tmp_path / "whole")
    assert command(*corpus, "--out", tmp_path / "d").stderr.startswith(
        f"data in {tmp_path}/d is up to date"
    )


def prepare_stdin(data: bytes, out: Path, *, after: int | None = None) -> list[str]:
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        if after is not None:
            return interrupt([Path("-")], out, after)
        prepare([Path("-")], out, vocab_size=300, say=said.append)
    return said


def test_standard_input_is_read_again_and_gone_on_with_if_it_is_the_same(tmp_path):
    text = END.join(STORIES[:12]).encode()
    prepare_stdin(text, tmp_path / "whole")
    prepare_stdin(text, tmp_path / "d", after=5)
    said = prepare_stdin(text, tmp_path / "d")
    assert said[0] == "reading standard input"
    assert said[1].startswith(GOING_ON)
    assert content(tmp_path / "d") == content(tmp_path / "whole")
    prepare_stdin(text, tmp_path / "other", after=5)
    said = prepare_stdin(text[:-1], tmp_path / "other")
    assert "is of another text, or the text has changed" in said[1]
    assert names(tmp_path) == ["d", "other", "whole"]


def test_twenty_kills_at_random_moments_lose_nothing(tmp_path):
    """kill_while_preparing.py has the processes; soak_data.py more of them."""
    done = subprocess.run(
        [sys.executable, ROOT / "tests/support/kill_while_preparing.py", tmp_path, "20", "0"],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    n_resumed, n_finished = map(int, done.stdout.split())
    print(f"20 kills, {n_resumed} calls went on with what was left, {n_finished} finished")
    assert n_resumed > 1  # the moments are random, the speed of the machine is not known


def test_a_closed_standard_input_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ValueError, match="expected a text on standard input, but it is closed"):
        prepare([Path("-")], tmp_path / "d", vocab_size=300)
    assert list(tmp_path.iterdir()) == []
