"""Convert networks to and from Hugging Face's transformers; they compute the same function.

For each network that a class of transformers computes exactly, this module converts config.json
and the tensors in both directions. RoPE rotates pairs of neighbours here, but dimension k with
k + d_head / 2 there: so the rows of query and key projections, and the gains of their norms, are
permuted.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fastlm.config import ModelConfig

ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "arcee": "ArceeForCausalLM",
    "smollm3": "SmolLM3ForCausalLM",
    "nanochat": "NanoChatForCausalLM",
}

_ACTIVATIONS = {"swiglu": "silu", "silu": "silu", "relu2": "relu2"}


def hugging_face_type(config: ModelConfig) -> str:
    """Return the model type of transformers that computes exactly this network.

    The type is llama; qwen3 with norms of queries and keys; arcee without a gate in the
    feed-forward layer; smollm3 without positions. A network without gains and without a gate,
    with a normed embedding and normed queries and keys, is nanochat, which may have a softcap.

    Raises:
        ValueError: if no type fits; the message names every part of the network that no type has.
    """
    is_plain, has_positions = config.ffn != "swiglu", config.position == "rope"
    is_nanochat = (
        not config.norm_gain
        and config.embedding_norm
        and config.qk_norm
        and is_plain
        and has_positions
    )
    others = {
        "post-norm" if config.norm == "post" else "no norms": config.norm != "pre",
        "value embeddings": config.value_embeddings,
        "x0 scalars": config.x0_scalars,
        "residual scalars": config.residual_scalars,
        "attention gate": config.attention_gate,
        "U-net skip": config.unet_skip,
        "backout": config.backout,
        "n-gram tables": config.ngram_rows > 0,
    }
    missing = [name for name, there in others.items() if there]
    if not is_nanochat:
        kinds = [config.qk_norm, is_plain, not has_positions]
        if config.logit_softcap is not None:
            missing.append("logit softcap")
        if config.embedding_norm and config.tie_weights:
            missing.append("a normed embedding that is the head too")
        if sum(kinds) > 1:
            names = ("QK-norm", f"feed-forward {config.ffn}", "no positions")
            missing.append(" with ".join(n for n, is_ in zip(names, kinds, strict=True) if is_))
    if missing:
        raise ValueError(
            f"no model type of transformers has this network's {', '.join(missing)}: give "
            "--with-code, and the folder gets a file that computes it"
        )
    if is_nanochat:
        return "nanochat"
    if config.qk_norm:
        return "qwen3"
    if is_plain:
        return "arcee"
    return "llama" if has_positions else "smollm3"


def hugging_face_config(config: ModelConfig) -> dict[str, Any]:
    """Return the values of config.json for the network.

    Raises:
        ValueError: as hugging_face_type does.
    """
    kind = hugging_face_type(config)
    values: dict[str, Any] = {
        "architectures": [ARCHITECTURES[kind]],
        "model_type": kind,
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "intermediate_size": config.ffn_width,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_heads,
        "head_dim": config.d_head,
        "hidden_act": _ACTIVATIONS[config.ffn],
        "max_position_embeddings": config.context_length,
        "rms_norm_eps": config.norm_eps,
        # Transformers 4 reads the first name, and transformers 5 the second.
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "attention_bias": False,
        "mlp_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": config.tie_weights,
        "use_cache": True,
    }
    full = {"use_sliding_window": False, "layer_types": ["full_attention"] * config.n_layers}
    if kind == "qwen3":
        values |= full
    if kind == "smollm3":
        values |= {"no_rope_layers": [0] * config.n_layers, **full}
    if kind == "nanochat":
        values["final_logit_softcapping"] = config.logit_softcap
    return values


def hugging_face_tensors(config: ModelConfig, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a model's state dict under the names of transformers.

    Norms without gains get gains of 1 if the class has gains; the embedding is stored normed if
    the class has no norm for it.
    """
    kind = hugging_face_type(config)
    tensors = {}
    for ours, theirs in _names(config, kind).items():
        width = config.d_head if ours.endswith(("q_norm.weight", "k_norm.weight")) else None
        x = state[ours] if ours in state else torch.ones(width or config.d_model)
        if ours == "token_embeddings.weight" and config.embedding_norm and kind != "nanochat":
            x = x * (x.square().mean(-1, keepdim=True) + config.norm_eps).rsqrt()
        tensors[theirs] = _halves_from_pairs(config, kind, ours, x)
    return tensors


_SOFTCAP = "final_logit_softcapping"
_MAX_LAYERS = 10_000
_LARGEST = 1 << 53  # beyond it a float is no exact whole number


