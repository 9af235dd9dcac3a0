"""The parts of tokenizer_scale.py; each measures the rows of one table."""

import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizer_texts import ADVERSARIAL, adversarial_text, write_repeated, write_start
from tyro.conf import Positional

Row = dict[str, Any]

CHILD = Path(__file__).with_name("tokenizer_child.py")
THREADS = (1, 2)
SMALL_TEXT = "Once upon a time there was a little girl, who lived by the sea. It's 5 o'clock.\n\n"
SMALL_FILE_BYTES, SMALL_VOCAB_SIZE = 130_000, 1_000
ADVERSARIAL_VOCAB_SIZE = 1_000
SHORT_ROUNDS_EACH = 20


@dataclass(frozen=True)
class Options:
    """Measure the tokenizer and write all figures to a JSON file.

    Attributes:
        text: UTF-8 text files.
        out: JSON file to write.
        vocab_size: vocabulary size of the trainings.
        gpt2: folder with GPT-2's vocab.json and merges.txt, to encode with; without it the
            vocabulary is learned from the first text.
        parts: parts to measure, comma-separated; short and start take the first text only.
        rounds: number of measurements.
        max_bytes: use at most so many bytes of each text.
        sizes: bytes of the texts of part scaling.
        adversarial_sizes: bytes of the texts of part adversarial.
        limit_seconds: time after which an adversarial input is given up.
    """

    text: Positional[tuple[Path, ...]]
    out: Path
    vocab_size: int = 32_000
    gpt2: Path | None = None
    parts: str = "training,short,start,scaling,adversarial"
    rounds: int = 3
    max_bytes: int | None = None
    sizes: tuple[int, ...] = (10_000_000, 100_000_000, 1_000_000_000)
    adversarial_sizes: tuple[int, ...] = (1 << 20, 1 << 21, 1 << 22, 1 << 23, 1 << 24)
    limit_seconds: float = 300


@dataclass(frozen=True)
class Setting:
    """Inputs that the parts share.

    Attributes:
        texts: the text files, or their beginnings.
        work: folder for temporary files of the run.
        tokenizer: folder of the vocabulary to encode with.
    """

    options: Options
    texts: list[Path]
    work: Path
    tokenizer: Path


class ChildFailed(RuntimeError):
    """A measuring process ended with an error, or took too long."""


def run_child(
    job: str,
    *,
    limit_seconds: float | None = None,
    environment: dict[str, str] | None = None,
    **arguments: Any,
) -> Any:
    """Run a job of tokenizer_child.py in a fresh interpreter."""
    command = [sys.executable, str(CHILD), job, json.dumps(arguments, default=str)]
    variables = os.environ | (environment or {})
    try:
        done = subprocess.run(
            command, env=variables, capture_output=True, text=True, timeout=limit_seconds
        )
    except subprocess.TimeoutExpired:
        raise ChildFailed(f"{job} took more than {limit_seconds:.0f} s") from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["nothing on standard error"])[-1]
        raise ChildFailed(f"{job} {arguments} ended with {done.returncode}: {last}")
    return json.loads(done.stdout.splitlines()[-1])


def summarize(row: Row) -> Row:
    """Add median, rounds and, if bytes are known, speed to a row with all_seconds."""
    row["seconds"] = statistics.median(row["all_seconds"])
    row["n_rounds"] = len(row["all_seconds"])
    if "bytes" in row:
        row["megabytes_per_second"] = row["bytes"] / row["seconds"] / 1e6
    return row


def measure_training(setting: Setting) -> list[Row]:
    """Train on each text, each time in a new process."""
    options = setting.options
    rows: list[Row] = []
    for path in setting.texts:
        path.read_bytes()  # into the system's cache, so that the first reads no slower
        measured: dict[int, list[Row]] = {}
        for _, n_threads in itertools.product(range(options.rounds), THREADS):
            row = run_child("train", path=path, vocab_size=options.vocab_size, n_threads=n_threads)
            measured.setdefault(n_threads, []).append(row)
        rows += [training_row(path, n_threads, rounds) for n_threads, rounds in measured.items()]
    return rows


def training_row(path: Path, n_threads: int, rounds: list[Row]) -> Row:
    row = Row(text=path.name, n_threads=n_threads, bytes=path.stat().st_size)
    row["all_seconds"] = [round["seconds"] for round in rounds]
    for name in ("rss_before_bytes", "peak_rss_bytes"):
        row[name] = max(round[name] for round in rounds)
    row["first_call_seconds"] = statistics.median(r["first_call_seconds"] for r in rounds)
    return summarize(row)


def measure_short(setting: Setting) -> list[Row]:
    """Time calls on short texts, ours and tiktoken's in turn."""
    rows = run_child(
        "short",
        path=setting.texts[0],
        folder=setting.tokenizer,
        rounds=SHORT_ROUNDS_EACH * setting.options.rounds,
    )
    seconds: dict[tuple[str, str, int], float] = {}
    for row in rows:
        row["seconds"] = statistics.median(row["all_seconds"])
        row["n_rounds"] = len(row.pop("all_seconds"))
        row["microseconds"] = 1e6 * row["seconds"]
        seconds[row["call"], row["contender"], row["bytes"]] = row["seconds"]
    for row in rows:
        row["ratio"] = row["seconds"] / seconds[row["call"], "tiktoken", row["bytes"]]
    return list(rows)


