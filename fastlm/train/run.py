"""Training: from a TrainConfig and a folder to a model, its log and its curve."""

import contextlib
import dataclasses
import itertools
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fastlm.accounting import count_parameters
from fastlm.checkpoint import SavedRun, read_newest, read_run_checkpoint, set_aside, step_folder
from fastlm.checkpoint.saver import SaveFailed
from fastlm.cli.console import StatusLine
from fastlm.config import TrainConfig
from fastlm.data.prepared import check_tokenizer, open_prepared
from fastlm.data.windows import check_length
from fastlm.devices.hardware import describe, peak_memory
from fastlm.devices.ranks import Ranks
from fastlm.generate.sampling import generate_text
from fastlm.pretrained import load_pretrained, read_start
from fastlm.runs.plot import plot_curves
from fastlm.runs.record import RunRecord, write_json
from fastlm.runs.run_files import RunFiles
from fastlm.train import signals
from fastlm.train.budget import Clock
from fastlm.train.fixed_steps import fix_steps
from fastlm.train.loggers import check_logger, open_logger
from fastlm.train.loop import begin, run
from fastlm.train.micro_batch import is_out_of_memory, out_of_memory
from fastlm.train.nonfinite import write_nonfinite
from fastlm.train.signals import Stopped
from fastlm.train.trainer import Trainer
from fastlm.train.watch import Diverged


@dataclass(frozen=True)
class Summary:
    """What a run came to; the content of summary.json."""

    finished: bool
    """False after a signal: the run can be resumed"""
    saved: bool
    """whether its last step is on the disk"""
    stopped_by: str
    step: int
    tokens: int
    seconds: float
    """of training, since the first step began, over all resumes"""
    elapsed_seconds: float
    """on the budget's clock"""
    compile_seconds: float
    """in this process, before its first step"""
    val_loss: float | None
    val_loss_first_million: float | None
    """over the first million tokens of a validation file that has more"""
    perplexity: float | None
    bits_per_byte: float | None
    val_tokens: int
    val_seconds: float
    tokens_per_second: float
    mfu: float | None
    peak_memory_bytes: int
    n_parameters: int
    n_averaged: int
    """sets of weights whose mean the final model is; 0: it is the last step's"""
    device: str


def train(
    config: TrainConfig,
    run_dir: Path,
    *,
    resume: bool | Path = False,
    clock_started: float | None = None,
    job_ends: float | None = None,
    ranks: Ranks | None = None,
) -> Summary:
    """Train a model into a folder.

    Args:
        config: data.path must name a prepared folder; vocab_size is taken from it.
        run_dir: gets config.json, environment.json, log.jsonl, checkpoints/, tokenizer/ and, at
            the end, summary.json, curve.png and sample.txt.
        resume: True goes on from the newest checkpoint in run_dir that is whole, if there is
            one; the folder of a checkpoint in run_dir goes on from that one.
        clock_started: time.perf_counter() when the budget's clock began; now when not given.
        job_ends: when this process will be killed, seconds since the epoch: the run is saved and
            left before, to be resumed.
        ranks: the processes that share out the work; each has to call this. The first writes.
    Raises:
        ValueError, OSError: for settings, data or folders that cannot be used.
        Diverged: if loss or gradients stop being finite; a file beside the log describes the step.
        SaveFailed: if the disk did not take the last checkpoint.
        OutOfMemory: with the flags that make a step smaller.
        Stopped: on a signal before the first step: there is nothing to save.
    """
    ranks = ranks or Ranks()
    with (
        signals.StopRequest(job_ends) as stop,
        StatusLine(is_shown=ranks.is_first) as status,
        contextlib.ExitStack() as at_end,
    ):
        stop.raises = True
        trainer = new_trainer(
            config,
            run_dir,
            resume=bool(resume),
            clock_started=clock_started,
            stop=stop,
            ranks=ranks,
        )
        saved = _open_record(trainer, resume)
        _introduce(trainer, status, resumed=saved)
        at_end.callback(_send_rows_on(trainer, status))
        at_end.callback(trainer.saver.finish)  # however the run ends, what is being written stays
        try:
            with ThreadPoolExecutor(1) as pool:  # compiling takes longer than reading all tokens
                verified = pool.submit(trainer.data.verify if ranks.is_first else lambda: None)
                begin(trainer, status)
                verified.result()
            stop.raises = False
            if config.fix_steps and trainer.config.max_steps is None:
                fix_steps(trainer, status)
            stopped_by = run(trainer, status)
            summary = _finish(trainer, stopped_by, status)
        except Diverged as error:
            with contextlib.suppress(OSError):  # a full disk is not what ended the run
                error.add_note(str(write_nonfinite(trainer, error.step)))
            ranks.wait()
            raise
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            peak = peak_memory(trainer.device)
            raise out_of_memory(trainer.memory, trainer.config, peak, ranks.size) from error
        ranks.wait()  # torchrun ends all processes when one has ended: the first is to be done
        return summary


