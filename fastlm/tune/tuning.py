"""Tuning as a whole: from a configuration to a search, and from a search to a file and a table."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch

from fastlm import cli
from fastlm.config import TrainConfig
from fastlm.config.dotted import replaced
from fastlm.data.prepared import PreparedData, open_prepared
from fastlm.data.windows import check_length
from fastlm.devices.hardware import choose_device, configure_cuda
from fastlm.files import disk
from fastlm.train.assemble import set_up
from fastlm.train.signals import Stopped, StopRequest
from fastlm.train.tuned import (
    Choices,
    Conditions,
    Tuned,
    conditions_of,
    default_file,
    flags_of,
    write_tuned,
)
from fastlm.tune.alternatives import automatic_attention, dimensions
from fastlm.tune.candidate import Candidate, look_around, planned
from fastlm.tune.made_tokens import made_data
from fastlm.tune.search import Search, TimeUp, lines_of

SWITCHES = ("compile", "bf16", "fp8")
"""Settings without "auto": the search tries them where no flag decides, and names them as flags"""

_AGAIN_SECONDS = 5.0

_MOST_GRAPHS = 64
"""Compiled graphs of one function: those of all alternatives, of which the present one is kept"""


class Task(NamedTuple):
    """Everything that a search begins with.

    Attributes:
        opened: the switches that it may turn on.
        path: the file to write.
        replace: whether an existing file is replaced.
    """

    config: TrainConfig
    data: PreparedData
    opened: tuple[str, ...]
    path: Path
    replace: bool


def task(
    config: TrainConfig, given: Collection[str], *, out: Path | None = None, overwrite: bool = False
) -> Task:
    """Check and open everything that a search needs.

    On a GPU the step is compiled and in bfloat16 unless flags say otherwise; on other devices the
    search tries both. fp8 is tried if asked for.

    Args:
        given: names of the flags that the user gave, which the search leaves as they are.
        out: file to write; None: the place where fastlm.train looks.
    Raises:
        ValueError, OSError: for settings, data or files that cannot be used.
    """
    device = choose_device(config.device)
    opened = [name for name in ("compile", "bf16") if name not in given]
    if device.type == "cuda":
        config, opened = replaced(config, dict.fromkeys(opened, True)), []
    if config.fp8:
        config, opened = replaced(config, {"fp8": False}), [*opened, "fp8"]
    if config.data.path:
        data = open_prepared(config.data.path)
        check_length(len(data.train.tokens), config.model.context_length)
        config = replaced(config, {"model.vocab_size": data.vocab_size})
    else:
        data = made_data(config)
    configure_cuda(bf16=config.bf16)
    path = default_file(_conditions(config)) if out is None else out
    if path is None:
        raise ValueError("there is no home folder for the result: give --out FILE")
    replace = out is None or overwrite
    disk.check_new_file(path, replace=replace)
    return Task(config, data, tuple(opened), path, replace)


def search_for(
    one: Task,
    *,
    deadline: float,
    say: Callable[[str], None] = lambda line: None,
    show: Callable[[str], None] = lambda line: None,
) -> tuple[Search, str]:
    """Search until a deadline or a signal; returns the search, and the signal's name or "".

    PyTorch's threads are the caller's again at the end.

    Args:
        deadline: value of time.perf_counter().
        say: prints a line that stays.
        show: shows what is done now.
    Raises:
        Exception: what the configuration to begin with raises.
    """
    setup = set_up(one.config)
    for notice in setup.notices:
        say(f"note: {notice}")
    room = look_around(one.config)
    fitting, alone = (planned(one.config, room, is_alone=a).micro_batch for a in (False, True))
    if fitting != alone:
        say(
            f"note: micro-batches of {alone} fit only one network at a time: those of {fitting} "
            "are measured, and the choice of the size is left to fastlm.train"
        )
    search = Search(
        asked=one.config,
        build=lambda config: Candidate(config, one.data, room),
        clock=time.perf_counter,
        deadline=deadline,
        dtype_of=_dtype_of,
        say=say,
        show=show,
    )
    order = dimensions(
        one.config,
        setup.device,
        largest=lambda config: planned(config, room).micro_batch if fitting == alone else 0,
        kernels=lambda config: set_up(config).kernels,
        n_threads=room.n_threads,
        attention=automatic_attention(one.config, setup.device, setup.compute_dtype),
        opened=one.opened,
    )
    with contextlib.ExitStack() as inside:
        inside.callback(torch.set_num_threads, room.n_threads)
        if one.config.compile or "compile" in one.opened:
            inside.enter_context(_many_graphs())
        stop = inside.enter_context(StopRequest())
        try:
            with stop.raising(), alarm(deadline - time.perf_counter()):
                search.run(order)
        except TimeUp:
            pass
        except Stopped as stopped:
            return search, str(stopped)
    return search, ""


def _conditions(config: TrainConfig) -> Conditions:
    setup = set_up(config)
    return conditions_of(config, setup.device, dtype=setup.compute_dtype, compiles=setup.compiles)


def _dtype_of(config: TrainConfig) -> str:
    """The dtype of a configuration that rounds most: a key of LOSS_TOLERANCE."""
    if config.fp8:
        return "float8"
    setup = set_up(config)
    has_muon = config.optim.name in ("muon", "normuon")
    automatic = "bfloat16" if setup.device.type == "cuda" else "float32"
    chosen = config.optimizer_dtype
    dtypes = {str(setup.compute_dtype).removeprefix("torch.")}
    dtypes |= {automatic if chosen == "auto" else chosen} if has_muon else set()
    return "bfloat16" if "bfloat16" in dtypes else "float32"


def _many_graphs() -> contextlib.AbstractContextManager[Any]:
    """Inside `with`, torch.compile keeps the graphs of all alternatives."""
    limits: dict[str, Any] = {
        "recompile_limit": _MOST_GRAPHS,
        "accumulated_recompile_limit": 1 << 20,
    }
    # Dynamo takes seconds to import.
    patched: contextlib.AbstractContextManager[Any] = torch._dynamo.config.patch(limits)
    return patched


@contextlib.contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Inside the block, TimeUp is raised after so many seconds, in the middle of whatever is done.

    On Windows, and in other threads than the main one, there is no such alarm: only the estimates
    of the search keep the budget there.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or not hasattr(signal, "setitimer"):
        yield
        return

    def ring(number: int, frame: object) -> None:
        raise TimeUp

    previous = signal.signal(signal.SIGALRM, ring)
    # Again and again, as Python drops an exception that comes while it frees an object.
    signal.setitimer(signal.ITIMER_REAL, max(1e-3, seconds), _AGAIN_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def found_choices(search: Search) -> Choices:
    """The settings that a search changed, but for the switches."""
    found, asked = search.found, search.asked
    changed = {
        name: getattr(found, name)
        for name in vars(Choices())
        if getattr(found, name) != getattr(asked, name)
    }
    return Choices(**changed)


def write_result(one: Task, search: Search, *, seconds: float) -> None:
    """Write the file of a search.

    Raises:
        OSError: if it cannot be written.
    """
    before = search.tokens_per_second
    measured: dict[str, Any] = {
        "recipe": search.found.recipe,
        "tokens_per_second": {
            "before": round(before, 1),
            "after": round(before * (1 + search.total_gain), 1),
        },
        "tried": [row._asdict() for row in search.rows],
        "finished": search.is_finished,
        "seconds": round(seconds, 1),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    tuned = Tuned(_conditions(search.found), found_choices(search), measured)
    write_tuned(one.path, tuned, replace=one.replace)


def report(search: Search, flags: Sequence[str] = ()) -> str:
    """The table of a search, its gain, and the command that trains with what it found.

    Args:
        flags: those of the user, which decide what the command trains.
    """
    before = search.tokens_per_second
    after = before * (1 + search.total_gain)
    rest = "" if search.is_finished else "; not all was tried"
    found = search.found
    words = list(flags)
    words += [f"--{name}" for name in SWITCHES if getattr(found, name) and f"--{name}" not in flags]
    words += flags_of(found_choices(search).made)
    gain = f"{before:,.0f} -> {after:,.0f} tokens/s ({search.total_gain:+.1%}){rest}"
    return "\n".join(
        [*lines_of(search.rows), "", gain, f"fastest: {cli.command_line('train', *words)}"]
    )
