"""Write trained models and their tokenizers in the formats of other tools.

python -m fastlm.export RUN --to hf --out DIR
"""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from fastlm.config import ModelConfig
from fastlm.export.architectures import hugging_face_config, hugging_face_tensors
from fastlm.files import disk
from fastlm.files.json_files import to_json
from fastlm.pretrained import Pretrained
from fastlm.tokenizer.folder import CONFIG_FILE, ENCODING_FILE, HUGGING_FACE_FILE, RANKS_FILE
from fastlm.tokenizer.formats.hugging_face import format_tokenizer_config, format_tokenizer_json
from fastlm.tokenizer.formats.tiktoken import check_special_tokens, format_pattern, format_ranks
from fastlm.tokenizer.tokenizer import END_OF_TEXT, Tokenizer

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_CONFIG = "config.json"
_CODE = Path(__file__).parent / "code" / "modeling_fastlm.py"


def export_hugging_face(
    pretrained: Pretrained, out: Path, *, dtype: str = "float32", with_code: bool = False
) -> None:
    """Write a folder that the packages transformers and tokenizers load.

    Args:
        dtype: dtype of the weights: float32, bfloat16 or float16.
        with_code: put modeling_fastlm.py beside the weights; it computes any network of fastlm, and
            transformers runs it with trust_remote_code=True. Without it, no such code is needed.
    Raises:
        ValueError: if no class of transformers computes this network and with_code is not given,
            or the tokenizer has no <|endoftext|>.
        FileExistsError: if the folder is not empty.
    """
    config, tokenizer = pretrained.config.model, pretrained.tokenizer
    end_of_text = _end_of_text(tokenizer)
    state = pretrained.model.state_dict()
    if with_code:
        told, tensors = _own_config(config), dict(state)
    else:
        told, tensors = hugging_face_config(config), hugging_face_tensors(config, state)
    raw = {n: t.to(_DTYPES[dtype]).contiguous().clone() for n, t in tensors.items()}
    endings = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), end_of_text)
    sampling = {"do_sample": True, "temperature": 0.8, "top_p": 0.95}
    if not told["use_cache"]:
        sampling["use_cache"] = False
    with disk.whole_folder(out, last=_CONFIG) as partial:
        disk.write_new(partial / HUGGING_FACE_FILE, _tokenizer_json(tokenizer))
        if with_code:
            disk.copy_file(_CODE, partial / _CODE.name)
        disk.write_new(partial / "model.safetensors", save(raw, metadata={"format": "pt"}))
        _write(partial / _CONFIG, told | endings | {"torch_dtype": dtype})
        _write(partial / "generation_config.json", endings | sampling)
        special = dict.fromkeys(("bos_token", "eos_token", "pad_token"), END_OF_TEXT)
        limit = config.context_length
        _write(partial / CONFIG_FILE, format_tokenizer_config(special, model_max_length=limit))


def _own_config(config: ModelConfig) -> dict[str, Any]:
    """Return the values of config.json for modeling_fastlm.py."""
    fields = dataclasses.asdict(config)
    del fields["zero_init"]  # it matters only at initialization
    return {
        **fields,
        "architectures": ["FastLMForCausalLM"],
        "model_type": "fastlm",
        "auto_map": {
            "AutoConfig": "modeling_fastlm.FastLMConfig",
            "AutoModelForCausalLM": "modeling_fastlm.FastLMForCausalLM",
        },
        "d_ff": config.ffn_width,
        "ngram_width": config.ngram_row_width,
        "tied_head": config.tie_weights,
        "tie_word_embeddings": False,  # a tied head is already one tensor
        "use_cache": config.ngram_rows == 0,
    }


def export_tiktoken(tokenizer: Tokenizer, out: Path) -> None:
    """Write ranks.tiktoken, its hash, and encoding.json with the pattern and the special tokens.

    The hash in ranks.tiktoken.sha256 is for load_tiktoken_bpe, which otherwise reads what it last
    read under that path from its cache.

    Raises:
        ValueError: if tiktoken would give other ids, or could.
        FileExistsError: if the folder is not empty.
    """
    check_special_tokens(tokenizer.special_tokens)
    left_out = {*tokenizer.special_tokens.values(), *tokenizer.rules.unused}
    vocab = {rank: token for rank, token in tokenizer.vocab.items() if rank not in left_out}
    by_rank = tokenizer.rules.merges_by_rank
    raw = format_ranks(vocab, None if by_rank else tokenizer.merges).encode()
    line = f"{hashlib.sha256(raw).hexdigest()}  {RANKS_FILE}\n"  # as sha256sum -c reads it
    encoding = {
        "pat_str": format_pattern(tokenizer.rules),
        "special_tokens": dict(tokenizer.special_tokens),
    }
    with disk.whole_folder(out, last=RANKS_FILE) as partial:
        disk.write_new(partial / RANKS_FILE, raw)
        disk.write_new(partial / f"{RANKS_FILE}.sha256", line.encode())
        _write(partial / ENCODING_FILE, encoding)


def _tokenizer_json(tokenizer: Tokenizer) -> bytes:
    """Return tokenizer.json, the complete tokenizer for the package `tokenizers`."""
    return to_json(
        format_tokenizer_json(
            tokenizer.vocab, tokenizer.merges, tokenizer.special_tokens, tokenizer.rules
        ),
        indent=0,
        is_ascii=False,
    )


def _end_of_text(tokenizer: Tokenizer) -> int:
    if END_OF_TEXT not in tokenizer.special_tokens:
        raise ValueError(f"the tokenizer has no {END_OF_TEXT}, which ends a text there")
    return tokenizer.special_tokens[END_OF_TEXT]


def _write(path: Path, values: dict[str, Any]) -> None:
    disk.write_new(path, to_json(values))
