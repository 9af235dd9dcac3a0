"""Reference implementations, straight from the formulas; every faster version is tested on them.

They use basic tensor operations and einops, so that each formula can be read. Leading dimensions
("...") are arbitrary batch dimensions. Norms, softmax and losses are computed in float32, or in
float64 if the input is float64.
"""

import math
from collections.abc import Sequence

import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

IGNORE_INDEX = -100


def _accurate(x: Tensor) -> Tensor:
    """Cast x to the dtype of accumulation: float64 stays, every other dtype becomes float32."""
    return x if x.dtype == torch.float64 else x.float()


def linear(
    x: Float[Tensor, "... d_in"], weight: Float[Tensor, "d_out d_in"]
) -> Float[Tensor, "... d_out"]:
    """y = x W^T, without bias."""
    return einsum(x, weight, "... d_in, d_out d_in -> ... d_out")


def embedding(
    token_ids: Int[Tensor, "..."], weight: Float[Tensor, "vocab_size d_model"]
) -> Float[Tensor, "... d_model"]:
    """Look up rows of the weight matrix."""
    return weight[token_ids]


def softmax(x: Float[Tensor, "..."], dim: int) -> Float[Tensor, "..."]:
    """exp(x_i) / sum_j exp(x_j) over one dimension; the maximum is subtracted first.

    Computed in float32, returned in x.dtype. A row that is all -inf gives NaN, as 0/0 does.
    """
    accurate = _accurate(x)
    exps = torch.exp(accurate - accurate.amax(dim=dim, keepdim=True))
    return (exps / exps.sum(dim=dim, keepdim=True)).to(x.dtype)


