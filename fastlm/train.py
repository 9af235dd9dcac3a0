"""Training: from a TrainConfig and a folder to a model, its log and its curve.

Level 6.
"""

import time

PROCESS_STARTED = time.perf_counter()  # before the slow imports: the budget's clock counts them

import dataclasses
import shutil
import signal
import statistics
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from fastlm import cli
from fastlm.accounting import count_parameters
from fastlm.checkpoint import run_checkpoints
from fastlm.clock import Clock
from fastlm.config import TrainConfig
from fastlm.console import StatusLine
from fastlm.corpus import make_stories
from fastlm.data import open_prepared, prepare
from fastlm.fixed_steps import fix_steps
from fastlm.generate import generate_text
from fastlm.hardware import (
    choose_compute_dtype,
    choose_device,
    configure_cuda,
    describe,
    peak_memory,
)
from fastlm.ops import load_ops
from fastlm.plot import plot_curves
from fastlm.pretrained import load_pretrained
from fastlm.profiling import profile_run
from fastlm.recipes import load_recipe
from fastlm.record import RunRecord, write_json
from fastlm.trainer import Diverged, Trainer
from fastlm.windows import check_length

INTERRUPTED = 75
"""exit code after a clean save on a signal: run the same command with --resume auto to go on"""

_SIGNALS = [
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name)
]


@dataclass(frozen=True)
class Summary:
    """What a run came to; the content of summary.json."""

    finished: bool
    """False after a signal: the run can be resumed"""
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
    resume: bool = False,
    clock_started: float | None = None,
) -> Summary:
    """Train a model into a folder.

    Args:
        config: data.path must name a prepared folder; vocab_size is taken from it.
        run_dir: gets config.json, environment.json, log.jsonl, checkpoints/, tokenizer/ and, at
            the end, summary.json, curve.png and sample.txt.
        resume: go on from the newest checkpoint in run_dir, if there is one.
        clock_started: time.perf_counter() when the budget's clock began; now when not given.
    Raises:
        ValueError, OSError: for settings, data or folders that cannot be used.
        Diverged: if the loss stops being a number.
    """
    trainer = _new_trainer(config, run_dir, resume=resume, clock_started=clock_started)
    config, data, record = trainer.config, trainer.data, trainer.record
    environment = describe(trainer.device) | {"arguments": sys.argv[1:]}
    checkpoints = run_checkpoints(record.checkpoints) if resume else []
    if checkpoints:
        trainer.resume(checkpoints[-1])
        record.resume(trainer.step, environment)
    else:
        record.start(config, environment)
        shutil.copytree(data.folder / "tokenizer", record.tokenizer, dirs_exist_ok=True)
    # Only a main thread may take signals; in another the caller has to stop the run.
    numbers = _SIGNALS if threading.current_thread() is threading.main_thread() else []
    previous = {number: signal.signal(number, _stopper(trainer)) for number in numbers}
    try:
        with StatusLine() as status:
            _introduce(trainer, status, resumed=bool(checkpoints))
            trainer.begin(status)
            if config.fix_steps and trainer.config.max_steps is None:
                fix_steps(trainer, status)
            stopped_by = trainer.run(status)
            return _finish(trainer, stopped_by, status)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _new_trainer(
    config: TrainConfig, run_dir: Path, *, resume: bool, clock_started: float | None
) -> Trainer:
    clock = Clock(time.perf_counter() if clock_started is None else clock_started)
    data = open_prepared(config.data.path)
    model_config = dataclasses.replace(config.model, vocab_size=data.vocab_size)
    config = dataclasses.replace(config, model=model_config)
    check_length(len(data.train.tokens), config.model.context_length)
    record = RunRecord(run_dir)
    if record.exists and not resume:
        raise FileExistsError(
            f"{run_dir} already holds a run: give another --out, or --resume auto to continue it"
        )
    return Trainer(config, data, record, clock)


def _stopper(trainer: Trainer) -> Callable[[int, Any], None]:
    def stop(number: int, frame: Any) -> None:
        if trainer.stop_signal:
            raise KeyboardInterrupt  # the second signal does not wait for the step's end
        trainer.stop_signal = signal.Signals(number).name

    return stop


def _introduce(trainer: Trainer, status: StatusLine, *, resumed: bool) -> None:
    config = trainer.config
    if trainer.notice:
        status.say(f"note: {trainer.notice}")
    checkpointed = ", activations checkpointed" if trainer.memory.checkpoint_activations else ""
    sizes = " to ".join(f"{n * config.model.context_length:,}" for n in config.batch_sizes)
    status.say(
        f"{count_parameters(config.model):,} parameters on {trainer.device}, "
        f"{sizes} tokens a step ({config.model.context_length} a window, {trainer.micro_batch} "
        f"windows at once{checkpointed}), "
        f"{len(trainer.data.train.tokens):,} training tokens, run in {trainer.record.folder}"
    )
    if resumed:
        status.say(f"resumed at step {trainer.step:,}")


