"""The command `python -m fastlm.accounting`: what a recipe or run costs, and may come to."""

from collections.abc import Sequence
from pathlib import Path

from tyro.conf import Positional

from fastlm import cli
from fastlm.accounting import (
    PEAK_FLOPS,
    count_parameters,
    training_flops_per_token,
    training_memory,
)
from fastlm.config import TrainConfig
from fastlm.console import human_bytes
from fastlm.projection import Point, project
from fastlm.recipes import RECIPES, load_recipe
from fastlm.record import RunRecord


def _configuration(name: str) -> TrainConfig:
    if name in RECIPES:
        return load_recipe(name)
    if Path(name).is_dir():
        return RunRecord(Path(name)).config()
    raise ValueError(f"{name} is no folder of a run; {cli.unknown('recipe', name, RECIPES)}")


def _account(
    name: Positional[str],
    chip: str = "H100",
    mfu: float = 0.45,
    seconds: float | None = None,
    runs: tuple[Path, ...] = (),
) -> None:
    """Size, FLOPs, memory, tokens a second and tokens in the budget; with runs, a projected loss.

    Args:
        name: of a recipe, or the folder of a run.
        chip: A100, H100, H200, B200 ...: its dense bf16 peak.
        mfu: share of that peak that the model's FLOPs are taken to use.
        seconds: of training; the recipe's time budget when not given.
        runs: folders of finished runs of the same recipe at three budgets or more.
    """
    config = _configuration(name)
    model = config.model
    if chip not in PEAK_FLOPS:
        raise ValueError(cli.unknown("chip", chip, PEAK_FLOPS))
    if not 0 < mfu <= 1:
        raise ValueError(f"mfu is a share of the peak, above 0 and at most 1: got {mfu}")
    per_token = training_flops_per_token(model, model.context_length)
    speed = PEAK_FLOPS[chip] * mfu / per_token
    seconds = config.time_budget if seconds is None else seconds
    tokens: float | None = config.max_tokens
    if config.max_steps is not None and not config.fix_steps:  # else the time says more
        in_steps = config.tokens_in(config.max_steps)
        tokens = in_steps if tokens is None else min(tokens, in_steps)
    if seconds is not None:
        tokens = speed * seconds if tokens is None else min(tokens, speed * seconds)
    memory = training_memory(model, 1, bf16=True, optim=config.optim, compiled=True)
    activations = memory["activations"] + memory["head"]
    state = sum(memory[part] for part in ("parameters", "gradients", "optimizer", "average"))
    print(f"{name}: {count_parameters(model):,} parameters, vocabulary {model.vocab_size:,}")
    print(f"training FLOPs a token: {per_token:.4g} (context {model.context_length:,})")
    print(f"weights, gradients, optimizer: {human_bytes(state)}")
    print(f"activations of a window, bf16, compiled: {human_bytes(activations)}")
    print(f"{chip} at {mfu:.0%} MFU: {speed:,.0f} tokens/s")
    if tokens is not None:
        at = f" in {seconds:,.0f} s" if seconds is not None else ""
        print(f"tokens{at}: {tokens:,.0f}, {tokens * per_token:.3g} FLOPs")
    if runs:
        if tokens is None:
            raise ValueError("what to project to? give --seconds: the recipe has no budget")
        points = [_point(run) for run in runs]
        for run, point in zip(runs, points, strict=True):
            print(f"  {run}: {point.flops:.3g} FLOPs, loss {point.loss:.4f}")
        print(project(points, tokens * per_token))


def _point(run: Path) -> Point:
    record = RunRecord(run)
    config, summary = record.config(), record.summary()
    if summary.get("val_loss") is None:
        raise ValueError(f"{run} has no validation loss: it did not finish; resume it, or leave it")
    per_token = training_flops_per_token(config.model, config.model.context_length)
    return Point(summary["tokens"] * per_token, summary["val_loss"])


def main(argv: Sequence[str] | None = None) -> None:
    """The command line of fastlm.accounting."""
    cli.parse(_account, argv, prog="python -m fastlm.accounting")
