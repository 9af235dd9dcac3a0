"""The rule by which a measurement shows that one way to compute is faster than another.

Blocks of steps of the present choice and of the alternative are timed in pairs, one right after the
other and in alternating order (A B, B A, A B ...), so that a machine that others use, or that
changes its clock, slows both alike. The gain of a pair is the ratio of its two times less 1. An
alternative is faster if, of 12 pairs, at most 1 gained less than MARGIN, or, of 20, at most 3.

This is a sign test, which assumes nothing of the noise but that it treats the two alike. Of two
equal choices, a pair gains less than 0 half the time, so that 0.3 % of such alternatives pass after
12 pairs and 0.1 % more after 20, however strong the noise is, and almost none where the noise is
below MARGIN. A real gain of MARGIN is missed nearly always, one of a few times the noise rarely: a
false change would be worse than a missed one.
"""

import statistics
from collections.abc import Callable
from typing import NamedTuple

STAGES = ((12, 1), (20, 3))
"""Numbers of pairs, and of those that may gain less than MARGIN"""

MARGIN = 0.01

Timer = Callable[[], float]
"""Takes a block of steps and returns the seconds of one step."""


class Comparison(NamedTuple):
    """Paired times of two choices.

    Attributes:
        before, after: seconds per step of each pair.
        is_faster: whether the second choice passed the rule.
    """

    before: tuple[float, ...]
    after: tuple[float, ...]
    is_faster: bool

    @property
    def gains(self) -> list[float]:
        """Relative gain in steps per second, of each pair."""
        return [a / b - 1 for a, b in zip(self.before, self.after, strict=True)]

    @property
    def gain(self) -> float:
        """Median of the gains."""
        return statistics.median(self.gains)

    @property
    def spread(self) -> float:
        """Median distance of the gains from their median."""
        middle = self.gain
        return statistics.median(abs(gain - middle) for gain in self.gains)


def compare(before: Timer, after: Timer) -> Comparison:
    """Time two choices in pairs until the rule is decided.

    An alternative that can no longer pass is rejected at once, which changes no answer.
    """
    first: list[float] = []
    second: list[float] = []
    n_against = 0
    for i in range(STAGES[-1][0]):
        if i % 2 == 0:
            a = before()
            b = after()
        else:
            b = after()
            a = before()
        first.append(a)
        second.append(b)
        n_against += a / b - 1 < MARGIN
        if any(i + 1 == n and n_against <= allowed for n, allowed in STAGES):
            return Comparison(tuple(first), tuple(second), is_faster=True)
        if n_against > STAGES[-1][1]:
            break
    return Comparison(tuple(first), tuple(second), is_faster=False)
