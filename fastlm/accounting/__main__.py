"""The command line of fastlm.accounting: parameters, FLOPs, memory, time and projected loss."""

from fastlm.cli import interrupts

if __name__ == "__main__":
    interrupts.exit_on_interrupt()

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import tyro
from tyro.conf import Positional

from fastlm import cli
from fastlm.accounting import (
    GPT2,
    adamw_flops,
    count_parameters,
    forward_flops,
    forward_flops_by_part,
    largest_batch,
    parameters_by_part,
    step_memory,
    training_flops_per_token,
)
from fastlm.cli.units import human_bytes, human_seconds
from fastlm.config import ModelConfig, TrainConfig
from fastlm.config.dotted import replaced
from fastlm.config.durations import Seconds
from fastlm.config.recipes import RECIPES, load_recipe
from fastlm.devices.chips import CHIPS
from fastlm.runs.found import number
from fastlm.runs.given import check_run
from fastlm.runs.record import RunRecord
from fastlm.runs.state import state_of

if TYPE_CHECKING:
    from fastlm.accounting.projection import Point

COMPARISON = "gpt2"
LONG_CONTEXT = 16_384
_SHOWN_CHIPS = ("A100", "H100", "H200", "B200")


class Budget(NamedTuple):
    """A training budget in tokens, or in seconds."""

    tokens: float | None
    seconds: float | None


def _configuration(name: str) -> TrainConfig:
    if not name:
        raise ValueError("expected a recipe or the folder of a run, got an empty word")
    if name in GPT2:
        # The CS336 handout's question: 400,000 steps of 1,024 windows.
        return TrainConfig(recipe=name, model=GPT2[name], batch_size=1024, max_steps=400_000)
    if name in RECIPES:
        return load_recipe(name)
    if Path(name).is_dir():
        check_run(Path(name), is_saved=False)
        return RunRecord(Path(name)).config()
    known = [COMPARISON, *GPT2, *RECIPES]
    raise ValueError(f"{name} is not the folder of a run; {cli.unknown('recipe', name, known)}")


def _chip(name: str) -> str:
    """Look up the name of a chip, in upper or lower case."""
    spelled = {chip.lower(): chip for chip in CHIPS}
    if name.lower() not in spelled:
        raise ValueError(cli.unknown("chip", name, CHIPS))
    return spelled[name.lower()]


def _account(
    name: Positional[str],
    chip: str | None = None,
    mfu: float = 0.45,
    context_length: int | None = None,
    bf16: bool = True,
    memory: float | None = None,
    tokens: float | None = None,
    seconds: Annotated[Seconds, tyro.conf.arg(metavar="TIME")] = None,
    runs: tuple[Path, ...] = (),
) -> None:
    """Parameters, FLOPs and memory by part, the largest batch, and how long training takes.

    Args:
        name: name of a recipe, folder of a run, gpt2-small, gpt2-medium, gpt2-large or gpt2-xl;
            gpt2 compares these four.
        chip: A100, H100, H200, B200 ...; none: these four.
        mfu: model FLOPs utilization to assume: share of the chip's dense peak.
        context_length: tokens per window, in place of the model's own.
        bf16: matrix products and activations in bfloat16, compiled; no-bf16: all in float32,
            without tensor cores, not compiled.
        memory: memory in GB, in place of each chip's own.
        tokens: tokens to train on, in place of the recipe's budget.
        seconds: time to train for, such as 90m or 5400, in place of the recipe's budget.
        runs: finished runs of the recipe with at least three budgets, to project the loss from.
    """
    if chip is not None:
        chip = _chip(chip)
    if not 0 < mfu <= 1:
        raise ValueError(f"mfu is a share of the peak, above 0 and at most 1: got {mfu}")
    given = {"context_length": context_length, "memory": memory, "tokens": tokens}
    for what, value in given.items():
        if value is not None and not 0 < value < math.inf:
            also = " and finite" if value == math.inf else ""
            raise ValueError(f"{what} must be above 0{also}: got {value:g}")
    for run in runs:
        check_run(run, is_saved=False)
    if name == COMPARISON:
        print(compare(GPT2 | {f"xl, T {LONG_CONTEXT:,}": _with_context("gpt2-xl", LONG_CONTEXT)}))
        return
    config = _configuration(name)
    # All of it with the activations that a step keeps when nothing is short of memory.
    config = dataclasses.replace(config, compile=bf16, checkpoint_activations=False)
    if context_length is not None:
        config = replaced(config, {"model.context_length": context_length})
    budget = _budget(config, tokens, seconds)
    chips = _SHOWN_CHIPS if chip is None else (chip,)
    print(
        "\n\n".join(
            (
                _describe(name, config.model),
                _parameters(config.model),
                _flops(config.model),
                _memory(config, bf16=bf16),
                _chips(config, chips, budget, mfu=mfu, bf16=bf16, memory=memory),
            )
        )
    )
    if runs:
        speed = _peak(chips[0], bf16) * mfu / _training_flops(config.model)
        print("\n" + _projection(config.model, _fitting(budget, speed)[0], runs))


