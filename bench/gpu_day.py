"""The first hours on a GPU, by one command: checks, training steps, tuning, kernels, training.

    python -m bench.gpu_day --out out/gpu_day --minutes 12 [--data DIR] [flags of fastlm.train]

Parts run one after another, what is worth most first, each in a process of its own with a share of
the minutes that are left. One that fails or is out of time is told, and the next one goes on. Every
record is written as soon as it is known; the same command goes on where an earlier one stopped.
Without --data the tokens are made up. Exit code: 0 if every part that had time is done, 1 if one
failed, 2 for wrong arguments, 128 + N after signal N.
"""

import argparse
import contextlib
import math
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
BENCH = ROOT / "bench"
sys.path[:0] = [path for path in (str(ROOT), str(BENCH)) if path not in sys.path]

from day_rows import ALL_RIGHT, FAILED, SOME_FAILED, SOME_LATE, Rows  # noqa: E402
from day_runner import GRACE_SECONDS, SIGNALS, Runner  # noqa: E402

from fastlm import cli  # noqa: E402
from fastlm.files import disk  # noqa: E402
from fastlm.files.destination import check_place, find, is_leftover  # noqa: E402
from fastlm.files.json_files import read_object, read_object_or_empty, to_json  # noqa: E402
from fastlm.files.lock import holding  # noqa: E402

RECIPE, BESIDE = "leaderboard", "baseline"
DONE, OUT_OF_TIME, LEFT_OUT, INTERRUPTED = "done", "out of time", "left out", "interrupted"
_END_SECONDS = 5.0
"""Kept for the table at the end"""
PARTS = "checks, steps, tune, kernels, training; tests (pytest -m gpu) runs only if asked for"
KERNELS_FIRST = ("qkv_norm_rope", "relu2_ffn", "linear_cross_entropy", "attention", "adamw")


@dataclass(frozen=True)
class Day:
    """The request: folders, data and flags of the command.

    Attributes:
        out: folder of the records.
        work: folder of what is large: the made-up data and the run.
        data: prepared data; None: made up.
        flags: of fastlm.train, for the steps, the tuning and the training.
    """

    out: Path
    work: Path
    data: Path | None = None
    flags: tuple[str, ...] = ()
    on_cpu: bool = False

    @property
    def recipe(self) -> str:
        return "tiny" if self.on_cpu else RECIPE

    @property
    def data_flags(self) -> list[str]:
        return [] if self.data is None else ["--data", str(self.data)]

    @property
    def settings(self) -> list[str]:
        """Flags of fastlm.train that are given, or that make a CPU's part tiny."""
        if not self.on_cpu:
            return list(self.flags)
        sizes = {"n-layers": 1, "d-model": 32, "n-heads": 2, "context-length": 32}
        small = [word for name, n in sizes.items() for word in (f"--model.{name}", str(n))]
        return [*small, "--batch-size", "2", "--device", "cpu", *self.flags]


@dataclass(frozen=True)
class Part:
    """A part of the day.

    Attributes:
        share: of the time that is left when it begins.
        least: seconds below which it is not begun.
        command: the words to run, from the seconds it may take.
        told: a line on its records so far.
        is_over: whether its records are whole, though its process had no time to end.
        goes_on: whether it may begin again after its process died, as long as records grow.
    """

    name: str
    share: float
    least: float
    command: Callable[[float], list[str]]
    told: Callable[[], str]
    is_over: Callable[[], bool] = lambda: False
    goes_on: bool = False
    is_asked_for: bool = False
    """Whether only --parts runs it."""
    folder: Path | None = None
    """where it runs; none: in the current folder, where relative paths in flags begin"""


@dataclass
class Result:
    """The outcome of a part: its state, a line, and the seconds it took in all calls."""

    state: str
    told: str
    seconds: float = 0.0


