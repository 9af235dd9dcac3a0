"""Triton kernels, each paired with its reference in fastlm.functional.

Imports torch and triton, never fastlm. OPS maps what a model may be given to its public function;
cases.py has all operations.
"""

from collections.abc import Callable
from typing import Any

from kernels import attention, rms_norm

OPS: dict[str, Callable[..., Any]] = {
    "attention": attention.attention,
    "rms_norm": rms_norm.rms_norm,
}
