"""The programs that measure kernels work, and the kernels that won are the default ones."""

import contextlib
import inspect
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gpu_kernels
import kernel_errors
import kernel_peers
import kernel_step
import pytest
import torch
from gpu_kernels import Refused, default_path, first_call
from kernel_errors import n_cases
from kernel_step import RECIPES, StepRow, kernels_of, steps_to_time, winners
from readme_tables import read_table

import kernels
from fastlm import functional
from fastlm.config.recipes import load_recipe
from fastlm.ops import torch_ops
from fastlm.train.trainer import Trainer
from kernels.calls import results_of
from kernels.cases import OPS, Inputs

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "kernels" / "README.md"
CPU = torch.device("cpu")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=600
    )


@pytest.mark.slow
@pytest.mark.parametrize(("words", "is_interpreted"), [([], False), (["--try-on-cpu"], True)])
def test_trying_on_a_cpu_interprets_kernels_also_beside_a_gpu(words, is_interpreted):
    program = (
        "import torch\n"
        "torch.cuda.is_available = lambda: True\n"
        "import gpu_kernels, kernels.launch\n"
        "print(kernels.launch.INTERPRETED)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        env=environment | {"PYTHONPATH": str(ROOT / "bench")},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == [str(is_interpreted)], done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_times_without_a_gpu_are_refused_with_what_can_be_had():
    result = run("bench/gpu_kernels.py")
    assert result.returncode == 2
    assert "python bench/kernel_aot.py" in result.stderr.splitlines()[-1]


def test_kernels_taken_by_themselves_are_those_that_win_every_recorded_step():
    assert winners(ROOT / "bench" / "results", kernels.AUTO) == tuple(sorted(kernels.AUTO))


def test_a_kernel_that_is_taken_unmeasured_can_be_checked_with_the_tiles_of_real_models():
    for name in kernels.AUTO:
        assert OPS[name].check, name


def test_every_kernel_is_tried_in_a_step_that_uses_it():
    of_each = {recipe: set(kernels_of(recipe)) for recipe in RECIPES}
    assert set().union(*of_each.values()) == set(kernels.OPS)
    assert {"relu2_ffn", "qkv_norm_rope", "symmetric_product"} <= of_each["leaderboard"]
    assert not of_each["leaderboard"] & {"swiglu", "rotate_pairs"}
    assert steps_to_time(["swiglu", "softmax"]) == [("baseline", "swiglu"), ("baseline", "all")]


def test_a_winner_wins_everywhere_by_more_than_noise(tmp_path):
    assert winners(tmp_path, ("relu2_ffn",)) == ("relu2_ffn",)
    records = [
        {
            "rms_norm": [90.0, 49.0],
            "swiglu": [99.8],
            "adamw": [80.0],
            "relu2_ffn": [90.0],
            "all": [7.0],
        },
        {"rms_norm": [99.4], "swiglu": [40.0], "adamw": [80.0, 100.2], "all": [40.0]},
    ]
    for i, record in enumerate(records):
        steps = [
            StepRow(recipe, kernel, ms, 100.0)._asdict()
            for kernel, of_recipes in record.items()
            for recipe, ms in zip(RECIPES, of_recipes, strict=False)
        ]
        (tmp_path / f"{i}.json").write_text(json.dumps({"training_steps": steps}))
    (tmp_path / "other.json").write_text(json.dumps({"rows": []}))
    assert winners(tmp_path, ("relu2_ffn",)) == ("rms_norm",)


def test_the_table_of_errors_has_every_operation_dtype_and_case():
    rows = [line.split("|")[1:4] for line in read_table(README, "errors").splitlines()[2:]]
    found = {(name.strip(), dtype.strip()): int(n) for name, dtype, n in rows}
    assert found == {
        (name, str(dtype).removeprefix("torch.")): n_cases(name)
        for name, op in OPS.items()
        for dtype in op.dtypes
    }


def test_a_kernel_that_returns_nan_has_no_clean_row(monkeypatch):
    def broken(gate, up):
        y = functional.silu_mul(gate, up)
        return y * math.nan if y.shape[-1] == 64 else y

    monkeypatch.setitem(OPS, "silu_mul", OPS["silu_mul"]._replace(function=broken))
    row = kernel_errors.worst("silu_mul", torch.float32, CPU)
    assert math.isnan(row.ours)
    assert row.plain < 1e-6
    assert "| nan |" in kernel_errors.table([row])


def case(name: str) -> Inputs:
    """The case that benchmarks measure, at the tiny shape."""
    op, options = OPS[name], kernel_peers.measured_options(name)
    return op.make(op.tiny, options, torch.float32, CPU, torch.Generator().manual_seed(0))


def peers() -> list[Any]:
    """Every peer that is a function of kernel_peers, so that no library need be installed."""
    tables = (kernel_peers.LIGER, kernel_peers.QUACK)
    makers = [(name, make) for table in tables for name, make in table.items()]
    makers += [(n, make) for n, of_op in kernel_peers.OTHERS.items() for make in of_op.values()]
    found = []
    for name, make in makers:
        with contextlib.suppress(ImportError):
            function = make()
            if inspect.isfunction(function):
                found.append(pytest.param(name, function, id=f"{name}-{function.__qualname__}"))
    return found


@pytest.mark.parametrize(("name", "function"), peers())
def test_every_peer_takes_the_measured_case(name, function):
    inputs = case(name)
    inspect.signature(function).bind(*inputs.tensors, **inputs.options)


@pytest.mark.parametrize("name", sorted(OPS))
def test_what_pytorch_computes_as_a_peer_has_the_values_of_the_formula(name, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda f, **options: compiled.append(f) or f)
    found = kernel_peers.contenders(name)
    expected = results_of(getattr(functional, name), gpu_kernels.copied(case(name)))
    for who in ("eager", "torch.compile", *kernel_peers.OTHERS.get(name, {})):
        if who == "cuDNN":
            continue
        for _ in range(2):  # the second call has the step counts of the first
            ours = results_of(found[who], gpu_kernels.copied(case(name)))
            torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)
    # Not the formula, if PyTorch has the operation.
    own = getattr(torch_ops, name, None) or kernel_peers.EAGER[name]
    assert (compiled == [getattr(functional, name)]) == (own is getattr(functional, name))