def _open_record(trainer: Trainer, resume: bool | Path) -> bool:
    """Begin the run's record, or go on with it; returns whether it goes on."""
    record, data, ranks = trainer.record, trainer.data, trainer.ranks
    environment = describe(trainer.device) | {"arguments": sys.argv[1:], "processes": ranks.size}
    saved = _saved(record, resume, ranks) if resume else None
    if saved is None and trainer.config.init_from:
        trainer.load_weights(read_start(trainer.config, data.tokenizer_hash))
    if ranks.is_first:
        trainer.saver.check_space(trainer.checkpoint_bytes)
    if saved is not None:
        trainer.resume(saved)
        for path in set_aside(record.checkpoints, trainer.step) if ranks.is_first else []:
            say(f"note: going back to step {trainer.step:,}: {path} is kept")
        record.resume(trainer.step, environment)
    else:
        record.start(trainer.config, environment)
    if ranks.is_first:
        # Of a resumed run too: a power cut may have come between the two.
        shutil.copytree(data.tokenizer_folder, record.tokenizer, dirs_exist_ok=True)
    return saved is not None


def _send_rows_on(trainer: Trainer, status: StatusLine) -> Callable[[], None]:
    """Let the configured logger have each row; returns what ends that."""
    record, config = trainer.record, trainer.config
    if not trainer.ranks.is_first:
        return lambda: None
    logger = open_logger(
        config.logger,
        record.folder,
        dataclasses.asdict(config),
        first_step=trainer.step,
        say=status.say,
    )
    if logger is None:
        return lambda: None
    record.send_on = logger.log
    return logger.close


def _saved(record: RunRecord, resume: bool | Path, ranks: Ranks) -> SavedRun | None:
    """The checkpoint to go on from: the first process chooses, all read the same."""
    saved, path = None, resume if isinstance(resume, Path) else None
    if path is None and ranks.is_first:
        saved = read_newest(record.checkpoints, lambda text: say(f"warning: {text}"))
        path = None if saved is None else record.checkpoints / step_folder(saved.step)
    path = ranks.of_first(path)
    if saved is None and path is not None:
        saved = read_run_checkpoint(path)
    ranks.wait()  # until all have read: the first may then change what is there
    return saved


def say(line: str) -> None:
    """Tell a person something before there is a status line."""
    print(line, file=sys.stderr)


def new_trainer(
    config: TrainConfig,
    run_dir: Path,
    *,
    resume: bool,
    clock_started: float | None,
    stop: signals.StopRequest | None = None,
    ranks: Ranks | None = None,
) -> Trainer:
    """A run that has not begun: data, tokenizer and folder looked at, nothing written yet.

    Raises:
        ValueError, OSError: for settings, data or folders that cannot be used.
    """
    clock = Clock(time.perf_counter() if clock_started is None else clock_started)
    check_logger(config.logger)
    data = open_prepared(config.data.path)
    model_config = dataclasses.replace(config.model, vocab_size=data.vocab_size)
    config = dataclasses.replace(config, model=model_config)
    check_length(len(data.train.tokens), config.model.context_length)
    check_tokenizer(data)
    ranks = ranks or Ranks()
    record = RunRecord(run_dir, is_written=ranks.is_first)
    if record.exists and not resume:
        raise FileExistsError(
            f"{run_dir} already holds a run: give another --out, or --resume auto to continue it"
        )
    ranks.wait()  # until all have looked: the first then makes the folder
    return Trainer(config, data, record, clock, stop, ranks)


