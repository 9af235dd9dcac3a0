"""Token files: calls that write them in turn, shards with the same examples, damage reported."""

import contextlib
import hashlib
import json
import resource
import shutil
from collections import deque
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from short_runs import assert_same_weights, config, interrupted_after, losses

from fastlm.data import open_prepared, prepare
from fastlm.data.windows import batches, get_batch, take_windows, window_starts
from fastlm.evaluate import evaluate_loss
from fastlm.files import notes
from fastlm.files.notes import End, NoteTimes, write_noted
from fastlm.files.tokens import ShardedTokens, TokenWriter, Written, open_single
from fastlm.train import train

SHARD_TOKENS = 1009


@pytest.fixture(scope="module")
def text(data: Path) -> Path:
    """Return the folder with the texts of the fixture `data`."""
    return data.parent


@pytest.fixture(scope="module")
def sharded(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    for name in ("train.txt", "valid.txt"):
        shutil.copy(text / name, folder)
    return prepare(folder, folder / "d", vocab_size=400, shard_tokens=SHARD_TOKENS)


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    picks=st.lists(st.integers(0, 10**6), max_size=12),
    n_columns=st.integers(1, 3),
)
@settings(deadline=None, max_examples=40)
def test_shards_are_indexed_as_the_one_array_they_are(lengths, picks, n_columns):
    whole = np.arange(100, 100 + sum(lengths), dtype=np.uint16)
    tokens = ShardedTokens(np.split(whole, np.cumsum(lengths)[:-1]))
    n = len(whole)
    assert len(tokens) == n
    assert tokens.shape == whole.shape
    assert tokens.dtype == whole.dtype
    assert np.array_equal(np.asarray(tokens), whole)
    assert np.asarray(tokens, np.int64).dtype == np.int64
    for begin in range(-n - 1, n + 2):
        for end in range(-n - 1, n + 2):
            assert np.array_equal(tokens[begin:end], whole[begin:end])
    assert np.array_equal(tokens[::-2], whole[::-2])
    assert np.array_equal(tokens[:], whole)
    for i in range(-n, n):
        assert tokens[i] == whole[i]
    places = np.array([pick % n for pick in picks], np.int64)
    assert np.array_equal(tokens[places], whole[places])
    table = np.resize(places, (len(places), n_columns)).T if len(places) else places
    assert np.array_equal(tokens[table], whole[table])
    assert tokens[table].dtype == whole.dtype
    for outside in (n, -n - 1, np.array([0, n])):
        with pytest.raises(IndexError, match=f"there are {n} tokens"):
            tokens[outside]
    with pytest.raises(TypeError, match="indexed by integers or slices"):
        tokens[1.5]  # type: ignore[call-overload]


