"""Which operations a model is given: by name, by themselves, and plainly refused."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import kernels
from fastlm import functional
from fastlm.ops import Ops, load_ops, reference_ops, torch_ops
from kernels.cases import OPS
from kernels.launch import INTERPRETED

ROOT = Path(__file__).resolve().parent.parent
HERE = "cpu" if INTERPRETED else "cuda"


@pytest.mark.parametrize("name", sorted({*kernels.OPS, *OPS}))
def test_a_kernel_is_called_as_its_reference_is(name):
    ours = inspect.signature(kernels.OPS[name] if name in kernels.OPS else OPS[name].function)
    reference = inspect.signature(getattr(functional, name))
    assert list(ours.parameters) == list(reference.parameters)
    for mine, its in zip(ours.parameters.values(), reference.parameters.values(), strict=True):
        assert (mine.kind, mine.default) == (its.kind, its.default)


def test_what_a_model_may_be_given_has_a_case_and_a_place_in_the_table():
    assert set(kernels.OPS) <= set(OPS)
    assert set(kernels.OPS) <= set(Ops._fields)
    for name, function in reference_ops._asdict().items():
        assert function is getattr(functional, name)


def test_names_are_taken_and_no_others():
    table = load_ops("rms_norm,relu2", HERE)
    assert table == torch_ops._replace(rms_norm=kernels.OPS["rms_norm"], relu2=kernels.OPS["relu2"])
    assert load_ops("none") is torch_ops
    assert load_ops("all", HERE) == torch_ops._replace(**kernels.OPS)


def test_by_itself_kernels_are_taken_on_a_gpu_alone(monkeypatch):
    monkeypatch.setattr(kernels, "AUTO", ("rms_norm",))
    assert load_ops("auto", "cpu") is torch_ops
    assert load_ops("auto", "cuda") == torch_ops._replace(rms_norm=kernels.OPS["rms_norm"])


def test_a_name_that_no_kernel_has_is_refused():
    with pytest.raises(ValueError, match=r"no Triton op is called 'fast': expected auto.*rms_norm"):
        load_ops("rms_norm,fast", HERE)


@pytest.mark.interpreter
def test_a_gpu_under_the_interpreter_is_refused():
    with pytest.raises(ValueError, match="TRITON_INTERPRET=1, which runs kernels on the CPU"):
        load_ops("rms_norm", "cuda")


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=environment.pop("cwd", str(ROOT)),
        env={"PATH": "/usr/bin:/bin", **environment},
    )


def test_kernels_without_a_gpu_are_refused_before_anything_is_done():
    code = "from fastlm.ops import load_ops; load_ops('rms_norm', 'cpu')"
    result = run_python(code)
    assert "needs a CUDA device: got cpu; use --triton-ops none, or set TRITON" in result.stderr


HIDDEN = "import sys; sys.modules['triton'] = None\n"


def test_without_triton_everything_else_works():
    code = HIDDEN + (
        "from fastlm.ops import load_ops, torch_ops\n"
        "assert load_ops('none') is torch_ops is load_ops('auto') is load_ops('auto', 'cuda')\n"
        "load_ops('rms_norm', 'cuda')"
    )
    result = run_python(code)
    assert "needs fastlm's own package kernels, and Triton" in result.stderr
    assert "ValueError" in result.stderr.splitlines()[-1]


def test_another_package_called_kernels_is_told_from_ours(tmp_path):
    """One of that name is on PyPI."""
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "__init__.py").write_text("")
    code = "from fastlm.ops import load_ops; load_ops('rms_norm', 'cuda')"
    result = run_python(code, PYTHONPATH=f"{tmp_path}:{ROOT}", cwd=str(tmp_path))
    assert "needs fastlm's own package kernels" in result.stderr