def parts_of(day: Day) -> list[Part]:
    """The parts in their order."""
    python, on_cpu = sys.executable, ["--try-on-cpu"] if day.on_cpu else []
    out = day.out
    checks, steps, tuned = out / "checks.json", out / "steps.json", out / "tuned.json"
    kernels, run, junit = out / "kernels.json", day.work / "run", out / "tests.xml"
    compiled = ["--no-compile"] if day.on_cpu else ["--compile", "--bf16"]

    def check(seconds: float) -> list[str]:
        few = ["--ops", "relu2_ffn"] if day.on_cpu else []
        return [python, str(BENCH / "gpu_day_checks.py"), "--out", str(checks), *few, *on_cpu]

    def step(seconds: float) -> list[str]:
        recipes = [day.recipe] if day.on_cpu else [RECIPE, BESIDE]
        bound = f"{0.95 * seconds:.1f}"  # a row is written before the part is ended
        trace = ["--trace", str(out / "trace.json.gz"), "--bound", bound]
        of_cpu = ["--seconds", "0.1", *compiled] if day.on_cpu else []
        program = [python, str(BENCH / "gpu_day_steps.py"), *recipes, "--out", str(steps)]
        return [*program, *trace, *of_cpu, *day.settings]

    def tune(seconds: float) -> list[str]:
        words = ["--recipe", day.recipe, *day.data_flags, "--out", str(tuned), "--overwrite"]
        minutes = f"{max(seconds - GRACE_SECONDS, seconds / 2) / 60:.2f}"
        # -P: packages in the current folder, which may be anyone's, do not hide this one.
        return [python, "-P", "-m", "fastlm.tune", *words, "--minutes", minutes, *day.settings]

    def time_kernels(seconds: float) -> list[str]:
        program = [python, str(BENCH / "gpu_kernels.py"), "--out", str(kernels)]
        return [*program, "--ops", *_kernels_in_order(on_cpu=day.on_cpu), *on_cpu]

    def test(seconds: float) -> list[str]:
        words = ["-m", "gpu", "-q", "-p", "no:cacheprovider", "--junitxml", str(junit)]
        return [python, "-m", "pytest", *words, *map(str, _files_of_gpu_tests())]

    def train(seconds: float) -> list[str]:
        data = day.data or day.work / "data"
        budget = f"{max(seconds - GRACE_SECONDS, seconds / 2):.0f}s"
        words = ["--recipe", day.recipe, "--data", str(data), "--out", str(run)]
        words += ["--resume", "auto", "--time-budget", budget, *compiled]
        words += ["--tuned", str(tuned)] if tuned.exists() else []
        made = [] if day.data else ["--make-data"]
        return [python, str(BENCH / "gpu_day_train.py"), *made, *words, *day.settings]

    return [
        Part("checks", 0.3, 20, check, lambda: told_of_rows(checks), goes_on=True),
        Part("steps", 0.4, 30, step, lambda: told_of_steps(steps), goes_on=True),
        Part("tune", 0.5, 40, tune, lambda: told_of_tuning(tuned), lambda: is_tuned(tuned)),
        Part("kernels", 0.4, 20, time_kernels, lambda: told_of_kernels(kernels)),
        Part("training", 1.0, 30, train, lambda: told_of_run(run), lambda: is_finished(run)),
        Part("tests", 1.0, 60, test, lambda: told_of_tests(junit), is_asked_for=True, folder=ROOT),
    ]


def _kernels_in_order(*, on_cpu: bool) -> list[str]:
    if on_cpu:
        return ["relu2_ffn"]
    from kernels.cases import OPS

    return list(dict.fromkeys((*KERNELS_FIRST, *OPS)))


def _files_of_gpu_tests() -> list[Path]:
    """Files with tests that are marked gpu, those of the kernels first."""
    files = [p for p in (ROOT / "tests").rglob("test_*.py") if "mark.gpu" in p.read_text("utf-8")]
    return sorted(files, key=lambda path: (path.parent.name != "kernels", path))


def told_of_tests(path: Path) -> str:
    """How many tests passed."""
    from xml.etree import ElementTree

    (suite,) = ElementTree.parse(path).getroot()
    total, *others = (int(suite.get(n, 0)) for n in ("tests", "failures", "errors", "skipped"))
    return f"{total - sum(others)} of {total} passed, {others[2]} were skipped"


