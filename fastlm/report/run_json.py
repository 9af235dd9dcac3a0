"""Describe a run for the report page, as plain JSON values.

Logs may hold anything, so every number is checked: one that is not finite becomes None.
"""

import codecs
import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fastlm.config.dotted import leaves
from fastlm.files.paths import open_to_read
from fastlm.report.thinning import rows_to_keep
from fastlm.runs.found import (
    BEGINNING,
    LogPart,
    Position,
    changed_at,
    number,
    read_log,
    try_read_object,
)
from fastlm.runs.run_files import RunFiles
from fastlm.runs.state import LogEnd, is_silent, state_of

TOTAL_ROWS = 9_000
"""Rows of all runs of a page together, after thinning: with 20 runs, well below 1 MB"""
LEAST_ROWS, MOST_ROWS = 60, 2_000
"""Least and greatest number of rows of one run"""
MOST_MARKS = 100
MOST_SAMPLE_BYTES = 6_000

_WHERE = (("step", "step"), ("tokens", "tokens"), ("seconds", "elapsed_seconds"))
_TRAIN = (
    ("loss", "loss", 6),
    ("lr", "lr", 4),
    ("grad_norm", "grad_norm", 4),
    ("tokens_per_second", "tokens_per_second", 4),
    ("mfu", "mfu", 4),
    ("memory", "memory_bytes", 4),
)
_EVAL = (("val_loss", "val_loss", 6),)
_SUMMARY = (
    "val_loss",
    "bits_per_byte",
    "perplexity",
    "step",
    "tokens",
    "elapsed_seconds",
    "tokens_per_second",
    "mfu",
    "peak_memory_bytes",
    "n_parameters",
)
_MARKS = ("resume", "spike", "not finite")


