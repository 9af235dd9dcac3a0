"""Rows of Markdown tables, whose cells may hold any name."""

import re
from collections.abc import Iterable
from pathlib import PurePath
from urllib.parse import quote

from fastlm.files.paths import spell

_STEERING, _BRACKETS = re.compile(r"[\\`*<|]"), re.compile(r"[\[\]]")
_SAFE_IN_ADDRESSES = "/=,+:@~"


def table_row(cells: Iterable[str]) -> str:
    """Return a row of a table; cells are Markdown already.

    >>> table_row(["a", "b"])
    '| a | b |'
    """
    return f"| {' | '.join(cells)} |"


def literal(text: str) -> str:
    """Return Markdown that shows a text as it is, in one line and one cell.

    >>> literal("x|y")
    'x\\\\|y'
    """
    return _STEERING.sub(r"\\\g<0>", spell(text))


def link(path: PurePath) -> str:
    """Return a link to a relative path that shows the path.

    >>> link(PurePath("my run"))
    '[my run](my%20run)'
    """
    name = path.as_posix()
    shown = _BRACKETS.sub(r"\\\g<0>", literal(name))
    return f"[{shown}]({quote(name, _SAFE_IN_ADDRESSES, errors='surrogateescape')})"
