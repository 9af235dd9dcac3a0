"""The checks of a GPU find a kernel that is wrong, slow to answer, or deadly, and go on."""

import json

import gpu_day_checks
import pytest
import torch
from gpu_day_checks import Wrong, kernels_train_as_pytorch, large_case, listed, main, small_cases

import kernels
from fastlm import functional
from fastlm.ops import torch_ops
from kernels.cases import OPS

pytestmark = pytest.mark.interpreter
CPU = torch.device("cpu")


def test_every_operation_is_checked_and_those_that_runs_take_come_first():
    names = list(listed(CPU, list(dict.fromkeys((*gpu_day_checks.FIRST, *OPS))), 50))
    assert {name.partition(",")[0] for name in names if ", large" in name} == set(OPS)
    assert names[1:3] == [f"{name}, small" for name in kernels.AUTO]


def test_checks_tell_which_kernel_is_wrong(tmp_path, monkeypatch):
    def wrong(gate, up):
        return functional.silu_mul(gate, up) * 1.05

    monkeypatch.setitem(OPS, "silu_mul", OPS["silu_mul"]._replace(function=wrong))
    monkeypatch.setattr(gpu_day_checks, "NETWORKS", ())
    path = tmp_path / "checks.json"
    monkeypatch.setattr(listed, "__defaults__", ((),))
    assert main(["--out", str(path), "--try-on-cpu", "--ops", "silu_mul", "softmax"]) == 69
    rows = json.loads(path.read_text())["rows"]
    assert {name for name, row in rows.items() if row["state"] == "failed"} == {
        "silu_mul, small", "silu_mul, large"
    }  # fmt: skip
    assert {name for name, row in rows.items() if row["state"] == "right"} == {
        "bfloat16", "softmax, small", "silu_mul, no waiting", "softmax, no waiting", "softmax, large"
    }  # fmt: skip
    assert "is allowed" in rows["silu_mul, small"]["why"]


def test_results_without_elements_are_right():
    assert small_cases("qkv_norm_rope", CPU)["largest_share_of_what_is_allowed"]
    assert large_case("qkv_norm_rope", CPU, OPS["qkv_norm_rope"].tiny)["errors"][-1] >= 0


@pytest.mark.parametrize("value", [1.1, float("nan")])
def test_steps_with_other_losses_are_wrong(value, monkeypatch):
    def wrong(*arguments, **options):
        return torch_ops.linear_cross_entropy(*arguments, **options) * value

    monkeypatch.setattr(
        gpu_day_checks, "all_kernels", lambda: torch_ops._replace(linear_cross_entropy=wrong)
    )
    with pytest.raises(Wrong, match="losses are apart by"):
        kernels_train_as_pytorch("baseline-tiny", CPU, 2)
    monkeypatch.setattr(gpu_day_checks, "all_kernels", lambda: torch_ops)
    assert kernels_train_as_pytorch("baseline-tiny", CPU, 2)["largest_difference"] == 0


def test_a_gpu_that_is_lost_ends_the_process_and_the_next_one_goes_on(tmp_path, monkeypatch):
    made = []

    def breaks():
        made.append("a")
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    checks = {"a": breaks, "b": lambda: made.append("b") or {}}
    monkeypatch.setattr(gpu_day_checks, "listed", lambda *arguments: checks)
    monkeypatch.setattr(gpu_day_checks, "is_lost", lambda device: "b" not in made)
    words = ["--out", str(tmp_path / "checks.json"), "--try-on-cpu"]
    assert main(words) == 70
    assert made == ["a"]
    assert main(words) == 69
    assert made == ["a", "b"]
