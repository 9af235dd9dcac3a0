"""Names of the checkpoints of a run, step-000123; to look for them takes no torch."""

import re
from pathlib import Path

_STEP_FOLDER = re.compile(r"step-(\d{6,})")


def step_folder(step: int) -> str:
    """Return the name of the folder of a checkpoint."""
    return f"step-{step:06d}"


def is_checkpoint(folder: Path) -> bool:
    """Return whether a folder has the name of a checkpoint of a run."""
    return _STEP_FOLDER.fullmatch(folder.name) is not None


def step_of(folder: Path) -> int:
    """Return the step of a checkpoint of a run, by the name of its folder."""
    return int(folder.name.split("-")[1])


def run_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, oldest first."""
    if not folder.is_dir():
        return []
    found = [p for p in folder.iterdir() if is_checkpoint(p)]
    return sorted(found, key=step_of)


def newest_step(folder: Path) -> int | None:
    """Return the step of the newest checkpoint in a folder; None if there is none to be seen."""
    try:
        found = run_checkpoints(folder)
    except OSError:  # such as of a folder that may not be read
        return None
    return step_of(found[-1]) if found else None
