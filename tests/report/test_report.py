"""The report page: which runs are found, what is kept of their logs, and that nothing in them can break it."""

import errno
import functools
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path
from threading import Thread

import pytest
from commands import check_refused, fastlm
from made_runs import eval_row, lines, train_row, write_run

from fastlm.report import report_page, write_report
from fastlm.report.__main__ import main
from fastlm.report.page import report_values
from fastlm.report.run_json import (
    MOST_MARKS,
    MOST_SAMPLE_BYTES,
    describe_run,
    embedded,
    flatten,
    number,
    rows_per_run,
    run_id,
)
from fastlm.report.server import ReportServer, news
from fastlm.report.thinning import rows_to_keep
from fastlm.runs.found import Position, find_runs, read_log

ROOT = Path(__file__).resolve().parents[2]


def embedded_values(page: str) -> dict:
    """Return the values that the page's script reads."""
    return json.loads(
        re.search(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)[1]
    )


# ---- thinning


@pytest.mark.parametrize("n_rows", [0, 1, 2, 15, 16, 17, 123, 5000])
@pytest.mark.parametrize("limit", [1, 16, 61, 450])
def test_kept_rows_rise_include_both_ends_and_respect_the_limit(n_rows, limit):
    generator = random.Random(0)
    column = [generator.random() for _ in range(n_rows)]
    kept = rows_to_keep([column, column[::-1]], limit)
    assert kept == sorted(set(kept))
    assert len(kept) <= max(limit, 16)
    if n_rows:
        assert (kept[0], kept[-1]) == (0, n_rows - 1)
    if n_rows <= limit:
        assert kept == list(range(n_rows))


def test_every_spike_and_every_dip_of_each_column_stays():
    generator = random.Random(1)
    columns = [[5 - 1e-4 * i + 0.1 * generator.random() for i in range(20_011)] for _ in range(3)]
    odd = {}
    for column in columns:
        for row in generator.sample(range(20_011), 5):
            column[row] += 50 if row % 2 else -50
            odd[row] = column
    assert set(odd) <= set(rows_to_keep(columns, 400))


def test_rows_without_a_value_leave_a_gap_and_empty_columns_cost_nothing():
    loss = [1.0 + i % 7 for i in range(3000)]
    loss[1500:1600] = [None] * 100
    kept = rows_to_keep([loss, [None] * 3000], 200, shares=(0.5, 0.5))
    assert any(1500 <= row < 1600 for row in kept)
    assert len(kept) > 120


def test_the_beginning_keeps_its_shape_on_a_logarithmic_axis():
    kept = rows_to_keep([[math.sin(i) for i in range(100_000)]], 400)
    assert sum(row < 1000 for row in kept) > 50


# ---- finding and reading


def test_runs_are_found_below_folders_with_names_that_tell_them_apart(tmp_path):
    for name in ("sweep/lr/seed10", "sweep/lr/seed2", "sweep/alone", "other/alone"):
        write_run(tmp_path / name)
    (tmp_path / "sweep" / "lr" / "seed2" / "checkpoints" / "log.jsonl").mkdir(parents=True)
    found = find_runs([tmp_path / "sweep", tmp_path / "other/alone", tmp_path / "sweep/alone"])
    assert list(found.values()) == ["alone", "lr/seed2", "lr/seed10", (tmp_path / "other/alone").as_posix()]  # fmt: skip


def test_a_log_is_read_on_from_where_it_was_and_anew_when_it_was_rewritten(tmp_path):
    run = write_run(tmp_path / "run", [train_row(i) for i in range(20)])
    part = read_log(run)
    assert len(part.rows) == 20
    with open(run / "log.jsonl", "a") as log:
        log.write(json.dumps(train_row(20)) + "\n" + '{"step": 21, "kind"')
    more = read_log(run, part.end)
    assert [row["step"] for row in more.rows] == [20]
    assert not more.is_new
    assert read_log(run, more.end).rows == []
    (run / "log.jsonl").write_text(lines([train_row(i, loss=1.0) for i in range(30)]))
    anew = read_log(run, more.end)
    assert anew.is_new
    assert len(anew.rows) == 30


