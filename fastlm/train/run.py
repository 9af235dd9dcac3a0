"""A training run as a whole, from its folder and configuration to its summary."""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from fastlm.accounting import count_parameters
from fastlm.checkpoint.saver import Saver
from fastlm.cli.console import StatusLine, standard_error
from fastlm.config import TrainConfig
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
from fastlm.files.tokens import DataLost
from fastlm.pretrained import read_start
from fastlm.runs.given import check_new_run, check_place_of_run, going_on
from fastlm.runs.record import RunRecord
from fastlm.tokenizer.folder import check_copy, is_linked
from fastlm.train import signals
from fastlm.train.assemble import Setup, set_up
from fastlm.train.budget import Budget, Clock
from fastlm.train.ending import end_line
from fastlm.train.finishing import Summary, finish
from fastlm.train.fixed_steps import fix_steps
from fastlm.train.loggers import open_logger
from fastlm.train.loop import Training, begin, loop
from fastlm.train.micro_batch import is_out_of_memory, out_of_memory
from fastlm.train.nonfinite import write_nonfinite
from fastlm.train.resuming import read_saved, reopen
from fastlm.train.saving import Saving
from fastlm.train.stopping import Stopping
from fastlm.train.telling import Telling
from fastlm.train.trainer import Trainer
from fastlm.train.watch import Diverged, Watch

_SMALL_BYTES = 32 << 20
"""Token files that are read in about a tenth of a second, and so before the run begins."""


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

    PyTorch's random state on the CPU, its threads, its choice of algorithms and whether it records
    gradients are the caller's again at the end.

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
            # While the step compiles, which takes longer, all token files are read.
            with ThreadPoolExecutor(1) as pool:
                verified = pool.submit(run.trainer.data.verify if ranks.is_first else lambda: None)
                if _n_bytes(run.trainer.data) <= _SMALL_BYTES:  # a fault is told before writing
                    verified.result()
                pool.submit(run.saving.reserve)
                is_resumed = _open_record(run, resume, setup)
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
            summary = finish(run, stopped_by, stop, status, first_step=first_step)
        ranks.wait()  # torchrun ends all processes when one exits: wait for the first to finish
        return summary


@contextlib.contextmanager
def _callers_settings() -> Iterator[None]:
    """Restore what a run changes in PyTorch for the whole process, and record gradients inside."""
    was = torch.are_deterministic_algorithms_enabled()
    only_warned = torch.is_deterministic_algorithms_warn_only_enabled()
    n_threads = torch.get_num_threads()
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            yield
    finally:
        if torch.are_deterministic_algorithms_enabled() != was:  # takes a second
            torch.use_deterministic_algorithms(was, warn_only=only_warned)
        if torch.get_num_threads() != n_threads:
            torch.set_num_threads(n_threads)


def _n_bytes(data: PreparedData) -> int:
    return sum(file.path.stat().st_size for file in (*data.train.files, *data.val.files))


@contextlib.contextmanager
def _failures_explained(run: Training, status: StatusLine) -> Iterator[None]:
    """Write a file about the step of a divergence; turn out-of-memory errors into advice."""
    trainer = run.trainer
    try:
        yield
    except Diverged as error:
        run.renew_record()  # the description of the step is not for a folder of others
        if not error.is_logged:
            run.telling.step(trainer, error.step)
        status.say(end_line(run, "divergence"))
        with contextlib.suppress(OSError):  # a full disk must not hide the divergence
            error.add_note(str(write_nonfinite(trainer, error.step, run.record.files)))
        trainer.ranks.wait()
        raise
    except DataLost as error:
        status.say(end_line(run, "a change of the data"))
        again = f"put the data back and {going_on(run.record.folder)}"
        if trainer.step and trainer.ranks.size == 1:  # others may be in the middle of a step
            run.read_steps()
            run.check_data()
            run.saving.save_last()
            for line in run.news():
                status.say(line)
            again = f"step {trainer.step:,} is saved: {again}"
        raise DataLost(f"{error}; {again}") from error
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        status.say(end_line(run, "lack of memory"))
        peak = peak_memory(trainer.device)
        raise out_of_memory(trainer.memory, run.config, peak, trainer.ranks.size) from error


def _open_record(run: Training, resume: bool | Path, setup: Setup) -> bool:
    """Start the run's record, or resume it; returns whether it was resumed."""
    trainer, record, saver = run.trainer, run.record, run.saving.saver
    data, ranks = trainer.data, trainer.ranks
    environment = describe(trainer.device) | {"arguments": sys.argv[1:], "processes": ranks.size}
    if setup.tuned:
        environment |= {"tuned": setup.tuned, "tuned_settings": setup.tuned_settings}
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
            held.callback(record.close)
            try:
                held.enter_context(disk.locked(record.folder))
                if resume:
                    check_place_of_run(record.folder)
                else:
                    check_new_run(record.folder, is_over=True)
                if not record.exists or is_linked(record.tokenizer):
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

    def ready() -> Path:
        record.renew(trainer.config, lambda: data.copy_tokenizer(record.tokenizer))
        return record.checkpoints

    saver = Saver(
        record.checkpoints, keep=config.checkpoint_keep, before_rename=record.flush, ready=ready
    )
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
