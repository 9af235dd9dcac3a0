"""Settings of sampling; to check them takes no torch."""

from fastlm.config.seeds import check_seed


def check_sampling(
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    max_tokens: int = 0,
    seed: int = 0,
) -> None:
    """Raise ValueError for sampling settings out of range."""
    if not temperature >= 0:
        raise ValueError(f"temperature must be at least 0: got {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1: got {top_k}")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p must lie in (0, 1]: got {top_p}")
    if max_tokens < 0:
        raise ValueError(f"max_tokens must be at least 0: got {max_tokens}")
    check_seed(seed)
