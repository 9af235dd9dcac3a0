"""The report page in a real browser: what is drawn, and what buttons, keys and a growing log do."""

import os
import re
import shutil
from threading import Thread

import chromium
import pytest
from made_runs import eval_row, lines, train_row, write_run

from fastlm.report import write_report
from fastlm.report.server import ReportServer
from fastlm.runs.found import find_runs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        chromium.PATH is None or os.name == "nt",
        reason="needs Chromium: apt-get install chromium",
    ),
]
N_RUNS = 10


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    profile = tmp_path_factory.mktemp("chromium")
    browser = chromium.Browser(profile)
    yield browser
    browser.close()
    shutil.rmtree(profile, ignore_errors=True)


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    """A page of ten runs: one with marks of every kind, one with hostile names, one without rows."""
    folder = tmp_path_factory.mktemp("runs")
    for i in range(N_RUNS - 3):
        write_run(folder / f"run{i}", config={"optim": {"lr": 0.001 * (i + 1)}}, sample="Once <b>upon</b> a time.")  # fmt: skip
    rows = [train_row(i) for i in range(1, 100)]
    rows[50:50] = [
        train_row(51, kind="spike", loss=5.5, sigmas=7.25),
        train_row(51, kind="not finite", loss=None, sigmas=None),
        {"kind": "resume", "step": 50, "environment": {}},
    ]
    rows[20]["loss"] = None
    write_run(folder / "run7", [eval_row(0), *rows, eval_row(99)], is_finished=False)
    write_run(folder / "run8", [], is_finished=False)
    write_run(folder / "zz<img src=x onerror=console.error(1)>", config={"recipe": "</script><script>console.error(2)</script>"})  # fmt: skip
    out = folder / "report.html"
    write_report(find_runs([folder]), out)
    return out.as_uri()


@pytest.fixture
def page(browser, address):
    browser.open(address)
    yield browser
    assert browser.errors == []
    assert browser.requested == [address]


def curves(page, chart="train-loss"):
    """The path of each run that is drawn in a chart."""
    return page.run(f"Object.fromEntries([...document.querySelectorAll('#{chart} path.curve')].map(p => [p.dataset.run, p.getAttribute('d')]))")  # fmt: skip


def ticks(page, chart="train-loss"):
    return page.run(f"[...document.querySelectorAll('#{chart} svg.chart text')].map(t => t.textContent)")  # fmt: skip


def text(page, selector):
    return page.run(f"document.querySelector({selector!r}).textContent")


def test_all_runs_charts_and_tables_are_drawn(page):
    assert page.run("[...document.querySelectorAll('figure')].filter(f => !f.hidden).map(f => f.id)") == [
        "val-loss", "train-loss", "tokens-per-second", "mfu", "memory", "grad-norm", "lr",
    ]  # fmt: skip
    assert sum(len(d) > 100 for d in curves(page).values()) == N_RUNS - 1
    assert page.run("document.querySelectorAll('#table tbody tr').length") == N_RUNS
    assert "2.4321" in text(page, "#table")
    assert "optim.lr" in text(page, "#configuration table")
    assert "seed" not in text(page, "#configuration thead")
    assert "environment of all" in text(page, "#environment")
    assert "Once <b>upon</b> a time." in text(page, "#samples pre")
    assert "run8: no row in the log yet" in text(page, "#notes")
    dashes = page.run("new Set([...document.querySelectorAll('#train-loss path.curve')].map(p => p.getAttribute('stroke') + p.getAttribute('stroke-dasharray'))).size")  # fmt: skip
    assert dashes == N_RUNS


def test_text_of_runs_stays_text(page):
    assert page.run("document.querySelectorAll('img').length") == 0
    assert "zz<img src=x onerror=console.error(1)>" in text(page, "#legend")
    assert "</script><script>console.error(2)</script>" in text(page, "#configuration")


def test_axes_and_scales_change_the_curves(page):
    seen = [curves(page)]
    for button in ("x=tokens", "x=seconds", "xScale=log", "yScale=log"):
        before = ticks(page), curves(page)
        page.click(f'[data-set="{button}"]')
        assert (ticks(page), curves(page)) != before, button
        assert page.run(f"document.querySelector('[data-set=\"{button}\"]').ariaPressed") == "true"
        seen.append(curves(page))
    # Tokens are a multiple of steps; every other change moves the points.
    assert seen[1] == seen[0]
    assert len({str(paths) for paths in seen[1:]}) == 4
    assert all("NaN" not in path and "Infinity" not in path for paths in seen for path in paths.values())  # fmt: skip


