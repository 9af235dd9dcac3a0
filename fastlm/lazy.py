"""Lazy imports: names of a package whose modules are imported on first use."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(package: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """The module-level __getattr__ (PEP 562) of a package whose modules are slow to import.

        __getattr__ = lazy_names(__name__, {"Tokenizer": "tokenizer"})

    Args:
        names: public name -> submodule that defines it.
    """

    def get(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{names[name]}"), name)

    return get