def test_files_of_shards_are_the_one_file_cut(data, sharded):
    for split in ("train", "val"):
        files = sorted(sharded.glob(f"{split}-*.bin"))
        sizes = [file.stat().st_size // 2 for file in files]
        assert files[0].name == f"{split}-00000.bin"
        assert all(size == SHARD_TOKENS for size in sizes[:-1])
        assert 0 < sizes[-1] <= SHARD_TOKENS
        assert b"".join(file.read_bytes() for file in files) == (data / f"{split}.bin").read_bytes()
    assert len(list(sharded.glob("train-*.bin"))) > 10
    assert not list(sharded.glob("train.bin"))
    whole, parts = open_prepared(data), open_prepared(sharded)
    assert parts.train.hash == whole.train.hash  # what a run goes on with may be either
    assert parts.tokenizer_hash == whole.tokenizer_hash
    assert parts.train.text_bytes == whole.train.text_bytes
    parts.verify()


SIZES = [[5], [3, 3], [0, 3, 0, 7], [], [4, 4, 4]]


def cut(sizes: list[int]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Ids, and the same in arrays of these sizes."""
    whole = np.arange(sum(sizes), dtype=np.uint16)
    return whole, np.split(whole, np.cumsum(sizes)[:-1]) if sizes else []


def assert_written(folder: Path, facts: dict, whole: np.ndarray, shard_tokens: int | None) -> None:
    """The folder has the files of the ids, cut at every shard_tokens, and facts that are true."""
    step = shard_tokens or 1000
    expected = [whole[i : i + step] for i in range(0, max(len(whole), 1), step)]
    names = ["a.bin"] if shard_tokens is None else [f"a-{i:05}.bin" for i in range(len(expected))]
    assert sorted(path.name for path in folder.iterdir()) == names
    files = facts.get("shards", [facts])
    assert [file["file"] for file in files] == names
    for file, part in zip(files, expected, strict=True):
        raw = part.astype("<u4").tobytes()
        assert (folder / file["file"]).read_bytes() == raw
        assert file["count"] == len(part)
        assert file["sha256"] == hashlib.sha256(raw).hexdigest()
    assert (facts["dtype"], facts["count"]) == ("uint32", len(whole))
    assert facts["sha256"] == hashlib.sha256(whole.astype("<u4").tobytes()).hexdigest()


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("shard_tokens", [1, 2, 4, 5, 100, None])
def test_writing_does_not_depend_on_the_arrays(sizes, shard_tokens, tmp_path):
    whole, arrays = cut(sizes)
    writer = TokenWriter(tmp_path / "a.bin", dtype="uint32", shard_tokens=shard_tokens)
    for array in arrays:
        writer.write(array)
    assert_written(tmp_path, writer.finish(), whole, shard_tokens)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("shard_tokens", [1, 2, 4, 5, 100, None])
def test_a_writer_goes_on_behind_any_ids_of_an_earlier_one(sizes, shard_tokens, tmp_path):
    """The earlier one wrote more by then, or less, or all."""
    whole, arrays = cut(sizes)
    options = {"dtype": "uint32", "shard_tokens": shard_tokens}
    for n_noted in range(len(arrays) + 1):
        for n_written in range(n_noted, len(arrays) + 1):
            folder = tmp_path / f"{n_noted}-{n_written}"
            folder.mkdir()
            earlier = TokenWriter(folder / "a.bin", **options)
            written = [earlier.written, *map(earlier.write, arrays[:n_written])]
            if n_written < len(arrays):
                earlier.close()
            else:
                earlier.finish()
            later = TokenWriter(folder / "a.bin", after=written[n_noted], **options)
            assert later.written == written[n_noted]
            for array in arrays[n_noted:]:
                later.write(array)
            assert_written(folder, later.finish(), whole, shard_tokens)
            # One that writes nothing more leaves nothing of what lay behind.
            n_kept = written[n_noted].n_ids
            last = TokenWriter(folder / "a.bin", after=written[n_noted], **options)
            if n_kept:
                assert_written(folder, last.finish(), whole[:n_kept], shard_tokens)


@pytest.mark.parametrize("shard_tokens", [None, 4])
@pytest.mark.parametrize("damage", ["changed", "cut", "missing"])
def test_ids_that_are_not_as_noted_are_not_gone_on_with(shard_tokens, damage, tmp_path):
    options = {"dtype": "uint16", "shard_tokens": shard_tokens}
    writer = TokenWriter(tmp_path / "a.bin", **options)
    written = writer.write(np.arange(9, dtype=np.uint16))
    writer.close()
    path = sorted(tmp_path.iterdir())[0]
    raw = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(raw[:-1] if damage == "cut" else b"x" + raw[1:])
    with pytest.raises(ValueError, match=r"a\.bin does not hold the ids that were noted"):
        TokenWriter(tmp_path / "a.bin", after=written, **options)


def test_a_disk_that_takes_no_more_leaves_whole_arrays(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer = TokenWriter(tmp_path / "a.bin", dtype="uint16")
    ids = np.arange(6000, dtype=np.uint16)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))
    try:
        written = [writer.write(ids), writer.write(ids)]
        with pytest.raises(OSError, match="File too large"):
            writer.write(ids)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "a.bin").stat().st_size == 24_000  # and not 30,000
    assert writer.write(ids).n_ids == 18_000
    writer.finish()
    assert np.array_equal(np.fromfile(tmp_path / "a.bin", "<u2"), np.tile(ids, 3))
    TokenWriter(tmp_path / "a.bin", dtype="uint16", after=written[1]).finish()
    assert np.array_equal(np.fromfile(tmp_path / "a.bin", "<u2"), np.tile(ids, 2))


class Stop(Exception):
    """Ends a writing in the middle."""


@pytest.mark.parametrize(
    ("every_bytes", "every_seconds", "expected"),
    [(100, 1e9, [100, 200, 300]), (150, 1e9, [150, 300, 350]), (1e9, 0.0, range(50, 351, 50))],
)
def test_notes_come_with_text_and_with_time_and_at_an_error(
    every_bytes, every_seconds, expected, tmp_path, monkeypatch
):
    monkeypatch.setattr(notes, "NOTE_BYTES", every_bytes)
    monkeypatch.setattr(notes, "NOTE_SECONDS", every_seconds)
    ids = np.arange(3, dtype=np.uint16)
    ends: deque[End] = deque()

    def arrays(n: int):
        for i in range(1, n + 1):
            ends.append(End(50 * i, f"place {50 * i}"))
            yield ids
        raise Stop

    for n in (6, 7):
        kept, noted = [], []
        writer = TokenWriter(tmp_path / f"{n}.bin", dtype="uint16")

        def keep(end: End, written: Written, writer=writer, kept=kept) -> None:
            assert writer.written == written
            kept.append((end, written.n_ids))

        def note(kept=kept, noted=noted) -> None:
            noted.append(kept[-1])

        with pytest.raises(Stop), contextlib.closing(writer):
            write_noted(arrays(n), ends, writer, NoteTimes(), text_bytes=0, keep=keep, note=note)
        assert noted[-1] == (End(50 * n, f"place {50 * n}"), 3 * n)
    assert sorted({end.text_bytes for end, _ in noted}) == sorted({*expected, 350})
    assert all(n_ids == 3 * end.text_bytes // 50 for end, n_ids in noted)


@pytest.mark.parametrize("sampling", ["shuffled", "random"])
@pytest.mark.parametrize("context_length", [1, 16, 123, 1500])
def test_training_examples_are_those_of_one_file(sampling, context_length, data, sharded):
    """1,500 tokens are more than a shard: windows then lie in two or three of them."""
    ask = {"first_window": 5, "micro_batch": 7, "context_length": context_length}
    ask |= {"sampling": sampling, "seed": 3, "device": torch.device("cpu")}
    streams = [
        batches(open_prepared(folder).train.tokens, **ask)  # type: ignore[arg-type]
        for folder in (data, sharded)
    ]
    for _ in range(40):
        (inputs, targets), (from_shards, targets_from_shards) = (next(s) for s in streams)
        assert torch.equal(inputs, from_shards)
        assert torch.equal(targets, targets_from_shards)
    n_tokens = len(open_prepared(data).train.tokens)
    ask = {"n_tokens": n_tokens, "context_length": context_length, "sampling": sampling, "seed": 3}
    starts = window_starts(5, 280, **ask)  # type: ignore[arg-type]
    n_crossing = (starts // SHARD_TOKENS < (starts + context_length) // SHARD_TOKENS).sum()
    assert n_crossing > 0 or context_length == 1


def test_windows_over_every_border_are_those_of_one_file(data, sharded):
    whole, parts = open_prepared(data).train.tokens, open_prepared(sharded).train.tokens
    n = len(whole)
    borders = np.arange(SHARD_TOKENS, n, SHARD_TOKENS)
    starts = np.concatenate([borders - 17, borders - 16, borders - 1, borders, [0, n - 17]])
    starts = starts[starts <= n - 17]
    for one, other in zip(
        take_windows(whole, starts, 16), take_windows(parts, starts, 16), strict=True
    ):
        assert torch.equal(one, other)
    rngs = np.random.default_rng(1), np.random.default_rng(1)
    one = get_batch(whole, 50, 100, rng=rngs[0])
    other = get_batch(parts, 50, 100, rng=rngs[1])
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])


def test_a_loss_over_all_tokens_is_that_of_one_file(data, sharded):
    seen = []
    for folder in (data, sharded):
        inputs: list[torch.Tensor] = []

        def loss(x: torch.Tensor, y: torch.Tensor, kept=inputs) -> torch.Tensor:  # type: ignore[no-untyped-def]
            kept += [x.clone(), y.clone()]
            return (x.float() * y.float()).mean()

        tokens = open_prepared(folder).train.tokens
        measured = evaluate_loss(
            loss, tokens, context_length=33, batch_size=8, device=torch.device("cpu")
        )
        seen.append((measured.loss, measured.n_tokens, torch.stack(inputs)))
    assert seen[0][:2] == seen[1][:2]
    assert torch.equal(seen[0][2], seen[1][2])
    assert seen[0][1] == len(open_prepared(data).train.tokens) - 1


def test_a_run_begun_on_one_file_ends_on_shards_as_if_nothing_had_changed(
    data, sharded, finished, tmp_path
):
    interrupted_after(13, config(data), tmp_path / "run")
    train(config(sharded), tmp_path / "run", resume=True)
    assert_same_weights(tmp_path / "run", finished[0])
    assert losses(tmp_path / "run") == losses(finished[0])


def change(path: Path, token: int | None = None) -> None:
    raw = np.fromfile(path, "<u2")
    raw[77] = (raw[77] + 1) % 400 if token is None else token
    raw.tofile(path)


DAMAGES = {
    "missing": (
        lambda path: path.unlink(),
        FileNotFoundError,
        r"train-00003\.bin is missing; prepare the data again",
    ),
    "torn": (
        lambda path: path.write_bytes(path.read_bytes()[:-3]),
        ValueError,
        r"train-00003\.bin holds 2015 bytes, meta.json says 1009 tokens of 2 bytes",
    ),
    "another vocabulary": (
        lambda path: change(path, 400),
        ValueError,
        r"train-00003\.bin: token 400 at position 77 does not belong to a vocabulary of 400",
    ),
    "changed": (
        change,
        ValueError,
        r"train-00003\.bin was changed since it was made",
    ),
}


@pytest.mark.parametrize(("damage", "error", "message"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_shard_is_named(damage, error, message, sharded, tmp_path):
    folder = Path(shutil.copytree(sharded, tmp_path / "d"))
    damage(folder / "train-00003.bin")
    with pytest.raises(error, match=message):
        open_prepared(folder).verify()


def test_other_shards_are_other_data_and_the_same_ones_are_reused(sharded):
    corpus = sharded.parent
    said: list[str] = []
    prepare(corpus, sharded, vocab_size=400, shard_tokens=SHARD_TOKENS, say=said.append)
    assert said[-1] == f"data in {sharded} is up to date"
    for other in (None, SHARD_TOKENS + 1):
        with pytest.raises(FileExistsError, match="prepared with another shard_tokens"):
            prepare(corpus, sharded, vocab_size=400, shard_tokens=other)
    with pytest.raises(ValueError, match="shard_tokens must be at least 1: got 0"):
        prepare(corpus, sharded.parent / "e", vocab_size=400, shard_tokens=0)


def test_folders_without_shards_are_written_and_described_as_before(data):
    meta = json.loads((data / "meta.json").read_text())
    assert meta["format"] == 2
    assert set(meta["splits"]["train"]) == {
        "file", "dtype", "count", "text_bytes", "documents", "sha256",
    }  # fmt: skip
    assert set(meta["source"]) == {"files", "split", "vocab_size", "val_fraction", "tokenizer"}
    assert isinstance(open_prepared(data).train.tokens, np.memmap)


def test_more_shards_than_open_files_are_one_line(sharded):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    n_open = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 30
    resource.setrlimit(resource.RLIMIT_NOFILE, (n_open + 5, limits[1]))
    try:
        with pytest.raises(OSError, match=r"train-0000\d\.bin: .* raise `ulimit -n`, or prepare"):
            open_prepared(sharded)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


OLD_IDS = np.array([7, 256, 1, 299, 0, 258], "<u2")


def sealed(values: dict) -> str:
    """meta.json as it was always written."""
    raw = json.dumps(values, sort_keys=True).encode()
    return json.dumps({**values, "sha256": hashlib.sha256(raw).hexdigest()}, indent=2) + "\n"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("number", [2, 3])
def test_folders_of_the_formats_so_far_are_opened(number, tmp_path):
    """Written here as formats 2 and 3 say it, and not by the code that they are for."""
    splits = {}
    for name in ("train", "val"):
        described: dict = {"dtype": "uint16", "count": 6, "text_bytes": 9, "documents": 2}
        described["sha256"] = hashlib.sha256(OLD_IDS.tobytes()).hexdigest()
        if number == 2:
            OLD_IDS.tofile(tmp_path / f"{name}.bin")
            splits[name] = {"file": f"{name}.bin", **described}
            continue
        shards = []
        for i, ids in enumerate((OLD_IDS[:4], OLD_IDS[4:])):
            path = tmp_path / f"{name}-{i:05}.bin"
            ids.tofile(path)
            shards.append({"file": path.name, "count": len(ids), "sha256": sha256(path)})
        splits[name] = {**described, "shards": shards}
    meta = {
        "format": number,
        "vocab_size": 300,
        "tokenizer_hash": "ab" * 32,
        "end_of_text_id": 299,
        "splits": splits,
        "source": {"files": [["a.txt", 9, 1]], "vocab_size": 300, "val_fraction": 0.01},
    }
    (tmp_path / "meta.json").write_text(sealed(meta))
    found = open_prepared(tmp_path)
    found.verify()
    assert (found.vocab_size, found.tokenizer_hash) == (300, "ab" * 32)
    for split in (found.train, found.val):
        assert np.array_equal(np.asarray(split.tokens), OLD_IDS)
        assert split.hash == hashlib.sha256(OLD_IDS.tobytes()).hexdigest()
        assert split.text_bytes == 9


@pytest.fixture
def single(tmp_path) -> Path:
    """FILE.bin and FILE.bin.json of the version before there was a hash in it."""
    OLD_IDS.tofile(tmp_path / "ids.bin")
    facts = {"dtype": "uint16", "count": 6, "vocab_size": 300, "tokenizer_hash": "ab" * 32}
    (tmp_path / "ids.bin.json").write_text(json.dumps(facts, indent=0) + "\n")
    return tmp_path / "ids.bin"


def changed_facts(path: Path, **values: object) -> None:
    facts_path = path.with_name("ids.bin.json")
    facts_path.write_text(json.dumps(json.loads(facts_path.read_text()) | values))


def test_single_files_of_the_version_before_are_opened(single):
    opened = open_single(single, "ab" * 32)
    opened.verify()
    assert np.array_equal(opened.tokens, OLD_IDS)
    assert opened.tokens.dtype == np.uint16


SINGLE_DAMAGES = {
    "other tokenizer": (
        lambda path: changed_facts(path, tokenizer_hash="cd" * 32),
        r"ids\.bin was encoded with tokenizer cdcdcdcdcdcd, this one is abab",
    ),
    "cut": (
        lambda path: path.write_bytes(OLD_IDS.tobytes()[:-1]),
        r"ids\.bin holds 11 bytes, ids\.bin\.json says 6 tokens of 2 bytes; encode again",
    ),
    "another vocabulary": (
        lambda path: changed_facts(path, vocab_size=299),
        r"ids\.bin: token 299 at position 3 does not belong to a vocabulary of 299",
    ),
    "no ids": (
        lambda path: changed_facts(path, dtype="float16"),
        r"ids\.bin: expected dtype uint16 or uint32, ids\.bin\.json says float16",
    ),
    "two dtypes": (
        lambda path: changed_facts(path, dtype="uint16,uint16"),
        r"ids\.bin: expected dtype uint16 or uint32, ids\.bin\.json says uint16,uint16",
    ),
    "no dtype": (
        lambda path: changed_facts(path, dtype="(2,"),
        r"ids\.bin: expected dtype uint16 or uint32, ids\.bin\.json says \(2,",
    ),
    "a record of NumPy": (
        lambda path: changed_facts(path, dtype={"names": ["a"], "formats": ["u2"]}),
        r"ids\.bin: expected dtype uint16 or uint32, ids\.bin\.json says \{'names'",
    ),
    "another byte order": (
        lambda path: changed_facts(path, dtype=">u2"),
        r"ids\.bin: expected dtype uint16 or uint32, ids\.bin\.json says >u2",
    ),
    "changed": (
        lambda path: changed_facts(path, sha256="ef" * 32),
        r"ids\.bin was changed since it was made: its hash is not the one in ids\.bin\.json; enc",
    ),
    "no facts": (
        lambda path: path.with_name("ids.bin.json").write_text("[]"),
        r"ids\.bin\.json must hold dtype, count, vocab_size and tokenizer_hash; encode again",
    ),
    "endless": (
        lambda path: changed_facts(path, count=float("inf")),
        r"ids\.bin\.json must hold dtype, count, vocab_size and tokenizer_hash; encode again",
    ),
    "facts missing": (
        lambda path: path.with_name("ids.bin.json").unlink(),
        r"expected a file at .*ids\.bin\.json: there is none",
    ),
}


@pytest.mark.parametrize(("damage", "message"), SINGLE_DAMAGES.values(), ids=SINGLE_DAMAGES)
def test_a_single_file_that_is_not_as_its_facts_say_is_one_line(damage, message, single):
    damage(single)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        open_single(single, "ab" * 32).verify()
    assert "\n" not in str(caught.value)
