"""The command line of fastlm.data, which turns a text into a folder of token files."""

from fastlm.cli import interrupts

if __name__ == "__main__":
    interrupts.exit_on_interrupt()

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from fastlm import cli
from fastlm.data.spool import STANDARD_INPUT, Format


def _prepare(
    corpus: Annotated[tuple[Path, ...], tyro.conf.Positional],
    *,
    out: Path,
    vocab_size: int | None = None,
    tokenizer: Path | None = None,
    val_fraction: float = 0.01,
    threads: int | None = None,
    text_field: str = "text",
    shard_tokens: int | None = None,
    format: Format | None = None,
    errors: Literal["strict", "replace"] = "strict",
    allow_end_of_text: bool = False,
    overwrite: bool = False,
) -> None:
    """Turn texts into train.bin, val.bin, meta.json and a tokenizer.

    Args:
        corpus: text files (.txt, .jsonl, compressed or not, .parquet), folders of them, quoted
            patterns such as 'texts/*.jsonl.gz', or - for standard input
        out: folder to make
        vocab_size: entries of the tokenizer to train, special token included
        tokenizer: folder of a tokenizer to use in place of training one
        val_fraction: share of the documents kept for validation if no name says validation
        threads: threads that train the tokenizer and encode; all cores when not given
        text_field: field of .jsonl files and column of .parquet files that holds the text
        shard_tokens: write files of at most so many tokens, train-00000.bin and on
        format: format of standard input, which may be compressed; txt when not given
        errors: strict refuses invalid UTF-8, replace reads it as U+FFFD
        allow_end_of_text: <|endoftext|> in a field or column separates documents, as in .txt files
        overwrite: replace data in --out that was prepared from other texts or otherwise
    """
    if not corpus:
        raise ValueError("expected at least one text to prepare, or - for standard input: got none")
    if format is not None and STANDARD_INPUT not in corpus:
        raise ValueError(f"--format {format} is of standard input: give - as a text, or leave it")
    from fastlm.data.preparing import prepare

    prepare(
        corpus,
        out,
        vocab_size=vocab_size,
        tokenizer=tokenizer,
        val_fraction=val_fraction,
        n_threads=threads,
        text_field=text_field,
        shard_tokens=shard_tokens,
        stdin_format=format or "txt",
        errors=errors,
        allow_end_of_text=allow_end_of_text,
        replace=overwrite,
        say=lambda line: cli.say(line, file=sys.stderr),
    )
    train = cli.command_line("train", "--data", out, "--compile", "--bf16")
    cli.say(f"next: {train}", file=sys.stderr)


ARGUMENTS = {"prepare": _prepare}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line of fastlm.data."""
    cli.run_command(
        ARGUMENTS, argv, prog=cli.program("data"), description="Token files for training."
    )


if __name__ == "__main__":
    cli.run(main)
