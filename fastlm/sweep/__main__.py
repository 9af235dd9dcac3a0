"""Train runs that differ in fields, ablations or seeds, and compare their results.

python -m fastlm.sweep OUT --vary optim.lr=1e-4,1e-3,1e-2 --data data/mine --max-steps 500

Each run is a `python -m fastlm.train` process with its own folder. Finished runs are not repeated,
and stopped runs are resumed. A run that diverges is a result, not an error.
"""

import contextlib
import dataclasses
import itertools
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from fastlm import cli
from fastlm.config import TrainConfig
from fastlm.config.dotted import leaves, replaced
from fastlm.files import disk, folders
from fastlm.files.json_files import read_object, read_object_or_empty
from fastlm.files.step_folders import run_checkpoints
from fastlm.runs.found import read_log
from fastlm.runs.given import check_prepared, is_prepared
from fastlm.runs.record import RunRecord, write_json
from fastlm.runs.run_files import RunFiles, SweepFiles
from fastlm.runs.state import state_of
from fastlm.sweep.child import command
from fastlm.sweep.plan import PATHS, Run, plan, running_order
from fastlm.sweep.results import (
    Result,
    draw_curves,
    draw_equal,
    draw_field,
    edge_remarks,
    numeric_field,
    read_result,
    table,
)
from fastlm.sweep.slurm import submit
from fastlm.train.signals import SAVED, handled

if TYPE_CHECKING:
    from fastlm.data.prepared import PreparedData

WAIT_SECONDS = 10.0
"""Seconds to wait for another process that trains a run"""

_LEFT_BY_USERS = (SAVED, -signal.SIGINT, -signal.SIGTERM, cli.INTERRUPTED)


@dataclasses.dataclass(frozen=True)
class SweepArguments:
    """Train many runs, compare them in a table and figures. All other flags are fastlm.train's, for
    every run. Given again, with the folder alone or with more values, it goes on."""

    out: tyro.conf.Positional[Path]
    """folder that gets a folder for each run, table.md and figures"""
    vary: tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]] = ()
    """FIELD=VALUE,VALUE... with a field of fastlm.train, as in optim.lr=1e-4,1e-3 or
    recipe=baseline,leaderboard; batch-size=1..64 doubles (1..limit: up to what fits in memory at
    once), lr-factor=1,2 multiplies all learning rates; several fields make a grid"""
    ablate: tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]] = ()
    """named changes to the recipe: no-norm post-norm nope silu-ffn untied qk-norm no-qk-norm ...;
    the unchanged recipe is run too"""
    seeds: tuple[int, ...] = (0,)
    at_once: int = 1
    """runs at the same time; each gets its share of the CPU's cores"""
    slurm: bool = False
    """submit them as an array of slurm/sweep.sh instead of running them here; given again with the
    folder alone, when they have ended, it makes table and figures"""
    dry_run: bool = False
    """only say which runs there would be"""
    overwrite: bool = False
    """replace the plan of another sweep in the folder; its runs stay"""


ARGUMENTS = SweepArguments


class Stopped(Exception):
    """The sweep was asked to stop; str() says how far it is."""


def sweep(
    arguments: SweepArguments, flags: Sequence[str], *, words: Sequence[str] = ()
) -> list[Result]:
    """Run what has not been run yet, then write table.md and the figures.

    Args:
        flags: flags of fastlm.train for all runs.
        words: command line to keep as the plan of the sweep; none keeps the plan that is there.
    Raises:
        ValueError, OSError: for flags, values or folders that cannot be used; BlockingIOError if
            another process sweeps into the folder.
        Stopped: on Ctrl-C or SIGTERM, after the current runs have saved.
    """
    out = arguments.out
    runs = placed(_planned(arguments, flags), out)
    if arguments.at_once < 1:
        raise ValueError(f"at-once must be at least 1: got {arguments.at_once}")
    _check(runs, arguments, words)
    if arguments.dry_run:
        for run in runs:
            print(f"{run.name}: {cli.pasted(*run.flags)}")
        return []
    with disk.locked(out):
        _check(runs, arguments, words)  # again: another sweep may have ended meanwhile
        folders.make_folder(out)
        if words:
            plan_file = SweepFiles(out).plan
            # From the sweep's folder: its record names no path of a machine.
            begun_in = os.path.relpath(_begun_in(plan_file).resolve(), out.resolve())
            write_json(plan_file, {"arguments": list(words), "begun_in": begun_in})
        if arguments.slurm:
            submit(runs, arguments.out, at_once=arguments.at_once)
            return []
        waiting = _waiting(runs, out)
        print(f"{len(runs)} runs, {len(runs) - len(waiting)} of them done", flush=True)
        busy = _run_all(waiting, arguments)
        return report(runs, out, busy=busy)


def _waiting(runs: Sequence[Run], out: Path) -> list[Run]:
    """The runs that have not come to their end."""
    return [run for run in runs if not state_of(out / run.name).is_final]


