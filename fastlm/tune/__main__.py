"""Measure which settings train fastest on this machine, and write them for fastlm.train to use.

python -m fastlm.tune --recipe leaderboard --data data/owt-v32000 --minutes 10

Whatever settings of fastlm.train say "auto" is tried: kernels, micro-batch, unit of compilation,
threads ... Settings given by a flag stay. fastlm.train finds the result by itself.
"""

from fastlm.cli import interrupts

if __name__ == "__main__":
    interrupts.exit_on_interrupt()

import contextlib
import dataclasses
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastlm import cli
from fastlm.config import TrainConfig
from fastlm.config.dotted import replaced
from fastlm.files import disk
from fastlm.train.command import configuration
from fastlm.train.signals import Stopped, StopRequest

if TYPE_CHECKING:
    from fastlm.data.prepared import PreparedData
    from fastlm.train.tuned import Conditions
    from fastlm.tune.search import Search


@dataclasses.dataclass(frozen=True)
class TuneArguments:
    """Measure which settings train fastest on this machine, for fastlm.train to use. All other
    flags are fastlm.train's; what they set is not tried. On a GPU the step is compiled and computed
    in bfloat16 unless they say otherwise."""

    minutes: float = 5.0
    """time for everything, with compilation; what does not fit is not tried"""
    out: Path | None = None
    """file to write; none: the user's cache folder, where fastlm.train finds it"""
    overwrite: bool = False
    """replace --out if it exists"""


ARGUMENTS = TuneArguments

_SWITCHES = ("compile", "bf16", "fp8")


def main(argv: Sequence[str] | None = None) -> None:
    """The command line of fastlm.tune."""
    began = time.perf_counter()
    words = list(sys.argv[1:] if argv is None else argv)
    arguments, flags = cli.parse_known(ARGUMENTS, words, prog=cli.program("tune"))
    if not 0 < arguments.minutes < float("inf"):
        raise ValueError(f"minutes must be above 0: got {arguments.minutes}")
    config = configuration(flags)
    if arguments.out is not None:
        disk.check_new_file(arguments.out, replace=arguments.overwrite)
    given = {word.partition("=")[0].removeprefix("--").removeprefix("no-") for word in flags}
    code = _tune(arguments, config, given, began)
    if code:
        sys.exit(code)


def _tune(arguments: TuneArguments, config: TrainConfig, given: set[str], began: float) -> int:
    """Search, print what was found and write it; returns the exit code."""
    # Slow imports come after the flags are parsed.
    import torch

    from fastlm.cli.console import StatusLine
    from fastlm.devices.hardware import choose_device, configure_cuda
    from fastlm.train.assemble import set_up
    from fastlm.train.tuned import conditions_of, default_file
    from fastlm.tune.alternatives import dimensions
    from fastlm.tune.candidate import Candidate, look_around, planned
    from fastlm.tune.search import Search, TimeUp

    device = choose_device(config.device)
    open_switches = [name for name in _SWITCHES if name not in given]
    if device.type == "cuda":
        on = {name: True for name in ("compile", "bf16") if name in open_switches}
        config = replaced(config, on)
        open_switches = []
    else:
        open_switches = [name for name in open_switches if name != "fp8"]
    if config.fp8:  # it is asked for, and tried
        config, open_switches = dataclasses.replace(config, fp8=False), [*open_switches, "fp8"]
    data, config = _data(config)
    configure_cuda(bf16=config.bf16)
    room = look_around(config)
    setup = set_up(config)

    def conditions(found: TrainConfig) -> "Conditions":
        setup = set_up(found)
        dtype, compiles = setup.compute_dtype, setup.compiles
        return conditions_of(found, device, dtype=dtype, compiles=compiles)

    path = default_file(conditions(config)) if arguments.out is None else arguments.out
    if path is None:
        raise ValueError("there is no home folder for the result: give --out FILE")
    disk.check_new_file(path, replace=arguments.out is None or arguments.overwrite)
    code = 0
    with contextlib.ExitStack() as inside:
        status = inside.enter_context(StatusLine())
        for notice in setup.notices:
            status.say(f"note: {notice}")
        search = Search(
            asked=config,
            build=lambda one: Candidate(one, data, room),
            clock=time.perf_counter,
            deadline=began + 60 * arguments.minutes,
            dtype_of=lambda one: _dtype_of(one, set_up(one).compute_dtype, device),
            say=status.say,
            show=status.update,
        )
        order = dimensions(
            config,
            device,
            largest=lambda one: planned(one, room).micro_batch,
            n_threads=room.n_threads,
            opened=open_switches,
        )
        try:
            with (
                torch._dynamo.config.patch(recompile_limit=64, accumulated_recompile_limit=1024),
                StopRequest() as stop,
                stop.raising(),
                _alarm(search.deadline - time.perf_counter(), TimeUp),
            ):
                search.run(order)
        except TimeUp:
            pass
        except Stopped as stopped:
            status.say(f"stopped by {stopped}")
            code = 128 + signal.Signals[str(stopped)]
    if not search.tokens_per_second:
        print("error: nothing was measured yet: nothing is written", file=sys.stderr)
        return code or cli.FAILED
    _report(search, path, conditions(search.found), arguments, time.perf_counter() - began)
    return code


