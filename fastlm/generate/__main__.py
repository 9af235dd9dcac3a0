"""The command line of fastlm.generate: continues a prompt with the model of a run."""

from fastlm.cli import interrupts

if __name__ == "__main__":
    interrupts.exit_on_interrupt()

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from fastlm import cli
from fastlm.cli.streams import print_now
from fastlm.files.utf8 import to_utf8
from fastlm.generate.settings import check_sampling
from fastlm.runs.given import check_run


@dataclass(frozen=True)
class GenerateArguments:
    """Continue a prompt with a trained model; the text streams to standard output."""

    run: Annotated[Path, tyro.conf.Positional]
    """folder of the run"""
    prompt: str = ""
    """text to continue; empty starts a new document"""
    temperature: float = 0.8
    """softmax temperature; 0 always takes the most likely token"""
    top_p: float = 0.95
    """sample from the most likely tokens whose probabilities together reach this"""
    top_k: int | None = None
    """sample from this many most likely tokens; none: all"""
    max_tokens: int = 256
    seed: int = 0
    n: int = 1
    """number of texts, sampled with seeds seed, seed + 1 ..."""
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"


ARGUMENTS = GenerateArguments


def main(argv: Sequence[str] | None = None) -> None:
    """The command line of fastlm.generate."""
    arguments = cli.parse(ARGUMENTS, argv, text_flag="--prompt", prog=cli.program("generate"))
    check_sampling(
        arguments.temperature,
        arguments.top_k,
        arguments.top_p,
        arguments.max_tokens,
        arguments.seed,
    )
    if arguments.n < 1:
        raise ValueError(f"n must be at least 1: got {arguments.n}")
    check_sampling(seed=arguments.seed + arguments.n - 1)
    to_utf8(arguments.prompt)  # refuses invalid characters before anything is printed
    check_run(arguments.run)
    # Slow imports come after the flags and paths are checked.
    from fastlm.devices.hardware import choose_device
    from fastlm.generate.sampling import generate_text
    from fastlm.pretrained import load_pretrained

    device = choose_device(arguments.device)
    pretrained = load_pretrained(arguments.run, device=device)
    for i in range(arguments.n):
        if i:
            print_now("\n---\n")
        print_now(arguments.prompt)
        for piece in generate_text(
            pretrained.model,
            pretrained.tokenizer,
            arguments.prompt,
            max_tokens=arguments.max_tokens,
            temperature=arguments.temperature,
            top_k=arguments.top_k,
            top_p=arguments.top_p,
            seed=arguments.seed + i,
        ):
            print_now(piece)
        print_now("\n")


if __name__ == "__main__":
    cli.run(main)