def placed(runs: Sequence[Run], out: Path) -> list[Run]:
    """The runs, with the names of the folders in which earlier versions of fastlm began them."""
    if not SweepFiles(out).plan.is_file() or all(RunRecord(out / r.name).exists for r in runs):
        return list(runs)
    names = {run.name for run in runs}
    begun, begun_in = {}, _begun_in(SweepFiles(out).plan)
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
    """The name of a run with a configuration, among the names of runs by their settings."""
    there = [_settings(config), _settings(_with_stories(config), begun_in)]
    return next((begun[settings] for settings in there if settings in begun), None)


def _settings(config: TrainConfig, folder: Path | None = None) -> str:
    return repr(_asked(config, folder))


def _begun_in(saved: Path) -> Path:
    """The folder in which a sweep was begun, where its relative paths begin."""
    told = read_object_or_empty(saved).get("begun_in")
    return Path(os.path.abspath(saved.resolve().parent / told)) if isinstance(told, str) else Path()


def _check(runs: Sequence[Run], arguments: SweepArguments, words: Sequence[str]) -> None:
    """Refuse a folder that holds anything but runs of this sweep."""
    out = arguments.out
    files = SweepFiles(out)
    if RunRecord(out).exists:
        raise FileExistsError(f"{out} is the folder of a single run: give the sweep another")
    if is_prepared(out):
        raise FileExistsError(f"{out} is prepared data: give the sweep another folder")
    if files.plan.is_file():
        _check_place(files.plan, runs)
    for run in runs:
        _check_is_the_same(run, out / run.name, _begun_in(files.plan))
    if not (arguments.dry_run or arguments.slurm):
        for path in {run.config.data.path for run in _waiting(runs, out)} - {""}:
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
    folder = _begun_in(saved)
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


def _check_data(runs: Sequence[Run], out: Path) -> None:
    """Refuse runs that were trained on other data than their folder holds now."""
    begun_in = _begun_in(SweepFiles(out).plan)
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

        # Without --data it is that of the stories that the run made.
        path = Path(run.config.data.path or begun_in / record.config().data.path)
        if not is_prepared(path):
            continue  # all that need data have them: _check
        told = ""
        with contextlib.suppress(OSError, ValueError):  # damaged: training tells
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
        arguments, flags = _parsed(begun)
        # Where the relative paths of its flags begin.
        begun_in = _begun_in(saved)
        with contextlib.chdir(begun_in if begun_in.is_dir() else Path()):
            planned = _planned(arguments, flags)
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


def saved_words(saved: Path) -> list[str]:
    """The command line in a sweep.json.

    Raises:
        ValueError: if it has none.
    """
    words = read_object(saved).get("arguments")
    if not isinstance(words, list) or not words or not all(isinstance(w, str) for w in words):
        raise ValueError(f"{saved} has no command line in it")
    return with_units(words)


def with_units(words: Sequence[str]) -> list[str]:
    """Words of an earlier version, in which a time budget without a unit was in seconds."""
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


_NUMBER = re.compile(r"\d+(\.\d+)?")


def _planned(arguments: SweepArguments, flags: Sequence[str]) -> list[Run]:
    for flag, given in (("--vary", arguments.vary), ("--ablate", arguments.ablate)):
        if () in given:
            raise ValueError(f"{flag} has no value: give one, or leave it out")
    vary, ablate = (tuple(itertools.chain(*words)) for words in (arguments.vary, arguments.ablate))
    return plan(vary, ablate, arguments.seeds, flags)


def report(runs: Sequence[Run], out: Path, *, busy: Collection[str] = ()) -> list[Result]:
    """Write table.md, curves.png and, where one field varies in numbers, its figures.

    Args:
        busy: names of the runs that other processes train.
    """
    files = SweepFiles(out)
    results = [read_result(run, out / run.name, is_over=run.name not in busy) for run in runs]
    text = table(results)
    disk.write_file(files.table, text.encode(), replace=True)
    draw_curves(results, files.curves, title=out.name)
    field = numeric_field(results)
    if field is not None:
        draw_field(results, field, files.loss)
        if field == "batch_size":
            draw_equal(results, field, files.equal)
    print(text)
    for remark in edge_remarks(results):
        print(f"note: {remark}", file=sys.stderr)
    return results


def _check_is_the_same(run: Run, folder: Path, begun_in: Path) -> None:
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


def _asked(config: TrainConfig, folder: Path | None = None) -> TrainConfig:
    """The configuration with absolute paths, and without the vocabulary size of the data.

    Args:
        folder: where a relative path begins; None: the current folder.
    """
    values = leaves(config)
    given = {name: values[name] for name in PATHS if values[name]}
    absolute = {name: str(((folder or Path()) / path).resolve()) for name, path in given.items()}
    return replaced(config, {"model.vocab_size": 1, **absolute})


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


STORIES = "data/stories-v{0.data.vocab_size}"
"""Data that fastlm.train makes when it is given none"""


