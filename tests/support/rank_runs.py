"""Runs of several processes: their flags, and how near two runs are to each other."""

from pathlib import Path

import torch
from short_runs import train_rows, weights


def losses(run: Path) -> torch.Tensor:
    return torch.tensor([row["loss"] for row in train_rows(run)], dtype=torch.float64)


def assert_close(run: Path, expected: Path, tolerance: float = 1e-5) -> None:
    """Compare the losses of all steps and the final weights, relative to the largest of each."""
    torch.testing.assert_close(losses(run), losses(expected), rtol=tolerance, atol=0)
    found, wanted = weights(run), weights(expected)
    assert found.keys() == wanted.keys()
    largest = 0.0
    for name, tensor in wanted.items():
        difference = (found[name] - tensor).abs().max() / tensor.abs().max().clamp(min=1e-30)
        assert difference <= tolerance, (name, difference)
        largest = max(largest, float(difference))
    of_losses = float((losses(run) / losses(expected) - 1).abs().max())
    print(f"losses differ by {of_losses:.1e}, weights by {largest:.1e}")


FLAGS = [
    "--model.n-layers", "1", "--model.d-model", "32", "--model.n-heads", "2",
    "--model.context-length", "32", "--batch-size", "8", "--max-steps", "400", "--log-every", "1",
    "--eval-every", "1000", "--eval-tokens", "512", "--checkpoint-every", "25", "--device", "cpu",
]  # fmt: skip
