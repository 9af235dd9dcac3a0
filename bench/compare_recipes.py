"""Recipes and single changes of them beside each other: same text, same budget, several seeds.

python bench/compare_recipes.py budgets --data data/mine --out out/budgets
python bench/compare_recipes.py changes --data data/mine --out out/changes --budgets 400steps

Each run is a process of its own, `python -m fastlm.train`, on one core with one thread, as many at
once as --at-once says; what is compared runs at the same time, so that a slow hour of the machine
meets all alike. Every arm is compiled once before, so that no budget pays for that. Runs that are
there are not run again. At the end: table.md, curves.png, and the records of the runs, weights
aside, in --keep.
"""

import itertools
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Any, Literal, NamedTuple

import tyro

from fastlm import cli
from fastlm.config import OptimConfig
from fastlm.config.durations import parse_duration
from fastlm.config.recipes import load_recipe
from fastlm.runs.record import RunRecord
from fastlm.runs.run_files import RunFiles
from fastlm.runs.state import state_of

RATES = ("lr", "muon_lr", "embedding_lr", "value_embedding_lr", "scalar_lr", "x0_lr")
BOTH = ("leaderboard-tiny", "baseline-tiny")
# Half as wide as the recipes: of the sizes that minutes of a CPU core can train, about the best.
TOY = ["--batch-size", "4", "--model.d-model", "128", "--model.n-heads", "2", "--model.d-ff"]
D_FF = {"leaderboard-tiny": "512", "baseline-tiny": "auto"}
# Best of the grid that `rates` tries, at 3 minutes, for both recipes (runs/README.md).
RATE_FACTOR = 2.0


class Arm(NamedTuple):
    """A recipe and the flags that change it."""

    name: str
    recipe: str
    flags: tuple[str, ...] = ()


class Run(NamedTuple):
    arm: Arm
    budget: str
    seed: int

    @property
    def folder(self) -> str:
        return f"{self.arm.name}-{self.budget}-seed{self.seed}"

    @property
    def flags(self) -> tuple[str, str]:
        """The budget, in seconds as 180s or in steps as 400steps."""
        if self.budget.endswith("steps"):
            return "--max-steps", self.budget.removesuffix("steps")
        return "--time-budget", self.budget


@dataclass(frozen=True)
class Arguments:
    """Compare recipes on a CPU, at a toy size, on the same text and clock."""

    plan: tyro.conf.Positional[Literal["rates", "budgets", "changes"]]
    """rates: learning rates and batch sizes of both recipes; budgets: both recipes; changes: one
    change of leaderboard-tiny at a time"""
    data: Path = Path("data/mine")
    out: Path = Path("out/compare")
    keep: Path | None = None
    """where copies of the records go"""
    budgets: tuple[str, ...] = ("2m", "5m", "12m")
    """of time; or of steps, as 400steps: what a change is worth, without what it costs and whatever
    else the machine does"""
    seeds: tuple[int, ...] = (0, 1)
    at_once: int = 2
    only: tuple[str, ...] = ()
    """names of the arms to run; all when not given"""


def rates(optim: OptimConfig, factor: float) -> tuple[str, ...]:
    """Flags that multiply all learning rates of AdamW, Muon and their groups."""
    flags = []
    for name in RATES:
        value = getattr(optim, name)
        if value is not None and (name != "muon_lr" or optim.name in ("muon", "normuon")):
            flags += [f"--optim.{name.replace('_', '-')}", f"{value * factor:.6g}"]
    return tuple(flags)


def arms_of_rates() -> list[Arm]:
    found = []
    for batch_size, factor, recipe in itertools.product((2, 4, 8), (1.0, 2.0, 4.0), BOTH):
        flags = rates(load_recipe(recipe).optim, factor)
        name = f"{recipe}-batch{batch_size}-rates-x{factor:g}"
        found.append(Arm(name, recipe, (*flags, "--batch-size", str(batch_size))))
    return found


def arms_of_changes() -> list[Arm]:
    """leaderboard-tiny, and it with one part changed or taken away."""
    changes = {
        "as-it-is": (),
        "always-tied": ("--model.tie-weights", "--optim.tie-until", "0"),
        "never-tied": ("--optim.tie-until", "0"),
        "muon": ("--optim.name", "muon"),
        "adamw": (
            *("--optim.name", "adamw", "--optim.no-cautious-weight-decay"),
            *rates(load_recipe("baseline-tiny").optim, RATE_FACTOR),
        ),
        "no-qk-norm": ("--model.no-qk-norm",),
        "no-value-embeddings": ("--model.no-value-embeddings",),
        "no-x0-scalars": ("--model.no-x0-scalars",),
        "no-softcap": ("--model.logit-softcap", "None"),
        "swiglu": ("--model.ffn", "swiglu", "--model.d-ff", "auto"),
        "n-gram-tables": ("--model.ngram-rows", "65536", "--model.ngram-width", "128"),
        "with-replacement": ("--data.sampling", "random"),
        "tail-averaging": ("--optim.average-tail", "0.15"),
        "no-attention-gate": ("--model.no-attention-gate",),
        "no-zero-init": ("--model.no-zero-init",),
    }
    return [Arm(name, "leaderboard-tiny", flags) for name, flags in changes.items()]


ARMS = {
    "rates": arms_of_rates,
    "budgets": lambda: [Arm(name, name) for name in BOTH],
    "changes": arms_of_changes,
}


