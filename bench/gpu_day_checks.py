"""Check what a GPU computes: a short list, each a row of a JSON file; pytest is not needed.

    python bench/gpu_day_checks.py --out checks.json

Exit code 0: all are right; 1: some are not; 75: some had no time. The tests marked gpu
(`pytest -m gpu`) hold the same and more, in a longer time.
"""

import argparse
import gc
import itertools
import os
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]
if "--try-on-cpu" in sys.argv:  # Triton reads this when its kernels are decorated
    os.environ["TRITON_INTERPRET"] = "1"

import torch  # noqa: E402
from day_rows import FAILED, GPU_LOST, Rows, exit_by_signal  # noqa: E402
from kernel_peers import measured_options  # noqa: E402

import kernels  # noqa: E402
from fastlm import functional  # noqa: E402
from fastlm.config import TrainConfig  # noqa: E402
from fastlm.config.dotted import replaced  # noqa: E402
from fastlm.config.recipes import load_recipe  # noqa: E402
from fastlm.devices.hardware import configure_cuda, describe  # noqa: E402
from fastlm.ops import Ops, torch_ops  # noqa: E402
from fastlm.train.assemble import Setup  # noqa: E402
from fastlm.train.trainer import Trainer  # noqa: E402
from fastlm.tune.made_tokens import made_data  # noqa: E402
from kernels.calls import copied, largest_error, results_and_gradients, results_of  # noqa: E402
from kernels.cases import OPS, Inputs, Shape  # noqa: E402

FIRST = (*kernels.AUTO, "linear_cross_entropy", "attention", "adamw", "symmetric_product")
"""Operations that are checked first: those that a run takes by itself, or gains most by"""
LARGE: dict[str, Shape] = {"adamw": (1 << 22, 3, 1 << 20)}
"""Shapes in place of cases.py's for real models, of which these are slow to make on the host"""
NETWORKS = ("leaderboard-tiny", "baseline-tiny")
N_STEPS = 50
_LOSS_TOLERANCE = 0.02
"""Relative: as for the 200 steps of tests/kernels/test_gpu.py, in bfloat16"""


class Wrong(AssertionError):
    """A value is not what it has to be."""


def check(is_right: bool, what: str) -> None:
    """Raise Wrong with a line unless something is right."""
    if not is_right:
        raise Wrong(what)


def real_bfloat16(device: torch.device) -> dict[str, Any]:
    """The device has bfloat16 itself, and a product sums its exact terms in float32."""
    if device.type == "cuda":
        check(torch.cuda.is_bf16_supported(including_emulation=False), "the GPU emulates bfloat16")
    g = torch.Generator().manual_seed(0)
    a, b = (torch.randn(300, 257, generator=g).to(device).bfloat16() for _ in range(2))
    found, true = a @ b.mT, a.double() @ b.double().mT
    error = largest_error(found, true)
    # Rounded once: by at most 2^-9 of the value, and float32's sums below that.
    check(error <= 2**-8 * float(true.abs().max()), f"a product is off by {error:.3g}")
    return {"error": error}


def _made(name: str, shape: Shape, options: Any, dtype: torch.dtype, device: Any) -> Inputs:
    return OPS[name].make(shape, options, dtype, device, torch.Generator().manual_seed(0))


def _run(function: Any, inputs: Inputs, dtype: torch.dtype | None = None) -> list[torch.Tensor]:
    return results_and_gradients(function, inputs, torch.Generator().manual_seed(1), dtype)


def _largest(x: torch.Tensor) -> float:
    return float(x.abs().max()) if x.numel() else 0.0


