"""The tables of a record of tokenizer_race.py, as Markdown for docs/tokenizer.md."""

from collections.abc import Callable, Iterable
from typing import Any

from fastlm.cli.markdown import table_row

Row = dict[str, Any]

BLOCK = "race"
"""The name of the comments in docs/tokenizer.md between which the tables are."""

_OURS = "fastlm"
_WAYS = {
    "to_numpy": "to numpy",
    "to_list": "to a list",
    "to_lists": "to lists",
    "to_flat": "to one array",
    "from_file": "a file",
}


def _speeds(row: Row) -> str:
    speeds = (row[f"{state}_megabytes_per_cpu_second"] for state in ("cold", "warm"))
    return " / ".join(_figure(speed) for speed in speeds)


def _calls(row: Row) -> str:
    return " / ".join(_figure(row[f"{state}_microseconds"]) for state in ("cold", "warm"))


def _process(row: Row) -> str:
    return f"{_figure(row['cpu_seconds'])} ({_figure(row['wall_seconds'])})"


def _training(row: Row) -> str:
    return f"{_process(row)}, {row['peak_rss_bytes'] / 1e6:.0f} MB"


def _cold_and_warm(row: Row) -> str:
    return " / ".join(f"{row[f'{state}_times_best_peer']:.2f}" for state in ("cold", "warm"))


def _cpu(row: Row) -> str:
    return f"{row['cpu_times_best_peer']:.2f}"


# The title of a part, and functions for the name of a row, for a cell and for a ratio.
_PARTS: dict[str, tuple[str, Callable[[Row], str], Callable[[Row], str], Callable[[Row], str]]] = {
    "text": (
        "One text: MB per CPU second, cold / warm",
        lambda row: f"{row['text']}, {_WAYS[row['way']]}",
        _speeds,
        _cold_and_warm,
    ),
    "documents": (
        "Many documents on {n_threads} threads: MB per CPU second, cold / warm",
        lambda row: f"{row['n_documents']:,} of {row['text']}, {_WAYS[row['way']]}",
        _speeds,
        _cold_and_warm,
    ),
    "file": (
        "A file on {n_threads} threads, to one array: MB per CPU second, cold / warm",
        lambda row: row["text"],
        _speeds,
        _cold_and_warm,
    ),
    "short": (
        "Short texts: microseconds of CPU a call, of a new object / of one in use",
        lambda row: f"{row['bytes_each']:,} bytes, {_WAYS[row['way']]}",
        _calls,
        _cold_and_warm,
    ),
    "hard": (
        "Hard inputs, to a list: MB per CPU second, cold / warm",
        lambda row: row["text"],
        _speeds,
        _cold_and_warm,
    ),
    "start": (
        "A fresh process that loads the vocabulary and encodes: seconds of CPU (of the clock)",
        lambda row: f"{row['bytes']:,} bytes",
        _process,
        _cpu,
    ),
    "train": (
        "Training in a fresh process: seconds of CPU (of the clock), peak memory",
        lambda row: f"{row['text']}, {row['bytes'] / 1e6:.0f} MB, threads: {row['n_threads']}",
        _training,
        _cpu,
    ),
}


def tables(record: Row, parts: Iterable[str] = _PARTS) -> str:
    """The tables of the parts that a record has; the last column is ours beside the best peer.

    There, 2.00 means half of the CPU time of the peer that is the best in that row. A dash is a way
    that a library lacks; what was left out is listed below a table.
    """
    versions = ", ".join(f"{name} {version}" for name, version in record["peers"].items())
    vectors = "AVX-512" if "avx512f" in record["cpu_flags"] else "no AVX-512"
    if vectors == "no AVX-512" and "avx2" in record["cpu_flags"]:
        vectors = "AVX2"
    about = f"{record['cpu']} with {vectors}, {record['n_cores']} cores; {versions}."
    made = [table(part, record["parts"][part]) for part in parts if part in record["parts"]]
    return "\n\n".join([about, *made])


def table(name: str, part: Row) -> str:
    """The table of one part of a record."""
    title, key, cell, ratio = _PARTS[name]
    rows = part["rows"]
    contenders = list(dict.fromkeys(row["contender"] for row in rows))
    lines: dict[str, dict[str, Row]] = {}
    for row in rows:
        lines.setdefault(key(row), {})[row["contender"]] = row
    shown = [table_row(["", *contenders, f"{_OURS} beside the best"])]
    shown.append(table_row(["---", *["---:"] * (len(contenders) + 1)]))
    for line, cells in lines.items():
        measured = {n: row for n, row in cells.items() if "left_out" not in row}
        told = [_cell(cells.get(name), cell) for name in contenders]
        # A row has no ratio where there is no peer.
        has_ratio = _OURS in measured and len(measured) > 1
        shown.append(table_row([line, *told, ratio(measured[_OURS]) if has_ratio else "–"]))
    left_out = [
        f"- {row['contender']} is left out of {key(row)}: {row['left_out']}"
        for row in rows
        if "left_out" in row
    ]
    title = title.format(n_threads=part["n_threads"])
    return "\n\n".join(
        [f"{title}:", "\n".join(shown), *(["\n".join(left_out)] if left_out else [])]
    )


def _cell(row: Row | None, cell: Callable[[Row], str]) -> str:
    if row is None:
        return "–"
    return "left out" if "left_out" in row else cell(row)


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}" if value >= 1 else f"{value:.2f}"