def runs_of(arms: Sequence[Arm], budgets: Sequence[str], seeds: Sequence[int]) -> Iterator[Run]:
    """Short budgets first; what is compared side by side, in the other order every other seed."""
    for budget, (i, seed) in itertools.product(budgets, enumerate(seeds)):
        if not budget.endswith("steps"):
            budget = f"{parse_duration(budget):g}s"
        for arm in arms[:: -1 if i % 2 else 1]:
            yield Run(arm, budget, seed)


def command(arm: Arm, arguments: Arguments, out: Path) -> list[str]:
    words = [sys.executable, "-m", "fastlm.train", "--recipe", arm.recipe, "--out", str(out)]
    words += ["--data", str(arguments.data), "--compile", "--bf16", *TOY, D_FF[arm.recipe]]
    words += rates(load_recipe(arm.recipe).optim, RATE_FACTOR)
    return [*words, "--eval-every", "100", "--eval-tokens", "8192", *arm.flags]


def call(words: list[str], slot: int) -> None:
    """Run a command on one core, with one thread."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        pin = f"import os, sys; os.sched_setaffinity(0, {{{cores[slot % len(cores)]}}}); "
        words = [sys.executable, "-c", pin + "os.execv(sys.argv[1], sys.argv[1:])", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(words, env=environment, capture_output=True, text=True)
    if result.returncode == cli.BAD_INPUT:
        raise ValueError(result.stderr.splitlines()[-1].removeprefix("error: "))
    if result.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with {result.returncode}: {result.stderr}")


def run_all(arguments: Arguments, arms: list[Arm]) -> list[Run]:
    slots: Queue[int] = Queue()
    for slot in range(arguments.at_once):
        slots.put(slot)

    def finish(arm: Arm, out: Path, *flags: str) -> None:
        if state_of(out).name == "finished":
            return
        shutil.rmtree(out, ignore_errors=True)
        slot = slots.get()
        try:
            call([*command(arm, arguments, out), *flags], slot)
        finally:
            slots.put(slot)  # also after a failure: the others wait for it
        shutil.rmtree(RunFiles(out).checkpoints)

    def prepare(arm: Arm) -> None:
        finish(arm, arguments.out / "compiled" / arm.name, "--max-steps", "1")

    def train(run: Run) -> None:
        out = arguments.out / run.folder
        finish(run.arm, out, "--seed", str(run.seed), *run.flags)
        print(f"{run.folder}: {RunRecord(out).summary()['val_loss']:.4f}", flush=True)

    runs = list(runs_of(arms, arguments.budgets, arguments.seeds))
    with ThreadPoolExecutor(arguments.at_once) as pool:
        list(pool.map(prepare, arms))
        list(pool.map(train, runs))
    return runs


def table(runs: Sequence[Run], out: Path) -> str:
    """Markdown: mean and spread of the final losses of each arm and budget, steps and tokens."""
    lines = [
        "| run | budget | seeds | validation loss | spread | steps | tokens |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    by_arm: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for run in runs:
        summary = RunRecord(out / run.folder).summary()
        by_arm.setdefault((run.arm.name, run.budget), []).append(summary)
    for (name, budget), found in by_arm.items():
        losses = [summary["val_loss"] for summary in found]
        steps, tokens = (
            statistics.mean(summary[key] for summary in found) for key in ("step", "tokens")
        )
        lines.append(
            f"| {name} | {budget} | {len(found)} | {statistics.mean(losses):.4f} | "
            f"{max(losses) - min(losses):.4f} | {steps:,.0f} | {tokens:,.0f} |"
        )
    return "\n".join(lines) + "\n"


def draw(runs: Sequence[Run], out: Path, picture: Path) -> None:
    """Training loss of every run against the budget's clock, and its last validation."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    names = list(dict.fromkeys(run.arm.name for run in runs))
    for run in runs:
        rows = [row for row in RunRecord(out / run.folder).rows() if row["kind"] == "eval"]
        color = f"C{names.index(run.arm.name) % 10}"
        is_first = run == next(r for r in runs if r.arm.name == run.arm.name)
        x, y = ([row[key] for row in rows] for key in ("elapsed_seconds", "val_loss"))
        label = run.arm.name if is_first else None
        axes.plot(x, y, color=color, linewidth=1, marker="o", markersize=2, label=label)
    axes.set_xlabel("seconds since the process started")
    axes.set_ylabel("validation loss, nats per token")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(picture, dpi=100)


def main(argv: Sequence[str] | None = None) -> None:
    arguments = cli.parse(Arguments, argv, prog="python bench/compare_recipes.py")
    arms = [a for a in ARMS[arguments.plan]() if not arguments.only or a.name in arguments.only]
    runs = run_all(arguments, arms)
    kept = arguments.keep or arguments.out
    kept.mkdir(parents=True, exist_ok=True)
    for run in runs if arguments.keep else []:
        (kept / run.folder).mkdir(exist_ok=True)
        files = RunFiles(arguments.out / run.folder)
        for path in (files.config, files.environment, files.log, files.summary):
            shutil.copyfile(path, kept / run.folder / path.name)
    (kept / "table.md").write_text(table(runs, arguments.out), encoding="utf-8")
    draw(runs, arguments.out, kept / "curves.png")
    print(table(runs, arguments.out))


if __name__ == "__main__":
    cli.run(main)