def small_cases(name: str, device: torch.device) -> dict[str, Any]:
    """A kernel forward and backward, with all options: no worse than the formula in its dtype."""
    op = OPS[name]
    worst: dict[str, float] = {}
    for dtype, options in itertools.product((torch.bfloat16, torch.float32), op.options):
        inputs = _made(name, op.check or op.tiny, options, dtype, device)
        formula = getattr(functional, name)
        truth, plain = _run(formula, inputs, torch.float64), _run(formula, inputs)
        for ours, theirs, true in zip(_run(op.function, inputs), plain, truth, strict=True):
            size = _largest(true)
            rounding = torch.finfo(theirs.dtype).eps * size + torch.finfo(torch.float32).eps * 4
            error, allowed = largest_error(ours, true), largest_error(theirs, true)
            allowed = 1.5 * allowed + 4 * rounding
            check(
                error <= allowed,
                f"{dtype} with {options}: an error of {error:.3g}, where {allowed:.3g} is allowed",
            )
            worst[str(dtype)] = max(worst.get(str(dtype), 0.0), error / allowed)
    return {"largest_share_of_what_is_allowed": worst}


def large_case(name: str, device: torch.device, shape: Shape) -> dict[str, Any]:
    """A kernel at a real model's shape, as training calls it: right, and twice the same bits."""
    dtype = torch.float32 if name == "adamw" else torch.bfloat16
    inputs = _made(name, shape, measured_options(name), dtype, device)
    found = _run(OPS[name].function, inputs)
    again = _run(OPS[name].function, inputs)
    check(all(map(torch.equal, found, again)), "two runs have other bits")
    del again
    errors = []
    for ours, true in zip(
        found, _run(getattr(functional, name), inputs, torch.float32), strict=True
    ):
        size = max(_largest(true), 1e-6)
        error = _largest(ours.float() - true.float()) / size
        check(error <= 0.02, f"an error of {error:.3g} of the largest value")
        errors.append(error)
    return {"shape": list(shape), "errors": errors}


def does_not_wait(name: str, device: torch.device) -> dict[str, Any]:
    """The host launches a kernel, forward and backward, and does not wait for the GPU."""
    inputs = copied(_made(name, OPS[name].tiny, measured_options(name), torch.float32, device))
    given = [inputs.tensors[i] for i in inputs.differentiable]

    def call() -> None:
        results = results_of(OPS[name].function, inputs)
        if given:
            torch.autograd.grad(results, given, [torch.ones_like(r) for r in results])

    call()  # compiles
    _without_waiting(device, call)
    return {}


