"""The memory that a process says it has held is its own, and in bytes."""

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from fastlm.devices import process
from fastlm.devices.process import peak_resident_bytes

ROOT = Path(__file__).resolve().parents[2]
MEGABYTE = 1_000_000

# bytes() of zeros are not resident before something is written to them.
PARENT = """
import subprocess, sys
held = b"x" * 500_000_000
child = [sys.executable, "-c", "from fastlm.devices.process import *; print(peak_resident_bytes())"]
print(subprocess.run(child, capture_output=True, text=True, check=True).stdout)
from fastlm.devices.process import peak_resident_bytes
print(peak_resident_bytes())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system tells ru_maxrss alone")
def test_a_child_of_a_large_process_tells_its_own_small_peak():
    done = subprocess.run(
        [sys.executable, "-c", PARENT], env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    child, parent = map(int, done.stdout.split())
    assert parent > 500 * MEGABYTE
    assert 3 * MEGABYTE < child < 50 * MEGABYTE


def test_what_was_held_and_let_go_counts():
    before = peak_resident_bytes()
    held = b"x" * (before + 50 * MEGABYTE)
    size = len(held)
    del held
    assert peak_resident_bytes() > size


@pytest.mark.parametrize(
    ("platform", "expected"),
    [("linux", 7 << 20), ("darwin", 7 << 10), ("freebsd14", 7 << 20), ("win32", 0)],
)
def test_every_system_has_its_unit(platform, expected, tmp_path, monkeypatch):
    """KiB where there is no VmHWM, bytes on macOS; Windows has no such module."""
    usage = types.SimpleNamespace(ru_maxrss=7 << 10)
    resource = types.SimpleNamespace(RUSAGE_SELF=0, getrusage=lambda who: usage)
    monkeypatch.setitem(sys.modules, "resource", None if platform == "win32" else resource)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(process, "_STATUS", tmp_path / "status")
    assert peak_resident_bytes() == expected
    if platform == "linux":
        (tmp_path / "status").write_text("Name:\tpython\nVmPeak:\t 900 kB\nVmHWM:\t   123 kB\n")
        assert peak_resident_bytes() == 123 * 1024