def compare(models: Mapping[str, ModelConfig]) -> str:
    """Table of the FLOPs of several networks by part, with each part's share."""
    by_part = {name: forward_flops_by_part(m, m.context_length) for name, m in models.items()}
    names, totals = list(models), {name: sum(parts.values()) for name, parts in by_part.items()}
    rows = [["forward FLOPs of a window", *(name.removeprefix("gpt2-") for name in names)]]
    for part in dict.fromkeys(part for parts in by_part.values() for part in parts):
        row = [f"  {part}"]
        for name in names:
            n = by_part[name].get(part, 0)
            row.append(f"{n / 1e12:.4g} T  {n / totals[name]:5.1%}")
        rows.append(row)
    rows.append(["  all", *(f"{n / 1e12:.5g} T       " for n in totals.values())])
    rows.append(["parameters", *(f"{count_parameters(m):,}       " for m in models.values())])
    return _table(rows)


def _with_context(name: str, context: int) -> ModelConfig:
    return dataclasses.replace(GPT2[name], context_length=context)


def _describe(name: str, model: ModelConfig) -> str:
    return (
        f"{name}: {model.n_layers} layers, {model.d_model:,} wide, {model.n_heads} heads, "
        f"feed-forward {model.ffn_width:,}, vocabulary {model.vocab_size:,}, context "
        f"{model.context_length:,}"
    )


def _parameters(model: ModelConfig) -> str:
    total = count_parameters(model)
    rows = [["parameters", "", "share"]]
    for part, n in parameters_by_part(model).items():
        rows.append([f"  {part}", f"{n:,}", f"{n / total:.1%}"])
    return _table([*rows, ["  all", f"{total:,}", ""]])


def _flops(model: ModelConfig) -> str:
    context = model.context_length
    total = forward_flops(model, context)
    rows = [[f"FLOPs of a window of {context:,} tokens", "forward", "training", "share"]]
    for part, n in forward_flops_by_part(model, context).items():
        rows.append([f"  {part}", f"{n:.4e}", f"{3 * n:.4e}", f"{n / total:.1%}"])
    rows.append(["  all", f"{total:.4e}", f"{3 * total:.4e}", ""])
    rows.append(["  AdamW, a step", "", f"{adamw_flops(model):.4e}", ""])
    return _table(rows)


def _memory(config: TrainConfig, *, bf16: bool) -> str:
    rows = [["memory", "a window", "each window more"]]
    one, two = (step_memory(config, n, bf16=bf16) for n in (1, 2))
    for part, n_bytes, n_bytes_of_two in zip(one._fields, one, two, strict=True):
        if n_bytes:
            # "step" shrinks as activations grow, because the optimizers reuse their memory.
            more = max(0, n_bytes_of_two - n_bytes)
            name = "optimizers' step, beyond that" if part == "step" else part
            name = f"optimizer ({config.optim.name})" if part == "optimizer" else name
            rows.append([f"  {name}", human_bytes(n_bytes), human_bytes(more) if more else ""])
    return _table([*rows, ["  all", human_bytes(one.total), ""]])


