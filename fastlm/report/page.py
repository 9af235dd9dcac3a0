"""Make one HTML page of many runs, with curves, a table and the differences between them.

The page is self-contained, so that it can be sent. Its parts are in fastlm/report/page_parts/.
"""

import json
import re
import time
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastlm.files import disk
from fastlm.files.outputs import check_new_files
from fastlm.report.run_json import describe_run, embedded, rows_per_run, run_id
from fastlm.runs.run_files import RunFiles

SCRIPTS = ("format.js", "chart.js", "tables.js", "page.js")
_VALUES = re.compile(rb'<script type="application/json" id="values">(.*?)</script>', re.DOTALL)


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


def write_report(runs: Mapping[Path, str], out: Path, *, replace: bool = False) -> int:
    """Write the page of runs and return its size in bytes.

    An earlier page is replaced if all of its runs are among these.

    Args:
        replace: replace any existing file.
    Raises:
        FileExistsError: if there is another one.
        ValueError: if the page would be written over a file of a run.
    """
    shown = shown_runs(out)
    replace = replace or (bool(shown) and shown <= set(map(run_id, runs)))
    read = [path for folder in runs for path in RunFiles(folder).evidence()]
    check_new_files({"--out": out}, read, replace=replace, to_stream=True)
    raw = report_page(runs).encode("utf-8")
    disk.write_file(out, raw, replace=replace, to_stream=True)
    return len(raw)


def shown_runs(page: Path) -> set[str]:
    """Return the ids of the runs that a page shows; none if a file is no page of runs."""
    if not page.is_file():
        return set()
    values = _VALUES.search(page.read_bytes())
    try:
        return {str(run["id"]) for run in json.loads(values[1] if values else b"")["runs"]}
    except (ValueError, RecursionError, KeyError, TypeError):
        return set()


def _part(name: str) -> str:
    return (files("fastlm.report") / "page_parts" / name).read_text(encoding="utf-8")


def _filled(template: str, parts: Mapping[str, str]) -> str:
    """Replace each {{ name }} of the template; inserted text is not searched again."""
    return re.sub(r"\{\{ (\w+) \}\}", lambda found: parts[found[1]], template)