def _data(config: TrainConfig) -> tuple["PreparedData", TrainConfig]:
    """The data to train on, and the configuration with their vocabulary."""
    from fastlm.data.prepared import open_prepared
    from fastlm.data.windows import check_length
    from fastlm.tune.made_tokens import made_data

    if not config.data.path:
        return made_data(config), config
    data = open_prepared(config.data.path)
    check_length(len(data.train.tokens), config.model.context_length)
    network = dataclasses.replace(config.model, vocab_size=data.vocab_size)
    return data, dataclasses.replace(config, model=network)


def _dtype_of(config: TrainConfig, computed: Any, device: Any) -> str:
    """The dtype of a configuration that rounds most: a key of LOSS_TOLERANCE."""
    if config.fp8:
        return "float8"
    is_bf16 = str(computed) == "torch.bfloat16" or config.optimizer_dtype == "bfloat16"
    has_muon = config.optim.name in ("muon", "normuon")
    return "bfloat16" if is_bf16 or (has_muon and device.type == "cuda") else "float32"


@contextlib.contextmanager
def _alarm(seconds: float, error: type[BaseException]) -> Iterator[None]:
    """Inside the block, raise an error when the time is up, in the middle of whatever is done.

    Systems without such an alarm have the estimates of the search alone, as other threads have.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or not hasattr(signal, "setitimer"):
        yield
        return

    def ring(number: int, frame: object) -> None:
        raise error

    previous = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(1e-3, seconds))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _report(
    search: "Search", path: Path, conditions: "Conditions", arguments: TuneArguments, seconds: float
) -> None:
    from fastlm.train.tuned import Choices, Tuned, flags_of, write_tuned
    from fastlm.tune.search import lines_of

    found, asked = search.found, search.asked
    changed = {
        name: getattr(found, name)
        for name in vars(Choices())
        if getattr(found, name) != getattr(asked, name)
    }
    after = search.tokens_per_second * (1 + search.total_gain)
    for line in lines_of(search.rows):
        print(line)
    print(
        f"\n{search.tokens_per_second:,.0f} -> {after:,.0f} tokens/s "
        f"({search.total_gain:+.1%}){'' if search.is_finished else ', not all tried'}"
    )
    switches = [f"--{name}" for name in _SWITCHES if getattr(found, name)]
    words = ["--recipe", found.recipe, *(["--data", found.data.path] if found.data.path else [])]
    print(f"fastest: {cli.command_line('train', *words, *switches, *flags_of(changed))}")
    measured = {
        "recipe": found.recipe,
        "tokens_per_second": {
            "before": round(search.tokens_per_second, 1),
            "after": round(after, 1),
        },
        "tried": [row._asdict() for row in search.rows],
        "finished": search.is_finished,
        "minutes": arguments.minutes,
        "seconds": round(seconds, 1),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    replace = arguments.out is None or arguments.overwrite
    write_tuned(path, Tuned(conditions, Choices(**changed), measured), replace=replace)
    how = "by itself" if arguments.out is None else f"by {cli.pasted('--tuned', path)}"
    print(f"written to {path}, which fastlm.train uses {how}")


if __name__ == "__main__":
    cli.run(main)