BROKEN = {
    "no log": lambda run: (run / "log.jsonl").unlink(),
    "empty log": lambda run: (run / "log.jsonl").write_text(""),
    "no configuration": lambda run: (run / "config.json").unlink(),
    "half a configuration": lambda run: (run / "config.json").write_text('{"recipe": "ti'),
    "a list for a summary": lambda run: (run / "summary.json").write_text("[1]"),
    "deep nesting": lambda run: (run / "environment.json").write_text("[" * 100_000),
    "bytes that are no text": lambda run: (run / "log.jsonl").write_bytes(b"\xff\xfe\n" + b"{}\n[]\n"),
    "NaN": lambda run: (run / "log.jsonl").write_text('{"step": 1, "kind": "train", "loss": NaN, "lr": Infinity}\n'),
    "null": lambda run: (run / "log.jsonl").write_text(lines([train_row(1, loss=None), eval_row(1, val_loss=None)])),
    "huge numbers": lambda run: (run / "log.jsonl").write_text('{"step": 1, "kind": "train", "loss": 1%s}\n' % ("0" * 400)),
    "other types": lambda run: (run / "log.jsonl").write_text(lines([train_row(1, loss="low", tokens=[1]), train_row(2) | {"step": "x"}, {"kind": [], "step": 1}])),
    "other types in the summary": lambda run: (run / "summary.json").write_text('{"finished": true, "val_loss": "x", "step": null}'),
    "a folder for a log": lambda run: ((run / "log.jsonl").unlink(), (run / "log.jsonl").mkdir()),
}  # fmt: skip


@pytest.mark.parametrize("damage", BROKEN)
def test_a_damaged_run_is_shown_with_what_can_be_read(damage, tmp_path):
    write_run(tmp_path / "whole")
    BROKEN[damage](write_run(tmp_path / "damaged"))
    values = embedded_values(report_page(find_runs([tmp_path])))
    damaged, whole = values["runs"]
    assert damaged["name"] == "damaged"
    assert len(whole["train"]["step"]) == 39
    if damage not in ("null", "huge numbers", "NaN", "other types in the summary"):
        assert damaged["notes"] or damaged["log_notes"]


def test_states_tell_finished_stopped_running_diverged_and_broken_off(tmp_path):
    def state(name):
        return describe_run(tmp_path / name, name, limit=100)["state"]

    write_run(tmp_path / "finished")
    stopped = write_run(tmp_path / "stopped")
    summary = json.loads((stopped / "summary.json").read_text()) | {"finished": False}
    (stopped / "summary.json").write_text(json.dumps(summary))
    resumed = write_run(tmp_path / "resumed", [train_row(10)], is_finished=False)
    with open(resumed / "log.jsonl", "a") as log:
        log.write(lines([{"kind": "resume", "step": 10}, train_row(20)]))
    write_run(tmp_path / "running", is_finished=False)
    silent = write_run(tmp_path / "silent", is_finished=False)
    os.utime(silent / "log.jsonl", (time.time() - 3600,) * 2)
    bad = write_run(tmp_path / "bad", [train_row(1), train_row(2, kind="not finite", loss=None)], is_finished=False)  # fmt: skip
    (bad / "not-finite-step-2.json").write_text("{}")
    states = [state(n) for n in ("finished", "stopped", "resumed", "running", "silent", "bad")]
    assert states == ["finished", "stopped", "running", "running", "broken off", "diverged"]


def test_marks_have_their_place_and_the_largest_spikes_stay(tmp_path):
    spikes = [train_row(i, kind="spike", sigmas=float(i)) for i in range(3, 303)]
    rows = [train_row(2), {"kind": "resume", "step": 2, "environment": {}}, *spikes]
    run = describe_run(write_run(tmp_path / "run", rows), "run", limit=100)
    assert (len(run["marks"]), run["n_marks"]) == (MOST_MARKS, 301)
    resume = run["marks"][0]
    assert (resume["kind"], resume["tokens"], resume["seconds"]) == (
        "resume",
        8192,
        10.0,
    )  # of the row before it
    assert min(mark["sigmas"] for mark in run["marks"][1:]) == 204.0


