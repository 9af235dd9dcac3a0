"""Triton kernels, each paired with its reference in fastlm.functional.

The package imports torch and triton, never fastlm. OPS maps the name of each operation that a
model or an optimizer can use to its public function. AUTO names the default operations. No record
of a GPU in bench/results may show one of them to slow a training step; until there are records,
they are those for which a step reads and writes fewer bytes, counted by bench/roofline.py. cases.py
has all operations.
"""

from collections.abc import Callable
from typing import Any

from . import (
    adamw,
    attention,
    linear_cross_entropy,
    qkv_norm_rope,
    relu2_ffn,
    rms_norm,
    rope,
    swiglu,
    symmetric_product,
)

OPS: dict[str, Callable[..., Any]] = {
    "rms_norm": rms_norm.rms_norm,
    "add_rms_norm": rms_norm.add_rms_norm,
    "rotate_pairs": rope.rotate_pairs,
    "qkv_norm_rope": qkv_norm_rope.qkv_norm_rope,
    "attention": attention.attention,
    "swiglu": swiglu.swiglu,
    "relu2_ffn": relu2_ffn.relu2_ffn,
    "linear_cross_entropy": linear_cross_entropy.linear_cross_entropy,
    "adamw": adamw.adamw,
    "symmetric_product": symmetric_product.symmetric_product,
}

AUTO: tuple[str, ...] = ("qkv_norm_rope", "relu2_ffn")
