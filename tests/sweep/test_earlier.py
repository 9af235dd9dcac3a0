"""A sweep goes on only with runs of its own settings, data and weights, and replaces nothing else."""

import dataclasses
import json
from pathlib import Path

import pytest
from short_sweeps import SMALL, begun_run, flags

from fastlm.checkpoint import FILES, FORMAT, MANIFEST
from fastlm.config.dotted import replaced
from fastlm.data.prepared import open_prepared
from fastlm.files.sealed import seal
from fastlm.runs.record import write_json
from fastlm.runs.run_files import SweepFiles
from fastlm.sweep import __main__ as sweep
from fastlm.sweep.plan import plan
from fastlm.train.command import _story_data


def test_a_sweep_never_replaces_what_is_not_its_own(tmp_path, asked):
    """Another sweep's plan, a single run, somebody's table."""
    words = ["--vary", "lr=1e-3,3e-3", *SMALL]
    sweep.main([str(tmp_path / "s"), *words])
    plan_file = SweepFiles(tmp_path / "s").plan
    before = plan_file.read_bytes()
    for others in (["lr=1e-3,1e-2"], ["lr=1e-3"], ["batch-size=2,4"]):
        with pytest.raises(
            FileExistsError, match=r"a sweep with other runs, such as .*--overwrite"
        ):
            sweep.main([str(tmp_path / "s"), "--vary", *others, *SMALL])
        assert plan_file.read_bytes() == before
    sweep.main([str(tmp_path / "s"), "--vary", "lr=1e-2,1e-3,3e-3", *SMALL])  # more values
    assert asked[-3:] == ["lr-1e-2", "lr-1e-3", "lr-3e-3"]
    sweep.main([str(tmp_path / "s"), "--overwrite", "--vary", "batch-size=2,4", *SMALL])
    assert json.loads(plan_file.read_text())["arguments"][1:3] == ["--vary", "batch-size=2,4"]
    plan_file.write_text("[" * 100_000)
    with pytest.raises(FileExistsError, match=r"sweep\.json cannot be gone on with"):
        sweep.main([str(tmp_path / "s"), *words])
    with pytest.raises(ValueError, match=r"sweep\.json: expected a JSON object"):
        sweep.main([str(tmp_path / "s")])

    (run,) = plan([], [], [0], SMALL)
    begun_run(tmp_path / "run", run.config)
    (tmp_path / "prepared").mkdir()
    (tmp_path / "prepared/meta.json").write_text("{}")
    table = tmp_path / "texts" / "table.md"
    table.parent.mkdir()
    table.write_text("mine")
    for name in ("run", "texts", "prepared"):
        there = sorted((tmp_path / name).rglob("*"))
        with pytest.raises(FileExistsError, match="give the sweep another"):
            sweep.main([str(tmp_path / name), *words])
        assert sorted((tmp_path / name).rglob("*")) == there
    assert table.read_text() == "mine"


def test_a_sweep_where_its_runs_could_not_begin_is_refused_before_anything_is_written(
    data, tmp_path
):
    """Inside the checkpoints or the tokenizer of a run, the tokenizer of data, on others' files."""
    (run,) = plan([], [], [0], SMALL)
    begun_run(tmp_path / "run", run.config)
    begun_run(tmp_path / "swept/lr-1e-3", run.config)
    (tmp_path / "prepared").mkdir()
    (tmp_path / "prepared/meta.json").write_text("{}")
    (tmp_path / "mine/lr-3e-3").mkdir(parents=True)
    (tmp_path / "mine/lr-3e-3/log.jsonl").write_text("mine")
    (tmp_path / "file").touch()
    there = sorted(tmp_path.rglob("*"))
    for name in (
        "run/checkpoints/s", "run/tokenizer/s", "run/checkpoints", "prepared/tokenizer/s",
        "swept/lr-1e-3/checkpoints/s", "mine", "file/s",
    ):  # fmt: skip
        for more in ([], ["--dry-run"]):
            with pytest.raises(OSError, match="give the sweep another folder"):
                sweep.main([str(tmp_path / name), "--vary", "lr=1e-3,3e-3", *flags(data, 2), *more])
    assert sorted(tmp_path.rglob("*")) == there


