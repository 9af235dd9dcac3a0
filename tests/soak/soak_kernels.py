"""Are the tests of kernels able to fail? Typical bugs, put into a copy one at a time, must be seen.

Run by `make soak`. Each names a file, what stands there, what a slip would leave, and the tests that
see it; -rA shows which did.
"""

import pytest
from kernel_training import OF_ONE_LAYER, losses_of_training
from mutations import Bug, check_is_seen

PARITY = "tests/kernels/test_kernels.py -k 'errors_are_those and {}'"

BUGS = {
    "wrong mask": Bug(
        "cross_entropy.py",
        'z = tl.where(in_row, z, -float("inf"))',
        "z = z",
        PARITY.format("cross_entropy-7x123"),
    ),
    "int32 offset": Bug(
        "rms_norm.py",
        "rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)",
        "rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)",
        "tests/kernels/test_kernels.py -k two_billion",
    ),
    "missing rows of the weight's gradient": Bug(
        "linear_cross_entropy.py",
        "        if dweight is not None:\n            _add_product",
        "        if dweight is not None and begin == 0:\n            _add_product",
        "tests/kernels/test_linear_cross_entropy.py -k chunks_give",
    ),
    "ignored row not written": Bug(
        "cross_entropy.py",
        "tl.store(loss_ptr + row, tl.where(is_counted, loss, 0.0))",
        "tl.store(loss_ptr + row, loss, is_counted)",
        "tests/kernels/test_kernels.py -k 'every_element and cross_entropy'",
    ),
    "wrong scale by the number of counted targets": Bug(
        "cross_entropy.py",
        "(targets != ignore_index).sum().clamp(min=1)",
        "max(targets.numel(), 1)",
        PARITY.format("cross_entropy-7x123-0"),
    ),
    "sum in bfloat16": Bug(
        "linear_cross_entropy.py",
        "hidden.new_empty(weight.shape if wants_dweight else (0,), dtype=sum_dtype(hidden))",
        "hidden.new_empty(weight.shape if wants_dweight else (0,))",
        "tests/kernels/test_linear_cross_entropy.py -k summed_in_float32",
    ),
    "block too few": Bug(
        "softmax.py",
        "for begin in range(0, n_columns, BLOCK):",
        "for begin in range(0, n_columns - BLOCK, BLOCK):",
        PARITY.format("softmax-2x16411"),
    ),
    "swapped sign of the rotation": Bug(
        "rope.py", "sin = -sin", "sin = sin", PARITY.format("rotate_pairs-3x33x64")
    ),
    "missing gradient of the residual": Bug(
        "rms_norm.py",
        "dx += dsum.to(ACCURATE)",
        "dx += 0 * dsum.to(ACCURATE)",
        PARITY.format("add_rms_norm-7x123"),
    ),
    "-inf minus -inf": Bug(
        "softmax.py",
        "highest = tl.full((), LOWEST, ACCURATE)",
        'highest = tl.full((), -float("inf"), ACCURATE)',
        "tests/kernels/test_kernels.py -k extreme_rows",
    ),
    "a query sees the next key": Bug(
        "attention.py",
        "return tl.minimum(row + (n_keys - n_queries), n_keys - 1)",
        "return tl.minimum(row + (n_keys - n_queries) + 1, n_keys - 1)",
        PARITY.format("attention-2x1x7x7x32"),
    ),
    "gradient of the scores without its mean": Bug(
        "attention.py",
        "dscores = (p * (dp - delta[:, None])).to(k.dtype)",
        "dscores = (p * dp).to(k.dtype)",
        PARITY.format("attention-2x1x7x7x32"),
    ),
    "decay after the step": Bug(
        "adamw.py",
        "param = param - tl.full((), decay, ACCURATE) * param - change",
        "param = (param - change) * (1 - tl.full((), decay, ACCURATE))",
        PARITY.format("adamw-1x7x1000"),
    ),
    "mirrored tile not written": Bug(
        "symmetric_product.py",
        "tl.store(y_ptr + above, tl.trans(y)",
        "tl.store(y_ptr + below, y, is_below) if 1 > 0 else tl.store(y_ptr + above, tl.trans(y)",
        "tests/kernels/test_kernels.py -k 'every_element and symmetric or errors_are_those and symmetric'",
    ),
}


@pytest.mark.interpreter
def test_200_steps_through_all_kernels_equal_the_reference():
    # At three times this rate two ways of plain PyTorch end 3e-4 apart: training makes roundings
    # grow.
    plain = losses_of_training("none", 200, "adamw", 3e-3, OF_ONE_LAYER)
    ours = losses_of_training("all", 200, "adamw", 3e-3, OF_ONE_LAYER)
    assert sum(plain[-10:]) / 10 < plain[0] - 1
    assert ours == pytest.approx(plain, rel=1e-4)


@pytest.mark.parametrize("name", BUGS)
def test_a_typical_bug_makes_a_test_fail(name, tmp_path):
    bug = BUGS[name]
    check_is_seen(name, bug._replace(file=f"kernels/{bug.file}"), tmp_path)
