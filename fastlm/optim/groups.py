"""Which optimizer group each parameter of a network belongs to."""

import re

from torch import nn

_GATE = r"attn\.(value_)?gate\.weight"

# Name of the group: pattern of the parameters' names, and whether they are vectors or matrices
# (None: either).
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
    """Every trainable parameter in exactly one group, in the order of the model.

    matrices: of the blocks, two dimensions or more, without the gates. head: the output
    projection of its own. embedding: the token embedding, also when it serves as the head.
    norms: gains, one dimension. The others are named after the parameters they hold.

    Raises:
        ValueError: naming a parameter that fits no group, or, under all its names, several.
    """
    groups: dict[str, list[nn.Parameter]] = {name: [] for name in _RULES}
    names: dict[nn.Parameter, list[str]] = {}
    # One parameter may be reached under several names: all of them have to agree.
    for name, p in model.named_parameters(remove_duplicate=False):
        if p.requires_grad:
            names.setdefault(p, []).append(name)
    for p, aliases in names.items():
        fitting = {g for alias in aliases for g in _groups_of(alias, p)}
        if len(fitting) != 1:
            found = f"several groups: {', '.join(sorted(fitting))}" if fitting else "no group"
            raise ValueError(
                f"parameter {' = '.join(aliases)} of shape {tuple(p.shape)} fits {found}; "
                "give it a rule in fastlm/optim/groups.py"
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
