"""fastlm on simulated machines: without Triton, and with an Apple GPU."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fastlm.config.recipes import load_recipe
from fastlm.devices import hardware
from fastlm.devices.hardware import choose_compute_dtype, choose_device
from fastlm.generate import next_token_probabilities
from fastlm.model import TransformerLM, init_weights
from fastlm.ops import torch_ops
from fastlm.optim import build_optimizers

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"

# A Python without Triton runs this program, which uses all that has to work there.
PROGRAM = """
import dataclasses, importlib, pkgutil, sys
from importlib.util import find_spec
from pathlib import Path

assert find_spec("triton") is None
import fastlm
names = [m.name for m in pkgutil.walk_packages(fastlm.__path__, "fastlm.")]
# All files but fastlm/__init__.py and the code that transformers runs, which is in no package.
assert len(names) == len(list(Path(fastlm.__path__[0]).rglob("*.py"))) - 2
for name in names:
    importlib.import_module(name)
assert "triton" not in sys.modules

from fastlm.ops import load_ops, torch_ops
assert load_ops("auto", "cpu") is torch_ops
try:
    load_ops("rms_norm", "cpu")
except ValueError as error:
    print(error)

from fastlm.evaluate.__main__ import main as evaluate
from fastlm.generate.__main__ import main as generate
from fastlm.config.recipes import load_recipe
from fastlm.train import train
from fastlm.config import DataConfig

data, run = Path(sys.argv[1]), Path(sys.argv[2])
config = load_recipe("stories")
model = dataclasses.replace(config.model, n_layers=1, d_model=16, n_heads=2, context_length=16)
train(dataclasses.replace(config, model=model, data=DataConfig(path=str(data)), batch_size=2,
                          max_steps=2, time_budget=None, eval_tokens=256, device="cpu"), run)
evaluate([str(run), "--device", "cpu"])
generate([str(run), "--prompt", "Once", "--max-tokens", "4", "--device", "cpu"])
"""


@pytest.mark.slow
def test_without_triton_all_but_its_operations_works(data, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(data), str(tmp_path / "run")],
        env=os.environ | {"PYTHONPATH": f"{TESTS / 'support' / 'without_triton'}{os.pathsep}{ROOT}"},
        capture_output=True, text=True, cwd=tmp_path, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "install triton (on Linux), or use --triton-ops none" in done.stdout
    assert '"bits_per_byte"' in done.stdout
    assert "Once" in done.stdout.split('"bits_per_byte"')[1]


@pytest.fixture
def apple(monkeypatch):
    """A Mac whose GPU torch can use."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)


def test_an_apple_gpu_is_taken_by_itself_and_by_name(apple):
    assert choose_device() == choose_device("mps") == torch.device("mps")
    assert choose_device("cpu") == torch.device("cpu")
    with pytest.raises(ValueError, match="device cuda is not available: this machine has mps, cpu"):
        choose_device("cuda")


@pytest.mark.parametrize("is_new", [True, False])
def test_bfloat16_needs_macos_14(is_new, apple, monkeypatch):
    asked = []
    monkeypatch.setattr(
        torch.backends.mps, "is_macos_or_newer", lambda *v: asked.append(v) or is_new
    )
    if is_new:
        assert choose_compute_dtype(torch.device("mps"), True) == (torch.bfloat16, "")
    else:
        with pytest.raises(ValueError, match="--bf16 on mps needs macOS 14 or newer: leave it out"):
            choose_compute_dtype(torch.device("mps"), True)
    assert asked == [(14, 0)]
    assert choose_compute_dtype(torch.device("mps"), False) == (torch.float32, "")


def test_memory_of_an_apple_gpu_is_what_its_driver_recommends_less_what_is_taken(monkeypatch):
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 10 << 30)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 1 << 30)
    assert hardware.free_memory(torch.device("mps")) == 9 << 30


class WithoutFloat64(TorchDispatchMode):
    """Make float64 an error on the device meta, which stands for an Apple GPU.

    A copy to the CPU that changes the dtype changes it on the device first, as on an Apple GPU.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        to_cpu = str(kwargs.get("device")) == "cpu"
        if func is torch.ops.aten._to_copy.default and to_cpu and args[0].device.type == "meta":
            assert kwargs.get("dtype", args[0].dtype) != torch.float64, "float64 on the device"
            return torch.zeros(args[0].shape, dtype=kwargs.get("dtype", args[0].dtype))
        out = func(*args, **kwargs)
        for value in tree_leaves((args, kwargs, out)):
            if isinstance(value, torch.Tensor) and value.device.type == "meta":
                assert value.dtype != torch.float64, f"{func}: float64 on the device"
        return out


@pytest.mark.parametrize("recipe", ["stories", "leaderboard-tiny", "baseline-tiny"])
def test_a_step_of_training_needs_no_float64_on_the_device(recipe):
    config = load_recipe(recipe)
    sizes = dataclasses.replace(config.model, vocab_size=64, context_length=16)
    with WithoutFloat64():
        model = TransformerLM(sizes, ops=torch_ops)
        init_weights(model, 0)
        model = model.to("meta")
        ids = torch.zeros(2, 16, dtype=torch.int64, device="meta")
        model.loss(ids, ids).backward()
        optimizers = build_optimizers(model, config.optim, torch_ops, compiled=False)
        for optimizer in optimizers:
            optimizer.step()
    assert len(optimizers) >= 1


def test_sampling_needs_no_float64_on_the_device():
    with WithoutFloat64():
        next_token_probabilities(torch.zeros(64, device="meta"), temperature=1.0)
        next_token_probabilities(torch.zeros(64, device="meta"), temperature=0.0)
