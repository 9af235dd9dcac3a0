"""The command line of fastlm.evaluate: prints the loss of a run on a token file, as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from fastlm import cli


@dataclass(frozen=True)
class EvaluateArguments:
    """Validation loss, perplexity and bits per byte of a trained model."""

    run: Annotated[Path, tyro.conf.Positional]
    """folder of the run"""
    data: Path | None = None
    """folder of prepared data made with the same tokenizer; none: the run's own"""
    split: Literal["val", "train"] = "val"
    batch_size: int = 16
    context_length: int | None = None
    """tokens per window, at most the model's context length; none: that length"""
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    bf16: bool = False


ARGUMENTS = EvaluateArguments


def main(argv: Sequence[str] | None = None) -> None:
    """The command line of fastlm.evaluate."""
    arguments = cli.parse(ARGUMENTS, argv, prog=cli.program("evaluate"))
    # Slow imports come after the flags are parsed.
    import torch

    from fastlm.data.prepared import open_prepared
    from fastlm.devices.hardware import choose_compute_dtype, choose_device
    from fastlm.evaluate.loss import evaluate_loss
    from fastlm.pretrained import load_pretrained

    device = choose_device(arguments.device)
    dtype, _ = choose_compute_dtype(device, arguments.bf16)
    pretrained = load_pretrained(arguments.run, device=device, compute_dtype=dtype)
    folder = arguments.data or Path(pretrained.config.data.path)
    prepared = open_prepared(folder)
    if prepared.tokenizer_hash != pretrained.tokenizer.hash:
        raise ValueError(
            f"{folder} was made with another tokenizer than {arguments.run}, so its token ids "
            "mean other text: prepare it with --tokenizer RUN/tokenizer"
        )
    split = prepared.val if arguments.split == "val" else prepared.train
    split.verify()
    longest = pretrained.config.model.context_length
    given = arguments.context_length
    context_length = longest if given is None else given
    if not 1 <= context_length <= longest:
        raise ValueError(f"context_length must lie in [1, {longest}]: got {context_length}")
    with torch.no_grad():
        result = evaluate_loss(
            pretrained.model.loss,
            split.tokens,
            context_length=context_length,
            batch_size=arguments.batch_size,
            device=device,
        )
    told = asdict(result) | {
        "perplexity": result.perplexity,
        "bits_per_byte": result.bits_per_byte(split.text_bytes),
        "context_length": context_length,
    }
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    cli.run(main)
