"""Measurements of this process by the operating system.

This module has no slow imports, so that a process can be measured before it loads anything.
"""

import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


def peak_resident_bytes() -> int:
    """Peak resident memory of this process in bytes; 0 if the system does not report it.

    On Linux this is VmHWM. ru_maxrss, the only source on other systems, starts on Linux with the
    peak of the parent process.
    """
    if sys.platform == "linux":
        try:
            for line in _STATUS.read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        except OSError:
            pass
    try:
        import resource
    except ImportError:  # not on Windows
        return 0
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024  # elsewhere it is in KiB
