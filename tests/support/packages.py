"""Building fastlm's sdist and wheel, and installing them, without a network."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHES = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*_cache")
NOT_SOURCES = {".git", ".venv", "build", "dist", "data", "out", "shared", "carry", ".hypothesis", ".benchmarks"}  # fmt: skip
"""at the top of a checkout: fastlm has a package of the name data"""


def not_copied(folder: str, names: list[str]) -> set[str]:
    """Names in a folder of the checkout that are not sources; the `ignore` of shutil.copytree."""
    return CACHES(folder, names) | (NOT_SOURCES if Path(folder) == ROOT else set())


def attempt(*words: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in an environment that knows nothing of the checkout."""
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "TRITON_INTERPRET")}
    return subprocess.run(
        [str(word) for word in words], cwd=cwd, env=kept | environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip


def run(*words: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command that has to succeed."""
    done = attempt(*words, cwd=cwd, **environment)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done


def build_sdist(folder: Path) -> Path:
    """Build the sdist from a copy of the checkout."""
    shutil.copytree(ROOT, folder / "copy", ignore=not_copied)
    code = f"from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})"
    run(sys.executable, "-c", code, cwd=folder / "copy")
    return next(folder.glob("*.tar.gz"))


def unpack(sdist: Path, folder: Path) -> Path:
    with tarfile.open(sdist) as archive:
        # The filter is newer than Python 3.11.0; this archive was made a moment ago.
        archive.extractall(
            folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {})
        )
    return next(path for path in folder.iterdir() if path.is_dir())


def build_wheel(sources: Path, folder: Path) -> Path:
    """Build the wheel with this environment's setuptools."""
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
    run(*pip, "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", folder, sources, cwd=folder)  # fmt: skip
    return next(folder.glob("*.whl"))


def new_environment(folder: Path) -> Path:
    """Make a virtual environment that sees all packages here but fastlm; return its bin folder.

    A .pth file read in another's site-packages is not followed: the checkout stays unknown.
    """
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    site = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
    (Path(site) / "others.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return folder / "bin"


def install(wheel: Path, bin_folder: Path, *options: str) -> None:
    pip = [sys.executable, "-m", "pip", "--python", bin_folder / "python", "install", "--quiet"]
    run(*pip, "--disable-pip-version-check", *options, wheel, cwd=wheel.parent)