def _finish(trainer: Trainer, stopped_by: str, status: StatusLine) -> Summary:
    """Average of the tail, last validation, checkpoint, summary, curve and sample."""
    result = None
    n_averaged = 0
    if trainer.stop_signal is None:
        n_averaged = trainer.use_average()
        result = trainer.evaluate(None)
        of_mean = f", of the mean of {n_averaged:,} sets of weights" if n_averaged else ""
        status.say(f"validation loss {result.loss:.4f} over {result.n_tokens:,} tokens{of_mean}")
    trainer.save()
    speed = trainer.config.model.context_length / statistics.median(trainer.window_seconds)
    summary = Summary(
        finished=result is not None,
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
    folder = trainer.record.folder
    write_json(folder / "summary.json", summary)
    plot_curves(trainer.record.rows(), folder / "curve.png", title=folder.name)
    if summary.finished:
        text = sample(folder)
        (folder / "sample.txt").write_text(text + "\n", encoding="utf-8")
        status.say(f"\n{text}\n")
        status.say(_next_commands(folder, trainer.config))
    else:
        status.say(f"stopped by {stopped_by}; go on with --resume auto --out {folder}")
    return summary


def sample(run: Path, max_tokens: int = 300) -> str:
    """A new document by a run's newest checkpoint."""
    pretrained = load_pretrained(run)
    return "".join(
        generate_text(
            pretrained.model,
            pretrained.tokenizer,
            "",
            max_tokens=max_tokens,
            temperature=0.7,
            top_p=0.95,
        )
    ).strip()


def _next_commands(run: Path, config: TrainConfig) -> str:
    return "\n".join(
        [
            f"curve: {run / 'curve.png'}   log: {run / 'log.jsonl'}   next:",
            f'  python -m fastlm.generate {run} --prompt "Once upon a time"',
            f"  python -m fastlm.evaluate {run}",
            f"  python -m fastlm.train --data {config.data.path} --time-budget 10m --compile",
        ]
    )


@dataclass(frozen=True)
class TrainArguments:
    """Train a language model. Any budget flag replaces all budgets of the recipe."""

    config: Annotated[TrainConfig, tyro.conf.arg(name="")]
    out: Path | None = None
    """folder of the run; out/RECIPE-N when not given"""
    resume: str | None = None
    """auto: go on with the run in --out if it has a checkpoint; or the folder of a run"""
    profile: bool = False
    """only time a few steps and their parts: profile.md and trace.json in --out"""


def _flag(argv: Sequence[str], name: str) -> str | None:
    """Value of --name in argv, "" for one at the end, None when it is not there."""
    for i, word in enumerate(argv):
        if word == f"--{name}":
            return argv[i + 1] if i + 1 < len(argv) else ""
        if word.startswith(f"--{name}="):
            return word.split("=", 1)[1]
    return None


def _starting_point(argv: Sequence[str]) -> TrainArguments:
    """What the flags change: the recipe, or the configuration of the run that is resumed."""
    out, resume = _flag(argv, "out"), _flag(argv, "resume")
    folder = Path(resume) if resume not in (None, "", "auto") else Path(out) if out else None
    if resume and resume != "auto" and folder is not None:
        config = RunRecord(folder).config()  # a named run has to be there
    elif resume and folder is not None and RunRecord(folder).exists:
        config = RunRecord(folder).config()
    else:
        config = load_recipe(_flag(argv, "recipe") or "stories")
    budgets = ("max_steps", "max_tokens", "time_budget")
    words = {word.split("=")[0].replace("_", "-") for word in argv}
    given = [b for b in budgets if f"--{b.replace('_', '-')}" in words]
    # A placeholder keeps the configuration valid until the flag's own value takes its place.
    cleared: dict[str, Any] = {b: (1 if b in given else None) for b in budgets} if given else {}
    return TrainArguments(dataclasses.replace(config, **cleared), folder)


def _next_run_folder(recipe: str) -> Path:
    n = 1
    while (folder := Path("out") / f"{recipe}-{n}").exists():
        n += 1
    return folder


def _story_data(config: TrainConfig) -> Path:
    """Generated stories, prepared once for each vocabulary size."""

    def say(line: str) -> None:
        print(line, file=sys.stderr)

    corpus = make_stories(Path("data") / "stories")
    folder = Path("data") / f"stories-v{config.data.vocab_size}"
    size = config.data.vocab_size
    # Replaced when the stories were made anew: nobody's own data are there.
    return prepare(corpus, folder, vocab_size=size, replace=True, report=say)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line of this module."""
    argv = list(sys.argv[1:] if argv is None else argv)
    started = PROCESS_STARTED
    start = _starting_point(argv)
    arguments = cli.parse(TrainArguments, argv, prog="python -m fastlm.train", default=start)
    config = arguments.config
    if arguments.resume == "auto" and arguments.out is None:
        raise ValueError("--resume auto needs --out: the folder of the run to go on with")
    named = arguments.resume not in (None, "auto")
    if named and Path(str(arguments.resume)) != arguments.out:
        raise ValueError(
            f"--resume {arguments.resume} goes on in that folder: leave out --out {arguments.out}"
        )
    configure_cuda(bf16=config.bf16)
    device = choose_device(config.device)
    choose_compute_dtype(device, config.bf16)
    load_ops(config.triton_ops, device, attention=config.attention, fp8=config.fp8)
    if not config.data.path:
        began = time.perf_counter()
        path = str(_story_data(config))
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, path=path))
        started += time.perf_counter() - began  # making data is not training
    asked = _flag(argv, "model.vocab-size") or _flag(argv, "model.vocab_size")
    if asked and config.model.vocab_size != open_prepared(config.data.path).vocab_size:
        raise ValueError(
            f"the vocabulary's size comes from the data: {config.data.path} was made for another "
            f"one than {asked}; leave the flag out or prepare the text with --vocab-size {asked}"
        )
    run_dir = arguments.out or _next_run_folder(config.recipe)
    if arguments.profile:
        trainer = _new_trainer(config, run_dir, resume=False, clock_started=started)
        print(profile_run(trainer).table())
        return
    try:
        summary = train(config, run_dir, resume=arguments.resume is not None, clock_started=started)
    except Diverged as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    if not summary.finished:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    cli.run(main)
