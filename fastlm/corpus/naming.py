"""Names of fields and columns in messages."""

from collections.abc import Collection
from itertools import islice

_LISTED = 10
_LONGEST = 60


def listed(names: Collection[str]) -> str:
    """Return the first names, each cut to a length that a line has room for."""
    shown = [x if len(x) <= _LONGEST else f"{x[:_LONGEST]}..." for x in islice(names, _LISTED)]
    left = len(names) - len(shown)
    return ", ".join(shown) + (f" and {left:,} more" if left else "")
