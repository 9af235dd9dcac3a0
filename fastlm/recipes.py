"""Named runs: plain functions that return a TrainConfig. The command line overrides any field.

Level 3. The vocabulary's size always comes from the prepared data.
"""

import dataclasses
from collections.abc import Callable

from fastlm.cli import unknown
from fastlm.config import DataConfig, ModelConfig, OptimConfig, TrainConfig


def stories() -> TrainConfig:
    """Generated children's stories in about two minutes, on anything from two CPU cores up."""
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


def tinystories() -> TrainConfig:
    """The CS336 handout's TinyStories model: 327,680,000 tokens at V = 10,000, T = 256."""
    return TrainConfig(
        recipe="tinystories",
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


def tinystories_cpu() -> TrainConfig:
    """The same network with the handout's small budget: 40,960,000 tokens, 32 windows a step."""
    return dataclasses.replace(
        tinystories(), recipe="tinystories-cpu", batch_size=32, max_tokens=40_960_000
    )


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
    """OpenWebText in 90 minutes of one H100: Muon, tied weights, stable rate and linear decay."""
    return TrainConfig(
        recipe="leaderboard",
        model=ModelConfig(
            vocab_size=32_000,
            context_length=512,
            n_layers=12,
            d_model=1024,
            n_heads=8,
            d_ff=2752,
        ),
        optim=OptimConfig(
            name="muon",
            lr=3e-3,
            muon_lr=0.014,
            betas=(0.8, 0.95),
            weight_decay=0.05,
            schedule="wsd",
            warmup_fraction=0.01,
            decay_fraction=0.6,
            final_lr_ratio=0.05,
            max_grad_norm=float("inf"),
        ),
        batch_size=512,
        time_budget=85 * 60.0,
        eval_every=500,
        eval_tokens=1 << 20,
        checkpoint_every=1000,
    )


RECIPES: dict[str, Callable[[], TrainConfig]] = {
    "stories": stories,
    "tiny": tiny,
    "tinystories": tinystories,
    "tinystories-cpu": tinystories_cpu,
    "baseline": baseline,
    "leaderboard": leaderboard,
}


def load_recipe(name: str) -> TrainConfig:
    """The configuration of a recipe by its name.

    Raises:
        ValueError: for an unknown name, with the nearest known one.
    """
    if name not in RECIPES:
        raise ValueError(unknown("recipe", name, RECIPES))
    return RECIPES[name]()
