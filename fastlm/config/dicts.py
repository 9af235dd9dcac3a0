"""Dataclasses to JSON and back."""

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from fastlm.files import json_files

C = TypeVar("C")


def to_json(instance: Any) -> str:
    """A dataclass as indented JSON."""
    return json_files.to_json(dataclasses.asdict(instance)).decode()


def from_dict(kind: type[C], values: Mapping[str, Any]) -> C:
    """The inverse of dataclasses.asdict, also from JSON; a missing field gets its default.

    Raises:
        ValueError: for an unknown field, a value of the wrong type, or one that the class refuses.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{kind.__name__} must be an object: got {values!r}")
    fields = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    foreign = sorted(set(values) - fields)
    if foreign:
        raise ValueError(f"{kind.__name__} has no field {foreign[0]!r}; it has {sorted(fields)}")
    hints = get_type_hints(kind)
    converted: dict[str, Any] = {}
    for name, value in values.items():
        hint = hints[name]
        if dataclasses.is_dataclass(hint):
            converted[name] = from_dict(hint, value)  # type: ignore[arg-type]
            continue
        if isinstance(value, list):
            value = tuple(value)
        if not _is(value, hint):
            wanted = getattr(hint, "__name__", str(hint)) if isinstance(hint, type) else str(hint)
            raise ValueError(f"{kind.__name__}.{name} must be {wanted}: got {value!r}")
        converted[name] = value
    return kind(**converted)


def _is(value: Any, hint: Any) -> bool:
    """Whether a value has an annotated type; an int counts as a float, a bool not as an int."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_is(value, argument) for argument in arguments)
    if origin is Literal:
        return any(value == argument and type(value) is type(argument) for argument in arguments)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if arguments[-1] is Ellipsis:
            return all(_is(item, arguments[0]) for item in value)
        pairs = zip(value, arguments, strict=False)
        return len(value) == len(arguments) and all(_is(item, hint) for item, hint in pairs)
    if hint is float:
        return type(value) in (int, float)
    return type(value) is (type(None) if hint is None else hint)
