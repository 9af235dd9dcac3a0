"""Measure the tokenizer on whole files: training, memory, start, growth, hard inputs.

python bench/tokenizer_scale.py TEXT.txt ... --out bench/results/NAME.json --gpt2 FOLDER

After each part the figures are printed as tables and written to the JSON file. The exit code is 1
if ids differ from tiktoken's. tokenizer_race.py measures other libraries beside fastlm.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from record import rounded
from tokenizer_parts import (
    SMALL_VOCAB_SIZE,
    Options,
    Row,
    Setting,
    measure_adversarial,
    measure_scaling,
    measure_short,
    measure_start,
    measure_training,
    run_child,
)
from tokenizer_peers import versions_of
from tokenizer_texts import write_start

from fastlm import cli
from fastlm.cli.comma_lists import comma_separated
from fastlm.devices.hardware import choose_device, describe
from fastlm.tokenizer import END_OF_TEXT, Tokenizer, train_bpe

EVERYTHING_BYTES = 4_000_000

# Title and columns.
TABLES = {
    "training": (
        "training",
        (
            "text n_threads n_rounds seconds first_call_seconds megabytes_per_second "
            "peak_rss_bytes rss_before_bytes"
        ),
    ),
    "short": (
        "calls on short texts; ratio: time over tiktoken's",
        "call bytes contender microseconds ratio n_rounds equal",
    ),
    "start": (
        "start in a fresh interpreter; process: with the interpreter's own start and end",
        (
            "what compiled seconds process_seconds import_seconds load_seconds "
            "first_encode_seconds cold_minus_warm_seconds n_rounds"
        ),
    ),
    "scaling": (
        "growth with the text",
        "job bytes n_threads seconds megabytes_per_second peak_rss_bytes rss_before_bytes",
    ),
    "adversarial": (
        "hard inputs; exponent 1: time is linear in the size",
        "kind job bytes seconds exponent peak_rss_bytes rss_before_bytes failed",
    ),
}


def show(title: str, columns: list[str], rows: list[Row]) -> None:
    """Print a table of the values in the named columns."""
    table = [[name.replace("_", " ") for name in columns]]
    table += [[shown(name, row.get(name)) for name in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    print(f"\n{title}")
    for cells in table:
        line = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        print(line.rstrip())
    sys.stdout.flush()


def shown(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name.endswith("_bytes"):
        return f"{value / 1e6:.0f} MB"
    if isinstance(value, float):
        return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
    return f"{value:,}" if type(value) is int else str(value)


PARTS: dict[str, Callable[[Setting], list[Row]]] = {
    "training": measure_training,
    "short": measure_short,
    "start": measure_start,
    "scaling": measure_scaling,
    "adversarial": measure_adversarial,
}


def save_vocabulary(gpt2: Path | None, text: Path, vocab_size: int, folder: Path) -> str:
    """Write the tokenizer to encode with; returns its vocabulary's source."""
    if gpt2 is not None:
        files = gpt2 / "vocab.json", gpt2 / "merges.txt"
        Tokenizer.from_files(*files, [END_OF_TEXT]).save(folder)
        return "GPT-2"
    Tokenizer(*train_bpe(text, vocab_size, [END_OF_TEXT]), [END_OF_TEXT]).save(folder)
    return f"{vocab_size} tokens learned from {text.name}"


def use_texts(texts: tuple[Path, ...], max_bytes: int | None, work: Path) -> list[Path]:
    """The texts, with each text larger than max_bytes replaced by its beginning."""
    used = []
    for text in texts:
        if max_bytes is not None and text.stat().st_size > max_bytes:
            (work / "texts").mkdir(exist_ok=True)
            write_start(text, max_bytes, work / "texts" / text.name)
            text = work / "texts" / text.name
        used.append(text)
    return used


def measure(options: Options) -> None:
    """Prepare the inputs of the parts, and run the parts in options.parts."""
    wanted = comma_separated("--parts", options.parts, f"some of {', '.join(PARTS)}")
    for part in wanted:
        if part not in PARTS:
            raise ValueError(cli.unknown("part", part, PARTS))
    if not options.text:
        raise ValueError("give at least one text file")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        texts = use_texts(options.text, options.max_bytes, work)
        tokenizer = work / "tokenizer"
        record: Row = {
            "date": datetime.now(UTC).isoformat(),
            "machine": describe(choose_device()),
            "n_cores": len(os.sched_getaffinity(0)),
            "peers": versions_of(["tiktoken"]),
            "texts": [{"name": path.name, "bytes": path.stat().st_size} for path in texts],
            "vocab_size_trained": options.vocab_size,
            "vocabulary_encoded_with": save_vocabulary(
                options.gpt2, texts[0], options.vocab_size, tokenizer
            ),
            "rounds": options.rounds,
        }
        run_parts(wanted, Setting(options, texts, work, tokenizer), record)


def run_parts(wanted: list[str], setting: Setting, record: Row) -> None:
    """Run the parts; after each, print its table and write all figures so far."""
    # Numba's cache is filled first, so that only the part on cold starts compiles.
    large = setting.work / "large.txt"
    write_start(setting.texts[0], EVERYTHING_BYTES, large)
    run_child("everything", path=large, folder=setting.tokenizer, vocab_size=SMALL_VOCAB_SIZE)
    for part in wanted:
        rows = PARTS[part](setting)
        title, columns = TABLES[part]
        show(title, columns.split(), rows)
        record[part] = rounded(rows)
        setting.options.out.parent.mkdir(parents=True, exist_ok=True)
        setting.options.out.write_text(json.dumps(record, indent=1) + "\n")
    stop_where_ids_differ(record)


def stop_where_ids_differ(record: Row) -> None:
    differing = [f"{row['bytes']} bytes" for row in record.get("short", []) if not row["equal"]]
    if differing:
        sys.exit(f"ids differ from tiktoken's: {'; '.join(differing)}")


if __name__ == "__main__":
    cli.run(lambda: measure(cli.parse(Options, None)))