def told_of_rows(path: Path) -> str:
    """How many rows are right, and which are not."""
    rows = Rows(path)
    failed = "".join(f"; {name}: {rows.rows[name]['why']}" for name in rows.failed[:3])
    more = f"; and {len(rows.failed) - 3} more" if len(rows.failed) > 3 else ""
    return f"{len(rows.rows) - len(rows.failed)} of {len(rows.rows)} are right{failed}{more}"


def told_of_steps(path: Path) -> str:
    """Tokens per second and MFU of each recipe."""
    told = []
    for recipe, row in Rows(path).rows.items():
        if "tokens_per_second" in row:
            mfu = "" if row["mfu"] is None else f", MFU {row['mfu']:.1%}"
            told.append(f"{recipe}: {row['tokens_per_second']:,.0f} tokens/s{mfu}")
            is_gpu = "gpu" in row.get("machine", {})
            if is_gpu and not 0.8 < row["wall_ms"] / row["step_ms"] < 1.25:
                told[-1] += (
                    f" (by the GPU's events, {row['step_ms']:.2f} ms a step; the wall clock says "
                    f"{row['wall_ms']:.2f})"
                )
        if row["state"] == FAILED:
            told.append(f"{recipe}: {row['why']}")
    return "; ".join(told) or "none"


def is_tuned(path: Path) -> bool:
    """Whether a tuning that was ended in time wrote what it had measured."""
    return "measured" in read_object_or_empty(path)


def told_of_tuning(path: Path) -> str:
    """Tokens per second before and after, and what was chosen."""
    values = read_object_or_empty(path)
    if not values:
        return "nothing was measured"
    speed, chosen = values["measured"]["tokens_per_second"], values["choices"]
    kept = ", ".join(f"{name} {value}" for name, value in chosen.items()) or "no change"
    whole = "" if values["measured"]["finished"] else "; not all was tried"
    return f"{speed['before']:,.0f} -> {speed['after']:,.0f} tokens/s: {kept}{whole}"


def told_of_kernels(path: Path) -> str:
    """How many cases and steps are measured."""
    values = read_object_or_empty(path)
    cases = {(row["op"], tuple(row["shape"])) for row in values.get("rows", [])}
    return f"{len(cases)} cases, {len(values.get('training_steps', []))} training steps"


def is_finished(run: Path) -> bool:
    """Whether a run used its budget and is whole, though its process may have ended late."""
    return bool(read_object_or_empty(run / "summary.json").get("finished", False))


def told_of_run(run: Path) -> str:
    """Steps, loss and speed of the run."""
    summary = read_object_or_empty(run / "summary.json")
    if not summary:
        return f"see {run}" if run.exists() else "no run"
    told = f"{summary['step']:,} steps, {summary['tokens']:,} tokens"
    if summary.get("val_loss") is not None:
        told += f", validation loss {summary['val_loss']:.4f}"
    if summary.get("tokens_per_second"):
        told += f", {summary['tokens_per_second']:,.0f} tokens/s"
    if summary.get("mfu"):
        told += f", MFU {summary['mfu']:.1%}"
    return told


class Record:
    """gpu_day.json: the machine, the settings, and what came of each part.

    Raises:
        ValueError: if the file is of another machine or of other settings, or is damaged.
    """

    def __init__(self, path: Path, conditions: dict[str, Any]) -> None:
        self.path = path
        self.conditions = conditions
        self.began = datetime.now(UTC).isoformat(timespec="seconds")
        self.parts: dict[str, Result] = {}
        if not path.exists():
            return
        then, self.began, self.parts = _read_record(path)
        for name, now in conditions.items():
            if then.get(name) != now:
                raise ValueError(
                    f"{path} is of {name} {then.get(name)}, and this is {now}: give another --out"
                )

    def put(self, name: str, result: Result) -> None:
        """Write what came of a part; its seconds are added to those of earlier calls."""
        before = self.parts.get(name)
        result.seconds += before.seconds if before else 0.0
        self.parts[name] = result
        self.write()

    def write(self) -> None:
        """Write the file whole."""
        parts = {name: vars(result) for name, result in self.parts.items()}
        values = {"began": self.began, "conditions": self.conditions, "parts": parts}
        disk.write_file(self.path, to_json(values), replace=True)


