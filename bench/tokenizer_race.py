"""Race fastlm's tokenizer against the fastest others, with GPT-2's vocabulary, in one run.

    pip install "fastlm[race]"
    python bench/tokenizer_race.py ENGLISH.txt CODE.txt --gpt2 FOLDER --out bench/results/NAME.json
    python bench/tokenizer_race.py --tables bench/results/NAME.json          print its tables
    python bench/tokenizer_race.py --tables bench/results/NAME.json --write  put them into the docs

A library that is not installed is left out, which a line says. All measure CPU seconds, user and
system, of all threads: a library that uses two threads for a text pays for both. Contenders take
turns in each round, and each begins a round once; figures are medians. Before any is timed, its ids
are compared with ours; one that finds other ids, raises or does not end is left out, and the record
says so. "Cold" is the first call of a new object, which may set up what loading left undone; "warm"
are further calls with the same input. Each object gets its own copy of a text: a str keeps its
UTF-8 once a library written in Rust has asked for it, so that a later reader would not pay for it.

The parts: text (one str, to numpy and to a list), documents (30,000, to lists and to one array),
file, short (calls on 20 to 1,000 bytes), hard (repeats, random letters, base64, spaces, emoji),
start (fresh processes that load and encode), train (fresh processes). The record is written after
each part. A run with the --out of an earlier one replaces the parts that it measures.
"""

import json
import os
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from readme_tables import replace_table
from record import rounded
from tokenizer_contenders import CONTENDERS, write_vocabulary
from tokenizer_peers import thread_environment, versions_of
from tokenizer_race_parts import OURS, PARTS, Row, Setting
from tokenizer_race_tables import BLOCK, table, tables
from tyro.conf import Positional

from fastlm import cli
from fastlm.devices.hardware import available_cores, choose_device, describe
from fastlm.tokenizer import Tokenizer

DOCS = Path(__file__).resolve().parent.parent / "docs" / "tokenizer.md"


@dataclass(frozen=True)
class Options:
    """Race the tokenizer against its peers and write all figures to a JSON file.

    Attributes:
        text: UTF-8 text files; short and start take the first only.
        out: JSON file to write, or to add parts to.
        gpt2: folder or tokenizer.json with the vocabulary of all, GPT-2's.
        parts: parts to measure, comma-separated.
        contenders: libraries to measure beside fastlm, comma-separated; all that are installed.
        rounds: number of rounds.
        threads: threads for documents, files and training, which is also measured on one.
        max_bytes: bytes of a text that is encoded as one str.
        bulk_bytes: bytes of a text that is encoded as documents or as a file.
        train_bytes: bytes of a text to train on.
        hard_bytes: bytes of a hard input.
        vocab_size: vocabulary size of the trainings.
        limit_seconds: time after which a contender is left out of a hard input or a process.
        tables: measure nothing, and print the tables of this record.
        write: with tables: write them into docs/tokenizer.md.
    """

    text: Positional[tuple[Path, ...]] = ()
    out: Path | None = None
    gpt2: Path | None = None
    parts: str = ",".join(PARTS)
    contenders: str = ",".join(CONTENDERS)
    rounds: int = 5
    threads: int = 2
    max_bytes: int = 5_000_000
    bulk_bytes: int = 30_000_000
    train_bytes: int = 99_000_000
    hard_bytes: int = 1_000_000
    vocab_size: int = 32_000
    limit_seconds: float = 120
    tables: Path | None = None
    write: bool = False


def chosen(names: str, kind: str, known: dict[str, Any]) -> list[str]:
    for name in (wanted := names.split(",")):
        if name not in known:
            raise ValueError(cli.unknown(kind, name, known))
    return wanted


def cpu_flags() -> list[str]:
    """The vector instructions that the CPU has, by the names of Linux; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    flags = next((line.split() for line in lines if line.startswith(("flags", "Features"))), [])
    return sorted(name for name in flags if name.startswith(("avx", "sse4", "asimd", "sve")))


def installed(wanted: list[str]) -> dict[str, str]:
    """Versions of the wanted peers; a line on standard error names each that is absent."""
    versions = versions_of(name for name in wanted if name != OURS)
    absent = [name for name, version in versions.items() if version == "absent"]
    if absent:
        names = ", ".join(absent)
        print(f'note: not installed: {names} (pip install "fastlm[race]")', file=sys.stderr)
    return versions


def begun(out: Path, where: Row) -> Row:
    """The record in a file, if it was measured here with the same libraries; else a new one."""
    if not out.exists():
        return where | {"parts": {}}
    record = json.loads(out.read_text())
    for name in ("cpu", "n_cores", "peers"):
        if record[name] != where[name]:
            raise ValueError(
                f"{out} has figures of another {name}, {record[name]}, not {where[name]}: "
                "give another --out"
            )
    return where | {"parts": record["parts"]}


def measure(options: Options) -> None:
    """Run the parts in options.parts; after each, print its table and write the record."""
    parts = chosen(options.parts, "part", PARTS)
    wanted = chosen(options.contenders, "contender", CONTENDERS)
    if not options.text or options.out is None or options.gpt2 is None:
        raise ValueError("give text files, --out and --gpt2, or --tables with a record")
    if len({path.stem for path in options.text}) < len(options.text):
        raise ValueError("two texts have the same name, by which the record tells them apart")
    # Libraries read these when they start their first thread.
    os.environ |= thread_environment(options.threads)
    peers = installed(wanted)
    machine = describe(choose_device())
    where: Row = {
        "cpu": machine["cpu"],
        "cpu_flags": cpu_flags(),
        "n_cores": available_cores(),
        "peers": peers,
    }
    record = begun(options.out, where)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_vocabulary(Tokenizer.load(options.gpt2), str(work / "vocabulary"))
        names = [OURS, *(name for name, version in peers.items() if version != "absent")]
        setting = Setting(
            [CONTENDERS[name] for name in names],
            work / "vocabulary",
            options.text,
            work,
            options.max_bytes,
            options.bulk_bytes,
            options.train_bytes,
            options.hard_bytes,
            options.vocab_size,
            options.threads,
            options.rounds,
            options.limit_seconds,
        )
        for part in parts:
            rows = PARTS[part](setting)
            record["parts"][part] = {
                "date": datetime.now(UTC).isoformat(),
                "machine": machine,
                "n_threads": options.threads,
                "rows": rounded(rows),
            }
            print(f"\n{table(part, record['parts'][part])}", flush=True)
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(record, indent=1) + "\n")


def page(record: Path) -> str:
    """The tables of a record and a link to it, as in docs/tokenizer.md."""
    return f"{tables(json.loads(record.read_text()))}\n\n([record](../bench/results/{record.name}))"


def main(argv: list[str] | None = None) -> None:
    options = cli.parse(Options, argv)
    if options.tables is None:
        measure(options)
    elif options.write:
        replace_table(DOCS, BLOCK, page(options.tables))
    else:
        print(tables(json.loads(options.tables.read_text())))


if __name__ == "__main__":
    cli.run(main)
