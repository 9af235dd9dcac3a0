# mypy: allow-untyped-defs, allow-incomplete-defs
"""Compile every kernel ahead of time for real GPUs, on a machine without any.

    python bench/kernel_aot.py            print registers, spilled bytes and shared memory
    python bench/kernel_aot.py --check    and compare the table with that in kernels/README.md
    python bench/kernel_aot.py --write    and put it into kernels/README.md

Triton and ptxas compile each configuration that the operations launch (kernel_configurations.py)
for each architecture, and the code is searched for faults that make kernels slow or wrong. The exit
code is 1 if one is found.
"""

import argparse
import io
import json
import math
import multiprocessing
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.errors import TritonError
from triton.runtime import driver

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from kernel_configurations import (  # noqa: E402
    GPUS,
    SHARED_BYTES,
    Configuration,
    Pointer,
    launched,
)
from readme_tables import read_table, replace_table  # noqa: E402

from fastlm.cli.comma_lists import comma_separated  # noqa: E402
from kernels.cases import OPS, Op  # noqa: E402
from kernels.launch import INTERPRETED, Gpu  # noqa: E402

README = ROOT / "kernels" / "README.md"
TABLE = "resources"  # the table's name in README.md

# Kernels that have to load and store only a part of their tiles 16 bytes at a time, and why.
WIDE_PART: dict[str, tuple[float, str]] = {
    "adamw._update": (0.5, "a branch for the last chunk of a parameter, of any size"),
}
NOT_WGMMA: dict[str, str] = {}  # kernels that need not use Hopper's wgmma for products, and why


class Code(NamedTuple):
    """The machine code of a configuration.

    Attributes:
        loads, stores: number of global memory instructions by the bytes that each moves per thread.
        problems: faults found in the code, one sentence each.
    """

    registers: int
    spilled_bytes: int
    shared_bytes: int
    loads: dict[int, int]
    stores: dict[int, int]
    has_wgmma: bool
    problems: list[str]


class Driver:
    """Takes the place of Triton's driver and names one architecture as that of the device."""

    def __init__(self, architecture: int) -> None:
        self.architecture = architecture

    def get_current_device(self) -> int:
        return self.architecture

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.architecture, 32)


def _prepare(cache_dir: str) -> None:
    knobs.cache.dir = cache_dir
    knobs.compilation.always_compile = True  # ptxas reports nothing on code from the cache
    knobs.nvidia.dump_ptxas_log = True


def compiled(configuration: Configuration, architecture: int) -> Code:
    """Compile a configuration as a launch would, and inspect its code, after _prepare."""
    kernel = getattr(import_module(configuration.module), configuration.kernel)
    values = dict(configuration.constants + configuration.arguments)
    driver.set_active(Driver(architecture))
    report = io.StringIO()
    try:
        with redirect_stdout(report):
            made = kernel.warmup(
                *(values[parameter.name] for parameter in kernel.params),
                grid=(1,),
                **dict(configuration.options),
            )
    except (TritonError, RuntimeError) as error:
        return Code(0, 0, 0, {}, {}, False, ["does not compile: " + " ".join(str(error).split())])
    ttir, ptx = made.asm["ttir"], made.asm["ptx"]
    code = Code(
        registers=_number(r"Used (\d+) registers", report.getvalue()),
        spilled_bytes=_number(r"(\d+) bytes spill stores", report.getvalue()),
        shared_bytes=made.metadata.shared,
        loads=_accesses("ld", ptx),
        stores=_accesses("st", ptx),
        has_wgmma="wgmma.mma_async" in ptx,
        problems=[],
    )
    problems = _problems(configuration.name, architecture, code, ttir, ptx, made.metadata.num_warps)
    return code._replace(problems=problems)


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    assert found is not None, f"no {pattern} in the report of ptxas: {text}"
    return int(found[1])


