"""The command line of fastlm.train: flags become a configuration, a run becomes an exit code."""

import contextlib
import dataclasses
import itertools
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from fastlm import cli
from fastlm.config import PathText, TrainConfig
from fastlm.config.continued import check_continues
from fastlm.config.dotted import replaced
from fastlm.config.recipes import load_recipe
from fastlm.devices import torchrun
from fastlm.files import disk
from fastlm.files.step_folders import run_checkpoints
from fastlm.runs.given import (
    check_new_run,
    check_place_of_run,
    check_prepared,
    check_run,
    going_on,
    nothing_to_go_on_from,
    only_weights,
    run_of,
)
from fastlm.runs.record import RunRecord
from fastlm.runs.state import state_of
from fastlm.train import signals

if TYPE_CHECKING:
    from fastlm.devices.ranks import Ranks
    from fastlm.train.assemble import Setup


@dataclass(frozen=True)
class TrainArguments:
    """Train a language model. Any budget flag replaces all budgets of the recipe."""

    config: Annotated[TrainConfig, tyro.conf.arg(name="")]
    out: Path | None = None
    """folder of the run; none: out/RECIPE-N"""
    resume: PathText | None = None
    """auto: resume the run in --out if it has a checkpoint; otherwise the folder of a run, or of
    one of its checkpoints, to resume from"""
    profile: bool = False
    """only profile a few steps: writes profile.md and trace.json to --out"""
    tuned: PathText = "auto"
    """settings that say auto are those that fastlm.tune measured to be the fastest. auto: in a new
    run, if they were measured for this machine, network and batch, and a resumed run goes on with
    those it has; none: not at all; otherwise the file that fastlm.tune wrote"""


ARGUMENTS = TrainArguments


def _flag(argv: Sequence[str], name: str) -> str | None:
    """Value of the last --name in argv; "" if it ends argv, None if it is absent."""
    value = None
    for i, word in enumerate(argv):
        if word == f"--{name}":
            value = argv[i + 1] if i + 1 < len(argv) else ""
        if word.startswith(f"--{name}="):
            value = word.split("=", 1)[1]
    return value


def _starting_point(argv: Sequence[str]) -> TrainArguments:
    """The configuration that the flags override: a recipe, or that of the resumed run."""
    out, resume, recipe = (_flag(argv, name) for name in ("out", "resume", "recipe"))
    folder = Path(out) if out else None
    if resume not in (None, "", "auto"):
        folder = run_of(Path(str(resume)))
        check_run(folder, is_saved=False)
    if resume and resume != "auto" and folder is not None:
        config = _own_config(folder, argv)  # a named run must exist
    elif resume and folder is not None and RunRecord(folder).exists:
        config = _own_config(folder, argv)
    else:
        config = load_recipe("stories" if recipe is None else recipe)
        if start := _flag(argv, "init-from") or _flag(argv, "init_from"):
            check_run(Path(start))
            network = RunRecord(run_of(Path(start))).config().model
            config = dataclasses.replace(config, model=network)
    if recipe and recipe != config.recipe:
        raise ValueError(
            f"{folder} is a run of the recipe {config.recipe}, not {recipe}: leave out --recipe, "
            "or give another --out"
        )
    budgets = ("max_steps", "max_tokens", "time_budget")
    words = {word.split("=")[0].replace("_", "-") for word in argv}
    given = [b for b in budgets if f"--{b.replace('_', '-')}" in words]
    # A placeholder keeps the configuration valid until the flag's own value takes its place.
    cleared: dict[str, Any] = {b: (1 if b in given else None) for b in budgets} if given else {}
    return TrainArguments(dataclasses.replace(config, **cleared), folder)


def _own_config(folder: Path, argv: Sequence[str]) -> TrainConfig:
    """The configuration of a run to be resumed; without what was tuned if --tuned is another."""
    record = RunRecord(folder)
    config = record.config()
    if (_flag(argv, "tuned") or "auto") == "auto":
        return config
    given = (environment.get("tuned_settings") for environment in record.environments())
    pairs = [pair for settings in given if isinstance(settings, dict) for pair in settings.items()]
    # A value that a flag has replaced since stays; other settings never said "auto".
    names = [name for name, value in pairs if vars(config).get(name) == value]
    return replaced(config, {n: "auto" for n in names if getattr(TrainConfig, n, "") == "auto"})


def _next_run_folder(recipe: str) -> contextlib.AbstractContextManager[Path]:
    """Inside `with`, the new folder out/RECIPE-N, which no other start gets."""
    return disk.first_free_folder(Path("out") / f"{recipe}-{n}" for n in itertools.count(1))