def test_a_missing_value_is_a_gap(page):
    run = page.run("runs.find(r => r.name === 'run7').id")
    assert curves(page)[run].count("M") == 2


def test_marks_tell_spikes_resumes_steps_that_were_not_finite_and_the_budget(page):
    marks = "[...document.querySelectorAll('#train-loss .mark')].map(m => [m.dataset.kind, m.textContent])"
    assert dict(page.run(marks)) == {
        "spike": "run7, step 51: spike of 7.25 sigma, loss 5.5",
        "not finite": "run7, step 51: loss or gradients not finite",
        "resume": "run7, step 50: resumed",
    }
    assert page.run("document.querySelectorAll('.budget').length") == 1  # in the key
    page.click('[data-set="x=seconds"]')
    assert text(page, "#train-loss .budget") == "time budget: 3:20"


def test_a_hidden_run_has_no_curve_until_it_is_shown_again(page):
    run = page.run("runs[2].id")
    assert run in curves(page)
    page.click(f'[data-legend="{run}"]')
    assert run not in curves(page)
    assert len(curves(page)) == N_RUNS - 1
    page.click('[data-legend="Hide every run"]')
    assert curves(page) == {}
    page.click('[data-legend="Show every run"]')
    assert len(curves(page)) == N_RUNS


def test_smoothing_draws_the_mean_over_the_pale_raw_curve(page):
    before = curves(page)
    page.run("(() => { const s = document.getElementById('smoothing'); s.value = 0.9; s.dispatchEvent(new Event('input')); })()")  # fmt: skip
    page.settle()
    assert curves(page) != before
    assert page.run("document.querySelectorAll('#train-loss path.raw').length") == N_RUNS


def test_pointing_at_a_chart_tells_the_nearest_value_of_each_run(page):
    x, y = page.middle("#train-loss svg.chart")
    page.mouse("mouseMoved", x, y)
    page.settle()
    assert page.run("document.querySelectorAll('#train-loss .readout tr').length") == N_RUNS - 1
    assert page.run("document.querySelectorAll('#train-loss circle.dot').length") >= N_RUNS - 2


def test_values_are_told_as_logged_and_each_at_its_own_step(page):
    page.run("document.querySelector('#train-loss svg.chart').focus()")
    page.press("End")
    rows = "[...document.querySelectorAll('#train-loss .readout tr')].map(r => [...r.cells].slice(1).map(c => c.textContent))"
    told = {name: [value, where] for name, value, where in page.run(rows)}
    assert told["run0"] == [f"{train_row(390)['loss']:.4f}", "step 390"]
    assert told["run7"] == [f"{train_row(99)['loss']:.4f}", "step 99"]
    page.run("view.hidden = new Set(runs.filter(r => !['run0', 'run7'].includes(r.name)).map(r => r.id)); redraw()")  # fmt: skip
    page.settle()
    page.press("End")
    assert text(page, "#spoken") == (
        f"Training loss at step 390: run0 {told['run0'][0]}, run7 {told['run7'][0]} (step 99)"
    )
    assert page.run("[1.2345e-4, 5e-4, 0.001].map(v => trimmed(v, 3))") == ["1.23e-4", "5e-4", "0.001"]  # fmt: skip


def test_labels_of_large_values_stay_inside_their_chart(page):
    page.run("runs[0].train.grad_norm = runs[0].train.grad_norm.map(v => v * 2e7); redraw()")
    page.settle()
    left = (
        "Math.min(...[...document.querySelectorAll('#grad-norm svg text')].map(t => t.getBBox().x))"
    )
    assert page.run(left) >= 0
    assert "10M" in ticks(page, "grad-norm")


def test_dragging_zooms_and_a_double_click_shows_all(page):
    before = ticks(page)
    x, y = page.middle("#train-loss svg.chart")
    page.mouse("mousePressed", x - 60, y)
    page.mouse("mouseMoved", x + 60, y)
    page.mouse("mouseReleased", x + 60, y)
    page.settle()
    assert ticks(page) != before
    assert ticks(page, "lr") != before
    page.click("#reset")
    assert ticks(page) == before


