"""Plotting learning curves.

matplotlib is imported where it is used, as it is slow to import.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastlm.files import disk
from fastlm.runs.found import number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AXES = (
    ("step", "steps"),
    ("tokens", "tokens"),
    ("elapsed_seconds", "wall-clock seconds of the process"),
)


def same_tokens(validations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the validations on as many tokens as the first one.

    Validations during training use a part of the file and the last one all of it, so a curve of
    both would jump at its end. If only one would remain, all are returned.
    """
    same = [row for row in validations if row["val_tokens"] == validations[0]["val_tokens"]]
    return same if len(same) > 1 else validations


def plot_curves(rows: list[dict[str, Any]], out: Path, *, title: str) -> None:
    """Draw training and validation loss of one run against steps, tokens and wall-clock time.

    Args:
        rows: log rows; those without the numbers to draw are left out.
        out: path of the PNG to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [row for row in rows if all(number(row.get(key)) is not None for key, _ in AXES)]
    train = [r for r in rows if r.get("kind") == "train" and number(r.get("loss")) is not None]
    val = [
        r
        for r in rows
        if r.get("kind") == "eval"
        and number(r.get("val_loss")) is not None
        and number(r.get("val_tokens")) is not None
    ]
    on_the_way = same_tokens(val)
    # Height of the marks of steps whose loss is not finite.
    top = next((r["loss"] for r in train), next((r["val_loss"] for r in val), 0.0))
    figure = Figure(figsize=(13, 4))
    # The margins are fixed, as an automatic layout draws everything twice.
    figure.subplots_adjust(left=0.06, right=0.99, bottom=0.13, top=0.9, wspace=0.15)
    FigureCanvasAgg(figure)
    for i, (key, label) in enumerate(AXES):
        axes = figure.add_subplot(1, 3, i + 1)
        axes.plot(
            [r[key] for r in train],
            [r["loss"] for r in train],
            color="tab:blue",
            alpha=0.5,
            linewidth=1,
            label="training",
        )
        axes.plot(
            [r[key] for r in on_the_way],
            [r["val_loss"] for r in on_the_way],
            color="tab:orange",
            marker="o",
            markersize=3,
            label="validation",
        )
        if len(on_the_way) < len(val):
            end = val[-1]
            axes.plot(end[key], end["val_loss"], "*", color="tab:orange", label="on the whole file")
        for kind, marker in (("spike", "^"), ("not finite", "x")):
            marked = [r for r in rows if r.get("kind") == kind]
            if marked:
                heights = [top if number(r.get("loss")) is None else r["loss"] for r in marked]
                x = [r[key] for r in marked]
                axes.scatter(x, heights, color="tab:red", marker=marker, label=kind)
        axes.set_xlabel(label)
        axes.grid(alpha=0.3)
        if i == 0:
            axes.set_ylabel("loss, nats per token")
        if val:
            last = val[-1]
            axes.annotate(
                f"{last['val_loss']:.3f}",
                (last[key], last["val_loss"]),
                xytext=(-4, 8),
                textcoords="offset points",
                ha="right",
            )
    figure.axes[0].legend()
    figure.suptitle(title)
    save_figure(figure, out)


def save_figure(figure: "Figure", out: Path) -> None:
    """Write a figure as a PNG atomically, replacing an existing one.

    Its texts have names of folders, in which $ begins no formula, and bytes may be no UTF-8.
    """
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_parse_math(False)
        text.set_text(text.get_text().encode(errors="replace").decode())
    with disk.whole_file(out, replace=True) as file:
        figure.savefig(file, dpi=110, format="png")
