"""Reports of bench/kernel_aot.py, made by a process that does not interpret kernels."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def python(*words: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a process that does not interpret kernels."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    folders = (ROOT, ROOT / "bench", ROOT / "tests" / "support")
    environment["PYTHONPATH"] = os.pathsep.join(map(str, folders))
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True
    )


def check_compiles_well(report: dict[str, Any], name: str, architectures: set[str]) -> None:
    """Check the code of an operation's kernels for these architectures, and that there is some."""
    assert report["problems"][name] == []
    rows = [row for row in report["rows"] if name in row["ops"]]
    assert {a for row in rows for a in row["code"]} == architectures
    for row in rows:
        for code in row["code"].values():
            assert code["spilled_bytes"] == 0
            assert 0 < code["registers"] <= 255
