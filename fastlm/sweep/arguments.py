"""The command line of a sweep, and the runs that it asks for."""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path

import tyro

from fastlm import cli
from fastlm.sweep.plan import Run, plan


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


def parse_words(words: Sequence[str]) -> tuple[SweepArguments, list[str]]:
    """Separate the words of a command line into the sweep's arguments and flags of fastlm.train."""
    return cli.parse_known(SweepArguments, words, prog=cli.program("sweep"))


def plan_runs(arguments: SweepArguments, flags: Sequence[str]) -> list[Run]:
    """The runs that arguments and flags of fastlm.train ask for.

    Raises:
        ValueError: for a flag without a value, and as plan() does.
    """
    for flag, given in (("--vary", arguments.vary), ("--ablate", arguments.ablate)):
        if () in given:
            raise ValueError(f"{flag} has no value: give one, or leave it out")
    vary, ablate = (tuple(itertools.chain(*words)) for words in (arguments.vary, arguments.ablate))
    return plan(vary, ablate, arguments.seeds, flags)
