"""The shapes, options and costs of each operation, for tests and benchmarks alike.

For an operation on rows, the last axis of a shape is the width of a row, and the product of the
others is the number of rows. Other operations document their axes at the functions that make their
inputs.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .adamw import adamw
from .attention import attention
from .cross_entropy import cross_entropy
from .linear_cross_entropy import linear_cross_entropy
from .qkv_norm_rope import qkv_norm_rope
from .relu2_ffn import relu2_ffn
from .rms_norm import add_rms_norm, rms_norm
from .rope import rotate_pairs
from .softmax import softmax
from .swiglu import silu_mul, swiglu
from .symmetric_product import symmetric_product

Shape = tuple[int, ...]
Options = dict[str, Any]
Pair = tuple[int, int]  # (forward pass, backward pass)
FLOATS = (torch.float32, torch.bfloat16, torch.float16)


class Inputs(NamedTuple):
    """Arguments of a call.

    Attributes:
        tensors: positional arguments: tensors, lists of tensors, or None.
        differentiable: positions of the tensors that get a gradient.
        options: keyword arguments.
        changed: positions of the tensors that are changed in place.
    """

    tensors: tuple[Any, ...]
    differentiable: tuple[int, ...]
    options: Options
    changed: tuple[int, ...] = ()


class Op(NamedTuple):
    """An operation, and the cases for its tests and benchmarks.

    Attributes:
        make: makes inputs from a shape, options, dtype, device and generator.
        tiny: a shape small enough for finite differences, with several rows and columns.
        small: shapes for which the interpreter needs about a second.
        large: shapes of real models, for a GPU.
        options: options that tests try on the small shapes; the first are the plainest.
        bytes_moved: bytes read and written for a shape and an itemsize, each tensor counted once.
        flops: multiplications and additions of the matrix products for a shape and options.
        borders: more shapes to compile for, at which the kernels choose other tiles.
        check: a small shape with the tiles of real models, for fault_of; otherwise tiny.
    """

    function: Callable[..., Any]
    make: Callable[[Shape, Options, torch.dtype, torch.device, torch.Generator], Inputs]
    tiny: Shape
    small: tuple[Shape, ...]
    large: tuple[Shape, ...]
    options: tuple[Options, ...]
    bytes_moved: Callable[[Shape, int], Pair]
    flops: Callable[[Shape, Options], Pair] = lambda shape, options: (0, 0)
    dtypes: tuple[torch.dtype, ...] = FLOATS
    borders: tuple[Shape, ...] = ()
    check: Shape = ()


def _randn(
    shape: Shape, dtype: torch.dtype, device: torch.device, generator: torch.Generator
) -> Tensor:
    made = torch.randn(shape, dtype=torch.float32, generator=generator)
    return made.to(device=device, dtype=dtype)


def _parameter_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of parameters beside activations of a dtype: float32 beside bfloat16."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _one_tensor(
    shape: Shape, options: Options, dtype: torch.dtype, device: torch.device, g: torch.Generator
) -> Inputs:
    return Inputs((_randn(shape, dtype, device, g),), (0,), options)


def _two_tensors(
    shape: Shape, options: Options, dtype: torch.dtype, device: torch.device, g: torch.Generator
) -> Inputs:
    return Inputs(
        (_randn(shape, dtype, device, g), _randn(shape, dtype, device, g)), (0, 1), options
    )


def _norm_inputs(
    shape: Shape, options: Options, dtype: torch.dtype, device: torch.device, g: torch.Generator
) -> Inputs:
    left = dict(options)
    has_weight, has_residual = left.pop("has_weight"), left.pop("has_residual", False)
    x = _randn(shape, dtype, device, g)
    residual = (_randn(shape, dtype, device, g),) if has_residual else ()
    gain = _parameter_dtype(dtype)
    weight = 1 + 0.1 * _randn(shape[-1:], gain, device, g) if has_weight else None
    tensors = (x, *residual, weight)
    return Inputs(tensors, tuple(i for i, t in enumerate(tensors) if t is not None), left)


def _add_norm_inputs(
    shape: Shape, options: Options, dtype: torch.dtype, device: torch.device, g: torch.Generator
) -> Inputs:
    return _norm_inputs(shape, options | {"has_residual": True}, dtype, device, g)


def _targets(
    shape: Shape, vocab_size: int, options: Options, device: torch.device, g: torch.Generator
) -> Tensor:
    targets = torch.randint(0, vocab_size, shape, generator=g)
    # Every fifth target, from the first on, is ignored, but not the only target of one row.
    if targets.numel() > 1:
        targets.view(-1)[::5] = options.get("ignore_index", -100)
    return targets.to(device)


def _loss_inputs(
    shape: Shape, options: Options, dtype: torch.dtype, device: torch.device, g: torch.Generator
) -> Inputs:
    logits = 3 * _randn(shape, dtype, device, g)
    return Inputs((logits, _targets(shape[:-1], shape[-1], options, device, g)), (0,), options)


def _linear_loss_inputs(
    shape: Shape, options: Options, dtype: torch.dtype, device: torch.device, g: torch.Generator
) -> Inputs:
    """Shape (..., d_model, vocab_size)."""
    *rows, d_model, vocab_size = shape
    hidden = _randn((*rows, d_model), dtype, device, g)
    weight = _randn((vocab_size, d_model), dtype, device, g) * 3 * d_model**-0.5
    targets = _targets(tuple(rows), vocab_size, options, device, g)
    return Inputs((hidden, weight, targets), (0, 1), options)


def _feed_forward_inputs(
    shape: Shape, options: Options, dtype: torch.dtype, device: torch.device, g: torch.Generator
) -> Inputs:
    """Shape (..., d_model, d_ff)."""
    *rows, d_model, d_ff = shape
    x = _randn((*rows, d_model), dtype, device, g)
    w1, w3 = (_randn((d_ff, d_model), dtype, device, g) * d_model**-0.5 for _ in range(2))
    w2 = _randn((d_model, d_ff), dtype, device, g) * d_ff**-0.5
    return Inputs((x, w1, w2, w3), (0, 1, 2, 3), options)


def _plain_feed_forward_inputs(
    shape: Shape, options: Options, dtype: torch.dtype, device: torch.device, g: torch.Generator
) -> Inputs:
    """Shape (..., d_model, d_ff)."""
    x, w1, w2, _ = _feed_forward_inputs(shape, options, dtype, device, g).tensors
    return Inputs((x, w1, w2), (0, 1, 2), options)


def _angles(
    seq: int, d_head: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    rates = 10_000.0 ** (-torch.arange(0, d_head, 2, dtype=torch.float64) / d_head)
    angles = torch.arange(seq, dtype=torch.float64)[:, None] * rates
    kept = _parameter_dtype(dtype)
    return angles.cos().to(device, kept), angles.sin().to(device, kept)


def _heads(shape: Shape, dtype: torch.dtype, device: torch.device, g: torch.Generator) -> Tensor:
    """(..., heads, seq, d_head) with the memory layout of a projection: heads after seq."""
    if len(shape) < 3:
        return _randn(shape, dtype, device, g)
    *batch, heads, seq, d_head = shape
    return _randn((*batch, seq, heads, d_head), dtype, device, g).transpose(-2, -3)


def _rope_inputs(
    shape: Shape, options: Options, dtype: torch.dtype, device: torch.device, g: torch.Generator
) -> Inputs:
    """Shape (..., heads, seq, d_head)."""
    angles = _angles(shape[-2], shape[-1], dtype, device)
    return Inputs((_heads(shape, dtype, device, g), *angles), (0,), options)


def _qkv_inputs(
    shape: Shape, options: Options, dtype: torch.dtype, device: torch.device, g: torch.Generator
) -> Inputs:
    """Shape (..., seq, heads, d_head)."""
    left = dict(options)
    has_weight, n_others = left.pop("has_weight"), left.pop("n_others")
    *batch, n_heads, d_head = shape
    qkv = _randn((*batch, 3 * n_heads * d_head + n_others), dtype, device, g)
    gain = _parameter_dtype(dtype)
    weights = (
        1 + 0.1 * _randn((d_head,), gain, device, g) if has_weight else None for _ in range(2)
    )
    tensors = (qkv, *_angles(shape[-3], d_head, dtype, device), *weights)
    return Inputs(tensors, (0, 3, 4) if has_weight else (0,), {"n_heads": n_heads, **left})


def _attention_inputs(
    shape: Shape, options: Options, dtype: torch.dtype, device: torch.device, g: torch.Generator
) -> Inputs:
    """Shape (..., heads, n_queries, n_keys, d_head)."""
    *batch, n_queries, n_keys, d_head = shape
    q, k, v = (
        _heads((*batch, seq, d_head), dtype, device, g) for seq in (n_queries, n_keys, n_keys)
    )
    return Inputs((q, k, v), (0, 1, 2), options)


def _adamw_inputs(
    shape: Shape, options: Options, dtype: torch.dtype, device: torch.device, g: torch.Generator
) -> Inputs:
    """Shape (elements of the first parameter, elements of the second, ...)."""
    options = dict(options)
    if "applies" in options:
        options["applies"] = torch.full((), options["applies"], dtype=torch.bool, device=device)
    params, grads, exp_avgs = ([_randn((n,), dtype, device, g) for n in shape] for _ in range(3))
    exp_avg_sqs = [_randn((n,), dtype, device, g).square() for n in shape]
    return Inputs((params, grads, exp_avgs, exp_avg_sqs), (), options, (0, 2, 3))


def _product_inputs(
    shape: Shape, options: Options, dtype: torch.dtype, device: torch.device, g: torch.Generator
) -> Inputs:
    """Shape (..., rows, columns)."""
    left = dict(options)
    has_added = left.pop("has_added")
    x = _randn(shape, dtype, device, g) * shape[-1] ** -0.5
    added = None
    if has_added:
        half = _randn((*shape[:-1], shape[-2]), dtype, device, g)
        added = half + half.mT
    return Inputs((x, added), (), left)


def _times(forward: float, backward: float) -> Callable[[Shape, int], Pair]:
    """bytes_moved of an operation that goes over all elements so many times."""

    def bytes_moved(shape: Shape, itemsize: int) -> Pair:
        n = math.prod(shape) * itemsize
        return int(forward * n), int(backward * n)

    return bytes_moved


def _linear_loss_bytes(shape: Shape, itemsize: int) -> Pair:
    """Bytes of inputs and results, and of the logits, which are written and read in chunks."""
    *rows, d_model, vocab_size = shape
    hidden, weight = math.prod(rows) * d_model * itemsize, vocab_size * d_model * itemsize
    logits = math.prod(rows) * vocab_size * itemsize
    # Logits are written, read twice, overwritten and read twice; dweight is float32.
    return 3 * hidden + 2 * weight + 6 * logits + vocab_size * d_model * 4, 0


def _linear_loss_flops(shape: Shape, options: Options) -> Pair:
    """FLOPs of all three products, which the forward pass makes."""
    return 6 * math.prod(shape), 0


def _swiglu_bytes(shape: Shape, itemsize: int) -> Pair:
    """Bytes of the kernel alone: 2 tensors in and 1 out forward, 3 in and 2 out backward."""
    n = math.prod(shape[:-2]) * shape[-1] * itemsize
    return 3 * n, 5 * n


def _swiglu_flops(shape: Shape, options: Options) -> Pair:
    return 6 * math.prod(shape), 12 * math.prod(shape)


def _relu2_ffn_bytes(shape: Shape, itemsize: int) -> Pair:
    """Bytes beside those of the products that PyTorch computes: the hidden layer, its gradient."""
    *rows, d_model, d_ff = shape
    inputs, hidden, weight = (
        n * itemsize for n in (math.prod(rows) * d_model, math.prod(rows) * d_ff, d_model * d_ff)
    )
    return inputs + weight + hidden, inputs + weight + 2 * hidden


def _relu2_ffn_flops(shape: Shape, options: Options) -> Pair:
    return 4 * math.prod(shape), 8 * math.prod(shape)


def _qkv_bytes(shape: Shape, itemsize: int) -> Pair:
    """Bytes without those of other columns; the backward pass reads no values."""
    n = math.prod(shape) * itemsize
    return 6 * n, 8 * n


def _adamw_bytes(shape: Shape, itemsize: int) -> Pair:
    """Four tensors are read and three written: 28 bytes per parameter in float32."""
    return 7 * sum(shape) * itemsize, 0


def _product_bytes(shape: Shape, itemsize: int) -> Pair:
    """Bytes of x and the result, without an added matrix."""
    *batch, n_rows, n_columns = shape
    return math.prod(batch) * n_rows * (n_columns + n_rows) * itemsize, 0


def _product_flops(shape: Shape, options: Options) -> Pair:
    """FLOPs of one half of the result; the other half is its mirror image."""
    *batch, n_rows, n_columns = shape
    return math.prod(batch) * n_rows**2 * n_columns, 0


def _attention_bytes(shape: Shape, itemsize: int) -> Pair:
    """Bytes of q, k, v, out and their gradients, without the negligible statistics per row."""
    *batch, n_queries, n_keys, d_head = shape
    queries, keys = (math.prod(batch) * n * d_head * itemsize for n in (n_queries, n_keys))
    return 2 * queries + 2 * keys, 4 * queries + 4 * keys


def _attention_flops(shape: Shape, options: Options) -> Pair:
    """FLOPs of two products forward and five backward, over the keys that each query may attend."""
    *batch, n_queries, n_keys, d_head = shape
    n_pairs = n_queries * n_keys
    if options.get("is_causal", False):
        # The last query attends to all keys, each earlier one to one key less, if there is one.
        n_pairs = sum(range(n_keys, max(n_keys - n_queries, 0), -1))
    product = 2 * math.prod(batch) * n_pairs * d_head
    return 2 * product, 5 * product


_ROWS_TINY = (2, 3, 7)
_SMALL = ((1, 1), (7, 123), (2, 3, 257), (5, 64), (3, 1, 1000), (0, 8))
_WIDTHS = ((65_536, 768), (65_536, 1024), (32_768, 2048), (32_768, 4096))
_NORM_BORDERS = ((65_536, 256), (16_384, 8192), (2048, 65_536))
_LOSSES: tuple[Options, ...] = (
    {},
    {"reduction": "sum", "ignore_index": 3},
    {"reduction": "none", "return_lse": True},
    {"label_smoothing": 0.1, "z_loss": 1e-3},
    {"softcap": 15.0, "z_loss": 1e-4, "return_lse": True},
)
_ADAMW: Options = {"lr": 0.01, "betas": (0.9, 0.95), "eps": 1e-8}
# 203 million parameters: vocabulary 50,304, width 1024, 12 layers of attention and SwiGLU.
_LAYER = (1024, *4 * (1024 * 1024,), 1024, *3 * (2752 * 1024,))
_PARAMETERS = (50_304 * 1024, *12 * _LAYER, 1024)

OPS = {
    "softmax": Op(
        softmax,
        _one_tensor,
        _ROWS_TINY,
        (*_SMALL, (2, 16_411), (2, 40_000)),
        (*_WIDTHS, (16_384, 50_304)),
        ({"dim": -1},),
        _times(2, 3),
        borders=((65_536, 256), (16_384, 8192), (16_384, 16_384)),
    ),
    "rms_norm": Op(
        rms_norm,
        _norm_inputs,
        _ROWS_TINY,
        (*_SMALL, (70, 33), (5, 9001)),
        _WIDTHS,
        ({"has_weight": True}, {"has_weight": False}, {"has_weight": True, "eps": 0.5}),
        _times(2, 3),
        borders=_NORM_BORDERS,
    ),
    "add_rms_norm": Op(
        add_rms_norm,
        _add_norm_inputs,
        _ROWS_TINY,
        (*_SMALL, (70, 33), (5, 9001)),
        _WIDTHS,
        ({"has_weight": True}, {"has_weight": False}),
        _times(4, 4),
        borders=_NORM_BORDERS,
    ),
    "cross_entropy": Op(
        cross_entropy,
        _loss_inputs,
        _ROWS_TINY,
        ((1, 1), (7, 123), (2, 3, 257), (5, 64), (3, 9001), (0, 8)),
        ((16_384, 50_304), (32_768, 32_000)),
        _LOSSES,
        _times(1, 2),
        borders=((65_536, 256), (65_536, 1024)),
    ),
    "linear_cross_entropy": Op(
        linear_cross_entropy,
        _linear_loss_inputs,
        (2, 3, 5, 7),
        ((1, 1, 1), (7, 16, 123), (2, 3, 33, 257), (3, 8, 9001), (0, 8, 8)),
        ((65_536, 768, 50_304), (65_536, 1024, 50_304), (65_536, 1024, 32_000)),
        _LOSSES,
        _linear_loss_bytes,
        _linear_loss_flops,
    ),
    "silu_mul": Op(
        silu_mul,
        _two_tensors,
        _ROWS_TINY,
        (*_SMALL, (3, 1, 5000)),
        ((65_536, 2048), (65_536, 2816), (32_768, 4096)),
        ({},),
        _times(3, 5),
    ),
    "swiglu": Op(
        swiglu,
        _feed_forward_inputs,
        (2, 3, 5, 7),
        ((1, 1, 1), (2, 3, 33, 123), (0, 8, 8)),
        ((65_536, 768, 2048), (32_768, 1024, 2816)),
        ({},),
        _swiglu_bytes,
        _swiglu_flops,
    ),
    "relu2_ffn": Op(
        relu2_ffn,
        _plain_feed_forward_inputs,
        (2, 3, 5, 7),
        ((1, 1, 1), (2, 3, 33, 123), (150, 64, 144), (0, 8, 8)),
        ((65_536, 1024, 4096), (65_536, 768, 3072)),
        ({},),
        _relu2_ffn_bytes,
        _relu2_ffn_flops,
        check=(300, 128, 512),
    ),
    "rotate_pairs": Op(
        rotate_pairs,
        _rope_inputs,
        (2, 2, 3, 4),
        ((1, 2), (7, 6), (3, 33, 64), (2, 3, 40, 48), (2, 1, 2, 5, 16), (1, 2, 2, 128), (0, 3, 8)),
        ((128, 12, 512, 64), (128, 8, 512, 128), (32, 16, 1024, 128)),
        ({},),
        _times(2, 2),
    ),
    "qkv_norm_rope": Op(
        qkv_norm_rope,
        _qkv_inputs,
        (2, 3, 2, 4),
        ((1, 1, 2), (7, 3, 6), (33, 1, 64), (2, 40, 3, 48), (2, 1, 2, 2, 16), (0, 3, 8)),
        ((128, 512, 8, 128), (128, 512, 12, 64), (32, 1024, 16, 128)),
        (
            {"has_weight": False, "n_others": 16},
            {"has_weight": True, "n_others": 0},
            {"has_weight": True, "n_others": 48, "eps": 0.5},
        ),
        _qkv_bytes,
        check=(2, 40, 2, 64),
    ),
    "adamw": Op(
        adamw,
        _adamw_inputs,
        (5, 33),
        ((1, 7, 1000), (0, 5000, 2048, 3), (0,)),
        (_PARAMETERS,),
        (
            {**_ADAMW, "weight_decay": 0.1, "step": 1000, "applies": True},
            {**_ADAMW, "weight_decay": 0.0, "step": 1},
            {**_ADAMW, "weight_decay": 0.1, "step": 2, "applies": False},
        ),
        _adamw_bytes,
    ),
    "symmetric_product": Op(
        symmetric_product,
        _product_inputs,
        (2, 5, 7),
        ((1, 1), (7, 123), (2, 3, 257), (2, 2, 70, 33), (2, 144, 80), (0, 3, 4)),
        ((12, 1024, 1024), (12, 1024, 4096), (4, 4096, 1024), (4, 4096, 4096)),
        (
            {"has_added": False},
            {"has_added": True, "alpha": 2.0315, "beta": -4.775},
        ),
        _product_bytes,
        _product_flops,
    ),
    "attention": Op(
        attention,
        _attention_inputs,
        (1, 2, 2, 3, 2),
        (
            (1, 1, 1, 1, 1),
            (2, 1, 7, 7, 32),
            (1, 2, 1, 67, 64),
            (2, 31, 131, 128),
            (1, 1, 150, 150, 64),
            (1, 2, 1, 17, 29, 80),
            (2, 2, 0, 3, 8),
            (0, 2, 4, 4, 8),
        ),
        (
            (16, 16, 512, 512, 64),
            (64, 8, 512, 512, 128),
            (4, 16, 4096, 4096, 64),
            (2, 8, 8192, 8192, 128),
        ),
        ({"is_causal": True}, {}),
        _attention_bytes,
        _attention_flops,
    ),
}
