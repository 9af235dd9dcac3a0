"""Kernels compile with numba's short pipeline, and without it where numba lacks one of its names."""

import importlib.util
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numba
import pytest
from numba.core import base, compiler_machinery
from numba.core import compiler as numba_compiler

from fastlm.tokenizer.bpe import compiler, pipeline

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
    assert compiler._has_pipeline
    assert compiler._options["pipeline_class"] is pipeline.ShortCompiler


def test_the_versions_named_are_those_of_the_package():
    with open(ROOT / "pyproject.toml", "rb") as file:
        wanted = tomllib.load(file)["project"]["dependencies"]
    assert compiler._NUMBA_VERSIONS in wanted


# A name is hidden only while ours are imported, because numba itself needs it to compile.
WITHOUT_A_NAME = """
import json, warnings
from itertools import pairwise
from numba.core import typed_passes

text = "the theatre's quick foxes, 中文 and é\\u3000é; we'll  see<s>it's\\n\\nthe end" + "ab" * 70
words = " ".join(f"w{number * 2654435761 % 99991:x}" for number in range(6000))

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    hidden = typed_passes.PreLowerStripPhis
    del typed_passes.PreLowerStripPhis
    from fastlm.tokenizer.bpe import compiler, count, lazy_encoder, merge, reference, token_bytes
    typed_passes.PreLowerStripPhis = hidden
    from fastlm.tokenizer import Tokenizer

    lazy_encoder.SMALL_CHARACTERS, token_bytes.KERNEL_TOKENS = -1, 1
    counter = count.WordCounter([b"<s>"])
    counter.add(text.encode())
    merges = merge.learn_merges(counter.words(), 60)
    counter.add(words.encode())
    tokens = [bytes([byte]) for byte in range(256)] + [a + b for a, b in merges]
    tokenizer = Tokenizer(dict(enumerate(tokens)), merges, ["<s>"])
    ids = tokenizer.encode(text + words)
    decoded = tokenizer.decode(ids)

counted = counter.words()
pieces = [counted.text[a:b].tobytes() for a, b in pairwise(counted.bounds.tolist())]
expected = {}
for piece in [*text.split("<s>"), words]:
    for word in reference.pretokenize(piece):
        expected[word] = expected.get(word, 0) + 1
print(json.dumps({
    "warnings": [str(warning.message) for warning in caught],
    "is_short": compiler._has_pipeline,
    "n_ids": len(ids),
    "counts": dict(zip(pieces, counted.counts.tolist())) == expected,
    "merges": merges == reference.learn_merges([text], 60, ["<s>"]),
    "ids": [tokenizer.vocab[i] for i in ids] == reference.encode(text + words, merges, ["<s>"]),
    "text": decoded == text + words,
}))
"""


@pytest.mark.slow
def test_without_a_name_results_are_equal_and_one_warning_says_so(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_A_NAME],
        env=os.environ | {"PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert not found["is_short"]
    assert found["n_ids"] > 6000
    assert [found[key] for key in ("counts", "merges", "ids", "text")] == [True] * 4
    (warning,) = found["warnings"]
    assert "\n" not in warning
    for part in (numba.__version__, "'PreLowerStripPhis'", "15 s", compiler._NUMBA_VERSIONS):
        assert part in warning
