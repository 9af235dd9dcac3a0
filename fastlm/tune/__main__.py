"""Measure which settings train fastest on this machine, and write them for fastlm.train to use.

python -m fastlm.tune --recipe leaderboard --data data/owt-v32000 --minutes 10

Whatever settings of fastlm.train say "auto" is tried: kernels, micro-batch, unit of compilation,
threads ... Settings given by a flag stay. fastlm.train finds the result by itself.
"""

from fastlm.cli import interrupts

if __name__ == "__main__":
    interrupts.exit_on_interrupt()

import contextlib
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fastlm import cli
from fastlm.devices.torchrun import world_size
from fastlm.files import disk
from fastlm.files.outputs import check_new_files
from fastlm.runs.given import check_prepared
from fastlm.train.command import configuration


@dataclass(frozen=True)
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

MOST_MINUTES = 10_000
"""A week: timers of the system end somewhere beyond"""


def main(argv: Sequence[str] | None = None) -> None:
    """The command line of fastlm.tune."""
    began = time.perf_counter()
    words = list(sys.argv[1:] if argv is None else argv)
    arguments, flags = cli.parse_known(ARGUMENTS, words, prog=cli.program("tune"))
    if not 0 < arguments.minutes <= MOST_MINUTES:
        raise ValueError(
            f"minutes must be above 0, and at most {MOST_MINUTES:,}: got {arguments.minutes:g}"
        )
    for flag in ("--resume", "--profile", "--tuned"):
        if any(word.partition("=")[0] == flag for word in flags):
            raise ValueError(f"{flag} is for fastlm.train: leave it out here")
    config = configuration(flags)
    if world_size() > 1:
        raise ValueError("fastlm.tune measures a single process: leave out torchrun")
    if config.data.path:
        check_prepared(Path(config.data.path))
    if arguments.out is not None:
        read = [path for path in (config.data.path, config.init_from) if path]
        check_new_files({"--out": arguments.out}, read, replace=arguments.overwrite)
    # Slow imports come after the flags are parsed.
    from fastlm.cli.console import StatusLine
    from fastlm.tune.tuning import report, search_for, task, write_result

    given = {word.partition("=")[0].removeprefix("--").removeprefix("no-") for word in flags}
    one = task(config, given, out=arguments.out, overwrite=arguments.overwrite)
    deadline = began + 60 * arguments.minutes
    with contextlib.ExitStack() as held:
        if arguments.out is not None:  # a second call would find the file only at its end
            held.enter_context(disk.locked(arguments.out))
        status = held.enter_context(StatusLine())
        search, stopped_by = search_for(one, deadline=deadline, say=status.say, show=status.update)
        if stopped_by:
            status.say(f"stopped by {stopped_by}")
    code = 128 + signal.Signals[stopped_by] if stopped_by else 0
    if search.tokens_per_second:
        print(report(search, flags))
        write_result(one, search, seconds=time.perf_counter() - began)
        use = "by itself" if arguments.out is None else f"with {cli.pasted('--tuned', one.path)}"
        cli.say(f"written to {one.path}: fastlm.train uses it {use}")
    else:
        why = "" if stopped_by else f" in {arguments.minutes:g} minutes"
        print(f"error: no step was measured{why}: nothing is written", file=sys.stderr)
        code = code or cli.FAILED
    if code:
        sys.exit(code)


if __name__ == "__main__":
    cli.run(main)
