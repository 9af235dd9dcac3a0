"""Seeds of random generators."""

SEEDS = range(-(2**63), 2**64)
"""Seeds that torch's generators take."""


def check_seed(seed: int) -> None:
    """Raise ValueError for a seed that no generator takes."""
    if seed not in SEEDS:
        raise ValueError(f"seed must have at most 64 bits, from -2^63 to 2^64 - 1: got {seed}")
