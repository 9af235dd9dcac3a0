"""Whether a flag's default value is of the flag's type, answered without typeguard.

tyro asks for each flag, and for unions and tuples it imports typeguard, which imports asyncio and
unittest.mock: a fifth of the time that a help page takes.
"""

import functools
import types
from collections.abc import Callable
from typing import Any, get_args, get_origin

_Answer = Callable[[Any, Any], bool]


@functools.cache
def answer_without_typeguard() -> None:
    """Make tyro ask is_of_type first. Where tyro has no such place, it goes on asking typeguard."""
    from tyro import _resolver

    slow: _Answer | None = getattr(_resolver, "is_instance", None)
    if slow is not None:
        _resolver.is_instance = functools.partial(is_of_type, slow=slow)


def is_of_type(kind: Any, value: Any, *, slow: _Answer) -> bool:
    """Return whether a value is of a type.

    Args:
        kind: a type as it is written at a flag: int | None, tuple[float, ...], Path.
        slow: answers for types of all other forms.
    """
    answer = functools.partial(is_of_type, slow=slow)
    members = get_args(kind)
    if isinstance(kind, types.UnionType):
        return any(answer(member, value) for member in members)
    if kind is types.NoneType:
        return value is None
    if get_origin(kind) is tuple and members:
        if not isinstance(value, tuple):
            return False
        if members[-1] is Ellipsis:
            return all(answer(members[0], item) for item in value)
        return len(members) == len(value) and all(map(answer, members, value))
    if isinstance(kind, types.FunctionType):  # a subcommand: no type, which typeguard lets pass
        return True
    return slow(kind, value)
