"""Trained models and their tokenizers in the formats of other tools.

Level 3. python -m fastlm.export RUN --to hf --out DIR
"""

if __name__ == "__main__":
    from fastlm.cli import run
    from fastlm.export_cli import main

    run(main)  # before the slow imports

import base64
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from fastlm import disk
from fastlm.bpe.reference import PATTERN
from fastlm.config import ModelConfig
from fastlm.pretrained import Pretrained
from fastlm.tokenizer import END_OF_TEXT, Tokenizer

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "arcee": "ArceeForCausalLM",
    "smollm3": "SmolLM3ForCausalLM",
}


def hugging_face_type(config: ModelConfig) -> str:
    """The model type of transformers that computes exactly this network.

    llama; with norms of queries and keys qwen3; without a gate in the feed-forward part arcee;
    without positions smollm3. A norm of the embedding is multiplied into its rows.

    Raises:
        ValueError: naming every part of the network that no type has.
    """
    others = {
        "post-norm" if config.norm == "post" else "no norms": config.norm != "pre",
        "value embeddings": config.value_embeddings,
        "x0 scalars": config.x0_scalars,
        "residual scalars": config.residual_scalars,
        "attention gate": config.attention_gate,
        "U-net skip": config.unet_skip,
        "backout": config.backout,
        "logit softcap": config.logit_softcap is not None,
        "n-gram tables": config.ngram_rows > 0,
        "a normed embedding that is the head too": config.embedding_norm and config.tie_weights,
    }
    is_plain, has_positions = config.ffn != "swiglu", config.position == "rope"
    kinds = [config.qk_norm, is_plain, not has_positions]
    missing = [name for name, there in others.items() if there]
    if sum(kinds) > 1:
        names = ("QK-norm", f"feed-forward {config.ffn}", "no positions")
        missing.append(" with ".join(n for n, there in zip(names, kinds, strict=True) if there))
    if missing:
        raise ValueError(
            f"no model type of transformers has this network's {', '.join(missing)}; networks of "
            "pre-norm blocks with RoPE, and SwiGLU or QK-norm or neither, can be exported"
        )
    if config.qk_norm:
        return "qwen3"
    if is_plain:
        return "arcee"
    return "llama" if has_positions else "smollm3"


def hugging_face_config(config: ModelConfig, *, end_of_text: int, dtype: str) -> dict[str, Any]:
    """What config.json says.

    Raises:
        ValueError: as hugging_face_type does.
    """
    kind = hugging_face_type(config)
    values: dict[str, Any] = {
        "architectures": [_ARCHITECTURES[kind]],
        "model_type": kind,
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "intermediate_size": config.ffn_width,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_heads,
        "head_dim": config.d_head,
        "hidden_act": "relu2" if config.ffn == "relu2" else "silu",
        "max_position_embeddings": config.context_length,
        "rms_norm_eps": config.norm_eps,
        # The name of transformers 4, and that of 5.
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "attention_bias": False,
        "mlp_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": config.tie_weights,
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
        "pad_token_id": end_of_text,
        "torch_dtype": dtype,
        "use_cache": True,
    }
    if kind == "qwen3":
        values |= {"use_sliding_window": False, "layer_types": ["full_attention"] * config.n_layers}
    if kind == "smollm3":
        values |= {
            "no_rope_layers": [0] * config.n_layers,
            "use_sliding_window": False,
            "layer_types": ["full_attention"] * config.n_layers,
        }
    return values