def _run_all(runs: Sequence[Run], arguments: SweepArguments) -> set[str]:
    """Train runs; returns the names of those that other processes train."""
    stop = threading.Event()
    children: set[subprocess.Popen[bytes]] = set()
    busy: set[str] = set()

    def train(run: Run) -> None:
        try:
            if not stop.is_set():
                _train(run, arguments.out / run.name, arguments.at_once, children, stop)
        except BlockingIOError as error:
            busy.add(run.name)
            print(f"{run.name}: left out: {error}", flush=True)
        except BaseException:
            stop.set()  # a flag that no run can use ends the sweep
            raise

    with _stopping(stop, children), ThreadPoolExecutor(arguments.at_once) as pool:
        list(pool.map(train, running_order(runs)))
    if stop.is_set():
        raise Stopped(f"stopped; {cli.command_line('sweep', arguments.out)} goes on")
    return busy


@contextlib.contextmanager
def _stopping(stop: threading.Event, children: set[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Inside `with`, the signals that stop a run ask all to save, and no new run starts."""

    def ask(number: int, frame: object) -> None:
        stop.set()
        for child in tuple(children):
            child.send_signal(signal.SIGTERM)

    previous = {number: signal.signal(number, ask) for number in handled()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _train(
    run: Run,
    folder: Path,
    at_once: int,
    children: set[subprocess.Popen[bytes]],
    stop: threading.Event,
) -> None:
    """Train one run to its end, with its output in output.txt.

    Raises:
        BlockingIOError: if another process trains it.
        ValueError: if its flags cannot be used.
    """
    # A run of a sweep that was killed ends soon.
    with disk.locked(folder, wait_seconds=WAIT_SECONDS):
        folders.make_folder(folder)
    files = RunFiles(folder)
    environment = dict(os.environ)
    if at_once > 1:
        environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // at_once)))
    n_before = files.output.stat().st_size if files.output.is_file() else 0
    with disk.open_to_append(files.output) as output:
        child = subprocess.Popen(
            command(run.flags, folder),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the sweep, which tells the runs
        )
        children.add(child)
        if stop.is_set():  # between the question and the start
            child.send_signal(signal.SIGTERM)
        code = child.wait()
        children.discard(child)
    last = _reason(files.output.read_bytes()[n_before:].decode(errors="replace"), code)
    if code == cli.BAD_INPUT:
        raise ValueError(f"{run.name}: {last.removeprefix('error: ')}")
    if code and code not in _LEFT_BY_USERS:
        write_json(files.failed, {"exit_code": code, "last": last})
        result = read_result(run, folder)
        print(f"{run.name}: {result.state} after step {result.step:,}: {last}", flush=True)
    elif not code:
        result = read_result(run, folder)
        loss = "no validation loss" if result.val_loss is None else f"{result.val_loss:.4f}"
        print(f"{run.name}: {loss}", flush=True)


def _reason(output: str, code: int) -> str:
    """Why a process ended with an exit code: its error, else its signal or its last line."""
    lines = output.strip().splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    if errors:
        return errors[-1]
    if code < 0:
        names = {number.value: number.name for number in signal.Signals}
        return f"killed by {names.get(-code, f'signal {-code}')}"
    if not lines or _STATUS.match(lines[-1]):
        return f"exit code {code}"
    return lines[-1]


_STATUS = re.compile(r"step [\d,]+\b")


def main(argv: Sequence[str] | None = None) -> None:
    """The command line of fastlm.sweep."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0].startswith("-") and not {"-h", "--help"} & set(words):
        raise ValueError(f"the sweep's folder comes first, before {words[0]}")
    arguments, flags = _parsed(words)
    saved = SweepFiles(arguments.out).plan
    kept: list[str] = []
    if len(words) == 1 and saved.is_file():
        begun, flags = _parsed(saved_words(saved))
        if not _compares(begun):
            raise ValueError(f"{saved} names nothing to compare: give the whole command again")
        # Where the folder is now; and what Slurm has run is here.
        arguments = dataclasses.replace(begun, out=arguments.out, slurm=False)
    elif not _compares(arguments):
        raise ValueError(
            "nothing to compare: give --vary FIELD=VALUE,VALUE, --ablate NAME or several --seeds"
            + ("" if len(words) > 1 else f"; {saved} is not there to go on with")
        )
    else:
        kept = [word for word in words if word != "--overwrite"]
    try:
        results = sweep(arguments, flags, words=kept)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(SAVED)
    broken = [result.run.name for result in results if result.state == "broken off"]
    if broken:
        again = cli.command_line("sweep", arguments.out)
        print(f"error: {', '.join(broken)} broke off; {again} goes on", file=sys.stderr)
        sys.exit(cli.FAILED)


def _compares(arguments: SweepArguments) -> bool:
    return bool(arguments.vary or arguments.ablate or len(arguments.seeds) > 1)


def _parsed(words: Sequence[str]) -> tuple[SweepArguments, list[str]]:
    return cli.parse_known(ARGUMENTS, words, prog=cli.program("sweep"))


if __name__ == "__main__":
    cli.run(main)
