"""Tokens to train on where no data are given: as fast to compute with as any, and learnable."""

from pathlib import Path

import numpy as np

from fastlm.config import TrainConfig
from fastlm.data.prepared import PreparedData, Split

_MOST = 1 << 24
_REPEATED = 0.5
"""Share of tokens that follow from the one before, so that losses fall and show wrong gradients"""


def made_data(config: TrainConfig, *, n_steps: int = 16) -> PreparedData:
    """Tokens of the vocabulary of a configuration, enough for some steps without repetition."""
    vocab_size, length = config.model.vocab_size, config.model.context_length
    n = min(_MOST, max(1 << 16, n_steps * max(config.batch_sizes) * length)) + length + 1
    rng = np.random.default_rng(0)
    # Ranks in words of a text are distributed so (Zipf), but for those beyond the vocabulary.
    drawn = (vocab_size ** rng.random(n)).astype(np.int64) - 1
    follows = rng.random(n) < _REPEATED
    tokens = np.where(follows, (7 * np.roll(drawn, 1) + 1) % vocab_size, drawn)
    kept = tokens.astype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)
    split = Split(kept, len(kept), (), "made")
    return PreparedData(Path(), vocab_size, "made", split, split)
