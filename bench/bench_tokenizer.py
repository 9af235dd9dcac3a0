"""Benchmark the tokenizer beside `tokenizers`, rustbpe and tiktoken, with one vocabulary.

Run it by `pytest bench/bench_tokenizer.py --benchmark-only`. extra_info has the bytes per round.
The text is generated, or is the largest .txt file of the folder in FASTLM_TEXT.
tokenizer_scale.py measures whole files, memory and starts.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiktoken
import tokenizers
from tokenizer_peers import (
    hugging_face_tokenizer,
    tiktoken_encoding,
    train_hugging_face,
    train_rustbpe,
)
from tokenizer_texts import END_OF_TEXT, make_text, write_start

from fastlm.tokenizer import Tokenizer, train_bpe

MADE_BYTES = 8_000_000
READ_BYTES = 20_000_000
VOCAB_SIZE = 10_000
SHORT_BYTES = (20, 200, 2000)


@pytest.fixture(scope="module")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "text.txt"
    folder = os.environ.get("FASTLM_TEXT")
    if folder:
        texts = Path(folder).glob("*.txt")
        write_start(max(texts, key=lambda file: file.stat().st_size), READ_BYTES, path)
    else:
        path.write_text(make_text(MADE_BYTES), encoding="utf-8", newline="")
    return path


@pytest.fixture(scope="module")
def text(text_file: Path) -> str:
    return text_file.read_bytes().decode()


@pytest.fixture(scope="module")
def ours(text_file: Path) -> Tokenizer:
    vocab, merges = train_bpe(text_file, VOCAB_SIZE, [END_OF_TEXT])
    return Tokenizer(vocab, merges, [END_OF_TEXT])


@pytest.fixture(scope="module")
def of_tiktoken(ours: Tokenizer) -> tiktoken.Encoding:
    return tiktoken_encoding(ours)


@pytest.fixture(scope="module")
def of_hugging_face(
    ours: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> tokenizers.Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    ours.save(folder)
    return hugging_face_tokenizer(folder)


def timed(benchmark, function: Callable[[], Any], n_bytes: int, rounds: int = 5) -> Any:
    """Time a few rounds after a warm-up, and keep the bytes per round in extra_info."""
    benchmark.extra_info["bytes"] = n_bytes
    return benchmark.pedantic(function, rounds=rounds, warmup_rounds=1)


@pytest.mark.parametrize("n_threads", [1, 2])
def bench_train_ours(benchmark, text_file, n_threads):
    n_bytes = text_file.stat().st_size
    timed(
        benchmark,
        lambda: train_bpe(text_file, VOCAB_SIZE, [END_OF_TEXT], n_threads=n_threads),
        n_bytes,
    )


@pytest.mark.parametrize("train", [train_hugging_face, train_rustbpe])
def bench_train_peer(benchmark, text_file, train):
    """Peers train on all cores: their number of threads cannot change within a process."""
    if train is train_rustbpe:
        pytest.importorskip("rustbpe")
    timed(benchmark, lambda: train(text_file, VOCAB_SIZE), text_file.stat().st_size, rounds=2)


def bench_encode_to_numpy_ours(benchmark, ours, of_tiktoken, text):
    ids = timed(benchmark, lambda: ours.encode_to_numpy(text), len(text.encode()))
    np.testing.assert_array_equal(ids, of_tiktoken.encode_to_numpy(text, allowed_special="all"))


@pytest.mark.parametrize("n_threads", [1, 2])
def bench_encode_file_ours(benchmark, ours, text_file, n_threads):
    def encode() -> np.ndarray:
        return np.concatenate(list(ours.encode_file_blocks(text_file, n_threads=n_threads)))

    ids = timed(benchmark, encode, text_file.stat().st_size)
    np.testing.assert_array_equal(ids, ours.encode_to_numpy(text_file.read_bytes()))


def bench_encode_to_numpy_tiktoken(benchmark, of_tiktoken, text):
    def encode() -> np.ndarray:
        return of_tiktoken.encode_to_numpy(text, allowed_special="all")

    timed(benchmark, encode, len(text.encode()), rounds=3)


def bench_encode_to_list_ours(benchmark, ours, text):
    timed(benchmark, lambda: ours.encode(text), len(text.encode()))


def bench_encode_to_list_tiktoken(benchmark, of_tiktoken, text):
    def encode() -> list[int]:
        return of_tiktoken.encode(text, allowed_special="all")

    timed(benchmark, encode, len(text.encode()), rounds=3)


def bench_encode_to_list_hugging_face(benchmark, of_hugging_face, text):
    part = text[: len(text) // 4]
    timed(benchmark, lambda: of_hugging_face.encode(part).ids, len(part.encode()), rounds=2)


def bench_encode_documents_ours(benchmark, ours, text):
    documents = text.split(END_OF_TEXT)
    timed(benchmark, lambda: list(ours.encode_documents(documents)), len(text.encode()))


@pytest.mark.parametrize("n_bytes", SHORT_BYTES)
@pytest.mark.parametrize("peer", ["ours", "tiktoken"])
def bench_encode_short(benchmark, ours, of_tiktoken, text, peer, n_bytes):
    encode = ours.encode if peer == "ours" else of_tiktoken.encode_ordinary
    benchmark.extra_info["bytes"] = n_bytes
    benchmark(encode, text.replace(END_OF_TEXT, "").encode()[:n_bytes].decode("utf-8", "ignore"))


@pytest.mark.parametrize("peer", ["ours", "tiktoken"])
def bench_decode(benchmark, ours, of_tiktoken, text, peer):
    ids = ours.encode(text)
    decode = ours.decode if peer == "ours" else of_tiktoken.decode
    assert timed(benchmark, lambda: decode(ids), len(text.encode())) == text