def run_id(folder: Path) -> str:
    """Return a short name of a folder for the page; it depends on the folder's path alone."""
    return hashlib.sha256(str(folder.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:12]


def version_of(folder: Path) -> str:
    """Return a hash that changes when a shown file is written or the run falls silent."""
    times = [(path.name, changed_at(path)) for path in RunFiles(folder).evidence()]
    return f"{zlib.crc32(repr((times, is_silent(folder))).encode()):08x}"


def rows_per_run(n_runs: int) -> int:
    """Return how many training rows each of n_runs runs keeps."""
    return min(MOST_ROWS, max(LEAST_ROWS, TOTAL_ROWS // max(1, n_runs)))


def describe_run(
    folder: Path, name: str, *, limit: int, start: Position = BEGINNING
) -> dict[str, Any]:
    """Return everything that the page shows of a run, with its log from a position on.

    Args:
        name: the name that the page shows.
        limit: greatest number of training rows to keep; half as many validation rows are kept.
    """
    files = RunFiles(folder)
    version = version_of(folder)  # taken before anything is read, so that later changes are news
    notes: list[str] = []
    config = try_read_object(files.config, notes)
    environment = try_read_object(files.environment, notes)
    summary = try_read_object(files.summary, notes, is_expected=False)
    part = read_log(folder, start)
    end = LogEnd.of_rows(part.rows or read_log(folder).rows)
    state = state_of(folder, end=end)
    curves, n_unplaced = _curves(part, limit)
    log_notes = list(part.notes)
    if n_unplaced:
        log_notes.append(f"{n_unplaced:,} rows without a step: left out")
    if not end.row:
        notes.append("no row in the log yet")
    if state.reason:
        notes.append(state.reason)
    return {
        "id": run_id(folder),
        "name": name,
        "folder": str(folder),
        "state": state.name,
        "notes": notes,
        "log_notes": log_notes,
        "config": flatten(config),
        "environment": flatten(environment),
        "budget": number(config.get("time_budget")),
        "summary": {key: number(summary.get(key)) for key in _SUMMARY},
        "sample": _sample(folder),
        "changed": changed_at(files.log),
        "position": [part.end.offset, part.end.check],
        "version": version,
        "is_new": part.is_new,
        **curves,
    }


def _curves(part: LogPart, limit: int) -> tuple[dict[str, Any], int]:
    """Return the curves to draw and the number of rows that cannot be drawn."""
    placed = [row for row in part.rows if number(row.get("step")) is not None]
    train = _columns([r for r in placed if r.get("kind") == "train"], _TRAIN)
    evals = _columns([r for r in placed if r.get("kind") == "eval"], _EVAL)
    n_train, n_eval = len(train["step"]), len(evals["step"])
    kept = rows_to_keep(
        [train["loss"], train["grad_norm"], train["tokens_per_second"], train["mfu"]],
        limit,
        shares=(0.5, 0.2, 0.15, 0.15),
    )
    kept_evals = rows_to_keep([evals["val_loss"]], limit // 2)
    marks, n_marks = _marks(part.rows)
    curves = {
        "train": {key: [column[i] for i in kept] for key, column in train.items()},
        "eval": {key: [column[i] for i in kept_evals] for key, column in evals.items()},
        "marks": marks,
        "n_marks": n_marks,
        "n_rows": n_train + n_eval,
        "n_kept": len(kept) + len(kept_evals),
    }
    return curves, len(part.rows) - len(placed)


def _columns(
    rows: list[dict[str, Any]], fields: Iterable[tuple[str, str, int]]
) -> dict[str, list[float | None]]:
    columns = {key: [_place(row, name) for row in rows] for key, name in _WHERE}
    for key, name, digits in fields:
        columns[key] = [_rounded(number(row.get(name)), digits) for row in rows]
    return columns


def _place(row: Mapping[str, Any], name: str) -> float | None:
    value = number(row.get(name))
    if value is None:
        return None
    return round(value, 1) if name == "elapsed_seconds" else round(value)


def _rounded(value: float | None, digits: int) -> float | None:
    if value is None:
        return None
    short = float(f"{value:.{digits}g}")
    return int(short) if short == int(short) and abs(short) < 1e15 else short


def _marks(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """Return resumes, spikes and non-finite steps, only the most telling if there are many."""
    marks: list[dict[str, Any]] = []
    tokens: float | None = None
    seconds: float | None = None
    for row in rows:
        step = number(row.get("step"))
        # In older logs a resume has no clock of its own: it takes the place of the row before it.
        # If that row came with an earlier part of the log, the page knows it.
        if row.get("kind") != "resume" or "elapsed_seconds" in row:
            tokens, seconds = _place(row, "tokens"), _place(row, "elapsed_seconds")
        kind = row.get("kind")
        if step is None or kind not in _MARKS:
            continue
        marks.append(
            {
                "kind": kind,
                "step": step,
                "tokens": tokens,
                "seconds": seconds,
                "loss": _rounded(number(row.get("loss")), 5),
                "sigmas": _rounded(number(row.get("sigmas")), 3),
            }
        )
    n_marks = len(marks)
    if n_marks > MOST_MARKS:
        telling = sorted(marks, key=lambda m: (m["kind"] == "spike", -(m["sigmas"] or 0.0)))
        marks = sorted(telling[:MOST_MARKS], key=lambda m: m["step"])
    return marks, n_marks


def _sample(folder: Path) -> str:
    try:
        with open_to_read(RunFiles(folder).sample) as text:
            raw = text.read(MOST_SAMPLE_BYTES + 1)
    except OSError:
        return ""
    if len(raw) <= MOST_SAMPLE_BYTES:
        return raw.decode("utf-8", "replace")
    # The incremental decoder leaves out a character that is cut off at the end.
    whole = codecs.getincrementaldecoder("utf-8")("replace").decode(raw[:MOST_SAMPLE_BYTES])
    return f"{whole} ..."


def flatten(values: Mapping[str, Any]) -> dict[str, str]:
    """Flatten {"optim": {"lr": 0.1}} to {"optim.lr": "0.1"}, with every value as text."""
    return {name: _text(value) for name, value in leaves(values).items()}


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return " ".join(value)
    try:
        return json.dumps(value)
    except RecursionError:
        return "..."


def embedded(values: Any) -> str:
    """Return JSON that is safe inside <script>: no character of it can end or open a tag."""
    text = json.dumps(values, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    # A lone surrogate is not valid UTF-8; Python's escape of it is also JSON's.
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
