"""Every parameter of a network in exactly one group."""

import pytest
import torch
from torch import nn

from fastlm.config import ModelConfig
from fastlm.model import TransformerLM
from fastlm.optim.groups import parameter_groups

SHAPES = {
    "token_embeddings.weight": (7, 4),
    "lm_head.weight": (7, 4),
    "layers.0.attn.qkv_weight": (3, 4, 4),
    "layers.0.attn.output_proj.weight": (4, 4),
    "layers.0.attn.gate.weight": (2, 4),
    "layers.12.attn.value_gate.weight": (2, 4),
    "layers.12.ffn.w1.weight": (8, 4),
    "layers.12.ffn.w2.weight": (4, 8),
    "layers.12.ffn.w3.weight": (8, 4),
    "layers.0.ln1.weight": (4,),
    "layers.0.attn.q_norm.weight": (2,),
    "ln_final.weight": (4,),
    "value_embeddings.1.weight": (7, 4),
    "residual_scalars": (13,),
    "x0_scalars": (13,),
    "skip_scalar": (1,),
    "backout_scalar": (1,),
    "ngrams.tables.0.weight": (11, 3),
    "ngrams.tables.1.weight": (11, 3),
    "ngrams.projections.0.weight": (4, 3),
}
GROUPS = {
    "matrices": [
        "layers.0.attn.qkv_weight", "layers.0.attn.output_proj.weight",
        "layers.12.ffn.w1.weight", "layers.12.ffn.w2.weight", "layers.12.ffn.w3.weight",
    ],
    "head": ["lm_head.weight"],
    "embedding": ["token_embeddings.weight"],
    "value_embeddings": ["value_embeddings.1.weight"],
    "gates": ["layers.0.attn.gate.weight", "layers.12.attn.value_gate.weight"],
    "norms": ["layers.0.ln1.weight", "layers.0.attn.q_norm.weight", "ln_final.weight"],
    "residual_scalars": ["residual_scalars", "skip_scalar", "backout_scalar"],
    "x0_scalars": ["x0_scalars"],
    "ngram_tables": ["ngrams.tables.0.weight", "ngrams.tables.1.weight"],
    "ngram_projections": ["ngrams.projections.0.weight"],
}  # fmt: skip


def network(parameters: dict[str, nn.Parameter]) -> nn.Module:
    """A module that holds parameters under dotted names."""
    root = nn.Module()
    for name, p in parameters.items():
        *path, last = name.split(".")
        holder = root
        for part in path:
            if part not in dict(holder.named_children()):
                holder.add_module(part, nn.Module())
            holder = holder.get_submodule(part)
        holder.register_parameter(last, p)
    return root


def everything() -> dict[str, nn.Parameter]:
    return {name: nn.Parameter(torch.zeros(shape)) for name, shape in SHAPES.items()}


def test_every_name_has_its_group():
    model = network(everything())
    names = {p: name for name, p in model.named_parameters()}
    found = {g: sorted(names[p] for p in ps) for g, ps in parameter_groups(model).items()}
    assert found == {group: sorted(members) for group, members in GROUPS.items()}


@pytest.mark.parametrize("norm", ["pre", "post", "none"])
@pytest.mark.parametrize("ffn", ["swiglu", "silu"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_network_is_divided_without_rest_or_overlap(tied, ffn, norm):
    model = TransformerLM(
        ModelConfig(
            vocab_size=11,
            context_length=4,
            n_layers=2,
            d_model=8,
            n_heads=2,
            tie_weights=tied,
            ffn=ffn,
            norm=norm,
        )
    )
    groups = parameter_groups(model)
    held = [id(p) for ps in groups.values() for p in ps]
    assert sorted(held) == sorted(id(p) for p in model.parameters())
    assert len(groups["head"]) == (not tied)
    assert groups["embedding"] == [model.token_embeddings.weight]
    assert len(groups["matrices"]) == 2 * (2 + (3 if ffn == "swiglu" else 2))


def test_frozen_parameters_are_in_no_group():
    model = network(everything())
    model.lm_head.weight.requires_grad_(False)
    assert parameter_groups(model)["head"] == []


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("extra.weight", (3, 3)),
        ("bias", (3,)),
        ("ln_final.weight", (3, 3)),
        ("token_embeddings.bias", (3,)),
        ("my_lm_head.weight", (3, 3)),
        ("value_embeddings.x.weight", (3, 3)),
    ],
)
def test_a_parameter_that_fits_nowhere_is_named(name, shape):
    model = network({name: nn.Parameter(torch.zeros(shape))})
    with pytest.raises(ValueError, match=rf"parameter {name} of shape .* fits no group"):
        parameter_groups(model)


def test_a_parameter_of_two_groups_is_named():
    parameters = everything()
    parameters["lm_head.weight"] = parameters["token_embeddings.weight"]
    message = (
        r"token_embeddings.weight = lm_head.weight of shape .* several groups: embedding, head"
    )
    with pytest.raises(ValueError, match=message):
        parameter_groups(network(parameters))


def test_a_parameter_under_two_names_of_one_group_counts_once():
    parameters = everything()
    parameters["layers.0.ln2.weight"] = parameters["layers.0.ln1.weight"]
    assert len(parameter_groups(network(parameters))["norms"]) == len(GROUPS["norms"])


def test_the_network_with_all_its_parts_has_a_group_for_each():
    config = ModelConfig(
        vocab_size=11, context_length=8, n_layers=2, d_model=4, n_heads=1, tie_weights=False,
        qk_norm=True, residual_scalars=True, x0_scalars=True, value_embeddings=True,
        attention_gate=True, unet_skip=True, backout=True, ngram_rows=5, ngram_width=3,
    )  # fmt: skip
    model = TransformerLM(config)
    groups = parameter_groups(model)
    assert all(groups.values()), [name for name, params in groups.items() if not params]
    assert sum(len(params) for params in groups.values()) == len(list(model.parameters()))
    assert {tuple(p.shape) for p in groups["gates"]} == {(1, 4)}
    assert len(groups["residual_scalars"]) == 3
