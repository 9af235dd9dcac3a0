"""Compare a sweep with the plan and the runs that an earlier call left in its folder.

sweep.json keeps the command line and the folder in which the sweep was begun, where its relative
paths begin. A sweep goes on only with runs of the same settings, data and initial weights.
"""

import contextlib
import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fastlm import cli
from fastlm.config import TrainConfig
from fastlm.config.dotted import leaves, replaced
from fastlm.files.json_files import check_path, read_object, read_object_or_empty
from fastlm.files.step_folders import run_checkpoints
from fastlm.runs.found import read_log
from fastlm.runs.given import check_place_of_run, check_prepared, is_prepared
from fastlm.runs.links import check_own_files
from fastlm.runs.record import RunRecord
from fastlm.runs.run_files import SweepFiles
from fastlm.runs.state import state_of
from fastlm.sweep.arguments import SweepArguments, parse_words, plan_runs
from fastlm.sweep.plan import PATHS, Run

if TYPE_CHECKING:
    from fastlm.data.prepared import PreparedData

STORIES = "data/stories-v{0.data.vocab_size}"
"""Data that fastlm.train makes when it is given none"""

_NUMBER = re.compile(r"\d+(\.\d+)?")


def saved_words(saved: Path) -> list[str]:
    """The command line that a sweep.json keeps.

    Raises:
        ValueError: if it has none.
    """
    words = read_object(saved).get("arguments")
    if not isinstance(words, list) or not words or not all(isinstance(w, str) for w in words):
        raise ValueError(f"{saved} has no command line in it")
    return with_units(words)


def with_units(words: Sequence[str]) -> list[str]:
    """Add "s" to time budgets without a unit, which earlier versions took as seconds."""
    united = []
    for before, word in zip(["", *words], words, strict=False):
        name, equals, listed = word.partition("=")
        is_value = before.replace("_", "-") == "--time-budget"
        if is_value or (equals and name.replace("_", "-").removeprefix("--") == "time-budget"):
            values = (word if is_value else listed).split(",")
            texts = [f"{value}s" if _NUMBER.fullmatch(value) else value for value in values]
            word = ("" if is_value else f"{name}=") + ",".join(texts)
        united.append(word)
    return united


def starting_folder(saved: Path) -> Path:
    """The folder in which a sweep was begun, where its relative paths begin.

    Raises:
        ValueError: if its sweep.json has something in its place that can be no path.
    """
    told = read_object_or_empty(saved).get("begun_in")
    if not isinstance(told, str):
        return Path()
    check_path(told, "begun_in", saved)
    return Path(os.path.abspath(saved.resolve().parent / told))


def placed(runs: Sequence[Run], out: Path) -> list[Run]:
    """The runs, named like the folders in which earlier versions of fastlm began them."""
    if not SweepFiles(out).plan.is_file() or all(RunRecord(out / r.name).exists for r in runs):
        return list(runs)
    names = {run.name for run in runs}
    begun, begun_in = {}, starting_folder(SweepFiles(out).plan)
    for path in sorted(out.iterdir()):
        if path.name not in names and RunRecord(path).exists:
            with contextlib.suppress(ValueError):  # damaged, or of another version
                begun[repr(_asked_of(RunRecord(path), begun_in))] = path.name
    return [
        run
        if RunRecord(out / run.name).exists
        else run._replace(name=_begun_as(run.config, begun, begun_in) or run.name)
        for run in runs
    ]


def _begun_as(config: TrainConfig, begun: Mapping[str, str], begun_in: Path) -> str | None:
    """Look up the name of the run that was begun with a configuration; None if there is none.

    Args:
        begun: names of runs by their settings.
    """
    there = [_settings(config), _settings(_with_stories(config), begun_in)]
    return next((begun[settings] for settings in there if settings in begun), None)


def unfinished_runs(runs: Sequence[Run], out: Path) -> list[Run]:
    """The runs that have neither finished nor diverged."""
    return [run for run in runs if not state_of(out / run.name).is_final]


def check_folder(runs: Sequence[Run], arguments: SweepArguments, words: Sequence[str]) -> None:
    """Refuse a folder that holds anything but runs of this sweep."""
    out = arguments.out
    files = SweepFiles(out)
    if RunRecord(out).exists:
        raise FileExistsError(f"{out} is the folder of a single run: give the sweep another")
    if is_prepared(out):
        raise FileExistsError(f"{out} is prepared data: give the sweep another folder")
    check_own_files(out, instead="give the sweep another folder")
    if files.plan.is_file():
        _check_place(files.plan, runs)
    for run in runs:
        # Before anything is written: the process of the run would refuse the same.
        check_place_of_run(out / run.name, instead="give the sweep another folder")
        _check_settings(run, out / run.name, starting_folder(files.plan))
    if not (arguments.dry_run or arguments.slurm):
        for path in {run.config.data.path for run in unfinished_runs(runs, out)} - {""}:
            check_prepared(Path(path))
    if not arguments.dry_run:
        _check_data(runs, out)
    if not files.plan.is_file():
        if not arguments.overwrite and (found := files.evidence()):
            raise FileExistsError(f"{found[0]} is there already: give the sweep another folder")
    elif words and not arguments.overwrite:
        _check_plan(files.plan, runs, words)


