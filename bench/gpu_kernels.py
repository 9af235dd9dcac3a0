"""Measure every kernel beside eager, compiled and other libraries' code, in one run on one GPU.

    python bench/gpu_kernels.py              measure, and write bench/results/GPU_DATE.json
    python bench/gpu_kernels.py --write      and put the table into kernels/README.md
    python bench/gpu_kernels.py --ops softmax rms_norm --out FILE   add a part to FILE

A case in the file is not measured again. Each direction of each shape is timed separately, except
for the linear layer with its loss, whose forward pass computes gradients: it is timed as a whole.
Last come the training steps of two recipes, with each kernel in turn.
"""

import argparse
import datetime
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
# Triton reads this when its kernels are decorated: before any import of them.
if "--try-on-cpu" in sys.argv:
    os.environ["TRITON_INTERPRET"] = "1"
elif not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

from kernel_peers import contenders, measured_options  # noqa: E402
from kernel_step import steps_to_time, time_step  # noqa: E402
from kernel_timing import Timing, copy_gb_per_second, interleaved, matrix_tflops  # noqa: E402
from readme_tables import replace_table  # noqa: E402

from fastlm.devices.hardware import configure_cuda, describe  # noqa: E402
from fastlm.files import disk  # noqa: E402
from fastlm.files.json_files import read_object, to_json  # noqa: E402
from kernels.calls import copied, results_of  # noqa: E402
from kernels.cases import OPS, Inputs, Shape  # noqa: E402

WHOLE = {"linear_cross_entropy"}  # timed forward and backward together


def dtype_of(name: str) -> torch.dtype:
    """The dtype to measure: float32 for parameters, bfloat16 for everything else."""
    return torch.float32 if name == "adamw" else torch.bfloat16


def directions(name: str, inputs: Inputs) -> tuple[str, ...]:
    """The directions to time: "forward", "backward" or "both"."""
    if name in WHOLE:
        return ("both",)
    return ("forward", "backward") if inputs.differentiable else ("forward",)


def call_of(function: Callable[..., Any], inputs: Inputs, direction: str) -> Callable[[], object]:
    """A call that computes that direction on its own copy of the inputs."""
    inputs = copied(inputs)
    given = [inputs.tensors[i] for i in inputs.differentiable]

    def forward() -> list[torch.Tensor]:
        return results_of(function, inputs)

    if direction == "forward":
        return forward
    results = [r for r in forward() if r.requires_grad]
    incoming = [torch.randn_like(r) for r in results]

    def backward() -> object:
        return torch.autograd.grad(results, given, incoming, retain_graph=True)

    def both() -> object:
        return torch.autograd.grad([r for r in forward() if r.requires_grad], given, incoming)

    return backward if direction == "backward" else both


class Refused(Exception):
    """A peer cannot compute a case; the message is the first line of its error."""


def first_call(
    who: str, function: Callable[..., Any], inputs: Inputs, direction: str
) -> Callable[[], object]:
    """A call that computes that direction, which has been made once.

    Raises:
        Refused: if a peer raises. An error of our kernel is raised as it is, and so is a TypeError
            of a peer, which is then called with arguments that it does not take.
    """
    try:
        call = call_of(function, inputs, direction)
        call()
    except Exception as error:
        if who == "fastlm" or isinstance(error, TypeError):
            raise
        raise Refused(f"{type(error).__name__}: {error}".splitlines()[0][:200]) from error
    return call


