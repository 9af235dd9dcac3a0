"""A training run as a whole, from its folder and configuration to its summary."""

import contextlib
import dataclasses
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fastlm.accounting import count_parameters
from fastlm.checkpoint.saver import SaveFailed, Saver
from fastlm.cli import command_line, pasted
from fastlm.cli.console import StatusLine, standard_error
from fastlm.config import TrainConfig
from fastlm.config.recipes import RECIPES
from fastlm.data.prepared import (
    PreparedData,
    check_tokenizer,
    open_prepared,
    same_text_warning,
)
from fastlm.data.windows import check_length
from fastlm.devices.hardware import describe, peak_memory
from fastlm.devices.ranks import Ranks
from fastlm.evaluate.loss import check_validation
from fastlm.files import disk
from fastlm.generate.sampling import generate_text
from fastlm.pretrained import load_pretrained, read_start
from fastlm.runs.found import read_log
from fastlm.runs.given import check_new_run, check_place_of_run
from fastlm.runs.plot import plot_curves
from fastlm.runs.record import RunRecord, write_json
from fastlm.runs.run_files import RunFiles
from fastlm.tokenizer.folder import check_copy
from fastlm.train import budget, signals
from fastlm.train.assemble import Setup, set_up
from fastlm.train.budget import Budget, Clock
from fastlm.train.ending import end_line, idle_line, overrun_line, untrained_line
from fastlm.train.fixed_steps import fix_steps
from fastlm.train.loggers import open_logger
from fastlm.train.loop import Training, begin, loop
from fastlm.train.micro_batch import is_out_of_memory, out_of_memory
from fastlm.train.nonfinite import write_nonfinite
from fastlm.train.resuming import read_saved, reopen
from fastlm.train.saving import Saving
from fastlm.train.signals import Stopped
from fastlm.train.stopping import Stopping
from fastlm.train.telling import Telling
from fastlm.train.trainer import Trainer
from fastlm.train.watch import Diverged, Watch

_SMALL_BYTES = 32 << 20
"""Token files that are read in about a tenth of a second, and so before the run begins."""


@dataclass(frozen=True)
class Summary:
    """Results of a run; the content of summary.json."""

    finished: bool
    """False after a signal: the run can be resumed."""
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


def train(
    config: TrainConfig,
    run_dir: Path | str,
    *,
    resume: bool | Path | str = False,
    clock_started: float | None = None,
    job_ends: float | None = None,
    ranks: Ranks | None = None,
    setup: Setup | None = None,
    stop: signals.StopRequest | None = None,
) -> Summary:
    """Train a model into a folder.

    PyTorch's random state on the CPU, its choice of algorithms and whether it records gradients are
    the caller's again at the end.

    Args:
        config: data.path must be a prepared folder; vocab_size is taken from it.
        run_dir: receives config.json, environment.json, log.jsonl, checkpoints/, tokenizer/ and,
            at the end, summary.json, curve.png and sample.txt.
        resume: True resumes from the newest intact checkpoint in run_dir, if there is one, and
            run_dir itself does so too, but it must have one; the folder of a checkpoint in run_dir
            resumes from that one. The settings in config that a run cannot change must be its own
            (fastlm.config.continued); the others replace those in its config.json.
        clock_started: time.perf_counter() when the budget's clock started; by default now.
        job_ends: time at which this process will be killed, in seconds since the epoch; the run
            is saved and stopped before, so that it can be resumed.
        ranks: the data parallel processes; each must call this. The first writes.
        setup: the result of set_up(config), if it was called before.
        stop: handles the signals in place of a request of this call's own.
    Returns:
        The summary; step is 0 and finished False if the time budget allowed no step.
    Raises:
        ValueError, OSError: for settings, data or folders that cannot be used; BlockingIOError if
            another process trains into the folder.
        Diverged: if loss, gradients, weights or a validation are not finite; a file beside the log
            describes the step.
        SaveFailed: if the last checkpoint could not be written.
        OutOfMemory: if a step does not fit; names the flags that make it smaller.
        Stopped: on a signal before the first step, when there is nothing to save.
    """
    run_dir = Path(run_dir)
    if isinstance(resume, str):
        resume = Path(resume)
    ranks = ranks or Ranks()
    setup = setup or set_up(config)
    with _callers_settings(), contextlib.ExitStack() as at_end:
        stop = stop or at_end.enter_context(signals.StopRequest(job_ends))
        status = at_end.enter_context(StatusLine(is_shown=ranks.is_first))
        with stop.raising():
            run = at_end.enter_context(
                new_run(
                    config,
                    run_dir,
                    resume=bool(resume),
                    clock_started=clock_started,
                    stop=stop,
                    ranks=ranks,
                    setup=setup,
                )
            )
            # All token files are read while the step compiles, which takes longer.
            with ThreadPoolExecutor(1) as pool:
                verified = pool.submit(run.trainer.data.verify if ranks.is_first else lambda: None)
                if _n_bytes(run.trainer.data) <= _SMALL_BYTES:  # a fault is told before writing
                    verified.result()
                is_resumed = _open_record(run, resume)
                _introduce(run, setup, status, is_resumed=is_resumed)
                at_end.callback(_forward_rows(run, status))
                # However the run ends, a checkpoint that is being written is completed.
                at_end.callback(run.saving.saver.finish)
                with _failures_explained(run, status):
                    begin(run, status, verified.result)
        with _failures_explained(run, status):
            if config.fix_steps and run.config.max_steps is None:
                fix_steps(run, status)
            first_step = run.trainer.step
            stopped_by = loop(run, status)
            summary = _finish(run, stopped_by, stop, status, first_step=first_step)
        ranks.wait()  # torchrun ends all processes when one exits: wait for the first to finish
        return summary


