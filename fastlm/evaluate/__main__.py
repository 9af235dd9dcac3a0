"""The command line of fastlm.evaluate: prints the loss of a run on a token file, as JSON."""

from fastlm.cli import interrupts

if __name__ == "__main__":
    interrupts.exit_on_interrupt()

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from fastlm import cli
from fastlm.runs.given import check_prepared, check_run, run_of
from fastlm.runs.run_files import RunFiles


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
    """compute in bfloat16, as a GPU that can does without this flag"""
    float32: bool = False
    """compute in float32 on a GPU too"""
    eager: bool = False
    """do not compile; without this flag, long texts are compiled for on a GPU"""


ARGUMENTS = EvaluateArguments


def main(argv: Sequence[str] | None = None) -> None:
    """The command line of fastlm.evaluate."""
    arguments = cli.parse(ARGUMENTS, argv, text_flag="--data", prog=cli.program("evaluate"))
    for name in ("batch_size", "context_length"):
        size = getattr(arguments, name)
        if size is not None and size < 1:
            raise ValueError(f"{name} must be at least 1: got {size}")
    if arguments.bf16 and arguments.float32:
        raise ValueError("--bf16 and --float32 exclude each other: give one")
    check_run(arguments.run)
    if arguments.data is not None:
        check_prepared(arguments.data)
    # Slow imports come after the flags and paths are checked.
    import torch

    from fastlm.data.prepared import open_prepared
    from fastlm.devices.hardware import choose_compute_dtype, choose_device
    from fastlm.evaluate.batches import fitting_batch
    from fastlm.evaluate.loss import evaluate_loss
    from fastlm.evaluate.on_gpu import compile_blocks, compiles_for, has_bf16
    from fastlm.evaluate.own_data import open_own_data
    from fastlm.pretrained import load_pretrained

    device = choose_device(arguments.device)
    takes_bf16 = has_bf16(device) and not arguments.float32
    dtype, _ = choose_compute_dtype(device, arguments.bf16 or takes_bf16)
    prepared = open_own_data(arguments.run) if arguments.data is None else None
    pretrained = load_pretrained(arguments.run, device=device, compute_dtype=dtype)
    if prepared is None:
        prepared = open_prepared(arguments.data or "")
    if prepared.tokenizer_hash != pretrained.tokenizer.hash:
        own = cli.pasted("--tokenizer", RunFiles(run_of(arguments.run)).tokenizer)
        raise ValueError(
            f"{prepared.folder} was made with another tokenizer than {arguments.run}, so its token "
            f"ids mean other text: prepare it with {own}"
        )
    split = prepared.val if arguments.split == "val" else prepared.train
    split.verify()
    longest = pretrained.config.model.context_length
    given = arguments.context_length
    context_length = longest if given is None else given
    if not 1 <= context_length <= longest:
        raise ValueError(f"context_length must lie in [1, {longest}]: got {context_length}")
    wanted = min(arguments.batch_size, -(-(len(split.tokens) - 1) // context_length))
    batch_size = fitting_batch(
        pretrained.config.model,
        max(1, wanted),
        context_length=context_length,
        bf16=dtype == torch.bfloat16,
        device=device,
    )
    if batch_size < wanted:
        print(
            f"note: batches of {batch_size:,} windows, as {wanted:,} do not fit the memory; the "
            "loss is the same",
            file=sys.stderr,
        )
    if not arguments.eager and compiles_for(device, len(split.tokens)):
        compile_blocks(pretrained.model)
    with torch.no_grad():
        result = evaluate_loss(
            pretrained.model.loss,
            split.tokens,
            context_length=context_length,
            batch_size=batch_size,
            device=device,
        )
    told = asdict(result) | {
        "perplexity": result.perplexity,
        "bits_per_byte": result.bits_per_byte(split.text_bytes),
        "context_length": context_length,
        "dtype": str(dtype).removeprefix("torch."),
    }
    print(json.dumps({name: finite(value) for name, value in told.items()}, indent=2))


def finite(value: Any) -> Any:
    """The value, or None for a number that JSON has not: NaN, infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    cli.run(main)
