"""The parts of tokenizer_race.py; each measures the rows of one table."""

import functools
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tokenizer_child import short_texts
from tokenizer_contenders import Contender, ids_of
from tokenizer_peers import thread_environment
from tokenizer_race_child import digest
from tokenizer_texts import END_OF_TEXT, HARD, adversarial_text, write_start

Row = dict[str, Any]

OURS = "fastlm"
CHILD = Path(__file__).with_name("tokenizer_race_child.py")
SHORT_BYTES = (20, 200, 1_000)
START_BYTES = (60, 900_000, 5_000_000)
N_DOCUMENTS = 30_000
DOCUMENT_CHARACTERS = 1_000  # of a document, where a text has no marks between documents
WARM_REPEATS = 3
SHORT_CALLS = 200
SHORT_REPEATS = 15
WARM_UP_BYTES = 2_000_000
_SETTLE_SECONDS = 0.003  # in which threads of the last contender stop looking for work
_PROBE_SHARE = 8


@dataclass(frozen=True)
class Setting:
    """Inputs and limits that the parts share.

    Attributes:
        contenders: the libraries that are installed, fastlm first.
        folder: the vocabulary, as write_vocabulary wrote it.
        texts: UTF-8 files.
        work: folder for temporary files of the run.
        max_bytes: bytes of a text that is encoded as one str.
        bulk_bytes: bytes of a text that is encoded as documents or as a file.
        train_bytes: bytes of a text to train on.
        hard_bytes: bytes of a hard input.
        vocab_size: vocabulary size of the trainings.
        n_threads: threads for documents, files and training.
        rounds: number of rounds.
        limit_seconds: CPU seconds after which a contender is left out of a hard input, and wall
            seconds after which a process is ended.
    """

    contenders: Sequence[Contender]
    folder: Path
    texts: Sequence[Path]
    work: Path
    max_bytes: int
    bulk_bytes: int
    train_bytes: int
    hard_bytes: int
    vocab_size: int
    n_threads: int
    rounds: int
    limit_seconds: float


@dataclass(frozen=True)
class Case:
    """One input, encoded in one way.

    Attributes:
        keys: what names the case in a record.
        way: the attribute of Ways.
        n_bytes: UTF-8 bytes of the input.
        make: makes new copies of the inputs of one object's calls: the first, which is cold, and
            those after it, which are warm. A str keeps its UTF-8 once a library has asked for it,
            so a copy that another contender has read would be quicker to read.
        is_each: an input is a list of texts, encoded one a call.
        warm_up: a text that is encoded between the first call and those that are warm.
        probe: a smaller input of the same kind, for contenders that may take too long.
    """

    keys: Row
    way: str
    n_bytes: int
    make: Callable[[], list[Any]]
    is_each: bool = False
    warm_up: str | None = None
    probe: Any = None


class Refused(Exception):
    """A contender is left out of a case; str() says why."""


def measure_text(setting: Setting) -> list[Row]:
    """One str, to a list and to numpy."""
    cases = [
        Case({"text": path.stem, "way": way}, way, len(text.encode()), _copies(text))
        for path in setting.texts
        for text in [plain_text(path, setting.max_bytes)]
        for way in ("to_numpy", "to_list")
    ]
    return race(cases, setting)


def measure_documents(setting: Setting) -> list[Row]:
    """Many documents, to lists and to one array."""
    cases = []
    for path in setting.texts:
        documents = documents_of(path, setting.bulk_bytes)
        size = sum(len(document.encode()) for document in documents)
        for way in ("to_lists", "to_flat"):
            keys = {"text": path.stem, "n_documents": len(documents), "way": way}
            cases.append(Case(keys, way, size, _copies(documents)))
    return race(cases, setting)


def measure_file(setting: Setting) -> list[Row]:
    """A file to one array."""
    cases = []
    for path in setting.texts:
        data = plain_text(path, setting.bulk_bytes).encode()
        copy = setting.work / f"plain-{path.name}.txt"
        copy.write_bytes(data)
        keys = {"text": path.stem, "way": "from_file"}
        cases.append(
            Case(keys, "from_file", len(data), lambda copy=copy: [copy] * (1 + WARM_REPEATS))
        )
    return race(cases, setting)


