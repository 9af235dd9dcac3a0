"""A run is resumed to the end that was asked for, and never begun anew without a word."""

import contextlib
import dataclasses
import json
import shlex
import shutil

import pytest
from short_runs import assert_same_weights, config, interrupted_after, train_rows

from fastlm.checkpoint import read_newest, run_checkpoints
from fastlm.config import TrainConfig
from fastlm.config.recipes import load_recipe
from fastlm.runs.record import RunRecord
from fastlm.runs.run_files import RunFiles
from fastlm.runs.state import state_of
from fastlm.train import resuming, train
from fastlm.train.command import configuration, main


@pytest.fixture
def run(finished, tmp_path):
    """A copy of a finished run of 20 steps, with checkpoints after 15 and 20."""
    return shutil.copytree(finished[0], tmp_path / "run")


def content(folder) -> dict:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_new_end_is_kept_for_the_next_resume(run, data, tmp_path, capsys):
    """The advice that is printed leads to the end that was asked for last."""
    stopped = interrupted_after(23, config(data, max_steps=40), run, resume=True)
    assert (stopped.stopped_by, stopped.step) == ("SIGTERM", 23)
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("23 steps, 5,888 tokens, training loss ")
    assert "bits per byte; stopped by SIGTERM; go on with --resume auto --out " in last
    again = configuration(last.split("go on with ")[1].split())
    assert again == config(data, max_steps=40) == RunRecord(run).config()
    assert train(again, run, resume=True).step == 40
    train(config(data, max_steps=40), tmp_path / "whole", resume=True)
    assert [row["step"] for row in train_rows(run)] == [1, 5, *range(10, 45, 5)]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("before", ["write_config", "set_aside", "cut", "log", "settle"])
def test_killed_while_it_is_made_ready_a_run_goes_on(before, run, monkeypatch):
    """It never seems finished beside an earlier checkpoint, and its former summary is kept."""
    record, former = RunRecord(run), RunRecord(run).summary()

    def kill(*_):
        raise Killed

    def log(former: dict) -> None:
        if before == "log" and is_first:
            kill()
        record.log({"kind": "resume", "step": 15, **former})

    is_first = True
    with monkeypatch.context() as patch:
        if before != "log":
            patch.setattr(resuming if before == "set_aside" else RunRecord, before, kill)
        with pytest.raises(Killed):
            resuming.reopen(record, TrainConfig(max_steps=30), 15, log, print)
    assert state_of(run, is_over=True).name == "broken off"
    newest = read_newest(record.checkpoints, pytest.fail).step
    assert newest == (20 if before in ("write_config", "set_aside") else 15)
    assert before == "write_config" or record.config().max_steps == 30
    if before in ("log", "settle"):  # rows were dropped
        assert max(row["step"] for row in record.rows()) == 15
    is_first = False
    resuming.reopen(record, TrainConfig(max_steps=30), 15, log, print)
    assert record.rows()[-1]["former_summary"] == former
    assert not record.files.former_summary.exists()


@pytest.mark.parametrize("is_joined", [True, False])
@pytest.mark.parametrize(
    ("recipe", "advice", "known"),
    [
        ("tiny", "begin it anew with --resume auto --out {run} ", {}),
        ("imported", "begin a new run with --init-from {run} ", {"recipe": "stories"}),
    ],
)
def test_the_advice_of_a_refused_resume_holds_what_was_typed(
    recipe, advice, known, is_joined, tmp_path
):
    run = tmp_path / "my run"
    begun = dataclasses.replace(load_recipe("tiny"), recipe=recipe)
    with contextlib.closing(RunRecord(run)) as record:
        record.start(begun, {})
    if known:
        (record.checkpoints / "step-000000").mkdir(parents=True)
    named = [f"--resume={run}"] if is_joined else ["--resume", str(run)]
    with pytest.raises((OSError, ValueError)) as refused:
        main(["--max-steps", "100", *named, "--seed", "3"])
    begins = advice.format(run=f"'{run}'")
    assert str(refused.value).endswith(f"{begins}--max-steps 100 --seed 3")
    again = configuration(shlex.split(str(refused.value).split(" with ")[-1]))
    assert again.init_from == (str(run) if known else "")
    for field, value in (known | {"max_steps": 100, "seed": 3}).items():
        assert getattr(again, field) == value