def model_config(values: Mapping[str, Any]) -> ModelConfig:
    """Return the network that a config.json of transformers describes.

    Raises:
        ValueError: if ours cannot be that network; the message names every entry at fault.
    """
    kind = values.get("model_type")
    if kind not in (*ARCHITECTURES, "mistral"):
        known = ", ".join(sorted((*ARCHITECTURES, "mistral")))
        raise ValueError(f"expected a model_type of {known}: got {kind!r}")
    n_layers, n_heads = _whole(values, "num_hidden_layers"), _whole(values, "num_attention_heads")
    d_model, d_ff = _whole(values, "hidden_size"), _whole(values, "intermediate_size")
    vocab_size, length = _whole(values, "vocab_size"), _whole(values, "max_position_embeddings")
    eps = _number(values, "rms_norm_eps", None)
    if n_layers > _MAX_LAYERS:
        raise ValueError(f"num_hidden_layers {n_layers:,} is more than {_MAX_LAYERS:,}")
    # Where both are there, transformers reads the older name.
    rope = values.get("rope_scaling") or values.get("rope_parameters") or {}
    if not isinstance(rope, dict):
        raise ValueError(f"rope_parameters {rope!r} is no JSON object")
    rotation = {**values, **rope, "rope_parameters": rope}
    rope_theta = _number(rotation, "rope_theta", 10_000.0)
    has_rope = values.get("no_rope_layers") or [
        int(kind != "smollm3" or (i + 1) % 4 != 0) for i in range(n_layers)
    ]
    activation = values.get("hidden_act", "relu2" if kind in ("arcee", "nanochat") else "silu")
    is_plain = kind in ("arcee", "nanochat")
    softcap = values.get("final_logit_softcapping", 15.0) if kind == "nanochat" else None
    # Transformers does not write these entries if they have the class's default.
    window = values.get("sliding_window", 4096 if kind == "mistral" else None)
    uses_window = kind == "mistral" or values.get("use_sliding_window", False)
    given = {name: x for name, x in values.items() if x is not None}
    n_kv_heads = _whole({"num_key_value_heads": n_heads, **given}, "num_key_value_heads")
    d_head = _whole({"head_dim": d_model // n_heads, **given}, "head_dim")
    if window is not None:
        window = _number({"sliding_window": window}, "sliding_window", None)
    refused = {
        "attention_bias": bool(values.get("attention_bias")),
        "mlp_bias": bool(values.get("mlp_bias")),
        "hidden_act": activation not in (("silu", "relu2") if is_plain else ("silu", "swish")),
        "head_dim": d_head * n_heads != d_model,
        "rope_parameters": rope.get("rope_type", rope.get("type", "default")) != "default",
        "partial_rotary_factor": rotation.get("partial_rotary_factor") not in (None, 1.0),
        "no_rope_layers": any(has_rope) and not all(has_rope),
        "sliding_window": uses_window and window is not None and window < length,
        "num_key_value_heads": n_heads % n_kv_heads != 0,
    }
    missing = [f"{name} {rotation.get(name)!r}" for name, is_so in refused.items() if is_so]
    if missing:
        raise ValueError(f"no network of fastlm has this one's {', '.join(missing)}")
    return ModelConfig(
        vocab_size=vocab_size,
        context_length=length,
        n_layers=n_layers,
        d_model=d_model,
        n_heads=n_heads,
        d_ff=d_ff,
        rope_theta=rope_theta,
        norm_eps=eps,
        tie_weights=bool(values.get("tie_word_embeddings", kind == "smollm3")),
        position="rope" if all(has_rope) else "none",
        ffn=activation if is_plain else "swiglu",
        norm_gain=kind != "nanochat",
        embedding_norm=kind == "nanochat",
        qk_norm=kind in ("qwen3", "nanochat"),
        logit_softcap=None if softcap is None else _number({_SOFTCAP: softcap}, _SOFTCAP, None),
    )


def _whole(values: Mapping[str, Any], name: str) -> int:
    """Return an entry that is a whole number of 1 or more."""
    number = _number(values, name, None)
    if number < 1 or number != int(number):
        raise ValueError(f"{name} {values[name]!r} is no number of 1 or more")
    return int(number)


def _number(values: Mapping[str, Any], name: str, default: float | None) -> float:
    number = values.get(name, default)
    if number is None:
        raise ValueError(f"an entry is missing or is no number: {name}")
    is_number = isinstance(number, int | float) and not isinstance(number, bool)
    if not is_number or not abs(number) <= _LARGEST:
        raise ValueError(f"{name} {str(number)[:40]!r} is no number up to {_LARGEST:,}")
    return number


def model_tensors(
    config: ModelConfig, kind: str, tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return our float32 state dict from tensors under the names of transformers.

    Heads that share keys and values get their own copies: the function is the same, with more
    parameters.

    Raises:
        ValueError: if tensors are missing, left over or of another shape.
    """
    names = _names(config, "llama" if kind == "mistral" else kind)
    others = dict(tensors)
    state = {}
    for ours, theirs in names.items():
        x = others.pop(theirs, None)
        if x is None:
            raise ValueError(f"the tensor {theirs} is missing")
        if not x.is_floating_point():
            raise ValueError(
                f"the tensor {theirs} is of {x.dtype}: expected weights that are not quantized"
            )
        x = x.to(torch.float32)
        if not x.isfinite().all():
            raise ValueError(f"the tensor {theirs} has values that are NaN or infinite")
        if ours in ("token_embeddings.weight", "lm_head.weight") and len(x) != config.vocab_size:
            raise ValueError(
                f"the tensor {theirs} has {len(x):,} rows: vocab_size in config.json is "
                f"{config.vocab_size:,}"
            )
        if ours.endswith(("attn.k_proj.weight", "attn.v_proj.weight")):
            x = _own_heads(config, theirs, x)
        state[ours] = _pairs_from_halves(config, kind, ours, x)
    if config.tie_weights:
        others.pop("lm_head.weight", None)
    left = sorted(name for name in others if not name.endswith("rotary_emb.inv_freq"))
    if left:
        raise ValueError(f"there is no place for the tensor {left[0]} (and {len(left) - 1} more)")
    return state


def without_padding(
    config: ModelConfig, state: dict[str, Tensor], vocab_size: int
) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Return the network without the embedding rows beyond the tokenizer's vocabulary.

    Raises:
        ValueError: if the tokenizer has more tokens than the network has rows.
    """
    if vocab_size > config.vocab_size:
        raise ValueError(
            f"the tokenizer has {vocab_size:,} tokens, the network {config.vocab_size:,} rows: "
            "they do not belong together"
        )
    tables = ("token_embeddings.weight", "lm_head.weight")
    cut = {name: x[:vocab_size].clone() if name in tables else x for name, x in state.items()}
    return dataclasses.replace(config, vocab_size=vocab_size), cut


def _names(config: ModelConfig, kind: str) -> dict[str, str]:
    """Map our name of each tensor to its name in transformers."""
    has_gains = kind != "nanochat"
    names = {"token_embeddings.weight": "model.embed_tokens.weight"}
    if has_gains:
        names["ln_final.weight"] = "model.norm.weight"
    if not config.tie_weights:
        names["lm_head.weight"] = "lm_head.weight"
    if config.ffn == "swiglu":
        ffn = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}
    elif has_gains:
        ffn = {"w1": "up_proj", "w2": "down_proj"}
    else:
        ffn = {"w1": "fc1", "w2": "fc2"}
    parts = {f"attn.{x}_proj": f"self_attn.{x}_proj" for x in "qkv"}
    parts["attn.output_proj"] = "self_attn.o_proj"
    parts |= {f"ffn.{ours}": f"mlp.{theirs}" for ours, theirs in ffn.items()}
    if has_gains:
        parts |= {"ln1": "input_layernorm", "ln2": "post_attention_layernorm"}
        if config.qk_norm:
            parts |= {f"attn.{x}_norm": f"self_attn.{x}_norm" for x in "qk"}
    for i in range(config.n_layers):
        for ours, theirs in parts.items():
            names[f"layers.{i}.{ours}.weight"] = f"model.layers.{i}.{theirs}.weight"
    return names


_TURNED = ("q_proj.weight", "k_proj.weight", "q_norm.weight", "k_norm.weight")


def _halves_from_pairs(config: ModelConfig, kind: str, name: str, x: Tensor) -> Tensor:
    """Reorder rows 0, 1, 2, 3, ... of each head to 0, 2, ..., 1, 3, ... if RoPE rotates them."""
    if config.position != "rope" or not name.endswith(_TURNED):
        return x
    heads = x.reshape(-1, config.d_head // 2, 2, *x.shape[1:])
    first, second = heads.unbind(2)
    # Nanochat's angles have the opposite sign; negating one half keeps the dot products equal.
    halves = torch.stack([first, -second if kind == "nanochat" else second], dim=1)
    return halves.reshape(x.shape)


def _pairs_from_halves(config: ModelConfig, kind: str, name: str, x: Tensor) -> Tensor:
    """Invert _halves_from_pairs."""
    if config.position != "rope" or not name.endswith(_TURNED):
        return x
    first, second = x.reshape(-1, 2, config.d_head // 2, *x.shape[1:]).unbind(1)
    return torch.stack([first, -second if kind == "nanochat" else second], dim=2).reshape(x.shape)


def _own_heads(config: ModelConfig, name: str, x: Tensor) -> Tensor:
    """Copy rows of keys or values for each head that shares them."""
    n_shared, rest = divmod(config.d_model, x.shape[0])
    if rest or x.shape[0] % config.d_head:
        raise ValueError(f"{name} has {x.shape[0]} rows: expected whole heads of {config.d_head}")
    heads = x.reshape(-1, config.d_head, x.shape[1])
    return heads.repeat_interleave(n_shared, dim=0).reshape(-1, x.shape[1])
