"""One HTML page of many runs: curves, a table, what differs; self-contained, made to be sent.

The page's own files lie in fastlm/report/page_parts/.
"""

import re
import time
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastlm.files import disk
from fastlm.report.run_json import describe_run, embedded, rows_per_run

SCRIPTS = ("format.js", "chart.js", "tables.js", "page.js")


def report_values(runs: Mapping[Path, str], *, poll_seconds: float | None = None) -> dict[str, Any]:
    """What the page is made of.

    Args:
        runs: folders and their names, from find_runs.
        poll_seconds: how often a page that is served asks for news; None for a file.
    """
    limit = rows_per_run(len(runs))
    return {
        "runs": [describe_run(folder, name, limit=limit) for folder, name in runs.items()],
        "made": time.time(),
        "poll_seconds": poll_seconds,
    }


def report_page(runs: Mapping[Path, str], *, poll_seconds: float | None = None) -> str:
    """The page of runs, as HTML.

    Args:
        runs: folders and their names, from find_runs.
        poll_seconds: how often a page that is served asks for news; None for a file.
    """
    values = embedded(report_values(runs, poll_seconds=poll_seconds))
    return _filled(
        _part("page.html"),
        {
            "style": _part("page.css"),
            "values": values,
            "script": "\n".join(_part(name) for name in SCRIPTS),
        },
    )


def write_report(runs: Mapping[Path, str], out: Path) -> int:
    """Write the page of runs, in the place of one of that name; returns its size in bytes."""
    disk.check_new_file(out, replace=True, to_stream=True)
    raw = report_page(runs).encode("utf-8")
    disk.write_file(out, raw, replace=True, to_stream=True)
    return len(raw)


def _part(name: str) -> str:
    return (files("fastlm.report") / "page_parts" / name).read_text(encoding="utf-8")


def _filled(template: str, parts: Mapping[str, str]) -> str:
    """The template with {{ name }} replaced; what is filled in is not looked at again."""
    return re.sub(r"\{\{ (\w+) \}\}", lambda found: parts[found[1]], template)