def test_folders_of_earlier_versions_are_found(tmp_path, asked, capsys, monkeypatch):
    """Their names were not those of their values alone; a bare time budget was in seconds."""
    monkeypatch.chdir(tmp_path)
    for path in ("i/a", "i-a"):
        Path(path).mkdir(parents=True)
        Path(path, "meta.json").write_text("{}")
    tmp_path = tmp_path / "sweep"
    words = [str(tmp_path), "--vary", "data=i/a,i-a", "--vary", "time-budget=60,2m", *SMALL]
    write_json(SweepFiles(tmp_path).plan, {"arguments": [*words, "--time_budget=90"]})
    old = plan(["data=i/a", "time-budget=60s"], [], [0], SMALL)[0].config
    begun_run(tmp_path / "data-i-a_time-budget-60", old)
    sweep.main([str(tmp_path)])
    assert "4 runs, 1 of them done" in capsys.readouterr().out
    assert [name[:8] for name in asked] == ["data-i-a"] * 3
    assert len(set(asked)) == 3


def test_data_that_are_not_there_are_told_before_anything_is_written(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"no prepared data in .*nowhere.*fastlm\.data prep"
    ):
        sweep.main([str(tmp_path / "out"), "--seeds", "0", "1", *flags(tmp_path / "nowhere", 5)])
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_goes_on_where_its_relative_data_are(data, tmp_path, asked, monkeypatch):
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "mine").symlink_to(data if place == "a" else tmp_path)
    (tmp_path / "meta.json").write_text("{}")  # b has other data of that name
    monkeypatch.chdir(tmp_path / "a")
    words = ["--seeds", "0", "1", *SMALL]
    sweep.main(["s", *words, "--data", "mine"])
    begun_run(Path("s/seed-0"), plan([], [], [0, 1], [*SMALL, "--data", "mine"])[0].config)
    assert json.loads(Path("s/sweep.json").read_text())["begun_in"] == ".."
    monkeypatch.chdir(tmp_path / "b")
    with pytest.raises(
        ValueError, match=r"was begun in .*/a, where --data mine begins: go on from"
    ):
        sweep.main([str(tmp_path / "a/s")])
    sweep.main([str(tmp_path / "a/s"), *words, "--data", str(tmp_path / "a/mine")])
    monkeypatch.chdir(tmp_path / "a")
    sweep.main(["s"])
    assert asked == ["seed-0", "seed-1", "seed-1", "seed-1"]


def test_a_path_that_can_be_none_is_told_with_its_file(tmp_path, asked):
    plan_file = SweepFiles(tmp_path / "s").plan
    plan_file.parent.mkdir()
    write_json(plan_file, {"arguments": ["s", "--seeds", "0", "1", *SMALL], "begun_in": "a\0b"})
    told = f"{plan_file}: expected a path as begun_in, got 'a\\\\x00b'"
    with pytest.raises(ValueError, match=told):
        sweep.main([str(tmp_path / "s")])
    run = begun_run(tmp_path / "run", plan([], [], [0], SMALL)[0].config)
    for name in ("data.path", "init_from"):
        config = replaced(plan([], [], [0], SMALL)[0].config, {name: "a\0b"})
        run.write_config(config)
        with pytest.raises(ValueError, match=rf"config\.json: expected a path as {name}, got"):
            run.config()


def test_runs_that_are_done_need_no_data(tmp_path, asked, capsys):
    words = ["--seeds", "0", "1", *flags(tmp_path / "gone", 5)]
    for run in plan([], [], [0, 1], words[3:]):
        begun_run(tmp_path / "s" / run.name, run.config)
    sweep.main([str(tmp_path / "s"), *words])
    assert "2 runs, 2 of them done" in capsys.readouterr().out
    assert asked == []