def silu(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """x * sigmoid(x)."""
    return x * torch.sigmoid(x)


def rms_norm(
    x: Float[Tensor, "... d_model"], weight: Float[Tensor, " d_model"] | None, eps: float = 1e-5
) -> Float[Tensor, "... d_model"]:
    """Scale each row by its root mean square: y = x / sqrt(mean(x^2) + eps) * weight.

    Computed in float32, returned in x.dtype.

    Args:
        weight: gain of each feature; None means 1.
        eps: added to the mean square, not to the root.
    Raises:
        ValueError: if weight is not one value per feature.
    Source: Zhang and Sennrich 2019, arXiv:1910.07467, eq. 4.
    """
    if weight is not None and weight.shape != x.shape[-1:]:
        raise ValueError(
            f"rms_norm needs one weight per feature: got weight {tuple(weight.shape)} for x "
            f"{tuple(x.shape)}"
        )
    accurate = _accurate(x)
    mean_square = accurate.square().mean(dim=-1, keepdim=True)
    normed = accurate * torch.rsqrt(mean_square + eps)
    return (normed if weight is None else normed * weight).to(x.dtype)


def add_rms_norm(
    x: Float[Tensor, "... d_model"],
    residual: Float[Tensor, "... d_model"],
    weight: Float[Tensor, " d_model"] | None,
    eps: float = 1e-5,
) -> tuple[Float[Tensor, "... d_model"], Float[Tensor, "... d_model"]]:
    """(rms_norm(x + residual), x + residual): the end of one block and the start of the next."""
    total = x + residual
    return rms_norm(total, weight, eps), total


def silu_mul(gate: Float[Tensor, "..."], up: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """SiLU(gate) * up, computed in float32, returned in gate.dtype."""
    return (silu(_accurate(gate)) * _accurate(up)).to(gate.dtype)


def swiglu(
    x: Float[Tensor, "... d_model"],
    w1: Float[Tensor, "d_ff d_model"],
    w2: Float[Tensor, "d_model d_ff"],
    w3: Float[Tensor, "d_ff d_model"],
) -> Float[Tensor, "... d_model"]:
    """W2 (SiLU(W1 x) * W3 x). Source: Shazeer 2020, arXiv:2002.05202."""
    return linear(silu_mul(linear(x, w1), linear(x, w3)), w2)


def relu2(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """max(x, 0)^2, computed in float32, returned in x.dtype.

    Source: So et al. 2021, arXiv:2109.08668.
    """
    return _accurate(x).clamp(min=0).square().to(x.dtype)


def silu_ffn(
    x: Float[Tensor, "... d_model"],
    w1: Float[Tensor, "d_ff d_model"],
    w2: Float[Tensor, "d_model d_ff"],
) -> Float[Tensor, "... d_model"]:
    """W2 SiLU(W1 x): the feed-forward layer without a gate."""
    return linear(silu(linear(x, w1)), w2)


def relu2_ffn(
    x: Float[Tensor, "... d_model"],
    w1: Float[Tensor, "d_ff d_model"],
    w2: Float[Tensor, "d_model d_ff"],
) -> Float[Tensor, "... d_model"]:
    """W2 relu2(W1 x): the feed-forward layer with ReLU squared, without a gate."""
    return linear(relu2(linear(x, w1)), w2)


def rope_table(
    positions: Int[Tensor, "... seq"], d_head: int, theta: float = 10_000.0
) -> tuple[Float[Tensor, "... seq half"], Float[Tensor, "... seq half"]]:
    """Cosine and sine, float32, of pos * theta^(-2k / d_head) for k = 0 ... d_head/2 - 1.

    Angles are computed in float64: in float32, those of position 10^6 would be off by 0.06 radians.
    """
    steps = torch.arange(0, d_head, 2, device="cpu", dtype=torch.float64)
    rates = torch.pow(torch.tensor(theta, dtype=torch.float64), -steps / d_head)
    # First to the CPU, then to float64, which an Apple GPU does not have.
    angles = positions.cpu().double()[..., None] * rates
    return (
        angles.cos().float().to(positions.device),
        angles.sin().float().to(positions.device),
    )


def rotate_pairs(
    x: Float[Tensor, "... seq d_head"],
    cos: Float[Tensor, "... seq half"],
    sin: Float[Tensor, "... seq half"],
) -> Float[Tensor, "... seq d_head"]:
    """Rotate each pair (x[2k], x[2k+1]) by its angle; float32 inside, x.dtype out."""
    even, odd = _accurate(x).unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return rearrange(turned, "... half two -> ... (half two)").to(x.dtype)


def rope(
    x: Float[Tensor, "... seq d_head"],
    positions: Int[Tensor, "... seq"],
    theta: float = 10_000.0,
) -> Float[Tensor, "... seq d_head"]:
    """Rotary position embedding: rotate pair (x[2k], x[2k+1]) by pos * theta^(-2k / d_head).

    Raises:
        ValueError: if the last dimension of x is odd.
    Source: Su et al. 2021, arXiv:2104.09864, eq. 34.
    """
    if x.shape[-1] % 2:
        raise ValueError(f"rope rotates pairs, so d_head must be even: got {x.shape[-1]}")
    cos, sin = rope_table(positions, x.shape[-1], theta)
    return rotate_pairs(x, cos, sin)


def qkv_norm_rope(
    qkv: Float[Tensor, "... seq columns"],
    cos: Float[Tensor, "... seq half"],
    sin: Float[Tensor, "... seq half"],
    q_weight: Float[Tensor, " d_head"] | None = None,
    k_weight: Float[Tensor, " d_head"] | None = None,
    *,
    n_heads: int,
    eps: float = 1e-5,
) -> tuple[
    Float[Tensor, "... head seq d_head"],
    Float[Tensor, "... head seq d_head"],
    Float[Tensor, "... head seq d_head"],
    Float[Tensor, "... seq rest"],
]:
    """Queries, keys and values of a joint projection by head; QK norm, then RoPE, of q and k.

    QK norm is rms_norm of each query and key. Both are computed in float32, and returned in qkv's
    dtype.

    Args:
        qkv: the columns of all heads' queries, then keys, then values, then others.
        cos, sin: tables for heads of 2 * half columns.
        q_weight, k_weight: gains of the norms; None means 1.
    Returns:
        (q, k, v, the other columns).
    Source: Henry et al. 2020, arXiv:2010.04245, with RMSNorm in place of the l2 norm.
    """
    q, k, v, rest = split_heads(qkv, n_heads, 2 * cos.shape[-1])
    q, k = (
        rotate_pairs(rms_norm(_accurate(x), weight, eps), cos, sin).to(x.dtype)
        for x, weight in ((q, q_weight), (k, k_weight))
    )
    return q, k, v, rest


def split_heads(
    qkv: Float[Tensor, "... seq columns"], n_heads: int, d_head: int
) -> tuple[
    Float[Tensor, "... head seq d_head"],
    Float[Tensor, "... head seq d_head"],
    Float[Tensor, "... head seq d_head"],
    Float[Tensor, "... seq rest"],
]:
    """Views of a joint projection: queries, keys and values by head, and the columns after them."""
    n = 3 * n_heads * d_head
    heads = rearrange(
        qkv[..., :n], "... seq (three head d) -> three ... head seq d", three=3, head=n_heads
    )
    q, k, v = heads.unbind(0)
    return q, k, v, qkv[..., n:]


def causal_mask(n_queries: int, n_keys: int, device: torch.device) -> Bool[Tensor, "q k"]:
    """True where a query may attend: the last query sees all keys, each earlier query one less."""
    query_positions = torch.arange(n_queries, device=device) + (n_keys - n_queries)
    return torch.arange(n_keys, device=device) <= query_positions[:, None]


def attention(
    q: Float[Tensor, "... q d_head"],
    k: Float[Tensor, "... k d_head"],
    v: Float[Tensor, "... k d_value"],
    mask: Bool[Tensor, "... q k"] | None = None,
    *,
    is_causal: bool = False,
) -> Float[Tensor, "... q d_value"]:
    """softmax(Q K^T / sqrt(d_head)) V, the softmax in float32.

    Args:
        mask: True = may attend. A query without any key gets a row of NaN.
        is_causal: each query attends to its own and earlier keys; with more keys than queries,
            the queries are the last positions of the sequence.
    Source: Vaswani et al. 2017, arXiv:1706.03762, eq. 1.
    """
    scores = einsum(q, k, "... q d, ... k d -> ... q k") * q.shape[-1] ** -0.5
    if is_causal:
        causal = causal_mask(q.shape[-2], k.shape[-2], q.device)
        mask = causal if mask is None else mask & causal
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return einsum(softmax(scores, dim=-1), v, "... q k, ... k d -> ... q d")


def cross_entropy(
    logits: Float[Tensor, "... vocab_size"],
    targets: Int[Tensor, "..."],
    *,
    ignore_index: int = IGNORE_INDEX,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    return_lse: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Mean of lse - z[target] over the targets that are not ignore_index.

    z = softcap * tanh(logits / softcap), or the logits without softcap; lse = logsumexp(z).
    Computed and returned in float32. If all targets are ignored, the loss is 0, not NaN.

    Args:
        reduction: "mean"; "sum"; or "none", one loss per target, 0 where it is ignored.
        label_smoothing: e in lse - (1 - e) z[target] - e mean(z).
        z_loss: coefficient of lse^2, which is added for each target that counts.
        return_lse: return (loss, lse).
    """
    z = _accurate(logits)
    if softcap is not None:
        z = softcap * torch.tanh(z / softcap)
    counted = targets != ignore_index
    # Differences from the maximum keep precision: a large lse would absorb small losses.
    highest = z.amax(dim=-1)
    shifted = z - highest[..., None]
    log_total = torch.log(torch.exp(shifted).sum(dim=-1))
    lse = highest + log_total
    chosen = shifted.gather(-1, torch.where(counted, targets, 0)[..., None]).squeeze(-1)
    losses = log_total - (1 - label_smoothing) * chosen
    if label_smoothing > 0:
        losses = losses - label_smoothing * shifted.mean(dim=-1)
    if z_loss > 0:
        losses = losses + z_loss * lse.square()
    losses = torch.where(counted, losses, 0)
    if reduction == "none":
        loss = losses
    elif reduction == "sum":
        loss = losses.sum()
    elif reduction == "mean":
        loss = losses.sum() / counted.sum().clamp(min=1)
    else:
        raise ValueError(f'reduction must be "mean", "sum" or "none": got {reduction!r}')
    return (loss, lse) if return_lse else loss


def linear_cross_entropy(
    hidden: Float[Tensor, "... d_model"],
    weight: Float[Tensor, "vocab_size d_model"],
    targets: Int[Tensor, "..."],
    *,
    ignore_index: int = IGNORE_INDEX,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    return_lse: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """cross_entropy of the logits hidden W^T, with its options; W is cast to hidden.dtype."""
    return cross_entropy(
        linear(hidden, weight.to(hidden.dtype)),
        targets,
        ignore_index=ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
        z_loss=z_loss,
        softcap=softcap,
        return_lse=return_lse,
    )


def adamw(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    exp_avgs: Sequence[Tensor],
    exp_avg_sqs: Sequence[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    step: int,
    applies: Bool[Tensor, ""] | None = None,
) -> None:
    """One step of Adam with decoupled weight decay; changes params and both averages in place.

    m <- b1 m + (1 - b1) g; v <- b2 v + (1 - b2) g^2; lr_t = lr sqrt(1 - b2^t) / (1 - b1^t);
    p <- p - lr weight_decay p - lr_t m / (sqrt(v) + eps), both terms taken at the old p.
    Computed in float32.

    Args:
        step: t, from 1.
        applies: if False nothing changes; gradients must then be 0.
    Source: Kingma and Ba 2015, arXiv:1412.6980, end of section 2 (the form that applies eps to
    the uncorrected root); Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2.
    """
    beta1, beta2 = betas
    lr_t = lr * math.sqrt(1 - beta2**step) / (1 - beta1**step)
    for p, grad, exp_avg, exp_avg_sq in zip(params, grads, exp_avgs, exp_avg_sqs, strict=True):
        g, old = _accurate(grad), _accurate(p)
        m = beta1 * _accurate(exp_avg) + (1 - beta1) * g
        v = beta2 * _accurate(exp_avg_sq) + (1 - beta2) * g * g
        new = old - lr * weight_decay * old - lr_t * m / (v.sqrt() + eps)
        for tensor, value in ((exp_avg, m), (exp_avg_sq, v), (p, new)):
            tensor.copy_(value if applies is None else torch.where(applies, value, tensor))


def symmetric_product(
    x: Float[Tensor, "... rows columns"],
    added: Float[Tensor, "... rows rows"] | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 0.0,
) -> Float[Tensor, "... rows rows"]:
    """alpha X X^T + beta C, with C = added symmetric, as in a Newton-Schulz iteration."""
    product = alpha * einsum(x, x, "... row column, ... other column -> ... row other")
    return product if added is None else product + beta * added
