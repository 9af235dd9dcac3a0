# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
"""Cross-entropy over a vocabulary, forward and backward.

With z = softcap * tanh(logits / softcap), or the logits themselves, and lse = log(sum(exp(z))):
loss = lse - (1 - label_smoothing) z[target] - label_smoothing mean(z) + z_loss lse^2.

As many programs as run at once go through the rows, in blocks of the vocabulary: when the second
pass reads a row, it is still in the second-level cache from the first.
"""

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from .launch import (
    accurate_dtype,
    as_rows,
    block_of,
    check_tensors,
    launch,
    lowest_number,
    n_programs,
    operation,
    sum_dtype,
)

MAX_COLUMNS = 1 << 20
PROGRAMS_PER_SM = 2
_MAX_BLOCK = 4096
_WARPS = 8


@triton.jit
def _cap(x, SOFTCAP: tl.constexpr):
    """softcap * tanh(x / softcap), computed with exp alone; x if there is no softcap."""
    if SOFTCAP > 0.0:
        return SOFTCAP * (1.0 - 2.0 / (tl.exp(x * (2.0 / SOFTCAP)) + 1.0))
    return x


@triton.jit
def _rows(
    logits_ptr, targets_ptr, loss_ptr, lse_ptr, dloss_ptr, dlse_ptr, dlogits_ptr,
    logits_stride, dloss_stride, dlogits_stride, n_rows, n_columns, ignore_index,
    LABEL_SMOOTHING: tl.constexpr, Z_LOSS: tl.constexpr, SOFTCAP: tl.constexpr,
    HAS_LOSS: tl.constexpr, HAS_GRADIENT: tl.constexpr, HAS_DLSE: tl.constexpr,
    LOWEST: tl.constexpr, ACCURATE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Compute losses and lse of rows (HAS_LOSS), their gradients (HAS_GRADIENT), or both at once.

    The loss is 0 for a target of ignore_index, and NaN for a target outside the vocabulary.
    """
    columns = tl.arange(0, BLOCK)
    for row_index in range(tl.program_id(0), n_rows, tl.num_programs(0)):
        row = tl.full((), row_index, tl.int64)  # row * stride passes 2^31 at 65k x 50k logits
        target = tl.load(targets_ptr + row).to(tl.int64)
        is_counted = target != ignore_index
        is_valid = (target >= 0) & (target < n_columns)
        if HAS_LOSS:
            # Before the sums, at which all warps meet: where dlogits is logits, another warp may
            # soon write over it.
            chosen = tl.load(logits_ptr + row * logits_stride + target, is_valid, float("nan"))
            highest = tl.full((), LOWEST, ACCURATE)
            total = tl.full((), 0.0, ACCURATE)
            z_total = tl.full((), 0.0, ACCURATE)
            for begin in range(0, n_columns, BLOCK):
                in_row = begin + columns < n_columns
                x = tl.load(logits_ptr + row * logits_stride + begin + columns, in_row, 0.0)
                z = _cap(x.to(ACCURATE), SOFTCAP)
                if LABEL_SMOOTHING > 0.0:
                    z_total += tl.sum(tl.where(in_row, z, 0.0), axis=0)
                z = tl.where(in_row, z, -float("inf"))
                higher = tl.maximum(highest, tl.max(z, axis=0))
                total = total * tl.exp(highest - higher) + tl.sum(tl.exp(z - higher), axis=0)
                highest = higher
            lse = highest + tl.log(total)
            # Differences from the maximum: lse may be too large to resolve small losses.
            below = highest - _cap(chosen.to(ACCURATE), SOFTCAP)
            loss = tl.log(total) + (1.0 - LABEL_SMOOTHING) * below
            if LABEL_SMOOTHING > 0.0:
                loss += LABEL_SMOOTHING * (highest - z_total / n_columns)
            if Z_LOSS > 0.0:
                loss += Z_LOSS * lse * lse
            tl.store(loss_ptr + row, tl.where(is_counted, loss, 0.0))
            tl.store(lse_ptr + row, lse)
        else:
            lse = tl.load(lse_ptr + row)
        if HAS_GRADIENT:
            dloss = tl.load(dloss_ptr + row * dloss_stride).to(ACCURATE)
            dloss = tl.where(is_counted, dloss, 0.0)
            dloss = tl.where(is_counted & (is_valid == 0), float("nan"), dloss)
            of_softmax = dloss
            if Z_LOSS > 0.0:
                of_softmax = dloss * (1.0 + 2.0 * Z_LOSS * lse)
            if HAS_DLSE:
                of_softmax += tl.load(dlse_ptr + row).to(ACCURATE)
            for begin in range(0, n_columns, BLOCK):
                in_row = begin + columns < n_columns
                x = tl.load(logits_ptr + row * logits_stride + begin + columns, in_row, 0.0)
                z = _cap(x.to(ACCURATE), SOFTCAP)
                dz = of_softmax * tl.exp(z - lse)
                if LABEL_SMOOTHING > 0.0:
                    dz -= dloss * (LABEL_SMOOTHING / n_columns)
                dz -= tl.where(begin + columns == target, dloss * (1.0 - LABEL_SMOOTHING), 0.0)
                if SOFTCAP > 0.0:
                    dz *= 1.0 - (z / SOFTCAP) * (z / SOFTCAP)
                tl.store(
                    dlogits_ptr + row * dlogits_stride + begin + columns,
                    dz.to(dlogits_ptr.dtype.element_ty),
                    in_row,
                )


def shape_of(n_columns: int) -> tuple[int, int]:
    """(columns per block, warps) for rows of n_columns."""
    block = min(block_of(n_columns), _MAX_BLOCK)
    return block, min(max(block // 512, 1), _WARPS)


def launch_rows(
    logits: Float[Tensor, "n_rows vocab_size"],
    targets: Int[Tensor, " n_rows"],
    losses: Tensor | None,
    lse: Tensor,
    dlosses: Tensor | None,
    dlse: Tensor | None,
    dlogits: Tensor | None,
    *,
    ignore_index: int,
    label_smoothing: float,
    z_loss: float,
    softcap: float,
) -> None:
    """Fill losses and lse, or dlogits from lse, or all three; dlogits may be logits itself."""
    n_rows, n_columns = logits.shape
    block, n_warps = shape_of(n_columns)
    if n_rows == 0:
        return
    launch(
        _rows, (n_programs(logits.device, n_rows, PROGRAMS_PER_SM),),
        logits, targets, lse if losses is None else losses, lse,
        lse if dlosses is None else dlosses, lse if dlse is None else dlse,
        logits if dlogits is None else dlogits,
        logits.stride(0), 0 if dlosses is None else dlosses.stride(0),
        0 if dlogits is None else dlogits.stride(0), n_rows, n_columns, ignore_index,
        LABEL_SMOOTHING=label_smoothing, Z_LOSS=z_loss, SOFTCAP=softcap,
        HAS_LOSS=losses is not None, HAS_GRADIENT=dlogits is not None, HAS_DLSE=dlse is not None,
        LOWEST=lowest_number(logits), ACCURATE=accurate_dtype(logits), BLOCK=block,
        num_warps=n_warps,
    )  # fmt: skip


def _fake(
    logits: Tensor,
    targets: Tensor,
    *options: float,
) -> tuple[Tensor, Tensor]:
    losses = torch.empty(targets.shape, dtype=sum_dtype(logits), device=logits.device)
    return losses, torch.empty_like(losses)


@operation("cross_entropy_forward", _fake)
def _losses(
    logits: Tensor,
    targets: Tensor,
    ignore_index: int,
    label_smoothing: float,
    z_loss: float,
    softcap: float,
) -> tuple[Tensor, Tensor]:
    """(loss, log of the sum of exponentials) of each row."""
    losses, lse = _fake(logits, targets)
    launch_rows(
        as_rows(logits), targets.reshape(-1), losses, lse, None, None, None,
        ignore_index=ignore_index, label_smoothing=label_smoothing, z_loss=z_loss, softcap=softcap,
    )  # fmt: skip
    return losses, lse


def _fake_gradient(
    dlosses: Tensor, dlse: Tensor | None, logits: Tensor, *others: Tensor | float
) -> Tensor:
    return torch.empty_like(logits, memory_format=torch.contiguous_format)


@operation("cross_entropy_backward", _fake_gradient)
def _losses_gradient(
    dlosses: Tensor,
    dlse: Tensor | None,
    logits: Tensor,
    targets: Tensor,
    lse: Tensor,
    ignore_index: int,
    label_smoothing: float,
    z_loss: float,
    softcap: float,
) -> Tensor:
    dlogits = torch.empty_like(logits, memory_format=torch.contiguous_format)
    launch_rows(
        as_rows(logits), targets.reshape(-1), None, lse, dlosses.reshape(-1),
        None if dlse is None else dlse.reshape(-1).contiguous(), as_rows(dlogits),
        ignore_index=ignore_index, label_smoothing=label_smoothing, z_loss=z_loss, softcap=softcap,
    )  # fmt: skip
    return dlogits


def _save(ctx, inputs, output):
    logits, targets, *ctx.options = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(logits, targets, output[1])


def _differentiate(ctx, dlosses, dlse):
    logits, targets, lse = ctx.saved_tensors
    if dlosses is None:
        dlosses = torch.zeros_like(lse)
    dlogits = _losses_gradient(dlosses, dlse, logits, targets, lse, *ctx.options)
    return dlogits, None, None, None, None, None


_losses.register_autograd(_differentiate, setup_context=_save)


def cross_entropy(
    logits: Float[Tensor, "... vocab_size"],
    targets: Int[Tensor, "..."],
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    return_lse: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Compute fastlm.functional.cross_entropy; a target outside the vocabulary gives NaN.

    Raises:
        ValueError: if the shapes do not match, or check_tensors refuses a tensor.
    """
    if logits.shape[:-1] != targets.shape:
        raise ValueError(
            f"cross_entropy needs a target for each row: got logits {tuple(logits.shape)} and "
            f"targets {tuple(targets.shape)}"
        )
    check_tensors("cross_entropy", MAX_COLUMNS, logits, targets)
    losses, lse = _losses(
        logits, targets, ignore_index, label_smoothing, z_loss, 0.0 if softcap is None else softcap
    )
    loss = reduce_losses(losses, targets, ignore_index, reduction)
    return (loss, lse) if return_lse else loss


def reduce_losses(losses: Tensor, targets: Tensor, ignore_index: int, reduction: str) -> Tensor:
    """The mean over the counted targets, the sum, or the losses themselves."""
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    if reduction == "mean":
        # The number of targets, at least 1, stays on the device, so nothing waits for it.
        return losses.sum() / (targets != ignore_index).sum().clamp(min=1)
    raise ValueError(f'reduction must be "mean", "sum" or "none": got {reduction!r}')
