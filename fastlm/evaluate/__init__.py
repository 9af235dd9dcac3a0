"""Validation loss of a model."""

from typing import TYPE_CHECKING

from fastlm.lazy import lazy_names

if TYPE_CHECKING:
    from fastlm.evaluate.loss import Evaluation as Evaluation
    from fastlm.evaluate.loss import evaluate_loss as evaluate_loss

__getattr__ = lazy_names(__name__, {"Evaluation": "loss", "evaluate_loss": "loss"})
