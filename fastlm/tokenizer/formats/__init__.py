"""Formats of tokenizer files of other programs."""
