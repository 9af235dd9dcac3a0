"""The CS336 handout's toy problem: SGD with lr / sqrt(t + 1) on 10 x 10 weights.

python -m fastlm.sgd_toy --rates 1 10 100 1000
"""

from fastlm.cli import interrupts

if __name__ == "__main__":
    interrupts.exit_on_interrupt()

from collections.abc import Sequence

from fastlm import cli
from fastlm.config.float32 import check_rate
from fastlm.config.seeds import check_seed


def losses(rate: float, n_steps: int = 10, seed: int = 0) -> list[float]:
    """Mean squared weight before each step; the weights start as normal samples times 5."""
    import torch
    from torch import nn

    from fastlm.optim import SGD

    generator = torch.Generator().manual_seed(seed)
    weights = nn.Parameter(5 * torch.randn(10, 10, generator=generator))
    optimizer = SGD([weights], lr=rate, inverse_sqrt=True)
    found = []
    for _ in range(n_steps):
        optimizer.zero_grad()
        loss = (weights**2).mean()
        loss.backward()
        found.append(loss.item())
        optimizer.step()
    return found


def _toy(
    rates: tuple[float, ...] = (1.0, 10.0, 100.0, 1000.0), steps: int = 10, seed: int = 0
) -> None:
    """Print the losses of SGD on a toy problem, one column per learning rate.

    Args:
        rates: learning rates.
        steps: steps with each learning rate.
        seed: seed of the initial weights, which all learning rates share.
    """
    if steps < 2:
        raise ValueError(f"steps must be at least 2, to see a change: got {steps}")
    check_seed(seed)
    for rate in rates:
        if rate != 0:
            check_rate("rates", rate)
    columns = [losses(rate, steps, seed) for rate in rates]
    print("step" + "".join(f"{f'rate {rate:g}':>14}" for rate in rates))
    for step in range(steps):
        print(f"{step:4}" + "".join(f"{column[step]:>14.4g}" for column in columns))
    for rate, column in zip(rates, columns, strict=True):
        print(f"rate {rate:g} {'converges' if column[-1] < column[0] else 'diverges'}")


ARGUMENTS = _toy


def main(argv: Sequence[str] | None = None) -> None:
    """The command line of fastlm.sgd_toy."""
    cli.parse(ARGUMENTS, argv, prog=cli.program("sgd-toy"))


if __name__ == "__main__":
    cli.run(main)
