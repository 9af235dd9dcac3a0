"""Lazy imports: names of a package whose modules are imported on first use."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any


class LazyModule:
    """A module that is imported when one of its names is first used."""

    def __init__(self, name: str) -> None:
        self.module_name = name

    def __getattr__(self, name: str) -> Any:
        value = getattr(import_module(self.module_name), name)
        vars(self)[name] = value  # found without this function from now on
        return value


if TYPE_CHECKING:
    import numpy as numpy
else:
    # Importing NumPy takes 0.17 s of CPU, as its linear algebra starts threads.
    numpy = LazyModule("numpy")


def lazy_names(package: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """The module-level __getattr__ (PEP 562) of a package whose modules are slow to import.

        __getattr__ = lazy_names(__name__, {"Tokenizer": "tokenizer"})

    Args:
        names: public name -> submodule that defines it.
    """

    def get(name: str) -> Any:
        if name == "__all__":  # asked for by `from package import *`, which needs all of them
            own = vars(sys.modules[package])
            own.update({lazy: get(lazy) for lazy in names})
            return [*names, *(n for n, value in own.items() if _is_defined(value, package))]
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{names[name]}"), name)

    return get


def _is_defined(value: Any, package: str) -> bool:
    """Return whether a value of a package's __init__ is a public function or class of its own."""
    is_own = getattr(value, "__module__", None) == package
    return is_own and not getattr(value, "__name__", "_").startswith("_")
