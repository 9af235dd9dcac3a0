"""The command line of fastlm.data: a text to a folder of token files.

Level 3.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from fastlm import cli


def _prepare(
    corpus: Annotated[Path, tyro.conf.Positional],
    *,
    out: Path,
    vocab_size: int,
    tokenizer: Path | None = None,
    val_fraction: float = 0.01,
    threads: int | None = None,
) -> None:
    """Turn a text into train.bin, val.bin, meta.json and a tokenizer.

    Args:
        corpus: text file (.txt, .jsonl, compressed or not) or folder of them
        out: folder to make
        vocab_size: entries of the tokenizer, special token included
        tokenizer: folder of a tokenizer to use in place of training one
        val_fraction: share of the documents kept for validation if there is no valid file
        threads: of the tokenizer; all cores when not given
    """
    from fastlm.data import prepare

    prepare(
        corpus,
        out,
        vocab_size=vocab_size,
        tokenizer=tokenizer,
        val_fraction=val_fraction,
        n_threads=threads,
        report=lambda line: print(line, file=sys.stderr),
    )
    print(f"next: python -m fastlm.train --data {out} --compile --bf16", file=sys.stderr)


ARGUMENTS = {"prepare": _prepare}


def main(argv: Sequence[str] | None = None) -> None:
    """The command line of fastlm.data."""
    cli.run_command(
        ARGUMENTS, argv, prog=cli.program("data"), description="Token files for training."
    )
