"""Settings of the whole process are made before a run, and a user's own settings come first."""

import os
import sys

import pytest
import torch

from fastlm.devices import hardware
from fastlm.devices.hardware import _driver, configure_cuda
from fastlm.train import assemble
from fastlm.train import command as train_cli

NAMES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF", "PYTORCH_ALLOC_CONF")


@pytest.fixture
def precision(monkeypatch) -> list[str]:
    """A machine that seems to have a GPU and no settings; what precision is asked for."""
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that what a test sets is taken back
        monkeypatch.delenv(name)
    asked: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "set_float32_matmul_precision", asked.append)
    return asked


@pytest.mark.skipif(sys.platform != "linux", reason="such segments are there on Linux alone")
def test_memory_comes_in_segments_that_grow_unless_the_user_has_set_it(precision, monkeypatch):
    configure_cuda(bf16=True)
    assert os.environ["PYTORCH_ALLOC_CONF"] == "expandable_segments:True"
    for name in NAMES:
        monkeypatch.delenv("PYTORCH_ALLOC_CONF", raising=False)
        with monkeypatch.context() as patch:
            patch.setenv(name, "max_split_size_mb:256")
            configure_cuda(bf16=True)
            found = {n: os.environ[n] for n in NAMES if n in os.environ}
            assert found == {name: "max_split_size_mb:256"}


def test_torch_reads_the_variable_that_is_set():
    """A wrong name would be ignored without a word: torch's library has to know it."""
    from pathlib import Path

    library = Path(torch.__file__).parent / "lib" / "libc10.so"
    if not library.exists():
        pytest.skip("torch keeps its libraries elsewhere here")
    assert b"PYTORCH_ALLOC_CONF" in library.read_bytes()


def test_products_in_float32_are_rounded_only_beside_those_in_bfloat16(precision):
    configure_cuda(bf16=False)
    assert precision == []
    configure_cuda(bf16=True)
    assert precision == ["high"]


def test_without_a_gpu_nothing_is_set(precision, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    configure_cuda(bf16=True)
    assert precision == []
    assert not any(name in os.environ for name in NAMES)


def test_it_is_set_before_the_device_is_looked_at(monkeypatch):
    calls = []
    monkeypatch.setattr(hardware, "configure_cuda", lambda bf16: calls.append(bf16))

    def choose_device(wanted):
        calls.append(wanted)
        raise ValueError("far enough")

    monkeypatch.setattr(assemble, "choose_device", choose_device)
    with pytest.raises(ValueError, match="far enough"):
        train_cli.main(["--recipe", "tiny", "--bf16"])
    assert calls == [True, "auto"]


def told_by(script: str, tmp_path, monkeypatch) -> dict[str, str]:
    """Return what is read when this script stands for nvidia-smi."""
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return _driver("1234")


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for the program")
def test_clocks_of_the_gpu_are_recorded(tmp_path, monkeypatch):
    script = """
case "$*" in *--id=GPU-1234*) echo "575.1, 1980 MHz, 1980 MHz, 3201 MHz, 700.00 W";; esac"""
    assert told_by(script, tmp_path, monkeypatch) == {
        "driver_version": "575.1",
        "clocks.sm": "1980 MHz",
        "clocks.max.sm": "1980 MHz",
        "clocks.mem": "3201 MHz",
        "power.limit": "700.00 W",
    }


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for the program")
@pytest.mark.parametrize("script", ["exit 9", "echo No devices were found", "echo 1, 2; exit 1"])
def test_a_run_does_not_need_them(script, tmp_path, monkeypatch):
    assert told_by(script, tmp_path, monkeypatch) == {}


def test_nor_the_program(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert _driver("1234") == {}
