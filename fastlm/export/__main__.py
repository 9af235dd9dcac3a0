"""The command line of fastlm.export, which turns a run into a folder for other tools."""

from fastlm.cli import interrupts

if __name__ == "__main__":
    interrupts.exit_on_interrupt()

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from fastlm import cli


def _export(
    run: Positional[Path],
    to: Literal["hf", "tiktoken"],
    out: Path,
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    with_code: bool = False,
) -> None:
    """Write a trained model, or its tokenizer, for other tools.

    Args:
        run: folder of a run, or of one of its checkpoints.
        to: hf: a folder for transformers, model and tokenizer; tiktoken: the tokenizer's ranks.
        out: folder to make.
        dtype: dtype of the weights.
        with_code: with a file that computes what no class of transformers does; read it, then load
            the folder with trust_remote_code=True.
    """
    from fastlm.files import disk
    from fastlm.runs.given import check_run

    check_run(run)
    disk.check_new_folder(out)
    # Slow imports come after the paths are checked.
    from fastlm.export.targets import export_hugging_face, export_tiktoken
    from fastlm.pretrained import load_pretrained

    pretrained = load_pretrained(run)
    if to == "tiktoken":
        export_tiktoken(pretrained.tokenizer, out)
        cli.say(
            f"{out}/ranks.tiktoken: tiktoken.load.load_tiktoken_bpe reads it, with the hash in "
            "ranks.tiktoken.sha256 as expected_hash"
        )
        return
    export_hugging_face(pretrained, out, dtype=dtype, with_code=with_code)
    trust = ", with trust_remote_code=True" if with_code else ""
    cli.say(f"{out}: transformers.AutoModelForCausalLM.from_pretrained reads it{trust}")


ARGUMENTS = _export


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line of fastlm.export."""
    cli.parse(ARGUMENTS, argv, prog=cli.program("export"))


if __name__ == "__main__":
    cli.run(main)
