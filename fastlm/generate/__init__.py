"""Text generation with a trained model."""

from typing import TYPE_CHECKING

from fastlm.lazy import lazy_names

if TYPE_CHECKING:
    from fastlm.generate.sampling import generate as generate
    from fastlm.generate.sampling import generate_text as generate_text
    from fastlm.generate.sampling import next_token_probabilities as next_token_probabilities

__getattr__ = lazy_names(
    __name__,
    {"generate": "sampling", "generate_text": "sampling", "next_token_probabilities": "sampling"},
)