def test_zoom_ends_before_numbers_do_and_keys_work_where_there_is_no_point(page):
    before = ticks(page)
    page.run("document.querySelector('#train-loss svg.chart').focus()")
    page.run("view.zoom = [11.2, 11.8]; redraw()")
    page.settle()
    for _ in range(80):
        page.press("+")
    low, high = page.run("view.zoom")
    assert low < high
    assert len(ticks(page)) < 30
    page.press("0")
    assert ticks(page) == before


def test_a_tap_tells_values_until_another_place_is_tapped(page):
    x, y = page.middle("#train-loss svg.chart")
    for kind, points in (("touchStart", [{"x": x, "y": y}]), ("touchEnd", [])):
        page.send("Input.dispatchTouchEvent", type=kind, touchPoints=points)
    page.settle()
    assert not page.run("document.querySelector('#train-loss .readout').hidden")
    page.click("#curves-title")
    assert page.run("document.querySelector('#train-loss .readout').hidden")


def test_the_keyboard_reaches_and_works_everything(page):
    # Readers of a screen hand arrow keys to an application, not to an image.
    assert page.run("document.querySelector('#train-loss svg.chart').role") == "application"
    page.run("document.querySelector('#train-loss svg.chart').focus()")
    page.press("Home")
    first = text(page, "#spoken")
    assert first.startswith("Training loss at step 1: ")
    page.press("ArrowRight")
    assert text(page, "#spoken").startswith("Training loss at step 2: ")
    page.press("End")
    assert text(page, "#spoken").startswith("Training loss at step 390: ")
    before = ticks(page)
    page.press("+")
    assert ticks(page) != before
    page.press("0")
    assert ticks(page) == before
    page.press("Escape")
    assert page.run("document.querySelector('#train-loss .readout').hidden")
    page.run("document.querySelector('[data-set=\"x=seconds\"]').focus()")
    page.press(" ")
    assert page.run("view.x") == "seconds"
    page.press("Tab")
    assert page.run("document.activeElement.dataset.set") == "xScale=linear"
    assert page.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_the_table_is_sorted_by_the_column_that_is_chosen(page):
    names = "[...document.querySelectorAll('#table tbody tr')].map(r => r.querySelector('th').textContent.trim())"
    page.click("#table thead th:first-child button")
    assert page.run(names)[:3] == ["run0", "run1", "run2"]
    page.click("#table thead th:first-child button")
    assert page.run(names)[-1] == "run0"
    assert page.run("document.querySelector('#table thead th').ariaSort") == "descending"
    page.click("#table thead th:nth-child(5) button")
    assert page.run(names)[0] == "run7"
    assert page.run(names)[-1] == "run8"  # without a value: last either way


def test_dark_follows_the_system_until_it_is_chosen(browser, address):
    paper = "getComputedStyle(document.body).backgroundColor"
    browser.open(address, is_dark=True)
    dark = browser.run(paper)
    browser.open(address)
    light = browser.run(paper)
    assert (light, dark) == ("rgb(255, 255, 255)", "rgb(20, 23, 26)")
    browser.click("#theme")
    assert browser.run(paper) == dark
    assert browser.run("document.getElementById('theme').ariaPressed") == "true"


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's ratio of two colours, written as rgb(r, g, b)."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("is_dark", [False, True])
def test_curves_and_words_stand_out_from_the_paper(browser, address, is_dark):
    browser.open(address, is_dark=is_dark)
    shown = "(name => { const e = document.body.appendChild(document.createElement('i')); e.style.color = `var(--${name})`; return getComputedStyle(e).color; })"
    paper, raised = (browser.run(f"{shown}('{name}')") for name in ("paper", "raised"))
    for name in [f"c{i}" for i in range(8)]:
        assert contrast(browser.run(f"{shown}('{name}')"), paper) >= 3, name
    for name in ("ink", "quiet", "accent", "alarm"):
        for ground in (paper, raised):
            assert contrast(browser.run(f"{shown}('{name}')"), ground) >= 4.5, name


