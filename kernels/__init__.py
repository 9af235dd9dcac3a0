"""Triton kernels, each paired with its reference in fastlm.functional.

Imports torch and triton, never fastlm. OPS maps the name of an operation to its public function.
"""

from collections.abc import Callable
from typing import Any

OPS: dict[str, Callable[..., Any]] = {}
