"""Kernels compile with numba's short pipeline, and without it where numba lacks one of its names."""

import importlib.util
import sys
import tomllib
from pathlib import Path

import numba
import pytest
from numba.core import base, compiler_machinery
from numba.core import compiler as numba_compiler
from without_a_name import check_without_a_name

from fastlm.tokenizer.bpe import build, pipeline

ROOT = Path(__file__).resolve().parents[2]
NAMES = [
    (base.BaseContext, "active_code_library"),
    (base.BaseContext, "call_internal"),
    (numba_compiler, "CompilerBase"),
    (numba_compiler.CompilerBase, "compile_extra"),
    (numba_compiler, "Flags"),
    *((numba_compiler.Flags, name) for name in pipeline._FLAGS),
    (compiler_machinery, "PassManager"),
    (compiler_machinery.PassManager, "add_pass"),
    (compiler_machinery.PassManager, "finalize"),
    *((sys.modules[step.__module__], step.__name__) for step in pipeline._PASSES),
]


def import_pipeline_afresh() -> None:
    spec = importlib.util.spec_from_file_location("pipeline_afresh", pipeline.__file__)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


@pytest.mark.parametrize(("owner", "name"), NAMES, ids=[name for _, name in NAMES])
def test_a_numba_without_one_of_the_names_is_noticed_on_import(owner, name, monkeypatch):
    import_pipeline_afresh()
    monkeypatch.delattr(owner, name)
    with pytest.raises((ImportError, AttributeError), match=name):
        import_pipeline_afresh()


def test_a_compiler_that_takes_other_arguments_is_noticed_on_import(monkeypatch):
    def init(self, typing_context, target_context, library):
        raise NotImplementedError

    monkeypatch.setattr(numba_compiler.CompilerBase, "__init__", init)
    with pytest.raises(TypeError):
        import_pipeline_afresh()


def test_this_numba_has_all_names():
    assert build._has_pipeline
    assert build._options["pipeline_class"] is pipeline.ShortCompiler


def test_the_versions_named_are_those_of_the_package():
    with open(ROOT / "pyproject.toml", "rb") as file:
        wanted = tomllib.load(file)["project"]["dependencies"]
    assert build.NUMBA_VERSIONS in wanted


@pytest.mark.slow
def test_without_a_name_counts_are_equal_and_one_warning_says_so():
    """soak_tokenizer.py learns, encodes and decodes so as well."""
    warning = check_without_a_name("count")
    assert "\n" not in warning
    for part in (
        numba.__version__,
        "'PreLowerStripPhis'",
        "three times as long",
        build.NUMBA_VERSIONS,
    ):
        assert part in warning
