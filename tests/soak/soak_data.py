"""Preparing 2 GB of text in less than 2 GB of memory: `make soak`, minutes and 6 GB of disk.

FASTLM_SOAK_SHARE=0.01 does a hundredth of it, in as much memory.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest
import tiktoken
from crashed_preparing import after_a_crash, check_states, small_corpus
from kill_while_preparing import content
from peak_memory import END, peak_bytes, shuffled

from fastlm.data import open_prepared
from fastlm.tokenizer import Tokenizer
from fastlm.tokenizer.bpe import reference

ROOT = Path(__file__).resolve().parents[2]
SHARE = float(os.environ.get("FASTLM_SOAK_SHARE", "1"))
TEXT_BYTES = int(2_000_000_000 * SHARE)
LIMIT_BYTES = 2_000_000_000
PERIOD = 100  # every hundredth document is held out
DECODED_TOKENS = 1 << 20


@pytest.fixture(scope="module")
def documents(text_dir: Path) -> list[bytes]:
    texts = [text_dir / name for name in ("tinystories_train.txt", "owt_sample.txt")]
    pieces = [piece for path in texts for piece in path.read_bytes().split(END)]
    return [piece for piece in pieces if piece.strip()]


@pytest.fixture
def folder(tmp_path: Path):
    yield tmp_path
    shutil.rmtree(tmp_path)  # pytest would keep it


def write_text(path: Path, documents: list[bytes], end: bytes) -> list[int]:
    """Write documents in shuffled orders; returns their numbers."""
    numbers = []
    with open(path, "wb") as out:
        for number in shuffled(documents, TEXT_BYTES, Random(0)):
            out.write(documents[number] + end)
            numbers.append(number)
    return numbers


def prepared(path: Path, out: Path, vocab_size: int) -> None:
    words = ["-m", "fastlm.data", "prepare", path, "--vocab-size", vocab_size, "--out", out]
    peak, seconds = peak_bytes(*words)
    again, seconds_again = peak_bytes(*words)
    print(
        f"{path.name}, {path.stat().st_size:,} bytes, {vocab_size} tokens: prepared in "
        f"{seconds:.0f} s and {peak / 1e6:.0f} MB; seen to be there in {seconds_again:.1f} s "
        f"and {again / 1e6:.0f} MB"
    )
    assert max(peak, again) < LIMIT_BYTES


def decoded_hash(tokens: np.ndarray, tokenizer: Tokenizer) -> str:
    digest = hashlib.sha256()
    for begin in range(0, len(tokens), DECODED_TOKENS):
        digest.update(tokenizer.decode_bytes(tokens[begin : begin + DECODED_TOKENS]))
    return digest.hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize("vocab_size", [32_000, 300])
def test_many_documents(vocab_size, documents, folder):
    """Tokens are as many as tiktoken makes of each document, as often as it is there."""
    path, out = folder / "many.txt", folder / "d"
    numbers = write_text(path, documents, END)
    prepared(path, out, vocab_size)
    tokenizer = Tokenizer.load(out / "tokenizer")
    # Ids are ranks: the single bytes come first, then the merges in their order.
    learned = {token: i for i, token in tokenizer.vocab.items() if token != END}
    encoding = tiktoken.Encoding(
        "learned", pat_str=reference.PATTERN, mergeable_ranks=learned, special_tokens={}
    )
    sizes = [len(encoding.encode_ordinary(piece.decode())) + 1 for piece in documents]
    held_out = Counter(numbers[PERIOD - 1 :: PERIOD])
    kept = Counter(numbers) - held_out
    data = open_prepared(out)
    for split, counts in ((data.train, kept), (data.val, held_out)):
        assert len(split.tokens) == sum(sizes[number] * n for number, n in counts.items())
        digest = hashlib.sha256()
        for i, number in enumerate(numbers):
            if (i % PERIOD == PERIOD - 1) == (split is data.val):
                digest.update(documents[number] + END)
        assert decoded_hash(split.tokens, tokenizer) == digest.hexdigest()
    data.verify()


@pytest.mark.slow
def test_five_hundred_kills_at_random_moments_lose_nothing(folder):
    """test_unfinished.py has 20."""
    words = [ROOT / "tests/support/kill_while_preparing.py", folder, "500", "1"]
    done = subprocess.run(
        [sys.executable, *words], env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    n_resumed, n_finished = map(int, done.stdout.split())
    print(f"500 kills, {n_resumed} calls went on with what was left, {n_finished} finished")
    assert n_resumed > 50


@pytest.mark.slow
def test_one_document(documents, folder):
    """All of the text comes back, in two documents."""
    path, out = folder / "one.txt", folder / "d"
    write_text(path, documents, b"\n")
    prepared(path, out, 32_000)
    data, tokenizer = open_prepared(out), Tokenizer.load(out / "tokenizer")
    with open(path, "rb") as text:
        for split in (data.train, data.val):
            digest = hashlib.sha256()
            for begin in range(0, split.text_bytes, 1 << 20):
                digest.update(text.read(min(1 << 20, split.text_bytes - begin)))
            digest.update(END)
            assert decoded_hash(split.tokens, tokenizer) == digest.hexdigest()
        assert not text.read()
    data.verify()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/fd")
def test_leaving_out_a_flush_of_token_files_is_noticed(tmp_path, monkeypatch):
    corpus = small_corpus(tmp_path / "text", monkeypatch.setattr)
    recording = after_a_crash(corpus, tmp_path / "disk")
    whole = content(tmp_path / "disk" / "d")
    sites = [site for site in sorted(recording.sites) if "tokens.py" in str(site)]
    assert len(sites) == 3  # the file that is written, one that is full, and their names
    unnoticed = []
    for i, site in enumerate(sites):
        recording = after_a_crash(corpus, tmp_path / f"disk-{i}", forget=site.__eq__)
        try:
            check_states(recording, corpus, whole, tmp_path / "after")
        except AssertionError:
            continue
        unnoticed.append(site)
    assert not unnoticed, unnoticed
