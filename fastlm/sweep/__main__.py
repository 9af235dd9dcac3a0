"""Train runs that differ in fields, ablations or seeds, and compare their results.

python -m fastlm.sweep OUT --vary optim.lr=1e-4,1e-3,1e-2 --data data/mine --max-steps 500

Each run is a `python -m fastlm.train` process with its own folder. Finished runs are not repeated,
and stopped runs are resumed. A run that diverges is a result, not an error.
"""

from fastlm.cli import interrupts

if __name__ == "__main__":
    interrupts.exit_on_interrupt()

import dataclasses
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from fastlm import cli
from fastlm.files import disk, folders
from fastlm.runs.record import write_json
from fastlm.runs.run_files import SweepFiles
from fastlm.runs.state import StateName
from fastlm.sweep.arguments import SweepArguments, parse_words, plan_runs
from fastlm.sweep.earlier import (
    check_folder,
    placed,
    saved_words,
    starting_folder,
    unfinished_runs,
)
from fastlm.sweep.figures import draw_curves, draw_equal, draw_field
from fastlm.sweep.plan import Run
from fastlm.sweep.results import Result, edge_remarks, numeric_field, read_result, table
from fastlm.sweep.running import Stopped, run_all
from fastlm.sweep.slurm import submit
from fastlm.train.signals import SAVED

ARGUMENTS = SweepArguments

_NOT_ENDED: Mapping[StateName, str] = {"broken off": "broke off", "stopped": "stopped"}
"""States of runs that have come to no end and that nobody trains, and their verbs"""


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
    runs = placed(plan_runs(arguments, flags), out)
    if arguments.at_once < 1:
        raise ValueError(f"at-once must be at least 1: got {arguments.at_once}")
    check_folder(runs, arguments, words)
    if arguments.dry_run:
        for run in runs:
            print(f"{run.name}: {cli.pasted(*run.flags)}")
        return []
    with disk.locked(out):
        check_folder(runs, arguments, words)  # again: another sweep may have ended meanwhile
        folders.make_folder(out)
        if words:
            plan_file = SweepFiles(out).plan
            # Relative to the sweep's folder, so that its record names no path of a machine.
            begun_in = os.path.relpath(starting_folder(plan_file).resolve(), out.resolve())
            write_json(plan_file, {"arguments": list(words), "begun_in": begun_in})
        if arguments.slurm:
            submit(runs, arguments.out, at_once=arguments.at_once)
            return []
        waiting = unfinished_runs(runs, out)
        print(f"{len(runs)} runs, {len(runs) - len(waiting)} of them done", flush=True)
        busy = run_all(waiting, out, at_once=arguments.at_once)
        return report(runs, out, busy=busy)


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


def main(argv: Sequence[str] | None = None) -> None:
    """The command line of fastlm.sweep."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0].startswith("-") and not {"-h", "--help"} & set(words):
        raise ValueError(f"the sweep's folder comes first, before {words[0]}")
    arguments, flags = parse_words(words)
    saved = SweepFiles(arguments.out).plan
    kept: list[str] = []
    if len(words) == 1 and saved.is_file():
        begun, flags = parse_words(saved_words(saved))
        if not _compares(begun):
            raise ValueError(f"{saved} names nothing to compare: give the whole command again")
        # The folder may have moved; runs that Slurm did not finish are run here.
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
    names = {state: [r.run.name for r in results if r.state == state] for state in _NOT_ENDED}
    told = [
        f"{', '.join(names[state])} {verb}" for state, verb in _NOT_ENDED.items() if names[state]
    ]
    if told:
        again = cli.command_line("sweep", arguments.out)
        print(f"error: {'; '.join(told)}; {again} goes on", file=sys.stderr)
        sys.exit(cli.FAILED)


def _compares(arguments: SweepArguments) -> bool:
    return bool(arguments.vary or arguments.ablate or len(arguments.seeds) > 1)


if __name__ == "__main__":
    cli.run(main)
