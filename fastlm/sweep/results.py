"""Results of a sweep: a table, all curves, and the final loss against the values of a field.

matplotlib loads slowly, so it is imported where it is used.
"""

import itertools
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fastlm.runs.found import number as finite_number
from fastlm.runs.found import read_log, try_read_object
from fastlm.runs.plot import AXES, same_tokens, save_figure
from fastlm.runs.run_files import RunFiles
from fastlm.runs.state import LogEnd, StateName, state_of
from fastlm.sweep.plan import Run


class Result(NamedTuple):
    """One run and its result.

    Attributes:
        state: of a run whose process is over.
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
    groups = _grouped(results)
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
    lines = [_line(head), _line(["---"] * len(head))]
    for key, group in groups.items():
        ablation, values = key
        cells = [ablation or ""] if with_ablations else []
        cells += [value for _, value in values]
        cells.append(_losses(group, is_best=means[key] is not None and means[key] == best))
        if with_base:
            mean = means[key]
            is_other = mean is not None and ablation != "base"
            cells.append(f"{mean - base:+.4f}" if is_other and base and mean else "")
        cells += [_median(group, lambda r: r.step), _median(group, lambda r: r.tokens)]
        cells += [_median(group, lambda r: r.seconds)]
        cells += [_median(group, lambda r: r.tokens_per_second or 0)]
        states = dict.fromkeys(_state(result) for result in group)
        lines.append(_line([*cells, ", ".join(states)]))
    return "\n".join(lines) + "\n"


def _grouped(results: Sequence[Result]) -> dict[Any, list[Result]]:
    groups: dict[Any, list[Result]] = {}
    for result in results:
        groups.setdefault(result.run.group, []).append(result)
    return groups


def _mean_loss(group: Sequence[Result]) -> float | None:
    losses = [result.val_loss for result in group if result.val_loss is not None]
    return statistics.mean(losses) if len(losses) == len(group) else None


def _state(result: Result) -> str:
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


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


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
    means = {key: _mean_loss(group) for key, group in _grouped(results).items()}
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


def _series(results: Sequence[Result], field: str) -> dict[str, list[Result]]:
    """Runs that differ only in that field and in their seed, by the label of everything else."""
    series: dict[str, list[Result]] = {}
    for result in results:
        others = {name: value for name, value in result.run.values.items() if name != field}
        parts = [result.run.ablation] if result.run.ablation else []
        parts += [f"{name} {value}" for name, value in others.items()]
        series.setdefault(", ".join(parts), []).append(result)
    return series


def loss_at(curve: Sequence[dict[str, Any]], axis: str, at: float) -> float | None:
    """Validation loss interpolated at a number of tokens or seconds; None outside the curve."""
    for before, after in itertools.pairwise(curve):
        if before[axis] <= at <= after[axis]:
            width = after[axis] - before[axis]
            share = (at - before[axis]) / width if width else 1.0
            return float(before["val_loss"] + share * (after["val_loss"] - before["val_loss"]))
    return None


def first_diverged(results: Sequence[Result], field: str) -> tuple[float | None, float] | None:
    """The largest value below the edge of divergence, and the smallest at which a run diverged.

    None if no run diverged above the last value at which all learned.
    """
    by_value: dict[float, bool] = {}
    for result in results:
        if result.state in ("finished", "diverged"):
            value = number(result.run.values[field])
            assert value is not None
            by_value[value] = by_value.get(value, True) and result.has_learned
    good = [value for value, learned in by_value.items() if learned]
    bad = [v for v, learned in by_value.items() if not learned and v > max(good, default=0.0)]
    if not bad:
        return None
    return (max(good) if good else None), min(bad)


def draw_curves(results: Sequence[Result], out: Path, *, title: str) -> None:
    """Validation loss of all runs against steps, tokens and seconds; seeds share a colour."""
    figure, panels = _figure(len(AXES), width=16)
    colors = _colors(results)
    first = {key: group[0] for key, group in _grouped(results).items()}
    for panel, (axis, label) in zip(panels, AXES, strict=True):
        for result in results:
            points = result.curve
            is_first = first[result.run.group] is result
            panel.plot(
                [row[axis] for row in points],
                [row["val_loss"] for row in points],
                color=colors[result.run.group],
                linewidth=1.2,
                linestyle="-" if result.has_learned else ":",
                marker="o",
                markersize=2,
                label=_label(result) if is_first else None,
            )
            if points and result.state == "diverged":
                last = points[-1]
                panel.plot(last[axis], last["val_loss"], "x", color=colors[result.run.group])
        panel.set_xlabel(label)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("validation loss, nats per token")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize="small")
    figure.suptitle(title)
    save_figure(figure, out)


def draw_field(results: Sequence[Result], field: str, out: Path) -> None:
    """Final loss against the values of a field, with the edge of divergence."""
    figure, (panel,) = _figure(1, width=7)
    series = _series(results, field)
    for label, mine in series.items():
        _plot_means(panel, mine, field, lambda r: r.val_loss, label)
    drawn = [r.val_loss for r in results if r.val_loss is not None]
    bad = [number(r.run.values[field]) for r in results if r.state == "diverged"]
    if bad and drawn:
        panel.plot(bad, [max(drawn)] * len(bad), "x", color="tab:red", label="diverged")
    edge = first_diverged(results, field) if len(series) == 1 else None
    if edge is not None:
        good, worse = edge
        at = (good * worse) ** 0.5 if good else worse
        panel.axvline(at, color="tab:red", linestyle="--", linewidth=1)
        panel.annotate(
            "edge of divergence", (at, 1.0), xycoords=("data", "axes fraction"), rotation=90,
            va="top", ha="right", color="tab:red", fontsize="small",
        )  # fmt: skip
    _finish(panel, results, field, "final validation loss, nats per token")
    save_figure(figure, out)


def draw_equal(results: Sequence[Result], field: str, out: Path) -> None:
    """Loss against the values of a field at equal tokens, and at equal seconds."""
    axes = (("tokens", "tokens"), ("elapsed_seconds", "seconds since the process started"))
    figure, panels = _figure(len(axes), width=13)
    shown = [r for r in results if len(r.curve) > 1]
    for panel, (axis, label) in zip(panels, axes, strict=True):
        at = min((r.curve[-1][axis] for r in shown), default=0)
        for name, mine in _series(shown, field).items():
            _plot_means(
                panel, mine, field, lambda r, axis=axis, at=at: loss_at(r.curve, axis, at), name
            )
        panel.set_title(f"after {at:,.0f} {label}", fontsize="medium")
        _finish(panel, results, field, "validation loss, nats per token")
    save_figure(figure, out)


def _plot_means(
    panel: Any,
    results: Sequence[Result],
    field: str,
    loss: Callable[..., float | None],
    label: str,
) -> None:
    losses: dict[float, list[float]] = {}
    for result in results:
        value, y = number(result.run.values[field]), loss(result)
        if value is not None and y is not None:
            losses.setdefault(value, []).append(y)
    values = sorted(losses)
    means = [statistics.mean(losses[value]) for value in values]
    (line,) = panel.plot(values, means, marker="o", markersize=4, label=label or None)
    for value in values:
        if len(losses[value]) > 1:
            panel.plot(
                [value] * len(losses[value]), losses[value], "_", color=line.get_color(), alpha=0.6
            )


def _finish(panel: Any, results: Sequence[Result], field: str, label: str) -> None:
    values = [number(result.run.values[field]) or 0.0 for result in results]
    sizes = [abs(value) for value in values if value]
    base = 2 if field == "batch_size" else 10
    if min(values) > 0:
        panel.set_xscale("log", base=base)
    elif sizes:  # a logarithmic axis has no place for 0, such as no weight decay
        panel.set_xscale("symlog", base=base, linthresh=min(sizes))
    panel.set_xlabel(field)
    panel.set_ylabel(label)
    panel.grid(alpha=0.3)
    if panel.get_legend_handles_labels()[1]:
        panel.legend(fontsize="small")


def _figure(n_panels: int, *, width: float) -> tuple[Any, list[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [figure.add_subplot(1, n_panels, i + 1) for i in range(n_panels)]


def _colors(results: Sequence[Result]) -> dict[Any, Any]:
    """A scale from dark to light if numbers vary, else colours far from each other."""
    import matplotlib

    groups = list(_grouped(results))
    field = numeric_field(results)
    if field is not None and len(_series(results, field)) == 1:
        scale = matplotlib.colormaps["viridis"]
        return {group: scale(i / max(1, len(groups) - 1) * 0.92) for i, group in enumerate(groups)}
    scale = matplotlib.colormaps["tab10" if len(groups) <= 10 else "tab20"]
    return {group: scale(i % scale.N) for i, group in enumerate(groups)}


def _label(result: Result) -> str:
    return result.run.label + ("" if result.has_learned else f" ({_state(result)})")
