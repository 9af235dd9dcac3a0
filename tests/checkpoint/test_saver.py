"""Checkpoints are saved while training goes on, with a bad disk or a killed process too."""

import contextlib
import errno
import os
import resource
import shutil
import threading

import pytest
from kill_while_saving import assert_whole, kill_while_saving, snapshot
from short_runs import config, new_run, same, weights

from fastlm import checkpoint
from fastlm.checkpoint import Damaged, read_newest, run_checkpoints, saver, write_snapshot
from fastlm.checkpoint.saver import SaveFailed, Saver
from fastlm.files import destination, disk, folders, step_folders
from fastlm.runs.record import RunRecord, write_json
from fastlm.runs.state import state_of
from fastlm.train import command, train

CALLS = ("mkdir", "fsync", "rename", "open")


@pytest.mark.parametrize("new", [3, 2], ids=["new", "in place of one"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO])
def test_a_disk_that_refuses_anything_leaves_the_checkpoints_before(
    code, new, tmp_path, monkeypatch
):
    """Every single call to the disk fails once."""
    kept_aside = (
        destination.REPLACED + "step-000002"
    )  # beside the one that took its place, until the next save
    for step in (1, 2):
        write_snapshot(tmp_path, snapshot(step))
    before = sorted(path.name for path in tmp_path.iterdir())
    n_calls, n_left = 0, 10**9

    def counted(original):
        def call(*args, **kwargs):
            nonlocal n_calls
            n_calls += 1
            if n_calls == n_left:
                raise OSError(code, os.strerror(code))
            return original(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, counted(getattr(os, name)))
        patch.setattr(disk, "open", counted(open), raising=False)
        write_snapshot(tmp_path, snapshot(new), keep=3)
        n_of_a_save = n_calls
        assert n_of_a_save >= 12
        for n_left in range(1, n_of_a_save + 1):
            n_calls = -(10**6)  # clearing up does not count
            shutil.rmtree(tmp_path / "step-000003", ignore_errors=True)
            n_calls = 0
            with contextlib.suppress(OSError, Damaged):  # the latter where it cannot be read again
                write_snapshot(tmp_path, snapshot(new), keep=3)
            names = sorted(path.name for path in tmp_path.iterdir() if path.name != kept_aside)
            assert [name for name in names if name != "step-000003"] == before, n_left
            assert assert_whole(tmp_path) in (2, 3)


def test_a_full_disk_is_told_and_tried_again(tmp_path, monkeypatch):
    """A limit of the process on the size of files: the kernel cuts the writing short."""
    ours = Saver(tmp_path, keep=2)
    ours.save(snapshot(1), wait=True)
    assert (ours.failure, ours.news(), ours.is_due(None)) == (None, [], False)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        ours.save(snapshot(2, n=64), wait=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ours.failure.errno == errno.EFBIG
    (told,) = ours.news()
    assert "the checkpoint of step 2 is not saved (File too large); step-000001 is kept" in told
    assert ours.news() == []
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]
    assert not ours.is_due(None)
    monkeypatch.setattr(saver, "RETRY_SECONDS", 0.0)
    assert ours.is_due(None)
    ours.save(snapshot(2, n=64), wait=True)
    assert (ours.failure, ours.is_due(None), assert_whole(tmp_path)) == (None, False, 2)


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path, monkeypatch):
    go_on = threading.Event()
    original = checkpoint._write_files

    def slow(*args):
        go_on.wait(30)
        original(*args)

    monkeypatch.setattr(checkpoint, "_write_files", slow)
    ours = Saver(tmp_path, keep=2)
    ours.save(snapshot(1))
    assert not run_checkpoints(tmp_path)
    assert not ours.is_due(0.0)
    go_on.set()
    ours.save(snapshot(2))  # one after the other
    ours.finish()
    assert [path.name for path in run_checkpoints(tmp_path)] == ["step-000001", "step-000002"]


def test_a_mistake_of_ours_in_the_thread_is_not_lost(tmp_path, monkeypatch):
    def broken(*args):
        raise KeyError("a bug")

    monkeypatch.setattr(checkpoint, "_write_files", broken)
    with pytest.raises(KeyError, match="a bug"):
        Saver(tmp_path, keep=2).save(snapshot(1), wait=True)