def test_peers_of_adamw_are_the_functions_of_pytorchs_optimizers(monkeypatch):
    """Eager and fused are not one: torch_ops.adamw calls the fused one itself."""
    called = []
    for way in ("_fused_adamw_", "_foreach_lerp_"):
        real = getattr(torch, way)
        monkeypatch.setattr(
            torch, way, lambda *a, way=way, real=real, **o: called.append(way) or real(*a, **o)
        )
    found = kernel_peers.contenders("adamw")
    for who in ("eager", "torch fused"):
        results_of(found[who], case("adamw"))
    assert called == ["_foreach_lerp_", "_fused_adamw_"]


@pytest.mark.parametrize("applies", [None, True, False])
def test_the_fused_adamw_of_torch_is_told_what_the_kernel_is_told(applies):
    inputs = case("adamw")
    flag = None if applies is None else torch.tensor(applies)
    inputs = inputs._replace(options=inputs.options | {"applies": flag})
    function = kernel_peers.OTHERS["adamw"]["torch fused"]()
    before = gpu_kernels.copied(inputs)
    expected = results_of(functional.adamw, gpu_kernels.copied(inputs))
    for _ in range(2):  # the second call has the counts of the first
        found = results_of(function, gpu_kernels.copied(inputs))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    is_changed = not torch.equal(found[0], before.tensors[0][0])
    assert is_changed == (applies is not False)


def test_a_peer_may_refuse_a_case_but_not_its_arguments():
    def refuses(*arguments, **options):
        raise RuntimeError("no such width\nmore")

    inputs = case("adamw")
    with pytest.raises(Refused, match=r"^RuntimeError: no such width$"):
        first_call("peer", refuses, inputs, "forward")
    with pytest.raises(RuntimeError, match="no such width"):
        first_call("fastlm", refuses, inputs, "forward")
    with pytest.raises(TypeError, match="applies"):
        first_call("peer", lambda p, g, m, v, lr, betas, eps, weight_decay, step: None,
                   inputs, "forward")  # fmt: skip


