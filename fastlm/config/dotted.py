"""Values of nested configurations by dotted names, such as optim.lr."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

C = TypeVar("C")

MOST_LEVELS = 8
"""Depth to which mappings are flattened; a deeper one, which a file may contain, is a value."""


def leaves(config: Any) -> dict[str, Any]:
    """Flatten a configuration: every value by its dotted name, in the order of the fields.

    >>> leaves(TrainConfig(max_steps=1))["optim.lr"]
    0.003

    Args:
        config: a dataclass, or a mapping as dataclasses.asdict returns it.
    """
    return dict(_leaves(config, "", 0))


def _leaves(config: Any, prefix: str, level: int) -> Iterator[tuple[str, Any]]:
    if isinstance(config, Mapping):
        items = list(config.items())
    else:
        items = [(field.name, getattr(config, field.name)) for field in dataclasses.fields(config)]
    for name, value in items:
        is_nested = isinstance(value, Mapping) and level < MOST_LEVELS
        if is_nested or dataclasses.is_dataclass(value):
            yield from _leaves(value, f"{prefix}{name}.", level + 1)
        else:
            yield f"{prefix}{name}", value


def replaced(config: C, changes: Mapping[str, Any]) -> C:
    """Copy of a dataclass with other values for some dotted names.

    >>> replaced(config, {"model.vocab_size": 512, "max_steps": 9})

    Raises:
        ValueError: for values that the dataclasses refuse.
    """
    own: dict[str, Any] = {}
    sections: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        section, dot, rest = name.partition(".")
        if dot:
            sections.setdefault(section, {})[rest] = value
        else:
            own[name] = value
    for section, inner in sections.items():
        own[section] = replaced(getattr(config, section), inner)
    return dataclasses.replace(config, **own)  # type: ignore[type-var]
