"""python without_a_name.py all|count: kernels where numba lacks a private name that ours use.

Prints as JSON what warned, and whether the kernels' results are those of the plain functions.
"""

import importlib
import json
import os
import subprocess
import sys
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

from fastlm.tokenizer.bpe import compiler, machine_code, words

ROOT = Path(__file__).resolve().parents[2]
TEXT = "the theatre's quick foxes, 中文 and é\u3000é; we'll  see<s>it's\n\nthe end" + "ab" * 70
WORDS = " ".join(f"w{number * 2654435761 % 99991:x}" for number in range(6000))
MODULES = ("build", "count", "lazy_encoder", "merge", "reference", "token_bytes")


def import_without_a_name() -> list[Any]:
    """Import our modules; the name is hidden only meanwhile, because numba needs it to compile."""
    from numba.core import typed_passes

    hidden = typed_passes.PreLowerStripPhis
    del typed_passes.PreLowerStripPhis
    modules = [importlib.import_module(f"fastlm.tokenizer.bpe.{name}") for name in MODULES]
    typed_passes.PreLowerStripPhis = hidden
    return modules


def results(*, all_kernels: bool) -> dict[str, Any]:
    build, count, lazy_encoder, merge, reference, token_bytes = import_without_a_name()
    if not all_kernels:  # the others take long to compile
        build.import_all = lambda: None
        compiler.KERNELS[:] = [k for k in compiler.KERNELS if k.__module__ == count.__name__]
        compiler.KERNELS.append(words.list_words)
    machine_code._loaded.append(machine_code._load(*machine_code.build()))
    counter = count.WordCounter([b"<s>"])
    counter.add(TEXT.encode())
    of_text = counter.words()
    counter.add(WORDS.encode())
    counted = counter.words()
    pieces = [counted.text[a:b].tobytes() for a, b in pairwise(counted.bounds.tolist())]
    expected: dict[bytes, int] = {}
    for piece in [*TEXT.split("<s>"), WORDS]:
        for word in reference.pretokenize(piece):
            expected[word] = expected.get(word, 0) + 1
    found = {
        "is_short": build._has_pipeline,
        "counts": dict(zip(pieces, counted.counts.tolist(), strict=True)) == expected,
    }
    if not all_kernels:
        return found
    from fastlm.tokenizer import Tokenizer

    lazy_encoder.SMALL_CHARACTERS, token_bytes.KERNEL_TOKENS = -1, 1
    merges = merge.learn_merges(of_text, 60)
    tokens = [bytes([byte]) for byte in range(256)] + [a + b for a, b in merges]
    tokenizer = Tokenizer(dict(enumerate(tokens)), merges, ["<s>"])
    ids = tokenizer.encode(TEXT + WORDS)
    return found | {
        "has_ids": len(ids) > 6000,
        "merges": merges == reference.learn_merges([TEXT], 60, ["<s>"]),
        "ids": [tokenizer.vocab[i] for i in ids] == reference.encode(TEXT + WORDS, merges, ["<s>"]),
        "text": tokenizer.decode(ids) == TEXT + WORDS,
    }


def check_without_a_name(kernels: str) -> str:
    """Run this program, check its results, return the one warning."""
    done = subprocess.run(
        [sys.executable, __file__, kernels],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    (warning,) = found.pop("warnings")
    assert not found.pop("is_short")
    assert len(found) == (5 if kernels == "all" else 1)
    assert all(found.values()), found
    return str(warning)


def main() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = results(all_kernels=sys.argv[1] == "all")
    print(json.dumps({"warnings": [str(warning.message) for warning in caught], **found}))


if __name__ == "__main__":
    main()