def _without_waiting(device: torch.device, call: Callable[[], Any]) -> None:
    """Make a call in which it is an error to wait for a GPU."""
    if device.type != "cuda":
        call()
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        call()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def small_network(recipe: str, device: torch.device) -> TrainConfig:
    """A recipe at a size that takes milliseconds, in bfloat16 on a GPU."""
    small = {"vocab_size": 512, "context_length": 128, "n_layers": 4, "d_model": 256, "n_heads": 4}
    small |= {"d_ff": 768}
    batch = 16
    if device.type != "cuda":
        small |= {"vocab_size": 64, "context_length": 8, "n_layers": 1, "d_model": 16, "d_ff": 32}
        small["n_heads"], batch = 2, 2
    changes = {f"model.{name}": value for name, value in small.items()}
    changes |= {"batch_size": batch, "micro_batch": batch // 2, "compile": False}
    return replaced(load_recipe(recipe), {**changes, "bf16": device.type == "cuda"})


class Steps:
    """The training of a small network through a table of operations, not compiled."""

    def __init__(self, config: TrainConfig, ops: Ops, device: torch.device) -> None:
        dtype = torch.bfloat16 if config.bf16 else torch.float32
        self._trainer = Trainer(config, made_data(config), Setup(device, dtype, False, (), ops))
        self._stream = self._trainer.stream()
        self._taken = 0

    def take(self) -> torch.Tensor:
        """Take a step; returns its loss, on the device."""
        self._taken += 1
        progress = min(0.9, self._taken / N_STEPS)
        loss, _ = self._trainer.train_step(self._stream, stage=0, progress=progress)
        self._trainer.guard.take_unread()
        return loss


def all_kernels() -> Ops:
    """PyTorch's table with every Triton kernel that it has a place for."""
    return torch_ops._replace(**dict(kernels.OPS))


def steps_do_not_wait(recipe: str, device: torch.device) -> dict[str, Any]:
    """After the first steps, a training step never makes the host wait for the GPU."""
    steps = Steps(small_network(recipe, device), all_kernels(), device)
    for _ in range(3):
        steps.take()
    _without_waiting(device, steps.take)
    return {}


def kernels_train_as_pytorch(recipe: str, device: torch.device, n_steps: int) -> dict[str, Any]:
    """Steps through all Triton kernels have the losses of plain PyTorch's."""
    config, losses = small_network(recipe, device), {}
    for who, ops in (("pytorch", torch_ops), ("kernels", all_kernels())):
        steps = Steps(config, ops, device)
        losses[who] = torch.stack([steps.take() for _ in range(n_steps)]).float().tolist()
    plain, ours = torch.tensor(losses["pytorch"]), torch.tensor(losses["kernels"])
    apart = float(((ours - plain).abs() / plain).max())
    figures = {"largest_difference": apart, "first": losses["kernels"][0]}
    figures["last"] = losses["kernels"][-1]
    # Not `apart > tolerance`, which NaN is not.
    check(apart <= _LOSS_TOLERANCE, f"losses are apart by {apart:.3g}: {figures}")
    if n_steps >= N_STEPS:
        check(bool(plain[-1] < plain[0] - 0.5), f"plain PyTorch learns nothing: {losses}")
    return figures


def listed(
    device: torch.device, ops: list[str], n_steps: int, networks: tuple[str, ...] = NETWORKS
) -> dict[str, Callable[[], dict[str, Any]]]:
    """All checks by name, those first that tell most."""
    found: dict[str, Callable[[], dict[str, Any]]] = {"bfloat16": lambda: real_bfloat16(device)}
    found |= {f"{name}, small": partial(small_cases, name, device) for name in ops}
    for recipe in networks:
        what = f"{n_steps} steps of {recipe}"
        found[what] = partial(kernels_train_as_pytorch, recipe, device, n_steps)
        found[f"no waiting in a step of {recipe}"] = partial(steps_do_not_wait, recipe, device)
    found |= {f"{name}, no waiting": partial(does_not_wait, name, device) for name in ops}
    for name in ops:
        shape = LARGE.get(name, OPS[name].large[0]) if device.type == "cuda" else OPS[name].tiny
        found[f"{name}, large"] = partial(large_case, name, device, shape)
    return found


def is_lost(device: torch.device) -> bool:
    """Whether the GPU computes nothing any more in this process, as after an illegal access."""
    if device.type != "cuda":
        return False
    try:
        torch.zeros(1, device=device).add_(1).item()
    except RuntimeError:
        return True
    return False


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--ops", nargs="*", choices=list(OPS), metavar="NAME")
    parser.add_argument("--seconds", type=float, default=60.0, help="bound of each check")
    parser.add_argument("--try-on-cpu", action="store_true", help="tiny sizes, interpreted")
    arguments = parser.parse_args(argv)
    if not torch.cuda.is_available() and not arguments.try_on_cpu:
        parser.error("the checks need a CUDA device")
    device = torch.device("cpu" if arguments.try_on_cpu else "cuda")
    configure_cuda(bf16=False)  # float32 products in full, as the bounds expect
    print(describe(device).get("gpu", "CPU"), flush=True)
    order = dict.fromkeys((*FIRST, *OPS)) if arguments.ops is None else arguments.ops
    n_steps = 2 if arguments.try_on_cpu else N_STEPS
    try:
        rows = Rows(arguments.out)
    except ValueError as error:
        parser.error(str(error))
    warnings.simplefilter("ignore")
    for name, do in listed(device, list(order), n_steps).items():
        if rows.has_result(name, seconds=arguments.seconds):
            continue
        rows.work(name, do, seconds=arguments.seconds)
        gc.collect()
        if rows.rows[name]["state"] == FAILED and is_lost(device):
            print(f"the GPU is lost to this process after {name}", flush=True)
            return GPU_LOST  # a new process goes on
    print(f"{len(rows.rows) - len(rows.failed)} of {len(rows.rows)} are right", flush=True)
    return rows.exit_code()


if __name__ == "__main__":
    import signal

    signal.signal(signal.SIGTERM, exit_by_signal)
    sys.exit(main())
