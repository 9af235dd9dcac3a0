"""The end of a run: its last validation and checkpoint, and its summary, curve and sample."""

import contextlib
import itertools
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fastlm.accounting import count_parameters
from fastlm.checkpoint.saver import SaveFailed
from fastlm.cli import command_line
from fastlm.cli.console import StatusLine
from fastlm.config import TrainConfig
from fastlm.config.recipes import RECIPES
from fastlm.devices.hardware import peak_memory
from fastlm.files import disk
from fastlm.generate.sampling import generate_text
from fastlm.pretrained import load_pretrained
from fastlm.runs.found import read_log
from fastlm.runs.given import going_on
from fastlm.runs.plot import plot_curves
from fastlm.runs.record import write_json
from fastlm.runs.run_files import RunFiles
from fastlm.train import budget, signals
from fastlm.train.ending import end_line, idle_line, overrun_line, untrained_line
from fastlm.train.loop import Training
from fastlm.train.signals import Stopped


@dataclass(frozen=True)
class Summary:
    """Results of a run; the content of summary.json."""

    finished: bool
    """False after a signal, or if the last step could not be saved: the run can be resumed."""
    saved: bool
    """Whether the last step is on the disk."""
    stopped_by: str
    step: int
    tokens: int
    seconds: float
    """Training time since the first step began, over all resumes."""
    elapsed_seconds: float
    """Time on the budget's clock."""
    compile_seconds: float
    """Compile time of this process, before its first step."""
    val_loss: float | None
    val_loss_first_million: float | None
    """Validation loss over the first million tokens; None if the file has no more."""
    perplexity: float | None
    bits_per_byte: float | None
    val_tokens: int
    val_seconds: float
    tokens_per_second: float
    mfu: float | None
    peak_memory_bytes: int
    n_parameters: int
    n_averaged: int
    """Sets of weights averaged into the final model; 0 if it has the last step's weights."""
    device: str


def finish(
    run: Training,
    stopped_by: str,
    stop: signals.StopRequest,
    status: StatusLine,
    *,
    first_step: int,
) -> Summary:
    """Average the weights, validate, save, and write summary, curve and sample.

    Args:
        first_step: the step that the run began or was resumed at.
    """
    trainer, ranks, saver = run.trainer, run.trainer.ranks, run.saving.saver
    result, n_averaged = None, 0
    is_idle = trainer.step == first_step and stopped_by in budget.REASONS
    is_untrained = is_idle and trainer.step == 0
    run.check_steps_were_applied()
    try:
        if run.stopping.asked() is None and not is_untrained:
            if ranks.of_first(saver.given_step != trainer.step):
                run.save()  # before the validation, which can take long
            n_averaged = trainer.use_average()
            result = run.evaluate(None)
    except Stopped as stopped:
        stopped_by = str(stopped)
    if result is not None:
        of_mean = f", averaged over {n_averaged:,} sets of weights" if n_averaged else ""
        status.say(f"validation loss {result.loss:.4f} over {result.n_tokens:,} tokens{of_mean}")
    failure = None
    try:
        if not is_untrained:
            run.check_data()
            run.saving.save_last(renew=n_averaged > 0)
    except SaveFailed as error:  # raised at the end: first report what is known
        failure = error
    run.check_data()
    run.renew_record()
    for line in run.news():
        status.say(line)
    speed = run.config.model.context_length / statistics.median(run.budget.window_seconds.all)
    summary = Summary(
        finished=result is not None and failure is None,
        saved=failure is None and not is_untrained,
        stopped_by=stopped_by,
        step=trainer.step,
        tokens=trainer.tokens,
        seconds=round(run.clock.seconds, 3),
        elapsed_seconds=round(run.clock.elapsed, 3),
        compile_seconds=round(run.compile_seconds, 3),
        val_loss=result.loss if result else None,
        val_loss_first_million=result.first_million if result else None,
        perplexity=result.perplexity if result else None,
        bits_per_byte=result.bits_per_byte(trainer.data.val.text_bytes) if result else None,
        val_tokens=result.n_tokens if result else 0,
        val_seconds=round(result.seconds, 3) if result else 0.0,
        tokens_per_second=speed,
        mfu=run.telling.mfu(speed),
        peak_memory_bytes=peak_memory(trainer.device),
        n_parameters=count_parameters(run.config.model),
        n_averaged=n_averaged,
        device=str(trainer.device),
    )
    if not ranks.is_first:
        return summary
    folder, files = run.record.folder, run.record.files
    ended = end_line(run, stopped_by, result)
    advice = f"; {going_on(folder)}"
    if is_untrained:
        status.say(untrained_line(run))
    elif not is_idle and (overrun := overrun_line(run)) is not None:
        status.say(overrun)
    try:
        # A disk that refused the checkpoint may refuse this too; the failed save is what to raise.
        with contextlib.suppress(OSError) if failure else contextlib.nullcontext():
            write_json(files.summary, summary)
    except OSError:
        status.say(ended)
        raise
    with _or_warning(files.curve, status):
        plot_curves(read_log(folder).rows, files.curve, title=folder.name)
    if failure is not None:
        status.say(ended)
        raise failure
    if summary.finished:
        with _or_warning(files.sample, status):
            text = sample(folder, stop)
            status.say(f"\n{text}\n")
            disk.write_file(files.sample, f"{text}\n".encode(), replace=True)
        status.say(_next_commands(folder, run.config))
    if is_idle and not is_untrained:
        status.say(idle_line(run, stopped_by, command_line("train", "--resume", folder)))
    status.say(ended if summary.finished or is_untrained else ended + advice)
    return summary


@contextlib.contextmanager
def _or_warning(path: Path, status: StatusLine) -> Iterator[None]:
    """Warn of an error in the block: the run is saved, and a picture or a text is not its end."""
    try:
        yield
    except Exception as error:  # matplotlib and its settings raise errors of any kind
        reason = " ".join(str(error).split())
        status.say(f"warning: {path} is not written ({type(error).__name__}: {reason})")


def sample(run: Path, stop: signals.StopRequest, max_tokens: int = 300) -> str:
    """Generate a document with a run's newest checkpoint; a signal cuts it short."""
    pretrained = load_pretrained(run)
    pieces = generate_text(
        pretrained.model,
        pretrained.tokenizer,
        "",
        max_tokens=max_tokens,
        temperature=0.7,
        top_p=0.95,
    )
    return "".join(itertools.takewhile(lambda piece: stop.reason is None, pieces)).strip()


def _next_commands(run: Path, config: TrainConfig) -> str:
    recipe = ("--recipe", config.recipe) if config.recipe in RECIPES else ()
    train = (*recipe, "--data", config.data.path, "--time-budget", "10m", "--compile")
    return "\n".join(
        [
            f"curve: {RunFiles(run).curve}   log: {RunFiles(run).log}   next:",
            "  " + command_line("generate", run, "--prompt", "Once upon a time"),
            "  " + command_line("evaluate", run),
            "  " + command_line("train", *train),
        ]
    )
