"""The command `python -m fastlm.report`, which compares runs in one page."""

from fastlm.cli import interrupts

if __name__ == "__main__":
    interrupts.exit_on_interrupt()

import sys
from collections.abc import Sequence
from pathlib import Path

from tyro.conf import Positional

from fastlm import cli
from fastlm.cli.units import human_bytes

_DEFAULT = Path("report.html")


def _report(
    runs: Positional[tuple[Path, ...]],
    out: Path = _DEFAULT,
    serve: bool = False,
    port: int = 8000,
    overwrite: bool = False,
) -> None:
    """Compare runs in one HTML page that works without a network.

    Args:
        runs: folders of runs, or folders with such in them, such as out/sweep.
        out: the page to write; - is standard output. An earlier page of the same runs is replaced,
            and any earlier one where --out is not given.
        serve: write nothing; show the page on this machine and follow runs that go on.
        port: port that --serve listens on.
        overwrite: replace any existing file.
    """
    # Slow imports come after the flags are parsed.
    from fastlm.files.outputs import is_standard_output
    from fastlm.report.page import shown_runs, write_report
    from fastlm.runs.found import find_runs

    if not runs:
        raise ValueError("which runs? give the folder of a run, or one that has runs in it")
    if serve:
        _serve(runs, port)
        return
    if out.is_dir():
        raise ValueError(f"{out} is a folder: give --out the name of a file, such as report.html")
    found = find_runs(runs)
    replace = overwrite or (out == _DEFAULT and bool(shown_runs(out)))
    size = write_report(found, out, replace=replace)
    n_runs = f"{len(found):,} runs" if len(found) > 1 else "1 run"
    line = f"{n_runs}, {human_bytes(size)}: {out}"
    print(line, file=sys.stderr if is_standard_output(out) else sys.stdout)


def _serve(paths: Sequence[Path], port: int) -> None:
    from fastlm.report.server import ReportServer
    from fastlm.runs.found import check_folder

    if not 0 <= port <= 65535:
        raise ValueError(f"port must lie in [0, 65535]: got {port}")
    for path in paths:
        check_folder(path)
    with ReportServer(paths, port) as server:
        print(f"open {server.address} in a browser; Ctrl-C ends this", file=sys.stderr, flush=True)
        server.serve_forever(poll_interval=0.2)


ARGUMENTS = _report


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line of fastlm.report."""
    cli.parse(ARGUMENTS, argv, prog=cli.program("report"))


if __name__ == "__main__":
    cli.run(main)