def _read_record(path: Path) -> tuple[dict[str, Any], str, dict[str, Result]]:
    """Conditions, beginning and parts of an earlier call."""
    try:
        values = read_object(path)
        conditions, began, rows = (values[n] for n in ("conditions", "began", "parts"))
        parts = {name: Result(**row) for name, row in rows.items()}
        if not isinstance(conditions, dict) or not isinstance(began, str):
            raise TypeError
        for part in parts.values():
            if [type(part.state), type(part.told)] != [str, str]:
                raise TypeError
            part.seconds = float(part.seconds)
    except (ValueError, LookupError, TypeError, AttributeError):
        raise ValueError(
            f"{path} is damaged, or no record of this command: give another --out"
        ) from None
    return conditions, began, parts


def spend(
    parts: Sequence[Part],
    record: Record,
    runner: Runner,
    deadline: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    say: Callable[[str], None] = print,
) -> None:
    """Run the parts that are not done, each within its share of the time that is left."""
    for part in parts:
        before = record.parts.get(part.name)
        if before is not None and before.state == DONE:
            say(f"== {part.name}: done before")
            continue
        began = clock()
        seconds = part.share * (deadline - began) - runner.grace
        if seconds < part.least:
            needed = math.ceil((part.least + runner.grace) / part.share)
            left = f"{max(0, deadline - began):.0f} s were left"
            result = Result(LEFT_OUT, f"{left}, and it needs {needed}")
            if before is None:
                record.put(part.name, result)
            say(f"== {part.name}: {result.state}, {result.told}")
            continue
        say(f"== {part.name}: {seconds:.0f} s at most")
        result = Result(INTERRUPTED, "")
        try:
            result = _run_part(part, runner, began + seconds, clock)
        finally:
            result.told = result.told or _told(part)
            result.seconds = clock() - began
            record.put(part.name, result)
        say(f"== {part.name}: {result.state} after {result.seconds:.0f} s: {result.told}")


def _run_part(part: Part, runner: Runner, until: float, clock: Callable[[], float]) -> Result:
    """Run a part; one that goes on begins again after its process died, if that told more."""
    told = ""
    while True:
        left = max(1.0, until - clock())
        code, last = runner.run(part.command(left), left, part.folder)
        before, told = told, _told(part)
        has_rows = part.goes_on and code == SOME_FAILED
        if code == ALL_RIGHT or has_rows or (code is None and _is_over(part)):
            return Result(DONE, told)
        if code is None or (part.goes_on and code == SOME_LATE):
            return Result(OUT_OF_TIME, told)
        if not part.goes_on or told == before or clock() >= until:
            return Result(FAILED, f"exit code {code}: {last}; {told}")


def _is_over(part: Part) -> bool:
    try:
        return part.is_over()
    except OSError:
        return False


def _told(part: Part) -> str:
    try:
        return part.told()
    except (OSError, ValueError, LookupError, TypeError) as error:
        return f"its record cannot be read: {error}"


def table(parts: Sequence[Part], record: Record, day: Day) -> Iterator[str]:
    """The lines at the end: what was done, what was not, and where the records lie."""
    yield "| part | state | seconds | result |"
    yield "| --- | --- | --- | --- |"
    for part in parts:
        if part.is_asked_for and part.name not in record.parts:
            continue
        result = record.parts.get(part.name, Result(LEFT_OUT, "not begun"))
        told = result.told.replace("|", "/")
        yield f"| {part.name} | {result.state} | {result.seconds:.0f} | {told} |"
    yield f"records: {day.out}; run and data: {day.work}"


def conditions_of(day: Day) -> dict[str, Any]:
    """The conditions that two calls into one folder must share."""
    import torch

    card = "none" if day.on_cpu else torch.cuda.get_device_name()
    data = None if day.data is None else str(day.data)
    return {"card": card, "torch": torch.__version__, "data": data, "flags": list(day.flags)}


def _no_gpu() -> str:
    """Why there is no GPU, in a line; empty if there is one."""
    import torch

    if torch.cuda.is_available():
        return ""
    build = f"PyTorch {torch.__version__}"
    return f"no CUDA device: {build} sees none; --try-on-cpu tries this program without one"


