"""Links from the folder of a run or of a sweep to files that are another's."""

import os
from collections.abc import Iterable
from pathlib import Path

from fastlm.files import disk
from fastlm.files.json_files import read_object_or_empty, to_json
from fastlm.runs.found import is_run
from fastlm.runs.run_files import RunFiles, SweepFiles


def links_into_others(folder: Path) -> Iterable[tuple[Path, Path]]:
    """Yield what a run or a sweep would write to and is a link into another one, and that one.

    A link to a place that is in no run is the user's own, such as checkpoints on another disk.
    """
    files: RunFiles | SweepFiles = RunFiles(folder)
    if SweepFiles(folder).plan.exists():
        files = SweepFiles(folder)
    for path in files.written():
        if path.is_symlink() and (other := _other_above(path, files)) is not None:
            yield path, other


def check_own_files(folder: Path, *, instead: str) -> None:
    """Check that nothing that a run or a sweep writes to is another's by a link.

    Args:
        instead: what to do, for the message.
    Raises:
        FileExistsError: if something is; the message names both.
    """
    for path, other in links_into_others(folder):
        raise FileExistsError(
            f"{path} is a link into the run {other}, which would be changed: put a copy in its "
            f"place, such as with cp -rL, or {instead}"
        )
    if (owner := _other_owner(RunFiles(folder))) is not None:
        raise FileExistsError(
            f"{RunFiles(folder).checkpoints} is a link to where the run {owner} has its "
            f"checkpoints, which would be changed: put a copy in its place, such as with cp -rL, "
            f"or {instead}"
        )


def note_owner(folder: Path) -> None:
    """Note in a folder of checkpoints that is reached by a link which run writes there.

    A copy of the run has the same link, and check_own_files refuses it while the run is there.
    """
    files = RunFiles(folder)
    if files.checkpoints.is_symlink() and files.checkpoints.is_dir():
        owner = to_json({"run": os.path.realpath(folder)})
        disk.write_file(files.owner, owner, replace=True)


def _other_owner(files: RunFiles) -> Path | None:
    """Return the run, still there, that writes to the folder that a link to checkpoints names."""
    if not files.checkpoints.is_symlink():
        return None
    told = read_object_or_empty(files.owner).get("run")
    owner = RunFiles(Path(told)) if isinstance(told, str) else files
    if not (is_run(owner.folder) and owner.checkpoints.exists() and files.folder.exists()):
        return None
    is_other = not owner.folder.samefile(files.folder)
    return owner.folder if is_other and owner.checkpoints.samefile(files.checkpoints) else None


def _other_above(path: Path, files: RunFiles | SweepFiles) -> Path | None:
    """Return the innermost run, for a sweep's file also sweep, that a link leads into."""
    found = Path(os.path.realpath(path))
    for place in (found, *found.parents):
        if place.exists() and place.samefile(files.folder):
            return None
        is_sweep = isinstance(files, SweepFiles) and SweepFiles(place).plan.is_file()
        if is_run(place) or is_sweep:
            return place
    return None
