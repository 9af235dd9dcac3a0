"""Short runs of the leaderboard's network and optimizers, all their parts in small."""

from pathlib import Path

import short_runs

from fastlm.config import ModelConfig, OptimConfig, TrainConfig

MODEL = ModelConfig(
    vocab_size=400,
    context_length=32,
    n_layers=3,
    d_model=32,
    n_heads=2,
    tie_weights=False,
    ffn="relu2",
    norm_gain=False,
    embedding_norm=True,
    qk_norm=True,
    zero_init=True,
    residual_scalars=True,
    x0_scalars=True,
    value_embeddings=True,
    attention_gate=True,
    unet_skip=True,
    backout=True,
    logit_softcap=15.0,
    ngram_rows=1000,
    ngram_width=16,
)


OPTIM = OptimConfig(
    name="normuon",
    lr=1e-2,
    muon_lr=0.02,
    orthogonalization="polar-express",
    cautious_weight_decay=True,
    tie_until=0.5,
    schedule="wsd",
    max_grad_norm=float("inf"),
)


def config(data: Path, **changes) -> TrainConfig:
    settings = {"model": MODEL, "optim": OPTIM, "micro_batch": 4, "max_steps": 24}
    settings |= {"eval_every": 12, "checkpoint_every": 6, "log_every": 6}
    return short_runs.config(data, **(settings | changes))
