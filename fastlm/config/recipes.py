"""Recipes: plain functions that return a TrainConfig. The command line overrides any field.

The vocabulary size always comes from the prepared data.
"""

import dataclasses
from collections.abc import Callable

from fastlm.cli import unknown
from fastlm.config import DataConfig, ModelConfig, OptimConfig, TrainConfig


def stories() -> TrainConfig:
    """Generated children's stories in about two minutes, on two CPU cores or more."""
    return TrainConfig(
        recipe="stories",
        model=ModelConfig(vocab_size=4096, context_length=128, n_layers=4, d_model=128, n_heads=4),
        optim=OptimConfig(
            name="muon",
            lr=4e-3,
            muon_lr=0.02,
            weight_decay=0.0,
            schedule="wsd",
            warmup_fraction=0.02,
            decay_fraction=0.5,
            final_lr_ratio=0.0,
        ),
        data=DataConfig(vocab_size=4096),
        batch_size=16,
        time_budget=140.0,
        eval_every=200,
        eval_tokens=16_384,
        log_every=20,
        compile_scope="block",
    )


def handout() -> TrainConfig:
    """The CS336 handout's network and budget: 327,680,000 tokens at T = 256, for any text."""
    return TrainConfig(
        recipe="handout",
        model=ModelConfig(
            vocab_size=10_000,
            context_length=256,
            n_layers=4,
            d_model=512,
            n_heads=16,
            d_ff=1344,
            tie_weights=False,
        ),
        optim=OptimConfig(name="adamw", lr=2e-3, schedule="cosine", final_lr_ratio=0.1),
        batch_size=128,
        max_tokens=327_680_000,
        eval_every=500,
        checkpoint_every=2500,
    )


def tinystories() -> TrainConfig:
    """The handout's run on TinyStories, with a vocabulary of 10,000."""
    return dataclasses.replace(handout(), recipe="tinystories")


def tinystories_cpu() -> TrainConfig:
    """The tinystories recipe with the handout's small budget: 40,960,000 tokens, batches of 32."""
    return dataclasses.replace(
        tinystories(), recipe="tinystories-cpu", batch_size=32, max_tokens=40_960_000
    )


def owt() -> TrainConfig:
    """The handout's run on OpenWebText: the same network and steps, with a vocabulary of 32,000."""
    network = dataclasses.replace(handout().model, vocab_size=32_000)
    return dataclasses.replace(handout(), recipe="owt", model=network)


def tiny() -> TrainConfig:
    """A 4-layer, 256-wide network for a few megabytes of real text on a CPU, ten minutes."""
    return TrainConfig(
        recipe="tiny",
        model=ModelConfig(vocab_size=4096, context_length=256, n_layers=4, d_model=256, n_heads=4),
        optim=OptimConfig(
            name="muon",
            lr=3e-3,
            muon_lr=0.02,
            schedule="wsd",
            warmup_fraction=0.02,
            decay_fraction=0.5,
            final_lr_ratio=0.0,
        ),
        batch_size=16,
        time_budget=600.0,
        eval_every=100,
        eval_tokens=32_768,
    )


def baseline() -> TrainConfig:
    """The handout's network at a sensible size for 90 minutes of one H100, with AdamW."""
    return TrainConfig(
        recipe="baseline",
        model=ModelConfig(
            vocab_size=32_000,
            context_length=512,
            n_layers=12,
            d_model=768,
            n_heads=12,
            d_ff=2048,
        ),
        optim=OptimConfig(
            name="adamw", lr=3e-3, betas=(0.9, 0.95), weight_decay=0.1, warmup_fraction=0.03
        ),
        batch_size=256,
        time_budget=85 * 60.0,
        eval_every=500,
        eval_tokens=1 << 20,
        checkpoint_every=2000,
    )


