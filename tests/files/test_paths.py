"""A pipe, a device or a folder in the place of a file is refused or left out, never waited for."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from short_runs import config
from waiting import in_time

from fastlm.checkpoint import read_run_checkpoint
from fastlm.data import open_prepared
from fastlm.files import disk
from fastlm.files.resumed import resumed_file
from fastlm.files.tokens import TokenWriter
from fastlm.records import keep
from fastlm.report import report_page
from fastlm.runs.found import read_log
from fastlm.runs.state import state_of
from fastlm.tokenizer import Tokenizer
from fastlm.train import train

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")


def to_device(path: Path) -> None:
    path.symlink_to("/dev/null")


def replaced(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


@pytest.mark.parametrize("make", [os.mkfifo, to_device, Path.mkdir])
def test_what_is_no_file_is_not_appended_to(make, tmp_path):
    make(tmp_path / "log")
    for append in (lambda path: disk.append(path, b"row"), disk.open_to_append):
        with pytest.raises(OSError, match="log is no regular file: expected one"), in_time():
            append(tmp_path / "log")


def test_what_is_appended_leaves_the_other_hard_links_of_a_file(tmp_path):
    log, copy = tmp_path / "log", tmp_path / "copy"
    disk.write_file(log, b"1\n")
    log.chmod(0o640)
    for n in (2, 3):
        copy.unlink(missing_ok=True)
        copy.hardlink_to(log)
        then = log.read_bytes()
        if n == 2:
            disk.append(log, b"2\n")
        else:
            with disk.open_to_append(log) as file:
                file.write(b"3\n")
        assert copy.read_bytes() == then
    assert log.read_bytes() == b"1\n2\n3\n"
    assert log.stat().st_mode & 0o777 == 0o640


def test_unfinished_files_that_are_gone_on_with_leave_their_other_hard_links(tmp_path):
    path, copy = tmp_path / "file", tmp_path / "copy"
    for n in (1, 2):
        with resumed_file(path, made_of={"of": 1}) as part:
            part.file.seek(part.n_bytes)
            part.file.write(b"%d\n" % n)
            part.write_note({"of": 1, "n": n})
        if n == 1:
            copy.hardlink_to(tmp_path / "file.part")
    assert ((tmp_path / "file.part").read_bytes(), copy.read_bytes()) == (b"1\n2\n", b"1\n")
    ids, kept = np.arange(3, dtype=np.uint16), tmp_path / "kept.bin"
    writer = TokenWriter(tmp_path / "a.bin", dtype="uint16")
    written = writer.write(ids)
    writer.close()
    kept.hardlink_to(tmp_path / "a.bin")
    later = TokenWriter(tmp_path / "a.bin", dtype="uint16", after=written)
    later.write(ids)
    later.finish()
    assert kept.read_bytes() == ids.tobytes()
    assert (tmp_path / "a.bin").read_bytes() == ids.tobytes() * 2


@pytest.mark.parametrize("make", [os.mkfifo, to_device, Path.mkdir])
@pytest.mark.parametrize(
    "name", ["log.jsonl", "summary.json", "config.json", "environment.json", "sample.txt"]
)
def test_what_is_no_file_of_a_run_is_read_by_nothing(name, make, finished, data, tmp_path):
    run = shutil.copytree(finished[0], tmp_path / "run")
    replaced(run / name, make)
    with in_time():
        state_of(run)
        read_log(run)
        report_page({run: "run"})
    if name in ("config.json", "log.jsonl"):
        with pytest.raises((OSError, ValueError)), in_time():
            keep(run, tmp_path / "records")
    if name in ("log.jsonl", "summary.json"):
        with pytest.raises(OSError, match=f"{name} is (no regular file|a folder)"), in_time():
            train(config(data, max_steps=21), run, resume=True)


@pytest.mark.parametrize("name", ["model.safetensors", "state.json", "manifest.json"])
def test_what_is_no_file_of_a_checkpoint_is_damage(name, finished, tmp_path):
    run = shutil.copytree(finished[0], tmp_path / "run")
    replaced(run / "checkpoints/step-000020" / name, os.mkfifo)
    with pytest.raises(ValueError, match=name), in_time():
        read_run_checkpoint(run / "checkpoints/step-000020")


@pytest.mark.parametrize("name", ["vocab.json", "special_tokens.json", "tokenizer.json"])
def test_what_is_no_file_of_a_tokenizer_is_not_waited_for(name, data, tmp_path):
    """The other files have all of it too."""
    folder = shutil.copytree(data / "tokenizer", tmp_path / "tokenizer")
    replaced(folder / name, os.mkfifo)
    with in_time():
        assert Tokenizer.load(folder).hash == Tokenizer.load(data / "tokenizer").hash
    for path in folder.iterdir():
        path.unlink()
        os.mkfifo(path)
    with pytest.raises(OSError), in_time():  # noqa: PT011
        Tokenizer.load(folder)


@pytest.mark.parametrize("name", ["train.bin", "val.bin", "meta.json"])
def test_what_is_no_file_of_data_is_refused(name, data, tmp_path):
    folder = shutil.copytree(data, tmp_path / "data")
    replaced(folder / name, os.mkfifo)
    with pytest.raises((OSError, ValueError), match=f"{name}|no prepared data in"), in_time():
        open_prepared(folder).verify()
