"""Records keep the right files of runs, and the page's table has a row for every record."""

import dataclasses
import json
from pathlib import Path

import pytest

from fastlm import records
from fastlm.config import TrainConfig
from fastlm.config.recipes import load_recipe
from fastlm.report.run_json import describe_run
from fastlm.runs.record import RunRecord, write_json

RUNS = Path(__file__).resolve().parent.parent / "runs"


def finished_run(folder: Path, *, data="data/mine", ended=True, loss: float | None = 3.25) -> Path:
    config = load_recipe("tiny")
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, path=data))
    record = RunRecord(folder)
    record.start(
        config,
        {"arguments": ["--out", "x"], "device": "cpu", "threads": 2, "cpu_capability": "AVX2"},
    )
    record.log({"kind": "train", "step": 3, "tokens": 99, "elapsed_seconds": 7.0, "loss": 3.0})
    if ended:
        end = {"step": 3, "tokens": 99, "elapsed_seconds": 7.4, "val_loss": loss}
        write_json(folder / "summary.json", {"finished": True, "bits_per_byte": 1.5, **end})
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints/weights").write_bytes(bytes(1000))
    (folder / "sample.txt").write_text("Once\n")
    (folder / "curve.png").write_bytes(b"picture")
    return folder


def test_the_page_of_records_has_every_record():
    page = (RUNS / "README.md").read_text(encoding="utf-8")
    assert records.table(RUNS) in page, "python -m fastlm.records renews it"


def test_a_run_is_kept_without_its_weights_and_stands_in_the_table(tmp_path, capsys):
    run = finished_run(tmp_path / "mine")
    to = tmp_path / "runs"
    records.main([str(run), "--to", str(to)])
    assert sorted(p.name for p in (to / "mine").iterdir()) == [
        "config.json", "curve.png", "environment.json", "log.jsonl", "sample.txt", "summary.json",
    ]  # fmt: skip
    page = (to / "README.md").read_text()
    assert (
        "| [mine](mine) | tiny | mine, 4,096 | 4 x 256, T 256 | 4,262,144 | 3 | 99 | 7 | "
        "AVX2, 2 threads | 3.2500 | 1.5000 |" in page
    )
    assert "renewed" in capsys.readouterr().out
    records.main([str(run), "--to", str(to)])  # the same again
    assert "as it was" in capsys.readouterr().out
    assert (to / "README.md").read_text() == page


@pytest.mark.parametrize(
    "odd",
    ["[]", "[" * 100_000, '{"step": "x", "val_loss": NaN, "tokens": [1]}', '{"arguments": 3}', ""],
)
def test_odd_files_are_passed_over(odd, tmp_path):
    run = finished_run(tmp_path / "mine")
    for name in ("summary.json", "environment.json"):
        (run / name).write_text(odd)
    with open(run / "log.jsonl", "a", encoding="utf-8") as log:
        log.write(f"{odd}\n")
    assert "| [mine](mine) | tiny | mine, 4,096 |" in records.table(tmp_path)


def test_what_people_wrote_stays(tmp_path):
    to = tmp_path / "runs"
    records.main([str(finished_run(tmp_path / "a")), "--to", str(to)])
    page = to / "README.md"
    page.write_text("# Mine\n\nSeen.\n" + page.read_text().split("\n", 1)[1] + "\nMore.\n")
    records.main([str(finished_run(tmp_path / "b")), "--to", str(to)])
    text = page.read_text()
    assert text.startswith("# Mine\n\nSeen.\n")
    assert text.endswith("\nMore.\n")
    assert text.count("| [") == 2


def test_files_of_others_are_no_record_and_stay(tmp_path):
    run, to = finished_run(tmp_path / "a"), tmp_path / "runs"
    (to / "a").mkdir(parents=True)
    (to / "a/summary.json").write_text("mine")
    with pytest.raises(FileExistsError, match=r"summary\.json exists and belongs to no record of"):
        records.main([str(run), "--to", str(to)])
    assert [path.name for path in (to / "a").iterdir()] == ["summary.json"]
    assert (to / "a/summary.json").read_text() == "mine"
    (to / "a/summary.json").unlink()
    records.main([str(run), "--to", str(to)])
    (run / "curve.png").write_bytes(b"drawn again")
    records.main([str(run), "--to", str(to)])
    assert (to / "a/curve.png").read_bytes() == b"drawn again"
    with pytest.raises(ValueError, match="is its own record"):
        records.main([str(run), "--to", str(tmp_path)])
    (to / "model").mkdir()
    (to / "model/config.json").write_text('{"architectures": []}')  # of another tool
    records.main(["--to", str(to)])
    page = to / "README.md"
    page.write_text(page.read_text().replace(records._END, "") + "My notes.\n")
    with pytest.raises(ValueError, match="has the begin of the table but not its end"):
        records.main(["--to", str(to)])
    assert page.read_text().endswith("My notes.\n")


