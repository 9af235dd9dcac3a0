"""Atomic writes, sealed JSON, compressed files, files of token ids, and paths of the user."""