def _accesses(kind: str, ptx: str) -> dict[int, int]:
    """Number of instructions that load ("ld") or store ("st"), by bytes moved per thread."""
    sizes: Counter[int] = Counter()
    for modifiers in re.findall(rf"\b{kind}\.global([.\w:]*)", ptx):
        vector, bits = re.search(r"\.v(\d)", modifiers), re.search(r"\.[bfsu](\d+)$", modifiers)
        assert bits is not None, modifiers
        sizes[(int(vector[1]) if vector else 1) * int(bits[1]) // 8] += 1
    if kind == "ld":
        sizes.update(
            int(size, 0) for size in re.findall(r"cp\.async\.c\w\.shared\.global[^;]*?, (\w+)", ptx)
        )
    return dict(sorted(sizes.items()))


def _wide_accesses(verb: str, ttir: str, n_warps: int) -> int:
    """Lower bound on 16-byte accesses per thread if all tiles but small ones are accessed so."""
    n_wide = 0
    for shape, kind in re.findall(
        rf"tt\.{verb} .*: (?:!tt\.ptr<)?tensor<([\dx]+)x(?:!tt\.ptr<)?([a-z]+\d+)", ttir
    ):
        bits = math.prod(int(n) for n in shape.split("x")) * int(re.sub(r"\D+", "", kind))
        n_wide += bits // (16 * 8 * 32 * n_warps)
    return n_wide


_HALF_ARITHMETIC = re.compile(
    r"(?:arith\.(?:add|sub|mul|div|rem|neg|maximum|minimum|maxnum|minnum)f|math\.\w+)\b.*f16\b"
)


def _problems(
    name: str, architecture: int, code: Code, ttir: str, ptx: str, n_warps: int
) -> list[str]:
    problems = []
    most = SHARED_BYTES[architecture]
    if code.spilled_bytes > 0:
        problems.append(f"{code.spilled_bytes} bytes spilled, with {code.registers} registers used")
    if code.shared_bytes > most:
        problems.append(f"{code.shared_bytes:,} bytes of shared memory, of {most:,}")
    for verb, sizes in (("load", code.loads), ("store", code.stores)):
        n_wide = sum(size // 16 * count for size, count in sizes.items())
        part, _ = WIDE_PART.get(name, (1.0, ""))
        n_needed = math.ceil(part * _wide_accesses(verb, ttir, n_warps))
        if n_wide < n_needed:
            problems.append(f"{n_wide} {verb}s of 16 bytes, {n_needed} are needed: {sizes}")
    if re.search(r"f64\b", ttir):
        problems.append("computes in float64")
    if half := _HALF_ARITHMETIC.search(ttir):
        problems.append(f"computes in 16 bits: {half[0]}")
    if re.search(r"\b(?:atom|red)\.\S*\.add\.\S*f(?:16|32|64)", ptx):
        problems.append("adds with atomics: the order, and so the sum, changes from run to run")
    has_product = re.search(r"tt\.dot\b.*f16> \* ", ttir)
    if architecture == 90 and has_product and not code.has_wgmma and name not in NOT_WGMMA:
        problems.append("has a product of 16-bit matrices, but no wgmma")
    return problems


def survey(
    ops: dict[str, Op], gpus: list[Gpu], n_jobs: int, *, one_shape: bool = False
) -> dict[str, Any]:
    """Compile all configurations that the operations launch on such GPUs.

    Args:
        n_jobs: number of processes.
        one_shape: as in kernel_configurations.launched.
    Returns:
        "triton", its version; "rows", one for each configuration, with the code on each
        architecture; "problems", a list of sentences for each operation.
    """
    uses = launched(ops, gpus, one_shape=one_shape)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["kernels.cases"])
    with (
        tempfile.TemporaryDirectory() as cache_dir,
        ProcessPoolExecutor(n_jobs, context, _prepare, (cache_dir,)) as pool,
    ):
        codes = pool.map(compiled, *zip(*uses, strict=True)) if uses else iter(())
        made = dict(zip(uses, codes, strict=True))
    problems: dict[str, list[str]] = {name: [] for name in ops}
    for (configuration, architecture), use in uses.items():
        for problem in made[configuration, architecture].problems:
            where = f"{configuration.name} ({_words(configuration)}) on sm_{architecture}"
            for name in use.ops:
                problems[name].append(f"{where}: {problem}")
    for name in ops:
        if not any(name in use.ops for use in uses.values()):
            problems[name].append("launches no kernel; is it registered by launch.operation?")
    rows = []
    for configuration in dict.fromkeys(configuration for configuration, _ in uses):
        of_each = {a: use for (c, a), use in uses.items() if c == configuration}
        rows.append(
            {
                "ops": sorted({name for use in of_each.values() for name in use.ops}),
                "kernel": configuration.name,
                "configuration": _words(configuration),
                "widths": sorted({width for use in of_each.values() for width in use.widths}),
                "code": {f"sm_{a}": made[configuration, a]._asdict() for a in of_each},
            }
        )
    return {"triton": triton.__version__, "rows": rows, "problems": problems}


def _words(configuration: Configuration) -> str:
    """The constants that distinguish configurations, such as BLOCK 1024, HAS_WEIGHT, 8 warps."""
    words = []
    for name, value in configuration.constants:
        if isinstance(value, bool):
            words += [name] if value else []
        elif isinstance(value, int):
            words.append(f"{name} {value}")
        elif isinstance(value, float) and value > 0:
            words.append(f"{name} {value:.6g}")
    dtypes = {str(a.dtype) for _, a in configuration.arguments if isinstance(a, Pointer)}
    if "torch.bfloat16" not in dtypes:
        words.append("float32")
    return ", ".join([*words, *(f"{v} {n.removeprefix('num_')}" for n, v in configuration.options)])


def table(report: dict[str, Any], architectures: list[str]) -> str:
    """Registers, spilled bytes and bytes of shared memory on each architecture, as Markdown."""
    lines = [["operation", "kernel", "widths", "compiled for", *architectures]]
    lines.append(["---"] * len(lines[0]))
    for row in report["rows"]:
        widths = ", ".join(f"{width:,}" for width in row["widths"])
        cells = [_cell(row["code"].get(name)) for name in architectures]
        if not any(cells):
            continue
        lines.append([", ".join(row["ops"]), row["kernel"], widths, row["configuration"], *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(code: dict[str, Any] | None) -> str:
    if code is None:
        return ""
    return f"{code['registers']}, {code['spilled_bytes']}, {code['shared_bytes']:,}"


def section(report: dict[str, Any]) -> str:
    """The text and table for kernels/README.md."""
    return (
        f"`python bench/kernel_aot.py --write` made this table with Triton {report['triton']}: "
        "registers and spilled\nbytes per thread and bytes of shared memory per program, on an "
        "H100 or H200.\n\n"
        f"{table(report, ['sm_90']).strip()}"
    )


def difference(report: dict[str, Any], shown: str) -> str | None:
    """The lines in which a shown table differs from the report; None if it agrees.

    A table made with another version of Triton is not compared: registers may differ.
    """
    if "with Triton " in shown and f"with Triton {report['triton']}:" not in shown:
        return None
    if shown == section(report):
        return None
    lines = sorted({*section(report).splitlines()} ^ {*shown.splitlines()})
    return "\n".join(
        ["kernels/README.md differs from what `python bench/kernel_aot.py --write` makes:", *lines]
    )


def _named(flag: str, text: str, known: Iterable[str]) -> list[str]:
    """The names that a flag lists; raises ValueError for one that is not known."""
    expected = f"some of {', '.join(known)}"
    names = comma_separated(flag, text, expected)
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"{flag} has no {unknown[0]!r}: expected {expected}")
    return names


def main(argv: list[str] | None = None) -> int:
    """The command line: compile, print the table, or compare it with README.md's."""
    parser = argparse.ArgumentParser(
        "python bench/kernel_aot.py", description="Compile every kernel for GPUs that are not here."
    )
    parser.add_argument("--ops", default=",".join(OPS), help="names of operations, comma-separated")
    parser.add_argument("--gpus", default=",".join(GPUS), help="names of GPUs, comma-separated")
    parser.add_argument("--one-shape", action="store_true", help="one shape of each operation")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="number of processes")
    parser.add_argument("--json", type=Path, help="file for the whole report")
    readme = parser.add_mutually_exclusive_group()
    readme.add_argument("--write", action="store_true", help="put the table into kernels/README.md")
    readme.add_argument("--check", action="store_true", help="compare the table with that in it")
    arguments = parser.parse_args(argv)
    try:
        names = _named("--ops", arguments.ops, OPS)
        gpus = _named("--gpus", arguments.gpus, GPUS)
    except ValueError as error:
        parser.error(str(error))
    if (arguments.write or arguments.check) and (set(names) != set(OPS) or arguments.one_shape):
        parser.error("the table has all operations and shapes: leave out --ops and --one-shape")
    if INTERPRETED:
        parser.error("Triton's interpreter compiles nothing: unset TRITON_INTERPRET")
    targets = [GPUS[name] for name in gpus]
    chosen = {name: OPS[name] for name in names}
    report = survey(chosen, targets, arguments.jobs, one_shape=arguments.one_shape)
    print(table(report, [f"sm_{gpu.architecture}" for gpu in targets]))
    wrong = list(dict.fromkeys(p for problems in report["problems"].values() for p in problems))
    if arguments.check:
        stale = difference(report, read_table(README, TABLE))
        wrong += [] if stale is None else [stale]
    if arguments.write:
        replace_table(README, TABLE, section(report))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=1), encoding="utf-8")
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
