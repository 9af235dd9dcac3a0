"""The plot of a run's curve has the right lines and points."""

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from fastlm.runs.plot import plot_curves

pytestmark = pytest.mark.figures


def row(kind, step, **values):
    return {"kind": kind, "step": step, "tokens": 10 * step, "elapsed_seconds": 1.0 * step} | values


def test_the_whole_file_at_the_end_is_a_point_beside_the_curve(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda self, out, **_: drawn.append(self))
    rows = [
        row("eval", 0, val_loss=6.0, val_tokens=512),
        row("train", 5, loss=5.5),
        row("spike", 7, loss=9.0),
        row("eval", 10, val_loss=5.0, val_tokens=512),
        row("eval", 10, val_loss=5.3, val_tokens=9999),
    ]
    plot_curves(rows, tmp_path / "out.png", title="run")
    steps, tokens, _ = drawn[0].axes
    lines = {line.get_label(): line for line in steps.get_lines()}
    assert list(lines["validation"].get_ydata()) == [6.0, 5.0]
    assert list(lines["on the whole file"].get_ydata()) == [5.3]
    assert list(lines["training"].get_xdata()) == [5]
    assert list(tokens.get_lines()[1].get_xdata()) == [0, 100]
    assert [text.get_text() for text in steps.texts] == ["5.300"]
    assert steps.collections[0].get_offsets().tolist() == [[7.0, 9.0]]


def test_names_are_drawn_as_they_are(tmp_path, monkeypatch):
    """A $ begins no formula, and bytes of a name may be no UTF-8."""
    shown = []
    monkeypatch.setattr(Figure, "savefig", lambda self, out, **_: shown.extend(self.findobj(Text)))
    plot_curves([row("train", 1, loss=5.0)], tmp_path / "out.png", title="cost_$1_vs_$2 \udcff")
    assert "cost_$1_vs_$2 ?" in {text.get_text() for text in shown}
    assert not any(text.get_parse_math() for text in shown)


def test_a_run_without_any_validation_is_drawn(tmp_path):
    plot_curves([row("train", 1, loss=5.0)], tmp_path / "curve.png", title="run")
    plot_curves([], tmp_path / "none.png", title="nothing")
    assert (tmp_path / "curve.png").stat().st_size > 1000


def test_a_step_that_is_not_finite_is_marked_where_no_row_has_a_loss(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda self, out, **_: drawn.append(self))
    bad = [row("train", 1, loss=None), row("not finite", 1, loss=None)]
    validated = [row("eval", 0, val_loss=6.0, val_tokens=512), *bad]
    for rows, height in ((bad, 0.0), (validated, 6.0), ([row("train", 1, loss=5.0), *bad], 5.0)):
        plot_curves(rows, tmp_path / "out.png", title="run")
        assert drawn.pop().axes[0].collections[0].get_offsets().tolist() == [[1.0, height]]


def test_a_picture_that_cannot_be_drawn_to_its_end_leaves_the_one_before(monkeypatch, tmp_path):
    def draw_half(self, out, **_):
        out.write(b"half")
        raise OSError("no room")

    (tmp_path / "curve.png").write_bytes(b"before")
    monkeypatch.setattr(Figure, "savefig", draw_half)
    with pytest.raises(OSError, match="no room"):
        plot_curves([], tmp_path / "curve.png", title="run")
    assert [path.name for path in tmp_path.iterdir()] == ["curve.png"]
    assert (tmp_path / "curve.png").read_bytes() == b"before"