def test_the_line_endings_of_the_page_stay(tmp_path):
    to = tmp_path / "runs"
    to.mkdir()
    page = to / "README.md"
    for old in (b"# Mine\r\n\r\nSeen.\r\n", None):
        if old is not None:
            page.write_bytes(old)
        records.main([str(finished_run(tmp_path / f"run-{old is None}")), "--to", str(to)])
        raw = page.read_bytes()
        assert raw.startswith(b"# Mine\r\n\r\nSeen.\r\n")
        assert raw.count(b"\n") == raw.count(b"\r\n")
    assert raw.count(b"| [") == 2


def test_a_page_that_cannot_take_the_table_is_refused_before_anything_is_kept(tmp_path):
    run, to = finished_run(tmp_path / "a"), tmp_path / "runs"
    to.mkdir()
    page, begin, end = to / "README.md", records._BEGIN, records._END

    def refused(message, kind=ValueError):
        with pytest.raises(kind, match=message):
            records.main([str(run), "--to", str(to)])
        assert [path.name for path in to.iterdir()] == ["README.md"]

    for marks in ((begin, begin, end), (begin, end, end), (begin, end, begin, end), (end,)):
        text = "\nmy words\n".join(marks)
        page.write_text(text)
        refused(r"README\.md has \d lines <!-- table .* leave one of each")
        assert page.read_text() == text
    page.write_bytes(b"# Caf\xe9\n")
    refused(r"README\.md must be UTF-8: got an invalid byte at byte 5")
    page.unlink()
    page.mkdir()
    refused(r"README\.md is a folder", IsADirectoryError)


def test_a_record_that_was_edited_is_replaced_only_if_that_is_asked_for(tmp_path):
    run, to = finished_run(tmp_path / "a"), tmp_path / "runs"
    records.main([str(run), "--to", str(to)])
    summary = to / "a/summary.json"
    kept = summary.read_bytes()
    summary.write_text('{"val_loss": 3.25, "note": "mine"}')
    with pytest.raises(FileExistsError, match=r"a/summary\.json is not as it was kept.*--overwr"):
        records.main([str(run), "--to", str(to)])
    assert "mine" in summary.read_text()
    records.main([str(run), "--to", str(to), "--overwrite"])
    assert summary.read_bytes() == kept


def test_a_sweep_is_kept_with_its_runs_and_figures(tmp_path):
    out = tmp_path / "rates"
    finished_run(out / "lr-1")
    diverged = finished_run(out / "lr-9", ended=False)
    RunRecord(diverged).log({"kind": "not finite", "step": 3, "tokens": 99, "loss": None})
    (diverged / "not-finite-step-3.json").write_text("{}")
    (out / "table.md").write_text("| a |\n")
    (out / "sweep.json").write_text("{}")
    records.main([str(out), "--to", str(tmp_path / "runs")])
    kept = tmp_path / "runs/rates"
    assert sorted(p.name for p in kept.iterdir()) == ["lr-1", "lr-9", "sweep.json", "table.md"]
    assert not (kept / "lr-1/curve.png").exists()  # in the sweep's figure
    assert describe_run(kept / "lr-9", "lr-9", limit=100)["state"] == "diverged"
    text = (tmp_path / "runs/README.md").read_text()
    assert "[rates/lr-9](rates/lr-9)" in text
    assert "AVX2, 2 threads | diverged |" in text


def test_what_is_no_record_is_refused_before_anything_is_copied(tmp_path):
    to = tmp_path / "runs"

    def refused(folder, message, kind=ValueError):
        with pytest.raises(kind, match=message):
            records.main([str(folder), "--to", str(to)])

    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "holds no run and no sweep")
    refused(finished_run(tmp_path / "half", ended=False), "has not come to its end, it is running")
    refused(finished_run(tmp_path / "here", data="/data/mine"), "names no path of a machine")
    environment = finished_run(tmp_path / "joined") / "environment.json"
    environment.write_text(json.dumps({"arguments": ["--lr=1e-3", "--out=/home/me/run"]}))
    refused(tmp_path / "joined", "begun with --out=/home/me/run: a record names no path")
    imported = finished_run(tmp_path / "imported", ended=False)
    RunRecord(imported).start(TrainConfig(recipe="imported", max_steps=1), {})
    refused(imported, "was not trained here and has no record: .*--init-from")
    assert not to.exists()
    records.main([str(finished_run(tmp_path / "one")), "--to", str(to)])
    other = finished_run(tmp_path / "elsewhere" / "one")
    RunRecord(other).log({"kind": "train", "step": 3})
    refused(other, "is the record of another run", FileExistsError)
    with pytest.raises(ValueError, match="no records in"):
        records.main(["--to", str(tmp_path / "nowhere")])


