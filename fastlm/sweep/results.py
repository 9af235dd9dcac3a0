"""Results of a sweep, read from the folders of its runs, and their table."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fastlm.cli.markdown import literal, table_row
from fastlm.runs.found import number as finite_number
from fastlm.runs.found import read_log, try_read_object
from fastlm.runs.plot import same_tokens
from fastlm.runs.run_files import RunFiles
from fastlm.runs.state import LogEnd, StateName, state_of
from fastlm.sweep.plan import Run


class Result(NamedTuple):
    """One run and its result.

    Attributes:
        state: state of the run, as its files tell it.
        first_loss: validation loss before the first step.
        val_loss: loss over the whole validation file at the end, None unless finished.
        curve: log rows of validations on the same tokens, a part of the file during training.
    """

    run: Run
    state: StateName
    step: int
    tokens: int
    seconds: float
    tokens_per_second: float | None
    first_loss: float | None
    val_loss: float | None
    curve: list[dict[str, Any]]

    @property
    def has_learned(self) -> bool:
        """Whether the run finished with a lower loss than it began with."""
        if self.state != "finished" or self.val_loss is None:
            return False
        return self.first_loss is None or self.val_loss < self.first_loss


def read_result(run: Run, folder: Path, *, is_over: bool = True) -> Result:
    """The result in a run's folder, which may not exist yet.

    What cannot be read in its log and summary counts as missing.

    Args:
        is_over: whether no process trains the run.
    """
    rows = [row for row in read_log(folder).rows if number_in(row, "step") is not None]
    validations = [r for r in rows if r.get("kind") == "eval" and is_on_curve(r)]
    last = rows[-1] if rows else {}
    train = [number_in(row, "tokens_per_second") for row in rows if row.get("kind") == "train"]
    speeds = [speed for speed in train if speed is not None]
    state = state_of(folder, end=LogEnd.of_rows(rows), is_over=is_over).name
    summary = try_read_object(RunFiles(folder).summary, []) if state in ENDED else {}

    def reached(name: str) -> float:
        return number_in(summary, name) or number_in(last, name) or 0.0

    return Result(
        run=run,
        state=state,
        step=int(reached("step")),
        tokens=int(reached("tokens")),
        seconds=reached("elapsed_seconds"),
        tokens_per_second=statistics.median(speeds) if speeds else None,
        first_loss=next((r["val_loss"] for r in validations if r["step"] == 0), None),
        val_loss=number_in(summary, "val_loss"),
        curve=same_tokens(validations),
    )


ENDED = ("finished", "stopped")
"""States of runs that have a summary."""


def number_in(values: Mapping[str, Any], name: str) -> float | None:
    """A value as a finite number; None if it is absent or not one."""
    return finite_number(values.get(name))


def is_on_curve(row: Mapping[str, Any]) -> bool:
    """Whether a validation row has every number that the curves need."""
    names = ("val_loss", "val_tokens", "step", "tokens", "elapsed_seconds")
    return all(number_in(row, name) is not None for name in names)


def table(results: Sequence[Result]) -> str:
    """A Markdown table with one line for all seeds of a run; the lowest loss is bold."""
    groups = grouped(results)
    fields = list(results[0].run.values)
    with_ablations = any(result.run.ablation for result in results)
    means = {key: _mean_loss(group) for key, group in groups.items()}
    best = min((mean for mean in means.values() if mean is not None), default=None)
    base = next((m for key, m in means.items() if key[0] == "base" and len(groups) > 1), None)
    with_base = base is not None and len({values for _, values in groups}) == 1
    first = ["change"] if with_ablations else []
    head = [*first, *fields, "validation loss"]
    if with_base:
        head.append("difference")
    head += ["steps", "tokens", "seconds", "tokens/s", "state"]
    lines = [table_row(head), table_row(["---"] * len(head))]
    for key, group in groups.items():
        ablation, values = key
        cells = [ablation or ""] if with_ablations else []
        cells += [literal(value) for _, value in values]
        cells.append(_losses(group, is_best=means[key] is not None and means[key] == best))
        if with_base:
            mean = means[key]
            is_other = mean is not None and ablation != "base"
            cells.append(f"{mean - base:+.4f}" if is_other and base and mean else "")
        cells += [_median(group, lambda r: r.step), _median(group, lambda r: r.tokens)]
        cells += [_median(group, lambda r: r.seconds)]
        cells += [_median(group, lambda r: r.tokens_per_second or 0)]
        states = dict.fromkeys(described_state(result) for result in group)
        lines.append(table_row([*cells, ", ".join(states)]))
    return "\n".join(lines) + "\n"


def grouped(results: Sequence[Result]) -> dict[Any, list[Result]]:
    """The results of all seeds together, by everything else in which their runs differ."""
    groups: dict[Any, list[Result]] = {}
    for result in results:
        groups.setdefault(result.run.group, []).append(result)
    return groups


def _mean_loss(group: Sequence[Result]) -> float | None:
    losses = [result.val_loss for result in group if result.val_loss is not None]
    return statistics.mean(losses) if len(losses) == len(group) else None


def described_state(result: Result) -> str:
    """The state of a run in words, with the step at which it ended early."""
    if result.state == "finished":
        return "finished" if result.has_learned else "finished above its first loss"
    if result.state == "waiting":
        return "waiting"
    return f"{result.state} after step {result.step:,}"


def _losses(group: Sequence[Result], *, is_best: bool) -> str:
    losses = [f"{r.val_loss:.4f}" if r.val_loss is not None else "-" for r in group]
    mean = _mean_loss(group)
    if mean is None or len(group) == 1:
        told = ", ".join(losses)
    else:
        told = f"{mean:.4f} ({', '.join(losses)})"
    return f"**{told}**" if is_best else told


def _median(group: Sequence[Result], value: Callable[[Result], float]) -> str:
    return f"{statistics.median(value(result) for result in group):,.0f}"


def number(text: str) -> float | None:
    """A value of a field as a number; None if it is not a number."""
    try:
        return float(text)
    except ValueError:
        return None


def numeric_field(results: Sequence[Result]) -> str | None:
    """The field for the x axis: batch_size, or the first whose varying values are all numbers."""
    fields = [
        field
        for field in results[0].run.values
        if all(number(result.run.values[field]) is not None for result in results)
        and len({result.run.values[field] for result in results}) > 1
    ]
    return "batch_size" if "batch_size" in fields else next(iter(fields), None)


def edge_remarks(results: Sequence[Result]) -> list[str]:
    """Remarks on fields whose best value is the least or greatest that was tried."""
    means = {key: _mean_loss(group) for key, group in grouped(results).items()}
    losses = {key: mean for key, mean in means.items() if mean is not None}
    if len(losses) < 2:
        return []
    best = dict(min(losses, key=lambda key: losses[key])[1])
    remarks = []
    for field, value in best.items():
        tried = {number(result.run.values[field]) for result in results}
        values = sorted(value for value in tried if value is not None)
        if len(values) < max(2, len(tried)):  # not a field of numbers that varies
            continue
        at = number(value)
        if at in (values[0], values[-1]):
            where, further = ("least", "smaller") if at == values[0] else ("greatest", "larger")
            remarks.append(
                f"the lowest loss is at {field} {value}, the {where} value: try {further} ones too"
            )
    return remarks