def test_numbers_are_finite_or_none_and_settings_are_flat_text():
    assert [number(v) for v in (1, 2.5, True, "3", None, math.nan, math.inf, 10**400)] == [1, 2.5, *[None] * 6]  # fmt: skip
    assert flatten({"optim": {"lr": 0.1, "betas": [0.9, 0.95]}, "name": "x", "a": None}) == {"optim.lr": "0.1", "optim.betas": "[0.9, 0.95]", "name": "x", "a": "null"}  # fmt: skip


# ---- the page


@pytest.mark.slow
def test_a_page_of_20_long_runs_is_smaller_than_a_megabyte(tmp_path):
    generator = random.Random(0)
    config = json.loads((ROOT / "runs/tinystories-cpu-10min-compiled/config.json").read_text())
    for i in range(20):
        rows = [
            train_row(step, loss=3 + generator.random(), grad_norm=generator.random(),
                      tokens_per_second=9e4 * generator.random(), mfu=generator.random(),
                      lr=generator.random(), memory_bytes=generator.randrange(10**11))
            for step in range(1, 5001)
        ]  # fmt: skip
        rows += [eval_row(step, val_loss=2 + generator.random()) for step in range(0, 5001, 10)]
        write_run(tmp_path / f"run{i}", rows, config=config, sample="Once upon a time. " * 400)
    out = tmp_path / "pages" / "report.html"
    size = write_report(find_runs([tmp_path]), out)
    assert size == out.stat().st_size < 1_000_000
    run = embedded_values(out.read_text())["runs"][0]
    assert run["n_rows"] == 5501
    assert 360 <= len(run["train"]["step"]) <= rows_per_run(20) == 450


@pytest.mark.slow
def test_the_size_holds_for_texts_in_any_alphabet_and_logs_full_of_spikes(tmp_path):
    generator = random.Random(0)
    for i in range(20):
        rows = [
            train_row(step, loss=3 + generator.random(), kind="spike" if step % 2 else "train",
                      sigmas=9 * generator.random())
            for step in range(10**6, 10**6 + 3000)
        ]  # fmt: skip
        write_run(tmp_path / f"run{i}", rows, sample="\U0001f600 从前有座山" * 1000)
    assert write_report(find_runs([tmp_path]), tmp_path / "report.html") < 1_000_000


def test_a_page_replaces_only_an_earlier_one_of_its_runs(tmp_path, monkeypatch, capfd):
    one, two = write_run(tmp_path / "runs/one"), write_run(tmp_path / "runs/two")
    out = tmp_path / "page.html"
    main([str(one), "--out", str(out)])
    main([str(one), str(two), "--out", str(out)])  # nothing is lost
    page = out.read_bytes()
    words = [str(one), "--out", str(out)]
    check_refused(lambda: main(words), "is there already: give another --out, or", capfd)
    assert out.read_bytes() == page
    main([*words, "--overwrite"])
    assert [run["name"] for run in embedded_values(out.read_text())["runs"]] == ["one"]
    # The default is a name for pages: an earlier one is replaced, and nothing else is.
    monkeypatch.chdir(tmp_path)
    for run in (one, two):
        main([str(run)])
    Path("report.html").write_text("<html>mine")
    check_refused(lambda: main([str(two)]), "report.html is there already", capfd)
    assert Path("report.html").read_text() == "<html>mine"


def test_a_page_is_not_written_over_what_it_shows(tmp_path, capfd):
    run = write_run(tmp_path / "run")
    (tmp_path / "link").symlink_to("run/log.jsonl")
    log = (run / "log.jsonl").read_bytes()
    for out in (run / "log.jsonl", run / "config.json", tmp_path / "link"):
        words = [str(run), "--out", str(out), "--overwrite"]
        check_refused(functools.partial(main, words), "is read and would be written", capfd)
    assert (run / "log.jsonl").read_bytes() == log
    for _ in range(2):  # a page may lie in the folder of its run
        main([str(run), "--out", str(run / "report.html")])


