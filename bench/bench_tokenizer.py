"""Training and encoding beside tiktoken and `tokenizers`, with one vocabulary and one thread.

`pytest bench/bench_tokenizer.py --benchmark-only`. Bytes a round stand in extra_info; the text is
made here, or is the largest .txt file of the folder that FASTLM_TEXT names.
"""

import os
import random
from itertools import accumulate
from pathlib import Path

import pytest
import tiktoken
import tokenizers

from fastlm.bpe import reference
from fastlm.tokenizer import END_OF_TEXT, Tokenizer, train_bpe

MADE_BYTES = 8_000_000
READ_BYTES = 20_000_000
VOCAB_SIZE = 10_000


def make_text(n_bytes: int) -> str:
    """English-like text: 60,000 words of syllables, frequent as in Zipf's law, in sentences."""
    rng = random.Random(0)
    onsets = [
        "",
        "b",
        "c",
        "d",
        "f",
        "g",
        "h",
        "l",
        "m",
        "n",
        "p",
        "r",
        "s",
        "t",
        "th",
        "w",
        "st",
        "sh",
    ]
    syllables = [
        onset + vowel + coda
        for onset in onsets
        for vowel in "aeiou"
        for coda in ["", "n", "r", "s"]
    ]
    words = [
        "".join(rng.choices(syllables, k=rng.choice([1, 1, 2, 2, 3, 4]))) for _ in range(60_000)
    ]
    cumulative = list(accumulate(1 / (rank + 3) for rank in range(len(words))))
    pieces: list[str] = []
    n_made = 0
    while n_made < n_bytes:
        sentence = " ".join(rng.choices(words, cum_weights=cumulative, k=rng.randrange(4, 20)))
        end = rng.choice(
            [
                ". ",
                ". ",
                "? ",
                ", it's said. ",
                ".\n\n",
                f".\n{END_OF_TEXT}\n",
                ' "so." ',
                " in 1987. ",
            ]
        )
        pieces.append(sentence.capitalize() + end)
        n_made += len(pieces[-1])
    return "".join(pieces)


@pytest.fixture(scope="module")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "text.txt"
    folder = os.environ.get("FASTLM_TEXT")
    if folder:
        largest = max(Path(folder).glob("*.txt"), key=lambda file: file.stat().st_size)
        with open(largest, "rb") as file:
            text = file.read(READ_BYTES).decode("utf-8", "ignore")
    else:
        text = make_text(MADE_BYTES)
    path.write_text(text, encoding="utf-8", newline="")
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
    special = ours.special_tokens
    ranks = {
        token: i
        for i, token in ours.vocab.items()
        if token.decode("utf-8", "replace") not in special
    }
    return tiktoken.Encoding(
        "ours", pat_str=reference.PATTERN, mergeable_ranks=ranks, special_tokens=special
    )


@pytest.fixture(scope="module")
def of_hugging_face(
    ours: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> tokenizers.Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    ours.save(folder)
    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


def timed(benchmark, function, n_bytes: int, rounds: int = 5):
    """Median of a few rounds after a warm-up, with the bytes that a round moves."""
    benchmark.extra_info["bytes"] = n_bytes
    return benchmark.pedantic(function, rounds=rounds, warmup_rounds=1)


def bench_train_ours(benchmark, text_file):
    timed(
        benchmark, lambda: train_bpe(text_file, VOCAB_SIZE, [END_OF_TEXT]), text_file.stat().st_size
    )


def bench_train_ours_one_thread(benchmark, text_file):
    n_bytes = text_file.stat().st_size
    timed(benchmark, lambda: train_bpe(text_file, VOCAB_SIZE, [END_OF_TEXT], n_threads=1), n_bytes)


def bench_train_hugging_face(benchmark, text_file):
    def train():
        peer = tokenizers.Tokenizer(tokenizers.models.BPE())
        peer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=VOCAB_SIZE,
            special_tokens=[END_OF_TEXT],
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        peer.train([str(text_file)], trainer)

    timed(benchmark, train, text_file.stat().st_size, rounds=2)


def bench_encode_to_numpy_ours(benchmark, ours, of_tiktoken, text):
    ids = timed(benchmark, lambda: ours.encode_to_numpy(text), len(text.encode()))
    assert ids.tolist() == of_tiktoken.encode(text, allowed_special="all")


def bench_encode_to_numpy_tiktoken(benchmark, of_tiktoken, text):
    timed(
        benchmark,
        lambda: of_tiktoken.encode_to_numpy(text, allowed_special="all"),
        len(text.encode()),
        rounds=3,
    )


def bench_encode_to_list_ours(benchmark, ours, text):
    timed(benchmark, lambda: ours.encode(text), len(text.encode()))


def bench_encode_to_list_tiktoken(benchmark, of_tiktoken, text):
    timed(
        benchmark,
        lambda: of_tiktoken.encode(text, allowed_special="all"),
        len(text.encode()),
        rounds=3,
    )


def bench_encode_to_list_hugging_face(benchmark, of_hugging_face, text):
    part = text[: len(text) // 4]
    timed(benchmark, lambda: of_hugging_face.encode(part).ids, len(part.encode()), rounds=2)


def bench_encode_documents_ours(benchmark, ours, text):
    documents = text.split(END_OF_TEXT)
    timed(benchmark, lambda: list(ours.encode_documents(documents)), len(text.encode()))


@pytest.mark.parametrize("peer", ["ours", "tiktoken"])
def bench_encode_20_bytes(benchmark, ours, of_tiktoken, peer):
    encode = ours.encode if peer == "ours" else of_tiktoken.encode_ordinary
    benchmark.extra_info["bytes"] = 20
    benchmark(encode, "the story of the sea")
