"""Prepared data is opened: its tokens are those of the text, and damaged files are refused."""

import json

import numpy as np
import pytest
from prepared_data import copy_of, decoded

from fastlm.data import open_prepared
from fastlm.tokenizer import Tokenizer


def test_tokens_decode_to_the_documents(corpus, prepared):
    for split, name in (("train", "train"), ("val", "valid")):
        pieces = (corpus / f"{name}.txt").read_text(encoding="utf-8").split("<|endoftext|>")
        assert decoded(prepared, split) == [p for p in pieces if p.strip()]


def test_meta_says_what_the_files_are(corpus, prepared):
    meta = json.loads((prepared / "meta.json").read_text())
    data = open_prepared(prepared)
    assert meta["vocab_size"] == data.vocab_size == 400
    assert meta["tokenizer_hash"] == Tokenizer.load(prepared / "tokenizer").hash
    split = meta["splits"]["train"]
    assert split["count"] == len(data.train.tokens)
    assert split["documents"] == len(decoded(prepared, "train"))
    assert split["text_bytes"] == sum(len(d.encode()) for d in decoded(prepared, "train"))
    assert (prepared / "train.bin").read_bytes() == data.train.tokens.astype("<u2").tobytes()
    assert sorted(p.name for p in prepared.iterdir()) == [
        "meta.json",
        "tokenizer",
        "train.bin",
        "val.bin",
    ]


def test_files_that_are_not_what_meta_says_are_refused(prepared, tmp_path):
    folder = copy_of(prepared, tmp_path / "d")
    raw = (folder / "train.bin").read_bytes()
    (folder / "train.bin").write_bytes(raw[:-1])
    with pytest.raises(ValueError, match=r"train.bin holds \d+ bytes, meta.json says"):
        open_prepared(folder)
    tokens = np.frombuffer(raw, "<u2").copy()
    tokens[77] = 400
    (folder / "train.bin").write_bytes(tokens.tobytes())
    with pytest.raises(ValueError, match="token 400 at position 77 .* vocabulary of 400"):
        open_prepared(folder).verify()
    tokens[77] = (np.frombuffer(raw, "<u2")[77] + 1) % 400
    (folder / "train.bin").write_bytes(tokens.tobytes())
    with pytest.raises(ValueError, match=r"train.bin was changed since it was made"):
        open_prepared(folder).verify()
    (folder / "train.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"train.bin is missing"):
        open_prepared(folder)
    (folder / "meta.json").write_text("{")
    with pytest.raises(ValueError, match=r"meta.json is not a description"):
        open_prepared(folder)
    with pytest.raises(FileNotFoundError, match=r"python -m fastlm.data prepare"):
        open_prepared(tmp_path / "absent")