def measure_short(setting: Setting) -> list[Row]:
    """Calls on short texts, by objects that have encoded the text from which these are taken."""
    text = plain_text(setting.texts[0], setting.max_bytes)
    warm_up = plain_text(setting.texts[0], WARM_UP_BYTES)
    cases = []
    for n_bytes in SHORT_BYTES:
        # Each call has another text: some libraries keep the ids of whole texts.
        texts = short_texts(text, n_bytes, SHORT_CALLS * (1 + SHORT_REPEATS))
        groups = [texts[begin :: 1 + SHORT_REPEATS] for begin in range(1 + SHORT_REPEATS)]
        size = len("".join(texts).encode()) // len(groups)
        make = functools.partial(_copied_groups, groups)
        for way in ("to_list", "to_numpy"):
            keys = {"bytes_each": n_bytes, "n_calls": len(groups[-1]), "way": way}
            cases.append(Case(keys, way, size, make, is_each=True, warm_up=warm_up))
    rows = race(cases, setting)
    for row in rows:
        for state in ("cold", "warm"):
            if f"{state}_seconds" in row:
                row[f"{state}_microseconds"] = 1e6 * row[f"{state}_seconds"] / row["n_calls"]
    return rows


def _copied_groups(groups: list[list[str]]) -> list[list[str]]:
    return [[text.encode().decode() for text in group] for group in groups]