def _story_data(config: TrainConfig) -> Path:
    """Folder of generated stories, which are prepared once for each vocabulary size."""
    from fastlm.corpus.generated import are_unchanged, make_stories
    from fastlm.data.preparing import prepare
    from fastlm.train.run import say

    stories = Path("data") / "stories"
    # Another version of fastlm may have made others; a text that somebody edited stays.
    corpus = make_stories(stories, replace=are_unchanged(stories))
    folder = Path("data") / f"stories-v{config.data.vocab_size}"
    size = config.data.vocab_size
    # Replacing is safe when the stories were generated again: nobody's own data are there.
    return prepare(corpus, folder, vocab_size=size, replace=True, say=say)


def _vocab_size(config: TrainConfig) -> int:
    """The vocabulary size of the data, which are checked, or of the stories to come."""
    from fastlm.data.prepared import open_prepared
    from fastlm.data.windows import check_length

    if not config.data.path:
        return config.data.vocab_size
    data = open_prepared(config.data.path)
    check_length(len(data.train.tokens), config.model.context_length)
    return data.vocab_size


def configuration(argv: Sequence[str]) -> TrainConfig:
    """The configuration that flags of fastlm.train give, before any data is read.

    Raises:
        ValueError: for unknown flags or invalid values.
    """
    return _parsed(list(argv)).config


def _parsed(argv: list[str]) -> TrainArguments:
    start = _starting_point(argv)
    return cli.parse(ARGUMENTS, argv, text_flag="--data", prog=cli.program("train"), default=start)


def _flags_but(argv: Sequence[str], *names: str) -> list[str]:
    """The words of argv without the flags of these names and their values."""
    flags = [f"--{name}" for name in names]
    return [
        word
        for before, word in zip(("", *argv), argv, strict=False)
        if word.partition("=")[0] not in flags and before not in flags
    ]


def _check_resumes(arguments: TrainArguments, argv: Sequence[str]) -> None:
    """Refuse what a run cannot be resumed with, before slow imports: train() refuses the rest."""
    if arguments.resume is None:
        return
    if arguments.resume == "auto" and arguments.out is None:
        raise ValueError("--resume auto needs --out: the folder of the run to resume")
    is_named = arguments.resume != "auto"
    folder = run_of(Path(arguments.resume)) if is_named else arguments.out
    assert folder is not None
    if folder != arguments.out:
        raise ValueError(
            f"--resume {arguments.resume} continues in its own folder: leave out --out "
            f"{arguments.out}"
        )
    record, typed = RunRecord(folder), _flags_but(argv, "resume", "out")
    if record.exists and run_checkpoints(record.checkpoints):
        if state_of(folder).name == "imported":
            raise only_weights(folder, typed)
        check_continues(record.config(), arguments.config, str(folder))
    elif is_named:
        raise nothing_to_go_on_from(folder, typed)
    else:
        check_place_of_run(folder)


