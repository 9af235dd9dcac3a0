"""Every kernel compiles well for real GPUs: compiled without one, by bench/kernel_aot.py."""

import json
import re
from pathlib import Path

import kernel_aot as aot
import pytest
from compiled_kernels import check_compiles_well, python

from kernels.cases import OPS

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
FAULTS = {
    "good": None,
    "in_place": None,
    "product": None,
    "spill": "bytes spilled",
    "shared": "bytes of shared memory, of 232,448",
    "float64": "computes in float64",
    "half": "computes in 16 bits: arith.addf",
    "not_aligned": "0 loads of 16 bytes, 1 are needed",
    "odd_end": "0 stores of 16 bytes, 1 are needed",
    "atomic": "adds with atomics",
    "narrow_product": "no wgmma",
    "no_kernel": "does not compile: .*a block of 8 at most",
    "nothing": "launches no kernel",
}


@pytest.fixture(scope="session")
def report(tmp_path_factory):
    path = tmp_path_factory.mktemp("aot") / "report.json"
    done = python("bench/kernel_aot.py", "--gpus", "H100", "--one-shape", "--json", str(path))
    assert done.returncode in (0, 1), done.stderr
    return json.loads(path.read_text()) | {"exit code": done.returncode}


@pytest.mark.parametrize("name", OPS)
def test_all_that_an_operation_launches_compiles_well(name, report):
    """soak_kernels.py compiles for all shapes of real models, for other GPUs too."""
    check_compiles_well(report, name, {"sm_90"})


def test_a_table_that_is_not_true_is_found(report):
    shown = aot.section(report)
    without_a_row = report | {"rows": report["rows"][1:]}
    assert aot.difference(report, shown) is None
    assert shown.splitlines()[5] in aot.difference(without_a_row, shown)
    assert aot.difference(without_a_row | {"triton": "0.0"}, shown) is None
    assert aot.difference(report, "") is not None


@pytest.fixture(scope="session")
def faults():
    program = (
        "import json, bad_kernels, kernel_aot\n"
        "gpus = [kernel_aot.GPUS['H100']]\n"
        "print(json.dumps(kernel_aot.survey(bad_kernels.OPS, gpus, 2)['problems']))"
    )
    done = python("-c", program)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_found(name, faults):
    fault = FAULTS[name]
    if fault is None:
        assert faults[name] == []
    else:
        assert any(re.search(fault, problem) for problem in faults[name])


def test_no_fault_is_left_out(faults):
    assert set(faults) == set(FAULTS)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--ops", "softmaxx"], "--ops has no 'softmaxx': expected some of softmax, "),
        (["--gpus", "H100,V100"], "--gpus has no 'V100': expected some of A100, H100, B200"),
        (["--ops", " softmax , ,"], "--ops takes some of softmax, "),
        (["--gpus", "H100,"], "--gpus takes some of A100, "),
        (["--ops", " softmax ", "--check"], "leave out --ops and --one-shape"),
        (["--one-shape", "--write"], "the table has all operations and shapes"),
        ([], "unset TRITON_INTERPRET"),
    ],
)
def test_what_cannot_be_done_is_refused(words, message, monkeypatch, capsys):
    monkeypatch.setattr(aot, "INTERPRETED", True)
    with pytest.raises(SystemExit, match="2"):
        aot.main(words)
    assert message in capsys.readouterr().err
