"""The compilers and headers that torch.compile and Triton call."""

import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

INSTALL = "apt-get install g++ python3-dev"
"""The command that installs all of them on Debian and Ubuntu"""

_C_COMPILERS = ("cc", "gcc", "clang", "cl")
_CXX_COMPILERS = {"linux": "g++", "darwin": "clang++", "win32": "cl"}


def find_compiler(language: str) -> tuple[str | None, str]:
    """Return the path of the compiler of "C" (Triton's) or "C++" (torch.compile's on a CPU).

    Returns:
        The path, None if there is none, and the names that were looked for.
    """
    variable = {"C": "CC", "C++": "CXX"}[language]
    usual = _C_COMPILERS if language == "C" else (_CXX_COMPILERS.get(sys.platform, "g++"),)
    names = os.environ.get(variable, "").split()[:1] or list(usual)
    found = next((path for name in names if (path := shutil.which(name))), None)
    return found, ", ".join(names)


def has_python_headers() -> bool:
    """Return whether Python.h is there, which all code that Python loads is compiled with."""
    return (Path(sysconfig.get_path("include")) / "Python.h").is_file()


def lacks_for_cpu() -> str:
    """Return what torch.compile lacks for a CPU on this machine; empty if nothing."""
    found, names = find_compiler("C++")
    if found is None:
        return f"a C++ compiler (looked for {names})"
    if not os.environ.get("CXX", "g++").strip():
        return "a C++ compiler (the variable CXX is empty)"
    try:
        answer = subprocess.run([found, "--version"], capture_output=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return f"a C++ compiler ({found} cannot be run)"
    if answer.returncode:
        return f"a C++ compiler ({found} --version fails)"
    return "" if has_python_headers() else "Python's headers (Python.h)"


def lacks_for_gpu() -> str:
    """Return what torch.compile lacks for a GPU on this machine; empty if nothing."""
    if find_spec("triton") is None:
        return "Triton"
    found, names = find_compiler("C")
    if found is None:
        return f"a C compiler (looked for {names})"
    return "" if has_python_headers() else "Python's headers (Python.h)"
