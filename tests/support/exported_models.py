"""Networks of every kind that is exported, and texts for the tokenizers beside them."""

import dataclasses
import random

import torch
from tokenizer_cases import END
from torch import nn

from fastlm.config import ModelConfig, TrainConfig
from fastlm.model import TransformerLM
from fastlm.pretrained import Pretrained
from fastlm.tokenizer import Tokenizer

LEADERBOARD_PARTS = (
    "value_embeddings", "x0_scalars", "residual_scalars", "attention_gate", "qk_norm",
    "embedding_norm",
)  # fmt: skip


PLAIN = ModelConfig(context_length=80, n_layers=3, d_model=48, n_heads=4, tie_weights=False)


NANOCHAT = {
    "norm_gain": False,
    "embedding_norm": True,
    "qk_norm": True,
    "ffn": "relu2",
    "logit_softcap": 5.0,
}


SHAPES = {
    "llama": {},
    "tied": {"tie_weights": True},
    "without gains": {"norm_gain": False},
    "normed embedding": {"embedding_norm": True},
    "other numbers": {"rope_theta": 500.0, "norm_eps": 1e-3, "d_ff": 100},
    "qwen3": {"qk_norm": True},
    "qwen3 without gains": {"qk_norm": True, "norm_gain": False, "tie_weights": True},
    "arcee": {"ffn": "relu2"},
    "silu": {"ffn": "silu"},
    "smollm3": {"position": "none"},
    "nanochat": NANOCHAT,
    "nanochat tied": NANOCHAT | {"tie_weights": True, "ffn": "silu", "logit_softcap": None},
}


# Networks that only a file of ours computes.
CODED = {
    "plain": {},
    "post-norm": {"norm": "post", "ffn": "silu"},
    "no norms": {"norm": "none", "position": "none", "tie_weights": True},
    "gates and scalars": {
        "value_embeddings": True,
        "attention_gate": True,
        "residual_scalars": True,
        "x0_scalars": True,
        "unet_skip": True,
        "backout": True,
        "logit_softcap": 4.0,
        "n_layers": 5,
    },
    "n-grams": {"ngram_rows": 1009, "embedding_norm": True, "qk_norm": True},
    "narrow n-grams": {"ngram_rows": 1009, "ngram_width": 8},
    "leaderboard": dict.fromkeys(LEADERBOARD_PARTS, True) | {"ffn": "relu2", "norm_gain": False},
}


def random_model(tokenizer: Tokenizer, **changes) -> Pretrained:
    """Draw every parameter at random, gains too, so that no two are equal from the start."""
    network = dataclasses.replace(PLAIN, vocab_size=tokenizer.vocab_size, **changes)
    model = TransformerLM(network)
    generator = torch.Generator().manual_seed(0)
    for p in model.parameters():
        near = 1.0 if p.ndim == 1 else 0.0
        size = 0.3 if p.ndim == 1 else p.shape[-1] ** -0.5
        nn.init.normal_(p, near, size, generator=generator)
    return Pretrained(model.eval(), tokenizer, TrainConfig(model=network, max_steps=1))


def random_texts(n: int) -> list[str]:
    """Return texts of all planes of Unicode, with white space, digits and special tokens."""
    rng = random.Random(0)
    pieces = [
        "\u00e9",
        "e\u0301",
        " ",
        "  ",
        "\n",
        "\t",
        "'s",
        "'S",
        "1",
        "23",
        "\u4e2d",
        "\U0001f600",
        END,
        "a",
        "the",
        ".",
    ]
    ranges = [(32, 127), (0xA0, 0x24F), (0x370, 0x52F), (0x4E00, 0x9FFF), (0x1F300, 0x1FAFF)]
    ranges += [(1, 0xD7FF), (0xE000, 0x10FFFF)]  # all there are
    texts = []
    for _ in range(n):
        text = ""
        for _ in range(rng.randrange(24)):
            low, high = rng.choice(ranges)
            text += rng.choice(pieces) if rng.random() < 0.5 else chr(rng.randrange(low, high))
        texts.append(text)
    return texts