def measure_start(setting: Setting) -> list[Row]:
    """Time fresh interpreters with numba's cache on disk filled (warm) and empty (cold)."""
    small, large = setting.work / "small.txt", setting.work / "large.txt"
    write_start(setting.texts[0], SMALL_FILE_BYTES, small)
    first = {"folder": setting.tokenizer, "text": SMALL_TEXT}
    jobs: dict[str, tuple[str, Row]] = {
        "load and encode": ("start", first),
        "train on a small file": (
            "first_training",
            {"path": small, "vocab_size": SMALL_VOCAB_SIZE},
        ),
        "all that is compiled": (
            "everything",
            {"path": large, "folder": setting.tokenizer, "vocab_size": setting.options.vocab_size},
        ),
    }
    return [
        row
        for name, (job, arguments) in jobs.items()
        for row in warm_and_cold(name, job, arguments, setting.options.rounds)
    ]


def warm_and_cold(name: str, job: str, arguments: Row, rounds: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as cache:
        run_child(job, environment=kept_in(cache), **arguments)
        warm = started(name, job, arguments, rounds=rounds, cache=cache)
    measured = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as cache:
            measured.append(started(name, job, arguments, rounds=1, cache=cache))
    cold = {"what": name, "n_rounds": rounds} | medians(measured)
    cold["cold_minus_warm_seconds"] = cold["seconds"] - warm["seconds"]
    return [warm | {"compiled": "warm"}, cold | {"compiled": "cold"}]


def kept_in(cache: str) -> Row:
    """Variables that let a process keep bytecode and compiled kernels in a folder alone."""
    return {"PYTHONPYCACHEPREFIX": cache, "XDG_CACHE_HOME": cache, "PYTHONDONTWRITEBYTECODE": ""}


def started(name: str, job: str, arguments: Row, *, rounds: int, cache: str | None) -> Row:
    """Medians over fresh interpreters; cache is the folder of compiled kernels."""
    environment = {} if cache is None else kept_in(cache)
    measured = []
    for _ in range(rounds):
        began = time.perf_counter()
        row = run_child(job, environment=environment, **arguments)
        measured.append(row | {"process_seconds": time.perf_counter() - began})
    return {"what": name, "n_rounds": rounds} | medians(measured)


def medians(rows: list[Row]) -> Row:
    names = [name for name in rows[0] if name.endswith("seconds")]
    return {name: statistics.median(row[name] for row in rows) for name in names}


def measure_scaling(setting: Setting) -> list[Row]:
    """Measure time and memory for growing texts: documents of all texts, shuffled and repeated."""
    rows: list[Row] = []
    path = setting.work / "repeated.txt"
    for n_bytes in setting.options.sizes:
        write_repeated(setting.texts, n_bytes, path)
        common = {"bytes": path.stat().st_size}
        for n_threads in THREADS:
            trained = run_child(
                "train",
                path=path,
                vocab_size=setting.options.vocab_size,
                n_threads=n_threads,
            )
            encoded = run_child(
                "encode_file", path=path, folder=setting.tokenizer, n_threads=n_threads
            )
            for job, measured in (("train", trained), ("encode", encoded)):
                row = common | {"job": job, "n_threads": n_threads, **measured}
                rows.append(summarize(row | {"all_seconds": [measured["seconds"]]}))
    path.unlink(missing_ok=True)
    return rows


def measure_adversarial(setting: Setting) -> list[Row]:
    """Measure adversarial inputs of doubling sizes; exponent 1: time is linear in the size."""
    return [
        row
        for kind in ADVERSARIAL
        for job in ("train", "encode")
        for row in grow(kind, job, setting)
    ]


def grow(kind: str, job: str, setting: Setting) -> Iterator[Row]:
    """Measure one kind of input at all sizes, up to the first that fails."""
    path = setting.work / "hard.txt"
    before: Row | None = None
    for n_bytes in setting.options.adversarial_sizes:
        path.write_bytes(adversarial_text(kind, n_bytes).encode())
        row = Row(kind=kind, job=job, bytes=path.stat().st_size)
        try:
            row |= run_hard(job, path, setting)
        except ChildFailed as error:
            row["failed"] = str(error)
        if before is not None and "seconds" in row:
            growth = math.log(row["seconds"] / before["seconds"])
            row["exponent"] = growth / math.log(row["bytes"] / before["bytes"])
        yield row
        if "seconds" not in row:
            return
        before = row


def run_hard(job: str, path: Path, setting: Setting) -> Row:
    if job == "encode":
        row: Row = run_child(
            "encode_text",
            limit_seconds=setting.options.limit_seconds,
            path=path,
            folder=setting.tokenizer,
        )
    else:
        row = run_child(
            "train",
            limit_seconds=setting.options.limit_seconds,
            path=path,
            vocab_size=ADVERSARIAL_VOCAB_SIZE,
            n_threads=1,
        )
    return {"failed": row["refused"].replace(str(path), path.name)} if "refused" in row else row
