"""Figures of a sweep: all curves, and the final loss against the values of a field.

matplotlib loads slowly, so it is imported where it is used.
"""

import itertools
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fastlm.runs.plot import AXES, save_figure
from fastlm.sweep.results import Result, described_state, grouped, number, numeric_field


def draw_curves(results: Sequence[Result], out: Path, *, title: str) -> None:
    """Validation loss of all runs against steps, tokens and seconds; seeds share a colour."""
    figure, panels = _figure(len(AXES), width=16)
    colors = _colors(results)
    first = {key: group[0] for key, group in grouped(results).items()}
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


def _series(results: Sequence[Result], field: str) -> dict[str, list[Result]]:
    """Runs that differ only in that field and in their seed, by the label of everything else."""
    series: dict[str, list[Result]] = {}
    for result in results:
        others = {name: value for name, value in result.run.values.items() if name != field}
        parts = [result.run.ablation] if result.run.ablation else []
        parts += [f"{name} {value}" for name, value in others.items()]
        series.setdefault(", ".join(parts), []).append(result)
    return series


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

    groups = list(grouped(results))
    field = numeric_field(results)
    if field is not None and len(_series(results, field)) == 1:
        scale = matplotlib.colormaps["viridis"]
        return {group: scale(i / max(1, len(groups) - 1) * 0.92) for i, group in enumerate(groups)}
    scale = matplotlib.colormaps["tab10" if len(groups) <= 10 else "tab20"]
    return {group: scale(i % scale.N) for i, group in enumerate(groups)}


def _label(result: Result) -> str:
    return result.run.label + ("" if result.has_learned else f" ({described_state(result)})")
