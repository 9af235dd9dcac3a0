"""Durations on the command line, such as 90m or 1:30:00; in files they are seconds."""

import re
from collections.abc import Callable
from typing import Annotated, Any

import tyro

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str, *, unit: str | None = None) -> float:
    """Seconds in "90m", "1.5h", "45s", "7h30m" or "1:30:00".

    Args:
        unit: unit of a number without one, s, m or h; None refuses such a number.
    Raises:
        ValueError: for anything else, or a time that is not positive.
    """
    clock = re.fullmatch(r"(\d+):(\d\d)(?::(\d\d))?", text)
    several = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
    number = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if clock:
        parts = [float(part) for part in clock.groups() if part is not None]
        hours, minutes, rest = (*parts, 0.0) if len(parts) == 2 else parts
        seconds = hours * 3600 + minutes * 60 + rest
    elif several and text:
        hours, minutes, rest = (float(part or 0) for part in several.groups())
        seconds = hours * 3600 + minutes * 60 + rest
    elif number and (number.group(2) or unit):
        seconds = float(number.group(1)) * _SECONDS[number.group(2) or str(unit)]
    elif number:
        raise ValueError(
            f"a duration needs its unit, such as {text}s, {text}m or {text}h: got {text!r}"
        )
    else:
        raise ValueError(
            f"expected a duration such as 90m, 1.5h, 7h30m, 45s or 1:30:00, got {text!r}"
        )
    if not 0 < seconds < float("inf"):
        raise ValueError(f"expected a duration above zero, got {text!r}")
    return seconds


def duration_text(seconds: float) -> str:
    """Seconds as parse_duration reads them: 90.0 -> "90s"."""
    return f"{seconds:.15g}s" if seconds < 1e15 else f"{seconds:.0f}s"


def _argument(parse: Callable[[str], float]) -> Any:
    # None is spelled "none" on the command line.
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="90m",
        instance_from_str=lambda words: None if words[0].lower() == "none" else parse(words[0]),
        is_instance=lambda value: value is None or isinstance(value, int | float),
        str_from_instance=lambda value: ["none" if value is None else duration_text(value)],
    )


Duration = Annotated[float | None, _argument(parse_duration)]
"""A duration whose unit is always given."""

Seconds = Annotated[float | None, _argument(lambda text: parse_duration(text, unit="s"))]
"""A duration of a flag whose name says that a number without a unit is seconds."""