def test_room_is_asked_for_before_the_first_step(data, tmp_path, monkeypatch):
    run_config = config(data)
    n_bytes = new_run(run_config, tmp_path / "other").saving.checkpoint_bytes
    monkeypatch.setattr(folders, "free_bytes", lambda path: 3 * n_bytes - 1)
    with pytest.raises(
        OSError, match=r"free, the checkpoints of this run need .* \(3 of .*make room"
    ):
        train(run_config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(folders, "free_bytes", lambda path: 3 * n_bytes)
    train(run_config, tmp_path / "fits")
    found = sum(
        path.stat().st_size for path in run_checkpoints(tmp_path / "fits/checkpoints")[-1].iterdir()
    )
    assert n_bytes == pytest.approx(found, rel=0.25)  # of a model so small, names are a part


def test_a_run_on_a_full_disk_trains_on_and_saves_when_there_is_room(data, tmp_path, monkeypatch):
    """The first three attempts fail half-way."""
    monkeypatch.setattr(saver, "RETRY_SECONDS", 0.0)
    original = disk.open_new
    n_failed = 0

    def open_new(path):
        nonlocal n_failed
        if "optim.safetensors" in path.name and n_failed < 3:
            n_failed += 1
            path.write_bytes(bytes(100))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(path)

    monkeypatch.setattr(disk, "open_new", open_new)
    summary = train(config(data), tmp_path / "run")
    assert (summary.step, n_failed) == (20, 3)
    assert read_newest(tmp_path / "run/checkpoints", pytest.fail).step == 20
    assert not list((tmp_path / "run/checkpoints").glob(".*"))


@pytest.mark.parametrize("stays_full", [False, True])
def test_a_run_whose_last_checkpoint_fails_says_so_and_keeps_the_one_before(
    stays_full, data, finished, tmp_path, monkeypatch, capsys
):
    is_full = []

    def limited(original):
        def write(path, *content, **options):
            is_full.extend([True] if "step-000020" in str(path) else [])
            if is_full and (stays_full or "step-000020" in str(path)):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return original(path, *content, **options)

        return write

    with monkeypatch.context() as patch:
        for name in ("open_new", "write_file"):
            patch.setattr(disk, name, limited(getattr(disk, name)))
        with pytest.raises(
            SaveFailed, match=r"No space left.*; make room and go on with --resume auto"
        ):
            train(config(data), tmp_path / "run")
    assert (
        "the checkpoint of step 20 is not saved (No space left on device)"
        in capsys.readouterr().err
    )
    assert (tmp_path / "run/summary.json").is_file() != stays_full
    if not stays_full:
        summary = RunRecord(tmp_path / "run").summary()
        assert (summary["finished"], summary["saved"], summary["step"]) == (False, False, 20)
        assert state_of(tmp_path / "run").name == "broken off"
    assert read_newest(tmp_path / "run/checkpoints", pytest.fail).step == 15
    train(config(data), tmp_path / "run", resume=True)
    assert same(weights(tmp_path / "run"), weights(finished[0]))


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EFBIG, "make room and "),
        (errno.EACCES, "make {checkpoints} writable and "),
        (errno.EROFS, "make {checkpoints} writable and "),
        (errno.EIO, ""),
    ],
)
def test_the_advice_after_a_first_checkpoint_that_fails_works(
    number, remedy, data, tmp_path, monkeypatch
):
    run_config = config(data, max_steps=1)

    def refused(*_, **__):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(saver, "write_snapshot", refused)
        with pytest.raises(SaveFailed) as error:
            train(run_config, tmp_path / "run")
    told, _, advice = str(error.value).partition("go on with ")
    given = remedy.format(checkpoints=tmp_path / "run/checkpoints")
    assert told.endswith(f"{os.strerror(number)}; {given}")
    arguments = command._parsed(advice.split())
    command._check_resumes(arguments, advice.split())
    assert train(arguments.config, arguments.out, resume=True).saved
    assert state_of(tmp_path / "run").name == "finished"


def test_checkpoints_that_may_not_be_read_prevent_no_warning(tmp_path, monkeypatch):
    def refused(folder):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))

    monkeypatch.setattr(step_folders, "run_checkpoints", refused)
    written = Saver(tmp_path, keep=1)
    told = written._told(3, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    assert told.endswith("step 3 is not saved (Permission denied); there is none yet")
    write_json(tmp_path / "summary.json", {"finished": True, "saved": False, "step": 3})
    assert state_of(tmp_path).name == "broken off"


def test_log_rows_wait_for_a_full_disk(tmp_path):
    """No row is lost, halved or doubled while the disk takes nothing or a part."""
    record = RunRecord(tmp_path)
    record.log({"step": 0})
    for step in range(1, 30):
        if step % 10 < 7:
            size = record.files.log.stat().st_size
            soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + step % 5, hard))
            try:
                record.log({"step": step})
                with pytest.raises(OSError, match="File too large|No space"):
                    record.flush()
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        else:
            record.log({"step": step})
            assert [row["step"] for row in record.rows()] == list(range(step + 1))
    assert [row["step"] for row in record.rows()] == list(range(30))


def test_a_kill_while_saving_leaves_whole_checkpoints(tmp_path):
    n_halves = kill_while_saving(tmp_path / "run", 40)
    print(f"40 kills, {n_halves} in the middle of a checkpoint")
    assert n_halves > 4
