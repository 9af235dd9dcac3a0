"""Hashed embedding tables of the last two and the last three tokens (n-gram embeddings).

The tables are large and a step touches few of their rows: indices() and rows() can be called
before the step, so that gradients are computed for these rows only.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from fastlm.config import ModelConfig
from fastlm.model.layers import Embedding, Linear
from fastlm.ops import Ops, reference_ops

NGRAM_LENGTHS = (2, 3)

# A key modulo a prime below 2^31, times a factor below 2^31: no product passes 2^62.
_PRIME = 2_147_483_647
_FACTORS = {2: 1_640_531_527, 3: 1_103_515_245}


class NgramEmbedding(nn.Module):
    """Sum of a row for the last two tokens and a row for the last three; tables start at zero.

    Different n-grams may share a row. Positions before the first token use one extra token id.
    """

    def __init__(self, config: ModelConfig, *, ops: Ops = reference_ops) -> None:
        super().__init__()
        self.vocab_size, self.n_rows = config.vocab_size, config.ngram_rows
        width = config.ngram_row_width
        self.tables = nn.ModuleList(
            Embedding(self.n_rows, width, std=0.0, ops=ops) for _ in NGRAM_LENGTHS
        )
        self.projections = nn.ModuleList(
            Linear(width, config.d_model, ops=ops) for _ in NGRAM_LENGTHS if width != config.d_model
        )

    def indices(
        self, token_ids: Int[Tensor, "... seq"], before: Int[Tensor, "... n"] | None = None
    ) -> list[Int[Tensor, "... seq"]]:
        """Row index of each position in each table.

        Args:
            before: tokens that precede token_ids; none when not given.
        """
        length, n_before = token_ids.shape[-1], NGRAM_LENGTHS[-1] - 1
        nothing = token_ids.new_full((*token_ids.shape[:-1], n_before), self.vocab_size)
        pieces = [nothing, token_ids] if before is None else [nothing, before, token_ids]
        ids = torch.cat(pieces, dim=-1)
        start = ids.shape[-1] - length
        key = token_ids.long()
        found = []
        for back in range(1, n_before + 1):
            key = key * (self.vocab_size + 1) + ids[..., start - back : start - back + length]
            if back + 1 in NGRAM_LENGTHS:
                found.append(key % _PRIME * _FACTORS[back + 1] % _PRIME % self.n_rows)
        return found

    def rows(
        self, indices: Sequence[Int[Tensor, "... seq"]]
    ) -> list[Float[Tensor, "... seq width"]]:
        """Look up the rows at these indices."""
        return [table(i) for table, i in zip(self.tables, indices, strict=True)]

    def forward(
        self, rows: Sequence[Float[Tensor, "... seq width"]], dtype: torch.dtype
    ) -> Float[Tensor, "... seq d_model"]:
        """Sum the rows, projected to d_model if narrower or wider, for adding to the embedding."""
        added = [row.to(dtype) for row in rows]
        if len(self.projections) > 0:
            added = [p(row) for p, row in zip(self.projections, added, strict=True)]
        return added[0] + added[1]