def test_a_dark_page_is_printed_dark_on_white(browser, address):
    browser.open(address)
    browser.click("#theme")
    browser.send("Emulation.setEmulatedMedia", media="print")
    try:
        assert browser.run("getComputedStyle(document.body).color") == "rgb(27, 31, 35)"
        assert browser.run("getComputedStyle(document.getElementById('controls')).display") == "none"  # fmt: skip
        assert browser.run("getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"  # fmt: skip
    finally:
        browser.send("Emulation.setEmulatedMedia", media="")


@pytest.mark.parametrize("width", [320, 360, 700, 1000, 1280])
def test_no_width_makes_the_page_scroll_sideways(browser, address, width):
    browser.open(address, width=width, height=800)
    x, y = browser.middle("#train-loss svg.chart")
    browser.mouse("mouseMoved", x, y)
    browser.settle()
    assert browser.run("document.documentElement.scrollWidth") == width
    assert browser.run("Math.max(...[...document.querySelectorAll('section, figure, .scroll, .legend, details')].map(e => e.getBoundingClientRect().right))") <= width  # fmt: skip
    assert browser.run("document.querySelector('#train-loss svg.chart').clientWidth") > 260


def test_a_narrow_page_has_readable_names_and_more_than_one_label_on_an_axis(browser, address):
    browser.open(address, width=360, height=800)
    browser.run("view.zoom = [0, 425]; redraw()")
    browser.settle()
    assert ticks(browser)[:3] == ["0", "200", "400"]
    browser.run("document.querySelectorAll('details').forEach(node => { node.open = true; })")
    browser.run("document.querySelector('dd').textContent = 'a long value '.repeat(20)")
    name = "(r => { r.selectNodeContents(document.querySelector('dt')); return r.getClientRects().length; })(new Range())"
    assert browser.run(name) == 1  # line


def test_a_served_page_shows_rows_and_runs_that_came_after_it(browser, tmp_path):
    run = write_run(tmp_path / "first", [train_row(i) for i in range(1, 5)], is_finished=False)
    with ReportServer([tmp_path], 0, poll_seconds=0.1) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            browser.open(f"http://{server.address}/")
            before = curves(browser)
            with open(run / "log.jsonl", "a") as log:
                log.write(lines([train_row(i) for i in range(5, 9)]))
            browser.wait_for("runs[0].train.step.length === 8")
            browser.settle()
            assert curves(browser) != before
            write_run(tmp_path / "second")
            browser.wait_for("document.querySelectorAll('#train-loss path.curve').length === 2")
            assert "second" in text(browser, "#table")
            # A run that goes back to an earlier step forgets its later rows.
            (run / "log.jsonl").write_text(lines([train_row(1), {"kind": "resume", "step": 1}]))
            browser.wait_for("runs[0].train.step.length === 1")
            browser.wait_for("runs[0].marks.length === 1")
            assert browser.errors == []
        finally:
            server.shutdown()
    browser.wait_for("document.getElementById('live').textContent.includes('does not answer')")


def test_news_neither_takes_the_focus_nor_leaves_old_notes(browser, tmp_path):
    run = write_run(tmp_path / "run", [train_row(1)], is_finished=False)
    (run / "log.jsonl").rename(tmp_path / "log")
    with ReportServer([tmp_path], 0, poll_seconds=0.1) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            browser.open(f"http://{server.address}/", width=360)
            assert "run: no log.jsonl" in text(browser, "#notes")
            browser.run("document.querySelector('#table .scroll').scrollLeft = 70")
            browser.run("document.querySelectorAll('#table thead button')[3].focus()")
            left = browser.run("document.querySelector('#table .scroll').scrollLeft")
            assert left >= 70
            (tmp_path / "log").rename(run / "log.jsonl")
            browser.wait_for("runs[0].train.step.length === 1")
            assert "no log.jsonl" not in text(browser, "#notes")
            assert browser.run("document.activeElement.textContent") == "Bits/byte"
            assert browser.run("document.querySelector('#table .scroll').scrollLeft") == left
            browser.wait_for("document.getElementById('live').textContent.includes('last row')")
            assert browser.run("document.getElementById('live').closest('[role=status]')") is None
        finally:
            server.shutdown()
    browser.wait_for("document.getElementById('spoken').textContent.includes('does not answer')")


def test_a_log_that_could_not_be_read_for_a_while_is_not_counted_twice(page):
    page.run("""(() => {
        const known = runs.find(r => r.name === 'run0');
        const none = part => Object.fromEntries(Object.keys(known[part]).map(name => [name, []]));
        const part = {...structuredClone(known), is_new: false, marks: [], log_notes: []};
        take({...part, train: none('train'), eval: none('eval'), position: [0, 0]});
        take({...part, train: known.train, eval: known.eval, position: [9, 9]});
    })()""")
    assert page.run("runs.find(r => r.name === 'run0').train.step.length") == 39