@contextlib.contextmanager
def _callers_settings() -> Iterator[None]:
    """Restore what a run changes in PyTorch for the whole process, and record gradients inside."""
    was = torch.are_deterministic_algorithms_enabled()
    only_warned = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            yield
    finally:
        if torch.are_deterministic_algorithms_enabled() != was:  # takes a second
            torch.use_deterministic_algorithms(was, warn_only=only_warned)


def _n_bytes(data: PreparedData) -> int:
    return sum(file.path.stat().st_size for file in (*data.train.files, *data.val.files))


@contextlib.contextmanager
def _failures_explained(run: Training, status: StatusLine) -> Iterator[None]:
    """Write a file about the step of a divergence; turn out-of-memory errors into advice."""
    trainer = run.trainer
    try:
        yield
    except Diverged as error:
        if not error.is_logged:
            run.telling.step(trainer, error.step)
        status.say(end_line(run, "divergence"))
        with contextlib.suppress(OSError):  # a full disk must not hide the divergence
            error.add_note(str(write_nonfinite(trainer, error.step, run.record.files)))
        trainer.ranks.wait()
        raise
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        status.say(end_line(run, "lack of memory"))
        peak = peak_memory(trainer.device)
        raise out_of_memory(trainer.memory, run.config, peak, trainer.ranks.size) from error


def _open_record(run: Training, resume: bool | Path) -> bool:
    """Start the run's record, or resume it; returns whether it was resumed."""
    trainer, record, saver = run.trainer, run.record, run.saving.saver
    data, ranks = trainer.data, trainer.ranks
    environment = describe(trainer.device) | {"arguments": sys.argv[1:], "processes": ranks.size}
    saved = read_saved(record, resume, ranks, say) if resume else None
    if saved is None and run.config.init_from:
        trainer.load_weights(read_start(run.config, data.tokenizer_hash))
    if ranks.is_first:
        saver.check_space(run.saving.checkpoint_bytes)
    if saved is not None:
        run.use_config(run.saving.resume(saved))

        def log(former: dict[str, Any]) -> None:
            run.telling.log(trainer, "resume", environment=environment, **former)

        reopen(record, run.config, trainer.step, log, say)
    else:
        record.start(run.config, environment)
    if ranks.is_first:
        # Also when resuming: a power cut may have come between the record and this copy.
        data.copy_tokenizer(record.tokenizer)
    return saved is not None


def _forward_rows(run: Training, status: StatusLine) -> Callable[[], None]:
    """Send each log row to the configured logger; returns the function that closes it."""
    record, config = run.record, run.config
    if not run.trainer.ranks.is_first:
        return lambda: None
    logger = open_logger(
        config.logger,
        record.folder,
        dataclasses.asdict(config),
        first_step=run.trainer.step,
        say=status.say,
    )
    if logger is None:
        return lambda: None
    record.forward_rows(logger.log)
    return logger.close


def say(line: str) -> None:
    """Print a line to standard error, before there is a status line."""
    print(line, file=standard_error())