def hugging_face_tensors(config: ModelConfig, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A model's state dict under the names of transformers.

    RoPE turns pairs of neighbours here, and number k with number k + d_head / 2 there: the rows of
    each head of the query and key projections change places, and so do the gains of their norms.
    """
    d, h, d_head = config.d_model, config.n_heads, config.d_head
    kind = hugging_face_type(config)
    embedding = state["token_embeddings.weight"]
    if config.embedding_norm:
        embedding = (
            embedding * (embedding.square().mean(-1, keepdim=True) + config.norm_eps).rsqrt()
        )
    ones = torch.ones(d)
    tensors = {
        "model.embed_tokens.weight": embedding,
        "model.norm.weight": state.get("ln_final.weight", ones),
    }
    if not config.tie_weights:
        tensors["lm_head.weight"] = state["lm_head.weight"]
    for i in range(config.n_layers):
        ours, theirs = f"layers.{i}", f"model.layers.{i}"
        for name in ("q", "k", "v"):
            weight = state[f"{ours}.attn.{name}_proj.weight"]
            if name != "v" and config.position == "rope":
                weight = halves_from_pairs(weight.view(h, d_head, d), dim=1).reshape(d, d)
            tensors[f"{theirs}.self_attn.{name}_proj.weight"] = weight
        tensors[f"{theirs}.self_attn.o_proj.weight"] = state[f"{ours}.attn.output_proj.weight"]
        if kind == "qwen3":
            for name in ("q_norm", "k_norm"):
                gain = state.get(f"{ours}.attn.{name}.weight", torch.ones(d_head))
                tensors[f"{theirs}.self_attn.{name}.weight"] = halves_from_pairs(gain, dim=0)
        parts = {"w1": "up_proj", "w2": "down_proj"}
        if config.ffn == "swiglu":
            parts = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}
        for name, other in parts.items():
            tensors[f"{theirs}.mlp.{other}.weight"] = state[f"{ours}.ffn.{name}.weight"]
        for name, other in (("ln1", "input_layernorm"), ("ln2", "post_attention_layernorm")):
            tensors[f"{theirs}.{other}.weight"] = state.get(f"{ours}.{name}.weight", ones)
    return tensors


def halves_from_pairs(x: Tensor, dim: int) -> Tensor:
    """Numbers 0, 1, 2, 3 ... of a dimension in the order 0, 2, ... 1, 3, ..."""
    n = x.shape[dim]
    order = torch.cat([torch.arange(0, n, 2), torch.arange(1, n, 2)])
    return x.index_select(dim, order.to(x.device))


def export_hugging_face(pretrained: Pretrained, out: Path, *, dtype: str = "float32") -> None:
    """Write a folder that transformers and tokenizers load without code of ours.

    Args:
        dtype: of the weights: float32, bfloat16 or float16.
    Raises:
        ValueError: if no class of transformers computes this network, or the tokenizer has no
            <|endoftext|>.
        FileExistsError: if the folder has something in it.
    """
    config, tokenizer = pretrained.config.model, pretrained.tokenizer
    end_of_text = _end_of_text(tokenizer)
    told = hugging_face_config(config, end_of_text=end_of_text, dtype=dtype)
    tensors = hugging_face_tensors(config, pretrained.model.state_dict())
    _make_empty(out)
    tokenizer.save(out)
    # For tokenizers these say all; ours are not theirs.
    for name in ("vocab.json", "merges.txt", "special_tokens.json", "tables.npz"):
        (out / name).unlink(missing_ok=True)
    raw = {n: t.to(_DTYPES[dtype]).contiguous().clone() for n, t in tensors.items()}
    save_file(raw, out / "model.safetensors", metadata={"format": "pt"})
    _write(out / "config.json", told)
    endings = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), end_of_text)
    sampling = {"do_sample": True, "temperature": 0.8, "top_p": 0.95}
    _write(out / "generation_config.json", endings | sampling)
    _write(
        out / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": END_OF_TEXT,
            "eos_token": END_OF_TEXT,
            "pad_token": END_OF_TEXT,
            "model_max_length": config.context_length,
            "clean_up_tokenization_spaces": False,
            "add_prefix_space": False,
        },
    )


def export_tiktoken(tokenizer: Tokenizer, out: Path) -> None:
    """Write ranks.tiktoken, and encoding.json with the pattern and the special tokens.

    Raises:
        FileExistsError: if the folder has something in it.
    """
    _make_empty(out)
    special = set(tokenizer.special_tokens.values())
    lines = [
        f"{base64.b64encode(token).decode()} {rank}\n"
        for rank, token in sorted(tokenizer.vocab.items())
        if rank not in special
    ]
    disk.write_flushed(out / "ranks.tiktoken", "".join(lines).encode())
    _write(
        out / "encoding.json",
        {"pat_str": PATTERN, "special_tokens": dict(tokenizer.special_tokens)},
    )


def _end_of_text(tokenizer: Tokenizer) -> int:
    if END_OF_TEXT not in tokenizer.special_tokens:
        raise ValueError(f"the tokenizer has no {END_OF_TEXT}, which ends a text there")
    return tokenizer.special_tokens[END_OF_TEXT]


def _make_empty(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} is there already: give another --out")
    disk.make_folder(out)


def _write(path: Path, values: dict[str, Any]) -> None:
    disk.write_flushed(path, (json.dumps(values, indent=2) + "\n").encode())
