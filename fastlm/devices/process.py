"""This process as the system sees it.

Imports nothing that takes time: a process can be measured before it has loaded anything.
"""

import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


def peak_resident_bytes() -> int:
    """Most bytes of memory that this process has held at once; 0 where the system does not tell.

    Linux tells it as VmHWM, which is the process's own. ru_maxrss, which other systems have alone,
    of a child begins there with the peak of its parent.
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
