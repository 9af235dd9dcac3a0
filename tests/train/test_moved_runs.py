"""A run goes on when its folder is moved, removed or replaced while it trains."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from short_runs import config

from fastlm import checkpoint
from fastlm.checkpoint.saver import Saver
from fastlm.runs.record import RunRecord
from fastlm.runs.run_files import RunFiles
from fastlm.train import train
from fastlm.train.trainer import Trainer
from fastlm.train.watch import Diverged

N_STEPS = 12


@pytest.fixture
def trained(data, tmp_path, monkeypatch, capsys) -> Callable[..., list[str]]:
    """Trains in tmp_path/run, with a call before step 8; returns the warnings.

    Checkpoints are those of steps 5, 10 and 12, and none is being written during the call.
    """

    def train_with(change: Callable[[Path], object]) -> list[str]:
        run, train_step, save = tmp_path / "run", Trainer.train_step, Saver.save

        def step(self, stream, **place):
            if self.step == 7:
                change(run)
            return train_step(self, stream, **place)

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "train_step", step)
            patch.setattr(
                Saver, "save", lambda self, snapshot, **_: save(self, snapshot, wait=True)
            )
            assert train(config(data, max_steps=N_STEPS, log_every=1), run).finished
        return warnings(capsys.readouterr().err)

    return train_with


def warnings(told: str) -> list[str]:
    return sorted(line for line in told.splitlines() if line.startswith("warning: "))


def checkpoints(run: Path) -> list[str]:
    return sorted(path.name for path in RunFiles(run).checkpoints.iterdir())


def train_steps(run: Path) -> list[int]:
    return [row["step"] for row in RunRecord(run).rows() if row["kind"] == "train"]


def check_is_whole(run: Path, data: Path) -> None:
    """Check that a folder is a finished run that can be resumed."""
    assert RunRecord(run).config().max_steps == N_STEPS
    assert RunFiles(run).environment.is_file()
    assert RunRecord(run).summary()["finished"]
    assert train(config(data, max_steps=14), run, resume=True).step == 14


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_folder_that_is_moved_or_removed_is_made_again(is_kept, trained, data, tmp_path):
    """The run goes on as a whole one that can be resumed; the moved files stay where they are."""
    run, moved = tmp_path / "run", tmp_path / "moved"
    (told,) = trained(lambda run: run.rename(moved) if is_kept else shutil.rmtree(run))
    assert told.startswith(f"warning: {run} was moved or removed while the run goes on: what comes")
    assert told.endswith(f" is in the new folder {run}")
    assert checkpoints(run) == ["step-000010", "step-000012"]
    check_is_whole(run, data)
    assert not is_kept or checkpoints(moved) == ["step-000005"]
    assert not is_kept or train_steps(moved) == [1, 2, 3, 4, 5, 6, 7]


def test_what_took_the_place_of_a_moved_folder_stays_as_it_is(trained, data, tmp_path):
    """The run goes on in a folder beside it, which a warning names."""
    run, beside, files = tmp_path / "run", tmp_path / "run-2", ("config.json", "log.jsonl")

    def replace(run: Path) -> None:
        run.rename(tmp_path / "moved")
        run.mkdir()
        for name in files:
            (run / name).write_text("mine")

    (told,) = trained(replace)
    assert f"{run} was moved or removed while the run goes on, and what is there now stays" in told
    assert told.endswith(f" is in the new folder {beside}")
    assert {path.name: path.read_text() for path in run.iterdir()} == dict.fromkeys(files, "mine")
    assert checkpoints(beside) == ["step-000010", "step-000012"]
    assert train_steps(beside) == [8, 9, 10, 11, 12]  # rows wait for the next checkpoint
    check_is_whole(beside, data)


@pytest.mark.parametrize("step", [5, N_STEPS])
def test_a_folder_that_is_moved_while_a_checkpoint_is_written(
    step, data, tmp_path, monkeypatch, capsys
):
    """That checkpoint is told as not saved, and the last step is saved in the new folder."""
    run, moved = tmp_path / "run", tmp_path / "moved"
    verify = checkpoint.verify

    def move(partial: Path) -> None:
        verify(partial)
        if partial.name.endswith(f"{step:06d}") and not moved.exists():
            run.rename(moved)

    monkeypatch.setattr(checkpoint, "verify", move)
    assert train(config(data, max_steps=N_STEPS), run).saved
    told = warnings(capsys.readouterr().err)
    assert told[0].startswith(f"warning: {run} was moved or removed while the run goes on")
    assert told[1].startswith(f"warning: the checkpoint of step {step} is not saved (")
    assert len(told) == 2
    assert checkpoints(run)[-1] == f"step-{N_STEPS:06d}"
    assert RunFiles(run).sample.is_file()  # its model was read again


def test_a_folder_that_is_moved_in_the_last_validation_has_the_last_checkpoint(
    data, tmp_path, monkeypatch
):
    """It was written before the validation, to the folder that was moved."""
    run, moved = tmp_path / "run", tmp_path / "moved"
    evaluate, save = Trainer.evaluate, Saver.save

    def move(self, max_tokens, *check):
        if max_tokens is None:
            run.rename(moved)
        return evaluate(self, max_tokens, *check)

    monkeypatch.setattr(Trainer, "evaluate", move)
    monkeypatch.setattr(Saver, "save", lambda self, snapshot, **_: save(self, snapshot, wait=True))
    assert train(config(data, max_steps=1), run).saved
    assert checkpoints(run) == ["step-000001"]
    assert RunFiles(run).sample.is_file()


def test_a_run_that_diverges_describes_the_step_beside_a_folder_of_others(
    data, tmp_path, monkeypatch
):
    run, train_step = tmp_path / "run", Trainer.train_step

    def step(self, stream, **place):
        shutil.rmtree(run)
        run.mkdir()
        (run / "log.jsonl").write_text("mine")
        loss = self.loss
        self.loss = lambda inputs, targets: loss(inputs, targets) * math.nan
        return train_step(self, stream, **place)

    monkeypatch.setattr(Trainer, "train_step", step)
    with pytest.raises(Diverged):
        train(config(data, log_every=1), run)
    assert [path.name for path in run.iterdir()] == ["log.jsonl"]
    assert RunFiles(tmp_path / "run-2").nonfinite_step(1).is_file()
