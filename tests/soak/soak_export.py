"""Exported tokenizers beside ours on a hundred thousand random texts, and on all real ones."""

import json

import pytest
import tiktoken
import tiktoken.load
import tokenizers
from exported_models import random_texts

from fastlm.export import export_tiktoken
from fastlm.tokenizer import Tokenizer, train_bpe
from fastlm.tokenizer.folder import HUGGING_FACE_FILE

END = "<|endoftext|>"


@pytest.fixture(scope="module")
def all_three(text_dir, tmp_path_factory):
    """A tokenizer of 8,000 tokens of real text, and what tokenizers and tiktoken make of it."""
    folder = tmp_path_factory.mktemp("exported")
    ours = Tokenizer(*train_bpe(text_dir / "tinystories_train.txt", 8000, [END]), [END])
    ours.save(folder / "own")
    export_tiktoken(ours, folder / "ranks")
    told = json.loads((folder / "ranks/encoding.json").read_text())
    ranks = tiktoken.load.load_tiktoken_bpe(str(folder / "ranks/ranks.tiktoken"))
    return (
        ours,
        tokenizers.Tokenizer.from_file(str(folder / "own" / HUGGING_FACE_FILE)),
        tiktoken.Encoding("exported", mergeable_ranks=ranks, **told),
    )


def test_a_hundred_thousand_random_texts(all_three):
    ours, rust, encoding = all_three
    texts = random_texts(100_000)
    assert len(set(texts)) > 90_000
    for begin in range(0, len(texts), 10_000):
        part = texts[begin : begin + 10_000]
        expected = [ours.encode(text) for text in part]
        assert [e.ids for e in rust.encode_batch(part)] == expected
        assert encoding.encode_batch(part, allowed_special="all") == expected


def test_all_real_texts(all_three, text_dir):
    ours, rust, encoding = all_three
    files = sorted(path for path in text_dir.rglob("*.txt") if path.stat().st_size < 10_000_000)
    assert len(files) > 5
    for path in files:
        # Documents apart: tiktoken takes long over one string of megabytes.
        texts = path.read_text(encoding="utf-8", errors="replace").split(END)
        expected = [ours.encode(text) for text in texts]
        assert [e.ids for e in rust.encode_batch(texts)] == expected, path.name
        assert encoding.encode_batch(texts, allowed_special="all") == expected, path.name