def _budget(config: TrainConfig, tokens: float | None, seconds: float | None) -> Budget:
    if tokens is not None or seconds is not None:
        return Budget(tokens, seconds)
    limits = [] if config.max_tokens is None else [config.max_tokens]
    if config.max_steps is not None and not config.fix_steps:  # fix_steps: the time decides
        limits.append(config.tokens_in(config.max_steps))
    return Budget(min(limits, default=None), config.time_budget)


def _fitting(budget: Budget, speed: float) -> tuple[float | None, float | None]:
    """Tokens and seconds of a budget at a speed in tokens per second; None, None without one."""
    limits = [] if budget.tokens is None else [budget.tokens]
    if budget.seconds is not None:
        limits.append(speed * budget.seconds)
    return (min(limits), min(limits) / speed) if limits else (None, None)


def _peak(chip: str, bf16: bool) -> float:
    return CHIPS[chip].bf16 if bf16 else CHIPS[chip].float32


def _training_flops(model: ModelConfig) -> float:
    return training_flops_per_token(model, model.context_length)


def _chips(
    config: TrainConfig,
    chips: Sequence[str],
    budget: Budget,
    *,
    mfu: float,
    bf16: bool,
    memory: float | None,
) -> str:
    model = config.model

    @functools.cache
    def needed(n_windows: int) -> int:
        return step_memory(config, n_windows, bf16=bf16).total

    head = [f"one GPU, {'bf16' if bf16 else 'float32'}, {mfu:.0%} MFU", "peak", "tokens/s"]
    rows = [[*head, "windows at once", "in", "tokens", "FLOPs", "time"]]
    for chip in chips:
        speed = _peak(chip, bf16) * mfu / _training_flops(model)
        n_tokens, seconds = _fitting(budget, speed)
        gigabytes = CHIPS[chip].memory if memory is None else memory
        n_windows = largest_batch(needed, gigabytes * 1e9)
        row = [f"  {chip}", f"{_peak(chip, bf16) / 1e12:g} TFLOP/s", f"{speed:,.0f}"]
        row += [f"{n_windows:,}" if n_windows else "none", f"{gigabytes:g} GB"]
        if n_tokens is not None and seconds is not None:
            row += [f"{n_tokens:.4g}", f"{n_tokens * _training_flops(model):.3g}", _long(seconds)]
        else:
            row += ["no budget", "", ""]
        rows.append(row)
    return _table(rows)


def _long(seconds: float) -> str:
    return f"{seconds / 86_400:,.1f} days" if seconds >= 86_400 else human_seconds(seconds)


def _projection(model: ModelConfig, n_tokens: float | None, runs: Sequence[Path]) -> str:
    if n_tokens is None:
        raise ValueError("a projection needs a budget, and the recipe has none: give --seconds")
    from fastlm.accounting.projection import project

    points = [_point(run) for run in runs]
    lines = [
        f"  {run}: {point.flops:.3g} FLOPs, loss {point.loss:.4f}"
        for run, point in zip(runs, points, strict=True)
    ]
    return "\n".join([*lines, str(project(points, n_tokens * _training_flops(model)))])


def _point(run: Path) -> "Point":
    from fastlm.accounting.projection import Point

    record = RunRecord(run)
    config, state = record.config(), state_of(run)
    if state.name != "finished":
        raise ValueError(f"{run} is {state.name}, not finished: resume it, or leave it out")
    summary = record.summary()
    n_tokens, loss = number(summary.get("tokens")), number(summary.get("val_loss"))
    if n_tokens is None or loss is None:
        raise ValueError(
            f"{record.files.summary} has no number of tokens and validation loss: leave the run out"
        )
    if n_tokens <= 0:
        raise ValueError(f"{run} was trained on no tokens: leave it out")
    return Point(n_tokens * _training_flops(config.model), loss)


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Align columns: the first to the left, all others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


ARGUMENTS = _account


def main(argv: Sequence[str] | None = None) -> None:
    """The command line of fastlm.accounting."""
    cli.parse(ARGUMENTS, argv, prog=cli.program("accounting"))


if __name__ == "__main__":
    cli.run(main)
