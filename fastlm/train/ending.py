"""How a run ended, in a line for the user."""

import math
from collections.abc import Callable, Mapping

from fastlm.config.durations import duration_text
from fastlm.evaluate.loss import Evaluation, bits_per_byte
from fastlm.train import budget
from fastlm.train.loop import Training


def end_line(run: Training, stopped_by: str, result: Evaluation | None = None) -> str:
    """Steps, tokens, loss, bits per byte, and what stopped the run.

    Args:
        stopped_by: a budget, a signal, or what went wrong.
        result: the last validation; without it the loss is that of the last training step read.
    """
    trainer, parts = run.trainer, []
    if result is not None:
        split, name, loss, n_tokens = trainer.data.val, "validation", result.loss, result.n_tokens
    else:
        split, name, n_tokens = trainer.data.train, "training", len(trainer.data.train.tokens)
        loss = run.watch.losses[-1] if run.watch.losses else math.nan
    parts += [f"{trainer.step:,} step{'' if trainer.step == 1 else 's'}"]
    parts += [f"{trainer.tokens:,} tokens"]
    if math.isfinite(loss):
        parts += [f"{name} loss {loss:.4f}"]
        if split.text_bytes:
            parts += [f"{bits_per_byte(loss, n_tokens, split.text_bytes):.4f} bits per byte"]
    the = "the " if stopped_by in budget.REASONS else ""
    return f"{', '.join(parts)}; stopped by {the}{stopped_by}"


def overrun_line(run: Training) -> str | None:
    """By how much a run took longer than its time budget; None if it did not."""
    limit, elapsed = run.config.time_budget, run.clock.elapsed
    if limit is None or elapsed <= limit:
        return None
    return f"warning: the time budget of {limit:,.1f} s was exceeded by {elapsed - limit:,.1f} s"


def idle_line(run: Training, stopped_by: str, resume: str) -> str:
    """The note of a resumed run whose budget allowed no further step, with what goes on.

    Args:
        stopped_by: the budget, of budget.REASONS.
        resume: the command that resumes the run.
    """
    limit, earlier, elapsed = run.config.time_budget, run.clock.earlier_elapsed, run.clock.elapsed
    budget_of, spent = f"the {stopped_by}", ""
    if stopped_by == "time budget" and limit is not None:
        budget_of += f" of {limit:,.1f} s"
        spent = f" ({earlier:,.1f} s before it was resumed, {elapsed - earlier:,.1f} s since)"
    used = {"step budget": run.trainer.step, "token budget": run.trainer.tokens}
    words = [resume]
    for name, (flag, text) in _FLAGS.items():  # one flag of a budget replaces all budgets
        given, so_far = getattr(run.config, flag.replace("-", "_")), used.get(name, elapsed)
        if given is not None:
            # A budget that was given anew may be smaller than what the run has used.
            is_used = name == stopped_by or so_far >= given
            words.append(
                f"--{flag} {text(2 * math.ceil(max(given, so_far)) if is_used else given)}"
            )
    return f"note: no step was added: {budget_of} is used up{spent}; {' '.join(words)} goes on"


_FLAGS: Mapping[str, tuple[str, Callable[[float], str]]] = {
    "step budget": ("max-steps", str),
    "token budget": ("max-tokens", str),
    "time budget": ("time-budget", duration_text),
}
"""The flag of each budget, and its value as a word"""


def untrained_line(run: Training) -> str:
    """The error of a run whose time budget allowed no step: what took the time, what to do."""
    assert run.config.time_budget is not None
    spent: Mapping[str, float] = run.start_seconds
    others = max(0.0, run.clock.elapsed - sum(spent.values()))
    parts = {
        **spent,
        "the start": others,
        "the last step, validation and checkpoint": run.budget.reserve,
    }
    longest_first = sorted(parts.items(), key=lambda part: -part[1])
    told = [f"{seconds:,.1f} s for {name}" for name, seconds in longest_first if seconds >= 0.05]
    remedy = ", or leave out --compile" if spent.get("compiling", 0.0) > others else ""
    return (
        f"error: no step fits the time budget of {run.config.time_budget:,.1f} s, nothing was "
        f"trained: {', '.join(told)}; give a longer --time-budget{remedy}"
    )
