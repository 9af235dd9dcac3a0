"""A report on tokenizers and texts, as tables in plain text and Markdown, and as JSON.

This file imports no torch. fastlm.tokenizer.measures does the measuring.
"""

import math
import os
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from fastlm.cli.progress import Progress
from fastlm.corpus.documents import Errors
from fastlm.files.paths import spell
from fastlm.tokenizer.measures import (
    BASELINES,
    HELD_BYTES,
    PILE_BYTES,
    Measure,
    Overlap,
    TextMeasures,
    id_dtype,
    longest_tokens,
    measure_text,
    overlaps,
)
from fastlm.tokenizer.tokenizer import Tokenizer

_WIDTH = 110


class Table(NamedTuple):
    """A title, a note on the columns, and cells.

    Attributes:
        n_left: number of columns, from the left, that hold words and not numbers.
        code: index of a column of Python string literals, if there is one.
    """

    title: str
    note: str
    header: list[str]
    rows: list[list[str]]
    n_left: int = 1
    code: int | None = None

    def as_text(self) -> str:
        """Format the table as plain text with aligned columns and no trailing blanks."""
        lines = [self.header, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        spelled = [
            "  ".join(
                cell.ljust(width) if i < self.n_left else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        return "\n".join([textwrap.fill(f"{self.title}{self._note()}", _WIDTH), *spelled])

    def as_markdown(self) -> str:
        """Format the table as a title line and a table in GitHub's Markdown."""
        marks = ["---" if i < self.n_left else "---:" for i in range(len(self.header))]
        rows = [
            [_as_code(cell) if i == self.code else cell for i, cell in enumerate(row)]
            for row in self.rows
        ]
        lines = [[cell.replace("|", "\\|") for cell in line] for line in (self.header, *rows)]
        table = [f"| {' | '.join(line)} |" for line in (lines[0], marks, *lines[1:])]
        title = textwrap.fill(f"**{self.title}**{self._note()}", _WIDTH)
        return "\n".join([title, "", *table])

    def _note(self) -> str:
        return f": {self.note}" if self.note else ""


def _as_code(text: str) -> str:
    """Quote a text with more backticks than it has in a row."""
    ticks = "`"
    while ticks in text:
        ticks += "`"
    return f"{ticks}{text}{ticks}"


class Report(NamedTuple):
    """All measurements. The names of tokenizers and texts are unique.

    Attributes:
        n_longest: number of longest tokens to show for each tokenizer.
    """

    tokenizers: dict[str, Tokenizer]
    texts: list[TextMeasures]
    overlaps: list[Overlap]
    n_longest: int
    min_seconds: float


def make_report(
    texts: Sequence[Path],
    tokenizers: Sequence[Path],
    *,
    n_documents: int = 10,
    n_longest: int = 10,
    min_seconds: float = 1.0,
    errors: Errors = "strict",
    text_field: str = "text",
    allow_end_of_text: bool = False,
    on_progress: Progress | None = None,
) -> Report:
    """Measure every text with every tokenizer; a path that is given twice counts once.

    Args:
        on_progress: called with the name of a text and the number of its bytes measured so far.
    Raises:
        FileNotFoundError, ValueError: with the file and its fault.
    """
    if not texts:
        raise ValueError("give at least one text, before --tokenizer: got none")
    if not tokenizers:
        raise ValueError("give at least one tokenizer, with --tokenizer: got none")
    for name, value in (("n_longest", n_longest), ("min_seconds", min_seconds)):
        if not value >= 0:
            raise ValueError(f"{name} must not be negative: got {value}")
    for path in texts:
        if not path.exists():
            raise FileNotFoundError(f"expected a text at {path}: there is none")
    loaded = {name: Tokenizer.load(path) for name, path in name_paths(tokenizers, BASELINES)}
    measured = [
        measure_text(
            name,
            path,
            loaded,
            n_documents=n_documents,
            min_seconds=min_seconds,
            errors=errors,
            text_field=text_field,
            allow_end_of_text=allow_end_of_text,
            on_progress=on_progress,
        )
        for name, path in name_paths(texts)
    ]
    return Report(loaded, measured, overlaps(loaded), n_longest, min_seconds)


def name_paths(paths: Sequence[Path], taken: Sequence[str] = ()) -> list[tuple[str, Path]]:
    """Name each distinct path by its shortest suffix that no other path shares, as it is shown.

    >>> name_paths([Path("a/tok"), Path("b/tok"), Path("text.txt")])
    [('a/tok', PosixPath('a/tok')), ('b/tok', PosixPath('b/tok')), ('text.txt', ...)]

    Args:
        taken: names that no path may get.
    """
    distinct = {os.path.abspath(path): path for path in paths}
    parts = {full: Path(full).parts for full in distinct}

    def name(full: str) -> str:
        own = parts[full]
        for n in range(1, len(own)):
            others = (part[-n:] for other, part in parts.items() if other != full)
            if own[-n:] not in others and "/".join(own[-n:]) not in taken:
                return "/".join(own[-n:])
        return full

    return [(spell(name(full)), path) for full, path in distinct.items()]


def tables(report: Report) -> Iterator[Table]:
    """Yield the tables of a report; a table that compares is left out if there is only one item."""
    yield _vocabulary_table(report)
    yield _text_table(report.texts)
    yield _compression_table(report.texts)
    if len(report.texts) > 1:
        yield _matrix_table(report.texts)
    yield _speed_table(report)
    if report.overlaps:
        yield _overlap_table(report.overlaps)
    if report.n_longest:
        yield _longest_table(report)


def _vocabulary_table(report: Report) -> Table:
    header = ["tokenizer", "vocabulary", "special", "greatest id", "ids fit uint16"]
    rows = [
        [
            name,
            f"{tokenizer.vocab_size:,}",
            f"{len(tokenizer.special_tokens)}",
            f"{tokenizer.vocab_size - 1:,}",
            "yes" if id_dtype(tokenizer.vocab_size) == "uint16" else "no, uint32",
        ]
        for name, tokenizer in report.tokenizers.items()
    ]
    return Table("Tokenizers", "uint16 holds ids up to 65,535", header, rows)


def _text_table(texts: Sequence[TextMeasures]) -> Table:
    header = ["text", "bytes", "documents", "first documents", "their bytes"]
    rows = [
        [
            text.name,
            f"{text.n_bytes:,}",
            f"{text.n_documents:,}",
            f"{text.n_first_documents:,}",
            f"{text.n_first_bytes:,}",
        ]
        for text in texts
    ]
    return Table("Texts", "the first documents are measured by themselves too", header, rows)


def _compression_table(texts: Sequence[TextMeasures]) -> Table:
    header = ["text", "tokenizer", "vocabulary", "tokens", "bytes/token", "first documents"]
    header += ["ids", "token file"]
    rows = [
        [
            text.name,
            measure.tokenizer,
            f"{measure.vocab_size:,}",
            f"{measure.n_tokens:,}",
            f"{measure.bytes_per_token:.3f}",
            _or_dash(measure.document_bytes_per_token),
            measure.dtype,
            f"{measure.token_file_bytes:,}",
        ]
        for text in texts
        for measure in text.measures
    ]
    note = (
        "UTF-8 bytes per token, over the whole text and over its first documents. Words are the "
        "matches of GPT-2's pattern; the vocabulary of characters and words is the set of those in "
        "the text"
    )
    return Table("Compression", note, header, rows, n_left=2)


def _matrix_table(texts: Sequence[TextMeasures]) -> Table:
    rows = [
        [measures[0].tokenizer, *(f"{measure.bytes_per_token:.3f}" for measure in measures)]
        for measures in zip(*(text.measures for text in texts), strict=True)
    ]
    header = ["tokenizer", *(text.name for text in texts)]
    return Table("Bytes per token of each tokenizer on each text", "", header, rows)


def _speed_table(report: Report) -> Table:
    header = ["text", "tokenizer", "MB/s", "first pass", "passes", "tokens/s", "The Pile"]
    rows = [
        [
            text.name,
            measure.tokenizer,
            f"{measure.bytes_per_second / 1e6:,.1f}",
            f"{measure.first_bytes_per_second / 1e6:,.1f}",
            f"{measure.n_passes:,}",
            f"{measure.n_tokens * measure.n_passes / measure.elapsed_seconds:,.0f}",
            _duration(measure.pile_seconds) if measure.tokenizer in report.tokenizers else "-",
        ]
        for text in report.texts
        for measure in text.measures
    ]
    note = (
        "one process and thread, without the time of reading. Each text is encoded once; one of up "
        f"to {HELD_BYTES / 1e6:.0f} MB again, at least once and until {report.min_seconds:g} s "
        "have passed. MB/s is over all passes; the first one begins with empty caches. The Pile is "
        f"an estimate: {PILE_BYTES / 1e9:.0f} GB at the speed after the first pass, or in a longer "
        f"text after {HELD_BYTES / 1e6:.0f} MB"
    )
    return Table("Speed of encoding", note, header, rows, n_left=2)


def _overlap_table(pairs: Sequence[Overlap]) -> Table:
    header = ["tokenizer", "other", "tokens", "of the other", "shared", "of the smaller", "Jaccard"]
    rows = [
        [
            pair.first,
            pair.second,
            f"{pair.n_first:,}",
            f"{pair.n_second:,}",
            f"{pair.n_shared:,}",
            f"{pair.share_of_smaller:.1%}",
            f"{pair.jaccard:.3f}",
        ]
        for pair in pairs
    ]
    note = "byte strings in both, without special tokens"
    return Table("Overlap of vocabularies", note, header, rows, n_left=2)


def _longest_table(report: Report) -> Table:
    rows = [
        [name, repr(token.decode("utf-8", "replace")), f"{len(token)}", f"{token_id:,}"]
        for name, tokenizer in report.tokenizers.items()
        for token_id, token in longest_tokens(tokenizer, report.n_longest)
    ]
    header = ["tokenizer", "token", "bytes", "id"]
    return Table("Longest tokens", "without special tokens", header, rows, n_left=2, code=1)


def _or_dash(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _duration(seconds: float) -> str:
    """Format a duration in hours, or in minutes below one hour, to three digits."""
    hours = seconds / 3600
    return f"{hours:,.3g} h" if hours >= 1 else f"{60 * hours:.3g} min"


def as_markdown(report: Report) -> str:
    """Format all tables as the content of a Markdown file."""
    return "\n\n".join(table.as_markdown() for table in tables(report)) + "\n"


def as_json(report: Report) -> dict[str, Any]:
    """All measurements and the ratios of them."""
    return {
        "pile_bytes": PILE_BYTES,
        "tokenizers": _tokenizers_as_json(report.tokenizers, report.n_longest),
        "texts": [
            {
                "name": text.name,
                "bytes": text.n_bytes,
                "documents": text.n_documents,
                "first_documents": text.n_first_documents,
                "first_documents_bytes": text.n_first_bytes,
                "measures": [_measure_as_json(measure) for measure in text.measures],
            }
            for text in report.texts
        ],
        "overlaps": [
            asdict(pair) | {"share_of_smaller": pair.share_of_smaller, "jaccard": pair.jaccard}
            for pair in report.overlaps
        ],
    }


def _tokenizers_as_json(tokenizers: Mapping[str, Tokenizer], n: int) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "hash": tokenizer.hash,
            "vocab_size": tokenizer.vocab_size,
            "special_tokens": tokenizer.special_tokens,
            "greatest_id": tokenizer.vocab_size - 1,
            "dtype": id_dtype(tokenizer.vocab_size),
            "longest_tokens": [
                {"id": i, "bytes": len(token), "text": token.decode("utf-8", "replace")}
                for i, token in longest_tokens(tokenizer, n)
            ],
        }
        for name, tokenizer in tokenizers.items()
    ]


def _measure_as_json(measure: Measure) -> dict[str, Any]:
    ratio = measure.document_bytes_per_token
    return asdict(measure) | {
        "bytes_per_token": measure.bytes_per_token,
        "document_bytes_per_token": None if math.isnan(ratio) else ratio,
        "bytes_per_second": measure.bytes_per_second,
        "first_bytes_per_second": measure.first_bytes_per_second,
        "warm_bytes_per_second": measure.warm_bytes_per_second,
        "pile_seconds": measure.pile_seconds,
        "dtype": measure.dtype,
        "token_file_bytes": measure.token_file_bytes,
    }