def measure_case(name: str, shape: Shape, device: torch.device) -> list[dict[str, Any]]:
    """A row for each direction and contender, with figures, or with an error if it fails."""
    op, dtype, options = OPS[name], dtype_of(name), measured_options(name)
    inputs = op.make(shape, options, dtype, device, torch.Generator().manual_seed(0))
    moved, flops = op.bytes_moved(shape, dtype.itemsize), op.flops(shape, options)
    rows = []
    for direction in directions(name, inputs):
        calls, failed = {}, {}
        for who, function in contenders(name).items():
            try:
                calls[who] = first_call(who, function, inputs, direction)
            except Refused as refused:
                failed[who] = str(refused)
        which = 1 if direction == "backward" else 0
        for who, timing in interleaved(calls, device).items():
            rows.append(
                {
                    "op": name,
                    "shape": list(shape),
                    "dtype": str(dtype).removeprefix("torch."),
                    "options": options,
                    "direction": direction,
                    "contender": who,
                    **figures(timing, moved[which], flops[which]),
                }
            )
        rows += [
            {"op": name, "shape": list(shape), "direction": direction, "contender": who, "error": e}
            for who, e in failed.items()
        ]
    return rows


def cases_of(names: list[str], *, tiny: bool) -> list[tuple[str, Shape]]:
    """(operation, shape) to measure: the first shape of each operation, then the second ..."""
    shapes = {name: (OPS[name].tiny,) if tiny else OPS[name].large for name in names}
    most = max(map(len, shapes.values()), default=0)
    return [(name, of[i]) for i in range(most) for name, of in shapes.items() if i < len(of)]


def figures(timing: Timing, n_bytes: int, flops: int) -> dict[str, Any]:
    """A timing with bytes and FLOPs per second."""
    found = timing._asdict() | {"bytes_moved": n_bytes, "flops": flops}
    found["gb_per_second"] = n_bytes / timing.median_ms / 1e6
    if flops > 0:
        found["tflops"] = flops / timing.median_ms / 1e9
    return found


def table(record: dict[str, Any]) -> str:
    """Times of all contenders as Markdown, one line for each case and direction."""
    others = [
        who for who in dict.fromkeys(r["contender"] for r in record["rows"]) if who != "fastlm"
    ]
    lines = [
        f"{chip(record['machine'])}, {record['date']}. Times in ms; attention is causal.",
        (
            f"Limits: copies {record['copy_gb_per_second']:,.0f} GB/s, matrix products in bfloat16 "
            f"{record['matrix_tflops']:,.0f} TFLOP/s."
        ),
        "A star: the GPU may have waited for the host, whose time is in the figure.",
        "",
        f"| operation | shape | direction | fastlm | rate | of the limit | {' | '.join(others)} |",
        f"|{' --- |' * (6 + len(others))}",
    ]
    cases: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = {}
    for row in record["rows"]:
        key = (row["op"], tuple(row["shape"]), row["direction"])
        cases.setdefault(key, {})[row["contender"]] = row
    for (name, shape, direction), by in cases.items():
        ours = by["fastlm"]
        if "tflops" in ours:
            rate, limit = f"{ours['tflops']:.0f} TFLOP/s", record["matrix_tflops"]
            share = ours["tflops"] / limit
        else:
            rate = f"{ours['gb_per_second']:,.0f} GB/s"
            share = ours["gb_per_second"] / record["copy_gb_per_second"]
        theirs = (_ms(by[who]) if "median_ms" in by.get(who, {}) else "" for who in others)
        lines.append(
            f"| {name} | {' x '.join(map(str, shape))} | {direction} | {_ms(ours)} | "
            f"{rate} | {share:.0%} | {' | '.join(theirs)} |"
        )
    if record["training_steps"]:
        lines += [
            "",
            "| recipe | kernel | ms per training step | share of the step without kernels |",
            "| --- | --- | --- | --- |",
        ]
    for row in record["training_steps"]:
        share = row["ms"] / row["ms_without"]
        lines.append(f"| {row['recipe']} | {row['kernel']} | {row['ms']:.2f} | {share:.3f} |")
    return "\n".join(lines)


def _ms(row: dict[str, Any]) -> str:
    """Milliseconds, with a star if the GPU may have waited for the host in most rounds."""
    is_host_bound = 2 * row.get("n_host_bound", 0) > row["n_rounds"]
    return f"{row['median_ms']:.3f}{'*' if is_host_bound else ''}"


