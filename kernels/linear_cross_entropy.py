# mypy: allow-untyped-defs
"""A linear layer and its cross-entropy, without ever holding all logits.

The rows are processed in chunks. For each chunk, one matrix product computes logits, the kernel of
cross_entropy.py computes losses and overwrites the logits with their gradient, and two products
compute the gradients of the hidden state and of the weight, which is summed in float32.

For a sum of losses, the forward pass computes the gradients of that sum, and the backward pass
scales them. If each row may get its own gradient (reduction "none", or lse), the backward pass
computes the logits a second time.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .cross_entropy import MAX_COLUMNS, launch_rows, reduce_losses
from .launch import as_rows, check_tensors, operation, sum_dtype

CHUNK_BYTES = 512 << 20  # bytes of logits held at a time
MIN_CHUNK_ROWS, MAX_CHUNK_ROWS = 2048, 16_384


class Options(NamedTuple):
    """Options of the loss; a softcap of 0 is none."""

    ignore_index: int
    label_smoothing: float
    z_loss: float
    softcap: float


def chunk_rows(n_rows: int, vocab_size: int, itemsize: int) -> int:
    """Number of rows whose logits are held at a time."""
    fitting = CHUNK_BYTES // (vocab_size * itemsize) // 256 * 256
    return max(min(max(fitting, MIN_CHUNK_ROWS), MAX_CHUNK_ROWS, n_rows), 1)


def _go_through(
    hidden: Float[Tensor, "n_rows d_model"],
    weight: Float[Tensor, "vocab_size d_model"],
    targets: Int[Tensor, " n_rows"],
    losses: Tensor | None,
    lse: Float[Tensor, " n_rows"],
    dlosses: Float[Tensor, " n_rows"] | None,
    dlse: Float[Tensor, " n_rows"] | None,
    dhidden: Tensor | None,
    dweight: Tensor | None,
    options: Options,
) -> None:
    """Fill losses and lse, if losses are given, and the gradients that are given."""
    n_rows, vocab_size = len(hidden), len(weight)
    weight = weight.to(hidden.dtype)
    n_chunk_rows = chunk_rows(n_rows, vocab_size, hidden.element_size())
    room = hidden.new_empty((n_chunk_rows, vocab_size))
    if dweight is not None:
        dweight.zero_()
    for begin in range(0, n_rows, n_chunk_rows):
        chunk = slice(begin, min(begin + n_chunk_rows, n_rows))
        logits = torch.mm(hidden[chunk], weight.t(), out=room[: chunk.stop - begin])
        launch_rows(
            logits,
            targets[chunk],
            None if losses is None else losses[chunk],
            lse[chunk],
            None if dlosses is None else dlosses[chunk],
            None if dlse is None else dlse[chunk],
            None if dhidden is None and dweight is None else logits,
            **options._asdict(),
        )
        if dhidden is not None:
            torch.mm(logits, weight, out=dhidden[chunk])
        if dweight is not None:
            _add_product(dweight, logits.t(), hidden[chunk])


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left @ right, summed in the dtype of total."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    elif total.is_cuda:
        torch.addmm(total, left, right, out_dtype=total.dtype, out=total)
    else:
        total.addmm_(left.to(total.dtype), right.to(total.dtype))


def _gradients_of(
    hidden: Tensor, weight: Tensor, wants_dhidden: bool, wants_dweight: bool
) -> tuple[Tensor, Tensor]:
    """Uninitialized gradients; an unwanted gradient has no elements."""
    dhidden = hidden.new_empty(hidden.shape if wants_dhidden else (0,))
    dweight = hidden.new_empty(weight.shape if wants_dweight else (0,), dtype=sum_dtype(hidden))
    return dhidden, dweight


def _fake_total(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    wants_dhidden: bool,
    wants_dweight: bool,
    *options: float,
) -> tuple[Tensor, Tensor, Tensor]:
    total = hidden.new_empty((), dtype=sum_dtype(hidden))
    return total, *_gradients_of(hidden, weight, wants_dhidden, wants_dweight)


_is_forward_only = False


@contextmanager
def forward_only() -> Iterator[None]:
    """Compute no gradients ahead, although gradients are enabled; a backward pass gives NaN.

    A graph that was compiled for training is so run for its loss alone: to PyTorch the operation is
    opaque, and the graph the same.
    """
    global _is_forward_only
    before, _is_forward_only = _is_forward_only, True
    try:
        yield
    finally:
        _is_forward_only = before


@operation("linear_cross_entropy_total", _fake_total, is_opaque=True)
def _total(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    wants_dhidden: bool,
    wants_dweight: bool,
    ignore_index: int,
    label_smoothing: float,
    z_loss: float,
    softcap: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """(sum of all losses, gradient of hidden, gradient of weight), gradients only if wanted."""
    dhidden, dweight = _gradients_of(hidden, weight, wants_dhidden, wants_dweight)
    if _is_forward_only:
        wants_dhidden = wants_dweight = False
        dhidden, dweight = dhidden.fill_(math.nan), dweight.fill_(math.nan)
    losses = hidden.new_empty(targets.shape, dtype=sum_dtype(hidden))
    _go_through(
        hidden, weight, targets, losses, torch.empty_like(losses),
        losses.new_ones(()).expand(len(losses)), None,
        dhidden if wants_dhidden else None, dweight if wants_dweight else None,
        Options(ignore_index, label_smoothing, z_loss, softcap),
    )  # fmt: skip
    return losses.sum(), dhidden, dweight


def _save_gradients(ctx, inputs, output):
    _, weight, _, ctx.has_dhidden, ctx.has_dweight, *_ = inputs
    ctx.weight_dtype = weight.dtype
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*output[1:])


def _scale(ctx, dtotal, *_):
    dhidden, dweight = ctx.saved_tensors
    rest = (None,) * 7
    if dtotal is None:
        return None, None, *rest
    # In float32: times a bfloat16 tensor, PyTorch would first round dtotal to bfloat16.
    scaled = (dhidden.to(dweight.dtype) * dtotal).to(dhidden.dtype) if ctx.has_dhidden else None
    return scaled, (dweight * dtotal).to(ctx.weight_dtype) if ctx.has_dweight else None, *rest


_total.register_autograd(_scale, setup_context=_save_gradients)


def _fake_rows(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *options: float,
) -> tuple[Tensor, Tensor]:
    losses = hidden.new_empty(targets.shape, dtype=sum_dtype(hidden))
    return losses, torch.empty_like(losses)


@operation("linear_cross_entropy_forward", _fake_rows, is_opaque=True)
def _rows(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    ignore_index: int,
    label_smoothing: float,
    z_loss: float,
    softcap: float,
) -> tuple[Tensor, Tensor]:
    """(loss, log of the sum of exponentials) of each row."""
    options = Options(ignore_index, label_smoothing, z_loss, softcap)
    losses, lse = _fake_rows(hidden, weight, targets)
    _go_through(hidden, weight, targets, losses, lse, None, None, None, None, options)
    return losses, lse


def _fake_gradients(
    dlosses: Tensor,
    dlse: Tensor | None,
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    lse: Tensor,
    wants_dhidden: bool,
    wants_dweight: bool,
    *options: float,
) -> tuple[Tensor, Tensor]:
    return _gradients_of(hidden, weight, wants_dhidden, wants_dweight)


@operation("linear_cross_entropy_backward", _fake_gradients, is_opaque=True)
def _gradients(
    dlosses: Tensor,
    dlse: Tensor | None,
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    lse: Tensor,
    wants_dhidden: bool,
    wants_dweight: bool,
    ignore_index: int,
    label_smoothing: float,
    z_loss: float,
    softcap: float,
) -> tuple[Tensor, Tensor]:
    """Gradients of hidden and weight, if wanted, from those of each loss and lse."""
    dhidden, dweight = _gradients_of(hidden, weight, wants_dhidden, wants_dweight)
    _go_through(
        hidden, weight, targets, None, lse, dlosses, None if dlse is None else dlse.contiguous(),
        dhidden if wants_dhidden else None, dweight if wants_dweight else None,
        Options(ignore_index, label_smoothing, z_loss, softcap),
    )  # fmt: skip
    return dhidden, dweight


def _save(ctx, inputs, output):
    hidden, weight, targets, *ctx.options = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(hidden, weight, targets, output[1])


def _differentiate(ctx, dlosses, dlse):
    hidden, weight, targets, lse = ctx.saved_tensors
    if dlosses is None:
        dlosses = torch.zeros_like(lse)
    wants = ctx.needs_input_grad[:2]
    gradients = _gradients(dlosses, dlse, hidden, weight, targets, lse, *wants, *ctx.options)
    dhidden, dweight = (g if wanted else None for g, wanted in zip(gradients, wants, strict=True))
    return dhidden, None if dweight is None else dweight.to(weight.dtype), *[None] * 5


_rows.register_autograd(_differentiate, setup_context=_save)


def linear_cross_entropy(
    hidden: Float[Tensor, "... d_model"],
    weight: Float[Tensor, "vocab_size d_model"],
    targets: Int[Tensor, "..."],
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    return_lse: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Compute fastlm.functional.linear_cross_entropy; a target outside the vocabulary gives NaN.

    Products are computed in hidden.dtype; the gradient of weight is summed in float32. At most
    CHUNK_BYTES of logits are held, or MIN_CHUNK_ROWS rows if that is more. With return_lse or
    reduction "none", the backward pass takes one more product.

    Raises:
        ValueError: if the shapes do not match, or check_tensors refuses a tensor.
    """
    if hidden.shape[:-1] != targets.shape or hidden.shape[-1:] != weight.shape[1:]:
        raise ValueError(
            "linear_cross_entropy needs hidden (..., d_model), weight (vocab_size, d_model) and "
            f"targets (...): got {tuple(hidden.shape)}, {tuple(weight.shape)} and "
            f"{tuple(targets.shape)}"
        )
    check_tensors("linear_cross_entropy", MAX_COLUMNS, weight.T, hidden, targets)
    rows, flat = as_rows(hidden), targets.reshape(-1)
    options = (ignore_index, label_smoothing, z_loss, 0.0 if softcap is None else softcap)
    if reduction in ("mean", "sum") and not return_lse:
        has_grad = torch.is_grad_enabled()
        wants: Any = (has_grad and hidden.requires_grad, has_grad and weight.requires_grad)
        loss: Tensor = _total(rows, weight, flat, *wants, *options)[0]
        return loss / (flat != ignore_index).sum().clamp(min=1) if reduction == "mean" else loss
    losses, lse = (t.view(targets.shape) for t in _rows(rows, weight, flat, *options))
    loss = reduce_losses(losses, targets, ignore_index, reduction)
    return (loss, lse) if return_lse else loss
