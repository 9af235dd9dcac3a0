"""A text and the data prepared from it. Made once, so nothing may change them."""

from pathlib import Path

import pytest

from fastlm.corpus.stories import generate_stories
from fastlm.data import prepare


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a training and a validation text."""
    folder = tmp_path_factory.mktemp("corpus") / "stories"
    folder.mkdir()
    for i, (name, n_bytes) in enumerate((("train", 60_000), ("valid", 6_000))):
        documents = generate_stories(seed=i, n_bytes=n_bytes)
        text = "".join(f"{document}\n<|endoftext|>\n" for document in documents)
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def prepared(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus, prepared with a vocabulary of 400."""
    return prepare(corpus, tmp_path_factory.mktemp("data") / "d", vocab_size=400)
