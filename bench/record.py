"""Shorten a pytest-benchmark report to medians, figures and the machine.

pytest --benchmark-only --benchmark-json=report.json
python bench/record.py report.json bench/results/NAME.json
"""

import json
import sys
from pathlib import Path
from typing import Any

from fastlm.devices.hardware import choose_device, describe


def rounded(value: Any) -> Any:
    """All floats rounded to five digits, since more are noise and make the file hard to read."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, list):
        return [rounded(item) for item in value]
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    return value


def record(report: Path, out: Path) -> None:
    """Write the short form of a report to a file."""
    read = json.loads(report.read_text())
    measured = [
        {
            "name": entry["name"],
            "median_seconds": entry["stats"]["median"],
            "fastest_seconds": entry["stats"]["min"],
            "slowest_seconds": entry["stats"]["max"],
            "rounds": entry["stats"]["rounds"],
            **entry["extra_info"],
        }
        for entry in read["benchmarks"]
    ]
    machine = describe(choose_device())
    kept = {"date": read["datetime"], "machine": machine, "benchmarks": measured}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python bench/record.py REPORT.json OUT.json")
    record(Path(sys.argv[1]), Path(sys.argv[2]))