@contextlib.contextmanager
def new_run(
    config: TrainConfig,
    run_dir: Path,
    *,
    resume: bool = False,
    clock_started: float | None = None,
    stop: signals.StopRequest | None = None,
    ranks: Ranks | None = None,
    setup: Setup | None = None,
) -> Iterator[Training]:
    """Prepare a run: checks data, tokenizer and folder, and writes nothing yet.

    Inside `with`, no other process can train into the folder.

    Args:
        resume: whether run_dir may hold a run.
        clock_started, ranks, setup: as in train().
    Raises:
        ValueError, OSError: for settings, data or folders that cannot be used.
    """
    clock = Clock(time.perf_counter() if clock_started is None else clock_started)
    data = open_prepared(config.data.path)
    model_config = dataclasses.replace(config.model, vocab_size=data.vocab_size)
    setup = setup or set_up(config)
    config = dataclasses.replace(config, model=model_config, compile=setup.compiles)
    check_length(len(data.train.tokens), config.model.context_length)
    check_validation(len(data.val.tokens))
    check_tokenizer(data)
    ranks = ranks or Ranks()
    record = RunRecord(run_dir, is_written=ranks.is_first)
    with _own_folder(record, ranks, tokenizer=data.tokenizer_folder, resume=resume):
        yield assemble_run(config, data, record, clock, setup=setup, stop=stop, ranks=ranks)


@contextlib.contextmanager
def _own_folder(
    record: RunRecord, ranks: Ranks, *, tokenizer: Path, resume: bool
) -> Iterator[None]:
    """Hold the lock of a run's folder on the first process; its error is raised on all."""
    error: OSError | None = None
    with contextlib.ExitStack() as held:
        if ranks.is_first:
            try:
                held.enter_context(disk.locked(record.folder))
                if resume:
                    check_place_of_run(record.folder)
                else:
                    check_new_run(record.folder, is_over=True)
                if not record.exists:
                    check_copy(tokenizer, record.tokenizer)
            except OSError as refused:
                error = refused
        if (told := ranks.of_first(error)) is not None:
            raise told
        yield


def assemble_run(
    config: TrainConfig,
    data: PreparedData,
    record: RunRecord,
    clock: Clock,
    *,
    setup: Setup,
    stop: signals.StopRequest | None = None,
    ranks: Ranks | None = None,
) -> Training:
    """Build the trainer of a run with its stopping, telling and saving; writes nothing."""
    ranks = ranks or Ranks()
    trainer = Trainer(config, data, setup, ranks)
    saver = Saver(record.checkpoints, keep=config.checkpoint_keep, before_rename=record.flush)
    limits = Budget(
        config,
        clock,
        saver,
        n_val_tokens=len(data.val.tokens),
        is_waited_for=setup.device.type == "cpu",
    )
    telling = Telling(
        record, clock, limits, model=config.model, device=setup.device, n_devices=ranks.size
    )
    watch = Watch()
    return Training(
        trainer=trainer,
        record=record,
        clock=clock,
        budget=limits,
        stopping=Stopping(limits, stop or signals.StopRequest(), ranks),
        telling=telling,
        watch=watch,
        saving=Saving(trainer, watch, clock, saver),
    )


def _introduce(run: Training, setup: Setup, status: StatusLine, *, is_resumed: bool) -> None:
    trainer, config = run.trainer, run.config
    for notice in setup.notices:
        status.say(f"note: {notice}")
    data = trainer.data
    if warning := same_text_warning(data.train.hash, data.val.hash):
        status.say(warning)
    checkpointed = ", activations checkpointed" if trainer.memory.checkpoint_activations else ""
    n_devices = f"{trainer.ranks.size} x " if trainer.ranks.size > 1 else ""
    sizes = " to ".join(f"{n * config.model.context_length:,}" for n in config.batch_sizes)
    status.say(
        f"{count_parameters(config.model):,} parameters on {n_devices}{trainer.device}, "
        f"{sizes} tokens per step ({config.model.context_length} per window, micro-batches of "
        f"{trainer.micro_batch}{checkpointed}), "
        f"{len(trainer.data.train.tokens):,} training tokens, run in {run.record.folder}"
    )
    first_tokens = config.tokens_in(1)
    if is_resumed:
        status.say(f"resumed at step {trainer.step:,}")
    elif config.max_tokens is not None and config.max_tokens < first_tokens:
        status.say(
            f"note: --max-tokens {config.max_tokens:,} is less than a step, which has "
            f"{first_tokens:,} tokens: one step is trained"
        )


def _finish(
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
            run.saving.save_last(renew=n_averaged > 0)
    except SaveFailed as error:  # raised at the end: first report what is known
        failure = error
    run.telling.data(trainer)
    run.renew_record()
    for line in run.news():
        status.say(line)
    speed = run.config.model.context_length / statistics.median(run.budget.window_seconds.all)
    summary = Summary(
        finished=result is not None,
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
    advice = f"; go on with --resume auto --out {pasted(folder)}"
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
