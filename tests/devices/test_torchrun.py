"""A process finds out whether torchrun started it, and takes signals while it waits for others."""

import datetime
import os
import signal
import socket
import sys
import threading
import time

import pytest
import torch
import torch.distributed as dist

from fastlm.devices.ranks import joined
from fastlm.devices.torchrun import world_size
from fastlm.train import command
from fastlm.train.signals import Stopped, StopRequest

CPU = torch.device("cpu")


@pytest.mark.parametrize(("text", "size"), [(None, 1), ("", 1), (" ", 1), ("1", 1), ("16", 16)])
def test_the_number_of_processes_is_one_without_torchrun(text, size, monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if text is not None:
        monkeypatch.setenv("WORLD_SIZE", text)
    assert world_size() == size


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "\u00b2", "9" * 30])
def test_what_is_no_number_of_processes_is_refused_by_name(text, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", text)
    with pytest.raises(ValueError, match="WORLD_SIZE must be the number of processes"):
        world_size()


@pytest.mark.parametrize(
    ("device", "missing"),
    [("cpu", "RANK"), ("cpu", "MASTER_PORT"), ("cuda", "LOCAL_RANK")],
)
def test_a_number_that_an_earlier_command_left_is_told(device, missing, monkeypatch):
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "2")
    monkeypatch.delenv(missing)
    with (
        pytest.raises(ValueError, match=f"but {missing} is not set: start it with torchrun"),
        joined("auto", torch.device(device)),
    ):
        pytest.fail("it went on")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"WORLD_SIZE": "abc"}, "WORLD_SIZE must be the number of processes"),
        ({"WORLD_SIZE": "2"}, "but RANK is not set"),
        ({"WORLD_SIZE": "2", "RANK": "2"}, "RANK must be the number .*, from 0 to 1 .*got '2'"),
        ({"WORLD_SIZE": "2", "RANK": "x"}, "RANK must be the number .*got 'x'"),
    ],
)
def test_torchruns_variables_are_checked_before_slow_imports(variables, message, monkeypatch):
    for name in ("WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "2")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(sys.modules, "fastlm.train.assemble", None)  # an import fails
    with pytest.raises(ValueError, match=message):
        command.main(["--recipe", "tiny"])


def test_a_process_that_waits_for_others_takes_signals(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": "0", "WORLD_SIZE": "2"}
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    threads, init = [], dist.init_process_group

    def for_seconds(backend):
        threads.append(threading.current_thread())
        init(backend, timeout=datetime.timedelta(seconds=3))

    monkeypatch.setattr(dist, "init_process_group", for_seconds)
    began = time.monotonic()
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    try:
        with (
            StopRequest() as stop,
            stop.raising(),
            pytest.raises(Stopped, match="SIGTERM"),
            joined("auto", CPU),
        ):
            pytest.fail("it went on alone")
        assert time.monotonic() - began < 2.5
    finally:
        timer.join()
        for thread in threads:
            thread.join()
