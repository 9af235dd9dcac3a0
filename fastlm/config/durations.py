"""Durations on the command line, such as 90m or 1:30:00."""

import re
from typing import Annotated

import tyro

_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> float:
    """Seconds in "90m", "1.5h", "45s", "300" or "1:30:00".

    Raises:
        ValueError: for anything else, or a time that is not positive.
    """
    clock = re.fullmatch(r"(\d+):(\d\d)(?::(\d\d))?", text)
    number = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if clock:
        parts = [int(part) for part in clock.groups() if part is not None]
        hours, minutes, rest = (*parts, 0) if len(parts) == 2 else parts
        seconds = float(hours * 3600 + minutes * 60 + rest)
    elif number:
        seconds = float(number.group(1)) * _SECONDS[number.group(2)]
    else:
        raise ValueError(f"expected a duration such as 90m, 1.5h, 45s or 1:30:00, got {text!r}")
    if seconds <= 0:
        raise ValueError(f"expected a duration above zero, got {text!r}")
    return seconds


# None is spelled "none" on the command line.
Duration = Annotated[
    float | None,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="90m",
        instance_from_str=lambda words: (
            None if words[0].lower() == "none" else parse_duration(words[0])
        ),
        is_instance=lambda value: value is None or isinstance(value, int | float),
        str_from_instance=lambda value: ["none" if value is None else f"{value:g}s"],
    ),
]
