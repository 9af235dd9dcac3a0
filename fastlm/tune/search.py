"""A greedy search for the fastest way to compute a step, one dimension after another, in a budget.

Each alternative is built, held to the losses of the reference (fastlm.tune.same_losses) and timed
in pairs with the present choice (fastlm.tune.paired); a faster one becomes the present choice. One
that fails in any way is told and left out. The search ends with a comparison of what it found with
where it began: gains that do not hold together are dropped.
"""

import contextlib
import statistics
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from fastlm.config import TrainConfig
from fastlm.tune.alternatives import Alternative, Dimension
from fastlm.tune.paired import STAGES, Comparison, compare
from fastlm.tune.same_losses import Step, difference


class Steps(Protocol):
    """A configuration that is ready to take steps: fastlm.tune.candidate.Candidate."""

    first_steps: list[Step]
    tokens_per_step: int
    block_seconds: float

    def seconds(self) -> float:
        """Seconds of a step, over a block of them that takes about block_seconds."""


Build = Callable[[TrainConfig], Steps]


class TimeUp(BaseException):
    """The budget is used up in the middle of something; no `except Exception` catches it."""


class Row(NamedTuple):
    """The result of an alternative.

    Attributes:
        before, after: tokens per second of the choice before and of the alternative; 0 if it was
            not timed.
        gain: median gain of the pairs.
        spread: median distance from it.
        verdict: "kept", or why not.
    """

    what: str
    before: float
    after: float
    gain: float
    spread: float
    verdict: str

    @property
    def is_kept(self) -> bool:
        return self.verdict == KEPT


KEPT = "kept"
NO_TIME = "not tried: no time left"


@dataclass
class Search:
    """A search in progress, and what it has found so far.

    Args:
        asked: the configuration to begin with, which the losses are compared with.
        build: makes a configuration ready to take steps, or raises.
        deadline: value of clock() at which the search ends.
        dtype_of: the dtype by whose rounding losses of a configuration may differ.
        say: prints a line that stays.
        show: shows what is done now.
    """

    asked: TrainConfig
    build: Build
    clock: Callable[[], float]
    deadline: float
    dtype_of: Callable[[TrainConfig], str]
    say: Callable[[str], None] = lambda line: None
    show: Callable[[str], None] = lambda line: None
    rows: list[Row] = field(default_factory=list)
    tokens_per_second: float = 0.0
    """Speed of the configuration to begin with; 0 before it was measured"""
    total_gain: float = 0.0
    """Gain of what was found over where the search began: measured at the end, or else the product
    of the single gains"""
    is_finished: bool = False

    def __post_init__(self) -> None:
        self.found = self.asked
        self._present: Steps | None = None
        self._build_seconds: dict[bool, list[float]] = {False: [], True: []}

    def run(self, dimensions: Iterable[Dimension]) -> None:
        """Search; may be left by any exception, and then has what was found until then.

        Raises:
            Exception: what the first configuration raises.
        """
        self.show("the present choice")
        self._present = self._built(self.asked)
        self._reference = self._present.first_steps
        self._tolerated = self.dtype_of(self.asked)
        first = statistics.median(self._present.seconds() for _ in range(3))
        self.tokens_per_second = self._present.tokens_per_step / first
        self.say(f"the present choice: {self.tokens_per_second:,.0f} tokens/s")
        with contextlib.suppress(TimeUp):
            for dimension in dimensions:
                self._search(dimension)
            self._confirm()
            self.is_finished = all(row.verdict != NO_TIME for row in self.rows)

    def _search(self, dimension: Dimension) -> None:
        tried: set[str] = set()
        while True:
            new = [one for one in dimension(self.found) if one.key not in tried]
            if not new:
                return
            tried.add(new[0].key)
            self._try(new[0])

    def _try(self, alternative: Alternative) -> None:
        try:
            config = replace(self.found, **alternative.changes)
        except ValueError as error:
            self._tell(_untimed(alternative.what, f"left out: {first_line(error)}"))
            return
        needed = self._seconds_for(config)
        if self.found != self.asked:  # they are compared at the end
            needed += self._seconds_for(self.asked, share=_KNOWN_SHARE)
        if self.clock() + needed > self.deadline:
            self._tell(_untimed(alternative.what, NO_TIME))
            return
        self.show(f"{alternative.what} ...")
        row, steps = self._compared(alternative.what, config)
        if row.is_kept:
            self._present, self.found = steps, config
            self.total_gain = (1 + self.total_gain) * (1 + row.gain) - 1
        self._tell(row)
        if steps is None:
            self._check_present()

    def _compared(self, what: str, config: TrainConfig) -> tuple[Row, Steps | None]:
        """Compare a configuration with the present one; None in its place if it failed."""
        try:
            return self._timed(what, config)
        except TimeUp:
            self._tell(_untimed(what, NO_TIME))
            raise
        except Exception as error:
            # Not the error itself, whose frames hold the memory of what failed.
            return _untimed(what, f"left out: {first_line(error)}"), None

    def _timed(self, what: str, config: TrainConfig) -> tuple[Row, Steps]:
        assert self._present is not None
        steps = self._built(config)
        dtype = less_precise(self._tolerated, self.dtype_of(config))
        if wrong := difference(self._reference, steps.first_steps, dtype):
            return _untimed(what, f"left out: {wrong}"), steps
        return _row(what, compare(self._present.seconds, steps.seconds), steps), steps

    def _check_present(self) -> None:
        """After a failure: a device that no longer computes ends the search."""
        assert self._present is not None
        try:
            self._present.seconds()
        except Exception as error:
            self.say(f"warning: nothing can be computed after that ({first_line(error)})")
            raise TimeUp from None

    def _confirm(self) -> None:
        """Compare what was found with where the search began, if there is time."""
        if self.found == self.asked or self._present is None:
            return
        what = "all of them"
        if self.clock() + self._seconds_for(self.asked, share=_KNOWN_SHARE) > self.deadline:
            self._tell(_untimed(what, NO_TIME))
            return
        self.show("all changes together ...")
        try:
            began = self._built(self.asked)
            row = _row(what, compare(began.seconds, self._present.seconds), self._present)
        except TimeUp:
            self._tell(_untimed(what, NO_TIME))
            raise
        except Exception as error:
            self._tell(_untimed(what, f"left out: {first_line(error)}"))
            return
        self._tell(row)
        self.tokens_per_second, self.total_gain = row.before, row.gain
        if not row.is_kept:
            self.found, self.total_gain = self.asked, 0.0
            self.say("note: the gains do not hold together: nothing is changed")

    def _built(self, config: TrainConfig) -> Steps:
        began = self.clock()
        steps = self.build(config)
        self._build_seconds[config.compile].append(self.clock() - began)
        return steps

    def _seconds_for(self, config: TrainConfig, *, share: float = 1.0) -> float:
        """Expected time to build a configuration, at a share of the longest, and to compare it."""
        assert self._present is not None
        took = self._build_seconds[config.compile] or [FIRST_COMPILATION_SECONDS]
        # The longest one counts, as the next may find nothing in the compilers' caches, but not the
        # first, which loads and starts the compilers.
        building = max(took[1:] or took)
        return share * building + 2 * STAGES[0][0] * self._present.block_seconds

    def _tell(self, row: Row) -> None:
        self.rows.append(row)
        self.say(line_of(row))