def test_a_number_of_steps_that_was_asked_for_is_a_setting_of_its_own(tmp_path, asked):
    """A run with fix_steps finds its number of steps, unless one is given."""
    limited = [*SMALL, "--fix-steps", "--time-budget", "60s"]
    out = str(tmp_path / "given")
    sweep.main([out, "--vary", "max-steps=3,5", *limited])
    for run in plan(["max-steps=3,5"], [], [0], limited):
        begun_run(tmp_path / "given" / run.name, run.config)
    with pytest.raises(FileExistsError, match=r"other runs, such as max-steps-3"):
        sweep.main([out, "--vary", "max-steps=6,12", *limited])
    sweep.main([out, "--vary", "max-steps=3,5,6,12", *limited])
    sweep.main([out, "--overwrite", "--seeds", "0", "1", *limited])
    assert asked[2:] == ["max-steps-6", "max-steps-12", "seed-0", "seed-1"]

    run = plan([], [], [0, 1], limited)[0]
    record = begun_run(tmp_path / "found/seed-0", dataclasses.replace(run.config, max_steps=7))
    with pytest.raises(ValueError, match=r"other settings \(max_steps 7, not None\)"):
        sweep.main([str(tmp_path / "found"), "--seeds", "0", "1", *limited])
    record.log({"kind": "probe", "step": 0, "max_steps": 7})
    sweep.main([str(tmp_path / "found"), "--seeds", "0", "1", *limited])
    assert asked[6:] == ["seed-1"]
    with pytest.raises(ValueError, match=r"other settings \(max_steps None, not 7\)"):
        sweep.main([str(tmp_path / "found"), "--overwrite", "--seeds", "0", "1", *limited,
                    "--max-steps", "7"])  # fmt: skip


def test_a_sweep_without_data_goes_on_with_the_stories_that_its_runs_made(
    tmp_path, asked, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fastlm.corpus.generated.make_stories", lambda *_, **__: Path("data"))
    monkeypatch.setattr("fastlm.corpus.generated.are_unchanged", lambda _: True)
    monkeypatch.setattr("fastlm.data.preparing.prepare", lambda _, folder, **__: folder)
    sweep.main(["s", "--seeds", "0", "1", *SMALL])
    for run in plan([], [], [0, 1], SMALL):
        stories = {"data.path": str(_story_data(run.config))}
        begun_run(Path("s") / run.name, replaced(run.config, stories))
    sweep.main(["s"])
    assert "2 runs, 2 of them done" in capsys.readouterr().out
    begun_run(Path("s/seed-0"), replaced(run.config, {"data.path": "mine", "seed": 0}))
    with pytest.raises(ValueError, match=r"other settings \(data\.path .*/mine, not \)"):
        sweep.main(["s"])


def test_runs_on_data_that_were_replaced_are_in_no_table_with_others(data, tmp_path, asked):
    words = [str(tmp_path / "s"), "--seeds", "0", "1", *flags(data, 5)]
    sweep.main(words)
    record = begun_run(tmp_path / "s/seed-0", plan([], [], [0, 1], words[4:])[0].config)
    prepared = open_prepared(data)
    for train_hash in (prepared.train.hash, "0" * 64):
        about = {"train_hash": train_hash, "val_hash": prepared.val.hash}
        about["tokenizer_hash"] = prepared.tokenizer_hash
        folder = record.checkpoints / "step-000003"
        folder.mkdir(parents=True, exist_ok=True)
        files = {key: {"sha256": ""} for key in FILES}
        (folder / MANIFEST).write_bytes(seal({"format": FORMAT, "files": files, **about}))
        if train_hash == prepared.train.hash:
            sweep.main(words)
    with pytest.raises(ValueError, match=r"seed-0 was trained on other data .* its train_hash is"):
        sweep.main(words)
    assert asked == ["seed-0", "seed-1", "seed-1"]


def test_relative_initial_weights_are_those_of_where_the_sweep_was_begun(
    tmp_path, asked, monkeypatch
):
    network = plan([], [], [0, 1], SMALL)[0].config
    for place in ("a", "b"):
        record = begun_run(tmp_path / place / "base", network)
        (record.checkpoints / "step-000003").mkdir(parents=True)
    words = ["--seeds", "0", "1", *SMALL]
    monkeypatch.chdir(tmp_path / "a")
    sweep.main(["s", *words, "--init-from", "base"])
    begun_run(Path("s/seed-0"), plan([], [], [0, 1], [*SMALL, "--init-from", "base"])[0].config)
    monkeypatch.chdir(tmp_path / "b")
    with pytest.raises(ValueError, match=r"begun in .*/a, where --init-from base begins: go on"):
        sweep.main([str(tmp_path / "a/s")])
    (tmp_path / "b/base/config.json").unlink()
    sweep.main([str(tmp_path / "a/s"), *words, "--init-from", str(tmp_path / "a/base")])
    assert asked == ["seed-0", "seed-1", "seed-1"]