def test_a_page_goes_to_standard_output_alone(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main([str(write_run(tmp_path / "run")), "--out", "-"])
    told = capsys.readouterr()
    assert told.out.startswith("<!doctype html>")
    assert told.out.endswith("</html>\n")
    assert told.err.startswith("1 run, ")
    assert not Path("-").exists()


@pytest.mark.parametrize("text", ["山" * 1999, "a" + "山" * 3000, "Once \U0001f600" * 2000])
def test_a_long_sample_ends_with_a_whole_character(text, tmp_path):
    sample = describe_run(write_run(tmp_path / "run", sample=text), "run", limit=100)["sample"]
    whole = sample.removesuffix(" ...")
    assert text.startswith(whole)
    assert (whole == text) == (len(text.encode()) <= MOST_SAMPLE_BYTES)
    assert len(whole.encode()) > min(len(text.encode()), MOST_SAMPLE_BYTES) - 4


def test_the_page_asks_for_no_address_at_all(tmp_path):
    write_run(tmp_path / "run")
    page = report_page(find_runs([tmp_path]))
    addresses = set(re.findall(r"\w+://[^\s\"'<>]*", page))
    assert addresses == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<(link|script|img|iframe)[^>]+(src|href)=\"(?!data:)", page)
    assert "default-src 'none'" in page


def test_half_characters_of_a_run_leave_the_page_utf_8(tmp_path):
    run = write_run(tmp_path / "run", config={"recipe": "\ud800 中"})
    size = write_report({run: "caf\udce9"}, tmp_path / "report.html")
    (shown,) = embedded_values((tmp_path / "report.html").read_text(encoding="utf-8"))["runs"]
    assert (shown["name"], shown["config"]["recipe"]) == ("caf\udce9", "\ud800 中")
    assert size == (tmp_path / "report.html").stat().st_size


def test_text_of_a_run_is_never_html(tmp_path):
    evil = "</script><script>alert(1)</script><!--"
    run = write_run(tmp_path / "<script>alert(1)<_script>", config={"recipe": evil}, sample=evil + "{{ style }}")  # fmt: skip
    page = report_page({run: evil})
    assert "<script>alert" not in page
    assert page.count("</script>") == 2
    (shown,) = embedded_values(page)["runs"]
    assert (shown["name"], shown["config"]["recipe"]) == (evil, evil)
    assert shown["sample"] == evil + "{{ style }}"
    assert "<" not in embedded({"<&>": "\u2028"})


def test_values_are_what_the_log_says(tmp_path):
    run = write_run(
        tmp_path / "run", [train_row(1, loss=10.832719), eval_row(1, val_loss=4.3210987)]
    )
    (shown,) = report_values({run: "run"})["runs"]
    assert shown["train"]["loss"] == [10.8327]  # as many digits as the page shows
    assert shown["eval"]["val_loss"] == [4.3211]
    assert shown["train"]["seconds"] == [9.5]
    assert shown["train"]["memory"] == [1_059_000_000]
    assert shown["budget"] == 200.0


def test_the_packaged_project_has_the_pages_files():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "report/page_parts/*" in project["tool"]["setuptools"]["package-data"]["fastlm"]
    assert {p.suffix for p in (ROOT / "fastlm/report/page_parts").iterdir()} == {
        ".html",
        ".css",
        ".js",
    }


# ---- the command


def test_the_command_writes_the_page_of_real_records(tmp_path):
    done = fastlm("report", str(ROOT / "runs"), "--out", "all.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\d+ runs, \d+\.\d KiB: all.html\n", done.stdout)
    assert len(embedded_values((tmp_path / "all.html").read_text())["runs"]) > 20


