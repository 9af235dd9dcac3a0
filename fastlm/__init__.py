"""fastlm: from raw text to a trained language model on one GPU."""

__version__ = "0.1.0"