FIRST_COMPILATION_SECONDS = 45.0
"""Expected time of the first compilation of a step, before one was measured"""

_KNOWN_SHARE = 0.5
"""Time to build what was built before, whose code the compilers keep, as a share of the first"""

_PRECISION = ("float32", "bfloat16", "float8")


def less_precise(a: str, b: str) -> str:
    """The one of two dtypes that rounds more."""
    return max(a, b, key=_PRECISION.index)


def first_line(error: BaseException) -> str:
    """The kind of an error and its first line, at most 160 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return told if len(told) <= 160 else f"{told[:157]}..."


def _untimed(what: str, verdict: str) -> Row:
    return Row(what, 0.0, 0.0, 0.0, 0.0, verdict)


def _row(what: str, compared: Comparison, steps: Steps) -> Row:
    before, after = (
        steps.tokens_per_step / statistics.median(seconds)
        for seconds in (compared.before, compared.after)
    )
    verdict = KEPT if compared.is_faster else "slower" if compared.gain < 0 else "no clear gain"
    return Row(what, before, after, compared.gain, compared.spread, verdict)


def line_of(row: Row) -> str:
    """A row as a line of progress."""
    if not row.before:
        return f"{row.what}: {row.verdict}"
    return (
        f"{row.what}: {row.before:,.0f} -> {row.after:,.0f} tokens/s, {row.gain:+.1%} "
        f"(± {row.spread:.1%}): {row.verdict}"
    )


def lines_of(rows: Iterable[Row]) -> Iterator[str]:
    """Rows as a table in Markdown."""
    yield "| what | tokens/s before | after | gain | result |"
    yield "| --- | --- | --- | --- | --- |"
    for row in rows:
        numbers = ("", "", "")
        if row.before:
            gain = f"{row.gain:+.1%} ± {row.spread:.1%}"
            numbers = (f"{row.before:,.0f}", f"{row.after:,.0f}", gain)
        yield f"| {row.what} | {' | '.join(numbers)} | {row.verdict} |"