def test_what_is_no_record_or_a_damaged_one_is_left_out_of_the_table(tmp_path, capsys):
    """And the records beside it are kept, also those of a sweep."""
    to = tmp_path / "runs"
    for name, config in (("llama", '{"model_type": "llama"}'), ("cut", '{"recipe": "ti')):
        (to / name).mkdir(parents=True)
        (to / name / "config.json").write_text(config)
        (to / name / "log.jsonl").write_text('{"step": 1}\n')
    (finished_run(tmp_path / "rates/lr-1") / "log.jsonl").touch()
    (tmp_path / "rates/llama").mkdir()
    for name in ("config.json", "log.jsonl"):
        (tmp_path / "rates/llama" / name).write_bytes((to / "llama" / name).read_bytes())
    records.main([str(finished_run(tmp_path / "one")), str(tmp_path / "rates"), "--to", str(to)])
    told = capsys.readouterr()
    assert told.out.splitlines()[-1] == f"{to / 'README.md'}: renewed"
    damaged, foreign = told.err.splitlines()
    assert damaged.startswith(f"warning: {to / 'cut'} is left out of the table: ")
    assert foreign == (
        f"note: {to / 'llama'} is left out of the table: a model of transformers, no run"
    )
    text = (to / "README.md").read_text()
    assert ["| [one]" in text, "| [rates/lr-1]" in text, "llama" in text, "cut" in text] == [
        True, True, False, False,
    ]  # fmt: skip
    with pytest.raises(FileNotFoundError, match="it is a model of transformers, which"):
        records.main([str(to / "llama"), "--to", str(to)])


def test_nothing_is_kept_if_one_of_several_cannot_be(tmp_path):
    to, one = tmp_path / "runs", finished_run(tmp_path / "one")
    for second, kind, message in (
        (finished_run(tmp_path / "half", ended=False), ValueError, "has not come to its end"),
        (finished_run(tmp_path / "other/one"), FileExistsError, "have one name"),
    ):
        with pytest.raises(kind, match=message):
            records.main([str(one), str(second), "--to", str(to)])
        assert not to.exists()
    records.main([str(one), str(tmp_path / "other/../one"), "--to", str(to)])
    assert [path.name for path in sorted(to.iterdir())] == ["README.md", "one"]


def test_records_are_not_kept_where_they_mix_with_others_files(tmp_path):
    run, data = finished_run(tmp_path / "mine"), tmp_path / "data"
    for folder in (run / "tokenizer", data / "tokenizer", tmp_path / "own", tmp_path / "sweep"):
        folder.mkdir(parents=True)
    (data / "meta.json").write_text("{}")
    (tmp_path / "sweep/sweep.json").write_text("{}")
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / "own" / name).write_text("")
    (tmp_path / "link").symlink_to(run / "checkpoints")
    before = sorted(tmp_path.rglob("*"))
    for to, told in {
        "mine": "is the run", "mine/checkpoints": "is inside the run", "mine/tokenizer": "is inside",
        "mine/new/deep": "is inside the run", "data": "is the prepared data", "own": "a tokenizer",
        "data/tokenizer": "is inside the prepared data", "data/new": "is inside the prepared data",
        "sweep": "is a sweep", "link": "is inside the run", "mine/../data/x": "is inside",
    }.items():  # fmt: skip
        for runs in ([str(run)], []):
            with pytest.raises((FileExistsError, ValueError), match=f"{told}|no records in"):
                records.main([*runs, "--to", str(tmp_path / to)])
        with pytest.raises(FileExistsError, match=f"{told}.*give another folder --to"):
            records.keep(run, tmp_path / to)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_that_was_not_saved_is_no_record(tmp_path):
    run = finished_run(tmp_path / "mine")
    end = RunRecord(run).summary()
    write_json(run / "summary.json", {**end, "saved": False})
    with pytest.raises(ValueError, match=r"has not come to its end, it is broken off"):
        records.main([str(run), "--to", str(tmp_path / "runs")])
    assert "| broken off |" in records.table(tmp_path)


def test_any_name_of_a_run_is_one_cell_of_the_table(tmp_path):
    finished_run(tmp_path / "x|y]\n(z", data="data/a|b")
    *_, line = records.table(tmp_path).splitlines()
    assert line.startswith(r"| [x\|y\]\\n(z](x%7Cy%5D%0A%28z) | tiny | a\|b, 4,096 |")


def test_the_records_here_name_no_path_of_a_machine():
    for path in RUNS.glob("**/*.json"):
        told = json.loads(path.read_text(encoding="utf-8"))
        if path.name == "environment.json":
            assert not any(Path(str(word)).is_absolute() for word in told["arguments"]), path
