"""Log rows are sent on to other packages, and whatever those do, the run is none the worse."""

import sys
import threading
import types
from importlib.util import find_spec

import pytest
from commands import TINY, fastlm
from short_runs import config, train_rows

from fastlm.runs.record import RunRecord
from fastlm.train import train
from fastlm.train.loggers import MOST_QUEUED, Logger, check_logger, numbers, open_logger


class Recorder:
    """A target that keeps what it is sent; with changes one that does worse."""

    def __init__(self, send=None):
        self.rows, self.is_closed, self._send = [], False, send

    def send(self, step, values):
        if self._send is not None:
            self._send()
        self.rows.append((step, values))

    def close(self):
        self.is_closed = True


def fail():
    raise ConnectionError("no\nnetwork")


def row(step, **values):
    return {"kind": "train", "step": step, "loss": 2.0, **values}


def test_rows_arrive_in_order_and_the_target_is_closed():
    target, told = Recorder(), []
    logger = Logger("test", lambda: target, told.append)
    for step in range(100):
        logger.log(row(step))
    logger.close()
    assert target.rows == [(step, {"train/loss": 2.0}) for step in range(100)]
    assert target.is_closed
    assert told == []


def test_only_finite_numbers_are_sent():
    sent = numbers({"kind": "not finite", "step": 3, "loss": None, "sigmas": float("inf"), "mfu": True, "tokens": 7, "environment": {}})  # fmt: skip
    assert sent == {"not_finite/tokens": 7}


def test_a_target_that_fails_is_told_of_once_and_counted():
    told = []
    logger = Logger("test", lambda: Recorder(fail), told.append)
    for step in range(5):
        logger.log(row(step))
    logger.close()
    assert told[0] == "warning: test does not take a row: ConnectionError: no network"
    assert told[1:] == ["warning: 5 rows were not sent to test; the log has them"]


def test_a_target_that_cannot_be_opened_is_opened_once():
    told, opened = [], []

    def open_target():
        opened.append(1)
        raise SystemExit("no key")

    logger = Logger("test", open_target, told.append)
    for step in range(5):
        logger.log(row(step))
    logger.close()
    assert len(opened) == 1
    assert "SystemExit: no key" in told[0]
    assert "5 rows were not sent" in told[1]


def test_a_target_that_hangs_holds_up_nothing():
    """Code that waited for the target would hang: it ends only after the last assertion."""
    never, told = threading.Event(), []
    logger = Logger("test", lambda: Recorder(never.wait), told.append)
    for step in range(MOST_QUEUED + 500):
        logger.log(row(step))
    logger.close(seconds=0.2)
    assert not never.is_set()
    assert len(told) == 1
    assert "has not finished after 0.2 s" in told[0]
    assert logger.n_lost >= 499
    never.set()


def test_a_missing_package_is_an_error_that_says_what_to_install(monkeypatch):
    monkeypatch.setattr("fastlm.train.loggers.find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    check_logger("none")
    with pytest.raises(ValueError, match="pip install wandb"):
        check_logger("wandb")
    with pytest.raises(ValueError, match="did you mean tensorboard"):
        check_logger("tensorbord")


@pytest.fixture
def fake_wandb(monkeypatch):
    """A package of that name that records what it is told."""
    module = types.ModuleType("wandb")
    module.inits, module.logged, module.finished = [], [], []

    class Run:
        def define_metric(self, name, step_metric=None):
            pass

        def log(self, values):
            module.logged.append(values)

        def finish(self):
            module.finished.append(1)

    def init(**options):
        module.inits.append(options)
        return Run()

    module.init = init
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_a_run_sends_every_row_to_wandb_and_goes_on_under_its_id(data, tmp_path, fake_wandb):
    run = tmp_path / "run"
    train(config(data, logger="wandb", max_steps=10), run)
    sent = [values["train/loss"] for values in fake_wandb.logged if "train/loss" in values]
    assert sent == [r["loss"] for r in train_rows(run)]
    assert fake_wandb.inits[0]["name"] == "run"
    assert fake_wandb.inits[0]["config"]["max_steps"] == 10
    train(config(data, logger="wandb", max_steps=15), run, resume=True)
    assert fake_wandb.inits[1]["id"] == fake_wandb.inits[0]["id"]
    assert len(fake_wandb.finished) == 2


def test_a_logger_that_fails_changes_nothing_in_the_run(data, tmp_path, fake_wandb, capsys):
    train(config(data, max_steps=10), tmp_path / "plain")
    fake_wandb.init = lambda **options: fail()
    train(config(data, logger="wandb", max_steps=10), tmp_path / "run")
    assert "wandb does not take a row: ConnectionError" in capsys.readouterr().err
    a, b = train_rows(tmp_path / "plain"), train_rows(tmp_path / "run")
    assert [r["loss"] for r in a] == [r["loss"] for r in b]


def test_tensorboard_gets_scalars_in_the_folder_of_the_run(tmp_path, monkeypatch):
    made = []

    class SummaryWriter:
        def __init__(self, folder, purge_step=None):
            self.folder, self.purge_step, self.scalars = folder, purge_step, []
            made.append(self)

        def add_text(self, name, text):
            pass

        def add_scalar(self, name, value, step):
            self.scalars.append((name, value, step))

        def close(self):
            pass

    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setitem(sys.modules, "tensorboard", types.ModuleType("tensorboard"))
    record = RunRecord(tmp_path)
    logger = open_logger("tensorboard", tmp_path, {}, first_step=4, say=pytest.fail)
    record.forward_rows(logger.log)
    record.log(row(5, lr=0.1))
    logger.close()
    assert made[0].folder == str(tmp_path / "tensorboard")
    assert made[0].purge_step == 5
    assert made[0].scalars == [("train/loss", 2.0, 5), ("train/lr", 0.1, 5)]


def test_the_command_says_what_to_install_before_it_begins(data, tmp_path):
    if find_spec("wandb"):
        pytest.skip("wandb is installed here")
    done = fastlm("train", "--logger", "wandb", "--data", str(data), "--max-steps", "1", *TINY, cwd=tmp_path)  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "pip install wandb" in done.stderr
