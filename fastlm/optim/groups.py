"""Parameter groups: the optimizer, learning rate, betas and weight decay of each parameter."""

import re
from typing import Any

import torch
from torch import nn

from fastlm.config import OptimConfig
from fastlm.devices.ranks import Ranks
from fastlm.ops import Ops, torch_ops
from fastlm.optim import SGD, AdaGrad, AdamW, Stepper
from fastlm.optim.muon import Muon, NorMuon

_GATE = r"attn\.(value_)?gate\.weight"

# Group name -> pattern of the parameter names, and whether they are vectors or matrices (None:
# either).
_RULES: dict[str, tuple[str, str | None]] = {
    "matrices": (rf"layers\.\d+\.(?!{_GATE}).+", "matrix"),
    "head": (r"lm_head\.weight", None),
    "embedding": (r"token_embeddings\.weight", None),
    "value_embeddings": (r"value_embeddings\.\d+\.weight", None),
    "gates": (rf"layers\.\d+\.{_GATE}", None),
    "norms": (rf"layers\.\d+\.(?!{_GATE}).+|ln_\w+\.weight", "vector"),
    "residual_scalars": (r"residual_scalars|skip_scalar|backout_scalar", None),
    "x0_scalars": (r"x0_scalars", None),
    "ngram_tables": (r"ngrams\.tables\.\d+\.weight", None),
    "ngram_projections": (r"ngrams\.projections\.\d+\.weight", None),
}


def parameter_groups(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Put every trainable parameter into exactly one group, in the order of the model.

    matrices: weights of the blocks with two or more dimensions, except gates. head: the untied
    output projection. embedding: the token embedding, also when it is the tied head. norms:
    one-dimensional gains. The other groups are named after the parameters they hold.

    Raises:
        ValueError: if a parameter matches no group, or several under its names.
    """
    groups: dict[str, list[nn.Parameter]] = {name: [] for name in _RULES}
    names: dict[nn.Parameter, list[str]] = {}
    # A shared parameter has several names: all of them must match the same group.
    for name, p in model.named_parameters(remove_duplicate=False):
        if p.requires_grad:
            names.setdefault(p, []).append(name)
    for p, aliases in names.items():
        fitting = {g for alias in aliases for g in _groups_of(alias, p)}
        if len(fitting) != 1:
            found = f"several groups: {', '.join(sorted(fitting))}" if fitting else "no group"
            raise ValueError(
                f"parameter {' = '.join(aliases)} of shape {tuple(p.shape)} fits {found}; "
                "add a rule to fastlm/optim/groups.py"
            )
        groups[fitting.pop()].append(p)
    return groups


def _groups_of(name: str, p: nn.Parameter) -> list[str]:
    kind = "matrix" if p.ndim >= 2 else "vector"
    return [
        group
        for group, (pattern, wanted) in _RULES.items()
        if wanted in (None, kind) and re.fullmatch(pattern, name)
    ]


def build_optimizers(
    model: nn.Module,
    config: OptimConfig,
    ops: Ops = torch_ops,
    *,
    ranks: Ranks | None = None,
    compiled: bool = False,
    dtype: torch.dtype | None = None,
) -> list[Stepper]:
    """Build the optimizers of a run, with each group at its peak learning rate.

    Args:
        ranks: the processes of the run, which divide Muon's matrices among themselves.
        compiled: torch.compile the updates of muon and normuon.
        dtype: as in Muon.
    """
    groups = parameter_groups(model)
    matrices = groups.pop("matrices") if config.name in ("muon", "normuon") else []
    # Groups with the same settings are merged: fewer kernel launches.
    merged: dict[tuple[Any, ...], list[nn.Parameter]] = {}
    for name, params in groups.items():
        if params:
            tied = name == "embedding" and not groups["head"]
            settings = _settings("head" if tied else name, config, decayed=not tied)
            merged.setdefault(settings, []).extend(params)
    rest = [
        {"params": params, "lr": lr, "weight_decay": decay}
        | ({} if config.name in ("sgd", "adagrad") else {"betas": betas})
        for (lr, betas, decay), params in merged.items()
    ]
    optimizers: list[Stepper]
    if config.name == "sgd":
        optimizers = [SGD(rest, config.lr, momentum=config.momentum, ranks=ranks)]
    elif config.name == "adagrad":
        optimizers = [AdaGrad(rest, config.lr, eps=config.eps, ranks=ranks)]
    else:
        optimizers = [AdamW(rest, config.lr, config.betas, config.eps, ops=ops, ranks=ranks)]
    if matrices:
        optimizers.append(
            (NorMuon if config.name == "normuon" else Muon)(
                matrices,
                config.muon_lr,
                momentum=config.momentum,
                weight_decay=config.weight_decay,
                orthogonalization=config.orthogonalization,
                cautious=config.cautious_weight_decay,
                ops=ops,
                ranks=ranks,
                compiled=compiled,
                dtype=dtype,
            )
        )
    return optimizers


def _settings(
    name: str, config: OptimConfig, *, decayed: bool
) -> tuple[float, tuple[float, float], float]:
    """Learning rate, betas and weight decay of a group of parameters."""
    lr = {
        "embedding": config.embedding_lr,
        "ngram_tables": config.embedding_lr,
        "value_embeddings": config.value_embedding_lr,
        "residual_scalars": config.scalar_lr,
        "x0_scalars": config.x0_lr,
    }.get(name)
    betas = None
    if name in ("embedding", "value_embeddings", "ngram_tables"):
        betas = config.table_betas
    elif name == "x0_scalars":
        betas = config.x0_betas
    decayed = decayed and name in ("matrices", "head", "ngram_projections")
    return (
        config.lr if lr is None else lr,
        config.betas if betas is None else betas,
        config.weight_decay if decayed else 0.0,
    )