def leaderboard() -> TrainConfig:
    """The lowest loss on OpenWebText in 90 minutes of one H100: a modern network, and NorMuon."""
    return TrainConfig(
        recipe="leaderboard",
        model=_with_leaderboard_parts(
            ModelConfig(
                vocab_size=32_000,
                context_length=512,
                n_layers=14,
                d_model=1024,
                n_heads=8,
                d_ff=4096,
            )
        ),
        optim=_LEADERBOARD_OPTIM,
        batch_size=512,
        time_budget=85 * 60.0,
        eval_every=500,
        eval_tokens=1 << 20,
        checkpoint_every=1000,
    )


def _with_leaderboard_parts(network: ModelConfig) -> ModelConfig:
    """A network with the leaderboard's parts; docs/recipe.md has what each is worth."""
    return dataclasses.replace(
        network,
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
        logit_softcap=15.0,
    )


_LEADERBOARD_OPTIM = OptimConfig(
    name="normuon",
    orthogonalization="polar-express",
    muon_lr=0.014,
    lr=0.005,
    value_embedding_lr=0.09,
    scalar_lr=0.0035,
    x0_lr=0.35,
    betas=(0.8, 0.96),
    table_betas=(0.8, 0.995),
    x0_betas=(0.96, 0.95),
    eps=1e-10,
    weight_decay=0.12,
    weight_decay_schedule="linear",
    cautious_weight_decay=True,
    momentum=0.95,
    momentum_start=0.85,
    momentum_warmup_steps=300,
    momentum_end=0.90,
    max_grad_norm=float("inf"),
    schedule="wsd",
    warmup_steps=40,
    decay_fraction=0.7,
    final_lr_ratio=0.05,
    tie_until=2 / 3,
)


def leaderboard_b200() -> TrainConfig:
    """The leaderboard recipe for the later rules: 45 minutes of one B200."""
    return dataclasses.replace(
        leaderboard(), recipe="leaderboard-b200", time_budget=41 * 60.0, batch_size=768
    )


def small_gpu() -> TrainConfig:
    """The leaderboard's network and optimizers for an hour of a GPU with 8 GB."""
    base = leaderboard()
    return dataclasses.replace(
        base,
        recipe="small-gpu",
        model=dataclasses.replace(
            base.model, vocab_size=16_000, n_layers=8, d_model=512, n_heads=4, d_ff=2048
        ),
        batch_size=128,
        time_budget=60 * 60.0,
        eval_every=250,
        eval_tokens=1 << 18,
        checkpoint_every=500,
    )


def leaderboard_tiny() -> TrainConfig:
    """The leaderboard's network and optimizers at the size of tiny, for a CPU."""
    base = tiny()
    return dataclasses.replace(
        base,
        recipe="leaderboard-tiny",
        model=dataclasses.replace(_with_leaderboard_parts(base.model), d_ff=1024),
        # A run of minutes on a CPU has some hundred steps: 40 and 300 would be too long warm-ups.
        optim=dataclasses.replace(_LEADERBOARD_OPTIM, warmup_steps=10, momentum_warmup_steps=60),
    )


def baseline_tiny() -> TrainConfig:
    """The baseline's network and optimizer at the size of tiny, for a CPU."""
    base = tiny()
    return dataclasses.replace(base, recipe="baseline-tiny", optim=baseline().optim)


RECIPES: dict[str, Callable[[], TrainConfig]] = {
    "stories": stories,
    "tiny": tiny,
    "leaderboard-tiny": leaderboard_tiny,
    "baseline-tiny": baseline_tiny,
    "handout": handout,
    "tinystories": tinystories,
    "tinystories-cpu": tinystories_cpu,
    "owt": owt,
    "small-gpu": small_gpu,
    "baseline": baseline,
    "leaderboard": leaderboard,
    "leaderboard-b200": leaderboard_b200,
}


def load_recipe(name: str) -> TrainConfig:
    """Return the configuration of a recipe by its name.

    Raises:
        ValueError: for an unknown name, with the nearest known one.
    """
    if name not in RECIPES:
        raise ValueError(unknown("recipe", name, RECIPES))
    return RECIPES[name]()