def main(argv: Sequence[str] | None = None, *, started: float | None = None) -> None:
    """The command line of fastlm.train.

    Args:
        started: time.perf_counter() when the process began; now when not given.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    started = time.perf_counter() if started is None else started
    arguments = _parsed(argv)
    if arguments.config.data.path:
        check_prepared(Path(arguments.config.data.path))
    if arguments.out is not None and arguments.resume is None:
        check_new_run(arguments.out)
    _check_resumes(arguments, argv)
    tuned = _tuned(arguments)
    torchrun.check_environment()
    # Slow imports come after the flags are parsed.
    from fastlm.data.prepared import open_prepared
    from fastlm.devices.hardware import configure_cuda
    from fastlm.devices.ranks import LostProcess, joined
    from fastlm.train.assemble import set_up
    from fastlm.train.foresight import warn_of_cpu
    from fastlm.train.profiling import profile_run
    from fastlm.train.run import new_run, say

    config = arguments.config
    resume: bool | Path = arguments.resume is not None
    if arguments.resume not in (None, "auto"):
        resume = Path(str(arguments.resume))
    configure_cuda(bf16=config.bf16)
    setup = set_up(config)
    asked = _flag(argv, "model.vocab-size") or _flag(argv, "model.vocab_size")
    try:
        with joined(config.parallel, setup.device) as ranks, contextlib.ExitStack() as at_end:
            if config.parallel != "auto" and ranks.size == 1:
                say(f"note: --parallel {config.parallel} needs torchrun: this is one process")
            warning = warn_of_cpu(config, setup.device, vocab_size=_vocab_size(config))
            if warning and ranks.is_first:
                say(f"warning: {warning}")
            if not config.data.path:
                began = time.perf_counter()
                path = ranks.of_first(str(_story_data(config)) if ranks.is_first else "")
                data = dataclasses.replace(config.data, path=path)
                config = dataclasses.replace(config, data=data)
                started += time.perf_counter() - began  # making data is not on the budget
            if asked and config.model.vocab_size != open_prepared(config.data.path).vocab_size:
                raise ValueError(
                    f"the vocabulary size comes from the data: {config.data.path} was made with "
                    f"another one than --model.vocab-size {asked}; leave the flag out, or prepare "
                    f"the text with --vocab-size {asked}"
                )
            config, setup = _with_tuned(config, setup, tuned, ranks)
            if arguments.profile and ranks.size > 1:
                raise ValueError("--profile times a single process: leave out torchrun")
            job_ends = signals.job_end(lambda text: say(f"warning: {text}"))
            # From here on a signal raises, so that a new folder and its lock are removed.
            stop = at_end.enter_context(signals.StopRequest(job_ends))
            run_dir = arguments.out
            with stop.raising():
                if run_dir is None:
                    made = _next_run_folder(config.recipe) if ranks.is_first else None
                    run_dir = ranks.of_first(at_end.enter_context(made) if made else Path())
                if arguments.profile:
                    with new_run(config, run_dir, clock_started=started, setup=setup) as run:
                        print(profile_run(run).table())
                    return
            code = _exit_code(
                config, run_dir, resume=resume, started=started, ranks=ranks, setup=setup, stop=stop
            )
    except LostProcess as error:
        say(f"error: {error}")
        code = 1
    except signals.Stopped as stopped:
        say(f"stopped by {stopped} before training began")
        code = signals.SAVED
    if code:
        sys.exit(code)


def _tuned(arguments: TrainArguments) -> str:
    """Where to look for what fastlm.tune measured: a resumed run goes on as it began."""
    if arguments.tuned not in ("auto", "none") and not Path(arguments.tuned).exists():
        raise FileNotFoundError(
            f"{arguments.tuned} does not exist: --tuned names a file of fastlm.tune"
        )
    is_resumed = arguments.resume is not None and RunRecord(arguments.out or Path()).exists
    return "none" if is_resumed and arguments.tuned == "auto" else arguments.tuned


def _with_tuned(
    config: TrainConfig, setup: "Setup", where: str, ranks: "Ranks"
) -> tuple[TrainConfig, "Setup"]:
    """Take over what fastlm.tune measured, the same on all processes: the first one decides."""
    from fastlm.data.prepared import open_prepared
    from fastlm.train.assemble import set_up
    from fastlm.train.tuned import Taken, changed, take_tuned

    taken = Taken(config)
    if ranks.is_first:
        vocab_size = open_prepared(config.data.path).vocab_size
        full = replaced(config, {"model.vocab_size": vocab_size})
        taken = take_tuned(full, setup, where, n_ranks=ranks.size)
    taken = ranks.of_first(taken)
    settings = changed(config, taken.config)
    if taken.path:
        config, setup = taken.config, set_up(taken.config, proves_kernels=True)
    notices = (*setup.notices, taken.note) if taken.note else setup.notices
    setup = dataclasses.replace(setup, tuned=taken.path, tuned_settings=settings)
    return config, dataclasses.replace(setup, notices=notices)


def _exit_code(
    config: TrainConfig,
    run_dir: Path,
    *,
    resume: bool | Path,
    started: float,
    ranks: "Ranks",
    setup: "Setup",
    stop: signals.StopRequest,
) -> int:
    """Train; if the run does not finish, print the reason in one line."""
    from fastlm.checkpoint.saver import SaveFailed
    from fastlm.train.micro_batch import OutOfMemory
    from fastlm.train.run import say, train
    from fastlm.train.watch import Diverged

    try:
        summary = train(
            config,
            run_dir,
            resume=resume,
            clock_started=started,
            ranks=ranks,
            setup=setup,
            stop=stop,
        )
    except (Diverged, SaveFailed, OutOfMemory) as error:
        if ranks.is_first or not isinstance(error, Diverged):  # all processes raise the same one
            say(f"error: {error}")
            for path in getattr(error, "__notes__", []):
                say(f"description of the step: {path}")
        return 1
    except signals.Stopped as stopped:
        if ranks.is_first:
            # Without a configuration nothing was written: a new folder was removed, and an old one
            # is unchanged.
            begun = RunRecord(run_dir).exists
            advice = going_on(run_dir)
            if resume:  # config.json may lack this command's settings
                advice = "the same command goes on"
            how = advice if begun else "nothing was written"
            say(f"stopped by {stopped} before the first step; {how}")
        return signals.SAVED
    if summary.finished:
        return 0
    return signals.SAVED if summary.saved else 1
