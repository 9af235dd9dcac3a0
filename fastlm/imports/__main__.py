"""The command line of fastlm.imports, which turns files of other tools into our folders."""

from fastlm.cli import interrupts

if __name__ == "__main__":
    interrupts.exit_on_interrupt()

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from fastlm import cli
from fastlm.files.paths import check_file
from fastlm.runs.given import check_model_folder


def _model(folder: Positional[Path], *, out: Path, tokenizer: Path | None = None) -> None:
    """Make a run of a Llama-shaped folder of transformers.

    Args:
        folder: with config.json, model.safetensors and tokenizer.json.
        out: folder of the run to make.
        tokenizer: folder or file of the model's tokenizer, if the folder has none.
    """
    from fastlm.files import disk
    from fastlm.tokenizer.folder import check_tokenizer

    check_model_folder(folder)
    disk.check_new_folder(out)
    check_tokenizer(tokenizer or folder)
    # Slow imports come after the paths are checked.
    from fastlm.imports.take_over import import_model

    for line in import_model(folder, out, tokenizer=tokenizer):
        cli.say(f"note: {line}")
    train = cli.command_line("train", "--init-from", out)
    cli.say(f"{out}: {train} trains it further, with its tokenizer")


def _tokens(
    *,
    train: list[Path],
    val: list[Path],
    tokenizer: Path,
    out: Path,
    dtype: Literal["uint16", "uint32"] | None = None,
) -> None:
    """Make a prepared folder of token files of nanoGPT, llm.c or modded-nanogpt.

    Args:
        train: token files to train on.
        val: token files to validate on.
        tokenizer: folder or file of the tokenizer that made them.
        out: folder to make.
        dtype: dtype of files without a header; found from their ids when not given.
    """
    from fastlm.files import disk

    for path in (*train, *val):
        check_file(path)
    disk.check_new_folder(out)
    from fastlm.imports.foreign_tokens import import_tokens

    import_tokens(train, val, tokenizer, out, dtype=dtype)
    cli.say(f"{out}: {cli.command_line('train', '--data', out)} trains on it")


def _tokenizer(path: Positional[Path], *, out: Path) -> None:
    """Make a tokenizer's folder of GPT-2's files, a tokenizer.json or a rank file of tiktoken.

    Args:
        path: the file, or the folder it is in.
        out: folder to make.
    """
    from fastlm.files import disk
    from fastlm.tokenizer.tokenizer import Tokenizer

    disk.check_new_folder(out)
    read = Tokenizer.load(path)
    read.save(out)
    cli.say(f"{out}: {read.vocab_size:,} tokens")


ARGUMENTS: dict[str, Callable[..., None]] = {
    "model": _model,
    "tokens": _tokens,
    "tokenizer": _tokenizer,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line of fastlm.imports."""
    cli.run_command(
        ARGUMENTS,
        argv,
        prog=cli.program("import", "imports"),
        description="What other tools have made, as runs, token files and tokenizers.",
    )


if __name__ == "__main__":
    cli.run(main)