def start_record(device: torch.device) -> dict[str, Any]:
    """A record with the machine and its limits, without any case."""
    n_bytes = 2 << 30 if device.type == "cuda" else 1 << 20
    return {
        "date": datetime.date.today().isoformat(),
        "machine": describe(device),
        "copy_gb_per_second": copy_gb_per_second(device, n_bytes),
        "matrix_tflops": matrix_tflops(device, 8192 if device.type == "cuda" else 64),
        "rows": [],
        "training_steps": [],
    }


def chip(machine: dict[str, Any]) -> str:
    """Name of the GPU that computes, or of the CPU."""
    return str(machine.get("gpu", machine["cpu"]))


def default_path(machine: dict[str, Any], date: str) -> Path:
    """bench/results/GPU_DATE.json."""
    name = re.sub(r"[^a-z0-9]+", "-", chip(machine).lower()).strip("-")
    return ROOT / "bench" / "results" / f"{name}_{date}.json"


def open_record(path: Path, device: torch.device) -> dict[str, Any]:
    """The record in a file, to which rows are added, or a new one.

    Raises:
        ValueError: if the file is no record, or its rows are of another machine.
    """
    if not path.exists():
        return start_record(device)
    record = read_object(path)
    if not _is_record(record):
        raise ValueError(f"{path} is no record of this program: move it away or give another --out")
    there, here = chip(record["machine"]), chip(describe(device))
    if there != here:
        raise ValueError(f"{path} was measured on {there}, this is {here}: give another --out")
    return record


def _is_record(values: dict[str, Any]) -> bool:
    machine, rows, steps = (values.get(n) for n in ("machine", "rows", "training_steps"))
    if not (isinstance(machine, dict) and isinstance(rows, list) and isinstance(steps, list)):
        return False
    return bool({"gpu", "cpu"} & set(machine)) and all(
        isinstance(row, dict) and keys <= set(row)
        for some, keys in ((rows, {"op", "shape"}), (steps, {"recipe", "kernel"}))
        for row in some
    )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--ops", nargs="*", default=list(OPS), choices=list(OPS), metavar="NAME")
    parser.add_argument("--out", type=Path, help="default: bench/results/GPU_DATE.json")
    parser.add_argument("--write", action="store_true", help="put the table into kernels/README.md")
    parser.add_argument(
        "--try-on-cpu",
        action="store_true",
        help="run the smallest shapes in the interpreter: tests this program, measures no speed",
    )
    arguments = parser.parse_args(argv)
    if not torch.cuda.is_available() and not arguments.try_on_cpu:
        parser.error(
            "times need a CUDA device: without one, registers and shared memory are printed by "
            "python bench/kernel_aot.py"
        )
    device = torch.device("cpu" if arguments.try_on_cpu else "cuda")
    if arguments.try_on_cpu and (arguments.out is None or arguments.write):
        parser.error("--try-on-cpu needs --out and no --write: its times are not measurements")
    configure_cuda(bf16=True)  # as a training run does
    path = arguments.out
    if path is None:
        path = default_path(describe(device), datetime.date.today().isoformat())
    try:
        record = open_record(path, device)
    except ValueError as error:
        parser.error(str(error))

    def keep() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        disk.write_file(path, to_json(record, indent=1), replace=True)

    done = {(row["op"], tuple(row["shape"])) for row in record["rows"]}
    for name, shape in cases_of(arguments.ops, tiny=arguments.try_on_cpu):
        if (name, shape) in done:
            continue
        record["rows"] += measure_case(name, shape, device)
        keep()
        print(f"{name} {shape}", flush=True)
    steps = record["training_steps"]
    for recipe, kernel in steps_to_time(arguments.ops):
        if (recipe, kernel) in {(row["recipe"], row["kernel"]) for row in steps}:
            continue
        steps.append(time_step(recipe, kernel, device)._asdict())
        keep()
        print(f"step of {recipe} with {kernel}", flush=True)
    print(table(record))
    if arguments.write:
        replace_table(ROOT / "kernels" / "README.md", "times", table(record))


if __name__ == "__main__":
    main()
