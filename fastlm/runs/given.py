"""Paths that users give where a run or prepared data is expected, checked before slow imports.

If something else is there, the error names it, and the command that leads on from it.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from fastlm.cli import command_line, pasted
from fastlm.files import disk
from fastlm.files.json_files import read_object_or_empty
from fastlm.files.step_folders import is_checkpoint, run_checkpoints
from fastlm.runs.found import is_run, read_log, runs_in
from fastlm.runs.links import check_own_files
from fastlm.runs.run_files import RunFiles, SweepFiles
from fastlm.runs.state import state_of

MOST_NAMED = 5
"""Greatest number of folders that an error lists"""

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*:/", re.IGNORECASE)
_HUB_NAME = re.compile(r"[\w-]+/[\w.-]+")
_META = "meta.json"
_OF_A_TOKENIZER = ("vocab.json", "merges.txt")
_TEXTS = (".txt", ".jsonl", ".json", ".md", ".parquet", ".gz", ".xz", ".zst", ".csv")


def run_of(path: Path) -> Path:
    """The folder of a run, from that folder or the folder of one of its checkpoints."""
    run = path.parent.parent
    if is_checkpoint(path) and path.parent.absolute() == RunFiles(run.absolute()).checkpoints:
        return run
    return path


def check_run(path: Path, *, is_saved: bool = True) -> None:
    """Check that a path is the folder of a run, or of one of its checkpoints.

    Args:
        is_saved: whether the run needs a checkpoint.
    Raises:
        FileNotFoundError: if it is not; the message says what is there instead, and what to do.
    """
    run = run_of(path)
    files = RunFiles(run)
    if not files.config.is_file():
        raise FileNotFoundError(f"no run in {path}: {_instead_of_run(path)}")
    if is_foreign_model(run):
        raise FileNotFoundError(
            f"no run in {path}: it is a model of transformers, which "
            f"{command_line('imports', 'model', path, '--out', 'RUN')} makes a run of"
        )
    if run != path and not path.is_dir():
        there = [found.name for found in run_checkpoints(files.checkpoints)]
        raise FileNotFoundError(
            f"no checkpoint {path}: {_listed(there) if there else 'the run has'} "
            f"{'are there' if there else 'none'}"
        )
    if is_saved and not run_checkpoints(files.checkpoints):
        raise FileNotFoundError(
            f"no checkpoint in {files.checkpoints}: the run is {state_of(run).name} and has saved "
            "none, so there is no model yet: train it with --resume auto"
        )


def going_on(folder: Path) -> str:
    """The advice to go on with a run, which begins anew with the same words if none is saved."""
    return f"go on with --resume auto --out {pasted(folder)}"


def nothing_to_go_on_from(folder: Path, flags: Sequence[str] = ()) -> FileNotFoundError:
    """The error for a run that was named to go on and has no checkpoint.

    Args:
        flags: the other words of the command line, which the advice repeats.
    """
    anew = pasted("--resume", "auto", "--out", folder, *flags)
    return FileNotFoundError(f"{folder} has no checkpoint to go on from: begin it anew with {anew}")


def check_new_run(folder: Path, *, is_over: bool = False) -> None:
    """Check that a run can begin in a folder.

    Args:
        is_over: whether no process trains into the folder, as the caller holds its lock.
    Raises:
        FileExistsError: if the folder holds a run, what is left of one, a sweep, prepared data, or
            files of others with the names that a run's files have.
        NotADirectoryError: if a file has its path, or that of a parent.
    """
    if RunFiles(folder).config.is_file():
        state = state_of(folder, is_over=is_over or _has_no_process(folder))
        goes_on = "" if state.name == "imported" else ", or --resume auto to continue it"
        raise FileExistsError(
            f"{folder} already holds a run, which is {state.name}: give another --out{goes_on}"
        )
    files = RunFiles(folder)
    if saved := run_checkpoints(files.checkpoints):
        raise FileExistsError(
            f"{folder} holds checkpoints of a run ({saved[-1].name}) without its "
            f"{files.config.name}: give another --out"
        )
    if read_log(folder).rows:
        raise FileExistsError(
            f"{folder} holds the {files.log.name} of a run without its {files.config.name}: give "
            "another --out"
        )
    check_place_of_run(folder)


def check_place_of_run(folder: Path, *, instead: str = "give another --out") -> None:
    """Check that a folder is no place where a run would harm others' files or mix with them.

    Args:
        instead: what to do, for the message.
    Raises:
        FileExistsError, NotADirectoryError: as check_new_run does.
    """
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise NotADirectoryError(f"{place} is a file: {instead}")
    check_own_files(folder, instead=instead)
    if RunFiles(folder).config.is_file():
        return
    named, resolved = Path(os.path.abspath(folder)), Path(os.path.realpath(folder))
    for place in (named, *named.parents, resolved, *resolved.parents):  # checkpoints may be a link
        files = RunFiles(place.parent)
        if place in (files.checkpoints, files.tokenizer) and files.config.is_file():
            raise FileExistsError(
                f"{folder} is inside the run {files.folder}, which removes old checkpoints: "
                f"{instead}, or train that run with --resume auto to continue it"
            )
        if place == files.tokenizer and is_prepared(place.parent):
            raise FileExistsError(f"{folder} is inside the prepared data {place.parent}: {instead}")
    if (found := _in_the_way(folder)) is not None:
        raise FileExistsError(f"{folder} holds {found}: {instead}")


def check_place_of_records(folder: Path) -> None:
    """Check that records in a folder would not mix with the files of a run, a sweep or data.

    Raises:
        FileExistsError: if the folder is one of these or in one, or is a tokenizer.
    """
    instead = "give another folder --to"
    named, resolved = Path(os.path.abspath(folder)), Path(os.path.realpath(folder))
    for place in dict.fromkeys((named, *named.parents, resolved, *resolved.parents)):
        is_or_in = "is" if place in (named, resolved) else "is inside"
        if is_run(place) and RunFiles(place).config.is_file():
            raise FileExistsError(f"{folder} {is_or_in} the run {place}: {instead}")
        if is_prepared(place):
            raise FileExistsError(f"{folder} {is_or_in} the prepared data {place}: {instead}")
    if SweepFiles(folder).plan.is_file():
        raise FileExistsError(f"{folder} is a sweep: {instead}")
    if all((folder / name).is_file() for name in _OF_A_TOKENIZER):
        raise FileExistsError(f"{folder} is a tokenizer: {instead}")


def _has_no_process(folder: Path) -> bool:
    try:
        with disk.locked(folder):
            return True
    except OSError:
        return False


def _in_the_way(folder: Path) -> str | None:
    """Name the content of a folder without a configuration that a new run would harm or mix."""
    files = RunFiles(folder)
    if SweepFiles(folder).plan.is_file():
        return "a sweep"
    if (folder / _META).is_file():
        return "prepared data"
    # A run that was killed while it began may have left an empty log and an environment; one of a
    # sweep, the description of the error that ended its process.
    for path, names in ((files.environment, ("python",)), (files.failed, ("exit_code", "last"))):
        if path.is_file() and not _has_names(path, names):
            return f"another {path.name} than that of a run"
    ended = (files.summary, files.former_summary, files.curve, files.sample)
    others = [path for path in ended if path.is_file()]
    if files.log.is_file() and files.log.stat().st_size and not read_log(folder).rows:
        others.append(files.log)
    return f"another {others[0].name} than that of a run" if others else None


def _has_names(path: Path, names: Sequence[str]) -> bool:
    try:
        values = read_object_or_empty(path)
    except OSError:
        return False
    return all(name in values for name in names)


def only_weights(folder: Path, flags: Sequence[str] = ()) -> ValueError:
    """The error for a run that was named to go on and has weights without optimizers.

    Args:
        flags: as in nothing_to_go_on_from.
    """
    start = pasted("--init-from", folder, *flags)
    return ValueError(
        f"{folder} has weights and no optimizer to go on with: begin a new run with {start}"
    )


def is_foreign_model(folder: Path) -> bool:
    """Whether the config.json in a folder is that of a model of transformers."""
    try:
        values = read_object_or_empty(RunFiles(folder).config)
    except OSError:
        return False
    return "recipe" not in values and ("model_type" in values or "architectures" in values)


def check_model_folder(path: Path) -> None:
    """Check that a path is a folder, as of a model of transformers.

    Raises:
        FileNotFoundError: if it is not; the message says what to do.
    """
    if path.is_dir():
        return
    told = "there is no such folder"
    if path.exists():
        told = "it is a file" if path.is_file() else "it is a device, a pipe or a socket"
    elif _ADDRESS.match(str(path)) or _HUB_NAME.fullmatch(str(path)):
        told = "download it first, such as with hf download NAME --local-dir DIR"
    raise FileNotFoundError(f"expected the folder of a model of transformers at {path}: {told}")


def _instead_of_run(path: Path) -> str:
    """Name the content of a path that is no run, and the command that leads on."""
    expected = f"expected {RunFiles(path).config}"
    take_over = command_line("imports", "model", "FOLDER", "--out", "RUN")
    if _ADDRESS.match(str(path)):
        return f"an address is not read: download the model, then {take_over}"
    if not path.exists():
        if _HUB_NAME.fullmatch(str(path)) and not path.parent.exists():
            return (
                f"{expected}; a model of the Hugging Face hub is downloaded first, then {take_over}"
            )
        return expected
    if not path.is_dir():
        if not path.is_file():
            return f"it is a device, a pipe or a socket: {expected}"
        folder = next((p for p in path.parents if RunFiles(p).config.is_file()), None)
        if folder is not None:
            return f"it is a file: give the folder of its run, {folder}"
        return f"it is a file: give the folder of a run; {_train_on(path)}"
    if is_prepared(path):
        return f"it is prepared data: {command_line('train', '--data', path)} trains on it"
    if RunFiles(path.absolute().parent).config.is_file():
        return f"it is a part of the run {path.parent}: give that"
    if runs := [path / name for name in runs_in(path)]:
        what = "a sweep" if SweepFiles(path).plan.is_file() else "a folder"
        return f"it is {what} with the runs {_listed(runs)}: give one of them"
    return expected


def is_prepared(path: Path) -> bool:
    """Whether a path is a folder of prepared data."""
    return (path / _META).is_file()


def check_prepared(path: Path) -> None:
    """Check that a path is a folder of prepared data.

    Raises:
        FileNotFoundError: if it is not; the message says what is there instead, and what to do.
    """
    if not is_prepared(path):
        raise FileNotFoundError(f"no prepared data in {path}: {_instead_of_data(path)}")


def _instead_of_data(path: Path) -> str:
    """Name the content of a path that is no prepared data, and the command that leads on."""
    if _ADDRESS.match(str(path)):
        return f"an address is not read: download the text, then {_prepare('TEXT', 'data/NAME')}"
    if not path.exists():
        made = f"expected {path / _META}; make it with {_prepare('TEXT', path)}"
        if _HUB_NAME.fullmatch(str(path)) and not path.parent.exists():
            return f"{made}; a data set of the Hugging Face hub is downloaded first"
        return made
    if not path.is_dir():
        if is_prepared(path.parent):
            return f"it is a file: give its folder, {path.parent}"
        if not path.is_file():
            return f"it is a device, a pipe or a socket: expected a folder with {_META}"
        if path.suffix in (".bin", ".npy"):
            words = ("tokens", "--train", path, "--val", "FILE", "--tokenizer", "DIR", "--out")
            made = command_line("imports", *words, f"data/{path.stem}")
            return f"it is a file: {made} makes data of token files"
        return f"it is a text, not prepared: {_prepare(path, f'data/{path.stem}')} makes data of it"
    if RunFiles(path).config.is_file():
        return "it is the folder of a run: give the data that it was trained on, or others"
    inside = [found.parent for found in sorted(path.glob(f"*/{_META}"))]
    if inside:
        return f"it has the prepared folders {_listed(inside)} in it: give one of them"
    if any(found.suffix in _TEXTS for found in _entries(path)):
        out = path.parent / f"{path.resolve().name}-prepared"
        return f"it is a folder of texts, not prepared: {_prepare(path, out)} makes data of it"
    return f"expected {path / _META}; make it with {_prepare('TEXT', path)}"


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _prepare(text: Path | str, out: Path | str) -> str:
    return command_line("data", "prepare", text, "--vocab-size", "N", "--out", out)


def _train_on(path: Path) -> str:
    return f"for a text, {_prepare(path, 'DIR')} and then {command_line('train', '--data', 'DIR')}"


def _listed(found: Sequence[object]) -> str:
    names = ", ".join(map(str, found[:MOST_NAMED]))
    return f"{names} ..." if len(found) > MOST_NAMED else names
