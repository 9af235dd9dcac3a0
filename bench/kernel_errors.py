"""Measure the errors of each kernel, beside those of plain PyTorch in the same dtype.

    python bench/kernel_errors.py            print the table
    python bench/kernel_errors.py --write    and put it into kernels/README.md

Each case of kernels/cases.py, forward and backward, is compared with the formula of
fastlm/functional.py in float64. Without a GPU the kernels run in Triton's interpreter.
"""

import argparse
import math
import os
import sys
from pathlib import Path
from typing import NamedTuple

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

from readme_tables import replace_table  # noqa: E402

from fastlm import functional  # noqa: E402
from kernels.calls import largest_error, results_and_gradients  # noqa: E402
from kernels.cases import OPS  # noqa: E402


class Row(NamedTuple):
    """Number of cases of an operation and dtype, and worst errors relative to the largest value."""

    name: str
    dtype: torch.dtype
    n_cases: int
    ours: float
    plain: float


def n_cases(name: str) -> int:
    """Number of small shapes times number of options."""
    return len(OPS[name].small) * len(OPS[name].options)


def worst(name: str, dtype: torch.dtype, device: torch.device) -> Row:
    """The worst error over all cases, relative to the largest value of the result or gradient."""
    op, ours, plain = OPS[name], [0.0], [0.0]
    truth_function = getattr(functional, name)
    for shape in op.small:
        for options in op.options:
            inputs = op.make(shape, options, dtype, device, torch.Generator().manual_seed(0))
            truth, found, same = (
                results_and_gradients(f, inputs, torch.Generator().manual_seed(1), to)
                for f, to in (
                    (truth_function, torch.float64),
                    (op.function, None),
                    (truth_function, None),
                )
            )
            for true, mine, its in zip(truth, found, same, strict=True):
                # If all values are below 1, the error is absolute: a gradient may be 0.
                size = max(float(true.abs().max()) if true.numel() > 0 else 1.0, 1.0)
                ours.append(largest_error(mine, true) / size)
                plain.append(largest_error(its, true) / size)
    return Row(name, dtype, n_cases(name), largest(ours), largest(plain))


def largest(errors: list[float]) -> float:
    """The largest error; NaN if one of them is NaN, which max() would pass over."""
    return math.nan if any(map(math.isnan, errors)) else max(errors)


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| operation | dtype | cases | worst error | of plain PyTorch |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        dtype = str(row.dtype).removeprefix("torch.")
        lines.append(f"| {row.name} | {dtype} | {row.n_cases} | {row.ours:.1e} | {row.plain:.1e} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ops", nargs="*", default=list(OPS), choices=list(OPS), metavar="NAME")
    parser.add_argument("--write", action="store_true", help="put the table into kernels/README.md")
    arguments = parser.parse_args()
    if arguments.write and set(arguments.ops) != set(OPS):
        parser.error("--write needs the rows of all operations: leave out --ops")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = [worst(name, dtype, device) for name in arguments.ops for dtype in OPS[name].dtypes]
    text = table(rows)
    print(text)
    if arguments.write:
        replace_table(ROOT / "kernels" / "README.md", "errors", text)


if __name__ == "__main__":
    main()