@pytest.mark.parametrize(
    ("recipe", "name"),
    [
        ("baseline", "attention"),
        ("leaderboard", "attention"),
        ("leaderboard", "linear_cross_entropy"),
    ],
)
def test_an_operation_is_measured_as_training_calls_it(recipe, name):
    calls = []

    def watched(*arguments, **options):
        calls.append(options)
        return getattr(torch_ops, name)(*arguments, **options)

    kernel_step.small_step(recipe, torch_ops._replace(**{name: watched}))()
    assert calls[0] == kernel_peers.measured_options(name) != {}


@pytest.mark.parametrize(("n_queries", "n_keys"), [(5, 5), (3, 7), (7, 3), (1, 4), (0, 3)])
@pytest.mark.parametrize("is_causal", [True, False])
def test_flops_of_attention_count_the_keys_that_queries_see(n_queries, n_keys, is_causal):
    n_pairs = n_queries * n_keys
    if is_causal:
        n_pairs = int(functional.causal_mask(n_queries, n_keys, CPU).sum())
    forward, backward = OPS["attention"].flops(
        (2, 3, n_queries, n_keys, 8), {"is_causal": is_causal}
    )
    assert (forward, backward) == (2 * 2 * 6 * n_pairs * 8, 5 * 2 * 6 * n_pairs * 8)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_timed_step_is_a_step_of_training(recipe, monkeypatch):
    config = load_recipe(recipe)
    trainers, norms = [], []
    take = Trainer.train_step

    def watched(self, *arguments, **options):
        loss, norm = take(self, *arguments, **options)
        trainers.append(self)
        norms.append(float(norm))
        return loss, norm

    monkeypatch.setattr(Trainer, "train_step", watched)
    step = kernel_step.small_step(recipe, torch_ops)
    step()
    step()
    trainer = trainers[0]
    assert trainers == [trainer, trainer]
    assert norms[0] > 0
    assert norms[0] != norms[1], "no weight has changed"
    assert trainer.guard.unread == []
    assert trainer.micro_batch == trainer.config.batch_size
    assert trainer.config.optim == config.optim


def test_one_shape_of_every_operation_is_measured_before_the_second_of_any():
    names = ["relu2_ffn", "adamw", "attention"]
    found = gpu_kernels.cases_of(names, tiny=False)
    assert [name for name, _ in found[:5]] == [*names, "relu2_ffn", "attention"]
    assert sorted(found) == sorted((n, shape) for n in names for shape in OPS[n].large)
    assert gpu_kernels.cases_of(names, tiny=True) == [(n, OPS[n].tiny) for n in names]


H200 = {"device": "cuda", "gpu": "NVIDIA H200", "cpu": "AMD EPYC"}
H100 = {"device": "cuda", "gpu": "NVIDIA H100 80GB HBM3", "cpu": "AMD EPYC"}


def test_a_record_is_named_by_its_gpu():
    assert default_path(H200, "2026-01-02").name == "nvidia-h200_2026-01-02.json"
    assert default_path(H100, "2026-01-02").name == "nvidia-h100-80gb-hbm3_2026-01-02.json"


def test_a_record_of_another_machine_is_not_added_to(tmp_path, monkeypatch, capsys):
    path = tmp_path / "record.json"
    record = {"machine": H100, "date": "2026-01-02", "rows": [], "training_steps": []}
    text = json.dumps(record | {"copy_gb_per_second": 1.0, "matrix_tflops": 1.0})
    path.write_text(text)
    monkeypatch.setattr(gpu_kernels, "describe", lambda device: H200)
    with pytest.raises(SystemExit, match="2"):
        gpu_kernels.main(["--try-on-cpu", "--out", str(path), "--ops", "relu2_ffn"])
    message = capsys.readouterr().err
    assert "was measured on NVIDIA H100 80GB HBM3, this is NVIDIA H200: give another" in message
    assert path.read_text() == text
    monkeypatch.setattr(gpu_kernels, "describe", lambda device: H100)
    gpu_kernels.main(["--try-on-cpu", "--out", str(path), "--ops"])
    assert capsys.readouterr().out.startswith("NVIDIA H100 80GB HBM3, 2026-01-02.")