ERRORS = {
    "no folder given": ([], "which runs?"),
    "unknown folder": (["nope"], "no folder nope: give the folder of a run"),
    "a file": (["file.txt"], "file.txt is a file: give the folder"),
    "no run in it": (["empty"], "no run in empty: expected a folder with log.jsonl"),
    "a folder to write": (["run", "--out", "empty"], "empty is a folder: give --out the name"),
    "a port that is none": (["run", "--serve", "--port", "70000"], "port must lie in [0, 65535]"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_of_the_command_are_one_line(case, tmp_path, monkeypatch, capfd):
    write_run(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("")
    words, message = ERRORS[case]
    monkeypatch.chdir(tmp_path)
    check_refused(lambda: main(words), message, capfd)


# ---- serving


@pytest.fixture
def server(tmp_path):
    write_run(tmp_path / "out" / "run", [train_row(i) for i in range(1, 9)], is_finished=False)
    with ReportServer([tmp_path / "out"], 0) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


def answer(server, path="/", body=None, host=None):
    request = urllib.request.Request(f"http://{server.address}{path}", data=body)
    if host:
        request.add_header("Host", host)
    with urllib.request.urlopen(request, timeout=600) as reply:
        return reply.read().decode()


def test_a_served_page_is_told_only_what_it_does_not_have(server, tmp_path):
    (run,) = embedded_values(answer(server))["runs"]
    known = {run["id"]: [*run["position"], run["version"]]}
    assert json.loads(answer(server, "/news", json.dumps(known).encode())) == {"runs": []}
    with open(tmp_path / "out/run/log.jsonl", "a") as log:
        log.write(lines([train_row(9), train_row(10)]))
    write_run(tmp_path / "out" / "second")
    grown, second = json.loads(answer(server, "/news", json.dumps(known).encode()))["runs"]
    assert grown["train"]["step"] == [9, 10]
    assert (second["name"], second["state"]) == ("second", "finished")


def test_a_served_page_is_told_of_an_end_that_comes_after_the_last_row(server, tmp_path):
    run = tmp_path / "out/run"
    with open(run / "log.jsonl", "a") as log:
        log.write(lines([train_row(9, kind="not finite", loss=None)]))
    (shown,) = embedded_values(answer(server))["runs"]
    assert shown["state"] == "running"  # the step is computed again to be described
    known = {shown["id"]: [*shown["position"], shown["version"]]}
    (run / "not-finite-step-9.json").write_text("{}")
    (changed,) = json.loads(answer(server, "/news", json.dumps(known).encode()))["runs"]
    assert changed["state"] == "diverged"


def test_only_this_machine_by_its_own_name_is_answered(server, tmp_path):
    far = json.dumps({run_id(tmp_path / "out/run"): "FAR"}).replace('"FAR"', '[1e400, 0, "x"]')
    assert server.server_address[0] == "127.0.0.1"
    for host, path, body, code in (
        ("evil.example:80", "/", None, 403),
        (None, "/../pyproject.toml", None, 404),
        (None, "/news", b"[1", 400),
        (None, "/news", b'{"a": 1}', 200),
        (None, "/news", b"[1]", 400),
        (None, "/news", far.encode(), 400),
    ):
        try:
            answer(server, path, body, host)
            assert code == 200
        except urllib.error.HTTPError as error:
            assert error.code == code, (path, body)  # noqa: PT017


def test_a_folder_in_which_no_run_has_begun_can_be_served(tmp_path):
    assert news([tmp_path, tmp_path / "gone"], {}) == {"runs": []}
    assert read_log(tmp_path, Position(5, 5)).is_new


def test_a_port_in_use_is_one_line_and_ctrl_c_ends_the_server(server, tmp_path):
    with pytest.raises(OSError, match=r"port \d+ is in use: give another --port") as caught:
        ReportServer([tmp_path], server.server_port)
    assert caught.value.errno != errno.EADDRINUSE  # it is told as it is, not by its number
    done = subprocess.Popen(
        [sys.executable, "-m", "fastlm.report", str(tmp_path / "out"), "--serve", "--port", "0"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert "open 127.0.0.1:" in done.stderr.readline()
    done.send_signal(signal.SIGINT)
    assert done.wait(20) == 130
    assert done.stderr.read() == "interrupted\n"
    done.stderr.close()