def test_a_run_that_is_named_to_go_on_is_not_begun_anew(run, data, capsys):
    shutil.rmtree(run / "checkpoints")
    before = content(run)
    with pytest.raises(FileNotFoundError, match="has no checkpoint to go on from: begin it anew"):
        main(["--resume", str(run), "--device", "cpu"])
    assert content(run) == before
    with pytest.raises(FileNotFoundError, match="was trained to step 20 and has no checkpoint any"):
        train(config(data), run, resume=True)
    assert content(run) == before
    RunFiles(run).summary.unlink()  # as if it was killed: its log tells as much
    for _ in ("no folder", "an empty folder, as of a disk that is not mounted"):
        with pytest.raises(FileNotFoundError, match="was trained to step 20 and has no checkpoint"):
            train(config(data), run, resume=True)
        RunFiles(run).checkpoints.mkdir(exist_ok=True)
    RunFiles(run).log.write_text('{"kind": "train", "step": 5}\n')
    assert train(config(data, max_steps=1), run, resume=True).step == 1
    assert f"note: {run} has no checkpoint yet: the run begins anew" in capsys.readouterr().err


def test_a_run_is_resumed_in_its_own_folder(run, tmp_path):
    other = tmp_path / "other"
    with pytest.raises(ValueError, match=f"continues in its own folder: leave out --out {other}"):
        main(["--resume", str(run), "--out", str(other)])
    with pytest.raises(ValueError, match="--resume auto needs --out"):
        main(["--resume", "auto", "--recipe", "tiny"])


def test_a_checkpoint_that_is_missing_is_not_called_damaged(run, data):
    before, missing = content(run), run / "checkpoints/step-000099"
    with pytest.raises(FileNotFoundError, match="no checkpoint .*step-000020"):
        main(["--resume", str(missing), "--device", "cpu"])
    with pytest.raises(FileNotFoundError) as error:
        train(config(data), run, resume=missing)
    assert str(error.value).startswith(f"no checkpoint {missing}: ")
    assert str(error.value).endswith(" has step-000015, step-000020")
    assert content(run) == before


def test_a_setting_that_a_run_keeps_is_refused_at_the_command_line(run):
    before = content(run)
    with pytest.raises(ValueError, match=r"its data.sampling on the way: .* has shuffled, asked"):
        main(["--resume", str(run), "--data.sampling", "random"])
    with pytest.raises(ValueError, match="its optim.lr on the way"):
        main(["--resume", "auto", "--out", str(run), "--optim.lr", "0.5"])
    assert content(run) == before


ODD = ['{"kind":"train"}', '{"kind":"train","step":"3"}', "", "[1]", "\0\0\0", '{"step": NaN}', "{"]


def test_lines_that_are_no_rows_do_not_prevent_a_resume(run, finished, data, capsys):
    log = RunFiles(run).log
    whole = log.read_bytes()
    log.write_bytes(whole + "".join(f"{line}\n" for line in ODD).encode())
    odd = log.read_bytes()
    newest = run_checkpoints(run / "checkpoints")[-1]
    shutil.rmtree(newest)
    RunFiles(run).summary.unlink()
    assert train(config(data), run, resume=True).finished
    told = capsys.readouterr().err
    assert (
        f"note: {len(ODD) - 1} lines of log.jsonl are no rows of a step: left out, and kept" in told
    )
    assert RunFiles(run).unreadable_log.read_bytes() == odd
    assert_same_weights(run, finished[0])
    assert [row["step"] for row in train_rows(run)] == [1, 5, 10, 15, 20]


def test_a_line_that_comes_during_the_run_does_not_end_it(data, tmp_path, monkeypatch):
    run = tmp_path / "run"
    original = RunRecord.flush

    def flush(self):
        with open(self.files.log, "a", encoding="utf-8") as log:
            log.write(
                'not a row\n{"kind": "train", "loss": 1.0}\n{"kind": "eval", "val_loss": 1}\n'
            )
        original(self)

    monkeypatch.setattr(RunRecord, "flush", flush)
    assert train(config(data, max_steps=1), run).finished
    assert (run / "sample.txt").exists()


def test_an_empty_line_is_left_out_without_a_word(run):
    log = RunFiles(run).log
    whole = log.read_bytes()
    log.write_bytes(whole + b"\n\n")
    assert RunRecord(run).cut(20) == 0
    assert [json.loads(line) for line in whole.splitlines()] == RunRecord(run).rows()
    assert not RunFiles(run).unreadable_log.exists()


@pytest.mark.parametrize(
    "name",
    ["log.jsonl", "log-unreadable.jsonl", "former-summary.json", "failed.json", "tokenizer"],
)
def test_a_folder_that_cannot_be_written_is_refused_before_anything_changes(name, run, data):
    """A folder has the name of a file, or a file that of a folder."""
    path = run / name
    if path.exists():
        path.rename(run / "moved")
    path.touch() if name == "tokenizer" else path.mkdir()
    before = content(run)
    with pytest.raises(OSError, match=str(path)):
        train(config(data, max_steps=30), run, resume=True)
    assert content(run) == before
    assert state_of(run).name == "finished"