def _check_place(saved: Path, runs: Sequence[Run]) -> None:
    """Refuse to go on from another folder, where a relative path would be other data or weights."""
    folder = starting_folder(saved)
    for run in runs:
        values = leaves(run.config)
        for name, flag in PATHS.items():
            path = values[name]
            if path and (folder / path).resolve() != Path(path).resolve():
                raise ValueError(
                    f"{saved.parent} was begun in {folder}, where {flag} {cli.pasted(Path(path))} "
                    "begins: go on from there, or give the whole command with the absolute path "
                    f"of {flag}"
                )


def _check_settings(run: Run, folder: Path, begun_in: Path) -> None:
    """Refuse a folder that holds a run with other settings."""
    record = RunRecord(folder)
    if not record.exists:
        return
    there, asked = leaves(_asked_of(record, begun_in)), leaves(_asked(run.config))
    if there["data.path"] == leaves(_asked(_with_stories(run.config), begun_in))["data.path"]:
        asked["data.path"] = there["data.path"]
    changed = [
        f"{name} {there[name]}, not {asked[name]}" for name in there if there[name] != asked[name]
    ]
    if changed:
        raise ValueError(
            f"{folder} holds a run with other settings ({'; '.join(changed)}): give another "
            "folder, or the flags it was begun with"
        )


def _check_data(runs: Sequence[Run], out: Path) -> None:
    """Refuse runs that were trained on other data than their folder holds now."""
    begun_in = starting_folder(SweepFiles(out).plan)
    opened: dict[Path, PreparedData] = {}
    for run in runs:
        record = RunRecord(out / run.name)
        saved = run_checkpoints(record.checkpoints)
        if not record.exists or not saved:
            continue
        # Slow imports: a new sweep needs none of them.
        from fastlm.checkpoint import read_manifest
        from fastlm.data.prepared import open_prepared
        from fastlm.evaluate.own_data import difference

        # Without --data, the run made stories and noted their path.
        path = Path(run.config.data.path or begun_in / record.config().data.path)
        if not is_prepared(path):
            continue  # check_folder has refused missing data if a run still needs them
        told = ""
        with contextlib.suppress(OSError, ValueError):  # training refuses damaged files
            if path not in opened:
                opened[path] = open_prepared(path)
            told = difference(opened[path], read_manifest(saved[-1]))
        if told:
            raise ValueError(
                f"{record.folder} was trained on other data than {path} holds now: {told}; give "
                "the data that the sweep was begun with, or another folder"
            )


def _check_plan(saved: Path, runs: Sequence[Run], words: Sequence[str]) -> None:
    """Refuse to replace the plan of a sweep by one that leaves out some of its runs."""
    remedy = "give another folder, or --overwrite to replace its plan; its runs stay"
    try:
        begun = saved_words(saved)
        if begun == list(words):
            return
        arguments, flags = parse_words(begun)
        begun_in = starting_folder(saved)  # where the relative paths of its flags begin
        with contextlib.chdir(begun_in if begun_in.is_dir() else Path()):
            planned = plan_runs(arguments, flags)
    except (ValueError, OSError) as error:
        raise FileExistsError(f"{saved} cannot be gone on with ({error}): {remedy}") from None
    here = {_settings(run.config) for run in runs}
    there = {_settings(run.config, begun_in): run.name for run in planned}
    left_out = next((name for settings, name in there.items() if settings not in here), None)
    if left_out is not None:
        raise FileExistsError(
            f"{saved.parent} holds a sweep with other runs, such as {left_out}: name them too, "
            f"{remedy}"
        )


def _settings(config: TrainConfig, folder: Path | None = None) -> str:
    return repr(_asked(config, folder))


def _asked(config: TrainConfig, folder: Path | None = None) -> TrainConfig:
    """The configuration with absolute paths, and without the vocabulary size of the data.

    The unit of compilation says "step" where it says "auto", which earlier versions did not know.

    Args:
        folder: where a relative path begins; None: the current folder.
    """
    values = leaves(config)
    given = {name: values[name] for name in PATHS if values[name]}
    absolute = {name: str(((folder or Path()) / path).resolve()) for name, path in given.items()}
    scope = "step" if config.compile_scope == "auto" else config.compile_scope
    return replaced(config, {"model.vocab_size": 1, "compile_scope": scope, **absolute})


def _asked_of(record: RunRecord, folder: Path) -> TrainConfig:
    """The configuration that a run was asked for, without the number of steps that it found."""
    config = record.config()
    if config.fix_steps and config.max_steps is not None:
        found = (row for row in read_log(record.folder).rows if row.get("kind") == "probe")
        if config.max_steps in [row.get("max_steps") for row in found]:
            config = dataclasses.replace(config, max_steps=None)
    return _asked(config, folder)


def _with_stories(config: TrainConfig) -> TrainConfig:
    """The configuration of a run that was asked for without data and has found its stories."""
    return replaced(config, {"data.path": config.data.path or STORIES.format(config)})