def measure_hard(setting: Setting) -> list[Row]:
    """Inputs that reveal bad growth, to a list."""
    cases = []
    for kind in HARD:
        text = adversarial_text(kind, setting.hard_bytes)
        probe = adversarial_text(kind, setting.hard_bytes // _PROBE_SHARE)
        keys = {"text": kind, "way": "to_list"}
        cases.append(Case(keys, "to_list", len(text.encode()), _copies(text), probe=probe))
    return race(cases, setting)


def measure_start(setting: Setting) -> list[Row]:
    """Fresh processes that load the vocabulary and encode a text of each size to a list."""
    ours = next(c for c in setting.contenders if c.name == OURS).load(str(setting.folder), 1)
    jobs = []
    for n_bytes in START_BYTES:
        text = plain_text(setting.texts[0], n_bytes)
        path = setting.work / f"start-{n_bytes}.txt"
        path.write_bytes(text.encode())
        arguments = {"folder": setting.folder, "path": path, "n_threads": 1}
        keys = {"text": setting.texts[0].stem, "bytes": path.stat().st_size}
        jobs.append((keys, arguments, digest(ours.to_list(text))))

    def run(contender: Contender, arguments: Row, expected: str) -> Row:
        row = run_child("start", contender.name, setting.limit_seconds, **arguments)
        if row.pop("result") != expected:
            raise Refused("other ids")
        return row

    able = [contender for contender in setting.contenders if contender.load]
    return race_processes(able, jobs, run, setting.rounds)


def measure_train(setting: Setting) -> list[Row]:
    """Fresh processes that train, on one thread and on several; their tokens beside ours."""
    jobs = []
    for path in setting.texts:
        start = setting.work / f"train-{path.name}"
        write_start(path, setting.train_bytes, start)
        for n_threads in sorted({1, setting.n_threads}):
            keys = {"text": path.stem, "bytes": start.stat().st_size, "n_threads": n_threads}
            arguments = {
                "path": start,
                "vocab_size": setting.vocab_size,
                "n_threads": n_threads,
                "tokens": setting.work / "tokens.txt",
            }
            jobs.append((keys, arguments, None))
    of_ours: dict[Path, set[str]] = {}

    def run(contender: Contender, arguments: Row, _: Any) -> Row:
        row = run_child("train", contender.name, setting.limit_seconds, **arguments)
        tokens = set(arguments["tokens"].read_text().split())
        # Ours comes first. Ties between pairs go another way in some libraries.
        ours = of_ours.setdefault(arguments["path"], tokens)
        return row | {
            "n_tokens": len(tokens),
            "share_of_our_tokens": len(ours & tokens) / len(ours),
        }

    able = [contender for contender in setting.contenders if contender.train]
    return race_processes(able, jobs, run, setting.rounds)


PARTS: dict[str, Callable[[Setting], list[Row]]] = {
    "text": measure_text,
    "documents": measure_documents,
    "file": measure_file,
    "short": measure_short,
    "hard": measure_hard,
    "start": measure_start,
    "train": measure_train,
}


def plain_text(path: Path, n_bytes: int) -> str:
    """The first n_bytes of a file without special tokens, less a character that is cut."""
    with open(path, "rb") as file:
        data = file.read(n_bytes + n_bytes // 8)
    text = data.decode("utf-8", "ignore").replace(END_OF_TEXT, "")
    return text.encode()[:n_bytes].decode("utf-8", "ignore")


def documents_of(path: Path, n_bytes: int) -> list[str]:
    """At most N_DOCUMENTS documents from the first n_bytes of a file."""
    with open(path, "rb") as file:
        text = file.read(n_bytes).decode("utf-8", "ignore")
    documents = text.split(END_OF_TEXT)
    if len(documents) == 1:
        stops = range(0, len(text), DOCUMENT_CHARACTERS)
        documents = [text[begin : begin + DOCUMENT_CHARACTERS] for begin in stops]
    return documents[:N_DOCUMENTS]


def _copies(value: str | list[str]) -> Callable[[], list[Any]]:
    """A function that makes a new object of a text, or of each in a list, for all calls."""
    if isinstance(value, str):
        data = value.encode()
        return lambda: [data.decode()] * (1 + WARM_REPEATS)
    texts = [text.encode() for text in value]
    return lambda: [[data.decode() for data in texts]] * (1 + WARM_REPEATS)


@dataclass
class _Times:
    cold: list[tuple[float, float]] = field(default_factory=list)
    warm: list[tuple[float, float]] = field(default_factory=list)


def race(cases: Sequence[Case], setting: Setting) -> list[Row]:
    """Measure all contenders on all cases, in turn, after a comparison of all ids with ours.

    A contender that lacks the way has no row. One that raises, finds other ids or would take too
    long has a row that says so.
    """
    entrants: list[tuple[Case, list[Contender]]] = []
    rows: dict[tuple[int, str], Row] = {}
    for number, case in enumerate(cases):
        admitted = []
        for contender, reason in admit(case, setting):
            row = case.keys | {"bytes": case.n_bytes, "contender": contender.name}
            rows[number, contender.name] = row
            if reason is None:
                admitted.append(contender)
            else:
                row["left_out"] = reason
                print(f"note: {contender.name}, {case.keys}: {reason}", file=sys.stderr)
        entrants.append((case, admitted))
    times = {key: _Times() for key, row in rows.items() if "left_out" not in row}
    for turn in range(setting.rounds):
        for number, (case, admitted) in enumerate(entrants):
            for contender in rotated(admitted, turn):
                measure_once(case, contender, setting, times[number, contender.name])
    for key, row in rows.items():
        if key in times:
            row |= summary(times[key], row["bytes"])
    for number in range(len(cases)):
        add_ratios([row for key, row in rows.items() if key[0] == number])
    return list(rows.values())


def rotated(items: Sequence[Any], turn: int) -> list[Any]:
    """The items, beginning with another one in each turn, so that none always follows the same."""
    begin = turn % len(items) if items else 0
    return [*items[begin:], *items[:begin]]


def admit(case: Case, setting: Setting) -> Iterator[tuple[Contender, str | None]]:
    """The contenders that have the way of a case, each with the reason if it is left out."""
    able = [contender for contender in setting.contenders if contender.load]
    ours = next(c for c in able if c.name == OURS).load(str(setting.folder), setting.n_threads)
    expected = None
    for contender in able:
        try:
            encode = encoder(case, contender, setting)
            if encode is None:
                continue
            if case.probe is not None:
                check_growth(encode, case.probe, setting.limit_seconds)
            inputs = {id(value): value for value in case.make()}.values()
            if expected is None:
                expected = [expected_of(value, ours.to_list) for value in inputs]
            for value, our_lists in zip(inputs, expected, strict=True):
                check_equal(encode(value), our_lists, case)
        except Refused as refused:
            yield contender, str(refused)
        except BaseException as error:  # the panics of Rust are no Exception
            if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
                raise
            yield (
                contender,
                f"raises {type(error).__name__}: {(str(error).splitlines() or [''])[0]}",
            )
        else:
            yield contender, None


def expected_of(value: Any, to_list: Callable[[str], list[int]]) -> list[list[int]]:
    """Our ids of each text of an input, one by one."""
    if isinstance(value, Path):
        value = value.read_bytes().decode()
    return [to_list(text) for text in ([value] if isinstance(value, str) else value)]


def encoder(case: Case, contender: Contender, setting: Setting) -> Callable[[Any], Any] | None:
    """How a new object of a contender encodes the input of a case; None if it lacks the way."""
    ways = contender.load(str(setting.folder), setting.n_threads)
    way = getattr(ways, case.way)
    if case.is_each and way is not None:
        return lambda texts: [way(text) for text in texts]
    return way


def check_growth(encode: Callable[[Any], Any], probe: Any, limit_seconds: float) -> None:
    _, (seconds, _) = timed(encode, probe)
    # A contender that takes quadratic time would not end.
    if seconds * _PROBE_SHARE**2 > limit_seconds:
        raise Refused(f"takes {seconds:.1f} s of CPU for an input of 1/{_PROBE_SHARE} of the size")


def check_equal(result: Any, our_lists: list[list[int]], case: Case) -> None:
    ids, ours = ids_of(result), ids_of(our_lists)
    if not np.array_equal(ids, ours):
        both = min(len(ids), len(ours))
        differs = np.flatnonzero(ids[:both] != ours[:both])
        raise Refused(f"other ids, from id {differs[0] if len(differs) else both:,} on")
    has_bounds = case.is_each or case.way == "to_lists"
    if has_bounds and list(map(len, result)) != list(map(len, our_lists)):
        raise Refused("the same ids with other bounds")


def measure_once(case: Case, contender: Contender, setting: Setting, times: _Times) -> None:
    """Time the first call of a new object, and those after it."""
    encode = encoder(case, contender, setting)
    assert encode is not None
    first, *others = case.make()
    gc.collect()
    gc.disable()
    time.sleep(_SETTLE_SECONDS)
    try:
        times.cold.append(timed(encode, first)[1])
        if case.warm_up is not None:
            encode([case.warm_up] if case.is_each else case.warm_up)
            encode(first)
        times.warm += [timed(encode, value)[1] for value in others]
    finally:
        gc.enable()


def timed(run: Callable[[Any], Any], value: Any) -> tuple[Any, tuple[float, float]]:
    """The result of a call, and its CPU seconds, user and system of all threads, and seconds."""
    began, cpu_began = time.perf_counter(), time.process_time()
    result = run(value)
    cpu_seconds = time.process_time() - cpu_began
    return result, (cpu_seconds, time.perf_counter() - began)


def summary(times: _Times, n_bytes: int) -> Row:
    row: Row = {"n_rounds": len(times.cold)}
    for state, measured in (("cold", times.cold), ("warm", times.warm)):
        cpu, wall = zip(*measured, strict=True)
        row[f"{state}_seconds"] = statistics.median(cpu)
        row[f"{state}_wall_seconds"] = statistics.median(wall)
        row[f"{state}_slowest_seconds"], row[f"{state}_fastest_seconds"] = max(cpu), min(cpu)
        row[f"{state}_megabytes_per_cpu_second"] = n_bytes / row[f"{state}_seconds"] / 1e6
    return row


def add_ratios(rows: Sequence[Row]) -> None:
    """Add to each row how much faster it is than the best peer; 2: it takes half of the time."""
    for seconds in ("cold_seconds", "warm_seconds", "cpu_seconds", "wall_seconds"):
        peers = [row[seconds] for row in rows if seconds in row and row["contender"] != OURS]
        for row in rows:
            if peers and seconds in row:
                name = seconds.replace("seconds", "times_best_peer")
                row[name] = min(peers) / row[seconds]


def run_child(job: str, contender: str, limit_seconds: float, **arguments: Any) -> Row:
    """Run a job of tokenizer_race_child.py in a fresh interpreter."""
    variables = os.environ | thread_environment(arguments["n_threads"])
    with tempfile.TemporaryFile() as errors:
        given = json.dumps(arguments | {"began": time.monotonic()}, default=str)
        command = [sys.executable, str(CHILD), job, contender, given]
        try:
            done = subprocess.run(
                command, env=variables, stdout=subprocess.PIPE, stderr=errors, timeout=limit_seconds
            )
        except subprocess.TimeoutExpired:
            raise Refused(f"takes more than {limit_seconds:.0f} s") from None
        errors.seek(0)
        told = errors.read().decode(errors="replace").strip().splitlines()
    if done.returncode != 0:
        raise Refused(f"ends with {done.returncode}: {(told or ['nothing on standard error'])[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def race_processes(
    contenders: Sequence[Contender],
    jobs: Sequence[tuple[Row, Row, Any]],
    run: Callable[[Contender, Row, Any], Row],
    rounds: int,
) -> list[Row]:
    """Run each job, (keys, arguments, expected), with each contender, in turn, after a first run.

    The first run of ours fills caches on disk, and is not counted. A contender that fails once is
    left out of that job from then on.
    """
    rows: list[list[Row]] = []
    measured: dict[tuple[int, str], list[Row]] = {}
    for keys, arguments, expected in jobs:
        rows.append([keys | {"contender": contender.name} for contender in contenders])
        run(contenders[0], arguments, expected)
    for turn in range(rounds):
        for number, (_, arguments, expected) in enumerate(jobs):
            for contender, row in rotated(list(zip(contenders, rows[number], strict=True)), turn):
                if "left_out" in row:
                    continue
                try:
                    found = run(contender, arguments, expected)
                except Refused as refused:
                    row["left_out"] = str(refused)
                    print(f"note: {row}", file=sys.stderr)
                else:
                    measured.setdefault((number, contender.name), []).append(found)
    for number, of_job in enumerate(rows):
        for row in of_job:
            if "left_out" not in row:
                found = measured[number, row["contender"]]
                row |= {name: statistics.median(r[name] for r in found) for name in found[0]}
                row["n_rounds"] = len(found)
        add_ratios(of_job)
    return [row for of_job in rows for row in of_job]