def _introduce(trainer: Trainer, status: StatusLine, *, resumed: bool) -> None:
    config = trainer.config
    if trainer.notice:
        status.say(f"note: {trainer.notice}")
    checkpointed = ", activations checkpointed" if trainer.memory.checkpoint_activations else ""
    n_devices = f"{trainer.ranks.size} x " if trainer.ranks.size > 1 else ""
    sizes = " to ".join(f"{n * config.model.context_length:,}" for n in config.batch_sizes)
    status.say(
        f"{count_parameters(config.model):,} parameters on {n_devices}{trainer.device}, "
        f"{sizes} tokens a step ({config.model.context_length} a window, {trainer.micro_batch} "
        f"windows at once{checkpointed}), "
        f"{len(trainer.data.train.tokens):,} training tokens, run in {trainer.record.folder}"
    )
    if resumed:
        status.say(f"resumed at step {trainer.step:,}")


def _finish(trainer: Trainer, stopped_by: str, status: StatusLine) -> Summary:
    """Average of the tail, last validation, checkpoint, summary, curve and sample."""
    result, n_averaged = None, 0
    try:
        if trainer.stop_reason() is None:
            if trainer.ranks.of_first(trainer.saver.given_step != trainer.step):
                trainer.save()  # the validation can take long
            n_averaged = trainer.use_average()
            result = trainer.evaluate(None)
    except Stopped as stopped:
        stopped_by = str(stopped)
    if result is not None:
        of_mean = f", of the mean of {n_averaged:,} sets of weights" if n_averaged else ""
        status.say(f"validation loss {result.loss:.4f} over {result.n_tokens:,} tokens{of_mean}")
    failure = None
    try:
        trainer.save_last(status, renew=n_averaged > 0)
    except SaveFailed as error:  # what can be told of the run is told first
        failure = error
    speed = trainer.config.model.context_length / statistics.median(trainer.budget.window_seconds)
    summary = Summary(
        finished=result is not None,
        saved=failure is None,
        stopped_by=stopped_by,
        step=trainer.step,
        tokens=trainer.tokens,
        seconds=round(trainer.clock.seconds, 3),
        elapsed_seconds=round(trainer.clock.elapsed, 3),
        compile_seconds=round(trainer.compile_seconds, 3),
        val_loss=result.loss if result else None,
        val_loss_first_million=result.first_million if result else None,
        perplexity=result.perplexity if result else None,
        bits_per_byte=result.bits_per_byte(trainer.data.val.text_bytes) if result else None,
        val_tokens=result.n_tokens if result else 0,
        val_seconds=round(result.seconds, 3) if result else 0.0,
        tokens_per_second=speed,
        mfu=trainer.mfu(speed),
        peak_memory_bytes=peak_memory(trainer.device),
        n_parameters=count_parameters(trainer.config.model),
        n_averaged=n_averaged,
        device=str(trainer.device),
    )
    if not trainer.ranks.is_first:
        return summary
    folder, files = trainer.record.folder, trainer.record.files
    # A disk that did not take the checkpoint may not take these: it is the former that counts.
    with contextlib.suppress(OSError) if failure else contextlib.nullcontext():
        write_json(files.summary, summary)
        plot_curves(trainer.record.rows(), files.curve, title=folder.name)
    if failure is not None:
        raise failure
    if summary.finished:
        text = sample(folder, trainer.stop)
        files.sample.write_text(text + "\n", encoding="utf-8")
        status.say(f"\n{text}\n")
        status.say(_next_commands(folder, trainer.config))
    else:
        status.say(f"stopped by {stopped_by}; go on with --resume auto --out {folder}")
    return summary


def sample(run: Path, stop: signals.StopRequest, max_tokens: int = 300) -> str:
    """A new document by a run's newest checkpoint; shorter if a signal comes."""
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
    return "\n".join(
        [
            f"curve: {RunFiles(run).curve}   log: {RunFiles(run).log}   next:",
            f'  python -m fastlm.generate {run} --prompt "Once upon a time"',
            f"  python -m fastlm.evaluate {run}",
            f"  python -m fastlm.train --data {config.data.path} --time-budget 10m --compile",
        ]
    )
