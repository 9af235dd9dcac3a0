"""The texts in prepared data, and copies of data that a test may change."""

import shutil
from pathlib import Path

from fastlm.data import open_prepared
from fastlm.tokenizer import Tokenizer


def decoded(folder: Path, split: str) -> list[str]:
    data = open_prepared(folder)
    text = Tokenizer.load(folder / "tokenizer").decode(getattr(data, split).tokens.tolist())
    assert text.endswith("<|endoftext|>")
    return text.split("<|endoftext|>")[:-1]


def copy_of(prepared: Path, folder: Path) -> Path:
    shutil.copytree(prepared, folder)
    return folder
