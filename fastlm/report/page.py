"""Make one HTML page of many runs, with curves, a table and the differences between them.

The page is self-contained, so that it can be sent. Its parts are in fastlm/report/page_parts/.
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
    """Return the values that the page is made from.

    Args:
        runs: folders and their names, from find_runs.
        poll_seconds: seconds between the requests of a served page for news; None for a file.
    """
    limit = rows_per_run(len(runs))
    return {
        "runs": [describe_run(folder, name, limit=limit) for folder, name in runs.items()],
        "made": time.time(),
        "poll_seconds": poll_seconds,
    }


def report_page(runs: Mapping[Path, str], *, poll_seconds: float | None = None) -> str:
    """Return the page of runs as HTML.

    Args:
        runs: folders and their names, from find_runs.
        poll_seconds: seconds between the requests of a served page for news; None for a file.
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
    """Write the page of runs, replacing an existing file, and return its size in bytes."""
    disk.check_new_file(out, replace=True, to_stream=True)
    raw = report_page(runs).encode("utf-8")
    disk.write_file(out, raw, replace=True, to_stream=True)
    return len(raw)


def _part(name: str) -> str:
    return (files("fastlm.report") / "page_parts" / name).read_text(encoding="utf-8")


def _filled(template: str, parts: Mapping[str, str]) -> str:
    """Replace each {{ name }} of the template; inserted text is not searched again."""
    return re.sub(r"\{\{ (\w+) \}\}", lambda found: parts[found[1]], template)