def _interrupted(number: int, frame: object) -> NoReturn:
    for other in SIGNALS:  # one is enough, and the part may need its time to end
        if signal.getsignal(other) is _interrupted:
            signal.signal(other, signal.SIG_IGN)
    raise SystemExit(128 + number)


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Inside the block a signal that is not ignored, as under nohup, raises SystemExit."""
    before = {n: signal.getsignal(n) for n in SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _interrupted)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check_flags(day: Day, names: Sequence[str]) -> None:
    """Refuse flags of fastlm.train that the parts would refuse one after another."""
    from fastlm.train.command import configuration

    if "tune" in names:
        for flag in ("--resume", "--profile", "--tuned"):
            if any(word.partition("=")[0] == flag for word in day.flags):
                raise ValueError(f"{flag} is not for the part tune: leave it out, or give --parts")
    configuration(["--recipe", day.recipe, *day.data_flags, *day.settings])


def _check_folders(day: Day) -> None:
    """Refuse folders that hold what is not of this command: parts replace their records."""
    if (day.out / "gpu_day.json").exists():
        return
    if day.out.is_dir():
        found = sorted(e.name for e in day.out.iterdir() if not is_leftover(e.name))
        if found:
            raise ValueError(
                f"--out {day.out} holds {found[0]} and no gpu_day.json: give a new or empty folder"
            )
    if os.path.lexists(day.work / "run"):
        raise ValueError(f"--work {day.work} holds another run: give another folder")


def main(argv: Sequence[str] | None = None) -> int:
    began = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--minutes", type=float, default=12.0, help="for everything (default: 12)")
    parser.add_argument("--out", type=Path, default=Path("out/gpu_day"), help="records")
    parser.add_argument("--work", type=Path, help="run and made-up data (default: OUT/work)")
    parser.add_argument("--data", type=Path, help="prepared data (default: made-up tokens)")
    parser.add_argument("--parts", nargs="+", metavar="NAME", help=f"only these: {PARTS}")
    parser.add_argument("--try-on-cpu", action="store_true", help="tiny sizes: no measurement")
    arguments, flags = parser.parse_known_args(argv)
    if not 0 < arguments.minutes < 1e6:
        parser.error(f"--minutes must be above 0: got {arguments.minutes:g}")
    if arguments.data is not None and not (arguments.data / "meta.json").is_file():
        parser.error(f"--data: {arguments.data} is no prepared folder")
    out = arguments.out.resolve()
    day = Day(
        out=out,
        work=(arguments.work or out / "work").resolve(),
        data=arguments.data.resolve() if arguments.data else None,
        flags=tuple(flags),
        on_cpu=arguments.try_on_cpu,
    )
    parts = parts_of(day)
    if unknown := set(arguments.parts or ()) - {part.name for part in parts}:
        parser.error(f"--parts: expected {', '.join(p.name for p in parts)}, got {unknown.pop()}")
    asked = arguments.parts or [part.name for part in parts if not part.is_asked_for]
    chosen = [part for part in parts if part.name in asked]
    with contextlib.ExitStack() as held:
        try:
            _check_flags(day, asked)
            if not day.on_cpu and (why := _no_gpu()):
                raise ValueError(why)
            check_place(find(day.work / "run"))
            held.enter_context(holding(find(out)))  # by the same command, for all of its time
            _check_folders(day)
            record = Record(out / "gpu_day.json", conditions_of(day))
            out.mkdir(exist_ok=True)
            log = out / "output.txt"
            log.open("a").close()
            record.write()
        except (OSError, ValueError) as error:
            return cli.report_error(error)
        deadline = began + 60 * arguments.minutes - _END_SECONDS
        code = 0
        try:
            with _ended_by_signals():
                spend(chosen, record, Runner(log), deadline, say=_say)
        except (KeyboardInterrupt, SystemExit) as stopped:
            code = 130 if isinstance(stopped, KeyboardInterrupt) else int(stopped.code or 0)
        print("\n".join(table(parts, record, day)), flush=True)
    if code:
        return code
    return int(any(record.parts[part.name].state == FAILED for part in chosen))


def _say(line: str) -> None:
    print(re.sub(r"\s+", " ", line), flush=True)


if __name__ == "__main__":
    cli.run(lambda: sys.exit(main()))
