"""A plain GPT-2-shaped network of torch's own modules, as a reference for the training step.

It has learned positions, LayerNorm without bias, GELU with a width of 4 x d_model, and tied
weights: the shape that nanoGPT trains, in its usual PyTorch form.
"""

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.before_attention = nn.LayerNorm(d_model, bias=False)
        self.before_mlp = nn.LayerNorm(d_model, bias=False)
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.projection = nn.Linear(d_model, d_model, bias=False)
        self.up = nn.Linear(d_model, 4 * d_model, bias=False)
        self.down = nn.Linear(4 * d_model, d_model, bias=False)

    def forward(self, x: Float[Tensor, "batch seq d_model"]) -> Float[Tensor, "batch seq d_model"]:
        q, k, v = self.qkv(self.before_attention(x)).chunk(3, dim=-1)
        q, k, v = (t.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for t in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.projection(mixed.transpose(1, 2).flatten(-2))
        return x + self.down(F.gelu(self.up(self.before_mlp(x))))


class GPT2Shape(nn.Module):
    """A network whose result is the mean cross-entropy of a batch."""

    def __init__(
        self, vocab_size: int, context_length: int, n_layers: int, d_model: int, n_heads: int
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, d_model)
        self.positions = nn.Embedding(context_length, d_model)
        self.blocks = nn.Sequential(*(Block(d_model, n_heads) for _ in range(n_layers)))
        self.norm = nn.LayerNorm(d_model, bias=False)
        for p in self.parameters():
            if p.ndim == 2:
                nn.init.normal_(p, std=0.02)

    def forward(
        self, token_ids: Int[Tensor, "batch seq"], targets: Int[Tensor, "batch seq"]
    ) -> Float[Tensor, ""]:
        x = self.tokens(token_ids) + self.positions.weight[: token_ids.shape[1]]
        logits = F.linear(self.norm(self.blocks(x)), self.tokens.weight)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())

    def flops_per_token(self, context_length: int) -> int:
        """FLOPs per token of matrix products, forward and backward; attention counts all pairs."""
        matrices = sum(p.numel() for p in self.parameters() if p.ndim == 2)
        d_model = self.norm.weight.numel()
        matrices -= self.positions.weight.numel()
        return 6 * matrices + 12 * len(self.blocks) * context_length * d_model
